"""`make bench-telemetry`: what telling of requests costs the gateway, and what happens when nobody listens.

    python -m bench.telemetry --wrk PATH [--seconds 4] [--rounds 6] [--pairs 20]

Four gateways before the same agent, asked in turns: one that sends no spans ("off"), one as it comes, that sends them
to a collector and the story to MLflow and tells of so many requests a second ("on"), one that tells of each ("all"),
and one whose collector and MLflow are away ("away"). Writes docs/benchmarks/telemetry.{json,md,svg}. A failed request
ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.server
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
from errand_common.settings import ServiceSettings
from errand_common.testing.keys import free_port
from prometheus_client.parser import text_string_to_metric_families

from bench.gateway.run import HERE as GATEWAY
from bench.gateway.run import MESSAGE, REPORT, Peer, ask, load, median, process, set_quota, settings, steady, warm

mpl.use("svg")
import matplotlib.pyplot as plt

CONNECTIONS = (1, 10, 50)
BOUND = ServiceSettings().traces_per_second
# Below the bound, so that each is told; and a load that a busy machine of two cores still answers without a queue.
EVEN_RATES = (15, 100)
# Three seconds' worth of traces may begin at once; here full load is meant to last.
BURST_USED_SECONDS = 1
# Short, so that what else the machine does disturbs both rounds of a pair.
EVEN_SECONDS = 2
NAMES = {
    "off": "no spans",
    "on": f"spans to a collector and MLflow, {BOUND:g} traces a second",
    "all": "spans to a collector and MLflow, every request",
    "away": "as the second, collector and MLflow away",
}


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
    port = free_port() if name == "away" else sink
    endpoint = f"http://127.0.0.1:{port}/v1/traces"
    told = {"OTLP_ENDPOINT": endpoint, "MLFLOW_ENDPOINT": endpoint}
    if name == "all":
        told["TRACES_PER_SECOND"] = "10000"
    return {f"ERRAND_GATEWAY_{key}": value for key, value in told.items()}


@contextlib.contextmanager
def gateways(folder: Path) -> Iterator[list[Peer]]:
    """All of them, warm."""
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


def counted(peer: Peer) -> dict[str, int]:
    """What the gateway counted of its spans and traces."""
    page = httpx.get(f"http://127.0.0.1:{peer.port}/metrics").text
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    dropped = sum(sample.value for sample in samples if sample.name == "telemetry_spans_dropped_total")
    traces = {s.labels["told"]: int(s.value) for s in samples if s.name == "telemetry_traces_total"}
    return {"spans_dropped": int(dropped), **{f"traces_{told}": traces.get(told, 0) for told in ("whole", "counted")}}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians of interleaved rounds; each round begins with another gateway."""
    rounds: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name, gateways(Path(name)) as found:
        for number in range(options.rounds):
            first = number % len(found)
            turn = found[first:] + found[:first]
            for connections in CONNECTIONS:
                for peer in turn:
                    ask(peer, options.wrk, connections, BURST_USED_SECONDS)
                    figures = load(peer, options.wrk, connections, options.seconds)
                    rounds.setdefault((peer.name, connections), []).append(figures)
        even = [paired(found[0], found[1], rate, options.pairs) for rate in EVEN_RATES]
        result: dict[str, Any] = {"cores": os.cpu_count(), "bound": BOUND, "even": even, "gateways": {}}
        for peer in found:
            result["gateways"][peer.name] = {
                "loads": [{"connections": count} | median(rounds[peer.name, count]) for count in CONNECTIONS],
                "megabytes": peer.megabytes(),
                **counted(peer),
            }
    costs = {name: [cost(rounds["off", count], rounds[name, count]) for count in CONNECTIONS] for name in ("on", "all")}
    return result | {"cost": costs}


def paired(off: Peer, on: Peer, rate: int, pairs: int) -> dict[str, Any]:
    """Requests at even distance, in short rounds of the one and the other; the difference of each pair."""
    rounds: dict[str, list[dict[str, float]]] = {off.name: [], on.name: []}
    for number in range(pairs):
        for peer in (off, on) if number % 2 else (on, off):
            rounds[peer.name].append(asyncio.run(steady(peer, rate, EVEN_SECONDS)))
    more = sorted(y["p50_ms"] - x["p50_ms"] for x, y in zip(*rounds.values(), strict=True))
    # Order statistics: in 19 of 20 runs the median of all pairs there could be lies between these two.
    aside = max(0, int((pairs - 1.96 * pairs**0.5) / 2))
    return {
        "rate": rate,
        "pairs": pairs,
        **{name: median(found) for name, found in rounds.items()},
        "p50_ms_more": [round(figure, 2) for figure in (statistics.median(more), more[aside], more[-1 - aside])],
    }


def cost(off: list[dict[str, float]], on: list[dict[str, float]]) -> dict[str, float]:
    """What one takes more than "off", as the median over rounds: what disturbs a round disturbs both."""
    pairs = list(zip(off, on, strict=True))
    fewer = [100 * (1 - with_["requests_per_second"] / without["requests_per_second"]) for without, with_ in pairs]
    return {
        "throughput_percent": round(statistics.median(fewer), 1),
        "throughput_percent_low": round(min(fewer), 1),
        "throughput_percent_high": round(max(fewer), 1),
        "p50_ms": round(statistics.median(with_["p50_ms"] - without["p50_ms"] for without, with_ in pairs), 2),
        "cpu_ms": round(statistics.median(with_["cpu_ms"] - without["cpu_ms"] for without, with_ in pairs), 3),
        "cpu_percent": round(
            statistics.median(100 * (with_["cpu_ms"] / without["cpu_ms"] - 1) for without, with_ in pairs), 1
        ),
    }


