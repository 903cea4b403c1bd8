"""What is counted of limits, quotas and models, around what decides on them."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from errand_common.errors import QuotaExceeded
from errand_common.principal import Principal
from errand_common.telemetry.metrics import counter, counting_llm_failures

from errand_gateway.domain import generation as g
from errand_gateway.domain.limits import LimitDecision, RateLimiter
from errand_gateway.domain.quota_keeper import QuotaKeeper, Reservation
from errand_gateway.domain.quotas import Spend

LIMIT_HITS = counter("rate_limit_hits_total", "Requests refused because their key asked too often")
LIMIT_ALLOWED = counter("rate_limit_allowed_total", "Requests that the rate limit let pass")
RESERVATIONS = counter(
    "quota_reservations_total", "Requests held against quotas, by result (granted, refused, failed)", "result"
)
QUOTA_FAILURES = counter(
    "quota_store_failures_total", "Times spending could not be booked or leased; it is tried again"
)
DELETION_FAILURES = counter(
    "tenant_deletion_failures_total",
    "Times a service could not be emptied of a tenant that is being deleted; it is tried again",
    "service",
)
_COMPONENT = "gateway"


class ObservedLimiter:
    """A rate limiter whose decisions are counted; never by key, of which there is no bound."""

    def __init__(self, inner: RateLimiter) -> None:
        self._inner = inner

    async def hit(self, principal: Principal) -> LimitDecision:
        """As the limiter's own."""
        decision = await self._inner.hit(principal)
        (LIMIT_ALLOWED if decision.allowed else LIMIT_HITS).inc()
        return decision


class ObservedKeeper(QuotaKeeper):
    """A keeper whose reservations are counted."""

    async def reserve(self, principal: Principal, bound: Spend) -> Reservation:
        """As the keeper's own."""
        result = "failed"
        try:
            reservation = await super().reserve(principal, bound)
            result = "granted"
        except QuotaExceeded:
            result = "refused"
            raise
        except Exception:
            QUOTA_FAILURES.inc()
            raise
        else:
            return reservation
        finally:
            RESERVATIONS.labels(result).inc()


class ObservedModels:
    """Models whose failures are counted."""

    def __init__(self, inner: g.ModelBackend) -> None:
        self._inner = inner

    async def generate(self, command: g.GenerateCommand) -> g.Turn:
        """As the models' own."""
        with counting_llm_failures(_COMPONENT):
            return await self._inner.generate(command)

    async def stream(self, command: g.GenerateCommand) -> AsyncIterator[str | g.Call | g.Turn]:
        """As the models' own; closing it closes theirs."""
        pieces = self._inner.stream(command)
        try:
            with counting_llm_failures(_COMPONENT):
                async for piece in pieces:
                    yield piece
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    async def embed(self, model: str, texts: Sequence[str]) -> g.Embeddings:
        """As the models' own."""
        with counting_llm_failures(_COMPONENT):
            return await self._inner.embed(model, texts)

    async def list_models(self) -> Sequence[g.ModelInfo]:
        """As the models' own."""
        return await self._inner.list_models()
