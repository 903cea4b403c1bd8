"""Settings of the inference service: ERRAND_INFERENCE_…"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, Self

from errand_common.settings import ServiceSettings
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import SettingsConfigDict

from errand_inference.engines.wire import OpenVinoOptions

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,128}$")]


class ModelSettings(BaseModel):
    """One model beside the default one, or the default one by its name. What is not set is the service's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Literal["openvino", "transformers", "vllm", "remote"] | None = Field(
        default=None, description="what runs it"
    )
    path: Path | None = Field(default=None, description="folder of the model (Hugging Face layout)")
    hub_id: str = Field(default="", description="model to download from the hub")
    uri: str = Field(
        default="",
        pattern=r"^(models:/[^/@]+(@|/)[^/@]+)?$",
        description="model of MLflow's registry: models:/NAME/VERSION, or models:/NAME@ALIAS, which is followed",
    )
    adapter: Path | None = Field(default=None, description="folder of a LoRA adapter (PEFT layout) for the model")
    precision: Literal["fp32", "int8"] | None = Field(default=None, description="weight format of the openvino engine")
    compute: Literal["auto", "f32", "bf16"] | None = Field(default=None, description="numbers it computes with")
    device: str | None = Field(default=None, description="torch device of the transformers engine")
    threads: int | None = Field(default=None, ge=0, le=512, description="CPU threads; 0 takes all")
    kv_cache_gigabytes: int | None = Field(default=None, ge=1, le=512, description="memory of the KV cache")
    max_batch: int | None = Field(default=None, ge=1, le=1024, description="requests that run at once")
    queue_capacity: int | None = Field(default=None, ge=1, le=100_000, description="requests that may wait")
    fallbacks: tuple[ModelName, ...] = Field(
        default=(), max_length=8, description="models that are asked in this order when this one fails"
    )
    shadow: str = Field(default="", description="model that gets a share of the requests too; its answers are compared")
    shadow_percent: float = Field(default=0, ge=0, le=100, description="share of the requests that the shadow gets")
    api: Literal["openai", "anthropic"] = Field(default="openai", description="API of a remote model's provider")
    url: str = Field(
        default="",
        pattern=r"^(https?://[^\s]+)?$",
        description="address of a provider, or of a vLLM server that runs the model, such as https://host/v1",
    )
    remote_model: str = Field(default="", max_length=256, description="the provider's or server's name of the model")
    context_tokens: int = Field(default=128_000, ge=256, le=10_000_000, description="tokens a remote model reads")
    silent_seconds: float = Field(default=60, gt=0, le=600, description="longest silence of a provider")

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        sources = [name for name in ("path", "hub_id", "uri") if getattr(self, name)]
        sources += ["url"] if self.url and self.engine != "vllm" else []
        if len(sources) > 1:
            raise ValueError(f"name one source of the model, not {' and '.join(sources)}")
        if bool(self.url) != bool(self.remote_model) or (self.engine == "remote" and not self.url):
            raise ValueError("a remote model has engine remote, url and remote_model; no other model has them")
        if self.url and self.engine not in ("remote", "vllm"):
            raise ValueError("url and remote_model are for engine remote, or vllm when a server runs the model")
        if bool(self.shadow) != bool(self.shadow_percent):
            raise ValueError("shadow and shadow_percent go together")
        return self


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How one model is run, nothing left open."""

    engine: str
    precision: str
    compute: str
    device: str
    threads: int
    kv_cache_gigabytes: int
    max_batch: int
    queue_capacity: int

    @property
    def openvino_options(self) -> OpenVinoOptions:
        """How OpenVINO's pipeline is built."""
        fastest = "fastest" if self.precision == "int8" else "f32"
        return OpenVinoOptions(
            cache_gigabytes=self.kv_cache_gigabytes,
            max_batch=self.max_batch,
            threads=self.threads,
            compute=fastest if self.compute == "auto" else self.compute,
        )


