"""API keys: how they look, how they are made and how one is checked."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

_KEY: Final = re.compile(r"^errand_([A-Za-z0-9]{4,24})_([A-Za-z0-9_-]{16,128})$")


@dataclass(frozen=True, slots=True)
class KeyText:
    """An API key, taken apart."""

    prefix: str
    secret: str

    def __repr__(self) -> str:
        """Never shows the secret."""
        return f"KeyText(prefix={self.prefix!r})"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key: everything but its secret."""

    id: str
    tenant_id: str
    prefix: str
    digest: str
    pepper_id: str
    name: str
    roles: frozenset[str]
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    allowed_networks: tuple[str, ...] = ()


def parse_key(text: str) -> KeyText | None:
    """The key's parts, or None when the text is no key."""
    match = _KEY.match(text)
    return KeyText(match[1], match[2]) if match else None


def new_key() -> str:
    """A fresh key: a public prefix of 12 characters and 256 random bits."""
    return f"errand_{secrets.token_hex(6)}_{secrets.token_hex(32)}"


class Pepper:
    """The installation's own secret, without which stored digests are worthless."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self.id = hashlib.sha256(b"errand-pepper-id:" + self._secret).hexdigest()[:16]

    def digest(self, key: KeyText) -> str:
        """HMAC-SHA256 of the key's secret and prefix, hex."""
        text = f"{key.prefix}:{key.secret}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()

    def derived(self, purpose: str) -> bytes:
        """A secret for another purpose, from which this one cannot be told."""
        return hmac.new(self._secret, f"errand:{purpose}".encode(), hashlib.sha256).digest()

    def matches(self, key: KeyText, digest: str) -> bool:
        """Whether the key has this digest, in constant time."""
        return hmac.compare_digest(self.digest(key), digest)
