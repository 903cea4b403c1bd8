# ruff: noqa: N802 - the methods' names are the protocol's
"""A fake of the agent service's workflows: a run completes at the second look."""

from typing import Any

from errand.agent.v1 import workflows_pb2 as pb
from errand.agent.v1 import workflows_pb2_grpc
from errand.common.v1 import common_pb2
from errand_common.db import new_id, utc_now
from errand_common.errors import Conflict, InvalidArgument, NotFound

from errand_gateway.testing.store import TenantStore, paged


class FakeWorkflows(workflows_pb2_grpc.WorkflowServiceServicer):
    """Keeps workflows in memory; a need that is no node is refused, as by the real service."""

    def __init__(self) -> None:
        self._workflows: TenantStore[pb.Workflow] = TenantStore("workflow")
        self._runs: TenantStore[pb.WorkflowRun] = TenantStore("workflow run")

    async def PutWorkflow(self, request: pb.PutWorkflowRequest, context: Any) -> pb.PutWorkflowResponse:
        """A new version."""
        row = pb.Workflow()
        row.CopyFrom(request.workflow)
        known = {node.id for node in row.nodes}
        if any(set(node.needs) - known for node in row.nodes):
            raise InvalidArgument("workflow.nodes: a need is no node.", field="workflow.nodes")
        try:
            version = self._workflows.get(row.name).version
        except NotFound:
            version = 0
        if request.expected_version not in (0, version):
            raise Conflict(f"version: {version} is in force", resource="workflow", id=row.name)
        row.version = version + 1
        return pb.PutWorkflowResponse(workflow=self._workflows.put(row.name, row))

    async def GetWorkflow(self, request: pb.GetWorkflowRequest, context: Any) -> pb.GetWorkflowResponse:
        """One workflow."""
        return pb.GetWorkflowResponse(workflow=self._workflows.get(request.name))

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, context: Any) -> pb.ListWorkflowsResponse:
        """By name."""
        by_name = {row.name: row for row in self._workflows.all()}
        return pb.ListWorkflowsResponse(workflows=[by_name[name] for name in sorted(by_name)])

    async def DeleteWorkflow(self, request: pb.DeleteWorkflowRequest, context: Any) -> pb.DeleteWorkflowResponse:
        """Removes it."""
        self._workflows.pop(request.name)
        return pb.DeleteWorkflowResponse()

    async def RunWorkflow(self, request: pb.RunWorkflowRequest, context: Any) -> pb.RunWorkflowResponse:
        """A run that goes on."""
        workflow = self._workflows.get(request.name)
        run = pb.WorkflowRun(
            id=new_id("wrun"),
            workflow=workflow.name,
            version=workflow.version,
            input=request.input,
            state=pb.WORKFLOW_STATE_RUNNING,
        )
        run.created_at.FromDatetime(utc_now())
        return pb.RunWorkflowResponse(run=self._runs.add(run.id, run))

    async def GetWorkflowRun(self, request: pb.GetWorkflowRunRequest, context: Any) -> pb.GetWorkflowRunResponse:
        """Ends a run that goes on: it used 30 tokens."""
        run = self._runs.get(request.id)
        if run.state == pb.WORKFLOW_STATE_RUNNING:
            run.state, run.output = pb.WORKFLOW_STATE_COMPLETED, f"Report on {run.input}"
            run.nodes.add(id="writing", state=pb.NODE_STATE_DONE, output=run.output, run_ids=["run_1"])
            run.usage.CopyFrom(common_pb2.TokenUsage(prompt_tokens=20, completion_tokens=10))
            run.ended_at.FromDatetime(utc_now())
        return pb.GetWorkflowRunResponse(run=run)

    async def ListWorkflowRuns(self, request: pb.ListWorkflowRunsRequest, context: Any) -> pb.ListWorkflowRunsResponse:
        """Newest first."""
        found = [run for run in reversed(self._runs.all()) if request.workflow in ("", run.workflow)]
        rows, token = paged(found, request.page)
        return pb.ListWorkflowRunsResponse(runs=rows, next_page_token=token)

    async def CancelWorkflowRun(
        self, request: pb.CancelWorkflowRunRequest, context: Any
    ) -> pb.CancelWorkflowRunResponse:
        """Cancels a run that goes on."""
        run = self._runs.get(request.id)
        if run.state == pb.WORKFLOW_STATE_RUNNING:
            run.state = pb.WORKFLOW_STATE_CANCELLED
        return pb.CancelWorkflowRunResponse(run=run)
