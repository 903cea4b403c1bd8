"""Requests per second of this service over gRPC beside bare OpenVINO GenAI and transformers, in one run.

    python bench/inference/run.py --shape functiongemma --output docs/benchmarks/inference.json

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
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1 import inference_pb2_grpc
from errand_common.rpc.client import acting_as, create_channel
from errand_common.testing.keys import TestKeys, free_port, principal
from errand_inference.domain.format import render_prefix
from errand_inference.engines.openvino_worker import build_pipeline
from errand_inference.engines.wire import OpenVinoOptions
from errand_inference.model_store import open_source, openvino_folder
from errand_inference.testing.random_model import SHAPES, build_random_model
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tokenizers import Tokenizer

SHARED_TOKENS, OWN_TOKENS, NEW_TOKENS = 800, 60, 48
CONCURRENCY = (1, 8, 32)


@dataclass
class Workload:
    """Prompts as text for the service and as ids for the bare engines."""

    tokenizer: Tokenizer
    instructions: str
    round: int = 0

    @classmethod
    def of(cls, folder: Path) -> Workload:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        words = "convert the value of kilometres and tell the weather "
        text = words
        while len(tokenizer.encode(render_prefix(text, ())).ids) < SHARED_TOKENS:
            text += words
        return cls(tokenizer, text)

    def prompts(self, count: int) -> list[str]:
        self.round += 1
        return [self._own(f"{self.round} {number} ") for number in range(count)]

    def _own(self, text: str) -> str:
        while len(self.tokenizer.encode(text).ids) < OWN_TOKENS:
            text += "now what "
        return text

    def ids(self, prompt: str) -> list[int]:
        text = (
            f"{render_prefix(self.instructions, ())}<start_of_turn>user\n{prompt}<end_of_turn>\n<start_of_turn>model\n"
        )
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)


class Service:
    """Our service, a process of its own, over gRPC. Without tools its grammar still forbids control tokens."""

    def __init__(self, folder: Path, cache: Path, precision: str, work: Workload, home: Path) -> None:
        self.keys, self.port, self.work = TestKeys(home), free_port(), work
        environment = {
            **os.environ,
            "ERRAND_INFERENCE_PORT": str(self.port),
            "ERRAND_INFERENCE_JWKS": str(self.keys.jwks_file),
            "ERRAND_INFERENCE_MODEL_PATH": str(folder),
            "ERRAND_INFERENCE_CACHE_DIR": str(cache),
            "ERRAND_INFERENCE_PRECISION": precision,
        }
        command = [sys.executable, "-m", "errand_inference", "serve"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    async def ready(self) -> float:
        began = time.perf_counter()
        async with create_channel(f"127.0.0.1:{self.port}") as channel:
            while True:
                try:
                    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return time.perf_counter() - began
                except Exception:
                    pass
                await asyncio.sleep(0.05)

    async def run(self, prompts: list[str]) -> int:
        async with create_channel(f"127.0.0.1:{self.port}") as channel:
            stub = inference_pb2_grpc.InferenceServiceStub(channel)
            with acting_as(principal(), signer=self.keys.signer):
                calls = [stub.Generate(self._request(prompt), timeout=280) for prompt in prompts]
                answers = await asyncio.gather(*calls)
        return sum(answer.usage.completion_tokens for answer in answers)

    def _request(self, prompt: str) -> pb.GenerateRequest:
        return pb.GenerateRequest(
            instructions=self.work.instructions,
            messages=[pb.Message(user=pb.UserMessage(text=prompt))],
            sampling=pb.Sampling(max_tokens=NEW_TOKENS),
        )

    def memory_megabytes(self) -> float:
        """Resident memory of the service and its engine process."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        children = [pid for task in tasks for pid in task.read_text().split()]
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in [self.process.pid, *children])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


