"""Operations: translates between pyfuse3 and the door.

A handler that lets any exception but FUSEError out ends the mount; `_at_once` and `_may_wait` let
none out.
"""

import errno
import os
from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
import trio

from mounts.door import Door, OpenEntry, seconds
from mounts.inodes import Inode
from mounts.turns import Turns, passing_on
from oanix.caller import Caller
from oanix.errors import Missing
from oanix.stat import Changed, StatLike

P = ParamSpec("P")
R = TypeVar("R")


def _at_once(method: Callable[Concatenate["Operations", P], R]) -> Callable[..., Any]:
    """Answer each request of a kind that never waits: with a result, or with one errno."""

    @wraps(method)
    async def answer(self: "Operations", *args: P.args, **kwargs: P.kwargs) -> R:
        self.door.operations += 1
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            raise self.refusal(error, method.__name__, args) from None

    return answer


def _may_wait(
    method: Callable[Concatenate["Operations", P], Coroutine[Any, Any, R]],
) -> Callable[..., Any]:
    """Do the same for a kind that may wait, and let another worker read requests meanwhile."""

    @wraps(method)
    async def answer(self: "Operations", *args: P.args, **kwargs: P.kwargs) -> R:
        self.door.operations += 1
        try:
            return await passing_on(method(self, *args, **kwargs), self.turns.pass_on)
        except trio.Cancelled:
            # The mount ends. The request is answered all the same, or its process would hang;
            # trio cancels again at the next checkpoint.
            raise pyfuse3.FUSEError(errno.EINTR) from None
        except Exception as error:
            raise self.refusal(error, method.__name__, args) from None

    return answer


