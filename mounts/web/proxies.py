"""Proxies: who asks, where a proxy of the owner's hands on what others ask (X-Forwarded-For).

Anybody can write such a header: what is in it counts up to the first address that is no trusted
proxy, read from the right, as each proxy adds at the end whom it has heard.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from mounts.web.model import Headers

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


class Proxies:
    """The proxies that are trusted."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        """Take addresses and networks. Raises ValueError for what is none."""
        self._networks = [ip_network(one, strict=False) for one in networks]

    def trusts(self, address: str) -> bool:
        """Tell whether this is one of them."""
        found = _read(address) if self._networks else None
        return found is not None and self._has(found)

    def client(self, peer: str, headers: Headers) -> str:
        """Give the address of who asks through a peer."""
        if not self.trusts(peer):
            return peer
        named = ",".join(value for name, value in headers if name == "x-forwarded-for").split(",")
        for one in reversed(named):
            found = _read(one)
            if found is None:
                break
            peer = str(found)
            if not self._has(found):
                break
        return peer

    def _has(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def _read(text: str) -> Address | None:
    """Read an address, with or without a port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
