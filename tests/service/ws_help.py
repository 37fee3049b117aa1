"""For tests of WsFs: a server by another implementation, and short ways to use the files."""

import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio_websocket as foreign

from oanix.channel import OpenFile
from oanix.lib.policy import Layer, Policy, Rules
from oanix.lib.web import Web
from oanix.namespace import Namespace
from oanix.node import WOULD_BLOCK
from oanix.services.ws import WsFs
from tests.reach import ROOT, Reach
from tests.web.asking import OPEN, Names

PATIENCE_S = 20


async def _serve(request: foreign.WebSocketRequest) -> None:
    """Answer by the path: /echo, /headers, /say/TEXT, /close/CODE, /flood, /drop, /STATUS."""
    _, kind, *rest = request.path.partition("?")[0].split("/")
    if kind.isdigit():
        await request.reject(int(kind), extra_headers=[(b"Location", b"/echo?key=hush")])
        return
    socket = await request.accept(subprotocol=next(iter(request.proposed_subprotocols), None))
    try:
        await _talk(request, socket, kind, rest)
    except foreign.ConnectionClosed:
        return


async def _talk(request: Any, socket: Any, kind: str, rest: list[str]) -> None:
    if kind == "headers":
        shown = {name.decode(): value.decode() for name, value in request.headers}
        await socket.send_message(json.dumps(shown | {"path": request.path}))
    elif kind == "say":
        await socket.send_message(rest[0])
        await socket.send_message(rest[0].encode())
        await socket.aclose(4000, rest[0])
    elif kind == "close":
        await socket.aclose(int(rest[0]), "as you wish")
    elif kind == "drop":
        await socket._stream.aclose()
    elif kind == "deaf":
        await trio.sleep_forever()
    while kind == "flood":
        await socket.send_message("x" * 10_000)
    while True:
        await socket.send_message(await socket.get_message())


class Server:
    """The server: its port, and its connections."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.scheme = scheme
        self.open = 0

    def url(self, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"


@asynccontextmanager
async def serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Run the server."""
    async with trio.open_nursery() as nursery:

        async def handle(request: foreign.WebSocketRequest) -> None:
            server.open += 1
            try:
                await _serve(request)
            finally:
                server.open -= 1

        started = await nursery.start(foreign.serve_websocket, handle, "127.0.0.1", 0, context)
        server = Server(started.port, "wss" if context else "ws")
        yield server
        nursery.cancel_scope.cancel()


class Talk:
    """A conversation, with its `new` open."""

    def __init__(self, ws: "Ws", number: str, new: OpenFile) -> None:
        self.ws = ws
        self.path = f"/{number}"
        self.new = new

    async def open(self, name: str, flags: int = os.O_RDONLY) -> OpenFile:
        with trio.fail_after(PATIENCE_S):
            return await self.ws.reach.open(f"{self.path}/{name}", flags)

    async def text(self, name: str) -> str:
        return await self.ws.reach.text(f"{self.path}/{name}")

    async def ctl(self, line: str) -> None:
        await self.ws.reach.write(f"{self.path}/ctl", line + "\n")

    async def facts(self) -> dict[str, str]:
        return dict(line.split(" ", 1) for line in (await self.text("status")).splitlines())

    async def until(self, key: str, value: str) -> dict[str, str]:
        """Wait until `status` tells this."""
        with trio.fail_after(PATIENCE_S):
            while (facts := await self.facts()).get(key) != value:
                await trio.lowlevel.checkpoint()
        return facts

    async def send(self, data: bytes | str) -> None:
        """Write lines, as a shell does."""
        opened = await self.open("in", os.O_WRONLY)
        try:
            await self.write(opened, data)
        finally:
            opened.close(self.ws.reach.caller)

    async def write(self, opened: OpenFile, data: bytes | str) -> int:
        data = data.encode() if isinstance(data, str) else data
        answer = opened.try_write(self.ws.reach.caller, data, 0)
        if answer is not WOULD_BLOCK:
            return answer
        with trio.fail_after(PATIENCE_S):
            return await opened.write(self.ws.reach.caller, data, 0)

    async def read(self, opened: OpenFile, size: int = 1 << 17) -> bytes:
        with trio.fail_after(PATIENCE_S):
            return await opened.read(self.ws.reach.caller, size, 0)

    def close(self, opened: OpenFile) -> None:
        opened.close(self.ws.reach.caller)


class Ws:
    """The service at the root of a namespace."""

    def __init__(self, service: WsFs, server: Server, reach: Reach) -> None:
        self.service = service
        self.server = server
        self.reach = reach

    async def talk(self, path: str = "/echo") -> Talk:
        """Begin a conversation with the server."""
        new = await self.reach.open("/new")
        number = new.try_read(self.reach.caller, 100, 0)
        assert number is not WOULD_BLOCK
        talk = Talk(self, number.decode().strip(), new)
        await self.reach.write(f"{talk.path}/url", self.server.url(path) + "\n")
        return talk


@asynccontextmanager
async def websockets(
    rules: str = OPEN, *, vault: Any = None, server_context: ssl.SSLContext | None = None,
    client_context: ssl.SSLContext | None = None,
) -> AsyncIterator[Ws]:  # fmt: skip
    """Run a server, an engine, and the service."""
    async with serving(server_context) as server:
        policy = Policy(Layer(Rules.parse(rules)))
        web = Web(policy, vault=vault, resolver=Names(), ssl_context=client_context)
        service = WsFs(web, policy)
        namespace = Namespace()
        namespace.mount(service, "/")
        async with web.running(), service.running():
            yield Ws(service, server, Reach(namespace, ROOT))
