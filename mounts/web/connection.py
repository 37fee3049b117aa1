"""A connection: requests one after the other, until it becomes a conversation or ends (RFC 9112).

A head is parsed from a copy of what came, so that a WebSocket begins with every byte that belongs
to it. Requests whose length could be read in two ways are refused, and end the connection.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

import h11
import trio

from mounts.web.model import Answer, Asked, Bounds, Headers, Request, Route, sentence
from oanix.lib.websocket import Refused, WebSocket
from oanix.lib.websocket.handshake import any_origin

log = logging.getLogger(__name__)

CHUNK: Final = 65_536

LINGER_S: Final = 1.0
LINGER_BYTES: Final = 1 << 20
"""How long, and how much, a client that is turned away may still send, so that it reads why."""

TOO_LONG: Final = "the head of the request is too long"

CORS: Final[Headers] = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Headers", "*"),
)


class _Ended(Exception):
    """The connection ends here; with an answer, where there is one to give."""

    def __init__(self, answer: Answer | None = None) -> None:
        super().__init__(answer)
        self.answer = answer


class Connection:
    """One client of the port."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        routes: Sequence[Route],
        bounds: Bounds,
        *,
        peer: str,
        secure: bool,
        opening: Callable[[], AbstractContextManager[None]],
        client: Callable[[Headers], str],
        talking: Callable[[str], AbstractContextManager[str]],
    ) -> None:
        """Make it.

        client: whose request it is, by its headers. talking: counts a conversation of somebody for
        as long as it lasts, or says why there is no room for it.
        """
        self._stream = stream
        self._routes = routes
        self._bounds = bounds
        self._peer = peer
        self._secure = secure
        self._opening = opening
        self._client = client
        self._talking = talking
        self._http = h11.Connection(h11.SERVER)
        self._raw = bytearray()

    async def run(self) -> None:
        """Answer requests until the connection ends."""
        rest = b""
        first = True
        try:
            while True:
                asked = await self._head(rest, first=first)
                first = False
                if asked.upgrades and (route := self._talker(asked)):
                    with self._talking(asked.peer) as full:
                        if full:
                            raise _Ended(sentence(503, full))
                        await self._talk(route, asked)
                    return
                await self._answer(asked)
                rest = self._http.trailing_data[0]
        except _Ended as ended:
            if ended.answer is not None:
                await self._send(ended.answer, "", last=True)
                await linger(self._stream)

    # Reading -------------------------------------------------------------------------------------

    async def _head(self, rest: bytes, *, first: bool) -> Asked:
        """Wait for a head. Raises _Ended."""
        bounds = self._bounds
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=bounds.head_bytes)
        self._raw = bytearray(rest)
        if rest:
            self._http.receive_data(rest)
        if not rest and not first:
            with trio.move_on_after(bounds.idle_s) as idle:
                await self._more(counted=True)
            if idle.cancelled_caught:
                raise _Ended
        with self._opening(), trio.move_on_after(bounds.head_s):
            while True:
                event = self._event()
                if isinstance(event, h11.Request):
                    if len(self._raw) - len(self._http.trailing_data[0]) > bounds.head_bytes:
                        raise _Ended(sentence(431, TOO_LONG))
                    return self._asked(event)
                if isinstance(event, h11.ConnectionClosed):
                    raise _Ended
                await self._more(counted=True)
        raise _Ended(sentence(408, f"no request within {bounds.head_s:g} s") if self._raw else None)

    def _event(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            told = TOO_LONG if status == 431 else str(error)
            raise _Ended(sentence(status, told)) from None

    async def _more(self, *, counted: bool = False) -> None:
        data = bytes(await self._stream.receive_some(CHUNK))
        if counted:
            self._raw += data
        self._http.receive_data(data)

    def _asked(self, request: h11.Request) -> Asked:
        headers = tuple((n.decode("ascii"), v.decode("latin-1")) for n, v in request.headers)
        names = [name for name, _ in headers]
        if "content-length" in names and "transfer-encoding" in names:
            # What follows could be read in two ways (RFC 9112, 6.1).
            raise _Ended(sentence(400, "Content-Length and Transfer-Encoding exclude each other"))
        target = request.target.decode("latin-1")
        path, _, query = target.partition("?")
        if not path.startswith("/"):
            raise _Ended(sentence(400, "the target of a request is a path"))
        return Asked(
            request.method.decode("ascii"), path, query, headers, self._client(headers),
            self._secure,
        )  # fmt: skip

    async def _body(self) -> bytes:
        """Read the body within its bounds. Raises _Ended."""
        bounds = self._bounds
        body = bytearray()
        with trio.move_on_after(bounds.body_s):
            while True:
                if self._http.they_are_waiting_for_100_continue:
                    await self._write(h11.InformationalResponse(status_code=100, headers=[]))
                event = self._event()
                if isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > bounds.body_bytes:
                        said = f"a body has at most {bounds.body_bytes} bytes"
                        raise _Ended(sentence(413, said))
                elif isinstance(event, h11.EndOfMessage):
                    return bytes(body)
                elif isinstance(event, h11.ConnectionClosed):
                    raise _Ended
                else:
                    await self._more()
        raise _Ended(sentence(408, f"no body within {bounds.body_s:g} s"))

    # Answering -----------------------------------------------------------------------------------

    def _of_path(self, asked: Asked) -> list[Route]:
        return [route for route in self._routes if route.path == asked.path]

    def _talker(self, asked: Asked) -> Route | None:
        found = (route for route in self._of_path(asked) if route.talk is not None)
        return next((route for route in found if route.takes(asked)), None)

    async def _talk(self, route: Route, asked: Asked) -> None:
        assert route.talk is not None
        try:
            socket = await WebSocket.accept(
                self._stream, leading=bytes(self._raw), admit=any_origin, limits=route.limits
            )
        except Refused as refused:
            log.debug("peer=%s no WebSocket: %s", self._peer, refused.strerror)
            return
        async with socket:
            await route.talk(socket, asked)

    async def _answer(self, asked: Asked) -> None:
        """Answer a request; raises _Ended when it was the last one."""
        body = await self._body()
        routes = self._of_path(asked)
        methods = ", ".join(_methods(routes))
        cors = (*CORS, ("Access-Control-Allow-Methods", methods)) if _crosses(routes) else ()
        answer = await self._answered(asked, routes, body)
        answer = Answer(answer.status, answer.body, (*answer.headers, *cors))
        await self._send(answer, asked.method)
        log.debug(
            "peer=%s method=%s path=%s status=%d",
            asked.peer, asked.method, asked.path, answer.status,
        )  # fmt: skip
        if self._http.our_state is h11.MUST_CLOSE:
            raise _Ended

    async def _answered(self, asked: Asked, routes: Sequence[Route], body: bytes) -> Answer:
        if not routes:
            return sentence(404, "there is nothing at this path")
        pages = [route for route in routes if route.page is not None]
        methods = _methods(routes)
        allow = ("Allow", ", ".join(methods))
        if asked.method == "OPTIONS":
            return Answer(204, b"", (allow,))
        for route in pages:
            if asked.method in route.methods and route.takes(asked):
                assert route.page is not None
                return await self._page(route, Request(asked, body))
        if asked.method not in methods:
            return sentence(405, f"write one of: {', '.join(methods)}", (allow,))
        if any(route.talk is not None for route in routes):
            upgrade = ("Upgrade", "websocket")
            return sentence(426, "this is a WebSocket: connect with ws:// or wss://", (upgrade,))
        return sentence(406, "there is nothing here of the kind that you accept")

    async def _page(self, route: Route, request: Request) -> Answer:
        assert route.page is not None
        try:
            return await route.page(request)
        except OSError as error:
            log.warning("path=%s: %s", request.asked.path, error.strerror)
            return sentence(500, "this failed; the server's log has more")

    async def _send(self, answer: Answer, method: str, *, last: bool = False) -> None:
        headers = [("Content-Length", str(len(answer.body))), *answer.headers]
        if answer.status == 204:
            headers = list(answer.headers)
        if last:
            headers.append(("Connection", "close"))
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = b"" if method == "HEAD" else answer.body
        response = h11.Response(
            status_code=answer.status,
            headers=[(name.encode(), value.encode("latin-1")) for name, value in headers],
        )
        data = self._http.send(response) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        with trio.move_on_after(self._bounds.answer_s) as slow:
            await self._stream.send_all(data)
        if slow.cancelled_caught:
            raise _Ended

    async def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            with trio.move_on_after(self._bounds.answer_s):
                await self._stream.send_all(data)


async def turn_away(stream: trio.abc.HalfCloseableStream, why: str, *, tls: bool) -> None:
    """Tell a client that there is no room, without waiting for what it asks."""
    with trio.move_on_after(LINGER_S):
        try:
            if not tls:
                said = f"{why}\n".encode()
                head = (
                    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\n"
                    "Content-Type: text/plain; charset=utf-8\r\n"
                    f"Content-Length: {len(said)}\r\n\r\n"
                )
                await stream.send_all(head.encode() + said)
                await linger(stream)
        except (OSError, trio.BrokenResourceError):
            pass
    await trio.aclose_forcefully(stream)


async def linger(stream: trio.abc.Stream) -> None:
    """Read and drop what a client still sends: a reset would take the answer from it."""
    left = LINGER_BYTES
    with trio.move_on_after(LINGER_S):
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()
        while left > 0 and (data := await stream.receive_some(CHUNK)):
            left -= len(data)


def _methods(routes: Sequence[Route]) -> list[str]:
    return sorted({method for route in routes for method in route.methods} | {"OPTIONS"})


def _crosses(routes: Sequence[Route]) -> bool:
    """Tell whether pages of other origins may ask (Fetch, 3.2)."""
    return any(route.cors for route in routes)
