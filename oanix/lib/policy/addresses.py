"""Addresses: which ones a connection may go to.

Public addresses are open to every rule; all others need a rule that names them. What is public is
told by the IANA special-purpose address registries (RFC 6890): for IPv4 everything that is not
listed, for IPv6 only global unicast (2000::/3) and what NAT64 and mapped addresses embed. An IPv6
address that stands for an IPv4 one is as public as that is, whatever way it is written.
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from attrs import frozen

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_SPECIAL_4: Final = (
    (IPv4Network("0.0.0.0/8"), "an unspecified address"),
    (IPv4Network("10.0.0.0/8"), "a private address"),
    (IPv4Network("100.64.0.0/10"), "an address shared by a provider's customers"),
    (IPv4Network("127.0.0.0/8"), "a loopback address"),
    (IPv4Network("169.254.0.0/16"), "a link-local address"),
    (IPv4Network("172.16.0.0/12"), "a private address"),
    (IPv4Network("192.0.0.0/24"), "an address of protocol assignments"),
    (IPv4Network("192.0.2.0/24"), "a documentation address"),
    (IPv4Network("192.88.99.0/24"), "a 6to4 relay address"),
    (IPv4Network("192.168.0.0/16"), "a private address"),
    (IPv4Network("198.18.0.0/15"), "a benchmarking address"),
    (IPv4Network("198.51.100.0/24"), "a documentation address"),
    (IPv4Network("203.0.113.0/24"), "a documentation address"),
    (IPv4Network("224.0.0.0/4"), "a multicast address"),
    (IPv4Network("240.0.0.0/4"), "a reserved address"),
)

_NAT64: Final = IPv6Network("64:ff9b::/96")
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_6TO4: Final = IPv6Network("2002::/16")
_GLOBAL: Final = IPv6Network("2000::/3")

_SPECIAL_6: Final = (
    (IPv6Network("::/128"), "an unspecified address"),
    (IPv6Network("::1/128"), "a loopback address"),
    (IPv6Network("64:ff9b:1::/48"), "a local translation address"),
    (IPv6Network("100::/64"), "a discard-only address"),
    # Teredo is 2001::/32, in here.
    (IPv6Network("2001::/23"), "an address of protocol assignments"),
    (IPv6Network("2001:db8::/32"), "a documentation address"),
    (IPv6Network("3fff::/20"), "a documentation address"),
    (IPv6Network("fc00::/7"), "a private address"),
    (IPv6Network("fe80::/10"), "a link-local address"),
    (IPv6Network("fec0::/10"), "a site-local address"),
    (IPv6Network("ff00::/8"), "a multicast address"),
)

METADATA: Final = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # most clouds
        "169.254.169.253",  # AWS: names
        "169.254.170.2",  # AWS: credentials of containers
        "169.254.170.23",  # AWS: credentials of pods
        "169.254.42.42",  # Scaleway
        "169.254.0.23",  # Tencent
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure: a public address that leads to the host
        "fd00:ec2::254",  # AWS
        "fd00:ec2::253",
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
        "fd00:c1::a9fe:a9fe",  # Oracle
        "fe80::a9fe:a9fe",  # OpenStack
    )
)
"""Where clouds hand credentials to whoever asks. A rule must name such an address alone."""

_NETWORK: Final = re.compile(r"[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?")
_LOOPBACK: Final = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


@frozen
class Grant:
    """The addresses that are not public and that a rule names: none, unless it does."""

    networks: frozenset[Network] = frozenset()

    def within(self, other: "Grant") -> "Grant":
        """Give what both grant; other narrows this one and adds nothing to it."""
        shared = {
            small
            for mine in self.networks
            for theirs in other.networks
            for small in _smaller(mine, theirs)
            # A wide network of ours does not grant a metadata address that theirs spells out.
            if small == mine or not _is_metadata(small)
        }
        return Grant(frozenset(shared))


def refuse_address(address: str, grant: Grant) -> str | None:
    """Give the reason why a connection must not go to the address; None when it may.

    address: as the resolver gave it, with or without a zone. What is no address is refused.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return f"{address!r} is no IP address"
    shown = str(found)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        # The kernel connects to the IPv4 address.
        shown, found = f"{shown} stands for {found.ipv4_mapped},", found.ipv4_mapped
    kind = _kind(found)
    if kind is None or _granted(found, grant):
        return None
    return f"{shown} is {kind}"


def known_addresses(host: str) -> tuple[str, ...]:
    """Give the addresses of a host that needs no resolver: an address itself, and localhost.

    localhost and the names below it are loopback addresses (RFC 6761).
    """
    if is_localhost(host):
        return tuple(map(str, _LOOPBACK))
    try:
        return (str(ip_address(host)),)
    except ValueError:
        return ()


