"""Mounted: the files of a namespace that another process serves at a mount point."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio
from attrs import field, frozen

THREADS: Final = 16
"""Calls under way at a time: each waits for the server in a thread."""


@frozen
class MountedFile:
    """An open file: `OpenFile` over a descriptor."""

    descriptor: int
    waits: bool
    """Whether a read may wait without end; it then waits where it can be cancelled."""
    threads: trio.CapacityLimiter

    async def read(self, size: int) -> bytes:
        """Read at most so many bytes, as they come. Raises OSError."""
        while True:
            try:
                return await trio.to_thread.run_sync(
                    os.read, self.descriptor, size, limiter=self.threads
                )
            except BlockingIOError:
                if not self.waits:
                    raise
            await trio.lowlevel.wait_readable(self.descriptor)

    async def write(self, data: bytes) -> int:
        """Write all of it. Raises OSError."""
        done = 0
        while done < len(data):
            done += await trio.to_thread.run_sync(
                os.write, self.descriptor, data[done:], limiter=self.threads
            )
        return done


@frozen
class Mounted:
    """The files below a mount point; paths are those of the namespace."""

    mountpoint: str
    _threads: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(THREADS))

    @asynccontextmanager
    async def open(self, path: str, flags: int) -> AsyncIterator[MountedFile]:
        """Open a file for as long as the block. Raises OSError."""
        # A write that must wait would fail at once without blocking; only reads have no end.
        waits = flags & os.O_ACCMODE == os.O_RDONLY
        more = os.O_CLOEXEC | (os.O_NONBLOCK if waits else 0)
        threads = self._threads
        descriptor = await trio.to_thread.run_sync(
            os.open, f"{self.mountpoint}{path}", flags | more, limiter=threads
        )
        try:
            yield MountedFile(descriptor, waits, threads)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(os.close, descriptor, limiter=threads)
