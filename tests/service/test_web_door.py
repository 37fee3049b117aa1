"""The one port: pages, conversations, and what it bears."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import h11
import pytest
import trio
import trustme
from attrs import define

from mounts.web import Answer, Asked, Bounds, Proxies, Request, Route, WebDoor, listen, sentence
from oanix.lib.websocket import Closed, WebSocket


async def echo(socket: WebSocket, asked: Asked) -> None:
    while True:
        try:
            await socket.send(await socket.receive())
        except Closed:
            return


async def page(request: Request) -> Answer:
    said = f"{request.asked.method} {request.asked.query} {request.body.decode()}"
    return Answer(200, said.encode(), (("Content-Type", "text/plain"),))


async def failing(request: Request) -> Answer:
    raise OSError(5, "the disk failed")


ROUTES = (
    Route(path="/", talk=echo, methods=("GET",), cors=True),
    Route(path="/", page=page, takes=lambda asked: asked.accepts("application/nostr+json"),
          cors=True),
    Route(path="/", page=page, methods=("POST",),
          takes=lambda asked: asked.content_type == "application/x"),
    Route(path="/page", page=page, methods=("GET", "HEAD", "POST")),
    Route(path="/fails", page=failing),
)  # fmt: skip
CHUNKED = "POST /page HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
QUICK = Bounds(head_s=0.3, body_s=0.3, idle_s=0.3, grace_s=0.3)
PATIENCE_S = 20


@define
class Port:
    """A port that serves, and how to reach it."""

    door: WebDoor
    number: int

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.number)

    async def ask(self, text: str | bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request as it stands, and read one answer."""
        async with await self.connect() as stream:
            await stream.send_all(text.encode() if isinstance(text, str) else text)
            return await answer(stream)

    async def until(self, count: int) -> None:
        await until(lambda: self.door.connections == count)


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.005)


