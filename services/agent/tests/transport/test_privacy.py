"""Retention, exports and erasures over real gRPC, down to what the steps remember."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from errand.agent.v1 import agent_pb2, agent_pb2_grpc, privacy_pb2_grpc, schedules_pb2, schedules_pb2_grpc
from errand.agent.v1 import privacy_pb2 as pb
from errand_agent.testing.backend import FakeBackend, fake_backend
from errand_agent.testing.process import AgentProcess, as_somebody
from errand_common.errors import InvalidArgument, NotFound, PermissionDenied
from errand_common.rpc.client import create_channel, translate_errors
from errand_common.testing.keys import TestKeys


@dataclass
class Served:
    """An agent service of the test's own."""

    folder: Path
    target: str
    backend: FakeBackend
    agents: agent_pb2_grpc.AgentServiceStub
    privacy: privacy_pb2_grpc.PrivacyServiceStub
    process: AgentProcess

    async def ask(self, message: str) -> agent_pb2.Run:
        run: agent_pb2.Run = (await self.agents.RunAgent(agent_pb2.RunAgentRequest(message=message))).run
        return run

    def remembered(self, run_id: str) -> int:
        """Steps that DBOS holds of a run."""
        with closing(sqlite3.connect(self.folder / "agent-dbos.db")) as connection:
            query = "SELECT count(*) FROM operation_outputs WHERE workflow_uuid = ?"
            return int(connection.execute(query, [run_id]).fetchone()[0])

    def left(self, tenant_id: str) -> dict[str, int]:
        """Rows of a tenant by table, its timers included."""
        with closing(sqlite3.connect(self.folder / "agent.db", timeout=10)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            counts = {}
            for table in tables:
                columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                for column in columns & {"tenant_id", "tenant"}:
                    query = f"SELECT count(*) FROM {table} WHERE {column} = ?"
                    counts[table] = int(connection.execute(query, [tenant_id]).fetchone()[0])
        return {table: count for table, count in counts.items() if count}

    def execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self.folder / "agent.db", timeout=10)) as connection, connection:
            connection.execute(statement)


@asynccontextmanager
async def served(folder: Path, keys: TestKeys) -> AsyncIterator[Served]:
    async with fake_backend(keys) as backend:
        process = AgentProcess(folder, keys, backend.target)
        await process.start()
        async with create_channel(process.target) as channel:
            stubs = agent_pb2_grpc.AgentServiceStub(channel), privacy_pb2_grpc.PrivacyServiceStub(channel)
            yield Served(folder, process.target, backend, *stubs, process)
        backend.inference.release.set()
        assert process.end() == 0


async def _exported(
    privacy: privacy_pb2_grpc.PrivacyServiceStub, person: str = ""
) -> list[tuple[str, dict[str, object]]]:
    lines = [json.loads(item.line) async for item in privacy.ExportPerson(pb.ExportPersonRequest(principal_id=person))]
    return [(line["table"], line["row"]) for line in lines]


async def test_a_person_is_exported_and_erased_with_runs_that_go_on(tmp_path: Path, keys: TestKeys) -> None:
    async with served(tmp_path, keys) as service:
        with as_somebody(keys, "default", "bob"):
            kept = await service.ask("calculate it")
        with as_somebody(keys, "default", "ann"):
            run = await service.ask("calculate my salary")
            waiting = agent_pb2.RunAgentRequest(message="wait for it")
            await service.agents.StartRun(agent_pb2.StartRunRequest(request=waiting))
            await asyncio.wait_for(service.backend.inference.waiting.wait(), 30)
            rows = await _exported(service.privacy)
            assert {"conversations", "messages", "runs", "run_events"} <= {table for table, _ in rows}
            assert "calculate my salary" in [row.get("text") for table, row in rows if table == "messages"]
            assert kept.id not in json.dumps(rows)
            assert service.remembered(run.id)
            with pytest.raises(PermissionDenied), translate_errors("agent"):
                await _exported(service.privacy, "bob")
        with as_somebody(keys, "default", "the-admin", "admin"):
            assert len(await _exported(service.privacy, "ann")) == len(rows)
            erased = (await service.privacy.ErasePerson(pb.ErasePersonRequest(principal_id="ann"))).erased
            assert (erased["runs"], erased["conversations"]) == (2, 2)
            assert await _exported(service.privacy, "ann") == []
            assert service.remembered(run.id) == 0
            assert (await service.agents.GetRun(agent_pb2.GetRunRequest(id=kept.id))).run.answer == kept.answer
            assert service.remembered(kept.id)


