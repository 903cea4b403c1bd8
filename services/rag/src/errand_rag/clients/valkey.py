"""Embeddings that all replicas remember together, in Valkey or Redis."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import structlog
import valkey.asyncio as valkey
from errand_common.errors import Unavailable
from errand_common.principal import current_principal

from errand_rag.domain.models import Embeddings, Vector
from errand_rag.domain.ports import Embedder

_log = structlog.get_logger(__name__)
# A vector that is waited for longer is sooner made again.
_WAIT_SECONDS = 0.5
_REST_SECONDS = 1.0
_CONNECTIONS = 16
_SCANNED = 1000
_NUMBER = np.dtype("<f4")


class ValkeyVectors:
    """Vectors by tenant, model and hash of the text; each is gone after `ttl_seconds`.

    Every method raises Unavailable. A server that failed is left alone for a second, so that texts do
    not wait for it one after the other.
    """

    def __init__(self, url: str, *, ttl_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        pool: Any = valkey.BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_WAIT_SECONDS,
            socket_timeout=_WAIT_SECONDS,
            socket_connect_timeout=_WAIT_SECONDS,
        )
        self._client: Any = valkey.Valkey(connection_pool=pool)
        self._pool = pool
        self._ttl_milliseconds = int(ttl_seconds * 1000)
        self._clock = clock
        self._away_until = float("-inf")

    async def get(self, tenant_id: str, model: str, texts: Sequence[str]) -> dict[str, Vector]:
        """The vectors of the texts that are remembered."""
        values = await self._call(self._client.mget, [_key(tenant_id, model, text) for text in texts])
        return {text: _vector(value) for text, value in zip(texts, values, strict=True) if value is not None}

    async def put(self, tenant_id: str, model: str, vectors: Mapping[str, Vector]) -> None:
        """Remembers vectors by their texts."""

        async def store() -> None:
            async with self._client.pipeline(transaction=False) as pipeline:
                for text, vector in vectors.items():
                    value = np.asarray(vector, dtype=_NUMBER).tobytes()
                    pipeline.set(_key(tenant_id, model, text), value, px=self._ttl_milliseconds)
                await pipeline.execute()

        await self._call(store)

    async def forget(self, tenant_id: str) -> None:
        """Drops all of a tenant: a vector does not tell which document its text was of."""

        async def drop() -> None:
            cursor = 0
            while True:
                cursor, keys = await self._client.scan(cursor, match=f"{_prefix(tenant_id)}*", count=_SCANNED)
                if keys:
                    await self._client.unlink(*keys)
                if not cursor:
                    return

        await self._call(drop)

    async def close(self) -> None:
        """Closes the connections."""
        await self._pool.aclose()

    async def _call(self, work: Callable[..., Any], *arguments: Any) -> Any:
        if self._clock() < self._away_until:
            raise Unavailable("embedding cache")
        try:
            return await work(*arguments)
        except (valkey.ValkeyError, OSError) as error:
            self._away_until = self._clock() + _REST_SECONDS
            _log.warning("embedding_cache_away", error=type(error).__name__)
            raise Unavailable("embedding cache") from error


class SharedCachingEmbedder:
    """Asks the shared cache first, and does without it while it is away.

    `on_lookup` is told a result (hit, miss, away) and of how many texts.
    """

    def __init__(self, inner: Embedder, vectors: ValkeyVectors, *, on_lookup: Callable[[str, int], None]) -> None:
        self._inner = inner
        self._vectors = vectors
        self._on_lookup = on_lookup

    async def embed(self, texts: Sequence[str], *, model: str) -> Embeddings:
        """As the inner one; only texts that are not remembered are embedded."""
        tenant_id = current_principal().tenant_id
        # Which model the default is now, only the service that serves it knows.
        found = await self._known(tenant_id, model, texts) if model else {}
        missing = list(dict.fromkeys(text for text in texts if text not in found))
        if missing:
            made = await self._inner.embed(missing, model=model)
            new = dict(zip(missing, made.vectors, strict=True))
            await self._remember(tenant_id, made.model, new)
            found, model = found | new, made.model
        return Embeddings(vectors=tuple(found[text] for text in texts), model=model)

    async def _known(self, tenant_id: str, model: str, texts: Sequence[str]) -> dict[str, Vector]:
        wanted = list(dict.fromkeys(texts))
        try:
            found = await self._vectors.get(tenant_id, model, wanted)
        except Unavailable:
            self._on_lookup("away", len(wanted))
            return {}
        self._on_lookup("hit", len(found))
        self._on_lookup("miss", len(wanted) - len(found))
        return found

    async def _remember(self, tenant_id: str, model: str, vectors: Mapping[str, Vector]) -> None:
        try:
            await self._vectors.put(tenant_id, model, vectors)
        except Unavailable:
            return  # made again when it is wanted again


def _prefix(tenant_id: str) -> str:
    # By hash: a tenant's id may hold signs that mean something in a pattern.
    return f"errand:embedding:{hashlib.sha256(tenant_id.encode()).hexdigest()[:32]}:"


def _key(tenant_id: str, model: str, text: str) -> str:
    """Of one length, whatever the text: 32 + 64 characters and the two words before them."""
    digest = hashlib.sha256(f"{len(model)}:{model}:{text}".encode("utf-8", "replace"))
    return _prefix(tenant_id) + digest.hexdigest()


def _vector(value: bytes) -> Vector:
    vector: list[float] = np.frombuffer(value, dtype=_NUMBER).tolist()
    return tuple(vector)
