"""Settings of the inference service: ERRAND_INFERENCE_…"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from errand_common.settings import ServiceSettings
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict


class InferenceSettings(ServiceSettings):
    """What the inference service can be told."""

    model_config = SettingsConfigDict(env_prefix="ERRAND_INFERENCE_", extra="forbid")

    port: int = Field(default=50052, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    model_name: str = Field(default="errand-tiny", description="name the default model is served under")
    model_path: Path = Field(default=Path("models/errand-tiny"), description="folder of the default model")
    models_dir: Path | None = Field(default=None, description="folder LoadModel may read; default: model_path's parent")
    hub_id: str = Field(default="", description="model to download from the hub instead of model_path; empty for none")
    hub_token: SecretStr | None = Field(default=None, description="token for gated models of the hub")
    engine: Literal["openvino", "transformers", "scripted"] = "openvino"
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
    max_models: int = Field(default=4, ge=1, le=64, description="models served at once")
