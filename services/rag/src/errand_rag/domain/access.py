"""Who may do what. What is not named here is refused."""

from collections.abc import Iterable

from errand_common.errors import NotFound, PermissionDenied
from errand_common.principal import Principal, current_principal

from errand_rag.domain.models import Collection

# Retrieval is part of a chat, and of the knowledge-base tool that a chat calls.
_SEARCH_SCOPES = frozenset({"documents", "chat", "tools", "admin"})
_DOCUMENT_SCOPES = frozenset({"documents", "admin"})
# These see everything of their tenant.
_ADMIN_ROLES = frozenset({"owner", "admin"})


def may_search() -> Principal:
    """The caller, when it may search. Raises PermissionDenied."""
    return _with_any(_SEARCH_SCOPES, "chat")


def may_use_documents() -> Principal:
    """The caller, when it may read and change documents. Raises PermissionDenied."""
    return _with_any(_DOCUMENT_SCOPES, "documents")


def may_delete_data() -> Principal:
    """The caller, when it may delete other people's documents. Raises PermissionDenied."""
    principal = may_use_documents()
    if principal.roles.isdisjoint(_ADMIN_ROLES):
        raise PermissionDenied("this needs the role owner or admin; ask one of them", permission="admin")
    return principal


def readable(principal: Principal, collections: Iterable[Collection]) -> tuple[Collection, ...]:
    """Those of the collections whose roles let the principal read."""
    return tuple(c for c in collections if _may_read(principal, c))


def check_readable(principal: Principal, collection: Collection) -> Collection:
    """Raises NotFound: to those who may not read it a collection is not there."""
    if not _may_read(principal, collection):
        raise NotFound("collection", collection.name)
    return collection


def check_writable(principal: Principal, collection: Collection) -> Collection:
    """Raises NotFound for one that may not be read either, PermissionDenied."""
    check_readable(principal, collection)
    if not _has_role(principal, collection.writer_roles):
        raise PermissionDenied(
            f"changing the collection '{collection.name}' needs one of the roles "
            f"{', '.join(sorted(collection.writer_roles))}",
            permission="documents",
        )
    return collection


def _may_read(principal: Principal, collection: Collection) -> bool:
    """Who may write may read."""
    if not collection.reader_roles:
        return True
    return _has_role(principal, collection.reader_roles | collection.writer_roles)


def _has_role(principal: Principal, roles: frozenset[str]) -> bool:
    return not roles or not principal.roles.isdisjoint(roles | _ADMIN_ROLES)


def _with_any(scopes: frozenset[str], wanted: str) -> Principal:
    principal = current_principal()
    if principal.scopes.isdisjoint(scopes):
        raise PermissionDenied(
            f"this needs the scope '{wanted}'; ask an administrator for a key that has it",
            permission=wanted,
        )
    return principal
