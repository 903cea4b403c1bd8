"""WorkflowService over gRPC: converts, calls one use case, converts back."""

# ruff: noqa: N802 - gRPC names its methods as the contract does

from __future__ import annotations

from typing import Any

from errand.agent.v1 import workflows_pb2 as pb
from errand.agent.v1 import workflows_pb2_grpc

from errand_agent.domain.workflows import (
    AgentWork,
    Condition,
    JoinWork,
    LoopWork,
    MapWork,
    Node,
    Work,
    Workflow,
    WorkflowRun,
)
from errand_agent.transport.convert import approval_message, timestamp, usage_message
from errand_agent.use_cases.workflows import WorkflowUseCases


class WorkflowServicer(workflows_pb2_grpc.WorkflowServiceServicer):
    """Serves workflows."""

    def __init__(self, workflows: WorkflowUseCases) -> None:
        self._workflows = workflows

    async def PutWorkflow(self, request: pb.PutWorkflowRequest, context: Any) -> pb.PutWorkflowResponse:
        """A new version."""
        stored = await self._workflows.put(_definition(request.workflow), request.expected_version)
        return pb.PutWorkflowResponse(workflow=_workflow(stored))

    async def GetWorkflow(self, request: pb.GetWorkflowRequest, context: Any) -> pb.GetWorkflowResponse:
        """One workflow."""
        return pb.GetWorkflowResponse(workflow=_workflow(await self._workflows.get(request.name)))

    async def ListWorkflows(self, request: pb.ListWorkflowsRequest, context: Any) -> pb.ListWorkflowsResponse:
        """By name."""
        return pb.ListWorkflowsResponse(workflows=[_workflow(found) for found in await self._workflows.all()])

    async def DeleteWorkflow(self, request: pb.DeleteWorkflowRequest, context: Any) -> pb.DeleteWorkflowResponse:
        """Removes a workflow."""
        await self._workflows.delete(request.name)
        return pb.DeleteWorkflowResponse()

    async def RunWorkflow(self, request: pb.RunWorkflowRequest, context: Any) -> pb.RunWorkflowResponse:
        """In the background."""
        return pb.RunWorkflowResponse(run=_run(await self._workflows.start(request.name, request.input)))

    async def GetWorkflowRun(self, request: pb.GetWorkflowRunRequest, context: Any) -> pb.GetWorkflowRunResponse:
        """One run."""
        return pb.GetWorkflowRunResponse(run=_run(await self._workflows.run(request.id)))

    async def ListWorkflowRuns(self, request: pb.ListWorkflowRunsRequest, context: Any) -> pb.ListWorkflowRunsResponse:
        """Newest first."""
        found, more = await self._workflows.page(
            workflow=request.workflow, size=request.page.page_size, token=request.page.page_token
        )
        return pb.ListWorkflowRunsResponse(runs=[_run(run) for run in found], next_page_token=more)

    async def CancelWorkflowRun(
        self, request: pb.CancelWorkflowRunRequest, context: Any
    ) -> pb.CancelWorkflowRunResponse:
        """Asks it to end."""
        return pb.CancelWorkflowRunResponse(run=_run(await self._workflows.cancel(request.id)))


def _definition(message: pb.Workflow) -> Workflow:
    return Workflow(
        name=message.name,
        nodes=tuple(_node(node) for node in message.nodes),
        max_tokens=message.max_tokens,
        max_seconds=message.max_seconds,
        description=message.description,
    )


def _node(message: pb.WorkflowNode) -> Node:
    when = message.when
    condition = Condition(when.node, when.contains, when.negate) if message.HasField("when") else None
    return Node(message.id, _work(message), tuple(message.needs), condition)


def _work(message: pb.WorkflowNode) -> Work:
    match message.WhichOneof("kind"):
        case "agent":
            return AgentWork(message.agent.agent, message.agent.message)
        case "map":
            each = message.map.each
            return MapWork(each.agent, each.message, message.map.items_from, message.map.max_items)
        case "loop":
            loop = message.loop
            return LoopWork(loop.body.agent, loop.body.message, loop.until_contains, loop.max_rounds)
        case _:
            return JoinWork(message.join.output)


def _workflow(workflow: Workflow) -> pb.Workflow:
    return pb.Workflow(
        name=workflow.name,
        description=workflow.description,
        nodes=[_node_message(node) for node in workflow.nodes],
        max_tokens=workflow.max_tokens,
        max_seconds=workflow.max_seconds,
        version=workflow.version,
    )


def _node_message(node: Node) -> pb.WorkflowNode:
    message = pb.WorkflowNode(id=node.id, needs=node.needs)
    if node.when is not None:
        message.when.CopyFrom(pb.Condition(node=node.when.node, contains=node.when.contains, negate=node.when.negate))
    match node.work:
        case AgentWork(agent, text):
            message.agent.CopyFrom(pb.AgentNode(agent=agent, message=text))
        case MapWork(agent, text, items_from, max_items):
            each = pb.AgentNode(agent=agent, message=text)
            message.map.CopyFrom(pb.MapNode(each=each, items_from=items_from, max_items=max_items))
        case LoopWork(agent, text, until, rounds):
            body = pb.AgentNode(agent=agent, message=text)
            message.loop.CopyFrom(pb.LoopNode(body=body, until_contains=until, max_rounds=rounds))
        case JoinWork(output):
            message.join.CopyFrom(pb.JoinNode(output=output))
    return message


def _run(run: WorkflowRun) -> pb.WorkflowRun:
    nodes = [
        pb.NodeResult(id=node.id, state=f"NODE_STATE_{node.state.value}", output=node.output, run_ids=node.run_ids)
        for node in run.nodes
    ]
    return pb.WorkflowRun(
        id=run.id,
        workflow=run.workflow.name,
        version=run.workflow.version,
        input=run.input,
        state=f"WORKFLOW_STATE_{run.state.value}",
        output=run.output,
        error=run.error,
        nodes=nodes,
        usage=usage_message(run.usage),
        created_at=timestamp(run.created_at),
        ended_at=timestamp(run.ended_at) if run.ended_at else None,
        approvals=[approval_message(approval) for approval in run.approvals],
    )
