"""The operator's file of flags, behind OpenFeature: another provider may stand in its place."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import structlog
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from errand_agent.domain.flags import Flag, Rule, rules_of

DOMAIN = "errand-agent"
_LOOK_SECONDS = 5.0
_log = structlog.get_logger(__name__)


class Flags:
    """Flags of this process. With a file they follow it: it is looked at every five seconds."""

    def __init__(self, path: Path | None) -> None:
        """Raises ValueError for a file that cannot be read."""
        self._path = path
        self._changed_at = self._looked_at = 0.0
        self._client = api.get_client(domain=DOMAIN)
        if path is None:
            _provide({})
        else:
            self._load(path)

    def is_on(self, flag: Flag, tenant_id: str) -> bool:
        """Whether a tenant has it; what cannot be told is on."""
        self._follow()
        return self._client.get_boolean_value(flag.value, True, EvaluationContext(targeting_key=tenant_id))

    def _follow(self) -> None:
        if self._path is None or time.monotonic() - self._looked_at < _LOOK_SECONDS:
            return
        try:
            self._load(self._path)
        except ValueError as error:
            _log.error("the flags stay as they were", error=str(error))

    def _load(self, path: Path) -> None:
        self._looked_at = time.monotonic()
        try:
            changed_at = path.stat().st_mtime
            if changed_at == self._changed_at:
                return
            rules = rules_of(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
        self._changed_at = changed_at
        _provide(rules)


def _provide(rules: dict[Flag, Rule]) -> None:
    flags = {flag.value: _in_memory(flag, rules.get(flag, Rule())) for flag in Flag}
    api.set_provider(InMemoryProvider(flags), DOMAIN)


def _in_memory(flag: Flag, rule: Rule) -> InMemoryFlag[bool]:
    def resolve(_flag: InMemoryFlag[bool], context: EvaluationContext) -> FlagResolutionDetails[Any]:
        is_on = rule.is_on(flag.value, context.targeting_key or "")
        return FlagResolutionDetails(is_on, variant="on" if is_on else "off", reason=Reason.TARGETING_MATCH)

    return InMemoryFlag("on", {"on": True, "off": False}, context_evaluator=resolve)