class InferenceSettings(ServiceSettings):
    """What the inference service can be told."""

    model_config = SettingsConfigDict(env_prefix="ERRAND_INFERENCE_", extra="forbid")

    port: int = Field(default=50052, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    model_name: str = Field(default="errand-tiny", description="name the default model is served under")
    model_path: Path = Field(default=Path("models/errand-tiny"), description="folder of the default model")
    models_dir: Path | None = Field(default=None, description="folder LoadModel may read; default: model_path's parent")
    models: dict[ModelName, ModelSettings] = Field(
        default_factory=dict, description="further models by name, and settings of the default one, a JSON object"
    )
    provider_keys: dict[str, SecretStr] = Field(
        default_factory=dict, description="keys of remote models' providers by model name, a JSON object"
    )
    hub_id: str = Field(default="", description="model to download from the hub instead of model_path; empty for none")
    hub_token: SecretStr | None = Field(default=None, description="token for gated models of the hub")
    mlflow_registry: str = Field(
        default="", pattern=r"^(https?://[^\s]+)?$", description="URL of the MLflow server that models:/ URIs refer to"
    )
    max_download_gigabytes: float = Field(
        default=20, gt=0, le=2000, description="largest model that is downloaded from the MLflow registry"
    )
    poll_seconds: float = Field(
        default=60, ge=1, le=86_400, description="time between looks at the registry and at models that did not load"
    )
    probe_seconds: float = Field(
        default=15,
        ge=0,
        le=3600,
        description="time between looks whether remote models' providers answer; 0 never looks",
    )
    engine: Literal["openvino", "transformers", "vllm", "scripted"] = "openvino"
    precision: Literal["fp32", "int8"] = Field(default="fp32", description="weight format of the openvino engine")
    compute: Literal["auto", "f32", "bf16"] = Field(
        default="auto",
        description="numbers the openvino engine computes with; auto: bf16 for int8 weights where the processor has it",
    )
    device: str = Field(default="cpu", description="torch device of the transformers engine")
    script_file: Path | None = Field(default=None, description="rules of the scripted engine, a JSON list")
    cache_dir: Path = Field(default=Path(".cache/errand"), description="folder of converted models")
    threads: int = Field(default=0, ge=0, le=512, description="CPU threads of a model; 0 takes all")
    kv_cache_gigabytes: int = Field(default=1, ge=1, le=512, description="memory of the KV cache")
    max_batch: int = Field(default=64, ge=1, le=1024, description="requests that run at once")
    queue_capacity: int = Field(default=256, ge=1, le=100_000, description="requests that may wait")
    embedding_precision: Literal["fp32", "int8"] = Field(
        default="int8",
        description="weight format of the embedding model; vectors of both may be searched together",
    )
    reranker_path: Path | None = Field(
        default=None, description="folder of a cross-encoder (model.onnx, tokenizer.json) that orders passages"
    )
    max_models: int = Field(default=4, ge=1, le=64, description="models served at once")
    remembered_prefixes: int = Field(
        default=16,
        ge=0,
        le=64,
        description="agents' instructions and tools kept in data_dir to be read at the next start; 0 keeps none",
    )
    remembered_prefix_days: int = Field(
        default=7,
        ge=1,
        le=365,
        description="days after which instructions and tools that no agent has sent again are forgotten",
    )
    attempts: int = Field(default=3, ge=1, le=10, description="attempts of a request at one model that fails")
    max_answer_characters: int = Field(
        default=50_000, ge=100, le=1_000_000, description="longest answer; a longer one is cut and says so"
    )

    @model_validator(mode="after")
    def _names_models_that_are_there(self) -> Self:
        known = {self.model_name, *self.models}
        for name, model in self.models.items():
            for other in (*model.fallbacks, *([model.shadow] if model.shadow else [])):
                if other not in known or other == name:
                    raise ValueError(
                        f"models.{name}: {other!r} is no other model; known are {', '.join(sorted(known))}"
                    )
        if len(known) > self.max_models:
            raise ValueError(f"max_models: {len(known)} models are named, {self.max_models} may be served")
        return self

    def of(self, name: str) -> ModelSettings:
        """A model's own settings; the default one's source is the service's when it names none."""
        own = self.models.get(name, ModelSettings())
        if name != self.model_name or own.path or own.hub_id or own.uri or own.engine == "remote":
            return own
        return own.model_copy(update={"hub_id": self.hub_id} if self.hub_id else {"path": self.model_path})

    def plan(self, name: str) -> EnginePlan:
        """How a model is run: by its own settings, and the service's where it has none."""
        own = self.of(name)
        chosen = {
            field.name: getattr(self, field.name) if getattr(own, field.name) is None else getattr(own, field.name)
            for field in fields(EnginePlan)
        }
        return EnginePlan(**chosen)
