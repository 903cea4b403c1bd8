"""Endpoints of HTTP tools that do what a test says."""

from collections.abc import Mapping
from typing import Any

from errand_tools.domain.tools import CallContext, HttpBinding, JsonObject


class ScriptedHttpCaller:
    """Answers by the last segment of the URL: a value, an exception, a coroutine function, or a list of such."""

    def __init__(self) -> None:
        self.behaviours: dict[str, Any] = {}
        self.calls: list[tuple[str, JsonObject, str]] = []

    async def call(
        self,
        binding: HttpBinding,
        arguments: JsonObject,
        context: CallContext,
        *,
        keyed: bool,
        headers: Mapping[str, str],
    ) -> Any:
        name = binding.url_template.rsplit("/", maxsplit=1)[-1]
        self.calls.append((name, arguments, context.effect_id if keyed else ""))
        behaviour = self.behaviours.get(name, {"status": 200, "body": {"ok": True}})
        if isinstance(behaviour, list):
            behaviour = behaviour.pop(0)
        if isinstance(behaviour, BaseException):
            raise behaviour
        return await behaviour() if callable(behaviour) else behaviour

    def count(self, name: str) -> int:
        """How often it was called."""
        return sum(called == name for called, _, _ in self.calls)
