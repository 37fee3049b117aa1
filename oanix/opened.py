"""OpenFile: a file that was opened through a channel, and what its flags and mount let through."""

import errno
import os
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

from oanix.caller import Caller
from oanix.errors import errno_of, fault
from oanix.node import WOULD_BLOCK, Handle, WouldBlock
from oanix.operation import Kind, observed, observed_async
from oanix.stat import StatLike
from oanix.table import Access

if TYPE_CHECKING:
    from oanix.channel import Channel


class OpenFile:
    """A file opened through a channel: the handle as doors see it.

    It counts what was read and written through it, and the reads and writes that failed, so that
    its end says what it was used for and no single read needs to be watched.
    """

    __slots__ = (
        "bytes_read", "bytes_written", "channel", "error", "errors", "flags", "handle",
        "namespace", "since",
    )  # fmt: skip

    def __init__(self, channel: "Channel", handle: Handle, flags: int) -> None:
        self.channel = channel
        self.handle = handle
        self.flags = flags
        self.namespace = channel.namespace
        self.since = perf_counter()
        self.bytes_read = 0
        self.bytes_written = 0
        self.errors = 0
        self.error = 0
        """The errno of the last read or write that failed."""

    @property
    def path(self) -> str:
        """The path by which it was opened."""
        return self.channel.path

    @property
    def stream(self) -> bool:
        """Whether offsets mean nothing."""
        return self.handle.stream

    @property
    def direct(self) -> bool:
        """Whether it must not be kept in a page cache."""
        return self.handle.direct

    @property
    def size(self) -> int | None:
        """Exact size of a snapshot, in bytes."""
        return self.handle.size

    @property
    def write_wait_s(self) -> float:
        """How long a write may wait."""
        return self.handle.write_wait_s

    @property
    def version(self) -> int:
        """Version of the content."""
        return self.handle.version

    @observed(Kind.READ)
    def try_read(self, caller: Caller, size: int, offset: int) -> bytes | WouldBlock:
        """Read at once, or answer WOULD_BLOCK."""
        try:
            data = self.handle.try_read(size, offset)
        except OSError as error:
            self._failed(error)
            raise
        if data is not WOULD_BLOCK:
            self.bytes_read += len(data)
        return data

    @observed_async(Kind.READ)
    async def read(self, caller: Caller, size: int, offset: int) -> bytes:
        """Read, waiting for as long as there is nothing to say."""
        try:
            data = await self.handle.read(size, offset)
        except OSError as error:
            self._failed(error)
            raise
        self.bytes_read += len(data)
        return data

    @observed(Kind.WRITE)
    def try_write(self, caller: Caller, data: bytes, offset: int) -> int | WouldBlock:
        """Write at once, or answer WOULD_BLOCK."""
        self._require_writing(errno.EBADF)
        try:
            answer = self.handle.try_write(data, offset)
        except OSError as error:
            self._failed(error)
            raise
        if answer is not WOULD_BLOCK:
            self.bytes_written += answer
            self._wrote(caller)
        return answer

    @observed_async(Kind.WRITE)
    async def write(self, caller: Caller, data: bytes, offset: int) -> int:
        """Write, waiting briefly when it must, then EAGAIN."""
        self._require_writing(errno.EBADF)
        try:
            written = await self.handle.write(data, offset)
        except OSError as error:
            self._failed(error)
            raise
        self.bytes_written += written
        self._wrote(caller)
        return written

    @observed(Kind.TRUNCATE)
    def truncate(self, caller: Caller, size: int) -> None:
        """Set the size through the open file."""
        if self.channel.entry.access is Access.APPEND:
            raise fault(errno.EPERM, "this mount is append-only")
        self._require_writing(errno.EINVAL)
        self.handle.truncate(size)
        self._wrote(caller)

    @observed_async(Kind.FSYNC)
    async def fsync(self, caller: Caller, datasync: bool) -> None:
        """Make what was written durable."""
        await self.handle.fsync(datasync)

    @observed(Kind.CLOSE)
    def close(self, caller: Caller) -> None:
        """Let go of the handle."""
        self.handle.close()

    def flush(self) -> None:
        """Report an error of an earlier write."""
        self.handle.flush()

    def stat(self) -> StatLike:
        """Give the attributes of the open file."""
        return self.handle.stat() or self.channel.node.stat()

    def ready(self, wake: Callable[[], None] | None = None) -> int:
        """Say what would not block (poll(2)); `wake` is called once when that may change."""
        return self.handle.ready(wake)

    def _require_writing(self, number: int) -> None:
        # Not left to the service: the rights of the mount were checked against these flags.
        if not self.flags & os.O_ACCMODE:
            raise fault(number, "this file was not opened for writing")

    def _failed(self, error: OSError) -> None:
        self.errors += 1
        self.error = errno_of(error)

    def _wrote(self, caller: Caller) -> None:
        channel = self.channel
        if channel.entry.service.changes.subscribers:
            channel.announce(caller, channel.entry, channel.node.qid)
