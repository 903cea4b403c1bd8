"""Writes what was measured: JSON with all raw figures, a page with a table, a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

# The same figures are the same file.
plt.rcParams["svg.hashsalt"] = "inference"
SERVICE = "service"
PARTS = THROUGHPUT, FOOTPRINT, GRAMMAR, RELIABILITY, LIMITS = (
    "throughput",
    "footprint",
    "grammar",
    "reliability",
    "limits",
)
# The least that the service's figure divided by a peer's may be, by peer and requests at once.
GOALS = {
    "openvino_genai": {"1": 0.95, "8": 0.95, "32": 0.95},
    "vllm_cpu": {"32": 1.2, "cold": 0.9},
    "llama_cpp": {"1": 1.15, "32": 3.0},
    "transformers_static": {"32": 12.0},
}
# The throughput of earlier runs, the latest first, with peers that those after them lack.
EARLIER = "earlier"
NAMES = {
    "service": "this service over gRPC",
    "engine": "its engine alone",
    "openvino_genai": "bare OpenVINO GenAI",
    "vllm_cpu": "vLLM's build for CPUs, bf16",
    "llama_cpp": "llama.cpp server, Q8_0",
    "transformers_static": "transformers, static batch",
    "transformers_continuous": "transformers, continuous batching",
}


def write_report(result: dict[str, Any], target: Path) -> None:
    """`target` is the three files' path without its ending."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    target.with_suffix(".md").write_text(page(result, target.name))
    if THROUGHPUT in result:
        plot(result[THROUGHPUT]["requests_per_second"], target.with_suffix(".svg"))


def page(result: dict[str, Any], name: str) -> str:
    sections = [
        section(result[part], name)
        for part, section in (
            (THROUGHPUT, throughput_section),
            (FOOTPRINT, footprint_section),
            (GRAMMAR, grammar_section),
            (RELIABILITY, reliability_section),
            (LIMITS, limits_section),
        )
        if part in result
    ]
    measured = ", ".join(
        f"{part} {result[part]['load_before']} ({result[part]['rounds']} rounds)" for part in PARTS if part in result
    )
    return f"""# Inference: figures

`make bench-inference`: {result["shape"]}'s shape, random weights, {result["precision"]}; {result["cores"]} cores, bf16
{"yes" if result["bf16"] else "no"}.
Load of the machine before each part: {measured}.

{chr(10).join(sections)}"""


def throughput_section(part: dict[str, Any], name: str) -> str:
    before = part.get(EARLIER, [])
    earlier = "".join(f"\nIn an earlier run, with other peers:\n\n{_table(run)}\n" for run in before)
    return f"""## Requests a second

Medians of rounds in which the peers took turns. 800 shared and 60 own prompt tokens, 48 generated, all requests at
once; "cold" is 8 at once whose shared part nobody has read. In brackets: the service's figure divided by the
peer's in the same round, the median of that.

{_table(part)}
{earlier}
{_goals([part, *before])}

The engine's row is the service without scheduler, parser and gRPC; the bare row has no process of its own and no
grammar either.

![requests a second]({name}.svg)
"""


def _goals(runs: Sequence[dict[str, Any]]) -> str:
    """Each goal beside the latest ratio that there is."""
    rows = []
    for peer, by in GOALS.items():
        ratios: dict[str, float] = next((run["ratios"][peer] for run in runs if peer in run["ratios"]), {})
        rows += [
            f"| {NAMES[peer]}, {step} | {ratios[step]:.2f} | {goal:.2f} |"
            for step, goal in by.items()
            if step in ratios
        ]
    return "\n".join(("| service divided by | ratio | goal |", "|---|---:|---:|", *rows))


def _table(run: dict[str, Any]) -> str:
    figures, ratios = run["requests_per_second"], run["ratios"]
    steps = list(figures[SERVICE])
    head = "".join(f" {step} |" for step in steps)
    rows = [
        f"| {NAMES[peer]} |"
        + "".join(f" {by[step]:.2f}{_ratio(ratios, peer, step)} |" if step in by else " - |" for step in steps)
        for peer, by in figures.items()
    ]
    return "\n".join((f"| requests at once |{head}", f"|---|{'---:|' * len(steps)}", *rows))


def footprint_section(part: dict[str, Any], _: str) -> str:
    return f"""## Start and memory

| what | figure | goal |
|---|---:|---:|
| start to ready, the model converted before | {part["ready_seconds"]} s | 5 s |
| most resident memory, {part["requests_at_once"]} at once, service and engine's process | \
{part["memory_megabytes"] / 1024:.2f} GiB | 1.8 GB |
"""


