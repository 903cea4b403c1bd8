"""Flags behind OpenFeature: from the operator's file, or from flagd in the cluster."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import structlog
from openfeature import api
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from errand_agent.domain.flags import Flag, Rule, rules_of

DOMAIN = "errand-agent"
_LOOK_SECONDS = 5.0
# How long the start waits for flagd's first flags.
_FLAGD_MS = 2000
# How soon it is asked again after it went away or sent what cannot be read.
_RETRY_MS = 5000
_log = structlog.get_logger(__name__)


class Flags:
    """Flags of this process. With a file they follow it: it is looked at every five seconds.

    From flagd they are streamed and evaluated here, so that asking waits for nobody; while it is away, they stay as
    they were.
    """

    def __init__(self, path: Path | None, *, flagd_target: str = "", flagd_ca_file: Path | None = None) -> None:
        """`flagd_target` is the host and port of flagd's sync service. Raises ValueError for a file that cannot be
        read."""
        self._path = path
        self._changed_at = self._looked_at = 0.0
        self._client = api.get_client(domain=DOMAIN)
        if flagd_target:
            _provide_from(_flagd(flagd_target, flagd_ca_file))
        elif path is None:
            _provide({})
        else:
            self._load(path)

    def close(self) -> None:
        """Ends what the provider keeps open."""
        api.set_provider_and_wait(InMemoryProvider({}), DOMAIN)

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


def _flagd(target: str, ca_file: Path | None) -> FlagdProvider:
    host, _, port = target.rpartition(":")
    return FlagdProvider(
        host=host,
        port=int(port),
        tls=ca_file is not None,
        cert_path=None if ca_file is None else str(ca_file),
        resolver_type=ResolverType.IN_PROCESS,
        deadline_ms=_FLAGD_MS,
        retry_backoff_max_ms=_RETRY_MS,
        # It keeps the stream open; a deadline would end it every ten minutes.
        stream_deadline_ms=0,
    )


def _provide_from(flagd: FlagdProvider) -> None:
    try:
        api.set_provider_and_wait(flagd, DOMAIN)
    except OpenFeatureError as error:
        _log.warning("flagd does not answer yet; until it does, all flags are on", error=str(error))


def _provide(rules: dict[Flag, Rule]) -> None:
    flags = {flag.value: _in_memory(flag, rules.get(flag, Rule())) for flag in Flag}
    api.set_provider_and_wait(InMemoryProvider(flags), DOMAIN)


def _in_memory(flag: Flag, rule: Rule) -> InMemoryFlag[bool]:
    def resolve(_flag: InMemoryFlag[bool], context: EvaluationContext) -> FlagResolutionDetails[Any]:
        is_on = rule.is_on(flag.value, context.targeting_key or "")
        return FlagResolutionDetails(is_on, variant="on" if is_on else "off", reason=Reason.TARGETING_MATCH)

    return InMemoryFlag("on", {"on": True, "off": False}, context_evaluator=resolve)
