"""What needs no key: health, metrics, the public signing key, the documentation."""

from importlib import resources
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, JSONResponse
from starlette.staticfiles import StaticFiles

from errand_gateway.domain.health import Readiness
from errand_gateway.transport.services import ServicesDep

router = APIRouter()

_DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; font-src 'self'; frame-ancestors 'none'"
)
_DOCS_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Errand API</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
<link rel="icon" href="docs/assets/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_DOCS_START: Final = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  persistAuthorization: false,
  validatorUrl: null
});
"""


class Health(BaseModel):
    """The process lives."""

    status: str = "ok"


@router.get("/healthz", tags=["health"], summary="Is the process alive?")
async def healthz() -> Health:
    """Answers as long as the process does."""
    return Health()


@router.get(
    "/readyz",
    tags=["health"],
    summary="Can it work?",
    responses={
        200: {"description": "Every needed component is ready."},
        503: {"model": Readiness, "description": "A needed component is away, or we are stopping."},
    },
)
async def readyz(services: ServicesDep, response: Response) -> Readiness:
    """Each component's state and latency in milliseconds; probed at most once a second."""
    readiness = await services.readiness.check()
    response.status_code = 200 if readiness.ready else 503
    return readiness


@router.get(
    "/metrics",
    tags=["health"],
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """All series of this process, as OpenMetrics where that is asked for."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    text = await run_in_threadpool(encode, REGISTRY)
    return Response(text, headers={"Content-Type": content_type})


@router.get("/.well-known/jwks.json", tags=["auth"], summary="The public signing key")
async def jwks(services: ServicesDep) -> dict[str, Any]:
    """The key set that verifies tokens of `POST /api/v1/token`."""
    return services.signer.jwks()


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """The interactive documentation."""
    return HTMLResponse(_DOCS_PAGE, headers={"Content-Security-Policy": _DOCS_POLICY})


@router.get("/docs/start.js", include_in_schema=False)
async def docs_start() -> Response:
    """Starts the documentation page."""
    return Response(_DOCS_START, media_type="text/javascript")


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """The description of this API."""
    return JSONResponse(request.app.openapi())


def docs_assets() -> StaticFiles:
    """Swagger UI's files, from a package: the page works with no internet."""
    return StaticFiles(directory=str(resources.files("fastapi_offline") / "static"))
