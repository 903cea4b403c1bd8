"""The service at its bounds: time to ready, memory under load, cancelled calls, a queue that is too short or unfair."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from typing import Any

import grpc
from errand.inference.v1 import inference_pb2 as pb
from peers import MOST_AT_ONCE, Places, Service
from workload import Workload

QUEUE = 64
THROWN = 500
THROWN_TOKENS = 16
THROWN_SECONDS = 60.0
# What a call may come late: the client's own work with 500 of them.
GRACE_SECONDS = 5.0
CANCELLED_AMONG = 8
STREAM_TOKENS = 96
LONGEST_SLOT_SECONDS = 10.0
# A tenant that throws many, and the batch that they and another tenant's one share.
CROWD, CROWD_TOKENS, SLOTS = 200, 8, 8


async def footprint(places: Places, work: Workload, rounds: int) -> dict[str, Any]:
    """Seconds from a start to ready, the model converted before; most memory in MB while 32 are served at once."""
    ready, memory = [], []
    for _ in range(rounds):
        service = Service(places)
        try:
            ready.append(await service.ready())
            memory.append(await _most_memory(service, work))
        finally:
            await service.close()
    return {
        "ready_seconds": round(statistics.median(ready), 2),
        "memory_megabytes": round(max(memory)),
        "requests_at_once": MOST_AT_ONCE,
    }


async def _most_memory(service: Service, work: Workload) -> float:
    running = asyncio.create_task(service.run(work, work.prompts(MOST_AT_ONCE)))
    most = 0.0
    while not running.done():
        most = max(most, service.memory_megabytes())
        await asyncio.wait([running], timeout=0.1)
    await running
    return most


async def bounds(places: Places, work: Workload, rounds: int) -> dict[str, Any]:
    """A call's slot after it was cancelled, many calls at a short queue, one call beside another tenant's many."""
    return {**await _short_queue(places, work, rounds), **await _fair_share(places, work, rounds)}


async def _short_queue(places: Places, work: Workload, rounds: int) -> dict[str, Any]:
    """Milliseconds from a cancelled call to its free slot; what became of 500 calls at a queue of 64."""
    service = Service(places, settings={"QUEUE_CAPACITY": str(QUEUE)})
    try:
        await service.ready()
        await service.run(work, work.prompts(1))
        cancelled = [await _cancel_ms(service, work) for _ in range(4 * rounds)]
        thrown = await _thrown(service, work)
    finally:
        await service.close()
    return {
        "cancel_ms": round(statistics.median(cancelled), 1),
        "cancel_ms_worst": round(max(cancelled), 1),
        "cancelled_among": CANCELLED_AMONG,
        **thrown,
    }


async def _cancel_ms(service: Service, work: Workload) -> float:
    with service.stub() as stub:
        asked = [service.request(work, prompt, STREAM_TOKENS) for prompt in work.prompts(CANCELLED_AMONG)]
        streams = [stub.GenerateStream(pb.GenerateStreamRequest(request=one), timeout=120) for one in asked]
        await asyncio.gather(*(stream.read() for stream in streams))
        before = (await stub.GetStats(pb.GetStatsRequest(), timeout=10)).running
        began = time.perf_counter()
        streams[0].cancel()
        await _until_fewer(stub, before)
        took = time.perf_counter() - began
        for stream in streams:
            stream.cancel()
        await _until_fewer(stub, 1)
    return 1000 * took


async def _until_fewer(stub: Any, running: int) -> None:
    until = time.perf_counter() + LONGEST_SLOT_SECONDS
    while (await stub.GetStats(pb.GetStatsRequest(), timeout=10)).running >= running:
        if time.perf_counter() > until:
            raise RuntimeError("a cancelled call keeps its slot")


async def _thrown(service: Service, work: Workload) -> dict[str, Any]:
    prompts = work.prompts(THROWN)
    with service.stub() as stub:
        told = await asyncio.gather(*(_outcome(stub, service.request(work, p, THROWN_TOKENS)) for p in prompts))
    outcomes = Counter(outcome for outcome, _ in told)
    seconds = [took for _, took in told]
    return {
        "thrown": THROWN,
        "queue": QUEUE,
        "served": outcomes.pop("served", 0),
        "refused": outcomes.pop(grpc.StatusCode.RESOURCE_EXHAUSTED.name, 0),
        "out_of_time": outcomes.pop(grpc.StatusCode.DEADLINE_EXCEEDED.name, 0),
        "otherwise": dict(outcomes),
        "late": sum(took > THROWN_SECONDS + GRACE_SECONDS for took in seconds),
        "longest_seconds": round(max(seconds), 2),
        "deadline_seconds": THROWN_SECONDS,
    }


async def _outcome(stub: Any, request: pb.GenerateRequest) -> tuple[str, float]:
    began = time.perf_counter()
    try:
        await stub.Generate(request, timeout=THROWN_SECONDS)
    except grpc.aio.AioRpcError as error:
        return error.code().name, time.perf_counter() - began
    return "served", time.perf_counter() - began


async def _fair_share(places: Places, work: Workload, rounds: int) -> dict[str, Any]:
    """How many of a tenant's 200 requests end while another tenant's single one waits, at most."""
    service = Service(places, settings={"MAX_BATCH": str(SLOTS), "QUEUE_CAPACITY": str(CROWD)})
    try:
        await service.ready()
        await service.run(work, work.prompts(1))
        passed = [await _passed_by(service, work) for _ in range(rounds)]
    finally:
        await service.close()
    return {"crowd": CROWD, "slots": SLOTS, "passed_by": max(passed)}


async def _passed_by(service: Service, work: Workload) -> int:
    with service.stub() as stub:
        asked = [service.request(work, prompt, CROWD_TOKENS) for prompt in work.prompts(CROWD)]
        crowd = [asyncio.create_task(_ended_at(stub, request)) for request in asked]
        while sum(one.done() for one in crowd) < SLOTS:
            await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED, timeout=0.01)
    with service.stub(tenant_id="another") as stub:
        sent = time.perf_counter()
        answer = await stub.Generate(service.request(work, work.prompts(1)[0], CROWD_TOKENS), timeout=THROWN_SECONDS)
    begun = sent + answer.timing.queue_ms / 1000
    passed = sum(sent < one.result() <= begun for one in crowd if one.done())
    for one in crowd:
        one.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    return passed


async def _ended_at(stub: Any, request: pb.GenerateRequest) -> float:
    await stub.Generate(request, timeout=THROWN_SECONDS)
    return time.perf_counter()