def own_networks(host: str) -> frozenset[Network]:
    """Give the networks that a rule names by the host of its pattern."""
    if is_localhost(host):
        return frozenset((IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")))
    found = (network(address) for address in known_addresses(host))
    return frozenset(one for one in found if one is not None)


def network(address: str) -> Network | None:
    """Give the network of one address alone, IPv4 where that is a mapped one; None for no address.

    The zone of an address is left out: a rule is about all of them.
    """
    try:
        found = ip_address(address)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or IPv6Address(int(found))
    return ip_network(found)


def parse_network(text: str) -> Network:
    """Read a network of a rule. Raises ValueError with what is wrong and what to write."""
    try:
        if not _NETWORK.fullmatch(text):
            raise ValueError(text)
        found = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text[:50]!r} is no network; write one as 10.0.0.0/8, 10.1.2.3 or fd00::/8"
        ) from None
    if int(ip_address(text.partition("/")[0])) != int(found.network_address):
        raise ValueError(f"{text} has bits set behind its prefix; write {found}")
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        four = IPv4Network((int(found.network_address) & 0xFFFFFFFF, found.prefixlen - 96))
        raise ValueError(f"{text} stands for an IPv4 network; write {four}")
    if not _touches_special(found):
        raise ValueError(f"{found} is public, which no rule needs to name; leave it out")
    return found


def written(networks: Iterable[Network]) -> str:
    """Write networks as a rule has them, in one order."""
    ordered = sorted(
        networks, key=lambda one: (one.version, int(one.network_address), one.prefixlen)
    )
    return ",".join(map(str, ordered))


def same_host(address: str, other: str) -> bool:
    """Tell whether two addresses stand for one another: `8.8.8.8`, `::ffff:808:808`."""
    return not _stands_for(ip_address(address)).isdisjoint(_stands_for(ip_address(other)))


def is_loopback(address: str) -> bool:
    """Tell whether the address is, or stands for, a loopback address."""
    return any(one.is_loopback for one in _stands_for(ip_address(address)))


def is_localhost(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost")


def _kind(address: Address) -> str | None:
    """Say what an address is that is not public."""
    for one in _embedded(address):
        if (found := _kind(one)) is not None:
            return f"an address for {one}, {found}"
    if address in METADATA:
        return "a cloud's metadata address"
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _SPECIAL_4 if address in network), None)
    if address in _NAT64:
        return None
    special = next((kind for network, kind in _SPECIAL_6 if address in network), None)
    return special or (None if address in _GLOBAL else "a reserved address")


def _embedded(address: Address) -> Iterator[IPv4Address]:
    """Give the IPv4 addresses to which packets for an IPv6 address may be sent on."""
    if isinstance(address, IPv4Address):
        return
    number = int(address)
    if address in _NAT64 or address in _MAPPED:
        yield IPv4Address(number & 0xFFFFFFFF)
    if address in _6TO4:
        yield IPv4Address(number >> 80 & 0xFFFFFFFF)
    if address.teredo is not None:
        yield from address.teredo
    # ISATAP (RFC 5214): the interface identifier is 0000:5efe or 0200:5efe and an IPv4 address.
    if (number >> 32 & 0xFDFFFFFF) == 0x00005EFE:
        yield IPv4Address(number & 0xFFFFFFFF)


def _stands_for(address: Address) -> set[Address]:
    return {address, *_embedded(address)}


def _granted(address: Address, grant: Grant) -> bool:
    alone = not METADATA.isdisjoint(_stands_for(address))
    return any(
        address in network
        for network in grant.networks
        if network.version == address.version
        and (not alone or network.prefixlen == network.max_prefixlen)
    )


def _is_metadata(network: Network) -> bool:
    return network.prefixlen == network.max_prefixlen and not METADATA.isdisjoint(
        _stands_for(network.network_address)
    )


def _smaller(one: Network, other: Network) -> list[Network]:
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return [one] if one.subnet_of(other) else [other] if other.subnet_of(one) else []
    if isinstance(one, IPv6Network) and isinstance(other, IPv6Network):
        return [one] if one.subnet_of(other) else [other] if other.subnet_of(one) else []
    return []


def _touches_special(network: Network) -> bool:
    if network.prefixlen == network.max_prefixlen:
        return _kind(network.network_address) is not None
    if any(one in network for one in METADATA if one.version == network.version):
        return True
    if isinstance(network, IPv4Network):
        return any(network.overlaps(special) for special, _ in _SPECIAL_4)
    if not network.subnet_of(_GLOBAL):
        return True
    return network.subnet_of(_6TO4) or any(network.overlaps(special) for special, _ in _SPECIAL_6)
