"""Request bodies of OpenAI's API, as far as they are offered here."""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from errand_gateway.transport.fields import Text, bounded_json

SchemaJson = Annotated[dict[str, Any], AfterValidator(bounded_json(65_536))]


class Part(BaseModel):
    """Unknown fields are refused, as OpenAI does."""

    model_config = ConfigDict(extra="forbid")


class TextPart(Part):
    """A piece of a message; only text is offered."""

    type: Literal["text"]
    text: Text = Field(max_length=262_144)


class FunctionCall(Part):
    """A function and its arguments, a JSON object as text."""

    name: Text = Field(min_length=1, max_length=128)
    arguments: Text = Field(max_length=1_048_576)


class MessageToolCall(Part):
    """A call an assistant made."""

    id: Text = Field(min_length=1, max_length=128)
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Part):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[Text, Field(max_length=262_144)] | Annotated[list[TextPart], Field(max_length=64)] | None = None
    name: Text | None = Field(default=None, max_length=128)
    tool_calls: list[MessageToolCall] | None = Field(default=None, max_length=64)
    tool_call_id: Text | None = Field(default=None, max_length=128)
    refusal: Text | None = Field(default=None, max_length=262_144)

    def text(self) -> str:
        """The content as plain text."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class Function(Part):
    """A function on offer."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    description: Text = Field(default="", max_length=2000)
    parameters: SchemaJson | None = None
    strict: bool | None = None


class FunctionTool(Part):
    """A tool on offer; only functions are."""

    type: Literal["function"]
    function: Function


class NamedFunction(Part):
    """The function that must be called."""

    name: str = Field(min_length=1, max_length=128)


class NamedChoice(Part):
    """The tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchemaFormat(Part):
    """The schema an answer must have."""

    name: str = Field(max_length=128)
    description: Text | None = Field(default=None, max_length=2000)
    schema_: SchemaJson = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Part):
    """Plain text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class StreamOptions(Part):
    """What a stream tells beside the text."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[Text, Field(max_length=512)]], Field(max_length=16)
]


class ChatCompletionRequest(BaseModel):
    """A chat completion. `model` is a served model, or `agent:NAME`.

    Fields of OpenAI's API that are not offered are refused by name unless they have their neutral value.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [{"model": "agent:default", "messages": [{"role": "user", "content": "What is 6 * 7?"}]}]
        },
    )

    model: str = Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9._:/-]+$")
    messages: list[ChatMessage] = Field(min_length=1, max_length=512)
    tools: list[FunctionTool] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=8192)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=8192)
    temperature: float | None = Field(default=None, ge=0, le=2, description="Left out, 0: greedy.")
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: (
        Annotated[Text, Field(min_length=1, max_length=128)]
        | Annotated[list[Annotated[Text, Field(min_length=1, max_length=128)]], Field(max_length=4)]
        | None
    ) = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: Metadata | None = Field(
        default=None, description="With an agent, `conversation_id` goes on with that conversation."
    )
    user: Text | None = Field(default=None, max_length=256)


NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "store": (False,),
    "service_tier": ("auto", "default"),
    "modalities": (["text"],),
    "functions": ([],),
    "function_call": ("none",),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "reasoning_effort": (),
    "verbosity": (),
    "safety_identifier": (),
    "prompt_cache_key": (),
}
"""Parameters of OpenAI's API that are not offered, with the values that change nothing."""


class EmbeddingRequest(Part):
    """Texts to embed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"model": "default", "input": ["one text", "another"]}]},
    )

    model: str = Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9._:/-]+$")
    input: (
        Annotated[Text, Field(min_length=1, max_length=32_768)]
        | Annotated[list[Annotated[Text, Field(min_length=1, max_length=32_768)]], Field(min_length=1, max_length=256)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    user: Text | None = Field(default=None, max_length=256)
