"""A model that says what a test wants: agents that ask other agents, and tools that ask people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from errand_inference.testing.provider import Provider, Reply

MODEL = "told"
KEY = "key-of-told"
_REPLIES = (
    Reply("delegate", calls=(("ask_helper", '{"message": "compute"}'),)),
    Reply("compute", calls=(("calculator", '{"expression": "6 * 7"}'),)),
    Reply("stock", calls=(("stock", "{}"),)),
)


class Told(Provider):
    """Calls what the message names, then says what it was given."""

    def __init__(self) -> None:
        super().__init__(_REPLIES, key=KEY)

    def events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The call, or the answer after it."""
        latest = body["messages"][-1]
        if latest["role"] == "tool":
            return Provider([Reply("", f"It gave {latest['content']}")]).events(body)
        return super().events(body)

    def settings(self) -> dict[str, str]:
        """Variables of the inference service that serve it beside the bundled model."""
        model = {"engine": "remote", "url": self.url, "remote_model": MODEL}
        return {
            "ERRAND_INFERENCE_MODELS": json.dumps({MODEL: model}),
            "ERRAND_INFERENCE_PROVIDER_KEYS": json.dumps({MODEL: KEY}),
        }
