"""Several models at once: settings of each, aliases that are followed, adapters, and old models that stay."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from errand_common.errors import Conflict, ModelUnavailable
from errand_common.settings import SettingsError, load_settings
from errand_common.testing.keys import free_port
from errand_inference.domain.engine import EngineRequest
from errand_inference.domain.scheduler import Priority, Ticket
from errand_inference.engines.transformers import TransformersEngine
from errand_inference.loading import ModelLoader
from errand_inference.metrics import LOADS
from errand_inference.mlflow_models import MlflowModels
from errand_inference.model_store import merged_folder, open_source
from errand_inference.registry import ModelRegistry
from errand_inference.settings import InferenceSettings, ModelSettings
from errand_inference.testing.provider import Provider, serving_provider
from prometheus_client import REGISTRY

# On a busy machine it starts in minutes.
_MLFLOW_SECONDS = 400


def failed_loads() -> float:
    return float(LOADS.labels("failed")._value.get())


async def said(models: ModelRegistry, name: str, tokens: int = 8) -> str:
    request = EngineRequest("<bos>hello there", tokens)
    return "".join([delta.text async for delta in models.get(name).engine.generate(request)])


async def first_logprob(models: ModelRegistry, name: str) -> float:
    request = EngineRequest("<bos>hello there", 1, logprobs=True)
    (delta,) = [delta async for delta in models.get(name).engine.generate(request)]
    return delta.logprobs[0].logprob


@pytest.fixture(scope="module")
def other_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shape with other weights."""
    from errand_inference.testing.random_model import SHAPES, build_random_model  # noqa: PLC0415 - loads torch

    return build_random_model(tmp_path_factory.mktemp("models") / "other", SHAPES["tiny"], seed=8)


async def test_models_have_their_own_settings_and_come_and_go_without_disturbing_others(
    tiny_model: Path, other_model: Path, tmp_path: Path
) -> None:
    settings = InferenceSettings(
        engine="transformers",
        model_name="base",
        model_path=tiny_model,
        models_dir=tmp_path.parent,
        cache_dir=tmp_path,
        data_dir=tmp_path,
        models={"other": ModelSettings(path=other_model, max_batch=2, queue_capacity=5, threads=1)},
    )
    models = ModelRegistry(settings)
    await models.load_named()
    assert [model.name for model in models.all()] == ["base", "other"]
    scheduler = models.get("other").dispatcher.scheduler
    assert (scheduler.slots, scheduler.capacity, models.get("").dispatcher.scheduler.slots) == (2, 5, 64)
    alone = await said(models, "base", 40)
    running = asyncio.create_task(said(models, "base", 40))
    await models.load("third", other_model)
    await models.unload("third")
    assert await running == alone != await said(models, "other", 40)
    with pytest.raises(ModelUnavailable, match="third"):
        models.get("third")
    await models.close()


async def test_a_model_that_does_not_load_leaves_the_others_and_is_tried_again(
    tiny_model: Path, tmp_path: Path
) -> None:
    late = tmp_path / "late"
    settings = InferenceSettings(
        engine="transformers",
        model_name="base",
        model_path=tiny_model,
        cache_dir=tmp_path,
        data_dir=tmp_path,
        poll_seconds=1,
        models={"late": ModelSettings(path=late)},
    )
    models = ModelRegistry(settings)
    before = failed_loads()
    await models.load_named()
    assert [model.name for model in models.all()] == ["base"]
    assert failed_loads() == before + 1
    shutil.copytree(tiny_model, late)
    keeper = asyncio.create_task(models.keep())
    async with asyncio.timeout(60):
        while len(models.all()) < 2:  # noqa: ASYNC110 - loading has no event
            await asyncio.sleep(0.05)
    keeper.cancel()
    await models.close()


