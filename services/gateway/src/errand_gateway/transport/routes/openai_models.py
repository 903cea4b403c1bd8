"""GET /v1/models and POST /v1/embeddings, as OpenAI's clients call them."""

import array
import base64
from collections.abc import Sequence
from typing import Annotated, Any, Final

from errand_common.errors import NotFound
from errand_common.principal import Principal
from fastapi import Depends, Path, Request
from pydantic import BaseModel

from errand_gateway.domain.permissions import Permission
from errand_gateway.domain.resources import PageQuery
from errand_gateway.transport.access import Requires, openai_router
from errand_gateway.transport.context import context_of
from errand_gateway.transport.openai.bodies import EmbeddingRequest
from errand_gateway.transport.openai.requests import AGENT_PREFIX
from errand_gateway.transport.services import Services, ServicesDep
from errand_gateway.transport.spending import hold_for_model

router = openai_router(prefix="/v1", tags=["openai"])

User = Annotated[Principal, Depends(Requires(Permission.MODELS_USE))]
# Models have no date of making here; clients want a number.
_CREATED: Final = 0


class ModelBody(BaseModel):
    """A model that requests may name."""

    id: str
    object: str = "model"
    created: int = _CREATED
    owned_by: str


class ModelList(BaseModel):
    """The models."""

    object: str = "list"
    data: Sequence[ModelBody]


class EmbeddingBody(BaseModel):
    """A vector, as numbers or as base64 of little-endian 32-bit floats."""

    object: str = "embedding"
    index: int
    embedding: Sequence[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """The vectors, in the order of the texts."""

    object: str = "list"
    data: Sequence[EmbeddingBody]
    model: str
    usage: EmbeddingUsage


@router.get("/models", summary="List models and agents")
async def list_models(services: ServicesDep, _caller: User) -> ModelList:
    """Served models by name, and the tenant's agents as `agent:NAME`."""
    return ModelList(data=await _models(services))


@router.get("/models/{model}", summary="Get a model")
async def get_model(
    model: Annotated[str, Path(max_length=256, examples=["agent:default"])], services: ServicesDep, _caller: User
) -> ModelBody:
    """One model."""
    for found in await _models(services):
        if found.id == model:
            return found
    raise NotFound("model", model)


async def _models(services: Services) -> list[ModelBody]:
    models = [ModelBody(id=model.name, owned_by="errand") for model in await services.models.list_models()]
    page = PageQuery(size=200)
    while True:
        agents = await services.agents.list_agents(page)
        models += [ModelBody(id=f"{AGENT_PREFIX}{agent.name}", owned_by="tenant") for agent in agents.items]
        if not agents.next_page_token or len(models) >= 2_000:
            return models
        page = PageQuery(size=200, token=agents.next_page_token)


@router.post("/embeddings", summary="Embed texts")
async def create_embeddings(
    body: EmbeddingRequest, request: Request, services: ServicesDep, caller: User
) -> EmbeddingList:
    """Vectors of unit length; texts past the model's window are cut."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    size = sum(len(text.encode()) for text in texts)
    await hold_for_model(request, services, caller, body.model, prompt_bytes=size + 2 * len(texts), max_tokens=0)
    found = await services.models.embed(body.model, texts)
    context = context_of(request.scope)
    context.model, context.prompt_tokens = found.model, found.usage.prompt_tokens
    vectors = [
        EmbeddingBody(index=index, embedding=_encoded(vector, body.encoding_format))
        for index, vector in enumerate(found.vectors)
    ]
    tokens = found.usage.prompt_tokens
    return EmbeddingList(
        data=vectors, model=found.model, usage=EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
    )


def _encoded(vector: Sequence[float], encoding: str) -> Any:
    if encoding == "float":
        return vector
    return base64.b64encode(array.array("f", vector).tobytes()).decode()
