"""Who takes part: our service, its layers one by one, and other servers of the same weights."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc
import httpx
import numpy as np
import openvino as ov
import openvino_genai as genai
from errand.inference.v1 import inference_pb2 as pb
from errand.inference.v1 import inference_pb2_grpc
from errand_common.rpc.client import acting_as, create_channel
from errand_common.testing.keys import TestKeys, free_port, principal
from errand_inference.domain.engine import EngineRequest
from errand_inference.engines.openvino import OpenVinoEngine
from errand_inference.engines.openvino_worker import build_pipeline
from errand_inference.engines.wire import OpenVinoOptions
from grpc_health.v1 import health_pb2, health_pb2_grpc
from workload import NEW_TOKENS, Workload

MOST_AT_ONCE = 32
# It compiles the model first.
VLLM_SECONDS = 300.0


@dataclass(frozen=True)
class Places:
    """Where the model is, and where it is kept converted."""

    model: Path
    cache: Path
    precision: str


class Peer(Protocol):
    """Answers prompts, all at once."""

    async def run(self, work: Workload, prompts: list[str]) -> int:
        """The number of tokens generated."""
        ...

    async def close(self) -> None: ...


class Service:
    """Our service, a process of its own, over gRPC: scheduler, grammar and parser included.

    `settings` are those beside the folders, by the end of their names; `program` starts it.
    """

    def __init__(
        self,
        places: Places,
        *,
        settings: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "errand_inference"),
    ) -> None:
        self._home = tempfile.TemporaryDirectory()
        home = Path(self._home.name)
        self.keys, self.port = TestKeys(home), free_port()
        own = {
            "PORT": str(self.port),
            "JWKS": str(self.keys.jwks_file),
            "MODEL_PATH": str(places.model),
            "CACHE_DIR": str(places.cache),
            "DATA_DIR": str(home),
            "PRECISION": places.precision,
            **(settings or {}),
        }
        environment = {**os.environ, **{f"ERRAND_INFERENCE_{name}": value for name, value in own.items()}}
        command = [sys.executable, *program, "serve"]
        self._channel: grpc.aio.Channel | None = None
        self._began = time.perf_counter()
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

    async def ready(self) -> float:
        """Waits until it serves; the seconds since its start."""
        # Kept, as the agent keeps its own.
        self._channel = create_channel(f"127.0.0.1:{self.port}")
        health = health_pb2_grpc.HealthStub(self._channel)
        while True:
            try:
                answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return time.perf_counter() - self._began
            except Exception:
                if self.process.poll() is not None:
                    raise RuntimeError("the service ended while it started") from None
            await asyncio.sleep(0.05)

    @contextmanager
    def stub(self, tenant_id: str = "default") -> Iterator[inference_pb2_grpc.InferenceServiceStub]:
        with acting_as(principal(tenant_id), signer=self.keys.signer):
            yield inference_pb2_grpc.InferenceServiceStub(self._channel)

    async def run(self, work: Workload, prompts: list[str]) -> int:
        with self.stub() as stub:
            calls = [stub.Generate(self.request(work, prompt), timeout=280) for prompt in prompts]
            answers = await asyncio.gather(*calls)
        return sum(answer.usage.completion_tokens for answer in answers)

    @staticmethod
    def request(work: Workload, prompt: str, tokens: int = NEW_TOKENS) -> pb.GenerateRequest:
        return pb.GenerateRequest(
            instructions=work.instructions,
            messages=[pb.Message(user=pb.UserMessage(text=prompt))],
            sampling=pb.Sampling(max_tokens=tokens),
        )

    def memory_megabytes(self) -> float:
        """Resident memory of the service and its engine process."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        children = [pid for task in tasks for pid in task.read_text().split()]
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in [self.process.pid, *children])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        self.process.terminate()
        await asyncio.to_thread(self.process.wait, 30)
        self._home.cleanup()


class Engine:
    """Our engine without scheduler, parser and gRPC: what those cost is the service beside it."""

    def __init__(self, converted: Path, precision: str, context_tokens: int, options: OpenVinoOptions) -> None:
        self.engine = OpenVinoEngine(converted, precision=precision, context_tokens=context_tokens, options=options)

    async def run(self, work: Workload, prompts: list[str]) -> int:
        return sum(await asyncio.gather(*(self._ask(work.text(prompt)) for prompt in prompts)))

    async def _ask(self, text: str) -> int:
        return sum([delta.tokens async for delta in self.engine.generate(EngineRequest(text, NEW_TOKENS))])

    async def close(self) -> None:
        await self.engine.close()


class BareOpenVino:
    """The pipeline alone in this process, with the service's settings, no grammar, output read at the end."""

    def __init__(self, converted: Path, tokenizer_end: int, options: OpenVinoOptions) -> None:
        self.pipeline, self.count, self.end = build_pipeline(converted, options), 0, tokenizer_end

    async def run(self, work: Workload, prompts: list[str]) -> int:
        return await asyncio.to_thread(self._run, [work.ids(prompt) for prompt in prompts])

    def _run(self, prompts: list[list[int]]) -> int:
        config = genai.GenerationConfig()
        config.max_new_tokens, config.stop_token_ids, config.eos_token_id = NEW_TOKENS, {self.end}, self.end
        handles = []
        for prompt in prompts:
            self.count += 1
            ids = ov.Tensor(np.array([prompt], dtype=np.int64))
            handles.append(self.pipeline.add_request(self.count, ids, config))
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()
        return sum(len(output.generated_ids) for handle in handles for output in handle.read_all())

    async def close(self) -> None:
        del self.pipeline


