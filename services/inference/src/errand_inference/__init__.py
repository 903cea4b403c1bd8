"""Batched, grammar-constrained FunctionGemma."""
