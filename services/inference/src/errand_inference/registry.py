"""The models this process serves, by name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import structlog
from errand_common.errors import Conflict, ErrandError, ModelUnavailable, NotFound, PermissionDenied

from errand_inference.domain.chat import PromptInput
from errand_inference.domain.dispatch import Dispatcher
from errand_inference.domain.engine import Engine, EngineRequest
from errand_inference.domain.prefixes import Prefix, SeenPrefixes, plain_warm_up
from errand_inference.engines.provider import Distant
from errand_inference.engines.remote import RemoteEngine
from errand_inference.loading import ModelLoader
from errand_inference.metrics import LOADS, PROVIDER_UP, unwatch, watch
from errand_inference.mlflow_models import ModelVersion
from errand_inference.prefix_file import PrefixFile
from errand_inference.settings import InferenceSettings

_log = structlog.get_logger(__name__)
# Long enough for what runs on a replaced model, short enough that its memory does not stay for ever.
_REPLACED_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 3600.0
_WARM_UP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded model and the queue in front of it."""

    name: str
    content_hash: str
    dispatcher: Dispatcher
    version: ModelVersion | None = None

    @property
    def engine(self) -> Engine:
        """The engine that runs it."""
        return self.dispatcher.engine


@dataclass(slots=True)
class _Failure:
    """A model that did not load: not tried again before its time, unless its version changes."""

    version: ModelVersion | None
    times: int
    next_try: float


class ModelRegistry:
    """Loads, replaces and unloads models; requests keep the model they began with."""

    def __init__(self, settings: InferenceSettings) -> None:
        self._settings, self._loader = settings, ModelLoader(settings)
        self._prefixes = PrefixFile(
            settings.data_dir / "inference-prefixes.json", settings.remembered_prefixes, settings.remembered_prefix_days
        )
        self._models: dict[str, ServedModel] = {}
        self._failures: dict[str, _Failure] = {}
        self._loading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    def get(self, name: str) -> ServedModel:
        """The model of that name, the default one for an empty name; raises ModelUnavailable."""
        wanted = name or self._settings.model_name
        if wanted not in self._models:
            raise ModelUnavailable(f"model: {wanted!r} is not served here.", model=wanted)
        return self._models[wanted]

    def fallbacks(self, model: ServedModel) -> list[Dispatcher]:
        """Those asked in this order when the model fails; one that is not loaded is left out."""
        names = self._settings.of(model.name).fallbacks
        return [self._models[name].dispatcher for name in names if name in self._models]

    def shadow(self, model: ServedModel) -> tuple[ServedModel, float] | None:
        """The loaded model that gets a share of the model's requests too, and that share, 0 to 1."""
        own = self._settings.of(model.name)
        shadow = self._models.get(own.shadow)
        return (shadow, own.shadow_percent / 100) if shadow else None

    def note(self, model: ServedModel, prompt: PromptInput) -> None:
        """Remembers what the prompt's agent sends with every question, for the model's next start."""
        self._prefixes.note(Prefix.of(model.name, prompt))

    def all(self) -> list[ServedModel]:
        """All models, the default first."""
        return sorted(self._models.values(), key=lambda model: (model.name != self._settings.model_name, model.name))

    async def load_from(self, name: str, path: Path) -> ServedModel:
        """Like `load`, for a caller's path: raises PermissionDenied outside of the models' folder."""
        if not self._may_load(path):
            raise PermissionDenied("path: only folders inside ERRAND_INFERENCE_MODELS_DIR can be loaded.")
        if self._settings.of(name).uri:
            raise Conflict(f"name: {name!r} follows the registry; move its alias instead.", resource="model")
        return await self.load(name, path)

    def _may_load(self, path: Path) -> bool:
        root = self._settings.models_dir or self._settings.model_path.parent
        return path.resolve().is_relative_to(root.resolve())

    async def load(self, name: str, path: Path | None = None) -> ServedModel:
        """Serves the model that the settings name, or the folder's; on any error what was served goes on.

        Raises ModelUnavailable, or Conflict when as many models as allowed are served already.
        """
        async with self._loading:
            if name not in self._models and len(self._models) >= self._settings.max_models:
                raise Conflict(f"{self._settings.max_models} models are served already; unload one first.")
            try:
                model = await self._built(name, path)
            except ErrandError:
                LOADS.labels("failed").inc()
                raise
            replaced = self._models.get(name)
            self._models[name] = model
        watch(model.dispatcher)
        LOADS.labels("loaded").inc()
        _log.info("model loaded", model=name, engine=model.engine.name, precision=model.engine.precision)
        if replaced is not None:
            self._retire(replaced)
        return model

    async def _built(self, name: str, path: Path | None) -> ServedModel:
        loaded = await asyncio.to_thread(self._loader.load, name, path)
        plan = self._settings.plan(name)
        dispatcher = Dispatcher(loaded.engine, slots=plan.max_batch, queue_capacity=plan.queue_capacity, model=name)
        model = ServedModel(name, loaded.content_hash, dispatcher, loaded.version)
        # A provider would send a bill for it.
        if not isinstance(loaded.engine, RemoteEngine):
            await _warm_up(model, self._prefixes.seen)
        return model

    async def load_named(self) -> None:
        """Loads every model the settings name; raises for the default one, the others are tried again by `keep`."""
        self._prefixes.load()
        await self.load(self._settings.model_name)
        for name in self._others():
            await self._try(name, None)

    def _others(self) -> Iterator[str]:
        return (name for name in self._settings.models if name != self._settings.model_name)

    async def keep(self) -> None:
        """For ever: follows the registry's aliases and loads what did not load yet."""
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            await self._prefixes.save()
            for name in (self._settings.model_name, *self._others()):
                await self._look_after(name)

    async def _look_after(self, name: str) -> None:
        try:
            version = await asyncio.to_thread(self._loader.version, name)
        except ErrandError as error:
            _log.warning("the registry cannot be read; what is served stays", model=name, reason=error.message)
            return
        served = self._models.get(name)
        if served is None or (version is not None and version != served.version):
            await self._try(name, version)

    async def _try(self, name: str, version: ModelVersion | None) -> None:
        failure = self._failures.get(name)
        if failure and failure.version == version and time.monotonic() < failure.next_try:
            return
        try:
            await self.load(name)
        except ErrandError as error:
            self._note_failure(name, version, error)
        else:
            self._failures.pop(name, None)

    def _note_failure(self, name: str, version: ModelVersion | None, error: ErrandError) -> None:
        before = self._failures.get(name)
        times = before.times + 1 if before and before.version == version else 1
        pause_seconds = min(_LONGEST_PAUSE_SECONDS, self._settings.poll_seconds * 2 ** min(times - 1, 10))
        self._failures[name] = _Failure(version, times, time.monotonic() + pause_seconds)
        _log.error("model not loaded; what was served stays", model=name, reason=error.message, again_in=pause_seconds)

    async def probe(self) -> None:
        """Asks the providers of remote models, for ever; one that answers again gets the next request at once."""
        while self._settings.probe_seconds:
            await asyncio.sleep(self._settings.probe_seconds)
            # One may be unloaded meanwhile, and its connections closed.
            await asyncio.gather(*(_probe(model) for model in self.all()), return_exceptions=True)

    @property
    def is_alive(self) -> bool:
        """Whether the default model answers; one whose provider is away, by its fallbacks."""
        default = self._models.get(self._settings.model_name)
        if default is None:
            return False
        fallbacks = self.fallbacks(default) if isinstance(default.engine, Distant) else ()
        return any(dispatcher.engine.is_alive for dispatcher in (default.dispatcher, *fallbacks))

    async def unload(self, name: str) -> None:
        """Raises NotFound, or Conflict for the default model."""
        if name == self._settings.model_name:
            raise Conflict("The default model cannot be unloaded; load another one under its name.", resource="model")
        model = self._models.pop(name, None)
        if model is None:
            raise NotFound("model", name)
        unwatch(name)
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
        for name in self._models:
            unwatch(name)
        await asyncio.gather(*(model.engine.close() for model in self._models.values()))
        self._loader.close()
        await self._prefixes.save()


