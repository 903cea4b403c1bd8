"""Fakes of the ports, for tests and for trying things out; the conformance suite runs over the stores."""

from errand_tools.testing.http import ScriptedHttpCaller
from errand_tools.testing.mcp import ScriptedMcpCaller
from errand_tools.testing.secrets import ScriptedTokenSource, secret_book
from errand_tools.testing.stores import (
    InMemoryEffectStore,
    InMemoryMcpServerStore,
    InMemorySecretStore,
    InMemoryToolStore,
    InMemoryUsageStore,
)

__all__ = [
    "InMemoryEffectStore",
    "InMemoryMcpServerStore",
    "InMemorySecretStore",
    "InMemoryToolStore",
    "InMemoryUsageStore",
    "ScriptedHttpCaller",
    "ScriptedMcpCaller",
    "ScriptedTokenSource",
    "secret_book",
]
