"""Arrival rate against replicas, latency and cost, up to 1,000 replicas.

The model. A node of the suite is one processor-sharing station: every chat needs D seconds of the node's capacity,
shared evenly between the chats on it, and Z seconds that no other chat delays (waits, network). D + Z is what one
client waits, and D is fitted to the measured chats of one node (docs/benchmarks/chat.json): a closed network of N
clients, solved by exact mean-value analysis, must give the measured rates. Open traffic is Poisson and split over the
replicas by independent round robins, which for many clients is close to a Poisson stream at each replica: M/M/1-PS,
mean time Z + D / (1 - utilization). Percentiles come from an event simulation of that station, checked against the
formula. The autoscaler is simulated in steps of a second with the chart's rule (70 % of CPU, at most doubling or four
more each 15 seconds) and the measured time until a new pod is ready; the queue of the steps is a fluid.

Usage: python bench/scaling/simulate.py [--ready-seconds 30] [--price 0.08] [--seed 7]
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "docs" / "benchmarks" / "chat.json"
PAGE = ROOT / "docs" / "benchmarks" / "scaling.md"
TARGET = 0.7
WINDOW_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Station:
    """One node: `demand` seconds of its capacity and `delay` seconds without waiting, per chat."""

    demand: float
    delay: float

    def closed(self, clients: int) -> float:
        """Chats a second with so many clients that wait for each answer (exact mean-value analysis)."""
        queue, rate = 0.0, 0.0
        for n in range(1, clients + 1):
            response = self.demand * (1 + queue)
            rate = n / (response + self.delay)
            queue = rate * response
        return rate

    def mean(self, utilization: float) -> float:
        """Mean seconds of a chat with Poisson arrivals."""
        return self.delay + self.demand / (1 - utilization)


def fit(loads: list[dict[str, float]]) -> Station:
    """The station that is nearest to all measured rates, of those that answer one client as fast as was measured."""
    alone = next(load["p50_ms"] for load in loads if load["clients"] == 1) / 1000
    stations = [Station(alone * share / 200, alone * (200 - share) / 200) for share in range(1, 201)]
    return min(stations, key=lambda station: sum(difference(station, load) ** 2 for load in loads))


def difference(station: Station, load: dict[str, float]) -> float:
    """Logarithm of the model's rate over the measured one."""
    return math.log(station.closed(int(load["clients"])) / load["chats_per_second"])


