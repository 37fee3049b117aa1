"""For tests with a relay that is not ours: nostr-sdk's, in a process that can be killed."""

import json
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import trio
from attrs import frozen

from oanix.lib.nostr import Event
from oanix.lib.websocket import WebSocket
from tests.service.nostr_help import PATIENCE_S

PROGRAM = """
import asyncio, sys
from nostr_sdk import (
    LocalRelayBuilder, LocalRelayBuilderNip42, LocalRelayBuilderNip42Mode, NostrLmdb, RateLimit,
    uniffi_set_event_loop,
)

async def main(folder, port, limit, proof):
    uniffi_set_event_loop(asyncio.get_running_loop())
    builder = LocalRelayBuilder().addr("127.0.0.1").default_filter_limit(int(limit))
    builder = builder.rate_limit(RateLimit(max_reqs=10_000, notes_per_minute=1_000_000))
    if folder:
        builder = builder.database(await NostrLmdb.open(folder))
    if port != "0":
        builder = builder.port(int(port))
    if proof:
        builder = builder.nip42(LocalRelayBuilderNip42(mode=LocalRelayBuilderNip42Mode.BOTH))
    relay = builder.build()
    await relay.run()
    print(await relay.url(), flush=True)
    await asyncio.get_running_loop().create_future()

asyncio.run(main(*sys.argv[1:]))
"""


@frozen
class Foreign:
    """Their relay, and what can be asked of it without NostrFs."""

    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    async def feed(self, events: Iterable[Event]) -> None:
        """Have it keep events; it may have them already."""
        waiting = {event.id: event for event in events}
        async with await self.connect() as socket, trio.open_nursery() as nursery:

            async def send(batch: Sequence[Event]) -> None:
                for event in batch:
                    await socket.send(f'["EVENT",{event.json().decode()}]')

            nursery.start_soon(send, list(waiting.values()))
            with trio.fail_after(PATIENCE_S):
                while waiting:
                    said = json.loads(await socket.receive())
                    if said[0] == "OK":
                        assert said[2], said
                        del waiting[said[1]]

    async def stored(self, **asked: object) -> list[Event]:
        """Ask it for what it has."""
        found = []
        async with await self.connect() as socket:
            await socket.send(json.dumps(["REQ", "s", asked]))
            while (said := await _heard(socket))[0] != "EOSE":
                if said[0] == "EVENT":
                    found.append(Event.of(said[2]))
        return found

    async def ask(self, socket: WebSocket, *words: object) -> list[Any]:
        """Say something, and hear the answer."""
        await socket.send(json.dumps(words))
        return await _heard(socket)

    async def connect(self) -> WebSocket:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        return await WebSocket.connect(stream, host=f"127.0.0.1:{self.port}", target="/")


async def _heard(socket: WebSocket) -> list[Any]:
    with trio.fail_after(PATIENCE_S):
        said = json.loads(await socket.receive())
    assert isinstance(said, list)
    return said


@asynccontextmanager
async def local_relay(
    folder: Path | None = None, *, port: int = 0, limit: int = 500, proof: bool = False
) -> AsyncIterator[Foreign]:
    """Run nostr-sdk's relay, and kill it at the end; folder: where it keeps events, if it does."""
    words = [str(folder or ""), str(port), str(limit), "yes" if proof else ""]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", PROGRAM, *words], stdin=None, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        said = b""
        with trio.fail_after(PATIENCE_S):
            while not said.endswith(b"\n"):
                piece = await process.stdout.receive_some()
                assert piece, "nostr-sdk's relay did not start"
                said += piece
        yield Foreign(int(said.decode().strip().rstrip("/").rpartition(":")[2]))
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            await process.stdout.aclose()
