"""Short-lived internal tokens: EdDSA-signed JWTs (RFC 7519, RFC 8037) with who and where."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from errand_common.errors import Unauthenticated, Unavailable
from errand_common.principal import Principal

ALGORITHM = "EdDSA"
AUDIENCE = "errand"
ISSUER_PREFIX = "errand-"
_REQUIRED = ["exp", "iat", "sub", "aud", "iss", "tid"]
# An unknown key id makes the verifier read the key set again, but not more often than this.
_REREAD_SECONDS = 5.0
# A source that is away is asked again after this, so that calls do not queue up behind it.
_RETRY_SECONDS = 1.0
# A key that was taken out of the set is refused at the latest after this.
_OLDEST_SECONDS = 300.0
# Tokens whose signature was checked; one lives five minutes, and each request mints its own.
_MOST_VERIFIED = 4096
_log = structlog.get_logger(__name__)


def generate_signing_key() -> bytes:
    """A new Ed25519 private key as PEM (PKCS 8)."""
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class TokenSigner:
    """Signs tokens with one key."""

    def __init__(self, key: Ed25519PrivateKey, *, issuer: str) -> None:
        self._key, self._issuer = key, issuer
        self._public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self._key_id = hashlib.sha256(self._public).hexdigest()[:16]

    @classmethod
    def from_pem(cls, pem: bytes, *, issuer: str) -> TokenSigner:
        """Raises ValueError when the PEM does not hold an Ed25519 private key."""
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("the signing key must be an Ed25519 private key")  # noqa: TRY004 - bad content
        return cls(key, issuer=issuer)

    def sign(self, principal: Principal, *, ttl_seconds: float = 300) -> str:
        """A token for the principal that ends after `ttl_seconds`."""
        now = time.time()
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": principal.id,
            "tid": principal.tenant_id,
            "roles": sorted(principal.roles),
            "scopes": sorted(principal.scopes),
            "rid": principal.request_id,
            "iat": int(now),
            "exp": int(now + ttl_seconds),
        }
        return self.encode(claims)

    def encode(self, claims: Mapping[str, Any]) -> str:
        """A signed token with just these claims."""
        return jwt.encode(dict(claims), self._key, algorithm=ALGORITHM, headers={"kid": self._key_id})

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set (RFC 7517)."""
        x = base64.urlsafe_b64encode(self._public).rstrip(b"=").decode()
        key = {
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": ALGORITHM,
            "kid": self._key_id,
            "x": x,
        }
        return {"keys": [key]}


@dataclass(frozen=True, slots=True)
class _Verified:
    """What a token said, and the very key object that signed it."""

    principal: Principal
    key_id: str
    key: jwt.PyJWK
    expires_at: float


class KeySet:
    """Public keys (RFC 7517) in a file or behind a URL, read again when they are old or one is missing."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = self._failed_at = float("-inf")
        self._failures = 0
        self._lock = asyncio.Lock()

    async def key(self, key_id: str) -> jwt.PyJWK:
        """The key with this id; raises PyJWT's InvalidKeyError, or Unavailable when there are no keys yet."""
        if key_id not in self._keys or self._age() > _OLDEST_SECONDS:
            async with self._lock:
                await self._reread(key_id)
        if key_id not in self._keys:
            raise jwt.InvalidKeyError("unknown key")
        return self._keys[key_id]

    async def wait(self) -> None:
        """Returns once there are keys."""
        while not self._keys:
            with suppress(Unavailable):
                async with self._lock:
                    await self._reread("")
            if not self._keys:
                await asyncio.sleep(_RETRY_SECONDS)

    def _age(self) -> float:
        return time.monotonic() - self._read_at

    async def _reread(self, key_id: str) -> None:
        """Reads the key set if it is due; a set that cannot be read now leaves the one there is."""
        is_due = self._age() > (_OLDEST_SECONDS if key_id in self._keys else _REREAD_SECONDS)
        if is_due and time.monotonic() - self._failed_at >= _RETRY_SECONDS:
            try:
                key_set = jwt.PyJWKSet.from_dict(json.loads(await self._load()))
            except (OSError, httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
                self._failed_at = time.monotonic()
                self._tell(error)
            else:
                if self._failures:
                    _log.info("the key set for tokens is read", source=self._source, failures=self._failures)
                self._failures = 0
                self._read_at, self._failed_at = time.monotonic(), float("-inf")
                self._keys = {str(key.key_id): key for key in key_set.keys}
        if not self._keys:
            raise Unavailable("token key set")

    def _tell(self, error: Exception) -> None:
        """At the first failure, and then each time that twice as many have come: pods wait so for minutes."""
        self._failures += 1
        if self._failures.bit_count() == 1:
            told = {"source": self._source, "error": str(error), "failures": self._failures}
            _log.warning("the key set for tokens cannot be read", **told)

    async def _load(self) -> str:
        if self._source.startswith(("http://", "https://")):
            async with httpx.AsyncClient(timeout=5.0) as client:
                return (await client.get(self._source)).raise_for_status().text
        return await asyncio.to_thread(Path(self._source).read_text, "utf-8")


class TokenVerifier:
    """Verifies tokens against a key set in a file or behind a URL."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._keys = KeySet(source)
        self._verified: OrderedDict[str, _Verified] = OrderedDict()

    async def wait_for_keys(self) -> None:
        """Returns once tokens can be verified; without a source, at once: then every call is refused."""
        if self._source:
            await self._keys.wait()

    async def verify(self, token: str) -> Principal:
        """The token's principal; raises Unauthenticated, or Unavailable when there are no keys yet.

        A token that was verified is known until it expires or its key is read anew or taken away.
        """
        known = self._verified.get(token)
        if known is not None and time.time() < known.expires_at and await self._is_current(known):
            self._verified.move_to_end(token)
            return known.principal
        self._verified.pop(token, None)
        known = await self._verify(token)
        self._verified[token] = known
        if len(self._verified) > _MOST_VERIFIED:
            self._verified.popitem(last=False)
        return known.principal

    async def _is_current(self, known: _Verified) -> bool:
        try:
            return await self._keys.key(known.key_id) is known.key
        except jwt.PyJWTError:
            return False

    async def _verify(self, token: str) -> _Verified:
        try:
            key_id = str(jwt.get_unverified_header(token).get("kid", ""))
            key = await self._keys.key(key_id)
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                options={"require": _REQUIRED},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated("The token is not valid or has expired.") from error
        return _Verified(_principal(claims), key_id, key, float(claims["exp"]))


def _principal(claims: Mapping[str, Any]) -> Principal:
    named = all(isinstance(claims[name], str) and claims[name] for name in ("sub", "tid", "iss"))
    if not named or not claims["iss"].startswith(ISSUER_PREFIX):
        raise Unauthenticated("The token is not valid or has expired.")
    return Principal(
        tenant_id=str(claims["tid"]),
        id=str(claims["sub"]),
        roles=frozenset(claims.get("roles", ())),
        scopes=frozenset(claims.get("scopes", ())),
        request_id=str(claims.get("rid", "")),
    )
