"""`make bench-gateway`: what the gateway costs, beside a bare FastAPI, FastAPI with one gRPC hop, and LiteLLM's proxy.

    python bench/gateway/run.py --wrk PATH [--litellm PATH] [--seconds 5] [--rounds 3] [--only ours,hop]
        [--measures load,steady,memory]

One process each, the load generator (wrk) on the same machine. Everything of ours is on: key, limits, a quota,
usage and audit rows, SQLite. The peers' rounds are interleaved, so that a machine that slows down slows all;
medians of the rounds are told. Of ours and of the hop also latency at a steady rate, of ours memory after 10,000 and
100,000 requests. On an idle machine the rounds take five minutes, the memory two. Writes
docs/benchmarks/gateway.{json,md,svg} unless --only or --measures is given: `--only ours --measures steady,memory` is
the quick look.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import matplotlib as mpl
from errand_common.testing.keys import free_port

mpl.use("svg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
REPORT = HERE.parents[1] / "docs" / "benchmarks"
KEY = "errand_bench0_0123456789abcdef0123456789abcdef"
CONNECTIONS = (1, 10, 50)
STEADY_RATE = 300
STEADY_SECONDS = 5
STEADY_ROUNDS = 12
STEADY_PEERS = ("hop", "ours")
# A machine whose hop takes longer in a hundredth of its calls is busy with something else.
UNDISTURBED_P99_MS = 10
MEMORY_AFTER = (10_000, 100_000)
MEMORY_CONNECTIONS = 10
# What is told of requests is written down within half a second, and its memory given back.
SETTLE_SECONDS = 2
MEASURES = ("load", "steady", "memory")
MESSAGE = {"message": "What is 17% of 2,350?"}
COMPLETION = {"model": "mock", "messages": [{"role": "user", "content": MESSAGE["message"]}]}
LITELLM_CONFIG = """model_list:
  - model_name: mock
    litellm_params: {model: openai/mock, api_key: none, mock_response: "17% of 2,350 is 399.5."}
general_settings: {master_key: KEY}
"""
NAMES = {"ours": "Errand", "hop": "FastAPI + gRPC hop", "bare": "bare FastAPI", "litellm": "LiteLLM proxy"}


@dataclass(frozen=True)
class Peer:
    """A server that is measured."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    path: str
    body: str

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def cpu_seconds(self) -> float:
        """Processor time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """Resident memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return round(int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024, 1)


