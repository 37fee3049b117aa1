"""Redirects, attempts and addresses: what is judged and checked anew."""

import errno
import socket
import ssl
from datetime import UTC, datetime

import pytest
import trio
import trustme

from oanix.errors import Denied
from oanix.lib.policy import Rules
from oanix.lib.web import WebLimits
from tests.web.asking import OPEN, Names, asking, policy_of
from tests.web.server import serve


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"), (302, "POST", "GET"), (303, "POST", "GET"), (303, "PUT", "GET"),
        (301, "PUT", "PUT"), (302, "DELETE", "DELETE"), (307, "POST", "POST"), (308, "PUT", "PUT"),
        (303, "HEAD", "HEAD"),
    ],
)  # fmt: skip
async def test_a_redirect_changes_the_method_as_rfc_9110_says(
    status: int, method: str, then: str
) -> None:
    async with serve() as server, asking() as web:
        body = b"text" if method in ("POST", "PUT") else None
        url = server.url(f"/to?status={status}&url=/echo")
        await web.get(url, method=method, body=body, headers=(("Content-Type", "text/x"),))
        last = server.asked[-1]
        assert last.method == then
        assert bool(last.header("content-type")) == (then == method)
        assert (last.header("content-length") == "4") == (body is not None and then == method)


async def test_another_origin_does_not_get_the_guests_credentials() -> None:
    private = (("Authorization", "Basic x"), ("Cookie", "a=b"), ("Proxy-Authorization", "y"))
    async with serve() as server, serve() as other, asking() as web:
        shown = await web.echo(server.url("/redirect/1"), headers=(*private, ("X-Mine", "1")))
        assert shown["headers"]["authorization"] == "Basic x"
        back = other.url(f"/to?url={server.url('/echo')}")
        shown = await web.echo(server.url(f"/to?url={back}"), headers=(*private, ("X-Mine", "1")))
        # What was dropped on the way does not come back.
        assert not {"authorization", "cookie", "proxy-authorization"} & set(shown["headers"])
        assert shown["headers"]["x-mine"] == "1"


async def test_the_number_of_redirects_is_bounded() -> None:
    async with serve() as server, asking() as web:
        assert (await web.get(server.url("/redirect/10")))[0] == 200
        for path, follow in (("/redirect/11", True), ("/loop", True), ("/redirect/3", 2)):
            with pytest.raises(OSError, match="too many redirects") as caught:
                await web.send(server.url(path), follow=follow)
            assert caught.value.errno == errno.ELOOP
        assert (await web.get(server.url("/redirect/2"), follow=2))[0] == 200
        assert (await web.get(server.url("/redirect/2"), follow=0))[0] == 302
        assert web.web.status()["open"] == 0


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:1/", "http://169.254.169.254/latest/", "http://[::1]/", "http://127.1/",
        "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://0/",
        "http://[::ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://100.64.0.1/",
        "http://10.0.0.1/", "http://localhost/", "http://metadata.test/",
    ],
)  # fmt: skip
async def test_a_redirect_to_an_address_that_is_not_public_is_refused(target: str) -> None:
    rules = "allow *://names.test:* addresses=127.0.0.1/32\nallow *\n"
    names = Names(names_test=[["127.0.0.1"]], metadata_test=[["169.254.169.254"]])
    async with serve() as server, asking(rules, resolver=names) as web:
        with pytest.raises(Denied) as caught:
            await web.send(server.url(f"/to?url={target}", host="names.test"))
        assert caught.value.errno == errno.EACCES
        assert "allow" in caught.value.remedy
        assert (web.lines()[-1]["verdict"], web.lines()[-1]["error"]) == ("deny", "EACCES")


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://x/", "gopher://x", "javascript:1", "ws://x/", "http://u@x/",
     "data:,x", "http://", "//"],
)  # fmt: skip
async def test_a_redirect_to_no_web_address_is_a_protocol_error(target: str) -> None:
    async with serve() as server, asking() as web:
        with pytest.raises(OSError, match="redirects") as caught:
            await web.send(server.url(f"/to?url={target}"))
        assert caught.value.errno == errno.EPROTO
        await server.until(lambda: not server.open)


