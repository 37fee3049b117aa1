"""Awaited: an open file that takes lines, each of which may have to wait for somebody.

Half a line waits for the next write; one that ends with the file is taken after the close, its
error in `errstr`. A write of several lines ends before one that fails, once others were taken, and
the write that goes on tells why: so nothing is taken twice. So does one that has waited too long.
"""

import errno
from collections.abc import Awaitable, Callable

import trio

from oanix import path as paths
from oanix.errors import fault
from oanix.kit.file import Opening, check_truncate
from oanix.node import WOULD_BLOCK, WRITABLE, Handle, WouldBlock

Start = Callable[[Callable[[], Awaitable[object]]], None]
"""Has a task run for as long as the service does. Raises OSError ESHUTDOWN."""


class AwaitedLines(Handle):
    """Takes lines one after the other. Subclasses say what to do with one."""

    stream = True

    def __init__(self, opening: Opening, start: Start, longest: int) -> None:
        self._opening = opening
        self._start = start
        self._longest = longest
        self._half = bytearray()
        self._kept: tuple[bytes, OSError] | None = None

    async def take(self, line: bytes) -> None:
        """Do what a line says, which has no newline and is not empty. Raises OSError."""
        raise NotImplementedError

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        if b"\n" in data:
            return WOULD_BLOCK
        self._keep(data)
        return len(data)

    async def write(self, data: bytes, offset: int) -> int:
        kept, self._kept = self._kept, None
        if kept is not None and data.startswith(kept[0]):
            raise kept[1]
        done = 0
        while (newline := data.find(b"\n", done)) >= 0:
            half = bytes(self._half)
            try:
                await self._complete(data[done:newline])
            except trio.Cancelled:
                self._half[:] = half
                if not done:
                    raise
                # Who hears of nothing would write again what was taken.
                return done
            except OSError as error:
                if not done:
                    raise
                self._kept = data[done : newline + 1], error
                return done
            done = newline + 1
        self._keep(data[done:])
        return len(data)

    async def _complete(self, piece: bytes) -> None:
        self._keep(piece)
        line = bytes(self._half)
        self._half.clear()
        if line.strip():
            await self.take(line)
            self._opening.file.written()

    def _keep(self, piece: bytes) -> None:
        if len(self._half) + len(piece) > self._longest:
            self._half.clear()
            raise fault(errno.EMSGSIZE, f"a line has at most {self._longest} bytes")
        self._half += piece

    def truncate(self, size: int) -> None:
        check_truncate(size)

    def ready(self, wake: Callable[[], None] | None) -> int:
        return WRITABLE

    def close(self) -> None:
        if self._half.strip():
            self._start(self._end)

    async def _end(self) -> None:
        opening = self._opening
        try:
            await self.take(bytes(self._half))
        except OSError as error:
            opening.namespace.sentences.report(error, opening.caller, f"close {opening.file.name}")

    @staticmethod
    def text(line: bytes) -> str:
        """Read a line as text. Raises OSError EINVAL for what is no UTF-8."""
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise fault(errno.EINVAL, f"{paths.decode(line[:40])!r} is no UTF-8") from None
