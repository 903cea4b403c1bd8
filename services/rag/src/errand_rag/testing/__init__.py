"""Deterministic stand-ins of the rag service's ports, for tests of this and other services."""
