"""Attribute names of spans: OpenTelemetry's GenAI conventions, and what MLflow reads beside them."""

from __future__ import annotations

import json
from typing import Any, Final

OPERATION: Final = "gen_ai.operation.name"
SYSTEM: Final = "gen_ai.system"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
AGENT_NAME: Final = "gen_ai.agent.name"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
SESSION_ID: Final = "session.id"
USER_ID: Final = "user.id"
TENANT_ID: Final = "errand.tenant_id"
# On the root of a story it becomes a tag of the trace, by which MLflow finds traces exactly.
MLFLOW_TENANT_TAG: Final = f"mlflow.traceTag.{TENANT_ID}"
MLFLOW_COST: Final = "mlflow.llm.cost"
MLFLOW_SPAN_TYPE: Final = "mlflow.spanType"
MLFLOW_INPUTS: Final = "mlflow.spanInputs"
MLFLOW_OUTPUTS: Final = "mlflow.spanOutputs"

CHAT: Final = "chat"
INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"
EMBEDDINGS: Final = "embeddings"

_LONGEST_TEXT = 20_000
_as_json = json.JSONEncoder(ensure_ascii=False, default=str).encode


def as_attribute(value: Any) -> str:
    """A value as JSON for `mlflow.spanInputs` and its like, cut to 20,000 characters."""
    return _as_json(value)[:_LONGEST_TEXT]
