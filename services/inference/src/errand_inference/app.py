"""Builds the inference service from its settings and runs it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
from errand.inference.v1 import inference_pb2_grpc
from errand_common.errors import ModelUnavailable
from errand_common.main import wait_for_shutdown
from errand_common.rpc.server import Registration, RpcServer
from errand_common.telemetry import configure_logging, configure_tracing, shutdown_tracing
from errand_common.telemetry.metrics import serve_metrics
from errand_common.tokens import TokenVerifier

from errand_inference.domain.generation import Generation
from errand_inference.domain.reliability import Reliability
from errand_inference.embeddings import MiniLmEmbedder
from errand_inference.loading import ModelLoader
from errand_inference.metrics import PrometheusObserver
from errand_inference.model_store import minilm_folder
from errand_inference.registry import ModelRegistry
from errand_inference.reranking import CrossEncoder
from errand_inference.settings import InferenceSettings
from errand_inference.shadow import Shadows
from errand_inference.transport.servicer import InferenceServicer

SERVICE_NAME = "errand.inference.v1.InferenceService"
_HEALTH_SECONDS = 1.0
_log = structlog.get_logger(__name__)


async def serve(settings: InferenceSettings) -> None:
    """Serves until the process is asked to end; healthy only once the models are loaded."""
    configure_logging("inference", settings.log_level, settings.log_format)
    configure_tracing("inference", settings)
    serve_metrics(settings.metrics_port, settings.host)
    models = ModelRegistry(settings)
    loading = asyncio.create_task(models.load_named())
    embedder = await asyncio.to_thread(_embedder, settings)
    reranker = await asyncio.to_thread(_reranker, settings)
    reliability = Reliability(attempts=settings.attempts, most_characters=settings.max_answer_characters)
    generation = Generation(PrometheusObserver(), reliability)
    shadows = Shadows(models, generation)
    servicer = InferenceServicer(models, generation, embedder, shadows, reranker=reranker)
    registration = Registration(inference_pb2_grpc.add_InferenceServiceServicer_to_server, servicer, SERVICE_NAME)
    server = RpcServer(settings, TokenVerifier(settings.jwks), [registration])
    port = await server.start()
    try:
        await loading
        await server.set_serving(True)
        _log.info("serving", port=port)
        keepers = [asyncio.create_task(work) for work in (models.keep(), models.probe())]
        await _until_shutdown(server, models)
        for keeper in keepers:
            keeper.cancel()
    finally:
        loading.cancel()
        await server.stop(settings.drain_seconds)
        await shadows.close()
        await models.close()
        for encoder in (embedder, reranker):
            if encoder is not None:
                encoder.close()
        shutdown_tracing()


async def _until_shutdown(server: RpcServer, models: ModelRegistry) -> None:
    """Health follows the default model: a process whose engine is gone must get no more calls."""
    shutdown = asyncio.create_task(wait_for_shutdown())
    serving = True
    while not (await asyncio.wait([shutdown], timeout=_HEALTH_SECONDS))[0]:
        if serving != models.is_alive:
            serving = models.is_alive
            _log.warning("health changed", serving=serving)
            await server.set_serving(serving)


def _embedder(settings: InferenceSettings) -> MiniLmEmbedder | None:
    try:
        folder = minilm_folder(settings.cache_dir, settings.embedding_precision)
        return MiniLmEmbedder(folder, threads=settings.threads)
    except ModelUnavailable as error:
        _log.warning("no embeddings are served", reason=error.message)
        return None


def _reranker(settings: InferenceSettings) -> CrossEncoder | None:
    """Raises ModelUnavailable: who names a folder wants it served."""
    return None if settings.reranker_path is None else CrossEncoder(settings.reranker_path, threads=settings.threads)


def prepare(settings: InferenceSettings) -> None:
    """Converts the models that the settings name and the embedding model, ahead of the first start."""
    minilm_folder(settings.cache_dir, settings.embedding_precision)
    loader = ModelLoader(settings)
    for name in {settings.model_name: None, **dict.fromkeys(settings.models)}:
        loader.convert(name)


def convert(settings: InferenceSettings, folder: Path) -> None:
    """Converts a folder's model for the engine that is set; raises ModelUnavailable."""
    ModelLoader(settings).convert_folder(settings.model_name, folder)
