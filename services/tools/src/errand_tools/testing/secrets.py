"""A secret book over memory."""

from cryptography.fernet import Fernet
from errand_common.db import utc_now

from errand_tools.domain.secrets import SecretBook
from errand_tools.storage.secrets import FernetCipher
from errand_tools.testing.stores import InMemorySecretStore


def secret_book() -> SecretBook:
    """An empty one with a key of its own."""
    return SecretBook(InMemorySecretStore(), FernetCipher((Fernet.generate_key().decode(),)), utc_now)
