"""Who may change what."""

from errand_common.errors import PermissionDenied
from errand_common.principal import Principal

_EDITORS = frozenset({"owner", "admin", "developer"})


def require_editor(principal: Principal) -> None:
    """Raises PermissionDenied unless the principal may change tools and settle effects."""
    if not principal.roles & _EDITORS:
        raise PermissionDenied("changing tools needs the role owner, admin or developer", permission="tools.write")
