"""Password hashes by Argon2id."""

import asyncio
from typing import Final

from argon2 import PasswordHasher as Argon2
from argon2.exceptions import InvalidHashError, VerificationError

# OWASP's least parameters: a hash takes some 30 ms and 19 MiB, so that many logins at once fit into a pod.
_HASHER: Final = Argon2(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_AT_ONCE: Final = 4


class Argon2PasswordHasher:
    """PasswordHasher in threads, a few at a time."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_AT_ONCE)
        # Compared with when there is no such person, so that nobody takes as long as a wrong password.
        self._nobody = _HASHER.hash("nobody")

    async def hash(self, password: str) -> str:
        """A hash with its own salt and parameters."""
        async with self._places:
            return await asyncio.to_thread(_HASHER.hash, password)

    async def verify(self, password: str, hashed: str) -> bool:
        """Whether the password has this hash; takes as long for an empty hash, which no password has."""
        async with self._places:
            right = await asyncio.to_thread(_matches, password, hashed or self._nobody)
        return right and bool(hashed)


def _matches(password: str, hashed: str) -> bool:
    try:
        return _HASHER.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
