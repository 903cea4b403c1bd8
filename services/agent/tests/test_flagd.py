"""Flags from flagd, as a cluster has them: its sync service is played by the provider's own contract."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from errand_agent.domain.flags import Flag
from errand_agent.flags import Flags
from errand_agent.settings import AgentSettings
from errand_common.testing.keys import free_port
from openfeature.schemas.protobuf.flagd.sync.v1 import sync_pb2, sync_pb2_grpc


def _defined(*tenants: str) -> str:
    """Prompts are on for these tenants, as flagd's operators write it."""
    targeting = {"if": [{"in": [{"var": "targetingKey"}, list(tenants)]}, "on", "off"]}
    variants = {"on": True, "off": False}
    prompts = {"state": "ENABLED", "variants": variants, "defaultVariant": "off", "targeting": targeting}
    return json.dumps({"flags": {"prompts": prompts}})


class Flagd(sync_pb2_grpc.FlagSyncServiceServicer):
    """Streams the newest definition to whoever comes, and then each that a test makes."""

    def __init__(self) -> None:
        self._definitions: list[str] = []
        self._changed = threading.Condition()
        self._has_ended = False

    def define(self, definition: str) -> None:
        with self._changed:
            self._definitions.append(definition)
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def SyncFlags(self, request: Any, context: Any) -> Iterator[sync_pb2.SyncFlagsResponse]:  # noqa: N802 - the contract's name
        place = max(0, len(self._definitions) - 1)
        while True:
            with self._changed:
                while not self._has_ended and len(self._definitions) <= place:
                    self._changed.wait()
                if self._has_ended:
                    return
                definition, place = self._definitions[place], place + 1
            yield sync_pb2.SyncFlagsResponse(flag_configuration=definition)


@pytest.fixture
def flagd() -> Iterator[tuple[Flagd, str]]:
    served, port = Flagd(), free_port()
    server = grpc.server(ThreadPoolExecutor(4))
    sync_pb2_grpc.add_FlagSyncServiceServicer_to_server(served, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    yield served, f"127.0.0.1:{port}"
    served.end()
    server.stop(0).wait()


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - the stream is read by a thread of the provider's
            await asyncio.sleep(0.01)


async def test_flags_follow_flagd_tenant_by_tenant(flagd: tuple[Flagd, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("errand_agent.flags._RETRY_MS", 20)
    served, target = flagd
    served.define(_defined("acme"))
    flags = Flags(None, flagd_target=target)
    assert [flags.is_on(Flag.PROMPTS, tenant) for tenant in ("acme", "other")] == [True, False]
    assert flags.is_on(Flag.CALL_AGENTS, "other"), "what flagd does not define is on"
    served.define(_defined("other"))
    await _until(lambda: flags.is_on(Flag.PROMPTS, "other"))
    assert not flags.is_on(Flag.PROMPTS, "acme")
    served.define("{")
    served.define(_defined("acme", "other"))
    await _until(lambda: flags.is_on(Flag.PROMPTS, "acme"))
    flags.close()


async def test_all_is_on_until_flagd_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("errand_agent.flags._FLAGD_MS", 1)
    flags = Flags(None, flagd_target=f"127.0.0.1:{free_port()}")
    assert all(flags.is_on(flag, "acme") for flag in Flag)
    flags.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"flagd_target": "flagd"}, "flagd_target"),
        ({"flagd_target": "flagd:8015", "flags_file": "flags.json"}, "leave one out"),
    ],
)
def test_flags_that_cannot_be_had_are_refused(settings: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AgentSettings(jwks="keys.json", signing_key_file="key.pem", **settings)  # type: ignore[arg-type]
