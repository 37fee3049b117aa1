"""The files of `/logs`: logs that take appends, and what was rotated out of them."""

import errno
import os
import stat as modes
from typing import Final

import trio

from oanix.caller import Caller
from oanix.errors import fault
from oanix.node import READABLE, WOULD_BLOCK, WRITABLE, CanSetattr, Handle, Node, WouldBlock
from oanix.services.logs.events import source_of
from oanix.services.logs.host import HostFile, refuse_change
from oanix.services.logs.lines import LINE_MAX, Lines
from oanix.services.logs.log import Log, Rotated
from oanix.stat import Changed, Stat, StatLike

CHUNK: Final = 65_536
"""How much of one write is stored at once; between two chunks others have their turn."""

HELD_MAX: Final = 64 * 1_048_576
"""How much of half lines all open files of a service hold, before they hold less each."""

HELD_SMALL: Final = 4096
"""How much of half a line an open file holds from then on."""

OFFSET_MAX: Final = 2**63 - 1

NOW_NS: Final = 2_000_000_000
"""How far from the clock a time may lie and still be `touch`, which sets it to now."""


class HostHandle(Handle):
    """An open file of the state folder, for reading."""

    def __init__(self, file: HostFile, limiter: trio.CapacityLimiter, readable: bool) -> None:
        file.open()
        self._file = file
        self._limiter = limiter
        self._readable = readable

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        """Read what the host has in memory. Raises EINVAL for an offset that no file has."""
        if not self._readable:
            raise fault(errno.EBADF, "this file was not opened for reading")
        if size < 0 or not 0 <= offset <= OFFSET_MAX:
            raise fault(errno.EINVAL, "sizes and offsets lie between 0 and 2^63-1")
        return self._file.try_read(size, offset)

    async def read(self, size: int, offset: int) -> bytes:
        """Read, in a thread where the host must ask its disk."""
        answer = self.try_read(size, offset)
        if answer is WOULD_BLOCK:
            return await self._file.read(size, offset, self._limiter)
        return answer

    def stat(self) -> StatLike:
        """Give the attributes of the file that was opened, rotated or not."""
        return self._file.stat()

    def close(self) -> None:
        """Give the descriptor back."""
        self._file.close()


class RotatedHandle(HostHandle):
    """A rotated file never changes: a door may keep what it read."""

    direct = False

    def __init__(self, file: HostFile, limiter: trio.CapacityLimiter) -> None:
        super().__init__(file, limiter, readable=True)
        self.size = file.stat().st_size

    def ready(self, wake: object) -> int:
        """Be readable, always."""
        return READABLE


class LogHandle(HostHandle):
    """An open log. Reads stay with the file that was opened; appends go to the log of its name."""

    def __init__(self, log: Log, file: HostFile, qid: int, flags: int, caller: Caller) -> None:
        mode = flags & os.O_ACCMODE
        super().__init__(file, log.shared.limiter, mode != os.O_WRONLY)
        self._log = log
        self._qid = qid
        self._source = source_of(caller)
        self._lines = Lines()
        self._turn = trio.Lock()
        self._failures_seen = len(log.sync_failures)
        self._writable = mode != os.O_RDONLY
        if self._writable:
            try:
                log.enter()
            except OSError:
                super().close()
                raise

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        """Append; complete lines are in the file when this returns. Raises ENOSPC, EIO, …"""
        if not self._writable:
            raise fault(errno.EBADF, "this file was not opened for writing")
        if len(data) > CHUNK or self._turn.locked():
            return WOULD_BLOCK
        return self._take(data)

    async def write(self, data: bytes, offset: int) -> int:
        """Append much, a chunk at a time; gives fewer bytes when the disk is full midway.

        Once begun it is not cancelled. Other writers' lines may come between the chunks.
        """
        if not self._writable:
            raise fault(errno.EBADF, "this file was not opened for writing")
        async with self._turn:
            done = 0
            while done < len(data):
                try:
                    done += self._take(data[done : done + CHUNK])
                except OSError:
                    if done:
                        break
                    raise
                await trio.lowlevel.cancel_shielded_checkpoint()
        return done

    def _take(self, data: bytes) -> int:
        if self._log.verbatim:
            self._log.append_bytes(data)
            self._tell()
            return len(data)
        shared, before = self._log.shared, self._lines.held
        self._lines.bound = LINE_MAX if shared.held < HELD_MAX else HELD_SMALL
        mark = self._lines.mark()
        try:
            if lines := self._lines.feed(data):
                self._log.append(lines, self._source)
                self._tell()
        except OSError:
            self._lines.back(mark)
            raise
        finally:
            shared.held += self._lines.held - before
        return len(data)

    def _tell(self) -> None:
        # The channel announces the file that was opened; after a rotation another one has grown.
        if self._log.qid != self._qid:
            self._log.shared.changed(self._log.qid)

    async def fsync(self, datasync: bool) -> None:
        """Make what was written durable, a half line too. Raises a failure once for each handle."""
        mark, held = self._lines.mark(), self._lines.held
        if line := self._lines.end():
            try:
                self._log.append([line], self._source)
            except OSError:
                self._lines.back(mark)
                raise
            self._log.shared.held -= held
            self._log.shared.changed(self._log.qid)
        await self._log.sync()
        failures = self._log.sync_failures
        if len(failures) > self._failures_seen:
            self._failures_seen = len(failures)
            raise fault(failures[-1].errno or errno.EIO, "the log could not be made durable")

    def truncate(self, size: int) -> None:
        """Refuse it: EPERM."""
        raise fault(errno.EPERM, f"{self._log.name} is append-only: its size cannot be set")

    def ready(self, wake: object) -> int:
        """Be ready, always."""
        return (READABLE if self._readable else 0) | (WRITABLE if self._writable else 0)

    def close(self) -> None:
        """End the half line that is held, and leave."""
        if self._writable:
            self._log.shared.held -= self._lines.held
            if line := self._lines.end():
                self._log.end_line(line, self._source)
            self._log.leave()
        super().close()


