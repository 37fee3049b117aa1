"""For tests of HttpFs: the service over a real server on loopback, and short ways to use it."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from oanix.caller import Caller
from oanix.channel import OpenFile
from oanix.lib.policy import Layer, Policy, Rules
from oanix.lib.url import to_tree
from oanix.lib.web import Web, WebLimits
from oanix.namespace import Namespace
from oanix.services.http import HttpFs
from tests.reach import ROOT, Reach
from tests.web.asking import OPEN, Names
from tests.web.server import Server, serve

PATIENCE_S = 20


class File:
    """An open file, read and written as a program does: at the place where it is."""

    def __init__(self, file: OpenFile, caller: Caller) -> None:
        self.file = file
        self.caller = caller
        self.at = 0

    @property
    def size(self) -> int | None:
        return self.file.size

    async def read(self, size: int = 1 << 17, offset: int | None = None) -> bytes:
        if offset is not None:
            self.at = offset
        with trio.fail_after(PATIENCE_S):
            piece = await self.file.read(self.caller, size, self.at)
        self.at += len(piece)
        return piece

    async def rest(self) -> bytes:
        pieces = []
        while piece := await self.read():
            pieces.append(piece)
        return b"".join(pieces)

    async def write(self, data: bytes | str) -> int:
        data = data.encode() if isinstance(data, str) else data
        with trio.fail_after(PATIENCE_S):
            written = await self.file.write(self.caller, data, self.at)
        self.at += written
        return written

    async def write_all(self, data: bytes) -> None:
        while data:
            data = data[await self.write(data) :]

    async def ask(self, **request: Any) -> Any:
        """Write a request to `call`, and read its answer."""
        await self.write(json.dumps(request) + "\n")
        return await self.answer()

    async def answer(self) -> Any:
        line = b""
        while not line.endswith(b"\n"):
            piece = await self.read()
            assert piece, line
            line += piece
        return json.loads(line)

    def close(self) -> None:
        try:
            self.file.flush()
        finally:
            self.file.close(self.caller)


class Http:
    """HttpFs over a server, as one caller in one namespace has it."""

    def __init__(self, service: HttpFs, server: Server, reach: Reach) -> None:
        self.service = service
        self.server = server
        self.reach = reach

    @property
    def namespace(self) -> Namespace:
        return self.reach.namespace

    def by(self, caller: Caller) -> "Http":
        """As another caller."""
        return Http(self.service, self.server, self.reach.by(caller))

    def fork(self) -> "Http":
        """In a child's namespace."""
        child = Reach(self.namespace.fork(), self.reach.caller)
        return Http(self.service, self.server, child)

    def url(self, path: str) -> str:
        return self.server.url(path)

    def tree(self, path: str, below: str = "/") -> str:
        """Give the path of a URL of the server."""
        return below + to_tree(self.url(path))

    async def open(self, path: str, flags: int = os.O_RDONLY) -> File:
        with trio.fail_after(PATIENCE_S):
            return File(await self.reach.open(path, flags), self.reach.caller)

    async def get(self, path: str, below: str = "/") -> bytes:
        """Read a URL of the server, as cat does."""
        return await self.read(self.tree(path, below))

    async def read(self, path: str) -> bytes:
        file = await self.open(path)
        try:
            return await file.rest()
        finally:
            file.close()

    async def text(self, path: str) -> str:
        return (await self.read(path)).decode()

    async def write(self, path: str, data: bytes | str, flags: int = os.O_TRUNC) -> None:
        file = await self.open(path, os.O_WRONLY | flags)
        try:
            await file.write_all(data.encode() if isinstance(data, str) else data)
        finally:
            file.close()

    async def append(self, path: str, data: bytes | str) -> None:
        await self.write(path, data, os.O_APPEND)

    async def call(self) -> File:
        return await self.open("/call", os.O_RDWR)

    async def new(self, below: str = "/") -> "Talk":
        file = await self.open(f"{below}new")
        number = (await file.read()).decode().strip()
        return Talk(self, f"{below}{number}", file)

    async def quiet(self) -> None:
        """Wait until no exchange is under way."""
        with trio.fail_after(PATIENCE_S):
            while self.service.web.status()["open"]:
                await trio.lowlevel.checkpoint()


class Talk:
    """A conversation, with its `new` open."""

    def __init__(self, http: Http, path: str, new: File) -> None:
        self.http = http
        self.path = path
        self.file = new

    async def open(self, name: str, flags: int = os.O_RDONLY) -> File:
        return await self.http.open(f"{self.path}/{name}", flags)

    async def text(self, name: str) -> str:
        return await self.http.text(f"{self.path}/{name}")

    async def write(self, name: str, data: bytes | str) -> None:
        await self.http.write(f"{self.path}/{name}", data)

    async def ctl(self, line: str) -> None:
        await self.write("ctl", line + "\n")

    async def facts(self) -> dict[str, str]:
        lines = (await self.text("status")).splitlines()
        return dict(line.split(" ", 1) for line in lines if " " in line)

    async def until(self, state: str) -> dict[str, str]:
        """Wait until `status` tells this state."""
        with trio.fail_after(PATIENCE_S):
            while (facts := await self.facts())["state"] != state:
                await trio.lowlevel.checkpoint()
        return facts

    def close(self) -> None:
        self.file.close()


@asynccontextmanager
async def http(
    rules: str = OPEN,
    *,
    folder: Path | None = None,
    limits: WebLimits | None = None,
    caller: Caller = ROOT,
    resolver: Names | None = None,
) -> AsyncIterator[Http]:
    """Run a server, and the service mounted at the root of a namespace."""
    async with serve() as server:
        web = Web(
            Policy(Layer(Rules.parse(rules))),
            resolver=resolver or Names(),
            limits=limits,
            random=lambda: 0.0,
        )
        service = HttpFs(folder, web=web)
        namespace = Namespace()
        namespace.mount(service, "/")
        async with service.running():
            yield Http(service, server, Reach(namespace, caller))
