"""Kept answers in the database."""

import os
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from errand_common.db import Database
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from errand_gateway.domain.idempotency import ANSWERS_KEPT, KeyedRequest, SavedAnswer
from errand_gateway.storage.models import IdempotencyRow

_NONCE_BYTES: Final = 12
_SWEEP_EVERY: Final = 100


class AesSeal:
    """Seal by AES-GCM, under a key made of the installation's secret and the caller's key.

    Answers may hold what is shown once, such as a new API key; of the caller's key only a digest is stored.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def seal(self, key: str, content: bytes) -> bytes:
        """The content, unreadable."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher(key).encrypt(nonce, content, None)

    def open(self, key: str, sealed: bytes) -> bytes:
        """The content again. Raises ValueError for what was not sealed with this key here."""
        try:
            return self._cipher(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], None)
        except InvalidTag as error:
            raise ValueError("not sealed here") from error

    def _cipher(self, key: str) -> AESGCM:
        return AESGCM(HKDF(SHA256(), 32, salt=self._secret, info=b"errand answer").derive(key.encode()))


class SqlAnswerRepository:
    """AnswerStore on the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._claims = 0

    async def claim(self, request: KeyedRequest, *, now: datetime, lease: timedelta) -> SavedAnswer | None:
        """What there is for the key; None when there was nothing, and the key is now this request's."""
        fresh = {
            "fingerprint": request.fingerprint,
            "running": True,
            "status": 0,
            "headers": [],
            "body": b"",
            "created_at": now,
            "expires_at": now + lease,
        }
        values = {
            "tenant_id": request.tenant_id,
            "principal_id": request.principal_id,
            "digest": request.digest,
            **fresh,
        }
        insert = postgresql.insert if self._database.is_postgres else sqlite.insert
        # An expired row is as good as none, and one of several that see it so takes it over.
        statement = (
            insert(IdempotencyRow)
            .values(values)
            .on_conflict_do_update(
                index_elements=["tenant_id", "principal_id", "digest"],
                set_=fresh,
                where=IdempotencyRow.expires_at <= now,
            )
            .returning(IdempotencyRow.digest)
        )
        async with self._database.transaction(request.tenant_id) as session:
            if await session.scalar(statement) is not None:
                await self._sweep(session, request.tenant_id, now)
                return None
            row = (await session.scalars(sa.select(IdempotencyRow).where(*_of(request)))).one()
        headers = tuple((name, value) for name, value in row.headers)
        return SavedAnswer(row.fingerprint, row.running, row.status, headers, row.body)

    async def finish(
        self, request: KeyedRequest, *, status: int, headers: tuple[tuple[str, str], ...], body: bytes, until: datetime
    ) -> None:
        """Keeps the answer."""
        values = {"running": False, "status": status, "headers": [*headers], "body": body, "expires_at": until}
        async with self._database.transaction(request.tenant_id) as session:
            await session.execute(sa.update(IdempotencyRow).where(*_of(request)).values(values))

    async def release(self, request: KeyedRequest) -> None:
        """Gives the key back: the request may be sent again."""
        async with self._database.transaction(request.tenant_id) as session:
            await session.execute(sa.delete(IdempotencyRow).where(*_of(request), IdempotencyRow.running.is_(True)))

    async def _sweep(self, session: AsyncSession, tenant_id: str, now: datetime) -> None:
        """Deletes, now and then, what has expired and the oldest of too many."""
        self._claims += 1
        if self._claims % _SWEEP_EVERY:
            return
        mine = IdempotencyRow.tenant_id == tenant_id
        await session.execute(sa.delete(IdempotencyRow).where(mine, IdempotencyRow.expires_at <= now))
        oldest_kept = (
            sa.select(IdempotencyRow.created_at)
            .where(mine)
            .order_by(IdempotencyRow.created_at.desc())
            .offset(ANSWERS_KEPT)
            .limit(1)
            .scalar_subquery()
        )
        await session.execute(
            sa.delete(IdempotencyRow).where(
                mine, IdempotencyRow.running.is_(False), IdempotencyRow.created_at <= oldest_kept
            )
        )


def _of(request: KeyedRequest) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        IdempotencyRow.tenant_id == request.tenant_id,
        IdempotencyRow.principal_id == request.principal_id,
        IdempotencyRow.digest == request.digest,
    )
