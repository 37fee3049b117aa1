"""Files of the state folder: shared descriptors, whole appends, durable copies."""

import errno
import gzip
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from oanix import path as paths
from oanix.errors import fault
from oanix.node import WOULD_BLOCK, WouldBlock
from oanix.stat import StatLike

COPY_BYTES: Final = 262_144
"""How much is packed between two looks at whether to stop."""

READ_MAX: Final = 4 * 1_048_576
"""How much one read gives at most."""

Step = Callable[[str], None]
"""Called with the name of each step of a rotation; a test ends the process there."""


def refuse_change(flags: int, name: str) -> None:
    """Refuse an open that could change a file. Raises OSError EPERM."""
    if flags & (os.O_ACCMODE | os.O_TRUNC):
        raise fault(errno.EPERM, f"{name} is only read here")


def host_path(folder: Path, name: str) -> bytes:
    """Give the path of a name in a folder as the host has it, whatever the locale says."""
    return os.path.join(os.fsencode(folder), paths.encode(name))


class HostFile:
    """A file of the state folder; all who have it open share one descriptor."""

    def __init__(self, folder: Path, name: str, *, append: bool = False) -> None:
        self.folder = folder
        self.name = name
        self.append = append
        self._users = 0
        self._fd = -1

    @property
    def path(self) -> bytes:
        """Where it lies, until a rotation gives it another name."""
        return host_path(self.folder, self.name)

    def open(self, create: bool = False) -> int:
        """Take part in the descriptor and give it; `close` gives the part back."""
        if self._users == 0:
            flags = os.O_RDWR | os.O_APPEND if self.append else os.O_RDONLY
            flags |= os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
            try:
                self._fd = os.open(self.path, flags, 0o644)
            except FileNotFoundError:
                raise _gone() from None
        self._users += 1
        return self._fd

    def close(self) -> None:
        """Give back a part of the descriptor; the last one closes it."""
        self._users -= 1
        if not self._users:
            os.close(self._fd)
            self._fd = -1

    def take(self, parts: int) -> None:
        """Take part as many times more; it is open already."""
        self._users += parts

    def release(self, parts: int) -> None:
        """Give as many parts back."""
        self._users -= parts - 1
        self.close()

    @property
    def size(self) -> int:
        """Its size; 0 when it is gone. Raises OSError for anything else."""
        try:
            return self.stat().st_size
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return 0

    @property
    def mtime_ns(self) -> int:
        """When it was last written; 0 when it is gone."""
        try:
            return self.stat().st_mtime_ns
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return 0

    def stat(self) -> StatLike:
        """Give its attributes. Raises ESTALE when it is gone and nobody has it open."""
        if self._users:
            return os.fstat(self._fd)
        try:
            return os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            raise _gone() from None

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        """Read what needs no waiting for a disk (RWF_NOWAIT, preadv2(2))."""
        left = os.fstat(self._fd).st_size - offset
        buffer = bytearray(max(0, min(size, left, READ_MAX)))
        if not buffer:
            return b""
        try:
            count = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return WOULD_BLOCK
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return os.pread(self._fd, len(buffer), offset)
        return bytes(memoryview(buffer)[:count])

    async def read(self, size: int, offset: int, limiter: trio.CapacityLimiter) -> bytes:
        """Read in a thread. The reader keeps its part of the descriptor until this has ended."""
        return await trio.to_thread.run_sync(
            os.pread, self._fd, min(size, READ_MAX), offset, limiter=limiter
        )


def _gone() -> OSError:
    return fault(errno.ESTALE, "this file was rotated away; look its name up again")


def append_whole(fd: int, data: bytes) -> None:
    """Append all or nothing. Raises OSError; a `Torn` when a part stayed in the file."""
    before = os.fstat(fd).st_size
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        try:
            os.ftruncate(fd, before)
        except OSError as second:
            raise Torn(error.errno, f"{error.strerror}; a part stayed: {second}") from error
        raise


class Torn(OSError):
    """An append failed, and so did taking its part back: the file may end in half a line."""


def half_line(fd: int) -> tuple[int, bytes]:
    """Find where the last line without a newline begins, and what there is of it."""
    end = at = os.fstat(fd).st_size
    while at:
        start = max(at - COPY_BYTES, 0)
        newline = os.pread(fd, at - start, start).rfind(b"\n")
        if newline >= 0:
            at = start + newline + 1
            break
        at = start
    return at, os.pread(fd, end - at, at)


def sync_all(fds: list[int], folder: Path) -> None:
    """Make files and the names of their folder durable, and close the descriptors."""
    try:
        fds.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for fd in fds:
            os.fsync(fd)
    finally:
        for fd in fds:
            os.close(fd)


def pack(source: bytes, target: bytes, stop: threading.Event) -> bool:
    """Write a durable gzip copy of a file; False when it was told to stop. For a thread."""
    try:
        with open(source, "rb") as plain, open(target, "wb") as raw:
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                while chunk := plain.read(COPY_BYTES):
                    if stop.is_set():
                        return False
                    packed.write(chunk)
            raw.flush()
            os.fchmod(raw.fileno(), 0o444)
            info = os.stat(plain.fileno())
            os.utime(raw.fileno(), ns=(info.st_atime_ns, info.st_mtime_ns))
            os.fsync(raw.fileno())
    except OSError:
        with suppress(FileNotFoundError):
            os.unlink(target)
        raise
    return True


def names_in(folder: Path) -> list[str]:
    """List a folder of the host; names as OANIX has them."""
    return [paths.decode(name) for name in os.listdir(os.fsencode(folder))]


def mode_of(path: bytes) -> int | None:
    """Tell what lies at a path (lstat(2)), or None when nothing does."""
    try:
        return os.stat(path, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