async def test_from_https_to_http_only_where_a_rule_names_http() -> None:
    async with serve(tls=True) as server, serve() as plain:
        url = server.url(f"/to?url={plain.url('/bytes/1')}")
        async with asking(trusts=server) as web:
            with pytest.raises(Denied, match="from https to http") as caught:
                await web.send(url)
            assert web.lines()[-1]["verdict"] == "deny"
        async with asking(f"{caught.value.remedy}\n{OPEN}", trusts=server) as web:
            assert (await web.get(url))[0] == 200


async def test_an_upload_that_cannot_be_repeated_is_not_redirected() -> None:
    from oanix.lib.web import BytesBody

    async with serve() as server, asking() as web:
        body = BytesBody(b"once", replayable=False)
        with pytest.raises(OSError, match="its body is gone") as caught:
            await web.send(server.url("/to?status=307&url=/echo"), method="POST", body=body)
        assert caught.value.errno == errno.EPROTO


# Attempts ----------------------------------------------------------------------------------------


async def test_an_idempotent_request_is_repeated_after_a_reset() -> None:
    async with serve() as server, serve(tls=True) as secure, asking(trusts=secure) as web:
        assert await web.get(server.url("/reset-once/a")) == (200, b"at last")
        assert [line["error"] for line in web.lines()][:1] == ["ECONNRESET"]
        with pytest.raises(ConnectionResetError):
            await web.send(server.url("/reset-once/b"), method="POST", body=b"x")
        assert server.seen["b"] == 1
        server.asked.clear()
        with pytest.raises(ConnectionResetError):
            await web.send(server.url("/reset"))
        assert len(server.asked) == 3
        server.asked.clear()
        with pytest.raises(ConnectionResetError):
            await web.get(server.url("/reset-body"))
        assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_waited_for_when_it_is_short(status: int) -> None:
    async with serve() as server, asking(now=lambda: 784_111_777.0) as web:
        flaky = f"/flaky/{{}}?status={status}&fail=2&after={{}}"
        assert await web.get(server.url(flaky.format("a", 0))) == (200, b"at last")
        # One second before now, as a date.
        date = "Sun, 06 Nov 1994 08:49:36 GMT".replace(" ", "%20")
        assert await web.get(server.url(flaky.format("b", date))) == (200, b"at last")
        for key, after in (("c", "11"), ("d", "soon"), ("e", "-1"), ("f", "9" * 40)):
            assert (await web.get(server.url(flaky.format(key, after))))[0] == status
            assert server.seen[key] == 1
        got = await web.get(server.url(flaky.format("g", 0)), method="POST", body=b"x")
        assert got[0] == status
        assert (await web.get(server.url("/flaky/h?fail=3&after=0")))[0] == 503
        assert server.seen["h"] == 3
        assert (await web.get(server.url("/flaky/i?fail=3&after=10"), timeout_s=9))[0] == 503


@pytest.mark.slow
async def test_retry_after_really_waits() -> None:
    async with serve() as server, asking() as web:
        began = trio.current_time()
        assert (await web.get(server.url("/flaky/a?after=1")))[0] == 200
        assert trio.current_time() - began >= 1
        assert datetime.now(UTC).year > 2000


async def test_a_refused_connection_is_tried_again_and_then_told() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        async with asking() as web:
            with pytest.raises(ConnectionRefusedError, match=r"no connection to 127\.0\.0\.1"):
                await web.send(f"http://127.0.0.1:{port}/")
            assert [line["error"] for line in web.lines()] == ["ECONNREFUSED"] * 3


# Addresses ---------------------------------------------------------------------------------------


async def test_a_name_that_rebinds_to_loopback_is_refused_at_the_next_connection() -> None:
    rules = "allow *://a.test:* addresses=127.0.0.1/32\nallow *\n"
    names = Names(a_test=[["127.0.0.1"], ["127.0.0.2"]])
    async with serve() as server, asking(rules, resolver=names) as web:
        first = await web.send(server.url("/sse/0", host="a.test"))
        # The first connection is busy, so the name is resolved again for a second one.
        with pytest.raises(Denied, match=r"127\.0\.0\.2"):
            await web.send(server.url("/bytes/1", host="a.test"))
        assert web.lines()[-1]["error"] == "EACCES"
        first.close()
        assert names.asked == ["a.test", "a.test"]


