"""Secrets of a tenant: stored sealed, used by tools through their names, and never told again."""

import base64
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from errand_common.errors import InvalidArgument, NotFound
from errand_common.principal import Principal

from errand_tools.domain.access import require_editor
from errand_tools.domain.progress import Tell
from errand_tools.domain.tokens import AccessTokens
from errand_tools.domain.tools import AuthScheme, HttpAuth, OutcomeUnknown, ToolDenied, ToolError

MAX_SECRETS = 200
# Shorter ones would be found by chance in ordinary answers, and are no secrets.
_SHORTEST_SCRUBBED = 6
_SCRUBBED = "[secret]"
_HOST = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$")
# Headers that carry the message itself: a secret in one of them would change where it goes or how it is read.
_REFUSED_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "content-type", "idempotency-key", "te", "upgrade"}
)


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret without its value; no `hosts` means every host a tool names."""

    name: str
    hosts: tuple[str, ...]
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A secret with its value encrypted."""

    secret: Secret
    sealed: str


class Cipher(Protocol):
    """Encrypts values for storage, bound to their tenant and name."""

    def seal(self, tenant_id: str, name: str, value: str) -> str:
        """The encrypted value. Raises Unsupported when the operator gave no key."""

    def open(self, tenant_id: str, name: str, sealed: str) -> str:
        """The value. Raises ToolDenied when no key fits or it belongs to another name."""


