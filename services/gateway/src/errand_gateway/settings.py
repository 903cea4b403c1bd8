"""What the gateway can be told."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self

from errand_common.personal_data import PersonalDataPolicy
from errand_common.settings import ServiceSettings
from pydantic import BaseModel, ConfigDict, Field, FilePath, IPvAnyNetwork, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from errand_gateway.domain.keys import parse_key
from errand_gateway.domain.permissions import Role

Mebibytes = Annotated[int, Field(ge=1, le=1024)]


Rate = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}/(second|minute|hour|day)$")]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]
Dollars = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


def _is_there(model: str) -> bool:
    return Path(model).is_dir() or (model.isidentifier() and find_spec(model) is not None)


class PriceSetting(BaseModel):
    """US dollars for a million tokens, and for a request."""

    model_config = ConfigDict(extra="forbid")

    input: Dollars = 0.0
    output: Dollars = 0.0
    cached_input: Dollars | None = None
    request: Dollars = 0.0


class _ClaimsSetting(BaseModel):
    """What an issuer's claims mean here."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,20}$")]
    issuer: Annotated[str, Field(min_length=1, max_length=512)]
    algorithms: Annotated[
        list[Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]],
        Field(min_length=1),
    ] = ["RS256", "ES256"]
    tenant_id: Annotated[str, Field(max_length=64)] = ""
    tenant_claim: Annotated[str, Field(max_length=128)] = ""
    roles_claim: Annotated[str, Field(max_length=128)] = "roles"
    role_map: dict[Annotated[str, Field(max_length=256)], Role] = Field(default_factory=dict, max_length=1000)
    default_roles: list[Role] = Field(default_factory=list, max_length=5)

    @model_validator(mode="after")
    def _names_a_tenant(self) -> Self:
        if bool(self.tenant_id) == bool(self.tenant_claim):
            raise ValueError("set tenant_id or tenant_claim, one of the two")
        if not (self.role_map or self.default_roles):
            raise ValueError("set role_map or default_roles, or nobody has a role")
        return self


class IssuerSetting(_ClaimsSetting):
    """Another issuer whose tokens are taken: a company's single sign-on."""

    jwks: Annotated[str, Field(min_length=1, max_length=512)]
    audience: Annotated[str, Field(min_length=1, max_length=512)]


class LoginProviderSetting(_ClaimsSetting):
    """A provider (OpenID Connect) where people log in with a browser; `issuer` is its address."""

    client_id: Annotated[str, Field(min_length=1, max_length=256)]
    scope: Annotated[str, Field(pattern=r"(^|\s)openid(\s|$)", max_length=512)] = "openid email profile"


