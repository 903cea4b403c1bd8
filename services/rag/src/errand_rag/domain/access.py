"""Who may do what. What is not named here is refused."""

from errand_common.errors import PermissionDenied
from errand_common.principal import Principal, current_principal

# Retrieval is part of a chat, and of the knowledge-base tool that a chat calls.
_SEARCH_SCOPES = frozenset({"documents", "chat", "tools", "admin"})
_DOCUMENT_SCOPES = frozenset({"documents", "admin"})


def may_search() -> Principal:
    """The caller, when it may search. Raises PermissionDenied."""
    return _with_any(_SEARCH_SCOPES, "chat")


def may_use_documents() -> Principal:
    """The caller, when it may read and change documents. Raises PermissionDenied."""
    return _with_any(_DOCUMENT_SCOPES, "documents")


def _with_any(scopes: frozenset[str], wanted: str) -> Principal:
    principal = current_principal()
    if principal.scopes.isdisjoint(scopes):
        raise PermissionDenied(
            f"this needs the scope '{wanted}'; ask an administrator for a key that has it",
            permission=wanted,
        )
    return principal
