"""vLLM as a library of this process; its engine core is a process that vLLM starts itself."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from errand_common.errors import InvalidArgument, Unavailable

from errand_inference.engines.vllm import Asked, Told

# Read when vllm is imported: it counts its users over the network otherwise, and writes lines that are no JSON
# between the service's.
os.environ.update({"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CONFIGURE_LOGGING": "0"})

from vllm import AsyncEngineArgs, SamplingParams
from vllm.config import StructuredOutputsConfig
from vllm.exceptions import VLLMClientError
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

_DTYPES = {"auto": "auto", "bf16": "bfloat16", "f32": "float32"}


class VllmProcess:
    """vLLM's asynchronous engine. To be used by one event loop."""

    def __init__(
        self, folder: Path, *, context_tokens: int, compute: str = "auto", kv_cache_gigabytes: int = 1, batch: int = 64
    ) -> None:
        """Loads the model (blocking, up to minutes)."""
        arguments = AsyncEngineArgs(
            model=str(folder),
            dtype=_DTYPES[compute],
            max_model_len=context_tokens,
            max_num_seqs=batch,
            kv_cache_memory_bytes=kv_cache_gigabytes * 2**30,
            enable_prefix_caching=True,
            # On a CPU a request with a seed whose prompt is read in pieces ends vLLM 0.32 ("does not use offset").
            enable_chunked_prefill=False if current_platform.is_cpu() else None,
            logprobs_mode="processed_logprobs",
            # The one that reads our grammars: by itself vLLM stays with whichever accepts the first.
            structured_outputs_config=StructuredOutputsConfig(backend="xgrammar"),
            disable_log_stats=True,
            enable_log_requests=False,
        )
        self._llm = AsyncLLM.from_engine_args(arguments)
        self._numbers = itertools.count()

    @property
    def is_alive(self) -> bool:
        """Whether its engine core runs."""
        return not self._llm.errored

    async def tokens(self, asked: Asked) -> AsyncGenerator[Told, None]:
        """Raises InvalidArgument for a grammar that is not accepted, Unavailable when the engine failed."""
        outputs = self._llm.generate({"prompt_token_ids": list(asked.ids)}, _sampling(asked), str(next(self._numbers)))
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    yield _told(output)
        except (EngineDeadError, EngineGenerateError) as error:
            raise Unavailable("model", "The generation failed: vLLM's engine ended by an error.") from error
        except (VLLMClientError, ValueError) as error:
            reason = next(iter(str(error).splitlines()), "")[:300]
            if not asked.ebnf:
                raise InvalidArgument(f"messages: vLLM refused the request ({reason}).", field="messages") from error
            raise InvalidArgument(
                f"tools: the grammar of this request is not accepted ({reason}).", field="tools"
            ) from error

    async def close(self) -> None:
        """Ends vLLM's processes."""
        await asyncio.to_thread(self._llm.shutdown)


def _sampling(asked: Asked) -> SamplingParams:
    return SamplingParams(
        max_tokens=asked.max_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=asked.seed,
        stop_token_ids=list(asked.stop_ids),
        logprobs=0 if asked.logprobs else None,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        structured_outputs=StructuredOutputsParams(grammar=asked.ebnf) if asked.ebnf else None,
    )


def _told(output: Any) -> Told:
    (made,) = output.outputs
    logprobs = [entry[token].logprob for token, entry in zip(made.token_ids, made.logprobs or (), strict=False)]
    return Told(tuple(made.token_ids), tuple(logprobs), made.finish_reason or "", output.num_cached_tokens or 0)