class Operations(pyfuse3.Operations):
    """Translates between pyfuse3 and the door."""

    supports_dot_lookup = False
    enable_acl = False

    def __init__(self, door: Door, turns: Turns) -> None:
        super().__init__()
        self.door = door
        self.turns = turns
        self.enable_writeback_cache = door.options.exclusive

    def caller(self, ctx: pyfuse3.RequestContext) -> Caller:
        """Say who asks."""
        return self.door.callers.of(ctx.pid, ctx.uid, ctx.gid)

    def refusal(self, error: Exception, name: str, args: tuple[Any, ...]) -> pyfuse3.FUSEError:
        """Turn any error into what pyfuse3 answers; the sentence goes to /dev/errstr."""
        if isinstance(error, pyfuse3.FUSEError):
            return error
        if isinstance(error, Missing):
            return pyfuse3.FUSEError(errno.ENOENT)
        caller = Caller(door=self.door.callers.door)
        number: int = args[0] if args else 0
        if args and isinstance(args[-1], pyfuse3.RequestContext):
            caller = self.caller(args[-1])
            path = self.door.path_of(number)
        elif name in _BY_HANDLE and number in self.door.files:
            entry = self.door.files[number]
            caller, path = entry.caller, entry.file.path
        else:
            path = ""
        if name in _BY_NAME:
            path = f"{path.rstrip('/')}/{os.fsdecode(args[1])}"
        what = f"{name} {path}".rstrip()
        return pyfuse3.FUSEError(self.door.namespace.sentences.report(error, caller, what))

    # Names ---------------------------------------------------------------------------------------

    @_at_once
    def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        try:
            return attributes(*self.door.lookup(self.caller(ctx), parent_inode, name))
        except Missing:
            ttl = self.door.negative_ttl(parent_inode)
            if not ttl:
                raise
            absent = pyfuse3.EntryAttributes()
            absent.st_ino = pyfuse3.InodeT(0)
            absent.entry_timeout = ttl
            return absent

    async def forget(self, inode_list: Any) -> None:
        """Take back lookups (FUSE_FORGET has no answer, so nothing here may fail)."""
        for number, count in inode_list:
            self.door.inodes.forget(number, count)

    @_at_once
    def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return attributes(*self.door.mkdir(self.caller(ctx), parent_inode, name, mode))

    @_at_once
    def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return attributes(*self.door.mknod(self.caller(ctx), parent_inode, name, mode, rdev))

    @_at_once
    def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return attributes(*self.door.symlink(self.caller(ctx), parent_inode, name, target))

    @_at_once
    def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return attributes(*self.door.link(self.caller(ctx), inode, new_parent_inode, new_name))

    @_at_once
    def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self.door.unlink(self.caller(ctx), parent_inode, name)

    @_at_once
    def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self.door.rmdir(self.caller(ctx), parent_inode, name)

    @_at_once
    def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        self.door.rename(
            self.caller(ctx), parent_inode_old, name_old, parent_inode_new, name_new, flags
        )

    # Attributes ----------------------------------------------------------------------------------

    @_at_once
    def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return attributes(*self.door.getattr(self.caller(ctx), inode))

    @_at_once
    def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        changed = Changed(
            mode=attr.st_mode & 0o7777 if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return attributes(*self.door.setattr(self.caller(ctx), inode, changed, fh))

    @_at_once
    def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return self.door.readlink(self.caller(ctx), inode)

    @_at_once
    def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        try:
            return self.door.getxattr(self.caller(ctx), inode, name)
        except OSError as error:
            # Asked before each first write, for security.capability: no sentence is worth that.
            raise pyfuse3.FUSEError(error.errno or errno.EIO) from None

    @_at_once
    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        self.door.setxattr(self.caller(ctx), inode, name, value)

    @_at_once
    def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        return self.door.listxattr(self.caller(ctx), inode)

    @_at_once
    def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self.door.removexattr(self.caller(ctx), inode, name)

    @_at_once
    def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        told = self.door.statfs(self.caller(ctx))
        stat = pyfuse3.StatvfsData()
        stat.f_bsize, stat.f_frsize = told.bsize, told.frsize
        stat.f_blocks, stat.f_bfree, stat.f_bavail = told.blocks, told.bfree, told.bavail
        stat.f_files, stat.f_ffree, stat.f_favail = told.files, told.ffree, told.favail
        stat.f_namemax = 255
        return stat

    # Files ---------------------------------------------------------------------------------------

    @_may_wait
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return self._info(await self.door.open(self.caller(ctx), inode, flags))

    @_may_wait
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        entry, stat = await self.door.create(self.caller(ctx), parent_inode, name, mode, flags)
        return self._info(entry), attributes(entry.inode, stat)

    def _info(self, entry: OpenEntry) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(
            fh=pyfuse3.FileHandleT(entry.number),
            direct_io=entry.file.direct,
            keep_cache=self.door.keep_cache(entry),
            nonseekable=entry.file.stream,
        )

    @_may_wait
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self.door.read(fh, size, off)

    @_may_wait
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return await self.door.write(fh, buf, off)

    @_at_once
    def poll(
        self,
        inode: int,
        fh: int,
        poll_handle: "pyfuse3.PollHandle | None",
        ctx: pyfuse3.RequestContext,
    ) -> int:
        wake = None if poll_handle is None else _Wake(poll_handle)
        return self.door.poll(fh, wake)

    @_at_once
    def flush(self, fh: int) -> None:
        self.door.flush(fh)

    @_may_wait
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self.door.fsync(fh, datasync)

    @_at_once
    def release(self, fh: int) -> None:
        self.door.release(fh)

    # Directories ---------------------------------------------------------------------------------

    @_at_once
    def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return self.door.directories.open(self.caller(ctx), inode)

    @_at_once
    def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        # A partial runs no Python frame: this is called for each name.
        self.door.directories.read(fh, start_id, partial(pyfuse3.readdir_reply, token))

    @_at_once
    def releasedir(self, fh: int) -> None:
        self.door.directories.release(fh)

    @_may_wait
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self.door.directories.fsync(fh, datasync)


def attributes(inode: Inode, stat: StatLike) -> pyfuse3.EntryAttributes:
    """Write attributes as the kernel wants them."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = inode.number
    entry.st_mode = stat.st_mode
    entry.st_nlink = stat.st_nlink
    entry.st_uid = stat.st_uid
    entry.st_gid = stat.st_gid
    entry.st_rdev = stat.st_rdev
    entry.st_size = stat.st_size if inode.size is None else inode.size
    entry.st_blksize = stat.st_blksize
    entry.st_blocks = stat.st_blocks
    entry.st_atime_ns = stat.st_atime_ns
    entry.st_mtime_ns = stat.st_mtime_ns
    entry.st_ctime_ns = stat.st_ctime_ns
    entry.entry_timeout = entry.attr_timeout = seconds(inode.channel.caching)
    return entry


_BY_HANDLE = frozenset({"read", "write", "flush", "fsync", "release"})
_BY_NAME = frozenset({"lookup", "create", "mkdir", "mknod", "symlink", "unlink", "rmdir", "rename"})


class _Wake:
    """Notifies one poll, once."""

    def __init__(self, handle: "pyfuse3.PollHandle") -> None:
        self._handle: pyfuse3.PollHandle | None = handle

    def __call__(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.notify()
