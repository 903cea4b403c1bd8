"""Builds the inference service from its settings and runs it."""

from __future__ import annotations

import asyncio

import structlog
from errand.inference.v1 import inference_pb2_grpc
from errand_common.main import wait_for_shutdown
from errand_common.rpc.server import Registration, RpcServer
from errand_common.telemetry import configure_logging, configure_tracing, shutdown_tracing
from errand_common.telemetry.metrics import serve_metrics
from errand_common.tokens import TokenVerifier

from errand_inference.domain.generation import Generation
from errand_inference.embeddings import MiniLmEmbedder
from errand_inference.metrics import PrometheusObserver
from errand_inference.model_store import minilm_folder, open_source, openvino_folder
from errand_inference.registry import ModelRegistry
from errand_inference.settings import InferenceSettings
from errand_inference.transport.servicer import InferenceServicer

SERVICE_NAME = "errand.inference.v1.InferenceService"
_log = structlog.get_logger(__name__)


async def serve(settings: InferenceSettings) -> None:
    """Serves until the process is asked to end; healthy only once the models are loaded."""
    configure_logging("inference", settings.log_level, settings.log_format)
    configure_tracing("inference", settings)
    serve_metrics(settings.metrics_port, settings.host)
    models = ModelRegistry(settings)
    embedder = await asyncio.to_thread(_embedder, settings)
    servicer = InferenceServicer(models, Generation(PrometheusObserver()), embedder)
    registration = Registration(inference_pb2_grpc.add_InferenceServiceServicer_to_server, servicer, SERVICE_NAME)
    server = RpcServer(settings, TokenVerifier(settings.jwks), [registration])
    port = await server.start()
    try:
        await models.load(settings.model_name, settings.model_path)
        await server.set_serving(True)
        _log.info("serving", port=port)
        await wait_for_shutdown()
    finally:
        await server.stop(settings.drain_seconds)
        await models.close()
        embedder.close()
        shutdown_tracing()


def _embedder(settings: InferenceSettings) -> MiniLmEmbedder:
    return MiniLmEmbedder(minilm_folder(settings.cache_dir), threads=settings.threads)


def prepare(settings: InferenceSettings) -> None:
    """Converts the default model and exports the embedding model ahead of the first start."""
    minilm_folder(settings.cache_dir)
    if settings.engine == "openvino":
        openvino_folder(open_source(settings.model_path), settings.precision, settings.cache_dir)
