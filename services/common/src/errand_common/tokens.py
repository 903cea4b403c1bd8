"""Short-lived internal tokens: EdDSA-signed JWTs (RFC 7519, RFC 8037) with who and where."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import jwt
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
        return jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"kid": self._key_id})

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


class TokenVerifier:
    """Verifies tokens against a key set in a file or behind a URL."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def verify(self, token: str) -> Principal:
        """The token's principal; raises Unauthenticated, or Unavailable when there are no keys yet."""
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                options={"require": _REQUIRED},
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated("The token is not valid or has expired.") from error
        return _principal(claims)

    async def _key(self, key_id: str) -> jwt.PyJWK:
        if key_id not in self._keys:
            async with self._lock:
                await self._reread(key_id)
        if key_id not in self._keys:
            raise jwt.InvalidKeyError("unknown key")
        return self._keys[key_id]

    async def _reread(self, key_id: str) -> None:
        if key_id in self._keys or time.monotonic() - self._read_at < _REREAD_SECONDS:
            return
        self._read_at = time.monotonic()
        try:
            key_set = jwt.PyJWKSet.from_dict(json.loads(await self._load()))
        except (OSError, httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
            self._read_at = float("-inf")
            raise Unavailable("token key set") from error
        self._keys = {str(key.key_id): key for key in key_set.keys}

    async def _load(self) -> str:
        if self._source.startswith(("http://", "https://")):
            async with httpx.AsyncClient(timeout=5.0) as client:
                return (await client.get(self._source)).raise_for_status().text
        return await asyncio.to_thread(Path(self._source).read_text, "utf-8")


def _principal(claims: Mapping[str, Any]) -> Principal:
    if not str(claims["iss"]).startswith(ISSUER_PREFIX):
        raise Unauthenticated("The token is not valid or has expired.")
    return Principal(
        tenant_id=str(claims["tid"]),
        id=str(claims["sub"]),
        roles=frozenset(claims.get("roles", ())),
        scopes=frozenset(claims.get("scopes", ())),
        request_id=str(claims.get("rid", "")),
    )