class Mlflow:
    """A real MLflow server's registry."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=f"{url}/api/2.0", timeout=30)

    def register(self, folder: Path) -> str:
        """Logs the folder with a run and makes a version of it, as a training job does."""
        asked = {"experiment_id": "0", "start_time": 1}
        run = self.http.post("/mlflow/runs/create", json=asked).raise_for_status().json()["run"]["info"]
        artifacts = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
        for file in folder.iterdir():
            path = f"/mlflow-artifacts/artifacts/{artifacts}/model/{file.name}"
            self.http.put(path, content=file.read_bytes()).raise_for_status()
        body = {"name": "tiny", "source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
        made = self.http.post("/mlflow/model-versions/create", json=body).raise_for_status().json()
        return str(made["model_version"]["version"])

    def point(self, version: str) -> None:
        body = {"name": "tiny", "alias": "production", "version": version}
        self.http.post("/mlflow/registered-models/alias", json=body).raise_for_status()


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files")),
    ]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    server = Mlflow(f"http://127.0.0.1:{port}")
    try:
        _until_up(server, process)
        server.http.post("/mlflow/registered-models/create", json={"name": "tiny"}).raise_for_status()
        yield server
    finally:
        process.terminate()
        process.wait(30)
        server.http.close()


def _until_up(server: Mlflow, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _MLFLOW_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            if server.http.get(f"{server.url}/health").is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError("MLflow did not start")


@pytest.mark.timeout(_MLFLOW_SECONDS + 120)
async def test_an_alias_is_followed_and_a_corrupt_version_changes_nothing(
    mlflow: Mlflow, tiny_model: Path, other_model: Path, tmp_path: Path
) -> None:
    corrupt = Path(shutil.copytree(tiny_model, tmp_path / "corrupt"))
    weights = corrupt / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    first, second, third = [mlflow.register(folder) for folder in (tiny_model, corrupt, other_model)]
    mlflow.point(first)
    settings = InferenceSettings(
        engine="transformers",
        model_name="tiny",
        cache_dir=tmp_path / "cache",
        data_dir=tmp_path,
        poll_seconds=1,
        mlflow_registry=mlflow.url,
        models={"tiny": ModelSettings(uri="models:/tiny@production")},
    )
    models = ModelRegistry(settings)
    await models.load_named()
    told = await said(models, "")
    with pytest.raises(Conflict, match="alias"):
        await models.load_from("tiny", settings.model_path)
    keeper = asyncio.create_task(models.keep())
    before = failed_loads()
    mlflow.point(second)
    await _until(lambda: failed_loads() > before)
    assert models.is_alive
    assert await said(models, "") == told
    mlflow.point(third)
    await _until(lambda: (version := models.get("").version) is not None and version.version == third)
    assert await said(models, "") != told
    # A broken version is not converted at every look.
    assert failed_loads() == before + 1
    keeper.cancel()
    await models.close()


async def _until(holds: Any) -> None:
    async with asyncio.timeout(90):
        while not holds():  # noqa: ASYNC110 - loading has no event
            await asyncio.sleep(0.05)


@pytest.mark.timeout(_MLFLOW_SECONDS + 120)
def test_what_the_registry_does_not_have_is_named(mlflow: Mlflow, tmp_path: Path) -> None:
    registry = MlflowModels(mlflow.url, tmp_path, most_bytes=10**6)
    for uri, told in (("models:/tiny@nobody", "404|400"), ("models:/none/1", "404"), ("elsewhere", "neither")):
        with pytest.raises(ModelUnavailable, match=told):
            registry.version_of(uri)
    registry.close()
    away = MlflowModels(f"http://127.0.0.1:{free_port()}", tmp_path, most_bytes=10**6)
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        away.version_of("models:/tiny@production")
    away.close()


ALIAS = {"model_version": {"version": 1}}
PLACE = {"artifact_uri": "mlflow-artifacts:/1/model"}


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"alias": []}, "cannot be loaded"),
        ({"alias": b"x" * 9_000_000}, "cannot be read"),
        ({"alias": {}}, "cannot be loaded"),
        ({"alias": ALIAS, "get-download-uri": PLACE, "artifacts": {"files": []}}, "holds no config.json"),
        ({"alias": ALIAS, "get-download-uri": PLACE, "artifacts": {"files": 7}}, "cannot be loaded"),
        (
            {"alias": ALIAS, "get-download-uri": PLACE, "artifacts": {"files": [{"path": "a/.."}]}},
            r"a place that is none: \.\.",
        ),
        (
            {"alias": ALIAS, "get-download-uri": PLACE, "artifacts": {"files": [{"path": "a", "is_dir": True}]}},
            "a place that is none: a/a",
        ),
    ],
)
def test_a_registry_that_answers_nonsense_is_a_model_that_does_not_load(
    answers: dict[str, Any], told: str, tmp_path: Path
) -> None:
    """Another error would end the task that keeps all models."""
    settings = InferenceSettings(
        model_name="m",
        cache_dir=tmp_path / "cache",
        mlflow_registry="http://mlflow",
        models={"m": ModelSettings(uri="models:/m@production")},
    )
    loader = ModelLoader(settings)
    assert loader._registry is not None
    loader._registry._http = answering(answers)
    with pytest.raises(ModelUnavailable, match=told):
        loader.load("m")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in ([], ["m-1.lock"])
    loader.close()


def answering(answers: dict[str, Any]) -> httpx.Client:
    """A registry that gives each path's last part its answer: bytes as they are, anything else as JSON."""

    def answer(asked: httpx.Request) -> httpx.Response:
        given = answers[Path(asked.url.path).name]
        return httpx.Response(200, content=given) if isinstance(given, bytes) else httpx.Response(200, json=given)

    return httpx.Client(base_url="http://mlflow", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(("most_gigabytes", "kept"), [(0.0021, True), (0.0019, False)])
def test_a_model_that_is_too_large_is_not_kept(most_gigabytes: float, kept: bool, tmp_path: Path) -> None:
    settings = InferenceSettings(
        model_name="m",
        cache_dir=tmp_path / "cache",
        mlflow_registry="http://mlflow",
        max_download_gigabytes=most_gigabytes,
        models={"m": ModelSettings(uri="models:/m@production")},
    )
    loader = ModelLoader(settings)
    assert loader._registry is not None
    files = {"files": [{"path": "model/first.bin"}, {"path": "model/second.bin"}]}
    listed = {"alias": ALIAS, "get-download-uri": PLACE, "artifacts": files}
    loader._registry._http = answering({**listed, "first.bin": b"1" * 1_000_000, "second.bin": b"2" * 1_000_000})
    told = "holds no config.json" if kept else "larger than 0.0019 GB; raise ERRAND_INFERENCE_MAX_DOWNLOAD_GIGABYTES"
    with pytest.raises(ModelUnavailable, match=told):
        loader.load("m")
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.bin")) == (2_000_000 if kept else 0)
    loader.close()


def adapter_for(base: Path, folder: Path, *, rank: int = 4, width: int = 0) -> Path:
    import torch  # noqa: PLC0415 - loads in seconds
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - as above

    weights = load_file(base / "model.safetensors")
    name = next(name for name in weights if name.endswith("self_attn.q_proj.weight"))
    rows, columns = weights[name].shape
    torch.manual_seed(3)
    prefix = f"base_model.model.{name.removesuffix('.weight')}"
    folder.mkdir()
    tensors = {
        f"{prefix}.lora_A.weight": torch.randn(rank, width or columns),
        f"{prefix}.lora_B.weight": torch.randn(rows, rank),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": 8, "bias": "none"}))
    return folder


async def test_an_adapter_is_served_beside_its_base(tiny_model: Path, tmp_path: Path) -> None:
    adapter = adapter_for(tiny_model, tmp_path / "adapter")
    settings = InferenceSettings(
        engine="transformers",
        model_name="base",
        model_path=tiny_model,
        cache_dir=tmp_path / "cache",
        data_dir=tmp_path,
        models={"tuned": ModelSettings(path=tiny_model, adapter=adapter)},
    )
    models = ModelRegistry(settings)
    await models.load_named()
    tuned = models.get("tuned").engine
    assert isinstance(tuned, TransformersEngine)
    assert await first_logprob(models, "tuned") != await first_logprob(models, "base")
    _check_sum(tiny_model, adapter, merged_folder(tiny_model, adapter, tmp_path / "cache"))
    await models.close()


def _check_sum(base: Path, adapter: Path, merged: Path) -> None:
    import torch  # noqa: PLC0415 - loads in seconds
    from safetensors.torch import load_file  # noqa: PLC0415 - as above

    before, after, parts = (
        load_file(file)
        for file in (
            base / "model.safetensors",
            merged / "model.safetensors",
            adapter / "adapter_model.safetensors",
        )
    )
    (right, left) = (parts[name] for name in sorted(parts))
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(changed) == 1
    assert torch.allclose(after[changed[0]] - before[changed[0]], 2 * left @ right, atol=1e-4)
    assert open_source(merged).content_hash != open_source(base).content_hash


def test_an_adapter_that_does_not_fit_is_refused_and_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(ModelUnavailable, match="does not fit"):
        merged_folder(tiny_model, adapter_for(tiny_model, tmp_path / "wide", width=7), cache)
    with pytest.raises(ModelUnavailable, match=r"adapter_config\.json"):
        merged_folder(tiny_model, tmp_path, cache)
    assert not list(cache.rglob("model.safetensors"))


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ({"a": {"path": "x", "hub_id": "y"}}, "one source"),
        ({"a": {"engine": "remote", "url": "https://x/v1"}}, "remote_model"),
        ({"a": {"url": "https://x/v1", "remote_model": "m"}}, "engine remote"),
        ({"a": {"path": "x", "fallbacks": ["b"]}}, "'b' is no other model"),
        ({"a": {"path": "x", "fallbacks": ["a"]}}, "'a' is no other model"),
        ({"a": {"path": "x", "shadow": "errand-tiny"}}, "shadow_percent"),
        ({"a": {"uri": "models:/x"}}, "uri"),
        ({"a": {"pth": "x"}}, "pth"),
        ({name: {"path": "x"} for name in "abcd"}, "max_models"),
        ({"a/b": {"path": "x"}}, "pattern"),
    ],
)
def test_settings_that_make_no_sense_are_named(
    models: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("ERRAND_INFERENCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ERRAND_INFERENCE_MODELS", json.dumps(models))
    with pytest.raises(SettingsError) as refused:
        load_settings(InferenceSettings)
    assert told.lower() in str(refused.value).lower()


async def test_a_provider_is_a_model_like_others_and_its_key_is_not_shown(tiny_model: Path, tmp_path: Path) -> None:
    with serving_provider(Provider([])) as provider:
        settings = InferenceSettings(
            engine="transformers",
            model_name="base",
            model_path=tiny_model,
            cache_dir=tmp_path,
            data_dir=tmp_path,
            models={
                "base": ModelSettings(fallbacks=("big",), shadow="big", shadow_percent=50),
                "big": ModelSettings(engine="remote", url=provider.url, remote_model="gpt", max_batch=3),
            },
            provider_keys={"big": "hush"},  # type: ignore[dict-item]
        )
        assert "hush" not in settings.model_dump_json()
        models = ModelRegistry(settings)
        await models.load_named()
        # Loading costs no request that a provider would charge for.
        assert provider.asked == []
        base = models.get("")
        assert [dispatcher.model for dispatcher in models.fallbacks(base)] == ["big"]
        shadow = models.shadow(base)
        assert shadow is not None
        assert (shadow[0].name, shadow[1]) == ("big", 0.5)
        await models.close()


@pytest.fixture
async def far(tmp_path: Path) -> AsyncIterator[tuple[ModelRegistry, Provider]]:
    """A remote default model and one on this machine, each behind the other."""
    script = tmp_path / "script.json"
    script.write_text("[]")
    with serving_provider(Provider([])) as provider:
        settings = InferenceSettings(
            engine="scripted",
            script_file=script,
            model_name="far",
            data_dir=tmp_path,
            probe_seconds=0.01,
            models={
                "far": ModelSettings(engine="remote", url=provider.url, remote_model="gpt"),
                "safe": ModelSettings(engine="remote", url=provider.url, remote_model="gpt", fallbacks=("near",)),
                "near": ModelSettings(),
            },
            provider_keys={"far": provider.key, "safe": provider.key},  # type: ignore[dict-item]
        )
        models = ModelRegistry(settings)
        await models.load_named()
        probing = asyncio.create_task(models.probe())
        yield models, provider
        probing.cancel()
        await models.close()


def up(model: str) -> float | None:
    return REGISTRY.get_sample_value("llm_provider_up", {"model": model})


async def test_a_provider_that_answers_again_gets_the_next_request_at_once(
    far: tuple[ModelRegistry, Provider],
) -> None:
    models, provider = far
    breaker = models.get("far").dispatcher.breaker
    provider.probe_failures = [503] * 1_000_000
    await _until(lambda: up("far") == 0)
    for _ in range(breaker.failures):
        breaker.failed(time.monotonic())
    assert REGISTRY.get_sample_value("circuits_open", {"target": "model far"}) == 1
    assert not breaker.allows(time.monotonic())
    provider.probe_failures = []
    await _until(lambda: breaker.allows(time.monotonic()))
    assert up("far") == 1
    # Only a request that succeeds closes it.
    assert breaker.is_open


async def test_health_follows_a_provider_unless_a_fallback_stands_in(far: tuple[ModelRegistry, Provider]) -> None:
    models, provider = far
    provider.probe_failures = [503] * 1_000_000
    await _until(lambda: not models.is_alive)
    provider.probe_failures = []
    await _until(lambda: models.is_alive)
    models._settings = models._settings.model_copy(update={"model_name": "safe"})
    provider.probe_failures = [503] * 1_000_000
    await _until(lambda: up("safe") == 0)
    assert models.is_alive


async def test_a_queue_is_seen_while_no_turn_ends_and_an_unloaded_model_is_seen_no_more(
    far: tuple[ModelRegistry, Provider],
) -> None:
    models, _ = far
    scheduler = models.get("near").dispatcher.scheduler
    for number in range(scheduler.running, 2):
        scheduler.submit(Ticket(str(number), "t", Priority.NORMAL, 1e9), 0.0)
    scheduler.plan(0.0)
    assert REGISTRY.get_sample_value("llm_batch_size", {"model": "near"}) == 2
    scheduler.submit(Ticket("waits", "t", Priority.NORMAL, 1e9), 0.0)
    assert REGISTRY.get_sample_value("llm_queue_depth", {"model": "near"}) == 1
    await models.unload("near")
    assert REGISTRY.get_sample_value("llm_queue_depth", {"model": "near"}) is None
    assert REGISTRY.get_sample_value("circuits_open", {"target": "model near"}) is None