def write_report(figures: dict[str, Any]) -> None:
    """docs/benchmarks/telemetry.{json,md,svg}."""
    (REPORT / "telemetry.json").write_text(json.dumps(figures, indent=2) + "\n")
    plot(figures)
    rows = "\n".join(
        f"| {NAMES[name]} | {row['connections']} | {row['requests_per_second']:,.0f} | {row['p50_ms']:.1f} "
        f"| {row['p99_ms']:.1f} | {row['cpu_ms']:.2f} |"
        for name, found in figures["gateways"].items()
        for row in found["loads"]
    )
    ends = "\n".join(
        f"| {NAMES[name]} | {found['megabytes']:.0f} | {found['traces_whole']:,} | {found['traces_counted']:,} "
        f"| {found['spans_dropped']:,} |"
        for name, found in figures["gateways"].items()
    )
    pairs = figures["even"][0]["pairs"]
    evenly = "\n".join(
        f"| {row['rate']:g} | {row['off']['p50_ms']:.2f} | {row['on']['p50_ms']:.2f} | {row['off']['p99_ms']:.1f} "
        f"| {row['on']['p99_ms']:.1f} | {row['p50_ms_more'][0]:.2f} | {row['p50_ms_more'][1]:.2f} to "
        f"{row['p50_ms_more'][2]:.2f} |"
        for row in figures["even"]
    )
    costs = "\n".join(
        f"| {NAMES[name]} | {count} | {row['throughput_percent']} % | {row['throughput_percent_low']} to "
        f"{row['throughput_percent_high']} | {row['p50_ms']} | {row['cpu_ms']} | {row['cpu_percent']} % |"
        for name, found in figures["cost"].items()
        for count, row in zip(CONNECTIONS, found, strict=True)
    )
    (REPORT / "telemetry.md").write_text(
        f"""# What telemetry costs

`make bench-telemetry`, {figures["cores"]} cores shared by gateways, agent, collector and wrk; medians of interleaved
rounds. The gateway does its whole work, as in [gateway.md](gateway.md). Sent are all spans to a collector and the
story to MLflow, words masked. A process begins at most {figures["bound"]:g} traces of a kind a second, three seconds'
worth at once; of what is beyond, errors and slow requests alone are told ([ADR 38](../adr/0038-telling-is-bounded.md)).
So what telling costs is this: below the bound each request is told and pays for it; at full load few are, and the
loss of throughput is that of the first rows. The others tell of every request, which no setting forbids. A round begins
with {BURST_USED_SECONDS} s that is not counted, in which those three seconds' worth are used up.

![requests a second](telemetry.svg)

What telling takes, compared round by round; wanted are at most 5 % fewer and 1 ms more at p50. CPU is the gateway
process's own time for a request: unlike the other figures it hardly depends on what else the machine does.

| gateway | connections | requests/s fewer | of single rounds | p50 ms more | CPU ms more | CPU more |
|---|---:|---:|---:|---:|---:|---:|
{costs}

Under loads that leave the gateway time: requests at even distance, timed from when each was due, {EVEN_SECONDS} s
without telemetry and {EVEN_SECONDS} s with it in turns, {pairs} pairs. At {EVEN_RATES[0]} a second each is told, at
{EVEN_RATES[1]} a part of them. In 19 of 20 runs the last column holds what the median of ever more pairs would be:

| requests/s | p50 ms without | with | p99 ms without | with | p50 ms more | 95 % between |
|---:|---:|---:|---:|---:|---:|---:|
{evenly}

| gateway | connections | requests/s | p50 ms | p99 ms | CPU ms |
|---|---:|---:|---:|---:|---:|
{rows}

With nobody listening no request fails, memory stays bounded (20,000 spans or 64 MiB wait for each of the two), and
what is lost is counted:

| gateway | MB at the end | traces told | traces counted | spans dropped |
|---|---:|---:|---:|---:|
{ends}
"""
    )


def plot(figures: dict[str, Any]) -> None:
    """Requests a second by connections."""
    figure, axes = plt.subplots(figsize=(7, 4))
    width = 0.8 / len(NAMES)
    for index, (name, found) in enumerate(figures["gateways"].items()):
        places = [position + index * width for position in range(len(CONNECTIONS))]
        axes.bar(places, [row["requests_per_second"] for row in found["loads"]], width, label=NAMES[name])
    axes.set_xticks([position + 0.4 - width / 2 for position in range(len(CONNECTIONS))], map(str, CONNECTIONS))
    axes.set_xlabel("connections")
    axes.set_ylabel("requests a second")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(REPORT / "telemetry.svg", metadata={"Date": None})


def main() -> None:
    """Measures, or is the collector."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--wrk", type=Path)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--sink", type=int)
    parser.add_argument("--dry", action="store_true", help="write no report")
    options = parser.parse_args()
    if options.sink:
        http.server.ThreadingHTTPServer(("127.0.0.1", options.sink), Sink).serve_forever()
    figures = measure(options)
    if not options.dry:
        write_report(figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
