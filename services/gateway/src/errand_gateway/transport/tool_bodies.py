"""Bodies of requests about tools."""

import base64
import binascii
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ConfigDict, Field

from errand_gateway.domain.tool_resources import (
    AuthScheme,
    GrpcBinding,
    HttpBinding,
    HttpMethod,
    PythonBinding,
    RetryClass,
    SideEffect,
    Tool,
    ToolAuth,
    ToolImport,
    ToolKind,
    ToolLimits,
    ToolPolicy,
    WasmBinding,
)
from errand_gateway.transport.fields import Body, SpokenText, Text, bounded_json

MAX_MODULE_BYTES: Final = 2 * 1024 * 1024

_EXAMPLE: Final[dict[str, Any]] = {
    "name": "get_weather",
    "description": "Current weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
    "http": {"method": "GET", "url_template": "https://weather.example.com/v1/{city}"},
    "side_effect": "none",
}
_DEFINITION_EXAMPLE: Final[dict[str, Any]] = {key: value for key, value in _EXAMPLE.items() if key != "name"}
_DOCUMENT_EXAMPLE: Final[dict[str, Any]] = {
    "document": (
        "{openapi: 3.1.0, info: {title: Shop, version: '1'}, servers: [{url: https://shop.example.com}],"
        " paths: {/orders: {get: {operationId: list_orders, summary: Orders of the shop., responses: {}}}}}"
    ),
    "name_prefix": "shop.",
    "dry_run": True,
}

SecretName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", examples=["shop-key"])]
ArgumentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]


class Authentication(Body):
    """How calls prove who they are: by a secret stored under a name."""

    scheme: AuthScheme
    secret: SecretName
    header: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9-]{0,64}$", description="For `header`: its name, such as X-Api-Key.")
    ] = ""
    token_url: Annotated[
        Text,
        Field(
            pattern=r"^(https?://.+)?$",
            max_length=2048,
            description="For `client_credentials`: the token endpoint, to which the secret goes for an access token.",
        ),
    ] = ""
    client_id: Annotated[str, Field(pattern=r"^[\x20-\x7e]{0,256}$", description="For `client_credentials`.")] = ""
    scope: Annotated[
        str, Field(pattern=r"^[\x20-\x7e]{0,512}$", description="For `client_credentials`: scopes, with spaces.")
    ] = ""

    def auth(self) -> ToolAuth:
        """The reference."""
        return ToolAuth(self.scheme, self.secret, self.header, self.token_url, self.client_id, self.scope)


class HttpEndpoint(Body):
    """How an HTTP tool is called."""

    method: HttpMethod
    url_template: Annotated[
        Text,
        Field(
            pattern=r"^https?://.+",
            max_length=2048,
            description="Absolute URL; {name} is replaced by the argument of that name.",
        ),
    ]
    auth: Authentication | None = None
    query_arguments: Annotated[
        tuple[ArgumentName, ...],
        Field(max_length=64, description="Go to the query even where the rest goes to the body."),
    ] = ()
    body_argument: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9_-]{0,64}$", description="Its value is the whole body; empty: all that is left."),
    ] = ""

    body_template: Annotated[
        dict[str, Any] | list[Any] | None,
        AfterValidator(bounded_json(16_384)),
        Field(
            description='The JSON body, in whose texts {name} stands for that argument, such as {"text": "{message}"};'
            " without it all that is left is sent as an object."
        ),
    ] = None

    def binding(self) -> HttpBinding:
        """The endpoint."""
        return HttpBinding(
            self.method,
            self.url_template,
            auth=self.auth.auth() if self.auth else None,
            query_arguments=self.query_arguments,
            body_argument=self.body_argument,
            body_template=self.body_template,
        )


class GrpcEndpoint(Body):
    """A unary method of a gRPC server that offers reflection."""

    target: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9.:\[\]-]{1,260}:[0-9]{1,5}$", examples=["orders.example.com:443"])
    ]
    method: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_.]{1,200}/[A-Za-z0-9_]{1,100}$", examples=["shop.v1.Orders/GetOrder"])
    ]
    plaintext: Annotated[bool, Field(description="Speaks without TLS; secrets are not sent then.")] = False
    auth: Authentication | None = None

    def binding(self) -> GrpcBinding:
        """The endpoint."""
        return GrpcBinding(self.target, self.method, self.plaintext, self.auth.auth() if self.auth else None)


def _module(text: str) -> str:
    try:
        size = len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError("must be base64") from error
    if size > MAX_MODULE_BYTES:
        raise ValueError(f"is {size} bytes; at most {MAX_MODULE_BYTES} are allowed")
    return text


class WasmModule(Body):
    """A WebAssembly module that takes the arguments and gives the result, both as JSON."""

    module: Annotated[
        Text,
        AfterValidator(_module),
        Field(description="Base64 of its binary or text form, at most 2 MiB; left out of a change, it stays."),
    ] = ""
    memory_mib: Annotated[int, Field(ge=1, le=256, description="Most MiB its memory may have.")] = 32

    @property
    def content(self) -> bytes:
        """The module."""
        return base64.b64decode(self.module)


class PythonCode(Body):
    """Python for the sandbox: the arguments are variables, the last expression's value is the result."""

    code: Annotated[SpokenText, Field(min_length=1, max_length=100_000, examples=["(celsius * 9 / 5) + 32"])]


class Limits(Body):
    """Bounds of the tool, in each replica of the service; 0 for the service's own."""

    calls_per_minute: Annotated[int, Field(ge=0, le=100_000)] = 0
    concurrent_calls: Annotated[int, Field(ge=0, le=1024)] = 0


RoleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class ToolDefinition(Body):
    """What a tool does and how it is called: exactly one of http, grpc, wasm and python.

    Of an MCP server's tool only its rules can be changed: time limit, side effect, policies, limits and cost.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_DEFINITION_EXAMPLE]})

    description: Annotated[
        SpokenText,
        Field(min_length=1, max_length=2000, description="In words that users may use."),
    ]
    parameters: Annotated[
        dict[str, Any],
        AfterValidator(bounded_json(65_536)),
        Field(
            default_factory=lambda: {"type": "object", "properties": {}},
            description="JSON Schema of the arguments, an object schema; left out for grpc.",
        ),
    ]
    http: HttpEndpoint | None = None
    grpc: GrpcEndpoint | None = None
    wasm: WasmModule | None = None
    python: PythonCode | None = None
    timeout_ms: Annotated[int, Field(ge=1, le=300_000)] = 10_000
    side_effect: Annotated[
        SideEffect | None,
        Field(
            description="Left out, it is `none` for wasm and python, which reach nothing outside, and `ask` for others."
        ),
    ] = None
    policy: ToolPolicy = ToolPolicy.AUTO
    reconcile_tool: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,128}$")] = ""
    limits: Limits = Limits()
    cost_micros: Annotated[
        int, Field(ge=0, le=1_000_000_000, description="Of one call, in millionths of a US dollar.")
    ] = 0
    role_policies: Annotated[
        dict[RoleName, ToolPolicy],
        Field(
            default_factory=dict,
            max_length=16,
            description="Hold for these roles instead of `policy`; of several the most lenient.",
        ),
    ]

    result_schema: Annotated[
        dict[str, Any] | None,
        AfterValidator(bounded_json(65_536)),
        Field(description="JSON Schema of a result, of an HTTP answer's body; a read that breaks it fails."),
    ] = None
    examples: Annotated[
        tuple[Annotated[dict[str, Any], AfterValidator(bounded_json(4096))], ...],
        Field(max_length=8, description="Arguments of calls that make sense; each fits the schema."),
    ] = ()

    retry: Annotated[
        RetryClass,
        Field(
            description="`transient` sends a call up to twice more, within its time, when the endpoint surely did"
            " nothing, or its answer was lost and the side effect is `none` or `idempotent`."
        ),
    ] = RetryClass.NEVER

    def tool(self, name: str) -> Tool:
        """The tool under a name."""
        return Tool(
            name=name,
            description=self.description,
            parameters=self.parameters,
            kind=ToolKind.UNKNOWN,
            enabled=True,
            timeout_ms=self.timeout_ms,
            side_effect=self.side_effect or self._unsaid_side_effect,
            policy=self.policy,
            http=self.http.binding() if self.http else None,
            grpc=self.grpc.binding() if self.grpc else None,
            wasm=WasmBinding("", self.wasm.memory_mib) if self.wasm else None,
            python=PythonBinding(self.python.code) if self.python else None,
            reconcile_tool=self.reconcile_tool,
            schema_hash="",
            limits=ToolLimits(self.limits.calls_per_minute, self.limits.concurrent_calls),
            cost_micros=self.cost_micros,
            role_policies=self.role_policies,
            result_schema=self.result_schema,
            examples=self.examples,
            retry=self.retry,
        )

    @property
    def module(self) -> bytes:
        """The WebAssembly module; empty for none."""
        return self.wasm.content if self.wasm else b""

    @property
    def _unsaid_side_effect(self) -> SideEffect:
        return SideEffect.NONE if self.wasm or self.python else SideEffect.ASK


class NewTool(ToolDefinition):
    """A tool to be registered."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]


class OpenApiDocument(Body):
    """A document whose operations become tools."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DOCUMENT_EXAMPLE]})

    document: Annotated[
        Text, Field(min_length=2, max_length=8 * 1024 * 1024, description="JSON or YAML text of OpenAPI 3.0 or 3.1.")
    ]
    name_prefix: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9._-]{0,32}$", description="Put before each name, such as `shop.`.")
    ] = ""
    base_url: Annotated[
        Text,
        Field(pattern=r"^(https?://.+)?$", max_length=2048, description="Instead of the document's first server."),
    ] = ""
    auth: Authentication | None = None
    side_effect: Annotated[SideEffect, Field(description="Of operations other than GET; `reconcile` is refused.")] = (
        SideEffect.ASK
    )
    policy: Annotated[ToolPolicy, Field(description="For operations other than GET.")] = ToolPolicy.ASK
    replace: Annotated[bool, Field(description="Takes over names that are taken, instead of skipping them.")] = False
    dry_run: Annotated[bool, Field(description="Only tells what would be registered.")] = False

    def order(self) -> ToolImport:
        """What is asked for."""
        return ToolImport(
            document=self.document,
            name_prefix=self.name_prefix,
            base_url=self.base_url,
            auth=self.auth.auth() if self.auth else None,
            side_effect=self.side_effect,
            policy=self.policy,
            replace=self.replace,
            dry_run=self.dry_run,
        )


class ToolApproval(Body):
    """What was looked at is what is approved."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"schema_hash": "0" * 64}]})

    schema_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="The offer's `schema_hash`.")]


class ToolCall(Body):
    """Arguments of one call."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"arguments": {"expression": "2 * 21"}}]})

    arguments: Annotated[dict[str, Any], AfterValidator(bounded_json(1_048_576))]


class ToolChange(Body):
    """Whether the tenant may use a tool."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": False}]})

    enabled: bool
