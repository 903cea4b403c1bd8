"""Settings of the tools service, read from ERRAND_TOOLS_… variables."""

import shutil
from enum import StrEnum
from typing import Annotated

from errand_common.http import Reach, checked_hosts, checked_networks
from errand_common.personal_data import PersonalDataPolicy
from errand_common.settings import CommaList, ServiceSettings, parted
from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from errand_tools.clients.bubblewrap import PROGRAM, confined
from errand_tools.storage.secrets import FernetCipher, key_of_file

Port = Annotated[int, Field(ge=1, le=65535)]
SecretKeys = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(parted)]
PortList = Annotated[tuple[Port, ...], NoDecode, BeforeValidator(parted)]


class StdioSandbox(StrEnum):
    """What keeps MCP servers in that run as processes."""

    BUBBLEWRAP = "bubblewrap"
    NONE = "none"


class ToolsSettings(ServiceSettings):
    """What an operator can set."""

    model_config = SettingsConfigDict(env_prefix="ERRAND_TOOLS_", extra="forbid")

    port: int = 50054
    rag_target: str = Field(default="127.0.0.1:50053", description="Address of the rag service.")
    http_allow_list: CommaList = Field(
        default=(),
        description="Hosts http_get may fetch: 'api.example.com', '*.example.com',"
        " '10.0.0.7:8080'. Empty turns http_get off.",
    )
    http_private_networks: CommaList = Field(
        default=(), description="Private networks that tools may reach, such as '10.20.0.0/16'."
    )
    http_ports: PortList = Field(default=(80, 443), description="Ports that tools may reach.")
    http_tool_hosts: CommaList = Field(
        default=(), description="Hosts tenants' HTTP tools may call; empty for every public host."
    )
    secret_keys: SecretKeys = Field(
        default=(),
        description="Keys that seal secrets, with commas: 32 bytes in URL-safe base64 each. The first seals, all open."
        " Empty: a key file in the data folder where the database is SQLite, else secrets are off.",
    )
    mcp_stdio_servers: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description='MCP servers that run here as processes, by name, as JSON: {"git": ["/usr/bin/git-mcp"]}. Tenants'
        " can only name them. Empty: none.",
    )
    mcp_stdio_sandbox: StdioSandbox = Field(
        default=StdioSandbox.BUBBLEWRAP,
        validate_default=True,
        description="What keeps those processes in: bubblewrap (bwrap must be installed) without network and files but"
        " the system's programs, or none, where something else does: they have this service's rights then.",
    )
    personal_data: PersonalDataPolicy = Field(
        default=PersonalDataPolicy.OFF,
        description="What happens to personal data in tools' answers (e-mail addresses, phone numbers, payment cards,"
        " bank accounts, social security numbers): off, mask, or block, which refuses the answer of a tool that changes"
        " nothing and masks the others'.",
    )
    sandbox_processes: int = Field(default=2, ge=1, le=64, description="Python sandboxes at once.")
    running_per_tool: int = Field(default=16, ge=1, le=1024, description="Calls of one tool at once.")
    waiting_per_tool: int = Field(default=64, ge=0, le=10_000, description="Calls of one tool that wait.")
    effect_retention_days: int = Field(default=90, ge=1, le=3650, description="Days that completed effects are kept.")

    @field_validator("http_private_networks")
    @classmethod
    def _check_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return checked_networks(networks)

    @field_validator("http_allow_list", "http_tool_hosts")
    @classmethod
    def _check_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return checked_hosts(hosts)

    @field_validator("mcp_stdio_servers")
    @classmethod
    def _check_commands(cls, servers: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, command in servers.items():
            if not command or not all(command):
                raise ValueError(f'{name} needs a command line, such as ["/usr/bin/server"]')
        return servers

    @field_validator("mcp_stdio_sandbox")
    @classmethod
    def _check_sandbox(cls, sandbox: StdioSandbox, info: ValidationInfo) -> StdioSandbox:
        servers = info.data.get("mcp_stdio_servers", {})
        if sandbox is StdioSandbox.NONE or not servers:
            return sandbox
        for name, command in servers.items():
            try:
                confined(command)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if shutil.which(PROGRAM) is None:
            raise ValueError(
                "mcp_stdio_servers need bubblewrap: install it, or say none where something else holds them"
            )
        return sandbox

    @field_validator("secret_keys")
    @classmethod
    def _check_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        try:
            FernetCipher(tuple(key.get_secret_value() for key in keys))
        except ValueError:
            raise ValueError("each key must be 32 bytes in URL-safe base64") from None
        return keys

    @property
    def stdio_commands(self) -> dict[str, tuple[str, ...]]:
        """The command lines of the stdio servers, as they are started."""
        if self.mcp_stdio_sandbox is StdioSandbox.NONE:
            return self.mcp_stdio_servers
        return {name: confined(command) for name, command in self.mcp_stdio_servers.items()}

    @property
    def cipher(self) -> FernetCipher:
        """What seals secrets. Raises OSError when the embedded key file cannot be read."""
        keys = tuple(key.get_secret_value() for key in self.secret_keys)
        if not keys and self.is_embedded:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            keys = (key_of_file(self.data_dir / "tools-secrets.key"),)
        return FernetCipher(keys)

    @property
    def web_reach(self) -> Reach:
        """What http_get may reach."""
        return Reach(self.http_allow_list, self.http_private_networks, self.http_ports)

    @property
    def tool_reach(self) -> Reach:
        """What tenants' HTTP tools may reach."""
        return Reach(self.http_tool_hosts or None, self.http_private_networks, self.http_ports)
