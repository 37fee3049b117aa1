"""What a hostile guest asks, and what a hostile server answers."""

import errno
import gzip
import tracemalloc
import zlib

import pytest
import trio
from backports import zstd

from oanix.lib.url import Url
from oanix.lib.web import BytesBody, Request, WebLimits
from tests.web.asking import ANN, OPEN, Names, asking, rest
from tests.web.routes import CHUNKED, MIB, OK
from tests.web.server import serve

# Guests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    ["", " ", "GE T", "GET\r\nX: y", "GET\0", "é", "CONNECT", "connect", "TRACE", "(GET)", "TRACK"],
)
async def test_a_method_that_is_none_is_refused(method: str) -> None:
    async with serve() as server, asking() as web:
        with pytest.raises(OSError, match=r".") as caught:
            await web.send(server.url(), method=method)
        assert caught.value.errno == errno.EINVAL
        assert not server.accepted


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "a\r\nEvil: 1"), ("X", "a\nb"), ("X", "a\rb"), ("X", "a\0b"), ("X\r\nY", "a"),
        ("X Y", "a"), ("", "a"), (":path", "/x"), ("é", "a"), ("X:", "a"), ("X", "\x7f"),
        ("Connection", "close"), ("Transfer-Encoding", "chunked"), ("Upgrade", "h2c"),
        ("TE", "trailers"), ("Trailer", "X"), ("Keep-Alive", "1"), ("Proxy-Connection", "x"),
        ("HTTP2-Settings", "x"), ("Host", "evil.test"), ("Host", ""), ("host", "127.0.0.1@evil"),
        ("Content-Length", "5"), ("Content-Length", "-1"), ("Content-Length", "0, 0"),
    ],
)  # fmt: skip
async def test_a_header_that_is_not_the_guests_to_send_is_refused(name: str, value: str) -> None:
    async with serve() as server, asking() as web:
        with pytest.raises(OSError, match=r".") as caught:
            await web.send(server.url(), headers=((name, value),))
        assert caught.value.errno == errno.EINVAL
        assert not server.accepted


async def test_too_many_or_too_large_headers_are_refused() -> None:
    async with serve() as server, asking() as web:
        many = tuple((f"X-{n}", "v") for n in range(257))
        for headers in (many, (("X", "v" * 65_536),)):
            with pytest.raises(OSError, match="headers") as caught:
                await web.send(server.url(), headers=headers)
            assert caught.value.errno == errno.EMSGSIZE
        assert (await web.get(server.url("/bytes/1"), headers=many[:256]))[0] == 200


async def test_harmless_forms_of_host_and_length_are_accepted() -> None:
    async with serve() as server, asking() as web:
        headers = (("host", f"127.0.0.1:{server.port}"), ("content-length", "2"))
        shown = await web.echo(server.url("/echo"), method="POST", headers=headers, body=b"hi")
        assert shown["body"] == "hi"
        assert len([name for name, _ in server.asked[0].headers if name == "host"]) == 1


async def test_a_body_of_another_length_than_it_said_is_an_error_of_the_guest() -> None:
    class Liar(BytesBody):
        length = 5

    async with serve() as server, asking() as web:
        for data in (b"too long for it", b"few"):
            with pytest.raises(OSError, match="body") as caught:
                await web.send(server.url("/upload"), method="PUT", body=Liar(data))
            assert caught.value.errno == errno.EINVAL
        await server.until(lambda: not server.open)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "[::1]"])
async def test_loopback_in_any_spelling_needs_a_rule(host: str) -> None:
    async with asking("allow *\n") as web:
        with pytest.raises(PermissionError):
            await web.send(f"http://{host}/")


@pytest.mark.parametrize("port", [22, 25, 6379])
async def test_ports_of_other_protocols_are_refused(port: int) -> None:
    names = Names(a_test=[["93.184.216.34"]])
    async with asking("allow *\n", resolver=names) as web:
        with pytest.raises(PermissionError):
            await web.send(f"http://a.test:{port}/")
        assert names.asked == []


