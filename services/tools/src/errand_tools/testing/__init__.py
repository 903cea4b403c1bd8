"""Fakes of the ports, for tests and for trying things out; the conformance suite runs over the stores."""

from errand_tools.testing.http import ScriptedHttpCaller
from errand_tools.testing.secrets import secret_book
from errand_tools.testing.stores import InMemoryEffectStore, InMemorySecretStore, InMemoryToolStore

__all__ = ["InMemoryEffectStore", "InMemorySecretStore", "InMemoryToolStore", "ScriptedHttpCaller", "secret_book"]
