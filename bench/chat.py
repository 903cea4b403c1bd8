"""`make bench-chat`: a chat with one tool call, alone and with 16 clients, through the whole suite."""

from __future__ import annotations

import concurrent.futures
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
MESSAGE = {"message": "What time is it in Tokyo?"}
ALONE, CLIENTS, EACH = 40, 16, 10


def ask(url: str, key: str) -> float:
    """Milliseconds of one chat; raises when it failed or called no tool."""
    began = time.perf_counter()
    response = httpx.post(f"{url}/api/v1/chat", json=MESSAGE, headers={"X-API-Key": key}, timeout=120)
    elapsed = 1000 * (time.perf_counter() - began)
    steps = response.raise_for_status().json()["steps"]
    if not any(step["kind"] == "act" for step in steps):
        raise RuntimeError("no tool was called")
    return elapsed


def many(url: str, key: str) -> list[float]:
    """The times of all requests of 16 clients."""
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(lambda _: ask(url, key), range(CLIENTS * EACH)))


def quantiles(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100)
    return {"p50_ms": round(cuts[49], 1), "p95_ms": round(cuts[94], 1), "requests": len(times)}


def measure() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        errand = [sys.executable, "-m", "errand_cli"]
        began = time.perf_counter()
        started = subprocess.run(
            [*errand, "up", "--detach", "--json", "--data-dir", folder], check=True, capture_output=True
        )
        suite = json.loads(started.stdout)
        ask(suite["url"], suite["admin_key"])
        first = time.perf_counter() - began
        try:
            alone = [ask(suite["url"], suite["admin_key"]) for _ in range(ALONE)]
            together = many(suite["url"], suite["admin_key"])
        finally:
            subprocess.run([*errand, "down", "--data-dir", folder], check=True)
    return {
        "seconds_to_first_chat": round(first, 1),
        "alone": quantiles(alone),
        "16 clients": quantiles(together),
        "failures": 0,
    }


def main() -> None:
    figures = measure()
    target = ROOT / "docs" / "benchmarks"
    (target / "chat.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
