"""Mount a namespace with FUSE: the one module that knows pyfuse3.

pyfuse3 keeps its session in module globals, so one process serves one mount. A handler that lets
any exception but FUSEError out ends the mount; `_at_once` and `_may_wait` let none out.
"""

import errno
import logging
import os
import resource
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
import trio

from mounts.door import Door, OpenEntry, seconds
from mounts.guard import Guard
from mounts.inodes import Inode
from mounts.notices import Notices
from mounts.options import FuseOptions
from mounts.stale import clear, find, real
from mounts.turns import Turns, passing_on
from oanix.caller import Caller
from oanix.errors import Missing, fault
from oanix.namespace import Namespace
from oanix.stat import Changed, StatLike

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

TASKS = 8_192
"""Requests that may be under way at once: each that waits holds one."""

IDLE_TASKS = 4
"""Workers kept for the next requests."""

END_S = 5.0
"""How long the last requests of a mount that ends may take."""

FILES = 65_536
"""Open files wanted: one for each file that a program has open, and some directories."""

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

    def __init__(self, door: Door, turns: Turns, notices: Notices) -> None:
        super().__init__()
        self.door = door
        self.turns = turns
        self.notices = notices
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
        elif entry := self.door.files.get(number):
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
        return self.door.opendir(self.caller(ctx), inode)

    @_at_once
    def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        # A partial runs no Python frame: this is called for each name.
        self.door.readdir(fh, start_id, partial(pyfuse3.readdir_reply, token))

    @_at_once
    def releasedir(self, fh: int) -> None:
        self.door.releasedir(fh)

    @_may_wait
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self.door.fsyncdir(fh, datasync)


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


_BY_NAME = frozenset({"lookup", "create", "mkdir", "mknod", "symlink", "unlink", "rmdir", "rename"})


class _Wake:
    """Notifies one poll, once."""

    def __init__(self, handle: "pyfuse3.PollHandle") -> None:
        self._handle: pyfuse3.PollHandle | None = handle

    def __call__(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.notify()


async def serve(
    namespace: Namespace,
    mountpoint: str,
    options: FuseOptions | None = None,
    *,
    started: Callable[[Door], None] | None = None,
    task_status: trio.TaskStatus[Door] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve a namespace at a mount point until cancelled or unmounted from outside.

    Raises OSError when it cannot be mounted: ENOENT or ENOTDIR for the mount point, ENOTEMPTY when
    it holds files, EBUSY when something is mounted there, ENODEV without /dev/fuse, EPERM.
    """
    options = options or FuseOptions()
    if pyfuse3.trio is not trio:  # type: ignore[attr-defined]
        raise fault(errno.EBUSY, "this process serves one mount already, and can serve one only")
    path = check_mountpoint(mountpoint, options)
    for service in namespace.services():
        service.shield(path)
    turns = Turns(options.linger_us / 1e6)
    notices = Notices(
        lambda number: pyfuse3.invalidate_inode(pyfuse3.InodeT(number)),
        lambda parent, name: pyfuse3.invalidate_entry(
            pyfuse3.InodeT(parent), pyfuse3.FileNameT(name)
        ),
    )
    _many_files()
    with ExitStack() as stack:
        stack.enter_context(_instead_of_trio(turns))
        stack.enter_context(_no_umask())
        door = Door(namespace, path, options, notices, attributes)
        stack.callback(door.close)
        stack.enter_context(_mounted(Operations(door, turns, notices), path, options))
        notices.start()
        stack.callback(notices.stop)
        await _run(door, started, task_status)


async def _run(
    door: Door, started: Callable[[Door], None] | None, task_status: trio.TaskStatus[Door]
) -> None:
    async with trio.open_nursery() as nursery:
        ended = trio.Event()

        async def requests() -> None:
            with trio.CancelScope(shield=True) as last:
                scopes.append(last)
                await pyfuse3.main(min_tasks=IDLE_TASKS, max_tasks=TASKS)
            ended.set()
            nursery.cancel_scope.cancel()

        scopes: list[trio.CancelScope] = []
        nursery.start_soon(requests)
        nursery.start_soon(door.waits.watch)
        if started is not None:
            started(door)
        task_status.started(door)
        try:
            await trio.sleep_forever()
        finally:
            if not ended.is_set():
                await _end(door, ended, scopes)


async def _end(door: Door, ended: trio.Event, scopes: list[trio.CancelScope]) -> None:
    # Requests that wait are answered with EINTR, those under way may finish, and then no more.
    with trio.move_on_after(END_S, shield=True):
        door.waits.cancel_all()
        await trio.lowlevel.checkpoint()
        pyfuse3.terminate()
        await ended.wait()
    for scope in scopes:
        scope.cancel()


def check_mountpoint(mountpoint: str, options: FuseOptions) -> str:
    """Give the real path of a mount point that can be used; a dead mount of ours is cleared."""
    if not os.access("/dev/fuse", os.F_OK):
        raise fault(
            errno.ENODEV, "/dev/fuse is missing; load the module fuse, or run `oanix doctor`"
        )
    if clear(mountpoint):
        log.warning("cleared the mount that a killed server left at %s", mountpoint)
    path = real(mountpoint)
    if find(path) is not None:
        raise fault(errno.EBUSY, "something is mounted here already", mountpoint)
    if not os.path.lexists(path):
        raise fault(errno.ENOENT, f"the mount point is missing; mkdir {mountpoint}", mountpoint)
    if not os.path.isdir(path):
        raise fault(errno.ENOTDIR, "the mount point is no directory", mountpoint)
    path = os.path.realpath(path)
    if os.listdir(path) and not options.nonempty:
        raise fault(
            errno.ENOTEMPTY, "the mount point holds files; empty it, or use -o nonempty", mountpoint
        )
    return path


@contextmanager
def _mounted(operations: Operations, path: str, options: FuseOptions) -> "Iterator[None]":
    words = {"fsname=oanix", "subtype=oanix", "default_permissions"}
    if options.allow_other:
        words.add("allow_other")
    if options.read_only:
        words.add("ro")
    guard = Guard(path)
    try:
        try:
            pyfuse3.init(operations, path, words)
        except RuntimeError as error:
            remedy = "run `oanix doctor` to see why"
            raise fault(
                errno.EPERM, f"FUSE could not mount here ({error}); {remedy}", path
            ) from None
        try:
            yield
        finally:
            pyfuse3.close(unmount=True)
    finally:
        guard.dismiss()


@contextmanager
def _instead_of_trio(turns: Turns) -> "Iterator[None]":
    # As pyfuse3.asyncio does; it is also how this module sees that a mount is being served.
    pyfuse3.trio = turns  # type: ignore[attr-defined]
    try:
        yield
    finally:
        pyfuse3.trio = trio  # type: ignore[attr-defined]


@contextmanager
def _no_umask() -> "Iterator[None]":
    # The kernel has taken the caller's umask off the mode already.
    old = os.umask(0)
    try:
        yield
    finally:
        os.umask(old)


def _many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
