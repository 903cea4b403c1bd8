"""Figures of the inference service, beside other servers of the same weights: `make bench-inference`.

    python bench/inference/run.py --shape functiongemma --output docs/benchmarks/inference
    python bench/inference/run.py --parts grammar limits

The workload is an agent's: every prompt has the same 800 tokens of tools and 60 of its own, 48 tokens are
generated greedily, all requests come at once. Weights are random, so what is said means nothing and how
fast it is said is what a trained model of that shape would need. Peers take turns; medians are told.
Parts that are not run keep their figures of the report that is there, if it is of the same shape.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from errand_inference.engines.wire import OpenVinoOptions
from errand_inference.model_store import open_source, openvino_folder
from errand_inference.testing.random_model import SHAPES, build_random_model
from grammar import grammar_figures
from limits import bounds, footprint
from peers import (
    BareOpenVino,
    Engine,
    LlamaServer,
    Peer,
    Places,
    Service,
    Transformers,
    TransformersContinuous,
    VllmCpu,
)
from reliability import reliability_figures
from report import EARLIER, FOOTPRINT, GRAMMAR, LIMITS, PARTS, RELIABILITY, SERVICE, THROUGHPUT, write_report
from workload import NEW_TOKENS, Workload

CONCURRENCY = (1, 8, 32)
COLD_AT_ONCE = 8
ENGINE, BARE, LLAMA, STATIC = "engine", "openvino_genai", "llama_cpp", "transformers_static"
VLLM, CONTINUOUS = "vllm_cpu", "transformers_continuous"
PEERS = (ENGINE, BARE, VLLM, LLAMA, STATIC, CONTINUOUS)
# Reading 32 whole prompts takes it minutes.
MOST_AT_ONCE = {CONTINUOUS: 8}
IDLE_LOAD = 0.5
# Threads of the one before may spin on for a while, waiting for more.
PAUSE_SECONDS = 0.5


async def measure(peer: Peer, work: Workload, count: int) -> dict[str, float]:
    prompts = work.prompts(count)
    began = time.perf_counter()
    tokens = await peer.run(work, prompts)
    seconds = time.perf_counter() - began
    if tokens != count * NEW_TOKENS:
        sys.stderr.write(f"{tokens / count:.1f} tokens a request were generated, not {NEW_TOKENS}\n")
    return {"requests_per_second": count / seconds, "tokens_per_second": tokens / seconds, "tokens": tokens}


def random_model(options: argparse.Namespace) -> Path:
    folder: Path = options.cache / "random" / options.shape
    if not (folder / "tokenizer.json").is_file():
        sys.stderr.write(f"building random weights of {options.shape}'s shape …\n")
        build_random_model(folder, SHAPES[options.shape])
    return folder


@asynccontextmanager
async def peers(options: argparse.Namespace, places: Places) -> AsyncIterator[dict[str, Peer]]:
    """All that take part; each is closed at the end, also when one cannot start."""
    folder = places.model
    source = open_source(folder)
    converted = openvino_folder(source, options.precision, options.cache)
    hints = OpenVinoOptions(compute="fastest" if options.precision == "int8" else "f32")
    end = Workload.of(folder).tokenizer.token_to_id("<end_of_turn>")
    makers = {
        ENGINE: lambda: Engine(converted, options.precision, source.context_tokens, hints),
        BARE: lambda: BareOpenVino(converted, end, hints),
        LLAMA: lambda: LlamaServer(options.peer_python, folder, options.cache / f"{options.shape}-q8_0.gguf"),
        STATIC: lambda: Transformers(folder, bf16=has_bf16()),
        CONTINUOUS: lambda: TransformersContinuous(folder, bf16=has_bf16()),
        VLLM: lambda: VllmCpu(options.vllm_python, folder),
    }
    async with AsyncExitStack() as stack:
        service = Service(places, program=(str(Path(__file__).with_name("once.py")),))
        stack.push_async_callback(service.close)
        await service.ready()
        made: dict[str, Peer] = {SERVICE: service}
        for name in options.peers:
            try:
                made[name] = makers[name]()
            except RuntimeError as error:
                sys.stderr.write(f"{name} is left out: {error}\n")
                continue
            stack.push_async_callback(made[name].close)
        yield made


def has_bf16() -> bool:
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")


def in_turns(made: dict[str, Peer], number: int) -> list[tuple[str, Peer]]:
    """The peers in another order each round: nobody always follows the same one."""
    order = list(made.items())
    return order[number % len(order) :] + order[: number % len(order)]


async def rounds(options: argparse.Namespace, made: dict[str, Peer], work: Workload) -> dict[str, Any]:
    """Figures by peer and concurrency; "cold" is 8 at once whose shared part nobody has read."""
    raw: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in made}
    for name, peer in list(made.items()):
        try:
            await peer.run(work, work.prompts(1))
        except RuntimeError as error:
            sys.stderr.write(f"{name} is left out: {error}\n")
            del made[name]
    for step in (*map(str, options.concurrency), "cold"):
        for number in range(options.rounds):
            for name, peer in in_turns(made, number):
                asked, count = (work.cold(), COLD_AT_ONCE) if step == "cold" else (work, int(step))
                if count > MOST_AT_ONCE.get(name, count):
                    continue
                await asyncio.sleep(PAUSE_SECONDS)
                found = await measure(peer, asked, count)
                raw[name].setdefault(step, []).append(found)
                sys.stderr.write(f"{name} x{step}: {found['requests_per_second']:.2f} requests/s\n")
                work.round = max(work.round, asked.round)
    return raw


async def throughput(options: argparse.Namespace, places: Places, work: Workload) -> dict[str, Any]:
    async with peers(options, places) as made:
        raw = await rounds(options, made, work)
    return {**medians(raw), "raw": raw}


async def bench(options: argparse.Namespace) -> dict[str, Any]:
    """Figures by part, each with what it was measured on."""
    folder = random_model(options)
    openvino_folder(open_source(folder), options.precision, options.cache)
    places, work = Places(folder, options.cache, options.precision), Workload.of(folder)
    makers: dict[str, Callable[[], Coroutine[Any, Any, dict[str, Any]]]] = {
        THROUGHPUT: lambda: throughput(options, places, work),
        FOOTPRINT: lambda: footprint(places, work, options.rounds),
        GRAMMAR: lambda: grammar_figures(places, options.rounds, options.tool_sets),
        RELIABILITY: reliability_figures,
        LIMITS: lambda: bounds(places, work, options.rounds),
    }
    return {part: await measured(part, makers[part], options.rounds) for part in options.parts}


async def measured(part: str, make: Callable[[], Coroutine[Any, Any, dict[str, Any]]], rounds: int) -> dict[str, Any]:
    sys.stderr.write(f"{part} …\n")
    load, began = os.getloadavg()[0], time.perf_counter()
    figures = await make()
    took = time.perf_counter() - began
    sys.stderr.write(f"{part}: {took:.0f} s\n")
    return {**figures, "rounds": rounds, "load_before": round(load, 1), "took_seconds": round(took)}


def medians(raw: dict[str, dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """Medians of the rounds, and of ours over each peer's in the same round: a machine's pace changes by the minute."""
    told = {
        name: {step: [run["requests_per_second"] for run in runs] for step, runs in by.items()}
        for name, by in raw.items()
    }
    ratios = {
        name: {step: round(_median_ratio(told[SERVICE][step], figures), 3) for step, figures in by.items()}
        for name, by in told.items()
        if name != SERVICE
    }
    median = {name: {step: statistics.median(all) for step, all in by.items()} for name, by in told.items()}
    return {"requests_per_second": median, "ratios": ratios}


def _median_ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def result_with(earlier: Path, options: argparse.Namespace, parts: dict[str, Any]) -> dict[str, Any]:
    """The parts, and those that were not run as an earlier report of the same shape and machine has them."""
    about = {
        "shape": options.shape,
        "precision": options.precision,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "bf16": has_bf16(),
    }
    before = json.loads(earlier.read_text()) if earlier.is_file() else {}
    kept = before if before.items() >= about.items() else {}
    result = {**kept, **about, **parts}
    if THROUGHPUT in parts and THROUGHPUT in kept:
        result[THROUGHPUT] = with_earlier(parts[THROUGHPUT], kept[THROUGHPUT])
    return result


def with_earlier(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """A run, and the latest ones that had peers which those after them lack: ratios are of one run always."""
    seen = set(now["ratios"])
    kept = []
    for run in (before, *before.get(EARLIER, ())):
        if run.get("ratios", {}).keys() - seen:
            seen |= run["ratios"].keys()
            kept.append({key: value for key, value in run.items() if key != EARLIER})
    return {**now, EARLIER: kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="functiongemma")
    parser.add_argument("--precision", choices=["int8", "fp32"], default="int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tool-sets", type=int, default=200)
    parser.add_argument("--concurrency", type=int, nargs="+", default=list(CONCURRENCY))
    parser.add_argument("--peers", nargs="*", choices=PEERS, help="default: all, vLLM where it is installed")
    parser.add_argument("--peer-python", type=Path, default=Path(".cache/peers/bin/python"))
    parser.add_argument("--vllm-python", type=Path, default=Path(".cache/vllm/bin/python"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/inference"))
    options = parser.parse_args()
    if options.peers is None:
        options.peers = [name for name in PEERS if name != VLLM or options.vllm_python.is_file()]
    if (load := os.getloadavg()[0]) > IDLE_LOAD:
        sys.stderr.write(f"this machine is busy (load {load:.1f}): figures may be wrong\n")
    result = result_with(options.output.with_suffix(".json"), options, asyncio.run(bench(options)))
    write_report(result, options.output)
    print(json.dumps(without_raw(result), indent=2))


def without_raw(result: dict[str, Any]) -> dict[str, Any]:
    return {
        part: {key: value for key, value in figures.items() if key != "raw"} if part in PARTS else figures
        for part, figures in result.items()
    }


if __name__ == "__main__":
    main()
