"""Consent, and the export of runs as training data."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from errand_common.db import Database
from errand_common.errors import InvalidArgument, PermissionDenied
from errand_common.principal import current_principal
from errand_common.telemetry.metrics import counter

from errand_agent.domain.examples import AnsweredRun, line_of
from errand_agent.storage.examples import ExampleFilter, ExampleRepository
from errand_agent.use_cases.access import visible_owner

EXPORTED = counter("agent_examples_exported_total", "Runs exported as training data")
_DEFAULT_LIMIT = 10_000
_BATCH = 100


class ExampleUseCases:
    """Examples of the caller's tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
        left, after = limit or _DEFAULT_LIMIT, ""
        while left:
            async with self._database.transaction(principal.tenant_id, read_only=True) as session:
                found = await ExampleRepository(session).answered(principal.tenant_id, wanted, after, _BATCH)
            for run in found:
                if left and _is_wanted(run, approved_only, with_calls_only):
                    left -= 1
                    EXPORTED.inc()
                    yield line_of(run)
            if len(found) < _BATCH:
                return
            after = found[-1].run_id


def _is_wanted(run: AnsweredRun, approved_only: bool, with_calls_only: bool) -> bool:
    return (run.is_approved or not approved_only) and (run.has_calls or not with_calls_only)
