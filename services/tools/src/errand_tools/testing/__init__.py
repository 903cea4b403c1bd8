"""Stores in memory, for tests and for trying things out; the conformance suite runs over them."""

from errand_tools.testing.stores import InMemoryEffectStore, InMemoryToolStore

__all__ = ["InMemoryEffectStore", "InMemoryToolStore"]
