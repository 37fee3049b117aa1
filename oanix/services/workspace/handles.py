"""Open files of the host."""

import contextlib
import errno
import logging
import os
from typing import TYPE_CHECKING

import trio
from attrs import define, field

from oanix.caller import Caller
from oanix.errors import fault
from oanix.node import FOREVER, WOULD_BLOCK, Handle, WouldBlock
from oanix.services.workspace import attributes
from oanix.stat import StatLike

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from oanix.services.workspace.files import HostFile

_KEPT = os.O_ACCMODE | os.O_APPEND | os.O_SYNC | os.O_DSYNC

Stamp = tuple[int, int, int]


def open_flags(flags: int) -> int:
    """Give the flags with which the host opens a file.

    Not O_DIRECT (a door's buffers are not aligned), O_TRUNC (done once the file is known to be the
    right one) nor O_NOATIME (the caller's right to it is not the server's). Never waiting: should a
    FIFO have taken the file's name, or another process a lease on the file, the server goes on.
    """
    return flags & _KEPT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


def _stamp(stat: os.stat_result) -> Stamp:
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size


@define(eq=False)
class Opened:
    """What is known of a file that is open, or was: its handles, and the version of its content.

    The version goes up when the host shows times or a size that our own changes do not explain, and
    when the watch tells of a change by others.
    """

    handles: "list[FileHandle]" = field(factory=list)
    version: int = 1
    stamp: Stamp | None = None

    def fold(self, before: os.stat_result, after: os.stat_result) -> None:
        """Take note of a change of our own."""
        if self.stamp == _stamp(before):
            self.stamp = _stamp(after)

    def look(self, stat: os.stat_result, *, watched: bool) -> None:
        """Compare what the host shows with what was seen last."""
        now = _stamp(stat)
        if now == self.stamp:
            return
        # What our own open handles write is not folded in before their close where a watch tells
        # of all that others write.
        writing = watched and any(handle.wrote for handle in self.handles)
        if self.stamp is not None and not writing:
            self.version += 1
        self.stamp = now


class FileHandle(Handle):
    """One open regular file."""

    direct = False

    def __init__(self, node: "HostFile", fd: int, flags: int, caller: Caller) -> None:
        self.fd = fd
        self.node = node
        self.wrote = False
        self._writable = flags & os.O_ACCMODE != os.O_RDONLY
        self._readable = flags & os.O_ACCMODE != os.O_WRONLY
        self._drops = node.volume.tree.as_root and caller.uid != 0
        self._caller = caller
        self._probes = True
        self._unflushed = False
        self._limiter = node.volume.tree.limiter
        opened = node.opened
        if opened is None:
            opened = node.opened = Opened()
        self._opened = opened
        opened.look(os.fstat(fd), watched=self._watched)
        opened.handles.append(self)
        node.volume.tree.opened[node.qid] = node
        self.version = opened.version

    @property
    def _watched(self) -> bool:
        return self.node.caching == FOREVER

    # Reading -------------------------------------------------------------------------------------

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if not self._readable:
            raise fault(errno.EBADF, "this file was not opened for reading")
        if offset > attributes.SIZE_MAX - size:
            return b""
        if self._probes and size > 0 and not self._is_cached(size, offset):
            return WOULD_BLOCK
        return os.pread(self.fd, size, offset)

    def _is_cached(self, size: int, offset: int) -> bool:
        # Whether the last byte asked for, or the first where that is past the end, is in memory.
        byte = bytearray(1)
        try:
            if not os.preadv(self.fd, [byte], offset + size - 1, os.RWF_NOWAIT):
                os.preadv(self.fd, [byte], offset, os.RWF_NOWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            self._probes = False
        return True

    async def read(self, size: int, offset: int) -> bytes:
        """Read from the disk, in a thread. A cancelled read has taken nothing."""
        if offset > attributes.SIZE_MAX - size:
            return b""
        return await trio.to_thread.run_sync(os.pread, self.fd, size, offset, limiter=self._limiter)

    # Writing -------------------------------------------------------------------------------------

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        if not self._writable:
            raise fault(errno.EBADF, "this file was not opened for writing")
        if offset > attributes.SIZE_MAX - len(data):
            raise fault(errno.EFBIG, f"a file has at most {attributes.SIZE_MAX} bytes")
        with self._own_change():
            written = os.pwrite(self.fd, data, offset)
            if self._drops:
                attributes.drop_privileges(self.fd)
        self._unflushed = True
        return written

    def truncate(self, size: int) -> None:
        if not self._writable:
            raise fault(errno.EINVAL, "this file was not opened for writing")
        with self._own_change():
            attributes.truncate(self.fd, size, self._caller, as_root=self.node.volume.tree.as_root)

    def _own_change(self) -> contextlib.AbstractContextManager[object]:
        # A watch tells our writes from those of others; without one, look before and after each.
        self.wrote = True
        return contextlib.nullcontext() if self._watched else _Folding(self._opened, self.fd)

    def flush(self) -> None:
        if not self._unflushed:
            return
        self._unflushed = False
        # A host's file system may report at close what went wrong in a write (close(2)).
        tree = self.node.volume.tree
        os.close(tree.descriptors.with_room(lambda: os.dup(self.fd)))

    async def fsync(self, datasync: bool) -> None:
        """Sync in a thread; the host reports a failed write-back once for each open file."""
        call = os.fdatasync if datasync else os.fsync
        await trio.to_thread.run_sync(call, self.fd, limiter=self._limiter)

    # The rest ------------------------------------------------------------------------------------

    def stat(self) -> StatLike:
        return os.fstat(self.fd)

    def close(self) -> None:
        opened = self._opened
        opened.handles.remove(self)
        if self.wrote and self._watched:
            opened.stamp = _stamp(os.fstat(self.fd))
        if not opened.handles:
            self.node.volume.tree.opened.pop(self.node.qid, None)
        try:
            os.close(self.fd)
        except OSError as error:
            # Too late to tell the writer; flush has had the chance.
            log.warning("closing a file of the workspace failed: %s", error.strerror)


class _Folding:
    __slots__ = ("before", "fd", "opened")

    def __init__(self, opened: Opened, fd: int) -> None:
        self.opened = opened
        self.fd = fd

    def __enter__(self) -> None:
        self.before = os.fstat(self.fd)

    def __exit__(self, *_: object) -> None:
        self.opened.fold(self.before, os.fstat(self.fd))