@contextlib.contextmanager
def process(*command: str | Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process until the end of the block."""
    started = subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(30)


@contextlib.contextmanager
def peers(options: argparse.Namespace, folder: Path) -> Iterator[list[Peer]]:
    """All that are to be measured, warm."""
    wanted = options.only.split(",") if options.only else list(NAMES)
    chat, completion = json.dumps(MESSAGE), json.dumps(COMPLETION)
    with contextlib.ExitStack() as stack:
        agent = free_port()
        stack.enter_context(process(sys.executable, HERE / "peers.py", "agent", str(agent)))
        target = f"127.0.0.1:{agent}"
        found = []
        for name in wanted:
            port = free_port()
            if name == "litellm":
                if options.litellm is None:
                    continue
                config = folder / "litellm.yaml"
                config.write_text(LITELLM_CONFIG.replace("KEY", KEY))
                command = (options.litellm, "--config", config, "--port", str(port), "--host", "127.0.0.1")
                started = stack.enter_context(process(*command, LITELLM_LOG="ERROR"))
                found.append(Peer(name, started, port, "/v1/chat/completions", completion))
            elif name == "ours":
                command = (sys.executable, "-m", "errand_gateway", "serve")
                started = stack.enter_context(process(*command, **settings(folder, port, target)))
                found.append(Peer(name, started, port, "/api/v1/chat", chat))
            else:
                started = stack.enter_context(process(sys.executable, HERE / "peers.py", name, str(port), target))
                found.append(Peer(name, started, port, "/api/v1/chat", chat))
        for peer in found:
            warm(peer)
            if peer.name == "ours":
                set_quota(peer)
        yield found


def settings(folder: Path, port: int, target: str) -> dict[str, str]:
    """The gateway's settings: a limit that is counted and not reached, prices that are booked."""
    values = {
        "PORT": str(port),
        "DATA_DIR": str(folder),
        "BOOTSTRAP_ADMIN_KEY": KEY,
        "LOG_LEVEL": "warning",
        "RATE_LIMIT": "100000000/minute",
        "PRICES": '{"*": {"input": 0.1, "output": 0.4}}',
        **{f"{service}_TARGET": target for service in ("AGENT", "INFERENCE", "RAG", "TOOLS")},
    }
    return {f"ERRAND_GATEWAY_{name}": value for name, value in values.items()}


def warm(peer: Peer) -> None:
    """Waits until it answers, then asks for a second."""
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with httpx.Client(headers=headers, timeout=10) as client:
        end = time.monotonic() + 180
        while time.monotonic() < end:
            with contextlib.suppress(httpx.TransportError):
                if client.post(peer.url, content=peer.body).status_code == 200:
                    break
            time.sleep(0.2)
        else:
            raise SystemExit(f"{peer.name} did not answer")
        end = time.monotonic() + 1
        while time.monotonic() < end:
            client.post(peer.url, content=peer.body).raise_for_status()


def set_quota(peer: Peer) -> None:
    """A quota that is counted and not reached."""
    quota = {"period": "month", "measure": "tokens", "amount": 10**15}
    url = f"http://127.0.0.1:{peer.port}/api/v1/admin/quotas"
    httpx.post(url, json=quota, headers={"X-API-Key": KEY}).raise_for_status()


def ask(peer: Peer, wrk: Path, connections: int, seconds: int) -> dict[str, float]:
    """One round of wrk: requests, seconds, p50_ms, p99_ms."""
    command = (wrk, "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "10s")
    command += ("-s", HERE / "chat.lua", peer.url)
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"BENCH_BODY": peer.body, "BENCH_KEY": KEY},
    )
    figures: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    if figures["failed"]:
        raise SystemExit(f"{peer.name}: {figures['failed']} requests failed")
    return figures


def load(peer: Peer, wrk: Path, connections: int, seconds: int) -> dict[str, float]:
    """One round as what is told of it."""
    before = peer.cpu_seconds()
    figures = ask(peer, wrk, connections, seconds)
    used = peer.cpu_seconds() - before
    return {
        "requests_per_second": round(figures["requests"] / figures["seconds"], 1),
        "p50_ms": figures["p50_ms"],
        "p99_ms": figures["p99_ms"],
        "cpu_ms": round(1000 * used / max(1, figures["requests"]), 3),
    }


async def steady(peer: Peer, rate: int, seconds: int) -> dict[str, float]:
    """So many requests a second, whether or not earlier ones are answered; timed from when each was due."""
    head = f"POST {peer.path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(peer.body)}\r\n\r\n{peer.body}".encode()
    idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    connections = [await asyncio.open_connection("127.0.0.1", peer.port) for _ in range(64)]
    for connection in connections:
        idle.put_nowait(connection)
    times = []

    async def once(due: float) -> None:
        reader, writer = await idle.get()
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{peer.name}: {answer[:60]!r}")
        size = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(size.split(b":")[1]))
        times.append(1000 * (time.perf_counter() - due))
        idle.put_nowait((reader, writer))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(rate * seconds):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.create_task(once(due))
    for _, writer in connections:
        writer.close()
    cuts = statistics.quantiles(times, n=100)
    return {"p50_ms": cuts[49], "p99_ms": cuts[98]}


def memory(options: argparse.Namespace) -> list[dict[str, float]]:
    """Resident memory of a gateway that has just started after so many requests."""
    asked = 0.0
    rows = []
    alone = argparse.Namespace(only="ours")
    with tempfile.TemporaryDirectory() as name, peers(alone, Path(name)) as (ours,):
        for mark in MEMORY_AFTER:
            while asked < mark:
                asked += ask(ours, options.wrk, MEMORY_CONNECTIONS, options.seconds)["requests"]
            time.sleep(SETTLE_SECONDS)
            rows.append({"requests": asked, "megabytes": ours.megabytes()})
    return rows


