"""Looking into the effect ledger, and settling what only a person can know."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from errand_common.errors import Conflict, InvalidArgument, NotFound
from errand_common.principal import Principal

from errand_tools.domain.access import require_editor
from errand_tools.domain.effects import Effect, EffectFilter, cursor_of
from errand_tools.domain.ports import EffectStore, Page
from errand_tools.domain.sanitise import to_result
from errand_tools.domain.tools import ExecutionStatus, Outcome


@dataclass(frozen=True, slots=True)
class EffectPage:
    """A page of effects and the cursor of the next one, empty on the last."""

    effects: list[Effect]
    next_cursor: str


class EffectBook:
    """The ledger as people see it."""

    def __init__(self, store: EffectStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def list_page(self, tenant_id: str, page: Page, only: EffectFilter) -> EffectPage:
        """The tenant's effects, newest first."""
        found = await self._store.list(tenant_id, Page(page.size + 1, page.after), only)
        shown = found[: page.size]
        more = len(found) > page.size
        return EffectPage(shown, cursor_of(shown[-1]) if more and shown else "")

    async def settle(self, principal: Principal, effect_id: str, result_json: str) -> Effect:
        """Stores what a person found out as the effect's result.

        Raises PermissionDenied, InvalidArgument for what is no JSON, NotFound, and Conflict when
        the effect is not unsettled.
        """
        require_editor(principal)
        try:
            value = json.loads(result_json)
        except (ValueError, RecursionError):
            raise InvalidArgument(
                'result_json is not JSON; give the result the run shall see, such as {"status": "sent"}',
                field="result_json",
                rule="json",
            ) from None
        text, truncated = to_result(value)
        outcome = Outcome(ExecutionStatus.SUCCEEDED, text, truncated=truncated, effect_id=effect_id)
        settled = await self._store.settle(principal.tenant_id, effect_id, outcome, self._clock())
        return settled or await self._refuse(principal.tenant_id, effect_id)

    async def _refuse(self, tenant_id: str, effect_id: str) -> Effect:
        effect = await self._store.get(tenant_id, effect_id)
        if effect is None:
            raise NotFound("effect", effect_id)
        raise Conflict(
            f"the effect is {effect.state}; only unsettled effects can be settled",
            resource="effect",
            id=effect_id,
        )
