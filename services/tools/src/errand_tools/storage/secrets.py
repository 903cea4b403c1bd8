"""Sealed secrets in the database, and the cipher that seals them."""

import json
import os
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from errand_common.db import Database
from errand_common.errors import Conflict, Unsupported
from sqlalchemy import delete, func, select

from errand_tools.domain.secrets import SealedSecret, Secret, SecretStore
from errand_tools.domain.tools import ToolDenied
from errand_tools.storage.models import SecretRow


class FernetCipher:
    """AES-128-CBC with HMAC-SHA-256 (Fernet); the first key seals, every key opens, so that keys can be rotated.

    Tenant and name are sealed with the value: a row that is moved to another name does not open.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in keys]) if keys else None

    def seal(self, tenant_id: str, name: str, value: str) -> str:
        if self._fernet is None:
            raise Unsupported("secrets are off here: the operator must set ERRAND_TOOLS_SECRET_KEYS", feature="secrets")
        return self._fernet.encrypt(json.dumps([tenant_id, name, value]).encode()).decode()

    def open(self, tenant_id: str, name: str, sealed: str) -> str:
        if self._fernet is None:
            raise ToolDenied("The tool's credentials cannot be read: secrets are off here.")
        try:
            tenant, sealed_name, value = json.loads(self._fernet.decrypt(sealed))
        except (InvalidToken, ValueError):
            raise ToolDenied("The tool's credentials cannot be read; an administrator must store them again.") from None
        if (tenant, sealed_name) != (tenant_id, name):
            raise ToolDenied("The tool's credentials belong to something else; an administrator must store them again.")
        return str(value)


def key_of_file(path: Path) -> str:
    """The key in the file, made at the first start; readable by its owner alone. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text("ascii").strip()
    with os.fdopen(descriptor, "w") as file:
        key = Fernet.generate_key().decode()
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key


class SqlSecretStore(SecretStore):
    """Every query names its tenant; on Postgres row-level security does so again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, tenant_id: str, secret: SealedSecret, *, most: int) -> None:
        known = secret.secret
        others = select(func.count()).where(SecretRow.tenant_id == tenant_id, SecretRow.name != known.name)
        async with self._database.transaction(tenant_id) as session:
            if (await session.scalar(others) or 0) >= most:
                raise Conflict(f"A tenant can have {most} secrets; delete one first.", resource="secret")
            await session.merge(
                SecretRow(
                    tenant_id=tenant_id,
                    name=known.name,
                    hosts_json=json.dumps(known.hosts),
                    sealed=secret.sealed,
                    updated_at=known.updated_at,
                )
            )

    async def get(self, tenant_id: str, name: str) -> SealedSecret | None:
        async with self._database.transaction(tenant_id, read_only=True) as session:
            row = await session.get(SecretRow, (tenant_id, name))
            return SealedSecret(_secret(row), row.sealed) if row else None

    async def list(self, tenant_id: str) -> list[Secret]:
        query = select(SecretRow).where(SecretRow.tenant_id == tenant_id).order_by(SecretRow.name)
        async with self._database.transaction(tenant_id) as session:
            return [_secret(row) for row in await session.scalars(query)]

    async def delete(self, tenant_id: str, name: str) -> bool:
        statement = (
            delete(SecretRow).where(SecretRow.tenant_id == tenant_id, SecretRow.name == name).returning(SecretRow.name)
        )
        async with self._database.transaction(tenant_id) as session:
            return await session.scalar(statement) is not None


def _secret(row: SecretRow) -> Secret:
    return Secret(row.name, tuple(json.loads(row.hosts_json)), row.updated_at)
