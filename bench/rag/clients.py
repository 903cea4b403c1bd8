"""Several clients of a running rag service, in a process of their own: prints searches a second.

python bench/rag/clients.py PORT SIGNING_KEY CLIENTS < queries.json
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from errand.rag.v1 import rag_pb2
from errand_common.rpc.client import create_channel
from errand_common.testing.keys import principal
from errand_common.tokens import TokenSigner
from errand_rag.testing.client import RagClient


async def search(client: RagClient, queries: Sequence[str]) -> None:
    for query in queries:
        answer = await client.search(query, "bench", mode=rag_pb2.SEARCH_MODE_HYBRID, top_k=10)
        assert answer.hits
        assert not answer.degraded


async def main(port: str, signer: TokenSigner, queries: Sequence[str], clients: int) -> None:
    async with create_channel(f"127.0.0.1:{port}") as channel:
        client = RagClient(channel, principal(), signer)
        await search(client, queries[:clients])
        began = time.perf_counter()
        await asyncio.gather(*(search(client, queries[number::clients]) for number in range(clients)))
        print(len(queries) / (time.perf_counter() - began))


if __name__ == "__main__":
    made = TokenSigner.from_pem(Path(sys.argv[2]).read_bytes(), issuer="errand-test")
    asyncio.run(main(sys.argv[1], made, json.load(sys.stdin), int(sys.argv[3])))