def grammar_section(part: dict[str, Any], _: str) -> str:
    text, calls = (part[f"ms_per_token_{kind}"] / part[f"ms_per_token_off_{kind}"] - 1 for kind in ("text", "calls"))
    return f"""## Grammar

8 at once with 4 tools declared; "off" is the same service whose engine is bound by no grammar, for as many tokens as
the calls took. On a step the grammar costs what xgrammar takes to strike out a vocabulary of 262,144 tokens one by one:
1.9 ms of one core for each call in the batch, where to find out which are allowed takes 0.1 ms. So what the grammar
forces at a turn's beginning is read with the prompt, and the end of an only call is the end of its turn. These calls
are such; where a turn may also be text nothing is forced at its beginning, and a call's steps cost those 1.9 ms.

| what | figure | goal |
|---|---:|---:|
| a grammar for 10 tools is written | {part["build_ms"]:.2f} ms | 5 ms |
| the same is found again | {part["cached_ms"]:.3f} ms | 0.2 ms |
| the engine compiles it, once | {part["engine_compile_ms"]:.0f} ms | - |
| ms a token of text, on and off | \
{part["ms_per_token_text"]:.1f}, {part["ms_per_token_off_text"]:.1f} ({text:+.0%}) | +10% |
| ms a token of calls, on and off | \
{part["ms_per_token_calls"]:.1f}, {part["ms_per_token_off_calls"]:.1f} ({calls:+.0%}) | +10% |
| ms a whole call, on | {part["ms_per_call"]:.0f}{_tokens_of_a_call(part)} | - |
| calls that came about, off | {part["calls_without_grammar"]} | - |
| turns that end in a valid call, {part["tool_sets"]} tool sets | {part["well_formed_calls"]:.1%} | 100% |
"""


def _tokens_of_a_call(part: dict[str, Any]) -> str:
    return f" ({part['tokens_per_call']:.0f} tokens)" if "tokens_per_call" in part else ""


def reliability_section(part: dict[str, Any], _: str) -> str:
    return f"""## Reliability layer

Everything between the queue and the engine: prompt, grammar, parser, checks, attempts, circuit. Scripted engine.

| what | figure | goal |
|---|---:|---:|
| added to a request | {part["added_ms"]:.2f} ms | 2 ms |
| requests that succeed when {part["failing"]:.0%} of attempts fail | {part["succeeded"]:.1%} | 95% |
| attempts that are counted | {part["attempts_counted"]:.0%} | 100% |
"""


def limits_section(part: dict[str, Any], _: str) -> str:
    hung = part["late"] + sum(part["otherwise"].values())
    return f"""## Limits

| what | figure | goal |
|---|---:|---:|
| a cancelled stream among {part["cancelled_among"]} frees its slot, median and worst | {part["cancel_ms"]:.0f}, \
{part["cancel_ms_worst"]:.0f} ms | 100 ms |
| {part["thrown"]} requests at a queue of {part["queue"]}: served, refused, out of time | {part["served"]}, \
{part["refused"]}, {part["out_of_time"]} | all |
| neither served nor refused within {part["deadline_seconds"]:.0f} s | {hung} | 0 |
{_fair_share(part)}"""


def _fair_share(part: dict[str, Any]) -> str:
    if "passed_by" not in part:
        return ""
    return (
        f"| of a tenant's {part['crowd']} requests, those that end while another tenant's one waits, at most "
        f"| {part['passed_by']} | a batch, {part['slots']} |\n"
    )


def _ratio(ratios: dict[str, dict[str, float]], peer: str, step: str) -> str:
    return f" ({ratios[peer][step]:.2f})" if peer in ratios else ""


def plot(figures: dict[str, dict[str, float]], file: Path) -> None:
    steps = list(figures[SERVICE])
    width = 0.8 / len(figures)
    canvas, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for place, (peer, by) in enumerate(figures.items()):
        heights = [by.get(step, 0.0) for step in steps]
        axes.bar([index + place * width for index in range(len(steps))], heights, width, label=NAMES[peer])
    axes.set_xticks([index + 0.4 - width / 2 for index in range(len(steps))], steps)
    axes.set(xlabel="requests at once", ylabel="requests a second")
    axes.legend(fontsize="small")
    canvas.savefig(file, metadata={"Date": None})
    plt.close(canvas)
