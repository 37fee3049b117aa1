"""For tests of a relay's doors: one relay, and who speaks to it in memory, on a port, by a file."""

import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field

from mounts.web import Bounds, WebDoor, listen
from oanix.cli.web_port import relay_routes
from oanix.lib.nostr import Event
from oanix.lib.websocket import Closed, WebSocket
from oanix.services.relay import RelayFs
from oanix.services.relay.link import Link
from oanix.services.relay.relay import DATABASE
from oanix.services.relay.rules import RelayLimits
from oanix.services.relay.schema import MIGRATIONS
from oanix.store import Store
from tests.reach import Reach
from tests.service.test_relay_core import NOW, URL
from tests.service.test_relay_session import PATIENCE_S, Client

PIECE = 65_536


@define
class PortLink:
    """A client's end of a WebSocket."""

    socket: WebSocket

    async def send(self, text: str | bytes) -> None:
        await self.socket.send(text)

    async def receive(self) -> str | bytes:
        return await self.socket.receive()

    async def aclose(self) -> None:
        await self.socket.close()


@define
class Doors:
    """A relay that is reached in every way."""

    folder: Path
    fs: RelayFs
    door: WebDoor
    port: int
    reach: Reach
    streams: list[trio.SocketStream] = field(factory=list)

    async def in_memory(self) -> Client:
        """Connect within the process."""
        return await _greeted(self.fs.relay.connect())

    async def on_port(self, *, room: int = 0) -> Client:
        """Connect over loopback; room: how much the client's end of the socket holds."""
        stream = await self.stream(room=room)
        socket = await WebSocket.connect(stream, host=self.host, target="/")
        return await _greeted(PortLink(socket))

    async def stream(self, *, room: int = 0) -> trio.SocketStream:
        """Connect to the port, and say nothing yet."""
        raw = trio.socket.socket()
        if room:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        await raw.connect(("127.0.0.1", self.port))
        self.streams.append(trio.SocketStream(raw))
        return self.streams[-1]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def publish(self, line: bytes) -> dict[str, Any]:
        """Write a line to the file `publish`, and read what became of it. Raises OSError."""
        opened = await self.reach.open("/publish", os.O_RDWR)
        try:
            done = 0
            while done < len(line):
                done += await opened.write(self.reach.caller, line[done : done + PIECE], 0)
            answer = json.loads(await opened.read(self.reach.caller, PIECE, 0))
            assert isinstance(answer, dict)
            return answer
        finally:
            opened.close(self.reach.caller)

    def kept(self) -> list[bytes]:
        """List the JSON of all that is stored."""
        return stored(self.folder)

    async def until_gone(self, count: int = 0) -> None:
        """Wait until the port has no more connections than these."""
        with trio.fail_after(PATIENCE_S):
            while self.door.connections > count:  # noqa: ASYNC110
                await trio.sleep(0.005)


async def _greeted(link: Link) -> Client:
    client = Client(link)
    word, client.challenge = await client.hear()
    assert word == "AUTH"
    return client


@asynccontextmanager
async def doors(
    folder: Path, *, bounds: Bounds | None = None, limits: RelayLimits | None = None,
    now: int = NOW, clock: Callable[[], int] | None = None,
) -> AsyncIterator[Doors]:  # fmt: skip
    """Serve a relay at every door; now: the time, where it is not that of a clock."""
    fs = RelayFs(folder, url=URL, limits=limits, clock=clock or (lambda: now))
    async with fs.running():
        relay = fs.relay
        listeners = await listen("127.0.0.1:0")
        port = listeners[0].socket.getsockname()[1]
        hosts = frozenset({f"127.0.0.1:{port}"})
        door = WebDoor(relay_routes(relay, hosts), bounds)
        async with door.serving(listeners):
            it = Doors(folder, fs, door, port, Reach.of(fs))
            try:
                yield it
            finally:
                for stream in it.streams:
                    await trio.aclose_forcefully(stream)


def stored(folder: Path) -> list[bytes]:
    """List the JSON of all that is in the database of a relay, which must be sound."""
    with Store.open(str(folder / DATABASE), MIGRATIONS) as store:
        assert store.execute("PRAGMA integrity_check") == [("ok",)]
        found = store.execute("SELECT json FROM events ORDER BY seq")
    return [raw for (raw,) in found if isinstance(raw, bytes)]


async def ending(client: Client) -> tuple[int, str]:
    """Hear a client out, and give the code and the reason of the close."""
    with trio.fail_after(PATIENCE_S):
        while True:
            try:
                await client.link.receive()
            except Closed as closed:
                return closed.ending.code, closed.ending.reason


def fields(event: Event) -> dict[str, Any]:
    """Give what the JSON of an event is made of."""
    found = json.loads(event.json())
    assert isinstance(found, dict)
    return found


@pytest.fixture(autouse=True)
def nothing_fails(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What a client says is never an error of the relay."""
    yield
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == []
