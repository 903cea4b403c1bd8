"""OpenID Connect providers: the authorization code flow with PKCE (RFC 7636), state and nonce."""

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx2
import structlog
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from errand_common.errors import Unauthenticated, Unavailable
from errand_common.tokens import KeySet

from errand_gateway.clients.external_tokens import Issuer, roles_of, subject_of, tenant_of, verified
from errand_gateway.domain.logins import Attempt, Logout, Person

_log = structlog.get_logger(__name__)
_SECONDS: Final = 10.0
_DISCOVERY_SECONDS: Final = 3600.0
_LONGEST_NAME: Final = 200
_LONGEST_EMAIL: Final = 254
_LOGOUT_CLAIMS: Final = ("exp", "iat", "aud", "iss", "events")
_LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_CLOCKS_DIFFER: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class _Endpoints:
    """What the provider's discovery document says."""

    authorization: str
    token: str
    issuer: Issuer


class OidcProvider:
    """LoginProvider by its discovery document, which is read anew every hour.

    `issuer` is made of the address of the provider's keys, once that is known.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        client_id: str,
        client_secret: str | None,
        scope: str,
        redirect_uri: str,
        issuer: Callable[[KeySet], Issuer],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._address = address
        self._client_id = client_id
        self._client_secret = client_secret
        self._scope = scope
        self._redirect_uri = redirect_uri
        self._issuer = issuer
        self._clock = clock
        self._endpoints: tuple[float, _Endpoints] | None = None

    async def address(self, attempt: Attempt) -> str:
        """Where the browser is sent. Raises Unavailable."""
        endpoints = await self._found()
        async with self._client() as client:
            url, _ = client.create_authorization_url(
                endpoints.authorization, state=attempt.state, nonce=attempt.nonce, code_verifier=attempt.verifier
            )
        return str(url)

    async def person(self, code: str, attempt: Attempt) -> Person:
        """Who came back with this code. Raises Unauthenticated, PermissionDenied, Unavailable."""
        endpoints = await self._found()
        claims = await verified(await self._id_token(endpoints, code, attempt), endpoints.issuer)
        if not hmac.compare_digest(str(claims.get("nonce", "")).encode(), attempt.nonce.encode()):
            raise Unauthenticated("the login is another one's: its nonce is not right; begin again")
        if claims.get("azp", self._client_id) != self._client_id:
            raise Unauthenticated("the login is another application's; begin again")
        user_id = subject_of(endpoints.issuer, str(claims["sub"]))
        return Person(
            tenant_id=tenant_of(claims, endpoints.issuer),
            user_id=user_id,
            email=_email(claims) or f"{user_id}@{self._name}.invalid",
            display_name=_text(claims, "name")[:_LONGEST_NAME],
            roles=roles_of(claims, endpoints.issuer),
            session=_digest(_text(claims, "sid")),
        )

    async def logout(self, token: str) -> Logout:
        """What a logout token says (OpenID Connect Back-Channel Logout). Raises Unauthenticated, Unavailable."""
        issuer = (await self._found()).issuer
        claims = await verified(token, issuer, required=_LOGOUT_CLAIMS)
        events = claims["events"]
        # A token of a login has a nonce: it must never log anybody out.
        if not isinstance(events, Mapping) or not isinstance(events.get(_LOGOUT_EVENT), Mapping) or "nonce" in claims:
            raise Unauthenticated("this is no logout token")
        subject, session = _text(claims, "sub"), _text(claims, "sid")
        if not (subject or session):
            raise Unauthenticated("the logout token names neither a person (sub) nor a session (sid)")
        at = datetime.fromtimestamp(float(claims["iat"]), UTC) + _CLOCKS_DIFFER
        return Logout(subject_of(issuer, subject) if subject else "", _digest(session), at)

    async def _id_token(self, endpoints: _Endpoints, code: str, attempt: Attempt) -> str:
        try:
            async with self._client() as client:
                token = await client.fetch_token(
                    endpoints.token, grant_type="authorization_code", code=code, code_verifier=attempt.verifier
                )
        except OAuthError as error:
            raise Unauthenticated("the login's code is not valid or was used before; begin again") from error
        except (httpx2.HTTPError, ValueError) as error:
            raise self._away(error) from error
        text = token.get("id_token")
        if not isinstance(text, str):
            raise self._away(LookupError("no id_token"))
        return text

    async def _found(self) -> _Endpoints:
        kept = self._endpoints
        if kept is not None and self._clock() - kept[0] < _DISCOVERY_SECONDS:
            return kept[1]
        try:
            async with httpx2.AsyncClient(timeout=_SECONDS) as client:
                response = await client.get(f"{self._address.rstrip('/')}/.well-known/openid-configuration")
                found = self._read(response.raise_for_status().json())
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError) as error:
            raise self._away(error) from error
        self._endpoints = (self._clock(), found)
        return found

    def _read(self, document: Mapping[str, Any]) -> _Endpoints:
        if document["issuer"] != self._address:
            raise ValueError("the document is of another issuer")
        issuer = self._issuer(KeySet(str(document["jwks_uri"])))
        return _Endpoints(str(document["authorization_endpoint"]), str(document["token_endpoint"]), issuer)

    def _client(self) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            self._client_id,
            self._client_secret,
            token_endpoint_auth_method="client_secret_basic" if self._client_secret else "none",
            scope=self._scope,
            redirect_uri=self._redirect_uri,
            code_challenge_method="S256",
            timeout=_SECONDS,
        )

    def _away(self, error: Exception) -> Unavailable:
        _log.warning("login_provider_away", provider=self._name, error=type(error).__name__)
        return Unavailable(
            "login provider", f"The login provider {self._name} does not answer as it should; try again."
        )


def _digest(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest() if session else ""


def _email(claims: Mapping[str, Any]) -> str:
    """The address, when the provider has seen that it is the person's."""
    email = _text(claims, "email").lower()
    return email if claims.get("email_verified") is True and "@" in email and len(email) <= _LONGEST_EMAIL else ""


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""