class Transformers:
    """A static batch in torch, no prefix cache; bf16 where the processor computes in it."""

    def __init__(self, folder: Path, *, bf16: bool) -> None:
        import torch  # noqa: PLC0415 - only where this peer takes part
        from transformers import AutoModelForCausalLM  # noqa: PLC0415 - as above

        self.torch = torch
        dtype = torch.bfloat16 if bf16 else torch.float32
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()

    async def run(self, work: Workload, prompts: list[str]) -> int:
        return await asyncio.to_thread(self._run, [work.ids(prompt) for prompt in prompts])

    def _run(self, rows: list[list[int]]) -> int:
        longest = max(map(len, rows))
        ids = self.torch.tensor([[0] * (longest - len(row)) + row for row in rows])
        mask = self.torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        with self.torch.inference_mode():
            output = self.model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False)
        return int(output.shape[0] * (output.shape[1] - longest))

    async def close(self) -> None:
        del self.model


class TransformersContinuous:
    """transformers' own continuous batching over a paged cache, which shares no prefix."""

    # What 8 requests of 1,024 tokens need in each group of layers; a step's mask is as wide as all blocks.
    BLOCKS, TOKENS_A_STEP = 2048, 512
    MEMORY_BYTES = 8 * 2**30

    def __init__(self, folder: Path, *, bf16: bool) -> None:
        import torch  # noqa: PLC0415 - only where this peer takes part
        from transformers import AutoModelForCausalLM, GenerationConfig  # noqa: PLC0415 - as above
        from transformers.generation.continuous_batching import cache  # noqa: PLC0415 - as above

        # It knows of a GPU's memory only.
        cache.PagedAttentionMemoryHandler.get_available_memory = lambda *_: self.MEMORY_BYTES
        dtype = torch.bfloat16 if bf16 else torch.float32
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa_paged")
        self.model = model.eval()
        self.config = GenerationConfig(
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=-1,
            num_blocks=self.BLOCKS,
            max_batch_tokens=self.TOKENS_A_STEP,
        )

    async def run(self, work: Workload, prompts: list[str]) -> int:
        return await asyncio.to_thread(self._run, [work.ids(prompt) for prompt in prompts])

    def _run(self, rows: list[list[int]]) -> int:
        told = self.model.generate_batch(rows, generation_config=self.config, progress_bar=False)
        if len(told) < len(rows):
            raise RuntimeError("transformers' continuous batching did not answer all")
        return sum(len(one.generated_tokens) for one in told.values())

    async def close(self) -> None:
        del self.model


class VllmCpu:
    """vLLM's build for CPUs, bf16, prefix cache on: a server in an environment of its own, prompts as ids."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.port = free_port()
        command = [
            *(python, "-m", "vllm.entrypoints.openai.api_server", "--port", str(self.port)),
            *("--model", folder, "--served-model-name", "m"),
            *("--dtype", "bfloat16", "--max-model-len", "2048", "--max-num-seqs", str(MOST_AT_ONCE)),
        ]
        own = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            command, env={**os.environ, **own}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + VLLM_SECONDS
        while not self._is_up():
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                raise RuntimeError("vLLM's server did not start")
            time.sleep(1)

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    async def run(self, work: Workload, prompts: list[str]) -> int:
        limits = httpx.Limits(max_connections=MOST_AT_ONCE)
        url = f"http://127.0.0.1:{self.port}"
        async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits, trust_env=False) as client:
            return sum(await asyncio.gather(*(self._ask(client, work.ids(prompt)) for prompt in prompts)))

    async def _ask(self, client: httpx.AsyncClient, ids: list[int]) -> int:
        body = {"model": "m", "prompt": ids, "max_tokens": NEW_TOKENS, "temperature": 0, "ignore_eos": True}
        answer = await client.post("/v1/completions", json=body)
        return int(answer.raise_for_status().json()["usage"]["completion_tokens"])

    async def close(self) -> None:
        self.process.terminate()
        await asyncio.to_thread(self.process.wait, 60)


class LlamaServer:
    """llama.cpp's server, Q8_0, a slot for each request, prompts as ids, every slot's prefix kept."""

    def __init__(self, python: Path, folder: Path, gguf: Path) -> None:
        script = Path(__file__).with_name("llama_server.py")
        self.process = subprocess.Popen(
            [python, script, folder, gguf, str(MOST_AT_ONCE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError("llama.cpp's server did not start")

    async def run(self, work: Workload, prompts: list[str]) -> int:
        limits = httpx.Limits(max_connections=MOST_AT_ONCE)
        async with httpx.AsyncClient(base_url=self.url, timeout=600, limits=limits, trust_env=False) as client:
            return sum(await asyncio.gather(*(self._ask(client, work.ids(prompt)) for prompt in prompts)))

    async def _ask(self, client: httpx.AsyncClient, ids: list[int]) -> int:
        body = {"prompt": ids, "n_predict": NEW_TOKENS, "temperature": 0, "cache_prompt": True, "ignore_eos": True}
        answer = await client.post("/completion", json=body)
        return int(answer.raise_for_status().json()["tokens_predicted"])

    async def close(self) -> None:
        self.process.terminate()
        await asyncio.to_thread(self.process.wait, 30)
