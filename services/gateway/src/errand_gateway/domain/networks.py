"""Where callers may come from."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from errand_common.errors import InvalidArgument, PermissionDenied

Address = IPv4Address | IPv6Address


def parse_networks(texts: Sequence[str], field: str) -> tuple[str, ...]:
    """Networks in their usual form; raises InvalidArgument that names the field."""
    found = []
    for text in texts:
        try:
            found.append(str(ip_network(text.strip(), strict=False)))
        except ValueError as error:
            raise InvalidArgument(
                f"{text[:64]!r} is no IP address or network such as 10.0.0.0/8", field=field
            ) from error
    return tuple(found)


def is_in(address: Address, networks: Sequence[str]) -> bool:
    """Whether the address is in one of the networks."""
    return any(address in ip_network(network) for network in networks)


def client_address(peer: str, forwarded: str, trusted: Sequence[str]) -> Address | None:
    """The caller's address: the peer's, or what trusted proxies say of those before them.

    `forwarded` is X-Forwarded-For; it is read from its end, since everything before the first address
    that is not a trusted proxy's was written by the caller.
    """
    hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()] if forwarded else []
    address = _address(peer)
    while address is not None and hops and is_in(address, trusted):
        address = _address(hops.pop())
    return address


def check_allowed(address: Address | None, networks: Sequence[str]) -> None:
    """Raises PermissionDenied unless the address is allowed; no networks allow all."""
    if networks and (address is None or not is_in(address, networks)):
        raise PermissionDenied(
            f"this may not be done from {address or 'an unknown address'}; ask an administrator to allow it",
            permission="address:allowed",
        )


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
