"""The directories of the host: names looked up, made, removed and moved."""

import errno
import os
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from oanix.caller import Caller
from oanix.errors import Missing, fault
from oanix.node import (
    FOREVER,
    CanCreate,
    CanLink,
    CanRemove,
    CanRename,
    Directory,
    Handle,
    Node,
)
from oanix.path import encode
from oanix.services.workspace import host, making
from oanix.services.workspace.descriptors import stale
from oanix.services.workspace.files import UNWATCHED, HostFile, HostNode
from oanix.services.workspace.handles import FileHandle, open_flags
from oanix.stat import StatLike

if TYPE_CHECKING:
    from oanix.services.workspace.tree import Volume

RENAME_EXCHANGE = 2
"""The flag of renameat2(2) that lets two names change places."""


class HostDirectory(HostNode, CanCreate, CanLink, CanRemove, CanRename):
    """A directory."""

    __slots__ = ("mark",)
    kind = modes.S_IFDIR

    def __init__(
        self, volume: "Volume", parent: "HostDirectory | None", name: str, stat: os.stat_result
    ) -> None:
        # The key of its mark; empty where it could not be marked, None where it was not tried.
        self.mark: bytes | None = None
        super().__init__(volume, parent, name, stat)

    def __del__(self) -> None:
        super().__del__()
        tree = self.volume.tree
        if self.mark:
            tree.marks.remove(self)
        tree.descriptors.drop(self)

    @property
    def caching(self) -> float:  # type: ignore[override]
        """For how long a door may remember it, and that a name is not in it."""
        parent = self.parent
        if parent is not None:
            return FOREVER if self.mark and parent.mark else UNWATCHED
        # When events are lost, each known name is announced, and with a directory's name goes what
        # is remembered beneath it. The root's own name is not ours to announce.
        return FOREVER if self.mark and self.volume.tree.marks.endless else UNWATCHED

    def found_at(self, parent: "HostDirectory", name: str, stat: os.stat_result) -> None:
        if parent is self.parent and name == self.name:
            return
        # A bind mount can show a directory within itself; its nodes must not form a ring.
        here: HostDirectory | None = parent
        while here is not None:
            if here is self:
                raise stale()
            here = here.parent
        self.parent, self.name = parent, name

    def stat(self) -> StatLike:
        return os.fstat(self.volume.tree.descriptors.get(self))

    @contextmanager
    def held(self) -> Iterator[int]:
        yield self.volume.tree.descriptors.get(self)

    def _fd(self) -> int:
        # The descriptor, once changes beneath are told of.
        tree = self.volume.tree
        fd = tree.descriptors.get(self)
        if self.mark is None and tree.marks.active:
            tree.marks.add(self, fd)
        return fd

    # Names ---------------------------------------------------------------------------------------

    def walk(self, name: str) -> Node:
        return self.lookup(name)[0]

    def lookup(self, name: str) -> tuple[Node, StatLike]:
        tree = self.volume.tree
        covered = tree.covers.find(self, name)
        if covered is not None:
            return covered, covered.stat()
        try:
            stat = os.stat(host.host_name(name), dir_fd=self._fd(), follow_symlinks=False)
        except FileNotFoundError:
            raise Missing(name) from None
        return tree.node(self, name, stat), stat

    def readdir(self) -> list[str]:
        fd = self._fd()
        return self.volume.tree.descriptors.with_room(lambda: host.names_in(fd))

    async def fsync(self, datasync: bool) -> None:
        """Sync in a thread. A cancelled sync goes on, and its result is lost."""
        tree, directory_fd = self.volume.tree, self._fd()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        fd = tree.descriptors.with_room(lambda: os.open(b".", flags, dir_fd=directory_fd))
        try:
            call = os.fdatasync if datasync else os.fsync
            await trio.to_thread.run_sync(call, fd, limiter=tree.limiter)
        finally:
            os.close(fd)

    # Making --------------------------------------------------------------------------------------

    def create(self, name: str, flags: int, mode: int, caller: Caller) -> tuple[Node, Handle]:
        tree, raw = self.volume.tree, self._free(name)
        directory_fd = self._fd()
        fd = tree.descriptors.with_room(
            lambda: making.file(directory_fd, raw, open_flags(flags), mode, self._owner(caller))
        )
        try:
            node = tree.node(self, name, os.fstat(fd))
            if not isinstance(node, HostFile):
                raise stale()
            return node, FileHandle(node, fd, flags, caller)
        except BaseException:
            os.close(fd)
            raise

    def mkdir(self, name: str, mode: int, caller: Caller) -> Node:
        raw, fd = self._free(name), self._fd()
        os.mkdir(raw, mode, dir_fd=fd)
        return self._made(name, raw, fd, caller)

    def mknod(self, name: str, mode: int, rdev: int, caller: Caller) -> Node:
        if (modes.S_ISBLK(mode) or modes.S_ISCHR(mode)) and caller.uid != 0:
            raise fault(errno.EPERM, "only root makes devices")
        raw, fd = self._free(name), self._fd()
        os.mknod(raw, mode, rdev, dir_fd=fd)
        return self._made(name, raw, fd, caller, mode)

    def symlink(self, name: str, target: str, caller: Caller) -> Node:
        raw, fd = self._free(name), self._fd()
        if not target or "\0" in target:
            raise fault(errno.ENOENT if not target else errno.EINVAL, "a link needs a target")
        os.symlink(encode(target), raw, dir_fd=fd)
        return self._made(name, raw, fd, caller)

    def link(self, node: Node, name: str, caller: Caller) -> None:
        tree = self.volume.tree
        if not isinstance(node, HostNode) or node.volume.tree is not tree:
            raise fault(errno.EXDEV, "a hard link stays within one served directory")
        raw = self._free(name)
        source_fd, source, _ = node.locate()
        fd = self._fd()
        os.link(source, raw, src_dir_fd=source_fd, dst_dir_fd=fd, follow_symlinks=False)
        tree.at(self, name)

    def _free(self, name: str) -> bytes:
        raw = host.host_name(name)
        if self.volume.tree.covers.find(self, name) is not None:
            raise fault(errno.EEXIST, f"{name!r} is a mount point")
        return raw

    def _owner(self, caller: Caller) -> making.Owner | None:
        # Whom to give new files to: only root can, and has no need to for itself.
        tree = self.volume.tree
        if not tree.as_root or (caller.uid == 0 and caller.gid == os.getegid()):
            return None
        inherited = os.fstat(tree.descriptors.get(self)).st_mode & modes.S_ISGID
        return making.Owner(caller.uid, -1 if inherited else caller.gid)

    def _made(self, name: str, raw: bytes, fd: int, caller: Caller, mode: int = 0) -> Node:
        owner = self._owner(caller)
        if owner is not None:
            self.volume.tree.descriptors.with_room(lambda: making.give(fd, raw, owner, mode))
        stat = os.stat(raw, dir_fd=fd, follow_symlinks=False)
        return self.volume.tree.node(self, name, stat)

    # Removing and moving -------------------------------------------------------------------------

    def unlink(self, name: str, caller: Caller) -> None:
        raw, fd, stat = self._taken(name)
        node = self.volume.tree.known(self, name, stat)
        os.unlink(raw, dir_fd=fd)
        if node is not None:
            _removed(node, self, name, stat)

    def rmdir(self, name: str, caller: Caller) -> None:
        raw, fd, stat = self._taken(name)
        node = self.volume.tree.known(self, name, stat)
        os.rmdir(raw, dir_fd=fd)
        if node is not None:
            _removed(node, self, name, stat)

    def rename(
        self, name: str, target: Directory, new_name: str, *, flags: int, caller: Caller
    ) -> None:
        tree = self.volume.tree
        if not isinstance(target, HostDirectory) or target.volume.tree is not tree:
            raise fault(errno.EXDEV, "a rename stays within one served directory")
        new_raw = host.host_name(new_name)
        if tree.covers.find(target, new_name) is not None:
            raise fault(errno.EBUSY, f"{new_name!r} is a mount point")
        raw, fd, stat = self._taken(name)
        new_fd = target._fd()
        try:
            replaced = os.stat(new_raw, dir_fd=new_fd, follow_symlinks=False)
        except FileNotFoundError:
            replaced = None
        moved = tree.known(self, name, stat)
        other = tree.known(target, new_name, replaced) if replaced is not None else None
        host.rename(fd, raw, new_fd, new_raw, flags)
        if moved is other and moved is not None:
            return  # Two names of one file: rename(2) then does nothing.
        if other is not None and replaced is not None and flags & RENAME_EXCHANGE:
            other.moved((target, new_name), (self, name))
        elif other is not None and replaced is not None:
            _removed(other, target, new_name, replaced)
        if moved is not None:
            moved.moved((self, name), (target, new_name))
            if isinstance(moved, HostFile) and moved.opened is not None:
                moved.opened.fold(stat, os.stat(new_raw, dir_fd=new_fd, follow_symlinks=False))

    def _taken(self, name: str) -> tuple[bytes, int, os.stat_result]:
        raw = host.host_name(name)
        if self.volume.tree.covers.find(self, name) is not None:
            raise fault(errno.EBUSY, f"{name!r} is a mount point")
        fd = self._fd()
        try:
            return raw, fd, os.stat(raw, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            raise Missing(name) from None


def _removed(node: HostNode, parent: HostDirectory, name: str, stat: os.stat_result) -> None:
    # stat is from before: a directory has one name, another file as many as it says.
    if stat.st_nlink > 1 and node.kind != modes.S_IFDIR:
        node.lost(parent, name)
    else:
        node.volume.tree.forget(node)
