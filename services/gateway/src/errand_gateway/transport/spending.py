"""Holds against the caller's quotas what a request may cost, before any work is done."""

from typing import Final

from errand_common.errors import InvalidArgument
from errand_common.principal import Principal
from fastapi import Request

from errand_gateway.domain.quotas import Spend
from errand_gateway.domain.resources import Usage
from errand_gateway.transport.context import context_of
from errand_gateway.transport.fields import PROJECT_PATTERN
from errand_gateway.transport.services import Services

DEFAULT_MAX_TOKENS: Final = 256
"""What models generate at most when a request does not say."""

SEARCH_MODEL: Final = "search"
INGESTION_MODEL: Final = "ingestion"
"""Under these names the price table says what searching and storing text costs."""

_TEMPLATE_TOKENS: Final = 64
_BYTES_A_TOKEN: Final = 4
_PROJECT_HEADERS: Final = ("x-errand-project", "openai-project")


def note_project(request: Request) -> None:
    """Keeps the project that the caller books this request on; raises InvalidArgument."""
    for header in _PROJECT_HEADERS:
        given = request.headers.get(header)
        if given is None:
            continue
        if not PROJECT_PATTERN.match(given):
            raise InvalidArgument("must be 1 to 64 letters, digits, '.', '_' and '-'", field=header)
        context_of(request.scope).project = given
        return


async def hold_for_model(
    request: Request, services: Services, caller: Principal, model: str, *, prompt_bytes: int, max_tokens: int
) -> None:
    """Holds what a model's turn may cost: no text has more tokens than bytes.

    Raises QuotaExceeded. What was used is booked when the request ends, the rest is freed.
    """
    await _hold(request, services, caller, model, Usage(prompt_bytes + _TEMPLATE_TOKENS, max_tokens))
    context_of(request.scope).prompt_estimate = prompt_bytes // _BYTES_A_TOKEN


async def hold_for_run(request: Request, services: Services, caller: Principal, agent: str) -> None:
    """Holds what a run of an agent is expected to cost at most; raises QuotaExceeded."""
    tokens = services.run_reserve_tokens
    await _hold(request, services, caller, f"agent:{agent or 'default'}", Usage(0, tokens), Usage(tokens, 0))


async def hold_for_text(request: Request, services: Services, caller: Principal, model: str, size: int) -> None:
    """Holds and notes what embedding a text of so many bytes costs: a quarter of it in tokens."""
    tokens = max(1, size // _BYTES_A_TOKEN)
    await _hold(request, services, caller, model, Usage(tokens))
    context_of(request.scope).prompt_estimate = tokens


def note_text(request: Request, model: str, *, size: int | None = None) -> None:
    """Books what `hold_for_text` held: the work was done. A size in bytes tells what is known only now."""
    context = context_of(request.scope)
    if size is not None:
        context.prompt_estimate = max(1, size // _BYTES_A_TOKEN)
    context.model, context.prompt_tokens = model, context.prompt_estimate


async def _hold(request: Request, services: Services, caller: Principal, model: str, *most: Usage) -> None:
    note_project(request)
    context = context_of(request.scope)
    context.price = services.prices.of(model)
    spends = [services.prices.spend(model, usage) for usage in most]
    bound = Spend(max(spend.tokens for spend in spends), max(spend.cost_micros for spend in spends))
    permit = await services.admission.admit(caller, bound)
    context.reservation = permit
    if permit.tokens is not None:
        context.headers |= {
            "X-RateLimit-Limit-Tokens": str(permit.tokens.limit),
            "X-RateLimit-Remaining-Tokens": str(permit.tokens.remaining),
        }
