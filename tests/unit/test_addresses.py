"""Addresses: what is not public is refused in every spelling, unless a rule names it."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oanix.lib.policy.addresses import (
    METADATA,
    Grant,
    Network,
    known_addresses,
    network,
    own_networks,
    parse_network,
    refuse_address,
)
from oanix.lib.url import Url

NOBODY = Grant()

V4 = st.integers(0, 2**32 - 1).map(IPv4Address)
V6 = st.integers(0, 2**128 - 1).map(IPv6Address)
NETWORKS = st.one_of(
    st.builds(
        lambda address, prefix: ipaddress.ip_network((int(address), prefix), strict=False),
        V6,
        st.integers(0, 128),
    ),
    st.builds(
        lambda address, prefix: ipaddress.IPv4Network((int(address), prefix), strict=False),
        V4,
        st.integers(0, 32),
    ),
)
GRANTS = st.frozensets(NETWORKS, max_size=4).map(Grant)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("10.0.0.1", "private"),
        ("10.255.255.255", "private"),
        ("100.64.0.1", "shared"),
        ("100.127.255.255", "shared"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.1.1", "link-local"),
        ("172.16.0.1", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.8", "protocol"),
        ("192.0.2.1", "documentation"),
        ("192.88.99.1", "6to4"),
        ("192.168.1.1", "private"),
        ("198.18.0.1", "benchmarking"),
        ("198.19.255.255", "benchmarking"),
        ("198.51.100.7", "documentation"),
        ("203.0.113.7", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::7f00:1", "reserved"),
        ("::ffff:0:7f00:1", "reserved"),
        ("64:ff9b:1::1", "translation"),
        ("100::1", "discard"),
        ("2001:0:808:808::f7f7:f7f7", "protocol"),
        ("2001:10::1", "protocol"),
        ("2001:db8::1", "documentation"),
        ("3fff::1", "documentation"),
        ("4000::1", "reserved"),
        ("5f00::1", "reserved"),
        ("fc00::1", "private"),
        ("fd12:3456::1", "private"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("febf::1", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        *((str(address), "metadata") for address in METADATA),
    ],
)
def test_what_is_not_public_is_refused_by_its_kind(address: str, kind: str) -> None:
    assert kind in (refuse_address(address, NOBODY) or "")


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1",
     "126.255.255.255", "128.0.0.1", "172.15.255.255", "172.32.0.1", "192.0.1.1", "192.167.1.1",
     "192.169.1.1", "198.17.1.1", "198.20.1.1", "223.255.255.255", "2606:4700:4700::1111",
     "2a00:1450::1", "2001:4860:4860::8888", "2620:4f:8000::1", "64:ff9b::808:808",
     "::ffff:8.8.8.8", "2002:808:808::1"],
)  # fmt: skip
def test_public_addresses_are_open(address: str) -> None:
    assert refuse_address(address, NOBODY) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "127.1",
        "localhost",
        "1.2.3",
        "01.2.3.4",
        "::1::",
        "[::1]",
        "8.8.8.8/32",
        "8.8.8.8 ",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    assert "no IP address" in (refuse_address(text, NOBODY) or "")
    assert "no IP address" in (refuse_address(text, Grant(frozenset((_net("0.0.0.0/0"),)))) or "")


def _net(text: str) -> Network:
    return ipaddress.ip_network(text)


def _spellings(address: IPv4Address) -> list[str]:
    """Give the IPv6 addresses by which packets may come to an IPv4 one."""
    number, inverted = int(address), int(address) ^ 0xFFFFFFFF
    teredo = 0x20010000 << 96
    return [
        str(IPv6Address(spelling))
        for spelling in (
            0xFFFF << 32 | number,
            0x64FF9B << 96 | number,
            0x2002 << 112 | number << 80 | 1,
            teredo | number << 64 | 1,
            teredo | 0x08080808 << 64 | inverted,
            0x2A00 << 112 | 0x5EFE << 32 | number,
            0x2A00 << 112 | 0x02005EFE << 32 | number,
        )
    ]


@given(V4)
@example(IPv4Address("127.0.0.1"))
@example(IPv4Address("169.254.169.254"))
@example(IPv4Address("100.100.100.200"))
@example(IPv4Address("168.63.129.16"))
@example(IPv4Address("10.0.0.1"))
def test_an_address_that_is_refused_is_refused_in_every_spelling(address: IPv4Address) -> None:
    if refuse_address(str(address), NOBODY) is None:
        return
    for spelling in _spellings(address):
        assert refuse_address(spelling, NOBODY) is not None, spelling


@given(st.one_of(V4, V6))
def test_nothing_is_public_that_the_standard_library_knows_as_special(
    address: IPv4Address | IPv6Address,
) -> None:
    if refuse_address(str(address), NOBODY) is not None:
        return
    if isinstance(address, IPv6Address) and (address.ipv4_mapped or address.sixtofour):
        return
    assert not address.is_private
    assert not address.is_multicast
    assert not address.is_loopback


@given(
    st.sampled_from(["127.0.0.1", "127.1", "0x7f.1", "2130706433", "017700000001", "127.0.0.1."])
)
def test_the_host_of_a_url_is_refused_in_every_spelling(host: str) -> None:
    (known,) = known_addresses(Url.parse(f"http://{host}/").host)
    assert refuse_address(known, NOBODY) is not None


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "::1"])
def test_some_hosts_need_no_resolver(host: str) -> None:
    assert known_addresses(host)
    assert all(refuse_address(one, NOBODY) for one in known_addresses(host))


@pytest.mark.parametrize("host", ["example.com", "localhost.evil", "notlocalhost", "1.2.3.x"])
def test_other_hosts_do(host: str) -> None:
    assert known_addresses(host) == ()
    assert own_networks(host) == frozenset()


@pytest.mark.parametrize(
    ("granted", "allowed", "refused"),
    [
        ("127.0.0.0/8", ["127.0.0.1", "::ffff:127.0.0.1"], ["::1", "64:ff9b::7f00:1"]),
        ("10.1.0.0/16", ["10.1.2.3"], ["10.2.0.1", "169.254.169.254"]),
        ("::1/128", ["::1"], ["127.0.0.1", "::2"]),
        ("fe80::/10", ["fe80::1", "fe80::1%eth0"], ["fd00::1", "fe80::a9fe:a9fe"]),
        ("64:ff9b::7f00:1/128", ["64:ff9b::7f00:1"], ["127.0.0.1", "64:ff9b::7f00:2"]),
        ("169.254.0.0/16", ["169.254.1.1"], ["169.254.169.254", "::ffff:169.254.169.254"]),
        ("169.254.169.254/32", ["169.254.169.254", "::ffff:169.254.169.254"], ["169.254.169.253"]),
        ("0.0.0.0/0", ["127.0.0.1", "10.0.0.1"], ["169.254.169.254", "168.63.129.16", "::1"]),
        ("::/0", ["::1", "fd00::1"], ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe"]),
    ],
)  # fmt: skip
def test_a_grant_is_for_what_it_names(granted: str, allowed: list[str], refused: list[str]) -> None:
    grant = Grant(frozenset((_net(granted),)))
    assert [one for one in allowed if refuse_address(one, grant)] == []
    assert [one for one in refused if not refuse_address(one, grant)] == []


@given(GRANTS, GRANTS, st.one_of(V4, V6, st.sampled_from(sorted(METADATA, key=str))))
def test_what_two_grants_share_is_in_both(
    mine: Grant, theirs: Grant, address: IPv4Address | IPv6Address
) -> None:
    text = str(address)
    if refuse_address(text, mine.within(theirs)) is None:
        assert refuse_address(text, mine) is None


@pytest.mark.parametrize("address", sorted(map(str, METADATA)))
def test_who_narrows_cannot_name_metadata_for_a_wide_grant(address: str) -> None:
    alone = network(address)
    assert alone is not None
    wide = Grant(frozenset((alone.supernet(4),)))
    exact = Grant(frozenset((alone,)))
    assert refuse_address(address, exact) is None
    assert refuse_address(address, wide.within(exact)) is not None
    assert refuse_address(address, exact.within(wide)) is None


@given(st.one_of(V4, V6))
def test_the_network_of_an_address_grants_it(address: IPv4Address | IPv6Address) -> None:
    alone = network(str(address))
    assert alone is not None
    assert refuse_address(str(address), Grant(frozenset((alone,)))) is None


@pytest.mark.parametrize(
    ("text", "network"),
    [("10.0.0.0/8", "10.0.0.0/8"), ("10.1.2.3", "10.1.2.3/32"), ("::1", "::1/128"),
     ("FD00::/8", "fd00::/8"), ("0.0.0.0/0", "0.0.0.0/0"), ("168.63.129.16", "168.63.129.16/32"),
     ("2002::/16", "2002::/16")],
)  # fmt: skip
def test_a_network_is_read(text: str, network: str) -> None:
    assert str(parse_network(text)) == network


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "write one as"),
        ("x", "write one as"),
        ("10.0.0.0/33", "write one as"),
        ("10.0.0.0/255.0.0.0", "write one as"),
        ("10.0.0", "write one as"),
        ("fe80::1%eth0", "write one as"),
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("fd00::1/8", "write fd00::/8"),
        ("::ffff:10.0.0.0/104", "write 10.0.0.0/8"),
        ("::ffff:7f00:1", "write 127.0.0.1/32"),
        ("8.8.8.0/24", "leave it out"),
        ("2606:4700::/32", "leave it out"),
    ],
)
def test_a_network_that_is_none_is_told_with_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        parse_network(text)
