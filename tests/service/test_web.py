"""Requests, answers and bodies, against a real server."""

import errno
import json
from collections.abc import AsyncGenerator

import pytest
import trio

from oanix.caller import Caller
from oanix.lib.policy import Layer, Rules
from oanix.lib.url import Url
from oanix.lib.web import Asker, WebLimits
from oanix.node import READABLE, WOULD_BLOCK
from tests.web.asking import ANN, PATIENCE_S, asking, rest
from tests.web.server import serve


class Upload:
    """A body that is sent in pieces, once."""

    replayable = False

    def __init__(self, *pieces: bytes, length: int | None = None) -> None:
        self.length = length
        self.pieces = pieces

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for piece in self.pieces:
            await trio.lowlevel.checkpoint()
            yield piece


@pytest.mark.parametrize("tls", [False, True])
async def test_a_request_arrives_as_it_was_written(tls: bool) -> None:
    async with serve(tls=tls) as server, asking(trusts=server) as web:
        shown = await web.echo(
            server.url("/echo?a=b%20c"),
            method="post",
            headers=(("X-One", "1"), ("X-Name", "é")),
            body=b"hello",
        )
    assert shown["method"] == "POST"
    assert shown["target"] == "/echo?a=b%20c"
    assert shown["body"] == "hello"
    assert shown["headers"]["content-length"] == "5"
    assert shown["headers"]["x-one"] == "1"
    assert shown["headers"]["host"].startswith("127.0.0.1:")
    assert shown["version"] == ("HTTP/2" if tls else "HTTP/1.1")


async def test_an_answer_tells_its_length_and_where_it_is_from() -> None:
    async with serve() as server, asking() as web:
        exchange = await web.send(server.url("/redirect/2"), follow=False)
        assert (exchange.status, exchange.length) == (302, 9)
        assert await rest(exchange) == b"elsewhere"
        exchange = await web.send(server.url("/bytes/100"), method="HEAD")
        assert (exchange.length, await rest(exchange)) == (0, b"")
        exchange = await web.send(server.url("/streamed/100"))
        assert (exchange.length, len(await rest(exchange))) == (None, 100)
        exchange = await web.send(server.url("/status/204"))
        assert (exchange.status, exchange.length, await rest(exchange)) == (204, 0, b"")
        exchange = await web.send(server.url("/redirect/2"))
        assert exchange.url == server.url("/echo")
        assert exchange.http_version == "HTTP/1.1"
        assert exchange.elapsed_ms >= 0
        exchange.close()


@pytest.mark.parametrize("size", [0, 1, 65_535, 1 << 20, (8 << 20) + 3])
@pytest.mark.parametrize("tls", [False, True])
async def test_a_body_of_any_length_comes_whole(size: int, tls: bool) -> None:
    async with serve(tls=tls, alpn=("http/1.1",)) as server, asking(trusts=server) as web:
        for route in ("bytes", "streamed"):
            status, body = await web.get(server.url(f"/{route}/{size}"))
            assert (status, len(body), body.count(0)) == (200, size, size)


async def test_one_connection_serves_many_short_requests_and_a_large_one_has_its_own() -> None:
    async with serve() as server, asking() as web:
        for _ in range(20):
            await web.get(server.url("/bytes/1000"))
            await web.quiet()
        assert server.accepted == 1
        await web.get(server.url(f"/bytes/{5 << 20}"))
        await web.quiet()
        await web.get(server.url("/bytes/1000"))
        assert server.accepted == 2


async def test_over_http2_one_connection_is_used_again() -> None:
    async with serve(tls=True) as server, asking(trusts=server) as web:
        for _ in range(5):
            await web.get(server.url("/bytes/100000"))
            await web.quiet()
        assert server.accepted == 1


async def test_an_upload_streams_with_and_without_a_known_length() -> None:
    async with serve() as server, serve(tls=True) as secure, asking(trusts=secure) as web:
        for one in (server, secure):
            for length in (None, 300_000):
                body = Upload(*[bytes(100_000)] * 3, length=length)
                _, got = await web.get(one.url("/upload"), method="PUT", body=body)
                assert json.loads(got)["bytes"] == 300_000


@pytest.mark.slow
async def test_a_slow_uploader_is_waited_for_but_a_slow_server_is_not() -> None:
    go = trio.Event()

    class Slow(Upload):
        async def chunks(self) -> AsyncGenerator[bytes, None]:
            yield b"begin"
            await go.wait()
            yield b"end"

    async with serve() as server, asking(limits=WebLimits(header_s=1)) as web:
        async with trio.open_nursery() as nursery:

            async def release() -> None:
                await trio.sleep(1.1)
                go.set()

            nursery.start_soon(release)
            _, body = await web.get(server.url("/upload"), method="PUT", body=Slow())
        assert json.loads(body)["bytes"] == 8
        with pytest.raises(TimeoutError):
            await web.send(server.url("/hang"))


