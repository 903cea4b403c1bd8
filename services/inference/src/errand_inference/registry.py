"""The models this process serves, by name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from errand_common.errors import Conflict, ModelUnavailable, NotFound, PermissionDenied

from errand_inference.domain.chat import PromptInput, ToolDeclaration, UserMessage
from errand_inference.domain.dispatch import Dispatcher
from errand_inference.domain.engine import Engine, EngineRequest
from errand_inference.domain.format import render_prompt
from errand_inference.domain.grammar import build_grammar
from errand_inference.engines.openvino import OpenVinoEngine
from errand_inference.engines.scripted import ScriptedEngine
from errand_inference.engines.wire import OpenVinoOptions
from errand_inference.model_store import ModelSource, open_source, openvino_folder
from errand_inference.settings import InferenceSettings

_log = structlog.get_logger(__name__)
# Long enough for what runs on a replaced model, short enough that its memory does not stay for ever.
_REPLACED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded model and the queue in front of it."""

    name: str
    content_hash: str
    dispatcher: Dispatcher

    @property
    def engine(self) -> Engine:
        """The engine that runs it."""
        return self.dispatcher.engine


def _openvino(source: ModelSource, settings: InferenceSettings) -> Engine:
    fastest = "fastest" if settings.precision == "int8" else "f32"
    options = OpenVinoOptions(
        cache_gigabytes=settings.kv_cache_gigabytes,
        max_batch=settings.max_batch,
        threads=settings.threads,
        compute=fastest if settings.compute == "auto" else settings.compute,
    )
    folder = openvino_folder(source, settings.precision, settings.cache_dir)
    return OpenVinoEngine(folder, precision=settings.precision, context_tokens=source.context_tokens, options=options)


def _transformers(source: ModelSource, settings: InferenceSettings) -> Engine:
    from errand_inference.engines.transformers import TransformersEngine  # noqa: PLC0415 - torch loads in seconds

    return TransformersEngine(
        source.folder, context_tokens=source.context_tokens, device=settings.device, threads=settings.threads
    )


ENGINES: dict[str, Callable[[ModelSource, InferenceSettings], Engine]] = {
    "openvino": _openvino,
    "transformers": _transformers,
}


class ModelRegistry:
    """Loads, replaces and unloads models; requests keep the model they began with."""

    def __init__(self, settings: InferenceSettings) -> None:
        self._settings = settings
        self._models: dict[str, ServedModel] = {}
        self._loading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    def get(self, name: str) -> ServedModel:
        """The model of that name, the default one for an empty name; raises ModelUnavailable."""
        wanted = name or self._settings.model_name
        if wanted not in self._models:
            raise ModelUnavailable(f"model: {wanted!r} is not served here.", model=wanted)
        return self._models[wanted]

    def all(self) -> list[ServedModel]:
        """All models, the default first."""
        return sorted(self._models.values(), key=lambda model: (model.name != self._settings.model_name, model.name))

    async def load_from(self, name: str, path: Path) -> ServedModel:
        """Like `load`, for a caller's path: raises PermissionDenied outside of the models' folder."""
        if not self._may_load(path):
            raise PermissionDenied("path: only folders inside ERRAND_INFERENCE_MODELS_DIR can be loaded.")
        return await self.load(name, path)

    def _may_load(self, path: Path) -> bool:
        root = self._settings.models_dir or self._settings.model_path.parent
        return path.resolve().is_relative_to(root.resolve())

    async def load(self, name: str, path: Path) -> ServedModel:
        """Serves the folder's model under `name`; on any error what was served goes on.

        Raises ModelUnavailable, or Conflict when as many models as allowed are served already.
        """
        async with self._loading:
            if name not in self._models and len(self._models) >= self._settings.max_models:
                raise Conflict(f"{self._settings.max_models} models are served already; unload one first.")
            model = await asyncio.to_thread(self._build, name, path)
            await _warm_up(model)
            replaced = self._models.get(name)
            self._models[name] = model
        if replaced is not None:
            self._retire(replaced)
        return model

    def _build(self, name: str, path: Path) -> ServedModel:
        settings = self._settings
        if settings.engine == "scripted":
            if settings.script_file is None:
                raise ModelUnavailable("The scripted engine needs ERRAND_INFERENCE_SCRIPT_FILE.", model=name)
            engine: Engine = ScriptedEngine.from_file(settings.script_file)
            content_hash = ""
        else:
            source = open_source(path)
            engine, content_hash = self._engine(source), source.content_hash
        dispatcher = Dispatcher(engine, slots=settings.max_batch, queue_capacity=settings.queue_capacity, model=name)
        _log.info("model loaded", model=name, engine=engine.name, precision=engine.precision)
        return ServedModel(name, content_hash, dispatcher)

    def _engine(self, source: ModelSource) -> Engine:
        try:
            return ENGINES[self._settings.engine](source, self._settings)
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise ModelUnavailable(f"The model cannot be loaded: {reason}", model=source.folder.name) from error

    @property
    def is_alive(self) -> bool:
        """Whether the default model is served."""
        default = self._models.get(self._settings.model_name)
        return default is not None and default.engine.is_alive

    async def unload(self, name: str) -> None:
        """Raises NotFound, or Conflict for the default model."""
        if name == self._settings.model_name:
            raise Conflict("The default model cannot be unloaded; load another one under its name.", resource="model")
        model = self._models.pop(name, None)
        if model is None:
            raise NotFound("model", name)
        self._retire(model)

    def _retire(self, model: ServedModel) -> None:
        task = asyncio.create_task(_close_when_idle(model))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        """Ends all engines, those of replaced models too."""
        for task in list(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await asyncio.gather(*(model.engine.close() for model in self._models.values()))


async def _warm_up(model: ServedModel) -> None:
    """One generation, so that the first caller does not pay for it and a model that cannot generate is refused."""
    tool = ToolDeclaration("warm_up", "Warms up.", {"type": "object", "properties": {"text": {"type": "string"}}})
    prompt = render_prompt(PromptInput((UserMessage("Hello"),), (tool,)))
    try:
        async for _ in model.engine.generate(EngineRequest(prompt, 4, grammar=build_grammar((tool,)))):
            pass
    except Exception as error:
        await model.engine.close()
        raise ModelUnavailable(f"The model was loaded but cannot generate: {error}", model=model.name) from error


async def _close_when_idle(model: ServedModel) -> None:
    until = time.monotonic() + _REPLACED_SECONDS
    scheduler = model.dispatcher.scheduler
    try:
        while (scheduler.queued or scheduler.running) and time.monotonic() < until:  # noqa: ASYNC110 - the scheduler is pure
            await asyncio.sleep(0.1)
    finally:
        await model.engine.close()
