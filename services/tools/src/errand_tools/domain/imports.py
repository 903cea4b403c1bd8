"""Registering the operations of an OpenAPI document."""

import asyncio
from dataclasses import dataclass

from errand_common.errors import ErrandError, InvalidArgument
from errand_common.principal import Principal

from errand_tools.domain.access import require_editor
from errand_tools.domain.documents import read_document
from errand_tools.domain.openapi import ImportOptions, Operations, Skipped, read_operations
from errand_tools.domain.registry import ToolRegistry
from errand_tools.domain.tools import SideEffect, Tool


@dataclass(frozen=True, slots=True)
class OpenApiImporter:
    """Turns documents into registered tools."""

    registry: ToolRegistry

    async def run(
        self, principal: Principal, text: str, options: ImportOptions, *, replace: bool, dry_run: bool
    ) -> Operations:
        """The tools and what was left out; `dry_run` registers nothing.

        Raises PermissionDenied, InvalidArgument, and Conflict over 1,000 tools.
        """
        require_editor(principal)
        if options.side_effect is SideEffect.RECONCILE:
            raise InvalidArgument(
                "side_effect RECONCILE needs a query tool for each tool; register those one by one",
                field="side_effect",
                rule="unsupported",
            )
        # A document of some megabytes takes a while to read, and other calls must not wait for it.
        found = await asyncio.to_thread(_read, text, options)
        ready, refused = await self._checked(principal, found.tools)
        taken = await self.registry.register_all(principal, ready, replace=replace, dry_run=dry_run)
        skipped = [
            Skipped(tool.name, "A tool of this name is registered already.") for tool in ready if tool.name in taken
        ]
        return Operations([tool for tool in ready if tool.name not in taken], [*found.skipped, *refused, *skipped])

    async def _checked(self, principal: Principal, tools: list[Tool]) -> tuple[list[Tool], list[Skipped]]:
        ready: list[Tool] = []
        refused: list[Skipped] = []
        if tools:
            # All share one host and one secret: what is wrong with that is wrong with the request.
            await self.registry.check_auth(principal.tenant_id, tools[0], field="auth")
        for tool in tools:
            try:
                ready.append(self.registry.checked(tool))
            except ErrandError as error:
                refused.append(Skipped(tool.name, f"{error.message.rstrip('.')}."))
        return ready, refused


def _read(text: str, options: ImportOptions) -> Operations:
    return read_operations(read_document(text), options)
