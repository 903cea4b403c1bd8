"""`make bench-telemetry`: what telling of requests costs the gateway, and what happens when nobody listens.

    python -m bench.telemetry --wrk PATH [--seconds 5] [--rounds 5]

Three gateways before the same agent, asked in turns: one that sends no spans ("off"), one that sends all of them
to a collector and the story to MLflow ("on"), and one whose collector and MLflow are away ("away"). Writes
docs/benchmarks/telemetry.{json,md}. A failed request ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.server
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from errand_common.testing.keys import free_port

from bench.gateway.run import HERE as GATEWAY
from bench.gateway.run import MESSAGE, REPORT, Peer, load, median, process, set_quota, settings, steady, warm

CONNECTIONS = (1, 10, 50)
# A load that a busy machine of two cores still answers without a queue.
STEADY_RATE = 100
NAMES = {"off": "no spans", "on": "spans to a collector and MLflow", "away": "collector and MLflow away"}


class Sink(http.server.BaseHTTPRequestHandler):
    """Takes spans as a collector does."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def variables(name: str, sink: int) -> dict[str, str]:
    """How this gateway tells of requests."""
    if name == "off":
        return {}
    port = sink if name == "on" else free_port()
    endpoint = f"http://127.0.0.1:{port}/v1/traces"
    return {"ERRAND_GATEWAY_OTLP_ENDPOINT": endpoint, "ERRAND_GATEWAY_MLFLOW_ENDPOINT": endpoint}


@contextlib.contextmanager
def gateways(folder: Path) -> Iterator[list[Peer]]:
    """The three, warm."""
    with contextlib.ExitStack() as stack:
        agent, sink = free_port(), free_port()
        stack.enter_context(process(sys.executable, GATEWAY / "peers.py", "agent", str(agent)))
        stack.enter_context(process(sys.executable, "-m", "bench.telemetry", "--sink", str(sink)))
        found = []
        for name in NAMES:
            port = free_port()
            (folder / name).mkdir()
            given = settings(folder / name, port, f"127.0.0.1:{agent}") | variables(name, sink)
            started = stack.enter_context(process(sys.executable, "-m", "errand_gateway", "serve", **given))
            found.append(Peer(name, started, port, "/api/v1/chat", json.dumps(MESSAGE)))
        for peer in found:
            warm(peer)
            set_quota(peer)
        yield found


def dropped(peer: Peer) -> int:
    """Spans that the gateway counted as lost."""
    page = httpx.get(f"http://127.0.0.1:{peer.port}/metrics").text
    line = next(line for line in page.splitlines() if line.startswith("telemetry_spans_dropped_total"))
    return int(float(line.split()[1]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians of interleaved rounds."""
    rounds: dict[tuple[str, int], list[dict[str, float]]] = {}
    even: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory() as name, gateways(Path(name)) as found:
        for _ in range(options.rounds):
            for connections in CONNECTIONS:
                for peer in found:
                    figures = load(peer, options.wrk, connections, options.seconds)
                    rounds.setdefault((peer.name, connections), []).append(figures)
            for peer in found:
                even[peer.name].append(asyncio.run(steady(peer, STEADY_RATE, options.seconds)))
        result: dict[str, Any] = {"cores": os.cpu_count(), "gateways": {}}
        for peer in found:
            rows = [{"connections": count} | median(rounds[peer.name, count]) for count in CONNECTIONS]
            lost = dropped(peer)
            result["gateways"][peer.name] = {
                "loads": rows,
                "steady": median(even[peer.name]),
                "megabytes": peer.megabytes(),
                "spans_dropped": lost,
            }
    result["cost"] = [cost(result["gateways"], index) for index in range(len(CONNECTIONS))]
    return result


def cost(measured: dict[str, Any], index: int) -> dict[str, float]:
    """What "on" takes more than "off"."""
    off, on = (measured[name]["loads"][index] for name in ("off", "on"))
    return {
        "connections": off["connections"],
        "throughput_percent": round(100 * (1 - on["requests_per_second"] / off["requests_per_second"]), 1),
        "p50_ms": round(on["p50_ms"] - off["p50_ms"], 2),
        "cpu_ms": round(on["cpu_ms"] - off["cpu_ms"], 3),
    }


def write_report(figures: dict[str, Any]) -> None:
    """docs/benchmarks/telemetry.{json,md}."""
    (REPORT / "telemetry.json").write_text(json.dumps(figures, indent=2) + "\n")
    rows = "\n".join(
        f"| {NAMES[name]} | {row['connections']} | {row['requests_per_second']:,.0f} | {row['p50_ms']:.1f} "
        f"| {row['p99_ms']:.1f} | {row['cpu_ms']:.2f} | {found['megabytes']:.0f} | {found['spans_dropped']:,} |"
        for name, found in figures["gateways"].items()
        for row in found["loads"]
    )
    evenly = "\n".join(
        f"| {NAMES[name]} | {found['steady']['p50_ms']:.2f} | {found['steady']['p99_ms']:.1f} |"
        for name, found in figures["gateways"].items()
    )
    costs = "\n".join(
        f"| {row['connections']} | {row['throughput_percent']} % | {row['p50_ms']} | {row['cpu_ms']} |"
        for row in figures["cost"]
    )
    (REPORT / "telemetry.md").write_text(
        f"""# What telemetry costs

`make bench-telemetry`, {figures["cores"]} cores shared by gateways, agent, collector and wrk; medians of interleaved
rounds. The gateway does its whole work, as in [gateway.md](gateway.md). Sent are all spans to a collector and the
story to MLflow, words masked. CPU is the gateway process's own time for a request: unlike the other figures it hardly
depends on what else the machine does. With nobody listening no request fails, memory stays bounded (20,000 spans or
64 MiB wait for each of the two), and what is lost is counted.

| gateway | connections | requests/s | p50 ms | p99 ms | CPU ms | MB at the end | spans dropped |
|---|---:|---:|---:|---:|---:|---:|---:|
{rows}

What telling takes; wanted are at most 5 % fewer and 1 ms more at p50:

| connections | requests/s fewer | p50 ms more | CPU ms more |
|---:|---:|---:|---:|
{costs}

Under a load that leaves the gateway time, {STEADY_RATE} requests a second at even distance, timed from when each was
due:

| gateway | p50 ms | p99 ms |
|---|---:|---:|
{evenly}
"""
    )


def main() -> None:
    """Measures, or is the collector."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--wrk", type=Path)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sink", type=int)
    options = parser.parse_args()
    if options.sink:
        http.server.ThreadingHTTPServer(("127.0.0.1", options.sink), Sink).serve_forever()
    figures = measure(options)
    write_report(figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
