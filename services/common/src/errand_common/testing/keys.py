"""Keys and principals for tests."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from errand_common.principal import Principal
from errand_common.tokens import TokenSigner, TokenVerifier, generate_signing_key


def principal(tenant_id: str = "default", id: str = "user-1", *, roles: tuple[str, ...] = ("admin",)) -> Principal:
    """A principal with every scope."""
    scopes = frozenset({"chat", "documents", "tools", "admin"})
    return Principal(tenant_id, id, frozenset(roles), scopes, request_id="req-test")


class TestKeys:
    """A signing key and the key set that verifies it, as files in a folder."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self.signing_key_file = folder / "signing.pem"
        self.jwks_file = folder / "jwks.json"
        self.signing_key_file.write_bytes(generate_signing_key())
        self.signer = TokenSigner.from_pem(self.signing_key_file.read_bytes(), issuer="errand-test")
        self.jwks_file.write_text(json.dumps(self.signer.jwks()))
        self.verifier = TokenVerifier(str(self.jwks_file))


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
