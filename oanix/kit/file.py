"""The node of a synthetic file: its mode and attributes; what it does is its handler's."""

import errno
import os
import stat as modes
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from attrs import field, frozen

from oanix.caller import Caller
from oanix.errors import fault
from oanix.node import CanSetattr, Handle, SeesNamespace, WouldBlock
from oanix.service import Service
from oanix.stat import Changed, Stat, StatLike

if TYPE_CHECKING:
    from oanix.namespace import Namespace


@frozen(kw_only=True)
class Owner:
    """To whom a file belongs."""

    uid: int = field(factory=os.geteuid)
    gid: int = field(factory=os.getegid)


@frozen(eq=False)
class Opening:
    """Who opens which file, how, and through which namespace."""

    file: "File"
    flags: int
    caller: Caller
    namespace: "Namespace"

    @property
    def reads(self) -> bool:
        """Whether it is opened for reading."""
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writes(self) -> bool:
        """Whether it is opened for writing."""
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    def complain(self, sentence: str) -> None:
        """Keep a sentence for the caller's `errstr`, where no call is left that could fail."""
        self.namespace.sentences.add(self.caller, f"{self.file.name}: {sentence}")


class Handler:
    """What a synthetic file does when it is opened.

    reads, writes: what its mode may promise. endless and makes: as in `Node`.
    """

    reads: bool = False
    writes: bool = False
    endless: bool = False
    makes: bool = False
    caching: float = 0.0

    def size(self) -> int:
        """Tell the size for `stat`: the last one known, 0 for what has none."""
        return 0

    async def open(self, opening: Opening) -> Handle:
        """Open the file; the mode has been checked. Raises OSError."""
        raise NotImplementedError


class Guard(Protocol):
    """What the files of a directory have in common: who may open them, and what lives meanwhile."""

    def enter(self, caller: Caller) -> None:
        """Count an open file. Raises OSError EACCES, ENOENT."""

    def leave(self) -> None:
        """Count a close."""


class File(SeesNamespace, CanSetattr):
    """A file of a table.

    Its mode and owner stay as they are (EPERM). Times are set where it is writable, and the size 0
    is accepted there, as programs truncate what they write to.
    """

    waits = True

    def __init__(
        self,
        service: Service,
        name: str,
        mode: int,
        handler: Handler,
        *,
        owner: Owner,
        now: Callable[[], int],
        guard: Guard | None = None,
    ) -> None:
        if (mode & 0o444 and not handler.reads) or (mode & 0o222 and not handler.writes):
            raise ValueError(f"mode {mode:o} of {name!r} promises what its handler does not do")
        self.qid = service.next_qid()
        self.name = name
        self.mode = mode
        self.caching = handler.caching
        self._handler = handler
        self._owner = owner
        self._guard = guard
        self._now = now
        self._atime = self._mtime = self._ctime = now()

    def stat(self) -> Stat:
        return self.stat_of(self._handler.size())

    def stat_of(self, size: int) -> Stat:
        """Give the attributes, with the size of an open file."""
        return Stat(
            modes.S_IFREG | self.mode, 1, self._owner.uid, self._owner.gid, st_size=size,
            st_atime_ns=self._atime, st_mtime_ns=self._mtime, st_ctime_ns=self._ctime,
            st_blocks=0,
        )  # fmt: skip

    def written(self) -> None:
        """Note the time of a write."""
        self._mtime = self._ctime = self._now()

    async def open(self, flags: int, caller: Caller) -> Handle:
        raise fault(errno.EIO, "this file is opened as seen from a namespace, through a channel")

    async def open_in(self, namespace: "Namespace", flags: int, caller: Caller) -> Handle:
        opening = Opening(self, flags, caller, namespace)
        self._check(opening)
        guard = self._guard
        if guard is None:
            return await self._handler.open(opening)
        guard.enter(caller)
        try:
            return _Guarded(await self._handler.open(opening), guard)
        except BaseException:
            guard.leave()
            raise

    def _check(self, opening: Opening) -> None:
        if opening.flags & os.O_DIRECTORY:
            raise fault(errno.ENOTDIR, f"{self.name} is no directory")
        if opening.reads and not self.mode & 0o444:
            raise fault(errno.EACCES, f"{self.name} is written to, and gives nothing to read")
        if (opening.writes or opening.flags & os.O_TRUNC) and not self.mode & 0o222:
            raise fault(errno.EACCES, f"{self.name} is read, and takes no writes")

    def setattr(self, changed: Changed, caller: Caller) -> None:
        if changed.mode is not None or changed.uid is not None or changed.gid is not None:
            raise fault(errno.EPERM, "the mode and owner of this file are its service's to choose")
        if changed.size is not None:
            check_truncate(changed.size, writable=bool(self.mode & 0o222))
        if not self.mode & 0o222:
            raise fault(errno.EPERM, f"{self.name} is read-only, its times too")
        if changed.atime_ns is not None:
            self._atime = changed.atime_ns
        if changed.mtime_ns is not None:
            self._mtime = changed.mtime_ns
        self._ctime = self._now()


class EndlessFile(File):
    """A file whose reader waits for more."""

    endless = True


class MakingFile(File):
    """A file whose reader makes something."""

    makes = True


def kind_of(handler: Handler) -> type[File]:
    """Give the class of node that tells the truth of a handler."""
    if handler.makes:
        return MakingFile
    return EndlessFile if handler.endless else File


def check_truncate(size: int, *, writable: bool = True) -> None:
    """Accept a truncation to nothing, which writers do first, and refuse any other."""
    if not writable:
        raise fault(errno.EACCES, "this file takes no writes")
    if size:
        raise fault(errno.EINVAL, "this file can be truncated to 0 and to no other size")


class _Guarded(Handle):
    """An open file that its directory counts."""

    def __init__(self, handle: Handle, guard: Guard) -> None:
        self._handle = handle
        self._guard = guard
        self.stream, self.direct = handle.stream, handle.direct
        self.size, self.version = handle.size, handle.version
        self.told, self.write_wait_s = handle.told, handle.write_wait_s

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        return self._handle.try_read(size, offset)

    async def read(self, size: int, offset: int) -> bytes:
        return await self._handle.read(size, offset)

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        return self._handle.try_write(data, offset)

    async def write(self, data: bytes, offset: int) -> int:
        return await self._handle.write(data, offset)

    def flush(self) -> None:
        self._handle.flush()

    async def fsync(self, datasync: bool) -> None:
        await self._handle.fsync(datasync)

    def truncate(self, size: int) -> None:
        self._handle.truncate(size)

    def stat(self) -> StatLike | None:
        return self._handle.stat()

    def ready(self, wake: Callable[[], None] | None) -> int:
        return self._handle.ready(wake)

    def close(self) -> None:
        try:
            self._handle.close()
        finally:
            self._guard.leave()
