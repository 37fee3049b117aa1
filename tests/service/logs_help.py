"""A namespace with /logs, for tests that use it as a door does."""

import gzip
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import frozen

from oanix.caller import Caller
from oanix.channel import OpenFile
from oanix.client import Client
from oanix.namespace import Namespace
from oanix.service import Change
from oanix.services.logs import LogsFs

APPEND = os.O_WRONLY | os.O_APPEND
ANYONE = Caller(principal="ann", uid=1000, pid=42, door="test")
PATIENCE_S = 20


@frozen
class Logs:
    """The service, and a client of a namespace that has it at /logs."""

    service: LogsFs
    client: Client

    async def open(self, name: str, flags: int = os.O_RDONLY) -> OpenFile:
        """Open a log, or make it with O_CREAT."""
        folder, _, last = f"/logs/{name}".rpartition("/")
        channel = self.client.channel(folder)
        if flags & os.O_CREAT and last not in channel.readdir(ANYONE):
            return channel.create(ANYONE, last, flags, 0o644)[1]
        return await channel.walk(ANYONE, last).open(ANYONE, flags)

    async def append(self, name: str, data: bytes, *, create: bool = False) -> None:
        """Append and close, as `>>` does."""
        file = await self.open(name, APPEND | (os.O_CREAT if create else 0))
        assert await file.write(ANYONE, data, 0) == len(data)
        file.close(ANYONE)

    async def read(self, name: str) -> bytes:
        """Read a file to its end."""
        return await self.client.read(f"/logs/{name}")

    async def records(self, name: str = "events.jsonl") -> list[dict[str, Any]]:
        """Read the records of a log."""
        return [json.loads(line) for line in (await self.read(name)).splitlines()]

    async def history(self, name: str) -> bytes:
        """Read all that a log ever took: what was rotated, the oldest first, and the log."""
        shown = self.client.listdir("/logs")
        rotated = [(int(n), f"{name}.{n}{gz or ''}") for n, gz in _numbers(name, shown)]
        pieces = []
        for _, old in sorted(rotated, reverse=True):
            data = await self.read(old)
            pieces.append(gzip.decompress(data) if old.endswith(".gz") else data)
        return b"".join([*pieces, await self.read(name)])

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until something is true that the service announces a change with."""
        with trio.fail_after(PATIENCE_S):
            while not true():
                changed = trio.Event()

                def subscriber(_: Change, changed: trio.Event = changed) -> None:
                    changed.set()

                self.service.changes.subscribe(subscriber)
                await changed.wait()
                self.service.changes.unsubscribe(subscriber)

    async def until_packed(self, name: str) -> None:
        """Wait until every rotated file of a log is packed."""
        await self.until(lambda: all(each.endswith(".gz") for each in self.rotated(name)))

    def rotated(self, name: str) -> list[str]:
        """List the rotated files of a log."""
        shown = self.client.listdir("/logs")
        return [f"{name}.{n}{gz or ''}" for n, gz in _numbers(name, shown)]


def _numbers(name: str, shown: list[str]) -> list[tuple[str, str | None]]:
    pattern = re.compile(re.escape(name) + r"\.([0-9]+)(\.gz)?")
    found = (pattern.fullmatch(each) for each in shown)
    return [(match[1], match[2]) for match in found if match]


def make(folder: Path, **settings: Any) -> Logs:
    """Make the service over a folder, and mount it."""
    service = LogsFs(folder, **settings)
    namespace = Namespace()
    namespace.mount(service, "/logs")
    return Logs(service, Client(namespace, ANYONE))


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Logs]:
    """Make the service, and run it."""
    logs = make(folder, **settings)
    async with logs.service.running():
        yield logs
