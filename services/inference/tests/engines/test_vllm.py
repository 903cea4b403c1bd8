"""vLLM's server behind the engine port: what it is sent, what is read from it, and what is made of its failures.

The server here speaks vLLM's completions with token ids and writes what it is told to; test_conformance.py runs
the real one where it is installed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from errand_common.errors import InvalidArgument, ModelUnavailable, RateLimited, Unavailable
from errand_inference.domain.chat import PromptInput, ToolDeclaration, UserMessage
from errand_inference.domain.dialects import to_ebnf
from errand_inference.domain.engine import Delta, EngineRequest, Finish
from errand_inference.domain.format import END_TURN, render_prompt
from errand_inference.domain.grammar import build_grammar
from errand_inference.engines.provider import Address, Distant
from errand_inference.engines.vllm_server import VllmServer, VllmServerEngine
from errand_inference.loading import ModelLoader
from errand_inference.settings import InferenceSettings, ModelSettings
from errand_inference.testing.provider import Provider, serving_provider
from pydantic import ValidationError
from tokenizers import Tokenizer

SAID = "Ünïcode 天気 and plain words"
TOOLS = (ToolDeclaration("rest", "Rests.", {}),)


class Completions(Provider):
    """Streams `said` token by token, as vLLM does: what its cache saved comes last, in an event of its own."""

    tokenizer: Tokenizer
    said: str = SAID + END_TURN
    tells_ids: bool = True
    ending: str = "stop"
    error: dict[str, Any] | None = None

    def events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self.error:
            yield {"error": self.error}
            return
        ids: list[int] = self.tokenizer.encode(self.said, add_special_tokens=False).ids
        made = ids[: body["max_tokens"]]
        for number, id in enumerate(made, start=1):
            ended = id in body["stop_token_ids"]
            reason = self.ending if ended else "length" if number == body["max_tokens"] else None
            choice: dict[str, Any] = {"index": 0, "text": "?", "finish_reason": reason}
            choice |= {"token_ids": [id]} if self.tells_ids else {}
            choice |= {"logprobs": {"token_logprobs": [-0.5]}} if "logprobs" in body else {}
            yield {"choices": [choice]}
        usage = {"prompt_tokens": len(body["prompt"]), "prompt_tokens_details": {"cached_tokens": 16}}
        yield {"choices": [], "usage": usage}


@pytest.fixture
def server(tiny_model: Path) -> Iterator[Completions]:
    made = Completions([])
    made.tokenizer = Tokenizer.from_file(str(tiny_model / "tokenizer.json"))
    with serving_provider(made):
        yield made


@pytest.fixture
async def engine(server: Completions, tiny_model: Path) -> AsyncIterator[VllmServerEngine]:
    address = Address(server.url, "tiny", {"authorization": f"Bearer {server.key}"})
    made = VllmServerEngine(tiny_model, VllmServer(address), context_tokens=1024)
    yield made
    await made.close()


async def collect(engine: VllmServerEngine, **fields: Any) -> Sequence[Delta]:
    prompt = render_prompt(PromptInput((UserMessage("Hello"),), TOOLS))
    return [delta async for delta in engine.generate(EngineRequest(prompt, **{"max_tokens": 64, **fields}))]


async def test_it_is_sent_ids_and_a_grammar_and_what_it_tells_becomes_text(
    engine: VllmServerEngine, server: Completions
) -> None:
    grammar = build_grammar(TOOLS)
    deltas = await collect(engine, grammar=grammar, temperature=0.7, top_p=0.9, seed=5, logprobs=True)
    assert "".join(delta.text for delta in deltas) == SAID
    assert deltas[-1].finish is Finish.STOP
    assert deltas[-1].cached_tokens == 16
    assert [entry.logprob for delta in deltas for entry in delta.logprobs] == [-0.5] * len(deltas)
    (body,) = server.asked
    rendered = render_prompt(PromptInput((UserMessage("Hello"),), TOOLS))
    assert body["prompt"] == server.tokenizer.encode(rendered, add_special_tokens=False).ids
    assert {delta.prompt_tokens for delta in deltas} == {len(body["prompt"])}
    assert body["structured_outputs"] == {"grammar": to_ebnf(grammar)}
    assert (body["model"], body["temperature"], body["top_p"], body["seed"]) == ("tiny", 0.7, 0.9, 5)


async def test_what_the_models_files_recommend_is_not_drawn_by(engine: VllmServerEngine, server: Completions) -> None:
    await collect(engine, temperature=1.0)
    (body,) = server.asked
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("code", "error", "told"),
    [(400, InvalidArgument, "grammar"), (500, Unavailable, "failed"), (None, Unavailable, "failed")],
)
async def test_what_is_refused_within_the_stream_has_its_class_too(
    engine: VllmServerEngine, server: Completions, code: int | None, error: type[Exception], told: str
) -> None:
    server.error = {"message": "Invalid grammar specification.", "type": "BadRequestError", "code": code}
    with pytest.raises(error, match=told):
        await collect(engine, grammar=build_grammar(TOOLS))


@pytest.mark.parametrize("ending", ["abort", "error"])
async def test_an_answer_that_the_server_gave_up_is_no_answer(
    engine: VllmServerEngine, server: Completions, ending: str
) -> None:
    server.ending = ending
    with pytest.raises(Unavailable, match=ending):
        await collect(engine)


async def test_length_and_stop_texts_end_it(engine: VllmServerEngine) -> None:
    deltas = await collect(engine, max_tokens=3)
    assert deltas[-1].finish is Finish.LENGTH
    assert sum(delta.tokens for delta in deltas) == 3
    deltas = await collect(engine, stop=(" and",))
    assert "".join(delta.text for delta in deltas) == "Ünïcode 天気"
    assert deltas[-1].finish is Finish.STOP


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (400, InvalidArgument, "grammar"),
        (401, ModelUnavailable, "key"),
        (404, ModelUnavailable, "tiny"),
        (429, RateLimited, "for now"),
        (500, Unavailable, "500"),
        (0, Unavailable, "broke off"),
    ],
)
async def test_failures_have_their_class(
    engine: VllmServerEngine, server: Completions, status: int, error: type[Exception], told: str
) -> None:
    server.failures = [status]
    with pytest.raises(error, match=told):
        await collect(engine, grammar=build_grammar(TOOLS))


async def test_a_server_that_tells_no_ids_is_named(engine: VllmServerEngine, server: Completions) -> None:
    server.tells_ids = False
    with pytest.raises(Unavailable, match=r"0\.11"):
        await collect(engine)


async def test_whether_it_is_there_is_looked_at(engine: VllmServerEngine, server: Completions) -> None:
    assert isinstance(engine, Distant)
    assert await engine.probe()
    server.probe_failures = [503] * 3
    for _ in range(3):
        await engine.probe()
    assert not engine.is_alive
    await collect(engine)
    assert engine.is_alive


async def test_settings_choose_the_server(server: Completions, tiny_model: Path, tmp_path: Path) -> None:
    own = ModelSettings(engine="vllm", url=server.url, remote_model="tiny")
    settings = InferenceSettings(
        model_name="tiny",
        model_path=tiny_model,
        cache_dir=tmp_path,
        models={"tiny": own},
        provider_keys={"tiny": server.key},  # type: ignore[dict-item]
    )
    engine = ModelLoader(settings).load("tiny").engine
    text = "".join([delta.text async for delta in engine.generate(EngineRequest("<bos>Hello", 64))])
    assert (engine.name, text) == ("vllm", SAID)
    await engine.close()


def test_without_vllm_and_without_a_server_the_cure_is_named(tiny_model: Path, tmp_path: Path) -> None:
    try:
        import vllm  # type: ignore[import-not-found]  # noqa: F401, PLC0415 - is it here?
    except ImportError:
        pass
    else:
        pytest.skip("vLLM is installed here")
    settings = InferenceSettings(engine="vllm", model_path=tiny_model, cache_dir=tmp_path)
    with pytest.raises(ModelUnavailable, match="install it, or name a vLLM server's url"):
        ModelLoader(settings).load("errand-tiny")


def test_a_server_without_its_name_of_the_model_is_refused() -> None:
    with pytest.raises(ValidationError, match="remote_model"):
        ModelSettings(engine="vllm", url="http://vllm:8000/v1")
