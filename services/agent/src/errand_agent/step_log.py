"""Keeps what a step gave in DBOS's log of steps, where DBOS finds it in a replay or a fork."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from dbos import DBOS, StepReservation
from dbos._dbos import _get_dbos_instance
from dbos._serialization import serialize_value

# A step's place among those of its run, its name, and what it gave.
DoneStep = tuple[StepReservation, str, dict[str, Any]]


async def keep(steps: Sequence[DoneStep]) -> None:
    """As `run_async` of their places does with steps that are done already, but without looking whether they are there.

    DBOS looks first, which is half of a step's round trips; of a run that is executed for the first time nothing can
    be there. It refuses a run that another replica has taken over. Raises what DBOS raises.
    """
    await asyncio.to_thread(_keep_all, steps)


def _keep_all(steps: Sequence[DoneStep]) -> None:
    for step in steps:
        _keep(*step)


def _keep(place: StepReservation, name: str, result: dict[str, Any]) -> None:
    dbos = _get_dbos_instance()
    output, serialization = serialize_value(result, None, dbos._serializer)
    dbos._sys_db.record_operation_result(
        {
            "workflow_uuid": str(DBOS.workflow_id),
            "function_id": place.step_id,
            "function_name": name,
            "output": output,
            "error": None,
            "serialization": serialization,
            "started_at_epoch_ms": int(1000 * time.time()),
            "child_workflow_id": None,
        }
    )