async def answer(stream: trio.abc.Stream) -> tuple[int, dict[str, str], bytes]:
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    http.send(h11.EndOfMessage())
    status, headers, body = 0, {}, b""
    with trio.fail_after(PATIENCE_S):
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await stream.receive_some())
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {n.decode(): v.decode() for n, v in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, headers, body


@asynccontextmanager
async def port(
    bounds: Bounds | None = None, tls: ssl.SSLContext | None = None, proxies: Proxies | None = None
) -> AsyncIterator[Port]:
    listeners = await listen("127.0.0.1:0")
    door = WebDoor(ROUTES, bounds, tls=tls, proxies=proxies)
    async with door.serving(listeners):
        yield Port(door, listeners[0].socket.getsockname()[1])


def get(path: str = "/page", *headers: str, method: str = "GET", body: str = "") -> str:
    lines = [f"{method} {path} HTTP/1.1", "Host: here", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines) + "\r\n\r\n" + body


async def test_a_page_answers_and_the_connection_goes_on() -> None:
    async with port() as it, await it.connect() as stream:
        for n in range(3):
            await stream.send_all(get(f"/page?n={n}", method="POST", body="abc").encode())
            assert await answer(stream) == (
                200, {"content-length": "12", "content-type": "text/plain"}, b"POST n=%d abc" % n,
            )  # fmt: skip


async def test_requests_that_come_together_are_answered_in_order() -> None:
    async with port() as it, await it.connect() as stream:
        both = get("/page?a") + get("/page?b", "Connection: close")
        await stream.send_all(both.encode())
        data = b""
        with trio.fail_after(PATIENCE_S):
            while part := await stream.receive_some():
                data += part
        assert data.index(b"GET a ") < data.index(b"GET b ")


@pytest.mark.parametrize(
    ("request_text", "status", "words"),
    [
        (get("/nowhere"), 404, "there is nothing at this path"),
        (get("/page", method="DELETE"), 405, "write one of: GET, HEAD, OPTIONS, POST"),
        (get("/"), 426, "this is a WebSocket"),
        (get("/", "Content-Type: text/plain", method="POST", body="x"), 426, "this is a WebSocket"),
        (get("/", "Content-Type: application/x; q=1", method="POST", body="x"), 200, "POST  x"),
        (get("/", "Accept: text/html, application/nostr+json;q=0.9"), 200, "GET"),
        (get("/fails"), 500, "this failed"),
        (get("/page", "X: " + "y" * 20_000), 431, "too long"),
        (get("/page", method="POST", body="x" * 1_001), 413, "at most 1000 bytes"),
        ("nonsense\r\n\r\n", 400, ""),
        ("GET /page HTTP/1.1\r\n\r\n", 400, "Host"),
        ("GET http://x/page HTTP/1.1\r\nHost: x\r\n\r\n", 400, "a path"),
        (get("/page", "Transfer-Encoding: chunked", method="POST", body="5\r\nabcde\r\n0\r\n\r\n"),
         400, "exclude each other"),
        (get("/page", "Content-Length: 3", "Content-Length: 4", method="POST"), 400, ""),
        (get("/page", "Transfer-Encoding: gzip, chunked", method="POST"), 501, ""),
        (CHUNKED + "3\r\nabc\r\n0\r\n\r\n", 200, "POST  abc"), (CHUNKED + "zz\r\n", 400, ""),
    ],
)  # fmt: skip
async def test_each_request_gets_its_answer(request_text: str, status: int, words: str) -> None:
    async with port(Bounds(body_bytes=1000)) as it:
        found, _, body = await it.ask(request_text)
        assert found == status
        assert words in body.decode()
        await it.until(0)


async def test_a_head_without_a_body_and_what_other_pages_may_ask() -> None:
    async with port() as it:
        async with await it.connect() as stream:
            await stream.send_all(get("/page", method="HEAD").encode())
            data = await stream.receive_some()
            assert data.startswith(b"HTTP/1.1 200")
            assert data.endswith(b"\r\n\r\n")
        status, headers, body = await it.ask(
            get("/", "Origin: https://elsewhere.example", method="OPTIONS")
        )
        assert (status, body) == (204, b"")
        assert headers["access-control-allow-origin"] == "*"
        assert headers["access-control-allow-headers"] == "*"
        assert headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS, POST"
        _, headers, _ = await it.ask(get("/", "Accept: application/nostr+json"))
        assert headers["access-control-allow-origin"] == "*"
        _, headers, _ = await it.ask(get("/page", method="OPTIONS"))
        assert "access-control-allow-origin" not in headers


async def test_a_client_that_waits_for_permission_gets_it() -> None:
    async with port() as it, await it.connect() as stream:
        head = get("/page", "Content-Length: 3", "Expect: 100-continue", method="POST")
        await stream.send_all(head.encode())
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"abc")
        assert (await answer(stream))[2] == b"POST  abc"


async def test_a_conversation_begins_with_every_byte_also_after_a_page() -> None:
    async with port() as it:
        stream = await it.connect()
        await stream.send_all(get("/page").encode())
        await answer(stream)
        socket = await WebSocket.connect(stream, host="here", target="/")
        async with socket:
            await socket.send("hello")
            assert await socket.receive() == "hello"
        await it.until(0)


@pytest.mark.slow
async def test_who_says_nothing_or_half_is_sent_away() -> None:
    async with port(QUICK) as it:
        async with await it.connect() as stream:
            with trio.fail_after(PATIENCE_S):
                assert await stream.receive_some() == b""
        for text in ("GET /pa", get("/page", "Content-Length: 9", method="POST")):
            assert (await it.ask(text))[0] == 408
        async with await it.connect() as stream:
            await stream.send_all(get().encode())
            await answer(stream)
            with trio.fail_after(PATIENCE_S):
                assert await stream.receive_some() == b""
        await it.until(0)


async def test_an_address_has_so_many_connections_and_the_port_as_well() -> None:
    for bounds in (Bounds(per_address=2), Bounds(connections=2)):
        async with port(bounds) as it:
            one, two = await it.connect(), await it.connect()
            await it.until(2)
            status, headers, body = await it.ask(get())
            assert (status, headers["retry-after"]) == (503, "10")
            assert body.startswith(b"too many connections")
            assert it.door.turned_away == 1
            await one.aclose()
            await it.until(1)
            assert (await it.ask(get()))[0] == 200
            await two.aclose()


