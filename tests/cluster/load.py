"""Sends requests at a fixed rate and prints what came back as JSON. Runs in a pod of the gateway's image.

Usage: load.py URL RATE SECONDS CHAT_SHARE; the key is in ADMIN_KEY. Nine in ten requests read through all services,
the others are chats. Connections are kept, as clients keep them.
"""

import asyncio
import collections
import json
import os
import sys
import time

import httpx

READS = ("/v1/models", "/api/v1/agents", "/api/v1/collections", "/api/v1/tools", "/api/v1/conversations")


async def one(client, number, chat_share, results):
    at = time.monotonic()
    wants_chat = chat_share and number % round(1 / chat_share) == 0
    try:
        # A limit over all: the client's own time-outs start anew with each part of an answer.
        async with asyncio.timeout(90):
            if wants_chat:
                answer = await client.post("/api/v1/chat", json={"message": f"What is {number} plus 27?"})
                said = "" if answer.status_code != 200 else answer.json().get("answer", "")
                error = "" if said else answer.text[:200]
            else:
                answer = await client.get(READS[number % len(READS)])
                error = "" if answer.status_code == 200 else answer.text[:200]
        status = answer.status_code
    except (httpx.HTTPError, TimeoutError) as failure:
        status, error = 0, repr(failure)[:200]
    kind = "chat" if wants_chat else READS[number % len(READS)]
    results.append(
        {"at": round(at - START, 2), "took": time.monotonic() - at, "status": status, "error": error, "kind": kind}
    )


def quantile(values, share):
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 3) if values else None


async def main():
    url, rate, seconds, chat_share = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    results, tasks = [], []
    limits = httpx.Limits(max_connections=50, max_keepalive_connections=50)
    headers = {"X-API-Key": os.environ["ADMIN_KEY"]}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits) as client:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0, START + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(one(client, number, chat_share, results)))
        await asyncio.gather(*tasks)
    took = [result["took"] for result in results if not result["error"]]
    failures = [result for result in results if result["error"]]
    summary = {
        "sent": len(results),
        # Longer than asked for, when the machine has no time left for who asks either.
        "seconds": round(time.monotonic() - START, 1),
        "failed": len(failures),
        "chats": sum(result["kind"] == "chat" for result in results),
        "p50": quantile(took, 0.5),
        "p95": quantile(took, 0.95),
        "slowest": quantile(took, 1),
        "statuses": dict(collections.Counter(result["status"] for result in failures)),
        "failures": failures[:20],
    }
    print(json.dumps(summary), flush=True)


START = time.monotonic()
asyncio.run(main())
