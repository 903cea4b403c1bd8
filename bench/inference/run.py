"""Requests per second of this service over gRPC beside other servers of the same weights: `make bench-inference`.

    python bench/inference/run.py --shape functiongemma --output docs/benchmarks/inference

The workload is an agent's: every prompt has the same 800 tokens of tools and 60 of its own, 48 tokens are
generated greedily, all requests come at once. Weights are random, so what is said means nothing and how
fast it is said is what a trained model of that shape would need. Peers take turns; medians are told.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from errand_inference.engines.wire import OpenVinoOptions
from errand_inference.model_store import open_source, openvino_folder
from errand_inference.testing.random_model import SHAPES, build_random_model
from grammar import grammar_figures
from peers import BareOpenVino, Engine, LlamaServer, Peer, Service, Transformers
from report import write_report
from workload import Workload

CONCURRENCY = (1, 8, 32)
COLD_AT_ONCE = 8
SERVICE, ENGINE, BARE, LLAMA, STATIC = "service", "engine", "openvino_genai", "llama_cpp", "transformers_static"
PEERS = (ENGINE, BARE, LLAMA, STATIC)


async def measure(peer: Peer, work: Workload, count: int) -> dict[str, float]:
    prompts = work.prompts(count)
    began = time.perf_counter()
    tokens = await peer.run(work, prompts)
    seconds = time.perf_counter() - began
    return {"requests_per_second": count / seconds, "tokens_per_second": tokens / seconds, "tokens": tokens}


def random_model(options: argparse.Namespace) -> Path:
    folder: Path = options.cache / "random" / options.shape
    if not (folder / "tokenizer.json").is_file():
        sys.stderr.write(f"building random weights of {options.shape}'s shape …\n")
        build_random_model(folder, SHAPES[options.shape])
    return folder


@asynccontextmanager
async def peers(options: argparse.Namespace, folder: Path, service: Service) -> AsyncIterator[dict[str, Peer]]:
    """All that take part; each is closed at the end, also when one cannot start."""
    source = open_source(folder)
    converted = openvino_folder(source, options.precision, options.cache)
    hints = OpenVinoOptions(compute="fastest" if options.precision == "int8" else "f32")
    end = Workload.of(folder).tokenizer.token_to_id("<end_of_turn>")
    makers = {
        ENGINE: lambda: Engine(converted, options.precision, source.context_tokens, hints),
        BARE: lambda: BareOpenVino(converted, end, hints),
        LLAMA: lambda: LlamaServer(options.peer_python, folder, options.cache / f"{options.shape}-q8_0.gguf"),
        STATIC: lambda: Transformers(folder, bf16=has_bf16()),
    }
    async with AsyncExitStack() as stack:
        made: dict[str, Peer] = {SERVICE: service}
        for name in options.peers:
            made[name] = makers[name]()
            stack.push_async_callback(made[name].close)
        yield made


def has_bf16() -> bool:
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")


async def rounds(options: argparse.Namespace, made: dict[str, Peer], work: Workload) -> dict[str, Any]:
    """Figures by peer and concurrency; "cold" is 8 at once whose shared part nobody has read."""
    raw: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in made}
    for peer in made.values():
        await peer.run(work, work.prompts(1))
    for step in (*map(str, options.concurrency), "cold"):
        for _ in range(options.rounds):
            for name, peer in made.items():
                asked, count = (work.cold(), COLD_AT_ONCE) if step == "cold" else (work, int(step))
                found = await measure(peer, asked, count)
                raw[name].setdefault(step, []).append(found)
                sys.stderr.write(f"{name} x{step}: {found['requests_per_second']:.2f} requests/s\n")
                work.round = max(work.round, asked.round)
    return raw


async def bench(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    folder = random_model(options)
    openvino_folder(open_source(folder), options.precision, options.cache)
    work = Workload.of(folder)
    service = Service(folder, options.cache, options.precision, home)
    try:
        ready_seconds = await service.ready()
        async with peers(options, folder, service) as made:
            raw = await rounds(options, made, work)
        memory = service.memory_megabytes()
        grammar = await grammar_figures(service, options.rounds)
    finally:
        await service.close()
    return {
        "shape": options.shape,
        "precision": options.precision,
        "machine": machine(options),
        "rounds": options.rounds,
        "ready_seconds": round(ready_seconds, 2),
        "service_memory_megabytes": round(memory),
        **medians(raw),
        "grammar": grammar,
        "raw": raw,
    }


def medians(raw: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """Medians of the rounds, and ours over each peer's."""
    median = {
        name: {step: statistics.median(run["requests_per_second"] for run in runs) for step, runs in by.items()}
        for name, by in raw.items()
    }
    ratios = {
        name: {step: round(median[SERVICE][step] / figure, 3) for step, figure in by.items()}
        for name, by in median.items()
        if name != SERVICE
    }
    return {"requests_per_second": median, "ratios": ratios}


def machine(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_before": round(options.load, 1),
        "bf16": has_bf16(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="functiongemma")
    parser.add_argument("--precision", choices=["int8", "fp32"], default="int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, nargs="+", default=list(CONCURRENCY))
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--peer-python", type=Path, default=Path(".cache/peers/bin/python"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/inference"))
    options = parser.parse_args()
    options.load = os.getloadavg()[0]
    if options.load > 0.5:
        sys.stderr.write(f"this machine is busy (load {options.load:.1f}): ratios may be wrong\n")
    with tempfile.TemporaryDirectory() as home:
        result = asyncio.run(bench(options, Path(home)))
    write_report(result, options.output)
    print(json.dumps({key: value for key, value in result.items() if key != "raw"}, indent=2))


if __name__ == "__main__":
    main()
