"""Consent, and the export of runs as training data."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

from errand_common.db import Database
from errand_common.errors import InvalidArgument, PermissionDenied
from errand_common.principal import current_principal
from errand_common.telemetry.metrics import counter

from errand_agent.domain.examples import AnsweredRun, Dataset, DigestedLines, line_of
from errand_agent.storage.examples import ExampleFilter, ExampleRepository
from errand_agent.use_cases.access import visible_owner

EXPORTED = counter("agent_examples_exported_total", "Runs exported as training data")
_DEFAULT_LIMIT = 10_000
_BATCH = 100


class ExampleUseCases:
    """Examples of the caller's tenant."""

    def __init__(self, database: Database, log: Callable[[Dataset], Awaitable[None]]) -> None:
        """`log` is told of each export that was read to its end."""
        self._database, self._log = database, log

    async def set_consent(self, *, training: bool) -> None:
        """Of the calling person; taking it back ends the export of earlier runs too."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            await ExampleRepository(session).set_consent(principal, training)

    async def consent(self) -> bool:
        """Of the calling person."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            return await ExampleRepository(session).consent(principal)

    async def export(
        self, wanted: ExampleFilter, *, approved_only: bool, with_calls_only: bool, limit: int
    ) -> AsyncGenerator[str, None]:
        """A line for each run. Raises PermissionDenied, InvalidArgument."""
        principal = current_principal()
        if visible_owner(principal) is not None:
            raise PermissionDenied("Only an admin may export examples.", permission="examples")
        if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
            raise InvalidArgument("until: name a moment after since.", field="until")
        left, after, lines = limit or _DEFAULT_LIMIT, "", DigestedLines()
        while left:
            async with self._database.transaction(principal.tenant_id, read_only=True) as session:
                found = await ExampleRepository(session).answered(principal.tenant_id, wanted, after, _BATCH)
            for run in found:
                if left and _is_wanted(run, approved_only, with_calls_only):
                    left -= 1
                    EXPORTED.inc()
                    yield lines.add(line_of(run))
            if len(found) < _BATCH:
                break
            after = found[-1].run_id
        asked = _asked(wanted, approved_only=approved_only, with_calls_only=with_calls_only, limit=limit)
        name = f"{principal.tenant_id}.{wanted.agent or 'examples'}"
        await self._log(Dataset(name, lines.digest, lines.count, asked))


def _is_wanted(run: AnsweredRun, approved_only: bool, with_calls_only: bool) -> bool:
    return (run.is_approved or not approved_only) and (run.has_calls or not with_calls_only)


def _asked(
    wanted: ExampleFilter, *, approved_only: bool, with_calls_only: bool, limit: int
) -> dict[str, str | int | bool]:
    moments = {"since": wanted.since, "until": wanted.until}
    return {
        "agent": wanted.agent,
        **{name: at.isoformat() for name, at in moments.items() if at is not None},
        "approved_only": approved_only,
        "with_calls_only": with_calls_only,
        "limit": limit or _DEFAULT_LIMIT,
    }


async def log_nowhere(_: Dataset) -> None:
    """Where no MLflow is."""