async def test_try_read_answers_at_once_and_ready_wakes() -> None:
    async with serve() as server, asking() as web:
        exchange = await web.send(server.url("/sse/2"))
        woken = trio.Event()
        while (piece := exchange.try_read(100)) is WOULD_BLOCK:
            if exchange.ready(woken.set, "me") == 0:
                await woken.wait()
                woken = trio.Event()
        assert piece == b"data: 1\n\n"
        assert await rest(exchange) == b"data: 2\n\n"
        assert exchange.ready(None, "me") & READABLE
        assert exchange.try_read(1) == b""


async def test_who_does_not_read_stops_the_sender() -> None:
    limits = WebLimits(buffer_bytes=100_000)
    async with serve() as server, asking(limits=limits) as web:
        exchange = await web.send(server.url("/endless"))
        with trio.fail_after(PATIENCE_S):
            while exchange._buffer.held < 100_000:
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert exchange._buffer.held < 2_000_000
        assert len(await exchange.read(50_000)) == 50_000
        exchange.close()
        await web.quiet()
        await server.until(lambda: not server.open)


async def test_a_closed_exchange_says_so_and_its_connection_is_gone() -> None:
    async with serve() as server, serve(tls=True) as secure, asking(trusts=secure) as web:
        for one in (server, secure):
            exchange = await web.send(one.url("/sse/0"))
            assert (await exchange.read(100)).startswith(b"data")
            exchange.close()
            exchange.close()
            with pytest.raises(OSError, match="closed") as caught:
                exchange.try_read(1)
            assert caught.value.errno == errno.EBADF
            await one.until(lambda one=one: not one.open)
        await web.quiet()
        assert web.lines()[-1]["error"] == "cancelled"


async def test_a_reader_waiting_at_a_close_is_woken() -> None:
    async with serve() as server, asking() as web:
        exchange = await web.send(server.url("/stall/10"))
        assert len(await exchange.read(10)) == 10
        async with trio.open_nursery() as nursery:

            async def reader() -> None:
                with pytest.raises(OSError, match="closed"):
                    await exchange.read(10)

            nursery.start_soon(reader)
            await trio.testing.wait_all_tasks_blocked(0.01)
            exchange.close()


@pytest.mark.parametrize(
    "coding", ["gzip", "deflate", "raw", "br", "zstd", "gzip+br", "br+zstd+gzip", "identity"]
)
async def test_codings_are_decoded_and_their_headers_are_gone(coding: str) -> None:
    async with serve() as server, asking() as web:
        exchange = await web.send(server.url(f"/text/{coding}/some%20text"))
        body = await rest(exchange)
        assert body == b"some text"
        names = {name.lower() for name, _ in exchange.headers}
        if coding != "identity":
            assert exchange.length is None
            assert "content-encoding" not in names
            assert "content-length" not in names
        assert await web.get(server.url(f"/coded/{coding}/300000")) == (200, bytes(300_000))


async def test_what_cannot_be_decoded_is_given_as_it_came() -> None:
    async with serve() as server, asking() as web:
        exchange = await web.send(server.url("/text/unknown/abc"))
        assert ("Content-Encoding", "unknown") in exchange.headers
        assert await rest(exchange) == b"cba"


async def test_an_idle_body_times_out_and_an_event_stream_does_not() -> None:
    limits = WebLimits(idle_s=0.005)
    async with serve() as server, asking(limits=limits) as web:
        exchange = await web.send(server.url("/stall/10"))
        with pytest.raises(TimeoutError):
            await rest(exchange)
        # Its events are 10 ms apart.
        _, body = await web.get(server.url("/sse/3"))
        assert body.count(b"data") == 3
        await web.quiet()
        assert [line["error"] for line in web.lines()] == ["ETIMEDOUT", None]


async def test_the_asker_may_set_a_shorter_time() -> None:
    async with serve() as server, asking() as web:
        with pytest.raises(TimeoutError):
            await web.send(server.url("/hang"), timeout_s=0.05)
        await server.until(lambda: not server.open)


async def test_the_rule_bounds_time_and_size() -> None:
    rules = (
        "allow http://127.0.0.1:*/stall/** time=100ms\nallow http://127.0.0.1:*/hang time=100ms\n"
        "allow http://127.0.0.1:* size=1000\n"
    )
    async with serve() as server, asking(rules) as web:
        with pytest.raises(TimeoutError, match=r"a rule allows: policy line 1: allow .* time="):
            await rest(await web.send(server.url("/stall/10")))
        with pytest.raises(TimeoutError, match=r"a rule allows: policy line 2: allow .* time="):
            await web.send(server.url("/hang"))
        assert (await web.get(server.url("/bytes/1000")))[0] == 200
        with pytest.raises(OSError, match="1000 bytes that a rule allows: policy line 3") as caught:
            await web.send(server.url("/bytes/1001"))
        assert caught.value.errno == errno.EMSGSIZE
        for path in ("/streamed/1001", "/coded/gzip/1001"):
            with pytest.raises(OSError, match="1000 bytes") as caught:
                await web.get(server.url(path))
            assert caught.value.errno == errno.EMSGSIZE
        await web.quiet()
        await server.until(lambda: not server.open)


