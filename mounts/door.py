"""The kernel door: what a Linux kernel asks of a file system, answered from a namespace.

It speaks in inode numbers, handles and names as bytes, and raises OSError; a binding (pyfuse3's is
in `mounts.fuse`) only translates. Three tables live here: inodes, open files and open directories
(`mounts.listings`).
"""

import errno
import itertools
import math
import os
from collections.abc import Callable
from typing import Protocol

import trio
from attrs import define, field

from mounts.callers import Callers
from mounts.inodes import ROOT, Inode, InodeTable
from mounts.interrupts import Wait, Waits
from mounts.listings import Listings
from mounts.options import FuseOptions
from oanix import path as paths
from oanix.caller import Caller
from oanix.channel import WOULD_BLOCK, Channel, OpenFile
from oanix.errors import fault
from oanix.namespace import Namespace
from oanix.service import Change, Service
from oanix.stat import Changed, StatFs, StatLike

LONGEST_S = 86_400.0
"""How long the kernel may remember what stays until a change is announced."""

WAITS_PER_USER = 512
"""Requests of one user that may wait; far below what the binding can hold."""


@define(eq=False)
class OpenEntry:
    """An open file as the kernel knows it."""

    number: int
    file: OpenFile
    inode: Inode
    caller: Caller
    waits: set[Wait] = field(factory=set)


Answer = tuple[Inode, StatLike]


class Invalidations(Protocol):
    """Where the door tells what the kernel must forget; the binding sends it on."""

    def inode(self, number: int) -> None:
        """Forget the attributes and pages of an inode."""

    def entry(self, parent: int, name: bytes) -> None:
        """Forget a name in a directory."""