def measure(options: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {"cores": os.cpu_count(), "load_before": round(os.getloadavg()[1], 1)}
    if "load" in options.measures:
        result["peers"] = loads(options)
    if "steady" in options.measures:
        result["steady"] = steadies()
    if "memory" in options.measures:
        result["memory"] = memory(options)
    return result


def loads(options: argparse.Namespace) -> dict[str, Any]:
    """Medians of rounds at each number of connections, in which the peers take turns, and memory after them all."""
    rounds: dict[tuple[str, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name, peers(options, Path(name)) as found:
        for _, connections, peer in itertools.product(range(options.rounds), CONNECTIONS, found):
            figures = load(peer, options.wrk, connections, options.seconds)
            rounds.setdefault((peer.name, connections), []).append(figures)
        megabytes = {peer.name: peer.megabytes() for peer in found}
    return {
        name: {
            "loads": [{"connections": count} | median(rounds[name, count]) for count in CONNECTIONS],
            "megabytes": size,
        }
        for name, size in megabytes.items()
    }


def steadies() -> dict[str, Any]:
    """Medians of rounds at the steady rate, in which the peers take turns, with no other one beside them.

    Of ours also of those rounds alone beside which the hop was undisturbed.
    """
    rounds: dict[str, list[dict[str, float]]] = {}
    alone = argparse.Namespace(only=",".join(STEADY_PEERS))
    with tempfile.TemporaryDirectory() as name, peers(alone, Path(name)) as found:
        for _, peer in itertools.product(range(STEADY_ROUNDS), found):
            figures = asyncio.run(steady(peer, STEADY_RATE, STEADY_SECONDS))
            rounds.setdefault(peer.name, []).append(figures)
    hop, ours = (rounds[name] for name in STEADY_PEERS)
    undisturbed = [mine for beside, mine in zip(hop, ours, strict=True) if beside["p99_ms"] < UNDISTURBED_P99_MS]
    return {
        "ours": median(ours),
        "hop": median(hop),
        "undisturbed_rounds": len(undisturbed),
        "undisturbed": median(undisturbed) if undisturbed else None,
    }


def median(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(figures[name] for figures in rounds), 3) for name in rounds[0]}


def write_report(figures: dict[str, Any]) -> None:
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "gateway.json").write_text(json.dumps(figures, indent=2) + "\n")
    rows = "\n".join(
        f"| {NAMES[name]} | {row['connections']} | {row['requests_per_second']:,.0f} | {row['p50_ms']:.1f} "
        f"| {row['p99_ms']:.1f} | {row['cpu_ms']:.2f} | {peer['megabytes']:.0f} |"
        for name, peer in figures["peers"].items()
        for row in peer["loads"]
    )
    first, last = figures["memory"]
    (REPORT / "gateway.md").write_text(
        f"""# What the gateway costs

`make bench-gateway`, {figures["cores"]} cores shared by the server, the agent behind it and wrk; one process each,
medians of interleaved rounds. Errand does its whole work: key, rate limit, a quota, prices, usage and audit rows in
SQLite, one gRPC hop to an agent that answers at once. The hop does nothing but that call, bare FastAPI not even
that; LiteLLM answers from a mock, without a database. CPU is the server process's own time for a request: unlike
the other figures it hardly depends on what else the machine does. Before the run its load over five minutes was
{figures["load_before"]}: below 0.5 the machine is idle, and requests a second and latencies mean what they say; above
the number of cores only comparisons within a row of rounds and CPU do.

| server | connections | requests/s | p50 ms | p99 ms | CPU ms | MB |
|---|---:|---:|---:|---:|---:|---:|
{rows}

{steady_text(figures["steady"])} Memory after
{first["requests"]:,.0f} requests {first["megabytes"]:.0f} MB, after {last["requests"]:,.0f}
{last["megabytes"]:.0f} MB ({last["megabytes"] / first["megabytes"] - 1:+.1%}).

Latencies are asked of an idle machine: on a busy one they tell how long a request waits for a processor, which
the hop beside shows too. Ratios hold on both.

| asked of Errand | | measured |
|---|---:|---:|
{asked(figures)}

![requests a second](gateway.svg)
"""
    )
    plot(figures["peers"])


def steady_text(figures: dict[str, Any]) -> str:
    """What the rounds at the steady rate say."""

    def told(figures: dict[str, float]) -> str:
        return f"p50 {figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms"

    text = f"""At a steady {STEADY_RATE} requests/s, timed from when each was due, {STEADY_ROUNDS} rounds of
{STEADY_SECONDS} s in turns: {told(figures["ours"])}; the hop {told(figures["hop"])}."""
    if figures["undisturbed"] is None:
        return f"{text} In no round was the machine undisturbed."
    return f"""{text} In {figures["undisturbed_rounds"]} of them, beside
which the hop's p99 was below {UNDISTURBED_P99_MS} ms, so that the machine had nothing else to do:
{told(figures["undisturbed"])}."""


def asked(figures: dict[str, Any]) -> str:
    """What the gateway has to reach beside what it did."""
    rates = {
        (name, row["connections"]): row["requests_per_second"]
        for name, peer in figures["peers"].items()
        for row in peer["loads"]
    }
    first, last = (row["megabytes"] for row in figures["memory"])
    rows = [
        ("p50 at 1 connection", "at most 2.5 ms", f"{figures['peers']['ours']['loads'][0]['p50_ms']:.1f} ms"),
        (f"p99 at {STEADY_RATE} requests/s", "at most 15 ms", f"{figures['steady']['ours']['p99_ms']:.1f} ms"),
        *undisturbed_row(figures["steady"]["undisturbed"]),
        ("memory after all loads", "at most 180 MB", f"{figures['peers']['ours']['megabytes']:.0f} MB"),
        ("growth of memory", "at most 10%", f"{last / first - 1:+.1%}"),
    ]
    for count in CONNECTIONS[1:]:
        rate = rates["ours", count]
        rows.append((f"of the hop at {count} connections", "at least 25%", f"{rate / rates['hop', count]:.0%}"))
        if ("litellm", count) in rates:
            times = f"{rate / rates['litellm', count]:.1f} times"
            rows.append((f"of LiteLLM at {count} connections", "at least 5 times", times))
    return "\n".join(f"| {what} | {wanted} | {found} |" for what, wanted, found in rows)


def undisturbed_row(figures: dict[str, float] | None) -> list[tuple[str, str, str]]:
    if figures is None:
        return []
    return [("the same while the machine was undisturbed", "at most 15 ms", f"{figures['p99_ms']:.1f} ms")]


def plot(measured: dict[str, Any]) -> None:
    figure, axes = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
    width = 0.8 / len(measured)
    for index, (name, peer) in enumerate(measured.items()):
        places = [position + index * width for position in range(len(CONNECTIONS))]
        rates = [row["requests_per_second"] for row in peer["loads"]]
        axes.bar_label(axes.bar(places, rates, width, label=NAMES[name]), fmt="%.0f", fontsize=7)
    axes.set_xticks([position + 0.4 - width / 2 for position in range(len(CONNECTIONS))], map(str, CONNECTIONS))
    axes.set(xlabel="connections", ylabel="requests/s", title="One process, everything on")
    axes.legend(fontsize=8)
    figure.savefig(REPORT / "gateway.svg", metadata={"Date": None})


def _measures(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(MEASURES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))} is none of {', '.join(MEASURES)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--wrk", type=Path, required=True)
    parser.add_argument("--litellm", type=Path)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--measures", type=_measures, default=MEASURES)
    options = parser.parse_args()
    figures = measure(options)
    if not options.only and options.measures == MEASURES:
        write_report(figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