async def test_a_rate_makes_wait_and_one_used_up_says_when() -> None:
    async with serve() as server:
        async with asking("allow http://127.0.0.1:* rate=20/s\n") as web:
            began = trio.current_time()
            for _ in range(22):
                await web.get(server.url("/bytes/1"))
            assert trio.current_time() - began > 0.05
        async with asking("allow http://127.0.0.1:* rate=1/h\n") as web:
            await web.get(server.url("/bytes/1"))
            with pytest.raises(BlockingIOError, match="try again in 3"):
                await web.send(server.url("/bytes/1"))
            assert web.lines()[-1]["error"] == "EAGAIN"


async def test_no_more_exchanges_with_one_origin_than_allowed() -> None:
    limits = WebLimits(per_origin=2, in_all=3, queue_s=0.05)
    async with serve() as server, serve() as other, asking(limits=limits) as web:
        first = await web.send(server.url("/sse/0"))
        await web.send(server.url("/sse/0"))
        with pytest.raises(TimeoutError, match="no turn"):
            await web.send(server.url("/bytes/1"))
        await web.send(other.url("/sse/0"))
        with pytest.raises(TimeoutError, match="no turn"):
            await web.send(other.url("/bytes/1"))
        first.close()
        with trio.fail_after(PATIENCE_S):
            while web.web.status()["open"] != 2:
                await trio.lowlevel.checkpoint()
        assert (await web.get(server.url("/bytes/1")))[0] == 200


async def test_a_denied_request_is_refused_and_logged_before_anything_is_sent() -> None:
    async with serve() as server, asking("allow GET http://127.0.0.1:*/bytes/*\n") as web:
        with pytest.raises(PermissionError) as caught:
            await web.send(server.url("/echo?token=abc"))
        assert "allow GET http://127.0.0.1" in getattr(caught.value, "remedy", "")
        with pytest.raises(PermissionError):
            await web.send(server.url("/bytes/1"), method="DELETE")
        layer = Layer(Rules.parse("deny *\n"), "this namespace's policy")
        with pytest.raises(PermissionError, match="this namespace's policy"):
            await web.send(server.url("/bytes/1"), asker=Asker(Caller(job="j1"), (layer,)))
        assert server.asked == []
        line = web.lines()[0]
        assert list(line) == [
            "time", "verdict", "rule", "method", "host", "path", "status", "bytes", "ms", "who",
            "error",
        ]  # fmt: skip
        assert line["path"] == "/echo?token=***"
        assert (line["verdict"], line["status"], line["who"]) == ("deny", None, "uid:1000")
        assert web.lines()[2]["who"] == "job:j1"


async def test_the_log_tells_every_hop_with_its_bytes() -> None:
    async with serve() as server, asking(now=lambda: 1_000_000_000.5) as web:
        await web.get(server.url("/redirect/1"))
        await web.get(server.url("/bytes/5"))
        await web.quiet()
        lines = web.lines()
        assert [(line["path"], line["status"]) for line in lines] == [
            ("/redirect/1", 302),
            ("/echo", 200),
            ("/bytes/5", 200),
        ]
        assert lines[2]["bytes"] == 5
        assert lines[0]["time"] == "2001-09-09T01:46:40.500Z"
        assert lines[0]["rule"].startswith("policy line 1: allow")


async def test_an_engine_that_does_not_run_says_so() -> None:
    async with serve() as server:
        async with asking() as web:
            exchange = await web.send(server.url("/sse/0"))
            assert await exchange.read(10)
        with pytest.raises(OSError, match="not running") as caught:
            await web.send(server.url("/bytes/1"))
        assert caught.value.errno == errno.ESHUTDOWN
        with pytest.raises(ConnectionAbortedError):
            await rest(exchange)
        await server.until(lambda: not server.open)


async def test_a_websocket_gets_a_checked_connection() -> None:
    async with serve(tls=True) as server, asking(trusts=server) as web:
        url = Url.parse(server.url("/live").replace("https", "wss"))
        connected = await web.web.connect(url, ANN, (("Origin", "https://x"),))
        assert isinstance(connected.stream, trio.SSLStream)
        assert connected.stream.selected_alpn_protocol() == "http/1.1"
        assert ("Origin", "https://x") in connected.headers
        await connected.stream.aclose()
        with pytest.raises(PermissionError):
            await web.web.connect(Url.parse("wss://10.0.0.1/"), ANN)
        assert [line["error"] for line in web.lines()] == [None, "EACCES"]
