"""Serve a namespace at a mount point with FUSE, from the mount to its end."""

import errno
import logging
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyfuse3
import trio

from mounts.door import Door
from mounts.fuse.operations import Operations, attributes
from mounts.guard import Guard
from mounts.memory import keep_freed
from mounts.notices import Notices
from mounts.options import FuseOptions
from mounts.stale import clear, find, real
from mounts.turns import Turns
from oanix.errors import fault
from oanix.namespace import Namespace

log = logging.getLogger(__name__)

TASKS = 8_192
"""Requests that may be under way at once: each that waits holds one."""

IDLE_TASKS = 4
"""Workers kept for the next requests."""

END_S = 5.0
"""How long the last requests of a mount that ends may take."""

FILES = 65_536
"""Open files wanted: one for each file that a program has open, and some directories."""

READ_AHEAD_KIB = 1024
"""How far the kernel reads ahead: as far as its largest request; its default is an eighth."""


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
    keep_freed()
    with ExitStack() as stack:
        stack.enter_context(_instead_of_trio(turns))
        stack.enter_context(_no_umask())
        door = Door(namespace, path, options, notices, attributes)
        stack.callback(door.close)
        stack.enter_context(_mounted(Operations(door, turns), path, options))
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
def _mounted(operations: Operations, path: str, options: FuseOptions) -> Iterator[None]:
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
            _read_ahead(path)
            yield
        finally:
            pyfuse3.close(unmount=True)
    finally:
        guard.dismiss()


def _read_ahead(path: str) -> None:
    # Only root may set it; without it, reading a file for the first time takes more requests.
    mounted = find(path)
    if mounted is None or os.geteuid():
        return
    setting = Path(f"/sys/class/bdi/{mounted.device}/read_ahead_kb")
    try:
        setting.write_text(f"{READ_AHEAD_KIB}\n")
    except OSError as error:
        log.info("the read-ahead stays as it is: %s", error)


@contextmanager
def _instead_of_trio(turns: Turns) -> Iterator[None]:
    # As pyfuse3.asyncio does; it is also how this module sees that a mount is being served.
    pyfuse3.trio = turns  # type: ignore[attr-defined]
    try:
        yield
    finally:
        pyfuse3.trio = trio  # type: ignore[attr-defined]


@contextmanager
def _no_umask() -> Iterator[None]:
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
