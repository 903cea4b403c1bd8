"""The permission table."""

import itertools

import pytest
from errand_common.errors import PermissionDenied
from errand_common.principal import Principal
from errand_gateway.domain.permissions import ROLE_PERMISSIONS, SCOPE_PERMISSIONS, Permission, permissions_of, require


def test_each_role_may_do_what_the_one_below_may() -> None:
    ladder = [ROLE_PERMISSIONS[role] for role in ("viewer", "user", "developer", "admin", "owner")]
    assert all(below < above for below, above in itertools.pairwise(ladder))


def test_every_permission_can_be_reached_by_role_and_scope() -> None:
    assert permissions_of(ROLE_PERMISSIONS, SCOPE_PERMISSIONS) == frozenset(Permission)


@pytest.mark.parametrize(("roles", "scopes"), [((), ("chat",)), (("owner",), ()), (("god",), ("all",))])
def test_unknown_or_missing_names_allow_nothing(roles: tuple[str, ...], scopes: tuple[str, ...]) -> None:
    assert permissions_of(roles, scopes) == frozenset()


def test_tenants_are_managed_by_the_operators_owner_alone() -> None:
    scopes = frozenset({"admin"})
    require(Principal("default", "k", frozenset({"owner"}), scopes), Permission.TENANTS_MANAGE)
    with pytest.raises(PermissionDenied):
        require(Principal("acme", "k", frozenset({"owner"}), scopes), Permission.TENANTS_MANAGE)
