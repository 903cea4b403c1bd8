"""Keeps what steps gave in DBOS's log of steps, where DBOS finds it in a replay or a fork."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, StepReservation
from dbos._context import current_owner_xid
from dbos._dbos import _get_dbos_instance
from dbos._error import DBOSStepNondeterminismError, DBOSWorkflowConflictIDError
from dbos._serialization import serialize_value
from dbos._sys_db import SystemDatabase, db_retry

# A step's place among those of its run, its name, and what it gave.
DoneStep = tuple[StepReservation, str, dict[str, Any]]


async def keep(steps: Sequence[DoneStep]) -> None:
    """As `run_async` of their places does with steps that are done already, but all in one transaction.

    DBOS looks first whether a step is there, which is half of its round trips, and builds its statement anew for each;
    of a run that is executed for the first time nothing can be there. It refuses a run that another replica has taken
    over. Raises what DBOS raises.
    """
    await asyncio.to_thread(_keep, steps)


def _keep(steps: Sequence[DoneStep]) -> None:
    dbos = _get_dbos_instance()
    system, run_id = dbos._sys_db, str(DBOS.workflow_id)
    owner = current_owner_xid(run_id)
    if owner is None:
        raise DBOSWorkflowConflictIDError(run_id)
    # The same in each attempt: a row with another time is not this attempt's.
    now = int(1000 * time.time())
    rows = [_row(system, run_id, *step, now) for step in steps]

    @db_retry(sys_db=system)
    def store() -> None:
        with system.engine.begin() as connection:
            system._check_owner_txn(connection, run_id, owner)
            for row in rows:
                kept = system._execute_prepared(connection, "keep_step", row, lambda: _insert(system)).scalar()
                if kept != now:
                    raise DBOSStepNondeterminismError(run_id, row["function_id"])

    store()


def _row(
    system: SystemDatabase, run_id: str, place: StepReservation, name: str, result: dict[str, Any], now: int
) -> dict[str, Any]:
    output, serialization = serialize_value(result, None, system.serializer)
    return {
        "workflow_uuid": run_id,
        "function_id": place.step_id,
        "function_name": name,
        "started_at_epoch_ms": now,
        "completed_at_epoch_ms": now,
        "output": output,
        "error": None,
        "child_workflow_id": None,
        "serialization": serialization,
        "application_name": system.app_name,
        "retention_timestamp": now,
    }


def _insert(system: SystemDatabase) -> sa.Executable:
    """Gives the time of the row that is there: an older one's, if there was one."""
    table = system.tables.operation_outputs
    is_there: sa.Executable = (
        system.dialect.insert(table)
        .on_conflict_do_update(
            index_elements=["workflow_uuid", "function_id"],
            set_={"completed_at_epoch_ms": table.c.completed_at_epoch_ms},
        )
        .returning(table.c.completed_at_epoch_ms)
    )
    return is_there