class SecretStore(ABC):
    """Keeps sealed secrets."""

    @abstractmethod
    async def put(self, tenant_id: str, secret: SealedSecret, *, most: int) -> None:
        """Adds or replaces it. Raises Conflict when the tenant has `most` others."""

    @abstractmethod
    async def get(self, tenant_id: str, name: str) -> SealedSecret | None:
        """The secret, or None."""

    @abstractmethod
    async def list(self, tenant_id: str) -> list[Secret]:
        """All of the tenant, by name."""

    @abstractmethod
    async def delete(self, tenant_id: str, name: str) -> bool:
        """Whether there was one."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Headers of one request, and the texts that must not come back in its answer."""

    headers: Mapping[str, str]
    hidden: tuple[str, ...] = ()

    def scrub(self, value: Any) -> Any:
        """The value with every hidden text replaced, in keys too."""
        if not self.hidden:
            return value
        if isinstance(value, str):
            return self._scrub_text(value)
        if isinstance(value, Mapping):
            return {self.scrub(key): self.scrub(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.scrub(item) for item in value]
        return value

    @contextmanager
    def scrubbed_errors(self) -> Iterator[None]:
        """What a call fails with inside the block does not tell them either."""
        try:
            yield
        except (ToolError, OutcomeUnknown) as error:
            error.message = self.scrub(error.message)
            raise

    def scrubbed(self, tell: Tell) -> Tell:
        """Tells the same without them."""
        return lambda progress: tell(replace(progress, message=self.scrub(progress.message)))

    def _scrub_text(self, text: str) -> str:
        for hidden in self.hidden:
            text = text.replace(hidden, _SCRUBBED)
        return text


NO_CREDENTIALS = Credentials({})


class SecretBook:
    """Stores secrets, and turns a tool's reference into the headers of its request."""

    def __init__(self, store: SecretStore, cipher: Cipher, clock: Callable[[], datetime], tokens: AccessTokens) -> None:
        self._store = store
        self._cipher = cipher
        self._clock = clock
        self._tokens = tokens

    async def put(self, principal: Principal, name: str, value: str, hosts: tuple[str, ...]) -> Secret:
        """Stores the value sealed. Raises PermissionDenied, InvalidArgument, Unsupported, Conflict over 200."""
        require_editor(principal)
        if not value.isprintable():
            raise InvalidArgument("value must hold no line breaks or control characters", field="value")
        if not value.isascii():
            raise InvalidArgument("value must be ASCII, as HTTP headers are", field="value")
        for host in hosts:
            if not _HOST.match(host):
                raise InvalidArgument(f"hosts holds {host[:80]!r}; write one such as api.example.com", field="hosts")
        secret = Secret(name, tuple(host.lower() for host in hosts), self._clock())
        sealed = SealedSecret(secret, self._cipher.seal(principal.tenant_id, name, value))
        await self._store.put(principal.tenant_id, sealed, most=MAX_SECRETS)
        return secret

    async def list(self, principal: Principal) -> list[Secret]:
        """The tenant's secrets without values. Raises PermissionDenied."""
        require_editor(principal)
        return await self._store.list(principal.tenant_id)

    async def delete(self, principal: Principal, name: str) -> None:
        """Raises PermissionDenied, NotFound."""
        require_editor(principal)
        if not await self._store.delete(principal.tenant_id, name):
            raise NotFound("secret", name)

    async def check(self, tenant_id: str, auth: HttpAuth, url: str, *, field: str) -> None:
        """Raises InvalidArgument when the tool could not be called with this authentication."""
        _check_header(auth, field)
        _check_client(auth, field)
        stored = await self._store.get(tenant_id, auth.secret)
        if stored is None:
            raise InvalidArgument(
                f"there is no secret named '{auth.secret}'; store it first", field=f"{field}.secret", rule="secret"
            )
        if not _may_go_to(stored.secret, url, auth.token_url or url):
            raise InvalidArgument(
                f"the secret '{auth.secret}' or a token for it may not be sent to this host; add it to the secret",
                field=f"{field}.secret",
                rule="hosts",
            )

    async def credentials(self, tenant_id: str, auth: HttpAuth | None, url: str) -> Credentials:
        """Headers for a request to `url`.

        Raises ToolDenied when the secret is gone or not for that host, ToolError when no token is given for it.
        """
        if auth is None:
            return NO_CREDENTIALS
        stored = await self._store.get(tenant_id, auth.secret)
        if stored is None:
            raise ToolDenied("The tool's credentials are missing; an administrator must store them.")
        if not _may_go_to(stored.secret, url, auth.token_url or url):
            raise ToolDenied("The tool's credentials may not be sent to its host; an administrator must allow it.")
        value = self._cipher.open(tenant_id, auth.secret, stored.sealed)
        if auth.scheme is not AuthScheme.CLIENT_CREDENTIALS:
            return _credentials(auth, value)
        token = await self._tokens.token(tenant_id, auth, value)
        return Credentials({"authorization": f"Bearer {token}"}, _hidden(value, token))


def _check_client(auth: HttpAuth, field: str) -> None:
    oauth = auth.scheme is AuthScheme.CLIENT_CREDENTIALS
    if not oauth and (auth.token_url or auth.client_id or auth.scope):
        raise InvalidArgument(
            "token_url, client_id and scope are only for the scheme CLIENT_CREDENTIALS", field=f"{field}.token_url"
        )
    if oauth and not (auth.token_url and auth.client_id):
        raise InvalidArgument("give token_url and client_id", field=f"{field}.token_url", rule="required")
    parts = urlsplit(auth.token_url)
    if oauth and (not parts.hostname or parts.username or parts.password or parts.fragment):
        raise InvalidArgument("token_url must be a URL without credentials", field=f"{field}.token_url", rule="url")


def _check_header(auth: HttpAuth, field: str) -> None:
    if auth.scheme is not AuthScheme.HEADER:
        if auth.header:
            raise InvalidArgument("header is only for the scheme HEADER; leave it empty", field=f"{field}.header")
        return
    if not auth.header or auth.header.lower() in _REFUSED_HEADERS:
        raise InvalidArgument(
            "header must name the header that carries the secret, such as X-Api-Key", field=f"{field}.header"
        )


def _may_go_to(secret: Secret, *urls: str) -> bool:
    return not secret.hosts or all((urlsplit(url).hostname or "").lower() in secret.hosts for url in urls)


def _credentials(auth: HttpAuth, value: str) -> Credentials:
    if auth.scheme is AuthScheme.HEADER:
        return Credentials({auth.header: value}, _hidden(value))
    if auth.scheme is AuthScheme.BEARER:
        return Credentials({"authorization": f"Bearer {value}"}, _hidden(value))
    encoded = base64.b64encode(value.encode()).decode()
    password = value.partition(":")[2]
    return Credentials({"authorization": f"Basic {encoded}"}, _hidden(value, encoded, password))


def _hidden(*texts: str) -> tuple[str, ...]:
    """Longest first: a part of a secret must not be replaced before the whole."""
    return tuple(sorted((text for text in texts if len(text) >= _SHORTEST_SCRUBBED), key=len, reverse=True))
