"""Shadow traffic: a share of the requests goes to a second model too; its answers are compared and never told."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import replace

import structlog
from errand_common.errors import ErrandError

from errand_inference.domain.generation import Generation, GenerationRequest, GenerationResult
from errand_inference.domain.scheduler import Priority
from errand_inference.metrics import SHADOWED
from errand_inference.registry import ModelRegistry, ServedModel

# Callers must not wait for a shadow: beyond these it gets none.
_MOST_AT_ONCE = 4
_LONGEST_SECONDS = 120.0
_log = structlog.get_logger(__name__)


class Shadows:
    """Runs the shadows' requests behind everyone else's."""

    def __init__(self, models: ModelRegistry, generation: Generation) -> None:
        self._models, self._generation = models, generation
        self._running: set[asyncio.Task[None]] = set()
        self._random = random.Random()  # noqa: S311 - draws a share

    def follow(self, model: ServedModel, request: GenerationRequest, result: GenerationResult) -> None:
        """Sends an answered request to the model's shadow, if it has one and its share is not used up."""
        found = self._models.shadow(model)
        if found is None or self._random.random() >= found[1]:
            return
        if len(self._running) >= _MOST_AT_ONCE:
            SHADOWED.labels(found[0].name, "skipped").inc()
            return
        task = asyncio.create_task(self._compare(found[0], request, result))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _compare(self, shadow: ServedModel, request: GenerationRequest, told: GenerationResult) -> None:
        again = replace(request, priority=Priority.BATCH, deadline_seconds=_LONGEST_SECONDS, streamed=False)
        try:
            outcome = "failed"
            async with aclosing(self._generation.stream(again, shadow.dispatcher)) as events:
                async for event in events:
                    if isinstance(event, GenerationResult):
                        is_same = (event.calls, event.text) == (told.calls, told.text)
                        outcome = "same" if is_same else "different"
        except ErrandError as error:
            _log.warning("shadow failed", model=shadow.name, reason=error.reason.value)
        SHADOWED.labels(shadow.name, outcome).inc()

    async def close(self) -> None:
        """Ends what runs."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
