"""Who may change what."""

from errand_common.errors import PermissionDenied
from errand_common.principal import Principal

from errand_tools.domain.tools import Tool, ToolPolicy

_EDITORS = frozenset({"owner", "admin", "developer"})


def require_editor(principal: Principal) -> None:
    """Raises PermissionDenied unless the principal may change tools and settle effects."""
    if not principal.roles & _EDITORS:
        raise PermissionDenied("changing tools needs the role owner, admin or developer", permission="tools.write")


def effective_policy(tool: Tool, roles: frozenset[str]) -> ToolPolicy:
    """What holds for a caller: of what its roles are given the most lenient, else the tool's own."""
    given = {policy for role, policy in tool.role_policies if role in roles}
    return next((policy for policy in ToolPolicy if policy in given), tool.policy)