class GatewaySettings(ServiceSettings):
    """Settings of the gateway, from ERRAND_GATEWAY_…"""

    model_config = SettingsConfigDict(env_prefix="ERRAND_GATEWAY_", extra="forbid")

    port: int = Field(default=8080, ge=0, le=65535, description="port to listen on")
    agent_target: str = Field(default="127.0.0.1:50051", description="gRPC target of the agent")
    inference_target: str = Field(default="127.0.0.1:50052", description="... of inference")
    rag_target: str = Field(default="127.0.0.1:50053", description="gRPC target of rag")
    tools_target: str = Field(default="127.0.0.1:50054", description="gRPC target of tools")
    tls_certificate_file: FilePath | None = Field(
        default=None, description="PEM file of the certificate (with its chain) to serve HTTPS with; default is HTTP"
    )
    tls_key_file: FilePath | None = Field(default=None, description="PEM file of the certificate's key")
    tls_renew_seconds: float = Field(
        default=30, ge=0.1, le=3600, description="how often the files are looked at for a renewed certificate"
    )
    bootstrap_admin_key: SecretStr | None = Field(
        default=None, description="API key (errand_PREFIX_SECRET) that the operator starts with"
    )
    key_pepper: SecretStr | None = Field(
        default=None,
        description="secret that stored key digests depend on; default is a file in data_dir",
    )
    rate_limit: Rate = Field(default="600/minute", description="requests that one key may make")
    tenant_rate_limit: Rate | None = Field(
        default=None, description="requests that all keys of one tenant may make together; default is no limit"
    )
    token_limit: Rate | None = Field(
        default=None,
        description="tokens that one key may use, such as 100000/minute; default is no limit",
    )
    tenant_token_limit: Rate | None = Field(
        default=None, description="tokens that all keys of one tenant may use together; default is no limit"
    )
    max_running_per_key: int = Field(
        default=100, ge=1, le=100_000, description="runs, completions and searches of one key at once"
    )
    max_running_per_tenant: int = Field(
        default=1000, ge=1, le=100_000, description="... of all keys of one tenant together"
    )
    rate_limit_storage: SecretStr = Field(
        default=SecretStr("memory://"),
        description="memory:// for one process, redis://… or valkey://… for many",
    )
    rate_limit_on_failure: Literal["local", "refuse"] = Field(
        default="local", description="what happens while the limit's storage is away"
    )
    login_limit: Rate = Field(default="10/minute", description="attempts to log in to one account")
    login_address_limit: Rate = Field(default="60/minute", description="attempts to log in from one address")
    access_token_seconds: float = Field(
        default=900, ge=60, le=86_400, description="how long a person's access token is good"
    )
    session_days: int = Field(default=30, ge=1, le=365, description="how long a login lasts at most")
    external_issuers: list[IssuerSetting] = Field(
        default_factory=list,
        max_length=20,
        description="JSON: other issuers whose access tokens are taken, each with name, issuer, jwks (URL or file), "
        "audience, tenant_id or tenant_claim, roles_claim, role_map, default_roles; default is none",
    )
    login_providers: list[LoginProviderSetting] = Field(
        default_factory=list,
        max_length=20,
        description="JSON: OpenID Connect providers where people log in with a browser, each with name, issuer (its "
        "address), client_id, tenant_id or tenant_claim, roles_claim, role_map, default_roles, "
        "scope; default is none",
    )
    login_client_secrets: dict[str, SecretStr] = Field(
        default_factory=dict,
        max_length=20,
        description="JSON: the client's secret at each of login_providers by its name; one without proves itself by "
        "PKCE alone",
    )
    login_return_urls: list[Annotated[str, Field(pattern=r"^https?://[^\s#]+$", max_length=2048)]] = Field(
        default_factory=list,
        max_length=100,
        description="JSON: pages that people may be sent back to after such a login; default is none",
    )
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]*[^\s?#/]$", max_length=512)] | None = Field(
        default=None, description="how browsers reach this gateway, such as https://errand.example.com"
    )
    cors_origins: list[Annotated[str, Field(pattern=r"^https?://[^/*\s]+$", max_length=253)]] = Field(
        default_factory=list,
        max_length=100,
        description='JSON: origins whose pages may call, such as ["https://app.example.com"]; default is none',
    )
    trusted_proxies: list[IPvAnyNetwork] = Field(
        default_factory=list,
        max_length=100,
        description='JSON: networks whose X-Forwarded-For is believed, such as ["10.0.0.0/8"]; default is none',
    )
    json_body_mebibytes: Mebibytes = Field(default=4, description="largest JSON body")
    upload_mebibytes: Mebibytes = Field(default=25, description="largest document")
    require_if_match: bool = Field(
        default=False,
        description="refuse changes of what has versions without an If-Match with 428; `*` takes any version",
    )
    heartbeat_seconds: float = Field(default=15, ge=1, le=300, description="between SSE comments")
    deletion_settle_seconds: float = Field(
        default=30,
        ge=0,
        le=3600,
        description="how long after the order to delete a tenant the last look for what is left begins at the "
        "earliest: longer than credentials are cached and calls wait to be counted",
    )
    record_flush_seconds: float = Field(
        default=0.5, ge=0.05, le=60, description="longest that usage and audit rows wait in memory"
    )

    personal_data: PersonalDataPolicy = Field(
        default=PersonalDataPolicy.OFF,
        description="what happens to e-mail addresses, phone numbers, payment cards, bank accounts and social "
        "security numbers in what people write to agents, workflows, schedules and memory: nothing, masked, or refused",
    )
    personal_data_finder: Literal["forms", "presidio"] = Field(
        default="forms",
        description="what finds them: their forms and check digits, or presidio too (errand-gateway[presidio])",
    )
    presidio_model: str = Field(
        default="",
        max_length=128,
        pattern=r"^[A-Za-z0-9_./-]*$",
        description="a model of spaCy by which presidio finds names and places: an installed one, such as "
        "en_core_web_lg, or its folder; default is none: only what has a pattern is found",
    )
    presidio_language: str = Field(default="en", pattern=r"^[a-z]{2}$", description="language that presidio reads")
    presidio_entities: list[Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,64}$")]] = Field(
        default=[
            "PERSON",
            "LOCATION",
            "EMAIL_ADDRESS",
            "PHONE_NUMBER",
            "CREDIT_CARD",
            "IBAN_CODE",
            "US_SSN",
            "IP_ADDRESS",
        ],
        min_length=1,
        max_length=100,
        description="JSON: which of presidio's entities are personal data here",
    )
    prices: dict[ModelName, PriceSetting] = Field(
        default_factory=dict,
        max_length=1000,
        description="JSON: prices by model, 'agent:NAME', or '*' for all others, such as "
        '{"*": {"input": 0.1, "output": 0.4}} in US dollars for a million tokens',
    )
    run_reserve_tokens: int = Field(
        default=4096,
        ge=1,
        le=10_000_000,
        description="tokens held against quotas while an agent runs; what it used is booked when it ends",
    )

    @model_validator(mode="after")
    def _both_tls_files(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("set tls_certificate_file and tls_key_file, or neither")
        return self

    @model_validator(mode="after")
    def _presidio_is_installed(self) -> Self:
        if self.personal_data_finder != "presidio":
            return self
        if find_spec("presidio_analyzer") is None:
            raise ValueError(
                "personal_data_finder: presidio is not installed; pip install 'errand-gateway[presidio]', or set forms"
            )
        if self.presidio_model and not _is_there(self.presidio_model):
            raise ValueError(
                f"presidio_model: {self.presidio_model} is neither an installed model of spaCy nor a folder"
            )
        return self

    @model_validator(mode="after")
    def _providers_know_the_way_back(self) -> Self:
        if self.login_providers and self.public_url is None:
            raise ValueError("set public_url: login_providers send browsers back to it")
        names = [provider.name for provider in self.login_providers]
        if len(names) != len(set(names)):
            raise ValueError("login_providers: each needs a name of its own")
        if unknown := self.login_client_secrets.keys() - set(names):
            raise ValueError(f"login_client_secrets: {sorted(unknown)[0]} is none of login_providers")
        others = {issuer.name: issuer.issuer for issuer in self.external_issuers}
        if any(others.get(provider.name, provider.issuer) != provider.issuer for provider in self.login_providers):
            # People are named by it: two issuers would make one person of two.
            raise ValueError("login_providers: a name is also that of another issuer in external_issuers")
        return self

    @field_validator("bootstrap_admin_key")
    @classmethod
    def _is_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and parse_key(value.get_secret_value()) is None:
            raise ValueError(
                "must look like errand_PREFIX_SECRET: a prefix of 4 to 24 letters and digits and a "
                "secret of 16 to 128 letters, digits, '_' and '-'"
            )
        return value