async def test_a_tenant_is_erased_with_runs_that_go_on_and_schedules(tmp_path: Path, keys: TestKeys) -> None:
    async with served(tmp_path, keys) as service, create_channel(service.target) as channel:
        with as_somebody(keys, "other", "bob"):
            kept = await service.ask("calculate it")
        schedules = schedules_pb2_grpc.ScheduleServiceStub(channel)
        with as_somebody(keys, "default", "ann"):
            run = await service.ask("calculate my salary")
            schedule = schedules_pb2.Schedule(name="daily", cron="0 6 * * *", time_zone="UTC", message="hello")
            await schedules.PutSchedule(schedules_pb2.PutScheduleRequest(schedule=schedule))
            waiting = agent_pb2.RunAgentRequest(message="wait for it")
            await service.agents.StartRun(agent_pb2.StartRunRequest(request=waiting))
            await asyncio.wait_for(service.backend.inference.waiting.wait(), 30)
            with pytest.raises(PermissionDenied), translate_errors("agent"):
                await service.privacy.EraseTenant(pb.EraseTenantRequest(tenant_id="default"))
        with as_somebody(keys, "default", "the-operator", "owner"):
            with pytest.raises(InvalidArgument), translate_errors("agent"):
                await service.privacy.EraseTenant(pb.EraseTenantRequest(tenant_id="other"))
            erased = (await service.privacy.EraseTenant(pb.EraseTenantRequest(tenant_id="default"))).erased
            assert (erased["runs"], erased["conversations"], erased["schedules"]) == (2, 2, 1)
            assert service.remembered(run.id) == 0
            assert not (await service.privacy.EraseTenant(pb.EraseTenantRequest(tenant_id="default"))).erased
        assert service.left("default") == {}
        with as_somebody(keys, "other", "bob"):
            assert (await service.agents.GetRun(agent_pb2.GetRunRequest(id=kept.id))).run.answer == kept.answer


async def test_a_conversation_is_exported_as_a_whole(tmp_path: Path, keys: TestKeys) -> None:
    async with served(tmp_path, keys) as service:
        with as_somebody(keys, "default", "ann"):
            run = await service.ask("calculate it")
            await service.ask("something else")
            request = pb.ExportConversationRequest(id=run.conversation_id)
            lines = [json.loads(item.line) async for item in service.privacy.ExportConversation(request)]
            said = [line["row"]["text"] for line in lines if line["table"] == "messages"]
            assert said == ["calculate it", "The result is 42."]
            assert [line["row"]["id"] for line in lines if line["table"] == "runs"] == [run.id]
        with as_somebody(keys, "default", "bob"), pytest.raises(NotFound), translate_errors("agent"):
            [item async for item in service.privacy.ExportConversation(request)]


async def test_what_is_older_than_the_tenant_keeps_is_deleted(tmp_path: Path, keys: TestKeys) -> None:
    async with served(tmp_path, keys) as service:
        with as_somebody(keys, "default", "the-admin", "admin"):
            old, new = await service.ask("calculate it"), await service.ask("calculate that")
            service.execute(
                f"UPDATE conversations SET updated_at = '2020-01-01 00:00:00' WHERE id = '{old.conversation_id}'"
            )
            wanted = pb.SetRetentionRequest(retention=pb.Retention(conversation_days=30))
            await service.privacy.SetRetention(wanted)
            async with asyncio.timeout(30):
                while True:
                    found = (await service.privacy.GetRetention(pb.GetRetentionRequest())).retention
                    if found.HasField("swept_at"):
                        break
                    await asyncio.sleep(0.1)
            assert found.conversation_days == 30
            with pytest.raises(NotFound), translate_errors("agent"):
                await service.agents.GetRun(agent_pb2.GetRunRequest(id=old.id))
            assert service.remembered(old.id) == 0
            assert service.process.figure("agent_retention_deleted_total", table="conversations") == 1
            assert (await service.agents.GetRun(agent_pb2.GetRunRequest(id=new.id))).run.id == new.id
        with as_somebody(keys, "default", "ann"), pytest.raises(PermissionDenied), translate_errors("agent"):
            await service.privacy.SetRetention(wanted)
