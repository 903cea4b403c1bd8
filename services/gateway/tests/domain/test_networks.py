"""Where callers may come from, and whom to believe about it."""

import pytest
from errand_common.errors import InvalidArgument, PermissionDenied
from errand_gateway.domain.networks import check_allowed, client_address, parse_networks


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "address"),
    [
        ("203.0.113.9", "", [], "203.0.113.9"),
        ("203.0.113.9", "10.0.0.1", [], "203.0.113.9"),
        ("10.0.0.2", "203.0.113.9", ["10.0.0.0/8"], "203.0.113.9"),
        # What the caller itself wrote before its proxy's entry is not believed.
        ("10.0.0.2", "192.0.2.1, 203.0.113.9", ["10.0.0.0/8"], "203.0.113.9"),
        ("10.0.0.2", "203.0.113.9, 10.0.0.3", ["10.0.0.0/8"], "203.0.113.9"),
        ("10.0.0.2", "10.0.0.7", ["10.0.0.0/8"], "10.0.0.7"),
        ("::ffff:203.0.113.9", "", [], "203.0.113.9"),
        ("10.0.0.2", "nonsense", ["10.0.0.0/8"], "None"),
        ("", "", [], "None"),
    ],
)
def test_address_is_the_last_one_that_is_no_trusted_proxys(
    peer: str, forwarded: str, trusted: list[str], address: str
) -> None:
    assert str(client_address(peer, forwarded, trusted)) == address


def test_only_listed_networks_are_allowed() -> None:
    here = client_address("203.0.113.9", "", [])
    check_allowed(here, ())
    check_allowed(here, ("198.51.100.0/24", "203.0.113.0/24"))
    for address in (here, None):
        with pytest.raises(PermissionDenied):
            check_allowed(address, ("198.51.100.0/24", "2001:db8::/32"))


def test_networks_are_brought_into_their_usual_form() -> None:
    assert parse_networks(["10.1.2.3/8", "2001:db8::1"], "x") == ("10.0.0.0/8", "2001:db8::1/128")
    with pytest.raises(InvalidArgument):
        parse_networks(["10.0.0.0/33"], "x")
