"""What is known of one request while it is answered."""

import time
from dataclasses import dataclass, field
from typing import Final

from errand_common.principal import Principal
from starlette.types import Scope

_SCOPE_KEY: Final = "errand"


@dataclass(slots=True)
class RequestContext:
    """Filled by the layers a request passes; read by the one that records it."""

    request_id: str
    started: float = field(default_factory=time.monotonic)
    headers: dict[str, str] = field(default_factory=dict)
    principal: Principal | None = None
    action: str = ""
    agent: str = ""
    model: str = ""
    run_id: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    stop_reason: str = ""
    streamed: bool = False

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
