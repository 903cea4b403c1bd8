"""Writes what was measured: JSON with all raw figures, a page with a table, a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

NAMES = {
    "service": "this service over gRPC",
    "engine": "its engine alone",
    "openvino_genai": "bare OpenVINO GenAI",
    "llama_cpp": "llama.cpp server, Q8_0",
    "transformers_static": "transformers, static batch",
}


def write_report(result: dict[str, Any], target: Path) -> None:
    """`target` is the three files' path without its ending."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    target.with_suffix(".md").write_text(page(result, target.name))
    plot(result, target.with_suffix(".svg"))


def page(result: dict[str, Any], name: str) -> str:
    figures, ratios, machine = result["requests_per_second"], result["ratios"], result["machine"]
    steps = list(figures["service"])
    head = "".join(f" {step} |" for step in steps)
    rows = [
        f"| {NAMES[peer]} |" + "".join(f" {by[step]:.2f}{_ratio(ratios, peer, step)} |" for step in steps)
        for peer, by in figures.items()
    ]
    grammar = result["grammar"]
    return f"""# Inference: requests a second

`make bench-inference`: {result["shape"]}'s shape, random weights, {result["precision"]}; {machine["cores"]} cores, load
{machine["load_before"]} before the run; medians of {result["rounds"]} rounds in which the peers took turns. 800 shared
and 60 own prompt tokens, 48 generated, all requests at once; "cold" is 8 at once whose shared part nobody has read. In
brackets: the service's figure divided by the peer's.

| requests at once |{head}
|---|{"---:|" * len(steps)}
{chr(10).join(rows)}

The engine's row is the service without scheduler, parser and gRPC; the bare row has no process of its own and no
grammar either. Ready {result["ready_seconds"]} s after its start (conversion cached);
{result["service_memory_megabytes"]} MB resident with the engine's process after the run.

A grammar for 10 tools is written in {grammar["build_ms"]} ms. Milliseconds a token, 8 at once with 4 tools declared:
{grammar["ms_per_token_calls"]} in calls that the grammar binds, {grammar["ms_per_token_text"]} in text;
{grammar["well_formed_calls"]:.0%} of the calls were well-formed.

![requests a second]({name}.svg)
"""


def _ratio(ratios: dict[str, dict[str, float]], peer: str, step: str) -> str:
    return f" ({ratios[peer][step]:.2f})" if peer in ratios else ""


def plot(result: dict[str, Any], file: Path) -> None:
    figures = result["requests_per_second"]
    steps = list(figures["service"])
    width = 0.8 / len(figures)
    canvas, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for place, (peer, by) in enumerate(figures.items()):
        axes.bar([index + place * width for index in range(len(steps))], list(by.values()), width, label=NAMES[peer])
    axes.set_xticks([index + 0.4 - width / 2 for index in range(len(steps))], steps)
    axes.set(xlabel="requests at once", ylabel="requests a second")
    axes.legend(fontsize="small")
    canvas.savefig(file, metadata={"Date": None})
    plt.close(canvas)
