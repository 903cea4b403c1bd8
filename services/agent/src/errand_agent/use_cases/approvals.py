"""Deciding on calls that wait for a person."""

from __future__ import annotations

from collections.abc import Sequence

from errand_common.db import Database, utc_now
from errand_common.errors import Conflict, NotFound, PermissionDenied
from errand_common.principal import current_principal

from errand_agent.domain.approvals import Approval, ApprovalState, check_arguments
from errand_agent.domain.runs import RunState
from errand_agent.journal import Bell
from errand_agent.storage.approvals import ApprovalRepository, to_approval
from errand_agent.storage.models import ApprovalRow
from errand_agent.storage.runs import RunRepository
from errand_agent.use_cases.access import page_size, visible_owner


class ApprovalUseCases:
    """Approvals of the caller's tenant."""

    def __init__(self, database: Database, bell: Bell) -> None:
        self._database, self._bell = database, bell

    async def page(
        self, *, run_id: str, state: ApprovalState | None, size: int, token: str
    ) -> tuple[Sequence[Approval], str]:
        """Newest first: those of the caller's runs, for an admin those of all."""
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id, read_only=True) as session:
            rows, more = await ApprovalRepository(session).page(
                principal.tenant_id,
                visible_owner(principal),
                run_id=run_id,
                state=state,
                size=page_size(size),
                token=token,
            )
            return [to_approval(row) for row in rows], more

    async def approve(self, approval_id: str, *, edited_arguments_json: str, reason: str) -> Approval:
        """Lets the call run. Raises InvalidArgument, NotFound, PermissionDenied, Conflict."""
        if edited_arguments_json:
            check_arguments(edited_arguments_json)
        return await self._decide(approval_id, ApprovalState.APPROVED, reason, edited_arguments_json)

    async def refuse(self, approval_id: str, *, reason: str) -> Approval:
        """Tells the model that the call may not run. Raises NotFound, PermissionDenied, Conflict."""
        return await self._decide(approval_id, ApprovalState.REFUSED, reason, "")

    async def _decide(self, approval_id: str, state: ApprovalState, reason: str, edited: str) -> Approval:
        principal = current_principal()
        async with self._database.transaction(principal.tenant_id) as session:
            approvals = ApprovalRepository(session)
            row = await approvals.row(principal.tenant_id, approval_id)
            if row is None:
                raise NotFound("approval", approval_id)
            await self._check_may_decide(RunRepository(session), row)
            if (row.state, row.reason, row.edited_arguments_json) != (state.value, reason, edited):
                _check_open(row)
                approvals.decide(row, state, utc_now(), by=principal.id, reason=reason, edited_arguments_json=edited)
            decided = to_approval(row)
        self._bell.ring(decided.run_id)
        return decided

    async def _check_may_decide(self, runs: RunRepository, row: ApprovalRow) -> None:
        principal = current_principal()
        run = await runs.row(principal.tenant_id, row.run_id)
        owner = visible_owner(principal)
        if run is None or (owner is not None and run.principal_id != owner):
            raise PermissionDenied("approval_id: only the person the run works for, or an admin, may decide on it.")
        if run.state == RunState.ENDED.value and row.state == ApprovalState.PENDING.value:
            raise Conflict("The run has ended; there is nothing left to decide.", resource="run", id=run.id)


def _check_open(row: ApprovalRow) -> None:
    if row.state != ApprovalState.PENDING.value:
        raise Conflict(f"The call was decided on already: {row.state.lower()}.", resource="approval", id=row.id)
    if row.expires_at <= utc_now():
        raise Conflict("Nobody decided in time; the run goes on without the call.", resource="approval", id=row.id)
