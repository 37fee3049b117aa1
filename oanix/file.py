"""File: an open file with a position, for code in this process (see `oanix.client`)."""

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import trio

from oanix.caller import Caller
from oanix.errors import fault
from oanix.node import WOULD_BLOCK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from oanix.channel import OpenFile
    from oanix.stat import StatLike

CHUNK = 131_072
"""Bytes asked for at once, and the memory that reading a file in pieces takes."""

OFFSET_MAX = 2**63 - 1
"""The largest offset in a file (off_t)."""

T = TypeVar("T")


class File:
    """An open file: bytes at a position that moves, as file descriptors have it.

    Half-duplex, as the handle beneath: a second operation while one waits is EBUSY. Closing while
    one waits ends it with EBADF. A cancelled read has taken nothing; a cancelled write has written
    what `tell` says.
    """

    def __init__(self, opened: "OpenFile", caller: Caller) -> None:
        self._opened = opened
        self._caller = caller
        self._mode = opened.flags & os.O_ACCMODE
        self._position = 0
        self._closed = False
        self._waiting: trio.CancelScope | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"at {self._position}"
        return f"<File {self._opened.path} {state}>"

    # What it is ----------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The path by which it was opened."""
        return self._opened.path

    @property
    def stream(self) -> bool:
        """Whether it ignores offsets, and so has no position to seek to."""
        return self._opened.stream

    @property
    def size(self) -> int | None:
        """Exact size of what was known at the open, or None: as `stat` says, or no end."""
        return self._opened.size

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def stat(self) -> "StatLike":
        """Give the attributes of the open file (fstat(2))."""
        self._require_open()
        return self._opened.stat()

    def tell(self) -> int:
        """Give the position."""
        return self._position

    # Reading -------------------------------------------------------------------------------------

    async def read(self, size: int = -1, *, within: float | None = None) -> bytes:
        """Read at most so many bytes, as they come; or, without a size, everything to the end.

        b"" is the end. Raises OSError: EBADF, ETIMEDOUT when nothing came within so many seconds
        (what had come before is in the position, and lost for a stream when no size was given).
        """
        with deadline(within, self.path):
            if size >= 0:
                return await self._piece(size)
            pieces = [piece async for piece in self]
        return b"".join(pieces)

    def __aiter__(self) -> "File":
        """Read in pieces of at most CHUNK bytes, to the end; memory stays at one piece."""
        return self

    async def __anext__(self) -> bytes:
        if piece := await self._piece(CHUNK):
            return piece
        raise StopAsyncIteration

    async def _piece(self, size: int) -> bytes:
        if self._mode == os.O_WRONLY:
            raise fault(errno.EBADF, "this file was not opened for reading", self.path)
        # Before the read, and not after it: a cancellation must not lose what a stream gave.
        await trio.lowlevel.checkpoint()
        self._require_free()
        at_once = self._opened.try_read(self._caller, size, self._position)
        if at_once is not WOULD_BLOCK:
            data = at_once
        else:
            data = await self._wait(self._opened.read(self._caller, size, self._position))
        if not self.stream:
            self._position += len(data)
        return data

    # Writing -------------------------------------------------------------------------------------

    async def write(self, data: bytes, *, within: float | None = None) -> int:
        """Write all of it and give its length. Raises OSError: EBADF, EAGAIN, ETIMEDOUT."""
        if self._mode == os.O_RDONLY:
            raise fault(errno.EBADF, "this file was not opened for writing", self.path)
        view = memoryview(data)
        with deadline(within, self.path):
            # An empty write says something to a message file, so it is done once too.
            done = await self._write_some(data)
            while done < len(data):
                done += await self._write_some(bytes(view[done : done + CHUNK]))
        return done

    async def _write_some(self, data: bytes) -> int:
        await trio.lowlevel.checkpoint()
        self._require_free()
        at_once = self._opened.try_write(self._caller, data, self._position)
        if at_once is not WOULD_BLOCK:
            taken = at_once
        else:
            taken = await self._wait(self._opened.write(self._caller, data, self._position))
        if data and not taken:
            raise fault(errno.EIO, "the service took nothing of a write", self.path)
        if self._opened.flags & os.O_APPEND and not self.stream:
            self._position = self._opened.stat().st_size
        elif not self.stream:
            self._position += taken
        return taken

    def truncate(self, size: int | None = None) -> None:
        """Set the size, to the position if none is given (ftruncate(2)); the position stays."""
        self._require_free()
        if self._mode == os.O_RDONLY:
            raise fault(errno.EINVAL, "this file was not opened for writing", self.path)
        self._opened.truncate(self._caller, self._position if size is None else size)

    async def fsync(self, *, datasync: bool = False) -> None:
        """Make what was written durable (fsync(2))."""
        self._require_free()
        await self._wait(self._opened.fsync(self._caller, datasync))

    # Position and end ----------------------------------------------------------------------------

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position (lseek(2)). Raises OSError: ESPIPE for a stream, EINVAL below 0."""
        self._require_open()
        if self.stream:
            raise fault(errno.ESPIPE, "a stream has no position", self.path)
        if whence == os.SEEK_END:
            size = self._opened.size
            offset += self._opened.stat().st_size if size is None else size
        elif whence == os.SEEK_CUR:
            offset += self._position
        elif whence != os.SEEK_SET:
            raise fault(errno.EINVAL, "seek counts from the start, the position or the end")
        if not 0 <= offset <= OFFSET_MAX:
            raise fault(errno.EINVAL, f"a position is from 0 to {OFFSET_MAX}", self.path)
        self._position = offset
        return offset

    def close(self) -> None:
        """Close it, and report the error of an earlier write. A second call does nothing.

        An operation that waits ends with EBADF before the service is told.
        """
        if self._closed:
            return
        try:
            if self._waiting is None:
                self._opened.flush()
        finally:
            self.release()

    def release(self) -> None:
        """Close it without asking for errors of earlier writes."""
        if self._closed:
            return
        self._closed = True
        if self._waiting is None:
            self._opened.close(self._caller)
        else:
            self._waiting.cancel()

    async def _wait(self, operation: "Awaitable[T]") -> T:
        with trio.CancelScope() as scope:
            self._waiting = scope
            try:
                return await operation
            finally:
                self._waiting = None
                if self._closed:
                    self._opened.close(self._caller)
        raise fault(errno.EBADF, "the file was closed meanwhile", self.path)

    def _require_open(self) -> None:
        if self._closed:
            raise fault(errno.EBADF, "this file is closed", self.path)

    def _require_free(self) -> None:
        self._require_open()
        if self._waiting is not None:
            raise fault(errno.EBUSY, "another operation waits on this open file", self.path)


@contextmanager
def deadline(seconds: float | None, path: str) -> "Iterator[None]":
    """Turn a deadline that passes into OSError ETIMEDOUT."""
    try:
        with trio.CancelScope() if seconds is None else trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise fault(errno.ETIMEDOUT, f"not done within {seconds} s", path) from None
