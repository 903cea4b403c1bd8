"""`python -m errand_inference evaluate`: scores a served model over gRPC and prints the table."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1 import inference_pb2_grpc
from errand_common.principal import Principal
from errand_common.rpc.client import acting_as, create_channel, translate_errors
from errand_common.tokens import TokenSigner

from errand_inference.domain.chat import Message, ModelMessage, PromptInput, ToolCall, ToolMessage
from errand_inference.training.evaluation import (
    CASES_PER_SUITE,
    SUITES,
    Case,
    Generation,
    Score,
    as_markdown,
    score_suite,
)

_MOST_TOKENS = 200
_PRINCIPAL = Principal("evaluation", "evaluation", frozenset({"developer"}), frozenset({"chat"}), "evaluation")


def request_message(prompt: PromptInput) -> pb.GenerateRequest:
    """The prompt as the service takes it, decoded greedily."""
    tools = [
        pb.ToolDeclaration(name=t.name, description=t.description, parameters_json=json.dumps(t.parameters))
        for t in prompt.tools
    ]
    return pb.GenerateRequest(
        instructions=prompt.instructions,
        tools=tools,
        messages=[_message(message) for message in prompt.messages],
        sampling=pb.Sampling(max_tokens=_MOST_TOKENS),
        priority=pb.PRIORITY_BATCH,
    )


def _message(message: Message) -> pb.Message:
    if isinstance(message, ToolMessage):
        return pb.Message(tool=pb.ToolMessage(name=message.name, result_json=json.dumps(message.result)))
    if isinstance(message, ModelMessage):
        calls = [pb.ToolCall(name=c.name, arguments_json=json.dumps(dict(c.arguments))) for c in message.calls]
        return pb.Message(model=pb.ModelMessage(text=message.text, calls=calls))
    return pb.Message(user=pb.UserMessage(text=message.text))


class ServiceGenerator:
    """Answers prompts through the real inference service."""

    def __init__(self, stub: inference_pb2_grpc.InferenceServiceAsyncStub) -> None:
        self._stub = stub

    async def __call__(self, prompt: PromptInput) -> Generation:
        with translate_errors("inference"):
            response = await self._stub.Generate(request_message(prompt), timeout=120)
        calls = tuple(ToolCall(call.name, json.loads(call.arguments_json)) for call in response.calls)
        # The service answers with neither text nor calls when a call could not be read or was invalid.
        return Generation(response.text, calls, well_formed=bool(calls or response.text))


def _print_wrong(case: Case, generation: Generation) -> None:
    expected = [(call.name, dict(call.arguments)) for call in case.calls] or case.text or "(no call)"
    got = [(call.name, dict(call.arguments)) for call in generation.calls] or generation.text
    sys.stderr.write(f"asked    {case.prompt.messages[0]}\nexpected {expected}\ngot      {got}\n\n")


async def score_service(target: str, signer: TokenSigner, suites: list[str], cases: int, *, show: bool) -> list[Score]:
    """Scores of the named suites, one after the other."""
    async with create_channel(target) as channel:
        generate = ServiceGenerator(inference_pb2_grpc.InferenceServiceStub(channel))
        scores = []
        for suite in suites:
            with acting_as(_PRINCIPAL, signer=signer, ttl_seconds=3600):
                scores.append(await score_suite(suite, generate, cases, _print_wrong if show else None))
            sys.stderr.write(f"{suite}: {scores[-1].percent:.1f}%\n")
        return scores


def main(arguments: list[str] | None = None) -> int:
    """Prints the table; exits 1 when a suite misses what is asked for."""
    parser = argparse.ArgumentParser(prog="errand eval", description=__doc__)
    parser.add_argument("--target", required=True, help="address of the inference service")
    parser.add_argument("--signing-key", type=Path, required=True, help="PEM file of the internal signing key")
    parser.add_argument("--cases", type=int, default=CASES_PER_SUITE, help="cases of each suite")
    parser.add_argument("--suite", action="append", choices=list(SUITES), help="only this suite; may be repeated")
    parser.add_argument("--json", type=Path, help="also write the scores to this file")
    parser.add_argument("--show-wrong", action="store_true", help="print each wrong answer to stderr")
    options = parser.parse_args(arguments)
    signer = TokenSigner.from_pem(options.signing_key.read_bytes(), issuer="errand-evaluation")
    suites = options.suite or list(SUITES)
    scores = asyncio.run(score_service(options.target, signer, suites, options.cases, show=options.show_wrong))
    sys.stdout.write(as_markdown(scores) + "\n")
    if options.json:
        options.json.write_text(json.dumps({score.suite: score.percent for score in scores}, indent=2) + "\n")
    missed = [score.suite for score in scores if score.target_percent and score.percent < score.target_percent]
    if missed:
        sys.stderr.write(f"below what is asked for: {', '.join(missed)}\n")
    return 1 if missed else 0