async def test_of_mixed_addresses_only_those_that_may_be_are_connected_to() -> None:
    rules = "allow *://a.test:* addresses=127.0.0.1/32\nallow *\n"
    names = Names(
        a_test=[["10.0.0.1", "127.0.0.2", "::1", "127.0.0.1"]], b_test=[["127.0.0.1", "::1"]]
    )
    async with serve() as server, asking(rules, resolver=names) as web:
        assert (await web.get(server.url("/bytes/1", host="a.test")))[0] == 200
        with pytest.raises(Denied):
            await web.send(server.url("/bytes/1", host="b.test"))
        assert server.accepted == 1


async def test_a_dead_address_does_not_keep_from_the_next() -> None:
    names = Names(a_test=[["127.0.0.9", "127.0.0.1"]])
    async with serve() as server, asking(resolver=names) as web:
        assert (await web.get(server.url("/bytes/1", host="a.test")))[0] == 200


@pytest.mark.slow
async def test_a_silent_address_is_passed_by() -> None:
    names = Names(a_test=[["127.0.0.3", "127.0.0.1"]])
    async with serve() as server, asking(resolver=names) as web:
        # A listener whose queue is full answers nothing to a SYN.
        with socket.socket() as silent, socket.socket() as filler, socket.socket() as more:
            silent.bind(("127.0.0.3", server.port))
            silent.listen(0)
            for one in (filler, more):
                one.setblocking(False)
                one.connect_ex(("127.0.0.3", server.port))
            assert (await web.get(server.url("/bytes/1", host="a.test")))[0] == 200


async def test_a_name_that_is_not_known_is_said_to_be() -> None:
    async def none(host: str, port: int) -> list[str]:
        return []

    async with asking(resolver=none) as web:
        with pytest.raises(OSError, match="has no address") as caught:
            await web.send("http://nowhere.test/")
        assert caught.value.errno == errno.EHOSTUNREACH


async def test_a_resolver_that_hangs_runs_into_the_deadline() -> None:
    async def hangs(host: str, port: int) -> list[str]:
        await trio.sleep_forever()
        raise AssertionError

    async with asking(resolver=hangs, limits=WebLimits(connect_s=0.05)) as web:
        with pytest.raises(TimeoutError, match=r"within 0.05 s"):
            await web.send("http://a.test/")


async def test_a_connection_made_under_rules_that_are_gone_is_not_used() -> None:
    policy = policy_of("allow *://a.test:* addresses=127.0.0.1/32\n")
    names = Names(a_test=[["127.0.0.1"]])
    async with serve() as server, asking(policy=policy, resolver=names) as web:
        url = server.url("/bytes/1", host="a.test")
        await web.get(url)
        await web.quiet()
        for rules in ("allow *\n", "allow *://a.test:*\n", ""):
            policy.replace(Rules.parse(rules))
            with pytest.raises(Denied, match="loopback"):
                await web.send(url)
        policy.replace(Rules.parse("allow *://a.test:* addresses=127.0.0.0/8\n"))
        await web.get(url)
        assert server.accepted == 2
        assert len(server.asked) == 2


async def test_idle_connections_are_closed_in_the_end() -> None:
    async with serve() as server, asking(limits=WebLimits(keepalive_s=0.05)) as web:
        await web.get(server.url("/bytes/1"))
        await server.until(lambda: not server.open)
        assert web.web.status()["connections"] == []


# TLS ---------------------------------------------------------------------------------------------


async def test_a_certificate_that_is_not_good_is_refused() -> None:
    ca = trustme.CA()
    expired = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1", not_after=datetime(2001, 1, 1, tzinfo=UTC)).configure_cert(expired)
    async with (
        serve(tls=True, ca=ca) as good,
        serve(tls=True, ca=ca, names=("other.test",)) as wrong,
        serve(tls=True, ca=ca, context=expired) as old,
        serve(tls=True) as stranger,
        serve() as plain,
        asking(trusts=good) as web,
    ):
        assert (await web.get(good.url("/bytes/1")))[0] == 200
        secured = plain.url("/").replace("http", "https")
        for url, said in (
            (wrong.url("/"), "IP address mismatch"),
            (old.url("/"), "expired"),
            (stranger.url("/"), "certificate of 127.0.0.1"),
            (secured, "no TLS|during the TLS"),
        ):
            with pytest.raises(OSError, match=said) as caught:
                await web.send(url)
            assert caught.value.errno in (errno.EPROTO, errno.ECONNRESET)
        assert [one.asked for one in (wrong, old, stranger)] == [[], [], []]
        for one in (wrong, old, stranger, plain):
            await one.until(lambda one=one: not one.open)
