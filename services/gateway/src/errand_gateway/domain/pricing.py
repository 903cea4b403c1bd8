"""What work costs, by the operator's price table."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from errand_gateway.domain.quotas import Spend
from errand_gateway.domain.resources import Usage

ANY_MODEL: Final = "*"


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens, which are millionths of a dollar for one; and for a request."""

    input: float = 0.0
    output: float = 0.0
    cached_input: float | None = None
    request: float = 0.0

    def micros(self, usage: Usage) -> int:
        """Millionths of a dollar, rounded up."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        cached_price = self.input if self.cached_input is None else self.cached_input
        tokens = (
            (usage.prompt_tokens - cached) * self.input + cached * cached_price + usage.completion_tokens * self.output
        )
        # 1e-6 keeps 0.1 * 3 from costing one millionth more than 0.3.
        return math.ceil(tokens + self.request * 1_000_000 - 1e-6)


class PriceTable:
    """Prices by model, or by `agent:NAME`; `*` is for all that are not named."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = prices
        self._any = prices.get(ANY_MODEL, Price())

    def of(self, model: str) -> Price:
        """The price of a model; nothing is free of `*`, everything is without it."""
        return self._prices.get(model, self._any)

    def spend(self, model: str, usage: Usage) -> Spend:
        """What this usage of a model costs."""
        return Spend(usage.prompt_tokens + usage.completion_tokens, self.of(model).micros(usage))
