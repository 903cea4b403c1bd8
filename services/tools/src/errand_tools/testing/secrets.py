"""A secret book over memory, and an authorization server that does what a test says."""

from cryptography.fernet import Fernet
from errand_common.db import utc_now

from errand_tools.domain.secrets import SecretBook
from errand_tools.domain.tokens import AccessToken, AccessTokens
from errand_tools.domain.tools import HttpAuth
from errand_tools.storage.secrets import FernetCipher
from errand_tools.testing.stores import InMemorySecretStore


class ScriptedTokenSource:
    """Gives tokens `token-1`, `token-2` and so on, or raises `failure`."""

    def __init__(self) -> None:
        self.asked: list[tuple[HttpAuth, str]] = []
        self.seconds = 300.0
        self.failure: Exception | None = None
        self.now = 0.0

    async def fetch(self, auth: HttpAuth, client_secret: str) -> AccessToken:
        """The next token."""
        self.asked.append((auth, client_secret))
        if self.failure is not None:
            raise self.failure
        return AccessToken(f"token-{len(self.asked)}", self.seconds)


def secret_book(source: ScriptedTokenSource | None = None) -> SecretBook:
    """An empty one with a key of its own."""
    source = source or ScriptedTokenSource()
    tokens = AccessTokens(source, lambda: source.now)
    return SecretBook(InMemorySecretStore(), FernetCipher((Fernet.generate_key().decode(),)), utc_now, tokens)