class LogNode(CanSetattr):
    """A log, as long as its name means this file."""

    def __init__(self, log: Log) -> None:
        self.qid = log.qid
        self._log = log
        self._file = log.file

    def stat(self) -> StatLike:
        return self._file.stat()

    async def open(self, flags: int, caller: Caller) -> Handle:
        """Open the log. Raises EPERM for an open for writing without O_APPEND, and O_TRUNC."""
        return self.opened(flags, caller)

    def opened(self, flags: int, caller: Caller) -> Handle:
        """Open the log at once."""
        name = self._log.name
        if flags & os.O_TRUNC:
            raise fault(errno.EPERM, f"{name} is append-only: it cannot be truncated; use >>")
        if flags & os.O_ACCMODE and not flags & os.O_APPEND:
            raise fault(errno.EPERM, f"{name} is append-only: open it with O_APPEND (use >>)")
        return LogHandle(self._log, self._file, self.qid, flags, caller)

    def setattr(self, changed: Changed, caller: Caller) -> None:
        """Set the times to now (`touch`); anything else is EPERM, as with `chattr +a`."""
        now = self._log.shared.clock()
        times = [time for time in (changed.atime_ns, changed.mtime_ns) if time is not None]
        others = (changed.mode, changed.uid, changed.gid, changed.size)
        if any(value is not None for value in others):
            raise fault(
                errno.EPERM,
                f"{self._log.name} is append-only: size, mode and owner stay as they are",
            )
        if any(abs(time - now) > NOW_NS for time in times):
            raise fault(
                errno.EPERM, f"{self._log.name} is append-only: its times can only be set to now"
            )
        info = self._file.stat()
        atime, mtime = changed.atime_ns, changed.mtime_ns
        os.utime(
            self._file.path,
            ns=(
                info.st_atime_ns if atime is None else atime,
                info.st_mtime_ns if mtime is None else mtime,
            ),
            follow_symlinks=False,
        )


class RotatedNode(Node):
    """A rotated file."""

    def __init__(self, log: Log, rotated: Rotated) -> None:
        self.qid = rotated.qid
        self._limiter = log.shared.limiter
        self._file = rotated.file

    def stat(self) -> StatLike:
        return self._file.stat()

    async def open(self, flags: int, caller: Caller) -> Handle:
        """Open the file for reading. Raises EPERM for an open for writing."""
        refuse_change(flags, "a rotated log")
        return RotatedHandle(self._file, self._limiter)


class TextHandle(Handle):
    """A snapshot of a text."""

    direct = False

    def __init__(self, text: bytes) -> None:
        self._text = text
        self.size = len(text)

    def try_read(self, size: int, offset: int) -> bytes:
        return self._text[offset : offset + size]


class Text(Node):
    """A file with a text that stays as it is."""

    def __init__(self, qid: int, text: bytes, now: int) -> None:
        self.qid = qid
        self._text = text
        self._stat = Stat(
            modes.S_IFREG | 0o444, 1, os.geteuid(), os.getegid(), st_size=len(text),
            st_atime_ns=now, st_mtime_ns=now, st_ctime_ns=now,
        )  # fmt: skip

    def stat(self) -> StatLike:
        return self._stat

    async def open(self, flags: int, caller: Caller) -> Handle:
        """Open the text for reading. Raises EPERM for an open for writing."""
        refuse_change(flags, "README")
        return TextHandle(self._text)