class Door:
    """Answers the requests of one mount."""

    def __init__(
        self,
        namespace: Namespace,
        mountpoint: str,
        options: FuseOptions,
        invalidations: Invalidations,
        attributes: Callable[[Inode, StatLike], object],
    ) -> None:
        self.namespace = namespace
        self.options = options
        self.callers = Callers(f"fuse:{os.getpid()}:{mountpoint}")
        self.waits = Waits(mountpoint)
        self.operations = 0
        self.inodes = InodeTable(namespace.root)
        self.files: dict[int, OpenEntry] = {}
        self.directories = Listings(namespace, self.inodes, attributes, list_all=options.list_all)
        self._numbers = itertools.count(1)
        self._invalidations = invalidations
        self._entries: dict[Service, list[int]] = {}
        self._stop_listening = namespace.listen(self._remounted)
        self._subscribe()

    def close(self) -> None:
        """Close every open file and stop listening."""
        self._stop_listening()
        for service in self._entries:
            service.changes.unsubscribe(self._changed)
        self.waits.cancel_all()
        for number in list(self.files):
            self.release(number)

    def path_of(self, number: int) -> str:
        """Give the path of an inode, for a sentence about it."""
        inode = self.inodes.get(number)
        return inode.channel.path if inode is not None else ""

    # Names ---------------------------------------------------------------------------------------

    def lookup(self, caller: Caller, parent: int, name: bytes) -> Answer:
        """Find a name; counts one lookup of what it finds."""
        channel, stat = self.inodes[parent].channel.lookup(caller, paths.decode(name))
        return self.inodes.add(channel, stat.st_ino), stat

    def negative_ttl(self, parent: int) -> float:
        """For how many seconds the kernel may remember that a name is not in this directory."""
        return seconds(self.inodes[parent].channel.caching)

    def mkdir(self, caller: Caller, parent: int, name: bytes, mode: int) -> Answer:
        """Make a directory."""
        return self._found(self._at(parent).mkdir(caller, paths.decode(name), mode & 0o7777))

    def mknod(self, caller: Caller, parent: int, name: bytes, mode: int, rdev: int) -> Answer:
        """Make a regular or special file."""
        return self._found(self._at(parent).mknod(caller, paths.decode(name), mode, rdev))

    def symlink(self, caller: Caller, parent: int, name: bytes, target: bytes) -> Answer:
        """Make a symbolic link."""
        at = self._at(parent)
        return self._found(at.symlink(caller, paths.decode(name), paths.decode(target)))

    def link(self, caller: Caller, number: int, parent: int, name: bytes) -> Answer:
        """Make a hard link."""
        source = self.inodes[number].channel
        return self._found(self._at(parent).link(caller, source, paths.decode(name)))

    def unlink(self, caller: Caller, parent: int, name: bytes) -> None:
        """Remove a name that is no directory."""
        self._at(parent).unlink(caller, paths.decode(name))

    def rmdir(self, caller: Caller, parent: int, name: bytes) -> None:
        """Remove an empty directory."""
        self._at(parent).rmdir(caller, paths.decode(name))

    def rename(
        self, caller: Caller, parent: int, name: bytes, to: int, new_name: bytes, flags: int
    ) -> None:
        """Move a name; inodes that the kernel knows take the new one."""
        source, target = self._at(parent), self._at(to)
        old, new = paths.decode(name), paths.decode(new_name)
        source.rename(caller, old, target, new, flags)
        self._follow(caller, target, new)
        if flags:
            self._follow(caller, source, old)

    def _follow(self, caller: Caller, directory: Channel, name: str) -> None:
        try:
            channel = directory.walk(caller, name)
        except FileNotFoundError:
            return
        inode = self.inodes.find(channel.key)
        if inode is not None:
            inode.channel.moved(directory, name)
            inode.attributes = None

    def _at(self, number: int) -> Channel:
        return self.inodes[number].channel

    def _found(self, found: tuple[Channel, StatLike]) -> Answer:
        channel, stat = found
        return self.inodes.add(channel, stat.st_ino), stat

    # Attributes ----------------------------------------------------------------------------------

    def getattr(self, caller: Caller, number: int) -> Answer:
        """Give the attributes."""
        inode = self.inodes[number]
        return inode, inode.channel.stat(caller)

    def setattr(self, caller: Caller, number: int, changed: Changed, handle: int | None) -> Answer:
        """Change attributes; a size through the open file where there is one (ftruncate(2))."""
        inode = self.inodes[number]
        entry = self.files.get(handle) if handle is not None else None
        if entry is not None and changed.size is not None:
            entry.file.truncate(caller, changed.size)
            changed = Changed(
                mode=changed.mode, uid=changed.uid, gid=changed.gid,
                atime_ns=changed.atime_ns, mtime_ns=changed.mtime_ns,
            )  # fmt: skip
        if changed != _NOTHING:
            inode.channel.setattr(caller, changed)
        return inode, inode.channel.stat(caller)

    def readlink(self, caller: Caller, number: int) -> bytes:
        """Give the target of a symbolic link."""
        return paths.encode(self._at(number).readlink(caller))

    def getxattr(self, caller: Caller, number: int, name: bytes) -> bytes:
        """Read an extended attribute."""
        return self._at(number).getxattr(caller, paths.decode(name))

    def setxattr(self, caller: Caller, number: int, name: bytes, value: bytes) -> None:
        """Set an extended attribute."""
        self._at(number).setxattr(caller, paths.decode(name), value)

    def listxattr(self, caller: Caller, number: int) -> list[bytes]:
        """List the extended attributes."""
        return [paths.encode(name) for name in self._at(number).listxattr(caller)]

    def removexattr(self, caller: Caller, number: int, name: bytes) -> None:
        """Remove an extended attribute."""
        self._at(number).removexattr(caller, paths.decode(name))

    def statfs(self, caller: Caller) -> StatFs:
        """Give the state of the storage: one answer for the whole mount, the project's if any."""
        root = self.inodes[ROOT].channel
        try:
            found = root.walk(caller, "workspace").statfs(caller)
        except FileNotFoundError:
            return root.statfs(caller)
        return found

    # Files ---------------------------------------------------------------------------------------

    async def open(self, caller: Caller, number: int, flags: int) -> OpenEntry:
        """Open a file; an open that waits for others ends when its process is signalled."""
        inode = self.inodes[number]
        channel = inode.channel
        flags = self._flags(channel, flags)
        if not channel.waits:
            return self._opened(caller, inode, await channel.open(caller, flags))
        # Whoever opens is known: nobody has to be looked for.
        wait = Wait(caller.pid, number, caller.uid, holders={caller.pid})
        self.waits.begin(wait)
        try:
            with wait.scope:
                return self._opened(caller, inode, await channel.open(caller, flags))
        finally:
            self.waits.end(wait)
        raise fault(errno.EINTR, "the open was interrupted")

    async def create(
        self, caller: Caller, parent: int, name: bytes, mode: int, flags: int
    ) -> tuple[OpenEntry, StatLike]:
        """Make a file and open it, or open the one that somebody else made meanwhile."""
        at, text = self._at(parent), paths.decode(name)
        try:
            channel, file, stat = at.create(caller, text, self._flags(at, flags), mode & 0o7777)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            channel = at.walk(caller, text)
            file = await channel.open(caller, self._flags(channel, flags))
            stat = file.stat()
        return self._opened(caller, self.inodes.add(channel, stat.st_ino), file), stat

    def _flags(self, channel: Channel, flags: int) -> int:
        # With write-back the kernel reads what it changes in part, and appends by itself; but not
        # to files that it does not cache.
        if not self.options.exclusive or not channel.caching:
            return flags
        if flags & os.O_ACCMODE == os.O_WRONLY:
            flags = flags & ~os.O_ACCMODE | os.O_RDWR
        return flags & ~os.O_APPEND

    def _opened(self, caller: Caller, inode: Inode, file: OpenFile) -> OpenEntry:
        entry = OpenEntry(next(self._numbers), file, inode, caller)
        if file.size is not None:
            inode.size = file.size
        self.files[entry.number] = entry
        return entry

    def keep_cache(self, entry: OpenEntry) -> bool:
        """Tell whether the pages that the kernel has of a file just opened are still right."""
        inode, version = entry.inode, entry.file.version
        known, inode.version = inode.version, version
        return known == version

    async def read(self, handle: int, size: int, offset: int) -> bytes:
        """Read; with nothing to say yet it waits until there is, or its process is signalled."""
        entry = self.files[handle]
        answer = entry.file.try_read(entry.caller, size, offset)
        if answer is not WOULD_BLOCK:
            return answer
        if entry.file.flags & os.O_NONBLOCK and entry.file.stream:
            raise fault(errno.EAGAIN, "nothing to read yet")
        wait = self._begin(entry)
        try:
            with wait.scope:
                return await entry.file.read(entry.caller, size, offset)
        finally:
            self._end(entry, wait)
        raise fault(errno.EINTR, "the read was interrupted")

    async def write(self, handle: int, data: bytes, offset: int) -> int:
        """Write; a write that must wait waits as long as its file says, then EAGAIN."""
        entry = self.files[handle]
        answer = entry.file.try_write(entry.caller, data, offset)
        if answer is not WOULD_BLOCK:
            return answer
        if entry.file.flags & os.O_NONBLOCK and entry.file.write_wait_s == math.inf:
            raise fault(errno.EAGAIN, "the file takes no more just now; try again")
        wait = self._begin(entry)
        wait.scope.deadline = trio.current_time() + entry.file.write_wait_s
        try:
            with wait.scope:
                return await entry.file.write(entry.caller, data, offset)
        finally:
            self._end(entry, wait)
        if trio.current_time() < wait.scope.deadline:
            raise fault(errno.EINTR, "the write was interrupted")
        raise fault(errno.EAGAIN, "the file takes no more just now; try again")

    def _begin(self, entry: OpenEntry) -> Wait:
        caller = entry.caller
        # A read from a disk ends by itself, and may not fail because others wait for streams.
        if entry.file.direct and self.waits.of_user(caller.uid) >= WAITS_PER_USER:
            raise fault(errno.EAGAIN, f"this user already waits in {WAITS_PER_USER} reads")
        wait = Wait(caller.pid, entry.inode.number, caller.uid)
        entry.waits.add(wait)
        self.waits.begin(wait)
        return wait

    def _end(self, entry: OpenEntry, wait: Wait) -> None:
        entry.waits.discard(wait)
        self.waits.end(wait)

    def poll(self, handle: int, wake: Callable[[], None] | None) -> int:
        """Say what would not block; `wake` is called once when that may change."""
        return self.files[handle].file.ready(wake)

    def flush(self, handle: int) -> None:
        """Report an error of an earlier write."""
        self.files[handle].file.flush()

    async def fsync(self, handle: int, datasync: bool) -> None:
        """Make what was written durable."""
        entry = self.files[handle]
        await entry.file.fsync(entry.caller, datasync)

    def release(self, handle: int) -> None:
        """Close an open file; a wait that is left over ends."""
        entry = self.files.pop(handle)
        for wait in list(entry.waits):
            wait.scope.cancel()
        entry.file.close(entry.caller)
        if entry.file.size is not None and not self._others(entry.inode):
            entry.inode.size = None

    def _others(self, inode: Inode) -> bool:
        return any(entry.inode is inode for entry in self.files.values())

    # Changes from elsewhere ----------------------------------------------------------------------

    def _subscribe(self) -> None:
        entries: dict[Service, list[int]] = {}
        for _, entry in self.namespace.entries():
            entries.setdefault(entry.service, []).append(entry.number)
        for service in entries.keys() - self._entries.keys():
            service.changes.subscribe(self._changed)
        for service in self._entries.keys() - entries.keys():
            service.changes.unsubscribe(self._changed)
        self._entries = entries

    def _changed(self, change: Change) -> None:
        own = change.door == self.callers.door
        for entry in self._entries.get(change.service, ()):
            inode = self.inodes.find((entry, change.qid))
            if inode is None:
                continue
            inode.attributes = None
            if change.name is not None:
                self.directories.drop(inode)
            if own and entry == change.entry:
                continue
            if change.name is not None:
                self._invalidations.entry(inode.number, paths.encode(change.name))
            self._invalidations.inode(inode.number)

    def _remounted(self, path: str) -> None:
        # A bind or unmount: the names on the way to it may stand for something else now.
        self._subscribe()
        self.directories.forget()
        root = self.namespace.root
        if root.key != self.inodes[ROOT].key:
            self.inodes.reroot(root)
        self._invalidations.inode(ROOT)
        here: Channel | None = self.inodes[ROOT].channel
        for name in paths.split(path):
            inode = self.inodes.find(here.key) if here is not None else None
            if here is None or inode is None:
                return
            self._invalidations.entry(inode.number, paths.encode(name))
            try:
                here = here.walk(_DOOR, name)
            except OSError:
                return


_NOTHING = Changed()
_DOOR = Caller(principal="door")


def seconds(caching: float) -> float:
    """Give the time-out for the kernel for what a node says of its caching."""
    return LONGEST_S if caching == math.inf else caching
