"""The nodes: files and directories of the host.

A node knows the directory it was found in, its name there, and the file's identity on the host.
Each call to the host takes one name below a directory's descriptor; what answers must be that file.
"""

import errno
import os
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from oanix.caller import Caller
from oanix.errors import Missing, fault
from oanix.node import (
    FOREVER,
    CanCreate,
    CanLink,
    CanReadlink,
    CanRemove,
    CanRename,
    CanSetattr,
    CanXattr,
    Directory,
    Handle,
    Node,
)
from oanix.path import decode, encode
from oanix.services.workspace import attributes, host, making
from oanix.services.workspace.descriptors import stale
from oanix.services.workspace.handles import FileHandle, Opened, open_flags
from oanix.stat import Changed, StatLike

if TYPE_CHECKING:
    from oanix.services.workspace.tree import Volume

RENAME_EXCHANGE = 2
"""The flag of renameat2(2) that lets two names change places."""

UNWATCHED = 1.0
"""For how many seconds a name and attributes are remembered where nothing tells of changes."""


Name: TypeAlias = "tuple[HostDirectory, str]"
"""A directory, and a name in it."""


class HostNode(CanSetattr, CanXattr):
    """A file of the host, of any type."""

    __slots__ = (
        "__weakref__", "ctime_ns", "ino", "links", "name", "parent", "qid", "volume",
    )  # fmt: skip

    kind: int = 0
    """The type of the file (S_IFMT of its mode)."""

    def __init__(
        self, volume: "Volume", parent: "HostDirectory | None", name: str, stat: os.stat_result
    ) -> None:
        self.volume = volume
        self.parent = parent
        self.name = name
        self.ino = stat.st_ino
        self.ctime_ns = stat.st_ctime_ns
        self.qid = volume.tree.next_qid()
        # Where a file has several names, those that are known.
        self.links: dict[Name, None] | None = None
        if parent is not None and stat.st_nlink > 1:
            self.found_at(parent, name, stat)

    def __del__(self) -> None:
        self.volume.tree.unlist(self)

    def foreign_change(self) -> None:
        """Take note that others may have changed it."""

    @property
    def caching(self) -> float:  # type: ignore[override]
        """For how long a door may remember it: until told otherwise where the directory is watched.

        A change through another name is told of in the directory of that name alone.
        """
        parent = self.parent
        return FOREVER if parent and parent.mark and self.links is None else UNWATCHED

    # Identity ------------------------------------------------------------------------------------

    def is_same(self, stat: os.stat_result, fd: int, name: bytes) -> bool:
        """Tell whether the host shows this very file there, and not another with its number.

        A new file was born after the last change that was seen of the old one (statx(2)).
        """
        if stat.st_ino != self.ino or stat.st_dev != self.volume.dev:
            return False
        if stat.st_ctime_ns == self.ctime_ns:
            return True
        if modes.S_IFMT(stat.st_mode) != self.kind or host.birth_ns(fd, name) > self.ctime_ns:
            return False
        self.ctime_ns = stat.st_ctime_ns
        return True

    def found_at(self, parent: "HostDirectory", name: str, stat: os.stat_result) -> None:
        """Take the name under which the file was found."""
        if stat.st_nlink > 1:
            if self.links is None:
                self.links = {}
                if self.name and self.parent is not None:
                    self.links[self.parent, self.name] = None
            self.links[parent, name] = None
        else:
            self.links = None
        self.parent, self.name = parent, name

    def moved(self, old: "Name", new: "Name") -> None:
        """Take the name that a rename has given to the file."""
        if self.links is not None:
            self.links.pop(old, None)
            self.links[new] = None
        self.parent, self.name = new

    def lost(self, parent: "HostDirectory", name: str) -> None:
        """Take note that a name is not the file's any more."""
        if self.links is not None:
            self.links.pop((parent, name), None)
        if self.parent is parent and self.name == name:
            other = next(iter(self.links), None) if self.links else None
            if other is None:
                self.volume.tree.forget(self)
            else:
                self.parent, self.name = other

    def _places(self) -> "Iterator[Name]":
        if self.parent is not None and self.name:
            yield self.parent, self.name
        yield from list(self.links or ())

    def locate(self) -> tuple[int, bytes, os.stat_result]:
        """Give a directory's descriptor, the file's name in it, and attributes. Raises ESTALE."""
        tree = self.volume.tree
        for parent, name in self._places():
            if tree.covers.find(parent, name) is not None:
                continue
            try:
                fd, raw = tree.descriptors.get(parent), host.host_name(name)
                stat = os.stat(raw, dir_fd=fd, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
                    raise
                continue
            if stat.st_ino == self.ino and stat.st_dev == self.volume.dev:
                if name != self.name or parent is not self.parent:
                    self.parent, self.name = parent, name
                return fd, raw, stat
        raise stale()

    @contextmanager
    def held(self) -> Iterator[int]:
        """Hold the file itself by a descriptor, without opening it. Raises ESTALE."""
        fd = self._hold()
        try:
            yield fd
        finally:
            os.close(fd)

    def _hold(self) -> int:
        directory_fd, raw, _ = self.locate()
        fd = self.volume.tree.descriptors.with_room(
            lambda: os.open(raw, host.PINNED, dir_fd=directory_fd)
        )
        found = os.fstat(fd)
        if found.st_ino == self.ino and found.st_dev == self.volume.dev:
            return fd
        os.close(fd)
        raise stale()

    # Operations ----------------------------------------------------------------------------------

    def stat(self) -> StatLike:
        return self.locate()[2]

    async def open(self, flags: int, caller: Caller) -> Handle:
        """Refuse: a FIFO, a socket or a device is opened by the kernel itself on a mount."""
        raise fault(errno.ENXIO, "a FIFO, a socket or a device is not opened through a service")

    def setattr(self, changed: Changed, caller: Caller) -> None:
        with self.held() as fd:
            attributes.change(fd, changed, caller, as_root=self.volume.tree.as_root)

    def getxattr(self, name: str) -> bytes:
        with self.held() as fd:
            return os.getxattr(host.proc_path(fd), host.attribute_name(name))

    def setxattr(self, name: str, value: bytes, caller: Caller) -> None:
        attributes.may_set(name, caller)
        with self.held() as fd:
            os.setxattr(host.proc_path(fd), host.attribute_name(name), value)

    def listxattr(self) -> list[str]:
        with self.held() as fd:
            return os.listxattr(host.proc_path(fd))

    def removexattr(self, name: str, caller: Caller) -> None:
        attributes.may_set(name, caller)
        with self.held() as fd:
            os.removexattr(host.proc_path(fd), host.attribute_name(name))


class HostSpecial(HostNode):
    """A FIFO, a socket or a device."""

    __slots__ = ("kind",)

    def __init__(
        self, volume: "Volume", parent: "HostDirectory | None", name: str, stat: os.stat_result
    ) -> None:
        super().__init__(volume, parent, name, stat)
        self.kind = modes.S_IFMT(stat.st_mode)


class HostLink(HostNode, CanReadlink):
    """A symbolic link. Nothing here follows it."""

    __slots__ = ()
    kind = modes.S_IFLNK

    def readlink(self) -> str:
        fd, raw, _ = self.locate()
        return decode(os.readlink(raw, dir_fd=fd))

    async def open(self, flags: int, caller: Caller) -> Handle:
        """Refuse, as open(2) does with O_NOFOLLOW."""
        raise fault(errno.ELOOP, "this is a symbolic link")


class HostFile(HostNode):
    """A regular file."""

    __slots__ = ("opened",)
    kind = modes.S_IFREG

    def __init__(
        self, volume: "Volume", parent: "HostDirectory | None", name: str, stat: os.stat_result
    ) -> None:
        super().__init__(volume, parent, name, stat)
        self.opened: Opened | None = None

    def stat(self) -> StatLike:
        opened = self.opened
        if opened is not None and opened.handles:
            return os.fstat(opened.handles[-1].fd)
        return self.locate()[2]

    @contextmanager
    def held(self) -> Iterator[int]:
        # What is open is at hand, also when the file has no name any more.
        opened = self.opened
        if opened is not None and opened.handles:
            yield opened.handles[-1].fd
        else:
            with super().held() as fd:
                yield fd

    async def open(self, flags: int, caller: Caller) -> Handle:
        return self.open_at_once(flags, caller)

    def open_at_once(self, flags: int, caller: Caller) -> FileHandle:
        """Open the file. Raises OSError as open(2); ESTALE when its name leads elsewhere now."""
        fd = self._open(open_flags(flags))
        try:
            if flags & os.O_TRUNC:
                attributes.truncate(fd, 0, caller, as_root=self.volume.tree.as_root)
            return FileHandle(self, fd, flags, caller)
        except BaseException:
            os.close(fd)
            raise

    def _open(self, flags: int) -> int:
        tree = self.volume.tree
        with self.held() as held:
            # The file itself, not what has its name by now: a FIFO put there would block.
            path = host.proc_path(held)
            return tree.descriptors.with_room(lambda: os.open(path, flags))

    def setattr(self, changed: Changed, caller: Caller) -> None:
        opened = self.opened
        with self.held() as fd:
            before = os.fstat(fd) if opened is not None else None
            attributes.change(fd, changed, caller, as_root=self.volume.tree.as_root)
            if opened is not None and before is not None:
                opened.fold(before, os.fstat(fd))

    def foreign_change(self) -> None:
        if self.opened is not None:
            self.opened.version += 1


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
        parent = self.parent
        return FOREVER if self.mark and (parent is None or parent.mark) else UNWATCHED

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
        raw, fd = self._free(name), self._fd()
        source_fd, source, _ = node.locate()
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
        os.unlink(raw, dir_fd=fd)
        self._gone(name, stat)

    def rmdir(self, name: str, caller: Caller) -> None:
        raw, fd, stat = self._taken(name)
        os.rmdir(raw, dir_fd=fd)
        self._gone(name, stat)

    def rename(
        self, name: str, target: Directory, new_name: str, *, flags: int, caller: Caller
    ) -> None:
        tree = self.volume.tree
        if not isinstance(target, HostDirectory) or target.volume.tree is not tree:
            raise fault(errno.EXDEV, "a rename stays within one served directory")
        raw, fd, stat = self._taken(name)
        new_raw, new_fd = host.host_name(new_name), target._fd()
        if tree.covers.find(target, new_name) is not None:
            raise fault(errno.EBUSY, f"{new_name!r} is a mount point")
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
        raw, fd = host.host_name(name), self._fd()
        if self.volume.tree.covers.find(self, name) is not None:
            raise fault(errno.EBUSY, f"{name!r} is a mount point")
        try:
            return raw, fd, os.stat(raw, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            raise Missing(name) from None

    def _gone(self, name: str, stat: os.stat_result) -> None:
        node = self.volume.tree.known(self, name, stat)
        if node is not None:
            _removed(node, self, name, stat)


def _removed(node: HostNode, parent: HostDirectory, name: str, stat: os.stat_result) -> None:
    # stat is from before: a directory has one name, another file as many as it says.
    if stat.st_nlink > 1 and node.kind != modes.S_IFDIR:
        node.lost(parent, name)
    else:
        node.volume.tree.forget(node)


KINDS: dict[int, type[HostNode]] = {
    modes.S_IFREG: HostFile,
    modes.S_IFDIR: HostDirectory,
    modes.S_IFLNK: HostLink,
}
"""The class of a node by the type of its file; the others are HostSpecial."""
