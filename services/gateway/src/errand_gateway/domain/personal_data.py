"""Personal data in what people say: found by its form, and masked or refused before it is stored."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from errand_common.errors import InvalidArgument
from errand_common.personal_data import PersonalDataPolicy, masked

from errand_gateway.domain.resources import JsonObject
from errand_gateway.domain.responses import ResponseStore, StoredResponse

__all__ = ["MaskedResponses", "PersonalDataPolicy", "masked", "masked_json", "screened"]


def masked_json(value: Any) -> Any:
    """The same value with personal data in its texts masked."""
    if isinstance(value, str):
        return masked(value)[0]
    if isinstance(value, list):
        return [masked_json(item) for item in value]
    if isinstance(value, Mapping):
        return {name: masked_json(item) for name, item in value.items()}
    return value


def screened(text: str, policy: PersonalDataPolicy, *, field: str) -> str:
    """What an agent may be told; raises InvalidArgument, which names what must be left out, if that is the policy."""
    if policy is PersonalDataPolicy.OFF:
        return text
    safe, found = masked(text)
    if found and policy is PersonalDataPolicy.BLOCK:
        raise InvalidArgument(f"holds personal data ({', '.join(found)}); leave it out", field=field)
    return safe


class MaskedResponses:
    """A store of answers in which no personal data lie."""

    def __init__(self, inner: ResponseStore) -> None:
        self._inner = inner

    async def add(self, response: StoredResponse) -> None:
        """Stores an answer, and deletes what is too old."""
        said: dict[str, Any] = {name: masked_json(getattr(response, name)) for name in ("body", "items", "history")}
        await self._inner.add(replace(response, **said))

    async def get(self, tenant_id: str, response_id: str) -> StoredResponse:
        """One answer; raises NotFound, also when it is older than the store keeps."""
        return await self._inner.get(tenant_id, response_id)

    async def finish(self, tenant_id: str, response_id: str, body: JsonObject) -> None:
        """Replaces the body by the final one."""
        await self._inner.finish(tenant_id, response_id, masked_json(body))

    async def delete(self, tenant_id: str, response_id: str) -> None:
        """Deletes an answer; raises NotFound."""
        await self._inner.delete(tenant_id, response_id)