def simulate(station: Station, utilization: float, chats: int, seed: int) -> list[float]:
    """Seconds of each chat at one processor-sharing station, in virtual time."""
    source = random.Random(seed)
    rate = utilization / station.demand
    now = virtual = 0.0
    running: list[tuple[float, float]] = []
    took: list[float] = []
    arrival = source.expovariate(rate)
    while len(took) < chats:
        # Every running chat gets an equal share: virtual time runs at 1 / n.
        ends = now + (running[0][0] - virtual) * len(running) if running else math.inf
        if arrival <= ends:
            virtual += (arrival - now) / len(running) if running else 0.0
            now = arrival
            heapq.heappush(running, (virtual + source.expovariate(1 / station.demand), now))
            arrival = now + source.expovariate(rate)
        else:
            virtual, began = heapq.heappop(running)
            now = ends
            took.append(now - began + station.delay)
    return sorted(took[chats // 10 :])


def quantile(values: list[float], share: float) -> float:
    """The value that this share of the sorted ones does not pass."""
    return values[min(len(values) - 1, int(len(values) * share))]


def replicas_for(busy_nodes: float) -> int:
    """Replicas that so much work keeps at the target; the last digits of a float are not work."""
    return math.ceil(round(busy_nodes / TARGET, 6))


@dataclass(frozen=True, slots=True)
class Burst:
    """What the autoscaler makes of a load that is suddenly `factor` times as high."""

    replicas: int
    wanted: int
    seconds_to_enough: int
    longest_wait: float


def burst(station: Station, replicas: int, factor: float, ready_seconds: float) -> Burst:
    """Steps of a second after the load was multiplied."""
    rate = replicas * TARGET / station.demand * factor
    wanted = replicas_for(rate * station.demand)
    ready = replicas
    starting: list[int] = []
    backlog = longest = 0.0
    enough = -1
    for second in range(1, 3600):
        ready += sum(1 for at in starting if at == second)
        capacity = ready / station.demand
        backlog = max(0.0, backlog + rate - capacity)
        longest = max(longest, backlog / capacity)
        if second % WINDOW_SECONDS == 0:
            total = ready + sum(1 for at in starting if at > second)
            busy = min(1.0, rate / capacity if not backlog else 1.0)
            asked = min(replicas_for(ready * busy), max(total * 2, total + 4), 1000)
            starting += [second + math.ceil(ready_seconds)] * max(0, asked - total)
        if enough < 0 and ready >= wanted and backlog == 0:
            enough = second
    return Burst(replicas, min(wanted, 1000), enough, longest)


def page(station: Station, measured: dict[str, object], arguments: argparse.Namespace) -> str:
    loads: list[dict[str, float]] = measured["loads"]  # type: ignore[assignment]
    lines = [
        "# Scaling, simulated",
        "",
        "`make bench-scaling`. " + " ".join((__doc__ or "").split("Usage")[0].split()),
        "",
        f"Fitted: D = {station.demand:.3f} s, Z = {station.delay:.3f} s on a node of {measured['cores']} cores.",
        "",
        "## The model against the measurement of one node",
        "",
        "| clients | measured chats/s | model chats/s | difference |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {load['clients']} | {load['chats_per_second']} | {station.closed(int(load['clients'])):.1f} "
        f"| {math.expm1(difference(station, load)):+.0%} |"
        for load in loads
    ]
    lines += [
        "",
        "Where the rates differ it is the node's own: batches make many clients cheaper, contention makes them dearer.",
        "Size by the lower figure, and keep a node below the point where it does less with more clients, by",
        "`inference.settings.max_batch` and the gateway's limits.",
        "",
        "## One node under Poisson traffic",
        "",
        "| utilization | mean, formula | mean, simulated | p50 | p95 | p99 |",
        "|---|---|---|---|---|---|",
    ]
    at_target: list[float] = []
    for utilization in (0.3, 0.5, 0.7, 0.8, 0.9):
        took = simulate(station, utilization, 60_000, arguments.seed)
        at_target = took if utilization == TARGET else at_target
        mean = sum(took) / len(took)
        cells = [mean, *(quantile(took, share) for share in (0.5, 0.95, 0.99))]
        shown = " | ".join(f"{cell:.2f} s" for cell in cells)
        lines.append(f"| {utilization:.0%} | {station.mean(utilization):.2f} s | {shown} |")
    lines += [
        "",
        "## Sizing at 70 % of CPU",
        "",
        f"Price: {arguments.price} a node-hour; put your own with `--price`.",
        "",
        "| chats/s | nodes | p95 | cost an hour | cost of 1,000 chats |",
        "|---|---|---|---|---|",
    ]
    for nodes in (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000):
        rate = nodes * TARGET / station.demand
        cost = nodes * arguments.price
        lines.append(
            f"| {rate:,.1f} | {nodes} | {quantile(at_target, 0.95):.2f} s | {cost:,.2f} | {cost / rate / 3.6:.4f} |"
        )
    lines += [
        "",
        "Postgres, Chroma and the gateway's counters are not in these nodes: they grow by their own rules and are the",
        "first to be given a machine of their own.",
        "",
        "## The load triples at once",
        "",
        f"A new pod is ready {arguments.ready_seconds:.0f} s after it was asked for.",
        "",
        "| nodes before | nodes needed | until the queue is gone | longest wait |",
        "|---|---|---|---|",
    ]
    for nodes in (1, 2, 10, 50, 100, 333):
        result = burst(station, nodes, 3, arguments.ready_seconds)
        lines.append(f"| {nodes} | {result.wanted} | {result.seconds_to_enough} s | {result.longest_wait:.0f} s |")
    lines += [
        "",
        "Waits of this length are what the bounded queue is for: beyond `inference.settings.queue_capacity` callers",
        "are told when to come back, and load that is known to come is met by `minReplicas`.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ready-seconds", type=float, default=30)
    parser.add_argument("--price", type=float, default=0.08)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    measured = json.loads(MEASURED.read_text())
    text = page(fit(measured["loads"]), measured, arguments)
    PAGE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
