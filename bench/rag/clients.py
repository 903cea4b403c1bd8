"""Several clients of a running rag service, in a process of their own: prints searches and bare calls a second.

python bench/rag/clients.py PORT SIGNING_KEY CLIENTS < queries.json

Medians of rounds in turns, each with its share of the queries.
"""

import asyncio
import json
import sys
import time
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import grpc
from errand.rag.v1 import rag_pb2
from errand_common.rpc.client import create_channel
from errand_common.testing.keys import principal
from errand_common.tokens import TokenSigner
from errand_rag.testing.client import RagClient
from grpc_health.v1 import health_pb2, health_pb2_grpc

ROUNDS = 7
HOPS = 100
# Its column in /proc/stat, whose first eight are all that a processor does.
STOLEN = 7


def processor_ticks() -> list[int]:
    """What all processors did until now, by kind."""
    return [int(ticks) for ticks in Path("/proc/stat").read_text().split()[1:9]]


async def search(client: RagClient, queries: Sequence[str]) -> None:
    for query in queries:
        answer = await client.search(query, "bench", mode=rag_pb2.SEARCH_MODE_HYBRID, top_k=10)
        assert answer.hits
        assert not answer.degraded


async def hops(stub: Any) -> None:
    for _ in range(HOPS):
        await stub.Check(health_pb2.HealthCheckRequest())


async def rate(count: int, work: Iterable[Coroutine[Any, Any, None]]) -> float:
    began = time.perf_counter()
    await asyncio.gather(*work)
    return count / (time.perf_counter() - began)


async def main(port: str, signer: TokenSigner, queries: Sequence[str], clients: int) -> None:
    target = f"127.0.0.1:{port}"
    async with create_channel(target) as channel, grpc.aio.insecure_channel(target) as bare:
        client, stub = RagClient(channel, principal(), signer), health_pb2_grpc.HealthStub(bare)
        await search(client, queries[:clients])
        searches, calls, before = [], [], processor_ticks()
        for part in (queries[number::ROUNDS] for number in range(ROUNDS)):
            searches.append(await rate(len(part), (search(client, part[number::clients]) for number in range(clients))))
            # The same way without a service behind it: what gRPC alone can do here, now.
            calls.append(await rate(clients * HOPS, (hops(stub) for _ in range(clients))))
    after = processor_ticks()
    found = {f"searches_per_s_{clients}_clients": median(searches), f"bare_hops_per_s_{clients}_clients": median(calls)}
    # What the host of a virtual machine gave to others.
    stolen = (after[STOLEN] - before[STOLEN]) / (sum(after) - sum(before))
    print(json.dumps(found | {"stolen_meanwhile_percent": 100 * stolen}))


if __name__ == "__main__":
    made = TokenSigner.from_pem(Path(sys.argv[2]).read_bytes(), issuer="errand-test")
    asyncio.run(main(sys.argv[1], made, json.load(sys.stdin), int(sys.argv[3])))
