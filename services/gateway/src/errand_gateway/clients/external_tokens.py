"""Access tokens of other issuers, such as a company's single sign-on, checked against their key sets."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt
from errand_common.errors import NotFound, PermissionDenied, Unauthenticated, Unavailable
from errand_common.principal import Principal
from errand_common.tokens import KeySet

from errand_gateway.clients.access_tokens import issuer_of
from errand_gateway.domain.auth import Caller, TenantState
from errand_gateway.domain.permissions import OPERATOR_TENANT
from errand_gateway.domain.recent import Recent
from errand_gateway.domain.tenants import Tenant
from errand_gateway.domain.users import ALL_SCOPES

REQUIRED: Final = ("exp", "sub", "aud", "iss")
"""Claims that say for whom, until when and by whom."""

_LEEWAY_SECONDS: Final = 30
_PLAIN_SUBJECT: Final = re.compile(r"^[A-Za-z0-9._-]{1,40}$")
_DEEPEST: Final = 5


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are taken, and what their claims mean here.

    People belong to `tenant_id`, or to the tenant that `tenant_claim` names. `roles_claim` (a path such as
    `realm_access.roles`) holds a name or a list of names that `role_map` turns into roles; who has none of
    them has `default_roles`.
    """

    name: str
    issuer: str
    keys: KeySet
    audience: str
    algorithms: tuple[str, ...]
    tenant_id: str
    tenant_claim: str
    roles_claim: str
    role_map: Mapping[str, str]
    default_roles: frozenset[str]


class ExternalTokens:
    """TokenSource of other issuers' tokens."""

    def __init__(self, issuers: list[Issuer], tenant: Callable[[str], Awaitable[Tenant]]) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._tenants = Recent[str, Tenant](lambda tenant_id: _or_none(tenant(tenant_id)))

    async def caller(self, text: str, *, request_id: str) -> Caller | None:
        """Who sends a token; None for an issuer that is not known.

        Raises Unauthenticated for a token that is not valid, and PermissionDenied for one without a role or
        with a tenant that is not there or suspended.
        """
        issuer = self._issuers.get(issuer_of(text))
        if issuer is None:
            return None
        claims = await verified(text, issuer)
        tenant_id = tenant_of(claims, issuer)
        tenant = await self._active(tenant_id)
        principal = Principal(
            tenant_id, subject_of(issuer, str(claims["sub"])), roles_of(claims, issuer), ALL_SCOPES, request_id
        )
        return Caller(principal, (tenant.allowed_networks,))

    async def _active(self, tenant_id: str) -> Tenant:
        tenant = await self._tenants.find(tenant_id)
        if tenant is None or tenant.state is not TenantState.ACTIVE:
            raise PermissionDenied(
                "the token's tenant is not active; ask the operator of this installation", permission="tenant:active"
            )
        return tenant

    def forget(self) -> None:
        """Tenants were changed: they are read anew."""
        self._tenants.forget()


async def verified(text: str, issuer: Issuer, *, required: Sequence[str] = REQUIRED) -> Mapping[str, Any]:
    """The claims of a token. Raises Unauthenticated, and Unavailable without the issuer's keys."""
    try:
        key = await issuer.keys.key(str(jwt.get_unverified_header(text).get("kid", "")))
        claims: Mapping[str, Any] = jwt.decode(
            text,
            key,
            algorithms=list(issuer.algorithms),
            audience=issuer.audience,
            issuer=issuer.issuer,
            leeway=_LEEWAY_SECONDS,
            options={"require": list(required)},
        )
    except jwt.ExpiredSignatureError as error:
        raise Unauthenticated("the token has expired; get another from its issuer") from error
    except jwt.PyJWTError as error:
        raise Unauthenticated("the token is not valid here: its signature, issuer or audience is not right") from error
    except Unavailable as error:
        raise Unavailable("the token issuer's key set") from error
    return claims


async def _or_none(tenant: Awaitable[Tenant]) -> Tenant | None:
    try:
        return await tenant
    except NotFound:
        return None


def tenant_of(claims: Mapping[str, Any], issuer: Issuer) -> str:
    """Whose person it is. Raises PermissionDenied for a claim to the operator's tenant."""
    tenant_id = issuer.tenant_id or _text(_claim(claims, issuer.tenant_claim))
    if not issuer.tenant_id and tenant_id == OPERATOR_TENANT:
        # Else whoever can set a claim at the issuer would run this installation.
        raise PermissionDenied("the operator's tenant cannot be named by a token", permission="tenant:active")
    return tenant_id


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    if path in claims:
        # A claim's name may be an address with dots.
        return claims[path]
    value: Any = claims
    for part in path.split(".")[:_DEEPEST]:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def roles_of(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[str]:
    """What the person may do. Raises PermissionDenied for one without a role."""
    value = _claim(claims, issuer.roles_claim)
    names = value if isinstance(value, list) else [value]
    mapped = {issuer.role_map[name] for name in names if isinstance(name, str) and name in issuer.role_map}
    roles = frozenset(mapped) or issuer.default_roles
    if not roles:
        raise PermissionDenied("the token gives no role here; ask an administrator", permission="role")
    return roles


def subject_of(issuer: Issuer, subject: str) -> str:
    """The person's id here: readable where the subject allows that, and never the same for two."""
    if _PLAIN_SUBJECT.match(subject):
        return f"{issuer.name}.{subject}"
    return f"{issuer.name}.{hashlib.sha256(subject.encode()).hexdigest()[:40]}"
