"""Whose request it is that a proxy hands on: no further than a trusted proxy has heard itself."""

import pytest

from mounts.web import Proxies

TRUSTED = Proxies(["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("peer", "named", "found"),
    [
        ("127.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["203.0.113.7, 10.1.2.3,10.9.9.9"], "203.0.113.7"),
        ("127.0.0.1", ["10.1.2.3"], "10.1.2.3"), ("2001:db8::1", ["203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["[2a00::1]:443"], "2a00::1"),
        ("127.0.0.1", ["203.0.113.7:9"], "203.0.113.7"),
        ("127.0.0.1", ["::ffff:203.0.113.7"], "203.0.113.7"), ("127.0.0.1", ["2a00::1"], "2a00::1"),
        # Nobody else is believed, and nothing that is no address.
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"), ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7, unknown"], "127.0.0.1"), ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", ["nobody, 10.1.2.3"], "10.1.2.3"), ("unknown", ["203.0.113.7"], "unknown"),
        ("127.0.0.1", ["127.1"], "127.0.0.1"), ("127.0.0.1", ["203.0.113.7\t"], "203.0.113.7"),
    ],
)  # fmt: skip
def test_a_client_is_the_first_that_no_trusted_proxy_is(
    peer: str, named: list[str], found: str
) -> None:
    headers = (("host", "here"), *(("x-forwarded-for", one) for one in named))
    assert TRUSTED.client(peer, headers) == found


def test_without_proxies_nobody_is_believed() -> None:
    assert Proxies().client("127.0.0.1", (("x-forwarded-for", "203.0.113.7"),)) == "127.0.0.1"


@pytest.mark.parametrize("text", ["", "nowhere", "10.0.0.0/33", "127.1"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="network"):
        Proxies([text])
