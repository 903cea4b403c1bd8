"""The one permission table: what a role may do, narrowed by the scopes of the key in use."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from errand_common.errors import PermissionDenied
from errand_common.principal import Principal

OPERATOR_TENANT: Final = "default"
"""The tenant of the people who run this installation; it alone manages tenants."""


class Permission(StrEnum):
    """One thing a caller may do."""

    RUNS_CREATE = "runs:create"
    RUNS_READ = "runs:read"
    CONVERSATIONS_READ = "conversations:read"
    CONVERSATIONS_WRITE = "conversations:write"
    FEEDBACK_WRITE = "feedback:write"
    MODELS_USE = "models:use"
    AGENTS_READ = "agents:read"
    AGENTS_WRITE = "agents:write"
    WORKFLOWS_READ = "workflows:read"
    WORKFLOWS_WRITE = "workflows:write"
    MEMORY_READ = "memory:read"
    MEMORY_WRITE = "memory:write"
    EXAMPLES_EXPORT = "examples:export"
    RETENTION_WRITE = "retention:write"
    SCHEDULES_WRITE = "schedules:write"
    WEBHOOKS_WRITE = "webhooks:write"
    DOCUMENTS_READ = "documents:read"
    DOCUMENTS_WRITE = "documents:write"
    DATA_DELETE = "data:delete"
    TOOLS_READ = "tools:read"
    TOOLS_WRITE = "tools:write"
    EFFECTS_READ = "effects:read"
    EFFECTS_SETTLE = "effects:settle"
    TOKENS_CREATE = "tokens:create"
    USAGE_READ = "usage:read"
    QUOTAS_READ = "quotas:read"
    QUOTAS_WRITE = "quotas:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    SELF_MANAGE = "self:manage"
    AUDIT_READ = "audit:read"
    TENANTS_MANAGE = "tenants:manage"


class Role(StrEnum):
    """What a principal is in its tenant."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    USER = "user"
    VIEWER = "viewer"


class Scope(StrEnum):
    """What a key is for; it narrows the roles of the key."""

    CHAT = "chat"
    DOCUMENTS = "documents"
    TOOLS = "tools"
    ADMIN = "admin"


P = Permission

_VIEWER: Final = frozenset(
    {
        P.SELF_MANAGE,
        P.RUNS_READ,
        P.CONVERSATIONS_READ,
        P.AGENTS_READ,
        P.WORKFLOWS_READ,
        P.DOCUMENTS_READ,
        P.TOOLS_READ,
    }
)
_USER: Final = _VIEWER | {
    P.RUNS_CREATE,
    P.CONVERSATIONS_WRITE,
    P.FEEDBACK_WRITE,
    P.MEMORY_READ,
    P.MEMORY_WRITE,
    P.MODELS_USE,
    P.TOKENS_CREATE,
}
_DEVELOPER: Final = _USER | {
    P.AGENTS_WRITE,
    P.WORKFLOWS_WRITE,
    P.SCHEDULES_WRITE,
    P.DOCUMENTS_WRITE,
    P.TOOLS_WRITE,
    P.EFFECTS_READ,
    P.USAGE_READ,
    P.QUOTAS_READ,
}
_ADMIN: Final = _DEVELOPER | {
    P.EFFECTS_SETTLE,
    P.EXAMPLES_EXPORT,
    P.RETENTION_WRITE,
    P.WEBHOOKS_WRITE,
    P.KEYS_READ,
    P.KEYS_WRITE,
    P.USERS_READ,
    P.USERS_WRITE,
    P.AUDIT_READ,
    P.QUOTAS_WRITE,
    P.DATA_DELETE,
}

ROLE_PERMISSIONS: Final[Mapping[str, frozenset[Permission]]] = MappingProxyType(
    {
        Role.VIEWER.value: _VIEWER,
        Role.USER.value: _USER,
        Role.DEVELOPER.value: _DEVELOPER,
        Role.ADMIN.value: _ADMIN,
        Role.OWNER.value: _ADMIN | {P.TENANTS_MANAGE},
    }
)

SCOPE_PERMISSIONS: Final[Mapping[str, frozenset[Permission]]] = MappingProxyType(
    {
        Scope.CHAT.value: frozenset(
            {
                P.SELF_MANAGE,
                P.RUNS_CREATE,
                P.RUNS_READ,
                P.CONVERSATIONS_READ,
                P.CONVERSATIONS_WRITE,
                P.FEEDBACK_WRITE,
                P.MODELS_USE,
                P.AGENTS_READ,
                P.WORKFLOWS_READ,
                P.SCHEDULES_WRITE,
                P.MEMORY_READ,
                P.MEMORY_WRITE,
                P.TOKENS_CREATE,
            }
        ),
        Scope.DOCUMENTS.value: frozenset(
            {P.SELF_MANAGE, P.DOCUMENTS_READ, P.DOCUMENTS_WRITE, P.DATA_DELETE, P.TOKENS_CREATE}
        ),
        Scope.TOOLS.value: frozenset(
            {
                P.SELF_MANAGE,
                P.TOOLS_READ,
                P.TOOLS_WRITE,
                P.AGENTS_READ,
                P.AGENTS_WRITE,
                P.WORKFLOWS_READ,
                P.WORKFLOWS_WRITE,
                P.EFFECTS_READ,
                P.EFFECTS_SETTLE,
                P.TOKENS_CREATE,
            }
        ),
        Scope.ADMIN.value: frozenset(
            {
                P.SELF_MANAGE,
                P.AGENTS_READ,
                P.AGENTS_WRITE,
                P.WORKFLOWS_READ,
                P.WORKFLOWS_WRITE,
                P.EXAMPLES_EXPORT,
                P.RETENTION_WRITE,
                P.WEBHOOKS_WRITE,
                P.USAGE_READ,
                P.QUOTAS_READ,
                P.QUOTAS_WRITE,
                P.KEYS_READ,
                P.KEYS_WRITE,
                P.USERS_READ,
                P.USERS_WRITE,
                P.AUDIT_READ,
                P.TENANTS_MANAGE,
            }
        ),
    }
)


def permissions_of(roles: Iterable[str], scopes: Iterable[str]) -> frozenset[Permission]:
    """What the roles allow and the scopes leave; unknown names allow nothing."""
    by_role: frozenset[Permission] = frozenset()
    for role in roles:
        by_role |= ROLE_PERMISSIONS.get(role, frozenset())
    by_scope: frozenset[Permission] = frozenset()
    for scope in scopes:
        by_scope |= SCOPE_PERMISSIONS.get(scope, frozenset())
    return by_role & by_scope


def require(principal: Principal, permission: Permission) -> None:
    """Raises PermissionDenied unless the principal holds the permission."""
    allowed = permission in permissions_of(principal.roles, principal.scopes)
    if allowed and permission is Permission.TENANTS_MANAGE:
        allowed = principal.tenant_id == OPERATOR_TENANT
    if not allowed:
        raise PermissionDenied(
            f"this key may not do that: it lacks the permission {permission.value}",
            permission=permission.value,
        )
