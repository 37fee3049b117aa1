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
from oanix.errors import fault
from oanix.node import (
    FOREVER,
    CanReadlink,
    CanSetattr,
    CanXattr,
    Handle,
)
from oanix.path import decode, encode
from oanix.services.workspace import attributes, host
from oanix.services.workspace.descriptors import stale
from oanix.services.workspace.handles import FileHandle, Opened, open_flags
from oanix.stat import Changed, StatLike

if TYPE_CHECKING:
    from oanix.services.workspace.directory import HostDirectory
    from oanix.services.workspace.tree import Volume

_ELSEWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ESTALE)
"""What the host answers when a name leads to another file, or to none."""

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
                if error.errno not in _ELSEWHERE:
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
        fd = self._open_by_name(flags)
        if fd is not None:
            return fd
        with self.held() as held:
            path = host.proc_path(held)
            return tree.descriptors.with_room(lambda: os.open(path, flags))

    def _open_by_name(self, flags: int) -> int | None:
        # The quick way, right unless the name was given to another file. What that is, is opened
        # without waiting for it and closed again.
        tree, parent, raw = self.volume.tree, self.parent, encode(self.name)
        if parent is None or not raw or tree.covers.find(parent, self.name) is not None:
            return None
        try:
            directory_fd = tree.descriptors.get(parent)
            fd = tree.descriptors.with_room(
                lambda: os.open(raw, flags | os.O_NOFOLLOW, dir_fd=directory_fd)
            )
        except OSError as error:
            if error.errno in _ELSEWHERE:
                return None
            raise
        stat = os.fstat(fd)
        if stat.st_ino == self.ino and stat.st_dev == self.volume.dev:
            return fd
        os.close(fd)
        return None

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
