"""Request bodies of OpenAI's Responses API, as far as they are offered here."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from errand_gateway.transport.fields import Text
from errand_gateway.transport.openai.bodies import Metadata, Part, SchemaJson

_Longest = Annotated[Text, Field(max_length=262_144)]


class InputText(Part):
    """A piece of a message; only text is offered."""

    type: Literal["input_text", "output_text", "text"]
    text: Text = Field(max_length=262_144)
    annotations: list[dict[str, Any]] | None = Field(default=None, max_length=256)
    logprobs: list[dict[str, Any]] | None = Field(default=None, max_length=0)


class InputMessage(Part):
    """Something that was said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: _Longest | Annotated[list[InputText], Field(max_length=64)]
    id: Text | None = Field(default=None, max_length=128)
    status: Literal["in_progress", "completed", "incomplete"] | None = None
    phase: Text | None = Field(default=None, max_length=32)


class CallItem(Part):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: Text = Field(min_length=1, max_length=128)
    name: Text = Field(min_length=1, max_length=128)
    arguments: Text = Field(max_length=1_048_576)
    id: Text | None = Field(default=None, max_length=128)
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class CallOutputItem(Part):
    """What a called function answered."""

    type: Literal["function_call_output"]
    call_id: Text = Field(min_length=1, max_length=128)
    output: _Longest | Annotated[list[InputText], Field(max_length=64)]
    id: Text | None = Field(default=None, max_length=128)
    status: Literal["in_progress", "completed", "incomplete"] | None = None


class ResponseTool(Part):
    """A function on offer."""

    type: Literal["function"]
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    description: Text | None = Field(default=None, max_length=2000)
    parameters: SchemaJson | None = None
    strict: bool | None = None


class ResponseToolChoice(Part):
    """The function that must be called."""

    type: Literal["function"]
    name: str = Field(min_length=1, max_length=128)


class TextFormat(Part):
    """Plain text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(default=None, max_length=128)
    description: Text | None = Field(default=None, max_length=2000)
    schema_: SchemaJson | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextOptions(Part):
    """What the text shall be."""

    format: TextFormat | None = None


class ConversationReference(Part):
    """A conversation by its id."""

    id: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")


Item = InputMessage | CallItem | CallOutputItem


class ResponseRequest(BaseModel):
    """A response. `model` is a served model, or `agent:NAME`.

    Fields of OpenAI's API that are not offered are refused by name unless they have their neutral value.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [{"model": "agent:default", "input": "What is 6 * 7?"}]},
    )

    model: str = Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9._:/-]+$")
    input: _Longest | Annotated[list[Item], Field(min_length=1, max_length=512)]
    instructions: _Longest | None = None
    previous_response_id: str | None = Field(default=None, max_length=64, pattern=r"^resp_[a-f0-9]+$")
    conversation: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] | ConversationReference | None = (
        Field(default=None, description="With an agent: the conversation to go on with.")
    )
    tools: list[ResponseTool] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=8192)
    temperature: float | None = Field(default=None, ge=0, le=2, description="Left out, 0: greedy.")
    top_p: float | None = Field(default=None, gt=0, le=1)
    background: bool | None = Field(default=None, description="With an agent: answer at once, run on.")
    store: bool | None = Field(default=None, description="Left out, true: kept for 30 days.")
    stream: bool | None = None
    metadata: Metadata | None = None
    user: Text | None = Field(default=None, max_length=256)


NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "include": ([],),
    "truncation": ("disabled",),
    "service_tier": ("auto", "default"),
    "top_logprobs": (0,),
    "stream_options": ({}, {"include_obfuscation": False}, {"include_obfuscation": True}),
    "max_tool_calls": (),
    "prompt": (),
    "reasoning": ({},),
    "prompt_cache_key": (),
    "prompt_cache_retention": (),
    "prompt_cache_options": (),
    "safety_identifier": (),
    "context_management": ([],),
    "access_programs": (),
    "moderation": (),
    "image": (),
}
"""Parameters of the Responses API that are not offered, with the values that change nothing."""