async def test_the_oldest_of_too_many_half_open_connections_ends() -> None:
    async with port(Bounds(openings=3)) as it:
        streams = []
        for n in range(1, 5):
            streams.append(await it.connect())
            await it.until(min(n, 3))
        with trio.fail_after(PATIENCE_S):
            with suppress(trio.BrokenResourceError):
                assert await streams[0].receive_some() == b""
        await streams[3].send_all(get().encode())
        assert (await answer(streams[3]))[0] == 200
        for stream in streams:
            await stream.aclose()


async def test_closing_ends_what_is_under_way_and_nothing_is_left() -> None:
    left = []
    routes = (Route(path="/", talk=echo, leave=lambda: left.append(True)),)
    listeners = await listen("127.0.0.1:0")
    door = WebDoor(routes, Bounds(grace_s=0.3))
    number = listeners[0].socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        async with door.serving(listeners):
            stream = await trio.open_tcp_stream("127.0.0.1", number)
            socket = await WebSocket.connect(stream, host="here", target="/")
            idle = await trio.open_tcp_stream("127.0.0.1", number)
            await until(lambda: door.connections == 2)
            nursery.start_soon(partial(idle.send_all, b"GET"))
        assert door.connections == 0
        assert left == [True]
        with pytest.raises(Closed):
            await socket.receive()
        await idle.aclose()
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", number)


async def test_tls_serves_the_same() -> None:
    ca = trustme.CA()
    server, client = (
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(),
    )
    ca.issue_cert("127.0.0.1").configure_cert(server)
    ca.configure_trust(client)
    async with port(tls=server) as it:
        stream = trio.SSLStream(await it.connect(), client, server_hostname="127.0.0.1")
        await stream.send_all(get("/page?tls").encode())
        assert (await answer(stream))[2] == b"GET tls "
        await stream.aclose()
        stream = trio.SSLStream(await it.connect(), client, server_hostname="127.0.0.1")
        socket = await WebSocket.connect(stream, host="here", target="/")
        async with socket:
            await socket.send("hello")
            assert await socket.receive() == "hello"
        async with await it.connect() as plain:
            await plain.send_all(get().encode())
            with trio.fail_after(PATIENCE_S):
                try:
                    while await plain.receive_some():
                        pass
                except trio.BrokenResourceError:
                    pass
        await it.until(0)


@pytest.mark.parametrize("where", ["nowhere", "127.0.0.1:x", ":80", "127.0.0.1:70000"])
async def test_what_is_no_address_is_told(where: str) -> None:
    with pytest.raises(OSError, match="is no address; write"):
        await listen(where)


async def test_a_port_that_is_taken_is_told() -> None:
    listeners = await listen("127.0.0.1:0")
    number = listeners[0].socket.getsockname()[1]
    with pytest.raises(OSError, match="another program listens on"):
        await listen(f"127.0.0.1:{number}")
    for one in listeners:
        await one.aclose()
    assert sentence(404).body == b"Not Found\n"


async def test_the_bound_of_an_address_is_of_who_asks_through_a_proxy() -> None:
    bounds = Bounds(per_address=2)

    async with port(bounds, proxies=Proxies(["127.0.0.1"])) as it:

        async def talk(address: str) -> WebSocket:
            headers = (("X-Forwarded-For", address),)
            stream = await it.connect()
            return await WebSocket.connect(stream, host="here", target="/", headers=headers)

        first, second = await talk("2a00::1"), await talk("2a00::2")
        other = await talk("203.0.113.7")
        with pytest.raises(OSError, match="503"):
            await talk("2a00::3")
        for socket in (first, second, other):
            await socket.send("still here")
            assert await socket.receive() == "still here"
        await first.close()
        with trio.fail_after(PATIENCE_S):
            while it.door.connections > 2:
                await trio.lowlevel.checkpoint()
        third = await talk("2a00::3")
        for socket in (second, other, third):
            await socket.close()
