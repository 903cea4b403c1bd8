"""Workflows over real gRPC: saved, refused, run over agents, through a crash."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from errand.agent.v1 import agent_pb2, agent_pb2_grpc, workflows_pb2_grpc
from errand.agent.v1 import workflows_pb2 as pb
from errand_agent.testing.backend import FakeBackend, fake_backend
from errand_agent.testing.process import AgentProcess, as_somebody, until_observed
from errand_common.errors import Conflict, InvalidArgument, NotFound
from errand_common.principal import Principal
from errand_common.rpc.client import create_channel, translate_errors
from errand_common.testing.keys import TestKeys

Stub = workflows_pb2_grpc.WorkflowServiceStub


@pytest_asyncio.fixture(loop_scope="session")
async def flows(agent_target: str) -> AsyncIterator[Stub]:
    async with create_channel(agent_target) as channel:
        yield Stub(channel)


def _node(id: str, message: str, *needs: str, agent: str = "") -> pb.WorkflowNode:
    return pb.WorkflowNode(id=id, needs=needs, agent=pb.AgentNode(agent=agent, message=message))


def _flow(*nodes: pb.WorkflowNode, name: str = "report", **more: Any) -> pb.Workflow:
    return pb.Workflow(**{"name": name, "nodes": nodes, "max_tokens": 10_000, "max_seconds": 60, **more})


async def _saved(flows: Stub, workflow: pb.Workflow) -> pb.Workflow:
    stored: pb.Workflow = (await flows.PutWorkflow(pb.PutWorkflowRequest(workflow=workflow))).workflow
    return stored


async def _ended(flows: Stub, run_id: str) -> pb.WorkflowRun:
    async with asyncio.timeout(60):
        while True:
            run: pb.WorkflowRun = (await flows.GetWorkflowRun(pb.GetWorkflowRunRequest(id=run_id))).run
            if run.state != pb.WORKFLOW_STATE_RUNNING:
                return run
            await asyncio.sleep(0.05)


async def _run(flows: Stub, name: str, given: str) -> pb.WorkflowRun:
    run: pb.WorkflowRun = (await flows.RunWorkflow(pb.RunWorkflowRequest(name=name, input=given))).run
    return run


async def test_agents_run_one_after_another_and_each_is_a_run(
    flows: Stub, stub: agent_pb2_grpc.AgentServiceStub, caller: Principal
) -> None:
    flow = _flow(_node("research", "calculate {{ input }}"), _node("writing", "say {{ research }}", "research"))
    stored = await _saved(flows, flow)
    assert (list(stored.nodes), stored.version > 0) == (list(flow.nodes), True)
    ended = await _ended(flows, (await _run(flows, "report", "tea")).id)
    assert (ended.state, ended.output) == (pb.WORKFLOW_STATE_COMPLETED, "The result is 42.")
    assert [node.id for node in ended.nodes] == ["research", "writing"]
    assert ended.usage.prompt_tokens == 30
    child = (await stub.GetRun(agent_pb2.GetRunRequest(id=ended.nodes[1].run_ids[0]))).run
    assert child.message == "say The result is 42."
    listed = await stub.ListConversations(agent_pb2.ListConversationsRequest())
    assert child.conversation_id not in [found.id for found in listed.conversations]


async def test_a_run_tells_what_its_agents_wait_for(
    flows: Stub, stub: agent_pb2_grpc.AgentServiceStub, caller: Principal
) -> None:
    await _saved(flows, _flow(_node("get", "fetch {{ input }}"), name="asking"))
    run = await _run(flows, "asking", "it")
    async with asyncio.timeout(60):
        while not (found := (await flows.GetWorkflowRun(pb.GetWorkflowRunRequest(id=run.id))).run).approvals:  # noqa: ASYNC110 - the service is another process
            await asyncio.sleep(0.02)
    [approval] = found.approvals
    assert (found.state, approval.state) == (pb.WORKFLOW_STATE_RUNNING, agent_pb2.APPROVAL_STATE_PENDING)
    await stub.ApproveCall(agent_pb2.ApproveCallRequest(approval_id=approval.id))
    ended = await _ended(flows, run.id)
    assert (ended.state, list(ended.approvals)) == (pb.WORKFLOW_STATE_COMPLETED, [])
    assert ended.nodes[0].run_ids == [approval.run_id]


async def test_versions_and_their_conflicts(flows: Stub, caller: Principal) -> None:
    flow = _flow(_node("a", "hello"), name="versions")
    assert [(await _saved(flows, flow)).version for _ in range(2)] == [1, 2]
    with pytest.raises(Conflict, match="2 is in force"), translate_errors("agent"):
        await flows.PutWorkflow(pb.PutWorkflowRequest(workflow=flow, expected_version=1))
    assert "versions" in [found.name for found in (await flows.ListWorkflows(pb.ListWorkflowsRequest())).workflows]
    await flows.DeleteWorkflow(pb.DeleteWorkflowRequest(name="versions"))
    with pytest.raises(NotFound), translate_errors("agent"):
        await flows.GetWorkflow(pb.GetWorkflowRequest(name="versions"))
    assert (await _saved(flows, flow)).version == 4


@pytest.mark.parametrize(
    ("flow", "field"),
    [
        (_flow(_node("a", "x", "b"), _node("b", "x", "a")), "workflow.nodes"),
        (_flow(_node("a", "x", agent="nobody")), "workflow.nodes"),
        (_flow(_node("a", "{{ nothing }}")), "workflow.nodes[0].agent.message"),
        (_flow(_node("a", "x"), max_tokens=0), "workflow.max_tokens"),
        (_flow(_node("a", "x"), max_seconds=0), "workflow.max_seconds"),
        (_flow(), "workflow.nodes"),
        (_flow(_node("Bad Id", "x")), "workflow.nodes.id"),
        (_flow(pb.WorkflowNode(id="a")), "workflow.nodes.kind"),
        (_flow(_node("a", "x"), name="bad name"), "workflow.name"),
    ],
)
async def test_what_could_not_run_is_refused_and_not_saved(
    flows: Stub, keys: TestKeys, flow: pb.Workflow, field: str
) -> None:
    with as_somebody(keys, "refused", "user-1"):
        with pytest.raises(InvalidArgument) as refused, translate_errors("agent"):
            await _saved(flows, flow)
        assert refused.value.metadata["field"] == field
        assert not (await flows.ListWorkflows(pb.ListWorkflowsRequest())).workflows


async def test_a_cancelled_run_cancels_its_agents(
    flows: Stub, stub: agent_pb2_grpc.AgentServiceStub, caller: Principal, backend: FakeBackend
) -> None:
    await _saved(flows, _flow(_node("a", "wait for {{ input }}"), name="slow"))
    backend.inference.waiting.clear()
    run = await _run(flows, "slow", "it")
    await asyncio.wait_for(backend.inference.waiting.wait(), 30)
    await flows.CancelWorkflowRun(pb.CancelWorkflowRunRequest(id=run.id))
    ended = await _ended(flows, run.id)
    assert ended.state == pb.WORKFLOW_STATE_CANCELLED
    waiting = await stub.ListRuns(agent_pb2.ListRunsRequest(state=agent_pb2.RUN_STATE_RUNNING))
    assert not [found for found in waiting.runs if found.message == "wait for it"]


async def test_nobody_else_sees_a_run(flows: Stub, caller: Principal, keys: TestKeys) -> None:
    await _saved(flows, _flow(_node("a", "hello"), name="mine"))
    run = await _run(flows, "mine", "x")
    await _ended(flows, run.id)
    for tenant, person in (("other", "user-1"), ("default", "user-2")):
        with as_somebody(keys, tenant, person):
            for call in (
                flows.GetWorkflowRun(pb.GetWorkflowRunRequest(id=run.id)),
                flows.CancelWorkflowRun(pb.CancelWorkflowRunRequest(id=run.id)),
            ):
                with pytest.raises(NotFound), translate_errors("agent"):
                    await call
            assert not (await flows.ListWorkflowRuns(pb.ListWorkflowRunsRequest(workflow="mine"))).runs
    with as_somebody(keys, "other", "user-1"), pytest.raises(NotFound), translate_errors("agent"):
        await _run(flows, "mine", "x")
    listed = await flows.ListWorkflowRuns(pb.ListWorkflowRunsRequest(workflow="mine"))
    assert [found.id for found in listed.runs] == [run.id]


async def test_a_run_goes_on_after_a_crash(tmp_path: Path, keys: TestKeys) -> None:
    async with fake_backend(keys) as backend:
        process = AgentProcess(tmp_path, keys, backend.target)
        await process.start()
        with as_somebody(keys, "default", "user-1"):
            async with create_channel(process.target) as channel:
                flows = Stub(channel)
                both = _flow(_node("first", "calculate {{ input }}"), _node("second", "calculate and hold", "first"))
                await _saved(flows, both)
                run = await _run(flows, "report", "tea")
                await asyncio.wait_for(backend.inference.waiting.wait(), 30)
                agents = agent_pb2_grpc.AgentServiceStub(channel)
                going_on = await agents.ListRuns(agent_pb2.ListRunsRequest(state=agent_pb2.RUN_STATE_RUNNING))
                await until_observed(agents, going_on.runs[0].id)
            process.end(signal.SIGKILL)
            backend.inference.release.set()
            await process.start()
            async with create_channel(process.target) as channel:
                # Connections to one address are shared, and may still rest from the refusals of before.
                await channel.channel_ready()
                ended = await _ended(Stub(channel), run.id)
        process.end()
    assert (ended.state, ended.output) == (pb.WORKFLOW_STATE_COMPLETED, "The result is 42.")
    assert sorted(backend.tools.asked.values()) == [1, 1], "each agent's tool ran once"