async def _probe(model: ServedModel) -> None:
    engine = model.engine
    if not isinstance(engine, Distant):
        return
    if await engine.probe() and model.dispatcher.breaker.is_open:
        model.dispatcher.breaker.half_open()
    PROVIDER_UP.labels(model.name).set(engine.is_alive)


async def _warm_up(model: ServedModel, prefixes: SeenPrefixes) -> None:
    """Reads what agents will send, as far as there is time: so the first caller does not pay for it, and a model
    that cannot generate is refused."""
    until = time.monotonic() + _WARM_UP_SECONDS
    try:
        await _generate(model, plain_warm_up())
        for prefix in prefixes.of(model.name):
            if time.monotonic() > until:
                return
            if not await _is_read(model, prefix):
                prefixes.forget(prefix)
    except Exception as error:
        await model.engine.close()
        raise ModelUnavailable(f"The model was loaded but cannot generate: {error}", model=model.name) from error


async def _is_read(model: ServedModel, prefix: Prefix) -> bool:
    """False for one that fails, perhaps as the model is another by now: it must not fail at every start."""
    try:
        await _generate(model, prefix.request())
    except ErrandError as error:
        _log.warning("a remembered prefix cannot be read", model=model.name, reason=error.message)
        return False
    return True


async def _generate(model: ServedModel, request: EngineRequest) -> None:
    async with aclosing(model.engine.generate(request)) as deltas:
        async for _ in deltas:
            pass


async def _close_when_idle(model: ServedModel) -> None:
    until = time.monotonic() + _REPLACED_SECONDS
    scheduler = model.dispatcher.scheduler
    try:
        while (scheduler.queued or scheduler.running) and time.monotonic() < until:  # noqa: ASYNC110 - the scheduler is pure
            await asyncio.sleep(0.1)
    finally:
        await model.engine.close()
