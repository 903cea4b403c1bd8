"""Runs of workflows."""

from typing import Annotated

from errand_common.principal import Principal
from fastapi import Depends, Query

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import Page
from errand_gateway.domain.workflows import WorkflowRun
from errand_gateway.transport.access import NOT_FOUND, Requires, guarded_router
from errand_gateway.transport.fields import ID_PATTERN, PageDep, ResourceId
from errand_gateway.transport.services import ServicesDep

router = guarded_router(prefix="/api/v1/workflow-runs", tags=["workflows"])

Reader = Annotated[Principal, Depends(Requires(Permission.RUNS_READ))]
Starter = Annotated[Principal, Depends(Requires(Permission.RUNS_CREATE))]


@router.get("", summary="List runs of workflows")
async def list_workflow_runs(
    page: PageDep,
    services: ServicesDep,
    _caller: Reader,
    workflow: Annotated[str, Query(max_length=64, pattern=ID_PATTERN, description="Only of this workflow.")] = "",
) -> Page[WorkflowRun]:
    """The caller's runs, newest first; for an administrator the tenant's."""
    return await services.workflows.list_workflow_runs(page, workflow=workflow)


@router.get("/{workflow_run_id}", summary="Get a run of a workflow", responses=NOT_FOUND)
async def get_workflow_run(workflow_run_id: ResourceId, services: ServicesDep, _caller: Reader) -> WorkflowRun:
    """One run with the results of its nodes."""
    return await services.workflows.get_workflow_run(workflow_run_id)


@router.post("/{workflow_run_id}/cancel", summary="Cancel a run of a workflow", responses=NOT_FOUND)
async def cancel_workflow_run(workflow_run_id: ResourceId, services: ServicesDep, _caller: Starter) -> WorkflowRun:
    """Cancels it and the agents' runs it waits for; one that has ended stays as it is."""
    return await services.workflows.cancel_workflow_run(workflow_run_id)
