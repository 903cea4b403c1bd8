"""`make bench-chat`: a chat with one tool call through the whole suite, by number of clients.

Writes docs/benchmarks/chat.{json,md,svg}. A failed request, or one that called no tool, ends it.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

REPORT = Path(__file__).parents[1] / "docs" / "benchmarks"
MESSAGE = {"message": "What time is it in Tokyo?"}
REQUESTS_BY_CLIENTS = {1: 60, 4: 120, 16: 240}


@contextmanager
def suite() -> Iterator[tuple[httpx.Client, float]]:
    """A client of a fresh suite, and when its start began."""
    with tempfile.TemporaryDirectory() as folder:
        errand = [sys.executable, "-m", "errand_cli"]
        began = time.perf_counter()
        started = subprocess.run(
            [*errand, "up", "--detach", "--json", "--data-dir", folder], check=True, capture_output=True
        )
        facts = json.loads(started.stdout)
        try:
            with httpx.Client(
                base_url=facts["url"],
                headers={"X-API-Key": facts["admin_key"]},
                timeout=120,
                limits=httpx.Limits(max_connections=max(REQUESTS_BY_CLIENTS)),
            ) as client:
                yield client, began
        finally:
            subprocess.run([*errand, "down", "--data-dir", folder], check=True)


def ask(client: httpx.Client) -> float:
    """Milliseconds of one chat; raises when it failed or called no tool."""
    began = time.perf_counter()
    steps = client.post("/api/v1/chat", json=MESSAGE).raise_for_status().json()["steps"]
    if not any(step["kind"] == "act" for step in steps):
        raise RuntimeError("no tool was called")
    return 1000 * (time.perf_counter() - began)


def load(client: httpx.Client, clients: int, requests: int) -> dict[str, float]:
    """So many requests by so many clients at once."""
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        times = list(pool.map(lambda _: ask(client), range(requests)))
    seconds = time.perf_counter() - began
    cuts = statistics.quantiles(times, n=100)
    return {
        "clients": clients,
        "requests": requests,
        "p50_ms": round(cuts[49]),
        "p95_ms": round(cuts[94]),
        "p99_ms": round(cuts[98]),
        "chats_per_second": round(requests / seconds, 1),
    }


def measure() -> dict[str, Any]:
    with suite() as (client, began):
        ask(client)
        first = round(time.perf_counter() - began, 1)
        for _ in range(10):
            ask(client)
        loads = [load(client, clients, requests) for clients, requests in REQUESTS_BY_CLIENTS.items()]
    return {"cores": os.cpu_count(), "seconds_from_start_to_first_chat": first, "loads": loads}


def write_report(figures: dict[str, Any]) -> None:
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "chat.json").write_text(json.dumps(figures, indent=2) + "\n")
    rows = "\n".join(
        "| {clients} | {requests} | {p50_ms} | {p95_ms} | {p99_ms} | {chats_per_second} |".format(**row)
        for row in figures["loads"]
    )
    (REPORT / "chat.md").write_text(
        f"""# A chat with one tool call

`make bench-chat`, {figures["cores"]} cores, load generator included: `POST /api/v1/chat` with "{MESSAGE["message"]}",
through gateway, agent (two model steps and a tool, all durable), rag, inference and tools, with the bundled model
and everything on (auth, limits, audit, traces to MLflow). From `errand up` to the first answer:
{figures["seconds_from_start_to_first_chat"]} s. No request failed.

| clients | requests | p50 ms | p95 ms | p99 ms | chats/s |
|---:|---:|---:|---:|---:|---:|
{rows}

![latency by clients](chat.svg)
"""
    )
    plot(figures["loads"])


def plot(loads: list[dict[str, float]]) -> None:
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    positions = range(len(loads))
    for offset, name in ((-0.2, "p50_ms"), (0.2, "p95_ms")):
        bars = axes.bar(
            [position + offset for position in positions], [row[name] for row in loads], 0.4, label=name[:3]
        )
        axes.bar_label(bars)
    axes.set_xticks(list(positions), [f"{row['clients']:.0f}" for row in loads])
    axes.set(xlabel="clients at once", ylabel="ms", title="Chat with one tool call")
    axes.legend()
    figure.savefig(REPORT / "chat.svg", metadata={"Date": None})


def main() -> None:
    figures = measure()
    write_report(figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
