"""Who may see whose runs and conversations."""

from __future__ import annotations

from errand_common.principal import Principal

_SEES_ALL = frozenset({"owner", "admin"})


def visible_owner(principal: Principal) -> str | None:
    """The owner whose things this principal sees; None sees the whole tenant's."""
    return None if principal.roles & _SEES_ALL else principal.id


def page_size(asked: int) -> int:
    """Rows of a page: 50 unless asked otherwise."""
    return asked or 50