# Servers -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("path", ["/headers/1001", "/headers/20000", "/header/110000"])
async def test_headers_without_measure_are_not_read(path: str, tls: bool) -> None:
    async with serve(tls=tls) as server, asking(trusts=server) as web:
        with pytest.raises(OSError, match="headers") as caught:
            await web.send(server.url(path))
        assert caught.value.errno == errno.EMSGSIZE
        await server.until(lambda: not server.open)


@pytest.mark.slow
async def test_a_million_headers_stop_at_the_bound() -> None:
    async with serve() as server, asking() as web:
        server.files["million"] = ((), OK + b"X: y\r\n" * 1_000_000)
        with pytest.raises(OSError, match="too long") as caught:
            await web.send(server.url("/raw/million"))
        assert caught.value.errno == errno.EMSGSIZE


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        (OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", errno.EPROTO),
        (OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", errno.EPROTO),
        (OK + b"Content-Length: -3\r\n\r\nabc", errno.EPROTO),
        (OK + b"Content-Length: 99999999999999999999999\r\n\r\nabc", errno.EPROTO),
        (OK + b"Content-Length: 100\r\n\r\nfew", errno.EPROTO),
        (OK + b"Content-Length: 5000000\r\n\r\nfew", errno.EPROTO),
        (OK + b"Transfer-Encoding: gzip\r\n\r\nabc", errno.EPROTO),
        (CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n", errno.EPROTO),
        (CHUNKED + b"f" * 40 + b"\r\nabc\r\n0\r\n\r\n", errno.EPROTO),
        (CHUNKED + b"1ffffffffffffffff\r\nabc\r\n0\r\n\r\n", errno.EPROTO),
        (CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n", errno.EPROTO),
        (b"\x00\x01 what is this\r\n\r\n", errno.EPROTO),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", errno.EPROTO),
        (b"HTTP/1.1 099 no\r\n\r\n", errno.EPROTO),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", errno.EPROTO),
        (OK + b"X-A: b\x00c\r\nContent-Length: 0\r\n\r\n", errno.EPROTO),
        (OK + b"X A: b\r\nContent-Length: 0\r\n\r\n", errno.EPROTO),
        (b"", errno.ECONNRESET),
    ],
)
async def test_framing_that_is_wrong_is_a_protocol_error(answer: bytes, number: int) -> None:
    async with serve() as server, asking() as web:
        server.files["bad"] = ((), answer)
        with pytest.raises(OSError, match=r".") as caught:
            await web.get(server.url("/raw/bad"))
        assert caught.value.errno == number
        await web.quiet()
        await server.until(lambda: not server.open)


async def test_a_header_that_drips_runs_into_the_deadline() -> None:
    async with serve() as server, asking(limits=WebLimits(header_s=0.1)) as web:
        with pytest.raises(TimeoutError, match="did not answer in time"):
            await web.send(server.url("/drip/0.01"))
        await server.until(lambda: not server.open)


@pytest.mark.slow
async def test_a_body_in_chunks_of_one_byte_comes_whole() -> None:
    async with serve() as server, asking() as web:
        body = b"1\r\nx\r\n" * 20_000
        server.files["tiny"] = ((), CHUNKED + body + b"0\r\n\r\n")
        ticks = 0
        async with trio.open_nursery() as nursery:

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await trio.lowlevel.checkpoint()
                    ticks += 1

            nursery.start_soon(tick)
            _, got = await web.get(server.url("/raw/tiny"))
            nursery.cancel_scope.cancel()
        assert got == b"x" * 20_000
        # Others had their turns meanwhile.
        assert ticks > 1000


async def test_an_event_stream_without_a_line_end_does_not_grow() -> None:
    async with serve() as server, asking(limits=WebLimits(buffer_bytes=100_000)) as web:
        exchange = await web.send(server.url("/endless"))
        for _ in range(100):
            await exchange.read(10_000)
        assert exchange._buffer.held < 3 * MIB
        exchange.close()
        await server.until(lambda: not server.open)


def _nested_gzip(gibibytes: int) -> bytes:
    """Make a gzip of a gzip of so many GiB of zero bytes, without making those."""
    packer = zlib.compressobj(9, wbits=31)
    first = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(first + again * (1024 * gibibytes))


def _nested_zstd(gibibytes: int) -> bytes:
    return zstd.compress(zstd.compress(bytes(MIB)) * (1024 * gibibytes))


BOMBS = {
    "gzip, gzip": lambda: _nested_gzip(10),
    "zstd, zstd": lambda: _nested_zstd(10),
    "gzip, gzip, zstd": lambda: zstd.compress(_nested_gzip(10)),
    # It expands, and to nothing in the end.
    "gzip, zstd": lambda: zstd.compress(gzip.compress(b"") * 2_000_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("codings", list(BOMBS))
async def test_a_nested_bomb_of_ten_gibibytes_is_stopped(codings: str) -> None:
    bomb = BOMBS[codings]()
    assert len(bomb) < 100_000
    async with serve() as server, asking() as web:
        server.files["bomb"] = ((("Content-Encoding", codings),), bomb)
        tracemalloc.start()
        try:
            with pytest.raises(OSError, match="bomb") as caught:
                await _discard(web, server.url("/file/bomb"))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert caught.value.errno == errno.EMSGSIZE
        assert peak < 8 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_a_bomb_is_stopped_while_it_is_made(coding: str) -> None:
    async with serve() as server, asking() as web:
        with pytest.raises(OSError, match="bomb") as caught:
            await _discard(web, server.url(f"/bomb/{coding}/10240"))
        assert caught.value.errno == errno.EMSGSIZE
        await server.until(lambda: not server.open)


async def _discard(web, url: str) -> int:  # type: ignore[no-untyped-def]
    exchange = await web.send(url)
    size = 0
    while piece := await exchange.read(1 << 20):
        size += len(piece)
    return size


async def test_a_body_that_only_looks_coded_is_a_protocol_error() -> None:
    async with serve() as server, asking() as web:
        for coding, data in (
            ("gzip", b"plain"),
            ("gzip", gzip.compress(b"text")[:-4]),
            ("br", b"\xff\xff\xff"),
            ("zstd", zstd.compress(b"text")[:-2]),
            ("deflate", b"\xff\xff\xff"),
            ("deflate", b"x"),
            ("gzip", gzip.compress(b"text") + b"rubbish"),
        ):
            server.files["bad"] = ((("Content-Encoding", coding),), data)
            with pytest.raises(OSError, match=coding) as caught:
                await web.get(server.url("/file/bad"))
            assert caught.value.errno == errno.EPROTO
        for coding in ("gzip", "br", "zstd", "deflate"):
            server.files["none"] = ((("Content-Encoding", coding),), b"")
            assert await web.get(server.url("/file/none")) == (200, b"")
        two = gzip.compress(b"one") + gzip.compress(b"two") + bytes(100)
        server.files["two"] = ((("Content-Encoding", "gzip"),), two)
        assert await web.get(server.url("/file/two")) == (200, b"onetwo")


# Cancellation ------------------------------------------------------------------------------------


class CancelAt(trio.abc.Instrument):
    """Cancels a scope at the n-th step of the task that made it."""

    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self.left = step
        self.scope = scope
        self.task = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if not self.left:
                self.scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/redirect/1", "/flaky/{}?after=0", "/coded/gzip/100000"])
@pytest.mark.parametrize("tls", [False, True])
async def test_a_cancellation_at_any_checkpoint_leaves_nothing_behind(path: str, tls: bool) -> None:
    async with serve(tls=tls) as server, asking(OPEN, trusts=server) as web:
        for step in range(1, 200):
            request = Request("PUT", Url.parse(server.url(path.format(step))), body=BytesBody(b"x"))
            with trio.CancelScope() as scope:
                instrument = CancelAt(step, scope)
                trio.lowlevel.add_instrument(instrument)
                exchange = None
                try:
                    exchange = await web.web.send(request, ANN)
                    await rest(exchange)
                finally:
                    trio.lowlevel.remove_instrument(instrument)
                    if exchange is not None:
                        exchange.close()
            await web.quiet()
            connections = web.web.status()["connections"]
            assert isinstance(connections, list)
            assert all("IDLE" in one for one in connections), connections
            nursery = web.web._nursery
            assert nursery is not None
            assert len(nursery.child_tasks) == 1
            await server.until(lambda kept=connections: server.open <= len(kept))
            if not scope.cancelled_caught:
                break
        assert step > 5
        assert not scope.cancelled_caught
