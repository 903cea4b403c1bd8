"""What is known of one request while it is answered."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from errand_common.principal import Principal
from starlette.types import Scope

from errand_gateway.domain.admission import Permit
from errand_gateway.domain.idempotency import Claim
from errand_gateway.domain.pricing import Price
from errand_gateway.domain.quotas import Spend
from errand_gateway.domain.resources import Usage

_SCOPE_KEY: Final = "errand"


@dataclass(slots=True)
class RequestContext:
    """Filled by the layers a request passes; read by the one that records it.

    What is entered in `until_the_end` is left by whoever made the context, in the same task.
    """

    request_id: str
    started: float = field(default_factory=time.monotonic)
    headers: dict[str, str] = field(default_factory=dict)
    principal: Principal | None = None
    session_id: str = ""
    claim: Claim | None = None
    action: str = ""
    agent: str = ""
    model: str = ""
    run_id: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    stop_reason: str = ""
    project: str = ""
    cost_micros: int = 0
    reservation: Permit | None = None
    price: Price = field(default_factory=Price)
    prompt_estimate: int = 0
    deltas: int = 0
    streamed: bool = False
    until_the_end: ExitStack = field(default_factory=ExitStack)

    def settle(self) -> None:
        """Books what the request used, at its price, and frees the rest of what it held.

        Work that was broken off while it streamed is counted by the pieces that were sent.
        """
        if not (self.prompt_tokens or self.completion_tokens) and self.deltas:
            self.prompt_tokens, self.completion_tokens = self.prompt_estimate, self.deltas
        tokens = self.prompt_tokens + self.completion_tokens
        if tokens:
            usage = Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens)
            self.cost_micros = self.price.micros(usage)
        if self.reservation is not None:
            self.reservation.settle(Spend(tokens, self.cost_micros))

    @property
    def principal_id(self) -> str:
        """Who asks; empty before that is known."""
        return self.principal.id if self.principal else ""


def bind_context(scope: Scope, context: RequestContext) -> None:
    """Puts the context on the connection's scope."""
    scope[_SCOPE_KEY] = context


def context_of(scope: Scope) -> RequestContext:
    """The context of this request."""
    context: RequestContext = scope[_SCOPE_KEY]
    return context
