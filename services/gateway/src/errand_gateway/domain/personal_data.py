"""Personal data in what people say: found by its form, and masked or refused before it is stored."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from errand_common.errors import InvalidArgument
from errand_common.personal_data import PersonalDataPolicy, masked

from errand_gateway.domain.resources import JsonObject
from errand_gateway.domain.responses import ResponseStore, StoredResponse


class Masker(Protocol):
    """Finds personal data in texts."""

    async def masked(self, text: str) -> tuple[str, list[str]]:
        """The text with personal data masked, and the names of what was found."""
        ...


class FormMasker:
    """Masker of what has a form or a check digit."""

    async def masked(self, text: str) -> tuple[str, list[str]]:
        """The text with personal data masked, and the names of what was found."""
        return masked(text)


class Screening:
    """The policy on what people write, before anything stores it."""

    def __init__(self, policy: PersonalDataPolicy, masker: Masker) -> None:
        self.policy = policy
        self._masker = masker

    async def text(self, text: str, *, field: str) -> str:
        """What may be passed on; raises InvalidArgument, which names what must be left out, if that is the policy."""
        if self.policy is PersonalDataPolicy.OFF or not text:
            return text
        safe, found = await self._masker.masked(text)
        if found and self.policy is PersonalDataPolicy.BLOCK:
            raise InvalidArgument(f"holds personal data ({', '.join(found)}); leave it out", field=field)
        return safe

    async def json(self, value: Any) -> Any:
        """The same value with personal data in its texts masked, whatever the policy."""
        if isinstance(value, str):
            return (await self._masker.masked(value))[0]
        if isinstance(value, list):
            return [await self.json(item) for item in value]
        if isinstance(value, Mapping):
            return {name: await self.json(item) for name, item in value.items()}
        return value


class MaskedResponses:
    """A store of answers in which no personal data lie."""

    def __init__(self, inner: ResponseStore, screening: Screening) -> None:
        self._inner = inner
        self._screening = screening

    async def add(self, response: StoredResponse) -> None:
        """Stores an answer, and deletes what is too old."""
        said: dict[str, Any] = {
            name: await self._screening.json(getattr(response, name)) for name in ("body", "items", "history")
        }
        await self._inner.add(replace(response, **said))

    async def get(self, tenant_id: str, response_id: str) -> StoredResponse:
        """One answer; raises NotFound, also when it is older than the store keeps."""
        return await self._inner.get(tenant_id, response_id)

    async def finish(self, tenant_id: str, response_id: str, body: JsonObject) -> None:
        """Replaces the body by the final one."""
        await self._inner.finish(tenant_id, response_id, await self._screening.json(body))

    async def delete(self, tenant_id: str, response_id: str) -> None:
        """Deletes an answer; raises NotFound."""
        await self._inner.delete(tenant_id, response_id)
