"""From a model's settings to a running engine: where its files are, what they are made into, what runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from errand_common.errors import ErrandError, ModelUnavailable

from errand_inference.domain.engine import Engine
from errand_inference.engines.openvino import OpenVinoEngine
from errand_inference.engines.provider import Address
from errand_inference.engines.remote import RemoteEngine, RemoteOptions
from errand_inference.engines.scripted import ScriptedEngine
from errand_inference.engines.vllm import VllmEngine
from errand_inference.engines.vllm_server import VllmServer, VllmServerEngine
from errand_inference.mlflow_models import MlflowModels, ModelVersion
from errand_inference.model_store import ModelSource, fetch, merged_folder, open_source, openvino_folder
from errand_inference.settings import EnginePlan, InferenceSettings


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An engine and what it runs; `version` only for a model of the registry."""

    engine: Engine
    content_hash: str = ""
    version: ModelVersion | None = None


def _openvino(source: ModelSource, plan: EnginePlan, cache_dir: Path) -> Engine:
    return OpenVinoEngine(
        openvino_folder(source, plan.precision, cache_dir),
        precision=plan.precision,
        context_tokens=source.context_tokens,
        options=plan.openvino_options,
    )


def _transformers(source: ModelSource, plan: EnginePlan, cache_dir: Path) -> Engine:
    from errand_inference.engines.transformers import TransformersEngine  # noqa: PLC0415 - torch loads in seconds

    on_gpu = plan.device.startswith("cuda")
    return TransformersEngine(
        source.folder,
        context_tokens=source.context_tokens,
        precision="bf16" if plan.compute == "bf16" or (plan.compute == "auto" and on_gpu) else "fp32",
        device=plan.device,
        threads=plan.threads,
    )


def _vllm(source: ModelSource, plan: EnginePlan, cache_dir: Path) -> Engine:
    try:
        from errand_inference.engines.vllm_process import VllmProcess  # noqa: PLC0415 - only where it is installed
    except ImportError as error:
        message = f"engine: vllm is not installed here ({error}); install it, or name a vLLM server's url."
        raise ModelUnavailable(message, model=source.folder.name) from error
    vllm = VllmProcess(
        source.folder,
        context_tokens=source.context_tokens,
        compute=plan.compute,
        kv_cache_gigabytes=plan.kv_cache_gigabytes,
        batch=plan.max_batch,
    )
    return VllmEngine(source.folder, vllm, precision=plan.compute, context_tokens=source.context_tokens)


ENGINES: dict[str, Callable[[ModelSource, EnginePlan, Path], Engine]] = {
    "openvino": _openvino,
    "transformers": _transformers,
    "vllm": _vllm,
}


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Each library that reads a file or a registry has errors of its own; the caller knows one."""
    try:
        yield
    except ErrandError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise ModelUnavailable(f"The model cannot be loaded: {reason}", model=name) from error


class ModelLoader:
    """Loads models as the settings say. Its methods block, up to minutes, and raise ModelUnavailable."""

    def __init__(self, settings: InferenceSettings) -> None:
        self._settings = settings
        self._registry = (
            MlflowModels(
                settings.mlflow_registry,
                settings.cache_dir,
                most_bytes=int(settings.max_download_gigabytes * 1e9),
            )
            if settings.mlflow_registry
            else None
        )

    def version(self, name: str) -> ModelVersion | None:
        """The version that a model's URI means now; None for a model of another source."""
        with _told(name):
            return self._version(name)

    def _version(self, name: str) -> ModelVersion | None:
        uri = self._settings.of(name).uri
        if not uri:
            return None
        if self._registry is None:
            raise ModelUnavailable(f"{uri}: ERRAND_INFERENCE_MLFLOW_REGISTRY names no MLflow server.", model=name)
        return self._registry.version_of(uri)

    def load(self, name: str, path: Path | None = None) -> LoadedModel:
        """The model of that name; with a `path` that folder's model under its settings."""
        with _told(name):
            return self._loaded(name, path)

    def _loaded(self, name: str, path: Path | None) -> LoadedModel:
        plan = self._settings.plan(name)
        if plan.engine == "remote":
            return LoadedModel(self._remote(name))
        if plan.engine == "scripted":
            return LoadedModel(self._scripted(name))
        version = None if path else self._version(name)
        folder = self._with_adapter(name, path or self._folder(name, version))
        source = open_source(folder, self._settings.cache_dir)
        made = self._served_elsewhere(name, source) or ENGINES[plan.engine](source, plan, self._settings.cache_dir)
        return LoadedModel(made, source.content_hash, version)

    def _served_elsewhere(self, name: str, source: ModelSource) -> Engine | None:
        """A model whose files are here, for its tokenizer, and that a vLLM server runs."""
        own, plan = self._settings.of(name), self._settings.plan(name)
        if plan.engine != "vllm" or not own.url:
            return None
        key = self._settings.provider_keys.get(name)
        address = Address(
            own.url,
            own.remote_model,
            {"authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            silent_seconds=own.silent_seconds,
            connections=plan.max_batch,
        )
        return VllmServerEngine(source.folder, VllmServer(address), context_tokens=source.context_tokens)

    def _folder(self, name: str, version: ModelVersion | None) -> Path:
        own = self._settings.of(name)
        if version is not None and self._registry is not None:
            return self._registry.fetch(version)
        if own.hub_id:
            token = self._settings.hub_token.get_secret_value() if self._settings.hub_token else None
            return fetch(own.hub_id, token, self._settings.cache_dir)
        if own.path is None:
            raise ModelUnavailable(f"models.{name}: name its path, hub_id, uri or url.", model=name)
        return own.path

    def _with_adapter(self, name: str, folder: Path) -> Path:
        adapter = self._settings.of(name).adapter
        return merged_folder(folder, adapter, self._settings.cache_dir) if adapter else folder

    def _remote(self, name: str) -> Engine:
        own, plan = self._settings.of(name), self._settings.plan(name)
        options = RemoteOptions(
            own.url,
            own.remote_model,
            own.api,
            self._settings.provider_keys.get(name),
            context_tokens=own.context_tokens,
            silent_seconds=own.silent_seconds,
            connections=plan.max_batch,
        )
        return RemoteEngine(options)

    def _scripted(self, name: str) -> Engine:
        if self._settings.script_file is None:
            raise ModelUnavailable("The scripted engine needs ERRAND_INFERENCE_SCRIPT_FILE.", model=name)
        return ScriptedEngine.from_file(self._settings.script_file)

    def convert(self, name: str) -> None:
        """Makes the files that the model is run from, ahead of its first start."""
        if self._settings.plan(name).engine == "openvino":
            self.convert_folder(name, self._with_adapter(name, self._folder(name, self.version(name))))

    def convert_folder(self, name: str, folder: Path) -> None:
        """Converts a folder's model as a model of that name would be."""
        plan = self._settings.plan(name)
        if plan.engine == "openvino":
            openvino_folder(open_source(folder, self._settings.cache_dir), plan.precision, self._settings.cache_dir)

    def close(self) -> None:
        """Closes the connection to the registry."""
        if self._registry is not None:
            self._registry.close()
