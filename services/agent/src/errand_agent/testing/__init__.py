"""Fakes for tests, shipped like all other code."""