class BareOpenVino:
    """The pipeline alone in this process, with the service's settings."""

    def __init__(self, converted: Path, work: Workload) -> None:
        self.pipeline, self.work, self.count = build_pipeline(converted, OpenVinoOptions()), work, 0
        self.end = work.tokenizer.token_to_id("<end_of_turn>")

    async def run(self, prompts: list[str]) -> int:
        return await asyncio.to_thread(self._run, prompts)

    def _run(self, prompts: list[str]) -> int:
        config = genai.GenerationConfig()
        config.max_new_tokens, config.stop_token_ids, config.eos_token_id = NEW_TOKENS, {self.end}, self.end
        handles = []
        for prompt in prompts:
            self.count += 1
            ids = ov.Tensor(np.array([self.work.ids(prompt)], dtype=np.int64))
            handles.append(self.pipeline.add_request(self.count, ids, config))
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
        return sum(len(output.generated_ids) for handle in handles for output in handle.read_all())


class Transformers:
    """A static batch in torch, fp32, no prefix cache."""

    def __init__(self, folder: Path, work: Workload) -> None:
        import torch  # noqa: PLC0415 - only where this peer takes part
        from transformers import AutoModelForCausalLM  # noqa: PLC0415 - as above

        self.torch, self.work = torch, work
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    async def run(self, prompts: list[str]) -> int:
        return await asyncio.to_thread(self._run, prompts)

    def _run(self, prompts: list[str]) -> int:
        rows = [self.work.ids(prompt) for prompt in prompts]
        longest = max(map(len, rows))
        ids = self.torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = self.torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        with self.torch.inference_mode():
            output = self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False)
        return int(output.shape[0] * (output.shape[1] - longest))


async def measure(run: Callable[[list[str]], Awaitable[int]], prompts: list[str]) -> dict[str, float]:
    began = time.perf_counter()
    tokens = await run(prompts)
    seconds = time.perf_counter() - began
    return {"requests_per_second": len(prompts) / seconds, "tokens_per_second": tokens / seconds}


async def bench(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    cache: Path = options.cache
    folder = cache / "random" / options.shape
    if not (folder / "tokenizer.json").is_file():
        build_random_model(folder, SHAPES[options.shape])
    converted = openvino_folder(open_source(folder), options.precision, cache)
    work = Workload.of(folder)
    service = Service(folder, cache, options.precision, work, home)
    try:
        ready_seconds = await service.ready()
        peers: dict[str, Any] = {"service": service, "openvino_genai": BareOpenVino(converted, work)}
        if not options.skip_transformers:
            peers["transformers_static_fp32"] = Transformers(folder, work)
        for peer in peers.values():
            await peer.run(work.prompts(1))
        raw: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in peers}
        for concurrency in CONCURRENCY:
            for _ in range(options.rounds):
                for name, peer in peers.items():
                    found = await measure(peer.run, work.prompts(concurrency))
                    raw[name].setdefault(str(concurrency), []).append(found)
                    sys.stderr.write(f"{name} x{concurrency}: {found['requests_per_second']:.2f} requests/s\n")
        memory = service.memory_megabytes()
    finally:
        service.close()
    median = {
        name: {count: statistics.median(run["requests_per_second"] for run in runs) for count, runs in by.items()}
        for name, by in raw.items()
    }
    ratios = {
        name: {count: round(median["service"][count] / figure, 3) for count, figure in by.items()}
        for name, by in median.items()
        if name != "service"
    }
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load_before": options.load,
    }
    return {
        "shape": options.shape,
        "precision": options.precision,
        "machine": machine,
        "rounds": options.rounds,
        "ready_seconds": round(ready_seconds, 2),
        "service_memory_megabytes": round(memory),
        "requests_per_second": median,
        "ratios": ratios,
        "raw": raw,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="functiongemma")
    parser.add_argument("--precision", choices=["int8", "fp32"], default="int8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/inference.json"))
    parser.add_argument("--skip-transformers", action="store_true")
    options = parser.parse_args()
    options.load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as home:
        result = asyncio.run(bench(options, Path(home)))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "raw"}, indent=2))


if __name__ == "__main__":
    main()
