"""The two real engines agree: greedy output of openvino in fp32 equals that of transformers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from errand_inference.domain.chat import PromptInput, ToolDeclaration, UserMessage
from errand_inference.domain.engine import Engine, EngineRequest
from errand_inference.domain.format import render_prompt
from errand_inference.domain.grammar import build_grammar
from errand_inference.engines.openvino import OpenVinoEngine
from errand_inference.engines.wire import OpenVinoOptions
from errand_inference.model_store import open_source, openvino_folder

QUESTIONS = [
    "What is 12 * 7?",
    "Convert 10 miles to kilometers.",
    "What time is it in Tokyo?",
    "How many days are there between 2024-01-01 and 2024-03-01?",
    "Tell me a joke.",
    "Run print(3) and convert 5 kilograms to pounds.",
]


async def _said(engine: Engine, request: EngineRequest) -> str:
    return "".join([delta.text async for delta in engine.generate(request)])


@pytest.mark.slow
async def test_bundled_model(project_root: Path) -> None:
    from errand_inference.engines.transformers import TransformersEngine  # noqa: PLC0415 - loads torch

    folder = project_root / "models" / "errand-tiny"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("models/errand-tiny is not in this checkout")
    source = open_source(folder)
    # Where the set-up has converted it.
    converted = await asyncio.to_thread(openvino_folder, source, "fp32", project_root / ".cache" / "errand")
    builtin = project_root / "services/inference/src/errand_inference/training/builtin_tools.json"
    tools = tuple(
        ToolDeclaration(tool["name"], tool["description"], tool["parameters"])
        for tool in json.loads(builtin.read_text(encoding="utf-8"))
    )
    fast = await asyncio.to_thread(
        OpenVinoEngine,
        converted,
        precision="fp32",
        context_tokens=source.context_tokens,
        options=OpenVinoOptions(),
    )
    reference = TransformersEngine(folder, context_tokens=source.context_tokens, threads=1)
    try:
        bound = build_grammar(tools)
        prompts = [render_prompt(PromptInput((UserMessage(question),), tools)) for question in QUESTIONS]
        requests = [EngineRequest(prompt, 60, grammar=grammar) for prompt in prompts for grammar in (None, bound)]
        said, expected = [
            await asyncio.gather(*(_said(engine, request) for request in requests)) for engine in (fast, reference)
        ]
        assert said == expected
        assert all(said)
    finally:
        await fast.close()
        await reference.close()
