"""Feed: a subscription of /cap/nostr, by its files."""

import errno
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, Protocol, Self

import trio

from oanix.errors import fault
from oanix.lib.nostr import decode, encode

CHUNK: Final = 65_536
SIGNED_MAX: Final = 1 << 22
CLOSE_S: Final = 2.0


class OpenFile(Protocol):
    """An open file."""

    async def read(self, size: int) -> bytes:
        """Read at most so many bytes, as they come; nothing at the end. Raises OSError."""

    async def write(self, data: bytes) -> int:
        """Write all of it. Raises OSError."""


class Files(Protocol):
    """The files of a namespace: a `Client`, or a mount (`Mounted`)."""

    def open(self, path: str, flags: int) -> AbstractAsyncContextManager[OpenFile]:
        """Open a file for as long as the block. Raises OSError."""


async def read_text(files: Files, path: str) -> str:
    """Read a small file. Raises OSError."""
    data = b""
    async with files.open(path, os.O_RDONLY) as file:
        while piece := await file.read(CHUNK):
            data += piece
    return data.decode()


async def write_line(files: Files, path: str, line: bytes) -> None:
    """Write a line to a file. Raises OSError."""
    async with files.open(path, os.O_WRONLY) as file:
        await file.write(line + b"\n")


async def signed(files: Files, path: str, template: bytes) -> bytes:
    """Have a template signed. Raises OSError."""
    async with files.open(path, os.O_RDWR) as file:
        await file.write(template + b"\n")
        data = b""
        while not data.endswith(b"\n"):
            piece = await file.read(CHUNK)
            if not piece or len(data) > SIGNED_MAX:
                raise fault(errno.EIO, "no signed event came back", path)
            data += piece
    return data.removesuffix(b"\n")


class Feed:
    """An open subscription."""

    def __init__(self, files: Files, folder: str, events: OpenFile) -> None:
        self._files = files
        self._folder = folder
        self._events = events
        self._lines: deque[bytes] = deque()
        self._rest = b""

    @classmethod
    @asynccontextmanager
    async def opened(cls, files: Files, tree: str) -> AsyncIterator["Feed"]:
        """Make a subscription, for as long as the block. Raises OSError."""
        async with files.open(f"{tree}/sub/new", os.O_RDONLY) as new:
            folder = f"{tree}/sub/{(await new.read(32)).decode().strip()}"
            async with files.open(f"{folder}/events", os.O_RDONLY) as events:
                try:
                    yield cls(files, folder, events)
                finally:
                    # It would end by itself, only later; a server that is gone has ended it.
                    with trio.move_on_after(CLOSE_S, shield=True), suppress(OSError):
                        await write_line(files, f"{folder}/ctl", b"close")

    async def ask(self, filters: Sequence[dict[str, object]]) -> None:
        """Ask for this instead of what was asked before. Raises OSError."""
        await write_line(self._files, f"{self._folder}/filter", encode(filters))

    def __aiter__(self) -> Self:
        # No generator: it would have to be closed wherever a reader is cancelled.
        return self

    async def __anext__(self) -> Any:
        """Give the next line, decoded. Raises OSError; ENOTCONN when the subscription has ended."""
        while not self._lines:
            piece = await self._events.read(CHUNK)
            if not piece:
                raise fault(errno.ENOTCONN, "the subscription has ended; its status tells why")
            *lines, self._rest = (self._rest + piece).split(b"\n")
            self._lines.extend(lines)
        return decode(self._lines.popleft())
