"""Workflows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import grpc.aio
from errand.agent.v1 import workflows_pb2 as pb
from errand.agent.v1.workflows_pb2_grpc import WorkflowServiceStub
from errand_common.rpc.client import deadline_seconds, translate_errors

from errand_gateway.clients import conversion as convert
from errand_gateway.clients.agent.client import DEPENDENCY
from errand_gateway.domain import workflows as w
from errand_gateway.domain.resources import Page, PageQuery

if TYPE_CHECKING:
    from errand.agent.v1.workflows_pb2_grpc import WorkflowServiceAsyncStub


class GrpcWorkflowBackend:
    """WorkflowBackend on a channel; `call_seconds` bounds each call."""

    def __init__(self, channel: grpc.aio.Channel, *, call_seconds: float = 10.0) -> None:
        self._stub: WorkflowServiceAsyncStub = WorkflowServiceStub(channel)
        self._call_seconds = call_seconds

    @property
    def _timeout(self) -> float:
        return deadline_seconds(self._call_seconds)

    async def put_workflow(self, workflow: w.Workflow, *, expected_version: int) -> w.Workflow:
        """Defines or replaces a workflow; 0 replaces any version."""
        request = pb.PutWorkflowRequest(workflow=_message(workflow), expected_version=expected_version)
        with translate_errors(DEPENDENCY):
            response = await self._stub.PutWorkflow(request, timeout=self._timeout)
        return _workflow(response.workflow)

    async def get_workflow(self, name: str) -> w.Workflow:
        """One workflow."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetWorkflow(pb.GetWorkflowRequest(name=name), timeout=self._timeout)
        return _workflow(response.workflow)

    async def list_workflows(self) -> Sequence[w.Workflow]:
        """The workflows by name."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListWorkflows(pb.ListWorkflowsRequest(), timeout=self._timeout)
        return [_workflow(item) for item in response.workflows]

    async def delete_workflow(self, name: str) -> None:
        """Removes a workflow; its runs stay."""
        with translate_errors(DEPENDENCY):
            await self._stub.DeleteWorkflow(pb.DeleteWorkflowRequest(name=name), timeout=self._timeout)

    async def run_workflow(self, name: str, given: str) -> w.WorkflowRun:
        """Starts a run in the background."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.RunWorkflow(
                pb.RunWorkflowRequest(name=name, input=given), timeout=self._timeout
            )
        return _run(response.run)

    async def get_workflow_run(self, run_id: str) -> w.WorkflowRun:
        """One run."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.GetWorkflowRun(pb.GetWorkflowRunRequest(id=run_id), timeout=self._timeout)
        return _run(response.run)

    async def list_workflow_runs(self, page: PageQuery, *, workflow: str) -> Page[w.WorkflowRun]:
        """Runs, newest first."""
        request = pb.ListWorkflowRunsRequest(page=convert.page_request(page), workflow=workflow)
        with translate_errors(DEPENDENCY):
            response = await self._stub.ListWorkflowRuns(request, timeout=self._timeout)
        return Page([_run(item) for item in response.runs], response.next_page_token)

    async def cancel_workflow_run(self, run_id: str) -> w.WorkflowRun:
        """Cancels a run."""
        with translate_errors(DEPENDENCY):
            response = await self._stub.CancelWorkflowRun(pb.CancelWorkflowRunRequest(id=run_id), timeout=self._timeout)
        return _run(response.run)


def _message(workflow: w.Workflow) -> pb.Workflow:
    return pb.Workflow(
        name=workflow.name,
        description=workflow.description,
        nodes=[_node_message(node) for node in workflow.nodes],
        max_tokens=workflow.max_tokens,
        max_seconds=workflow.max_seconds,
    )


def _node_message(node: w.WorkflowNode) -> pb.WorkflowNode:
    message = pb.WorkflowNode(id=node.id, needs=node.needs)
    if (when := node.when) is not None:
        message.when.CopyFrom(pb.Condition(node=when.node, contains=when.contains, negate=when.negate))
    if node.agent is not None:
        message.agent.CopyFrom(_agent_message(node.agent))
    if (each := node.map) is not None:
        message.map.CopyFrom(
            pb.MapNode(each=_agent_message(each.each), items_from=each.items_from, max_items=each.max_items)
        )
    if (loop := node.loop) is not None:
        message.loop.CopyFrom(
            pb.LoopNode(body=_agent_message(loop.body), until_contains=loop.until_contains, max_rounds=loop.max_rounds)
        )
    if node.join is not None:
        message.join.CopyFrom(pb.JoinNode(output=node.join.output))
    return message


def _agent_message(node: w.AgentNode) -> pb.AgentNode:
    return pb.AgentNode(agent=node.agent, message=node.message)


def _workflow(message: pb.Workflow) -> w.Workflow:
    return w.Workflow(
        name=message.name,
        nodes=[_node(node) for node in message.nodes],
        max_tokens=message.max_tokens,
        max_seconds=message.max_seconds,
        description=message.description,
        version=message.version,
    )


def _node(message: pb.WorkflowNode) -> w.WorkflowNode:
    when, kind = message.when, message.WhichOneof("kind")
    each, loop = message.map, message.loop
    return w.WorkflowNode(
        id=message.id,
        needs=list(message.needs),
        when=w.Condition(when.node, when.contains, when.negate) if message.HasField("when") else None,
        agent=_agent_node(message.agent) if kind == "agent" else None,
        map=w.MapNode(_agent_node(each.each), each.items_from, each.max_items) if kind == "map" else None,
        loop=w.LoopNode(_agent_node(loop.body), loop.until_contains, loop.max_rounds) if kind == "loop" else None,
        join=w.JoinNode(message.join.output) if kind == "join" else None,
    )


def _agent_node(message: pb.AgentNode) -> w.AgentNode:
    return w.AgentNode(message.message, message.agent)


def _run(message: pb.WorkflowRun) -> w.WorkflowRun:
    return w.WorkflowRun(
        id=message.id,
        workflow=message.workflow,
        version=message.version,
        input=message.input,
        state=convert.enum_or(
            w.WorkflowState, pb.WorkflowState, message.state, "WORKFLOW_STATE_", w.WorkflowState.RUNNING
        ),
        output=message.output,
        error=message.error,
        nodes=[_result(node) for node in message.nodes],
        usage=convert.usage(message.usage),
        created_at=convert.moment(message, "created_at"),
        ended_at=convert.moment(message, "ended_at"),
    )


def _result(message: pb.NodeResult) -> w.NodeResult:
    state = convert.enum_or(w.NodeState, pb.NodeState, message.state, "NODE_STATE_", w.NodeState.FAILED)
    return w.NodeResult(message.id, state, message.output, list(message.run_ids))
