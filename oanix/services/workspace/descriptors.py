"""Descriptors of directories: a bounded number stays open, the others are opened when needed.

A directory is opened again by the names that lead to it from its nearest open ancestor, none of
them a symbolic link, and must then be the same directory as before.
"""

import errno
import os
import resource
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from oanix.errors import fault
from oanix.path import PATH_MAX
from oanix.services.workspace import host

if TYPE_CHECKING:
    from oanix.services.workspace.directory import HostDirectory

T = TypeVar("T")

OPEN_MAX = 1024
"""How many directories stay open at most, or a quarter of what the process may open if less."""

_FULL = (errno.EMFILE, errno.ENFILE)


def stale() -> OSError:
    """Make the error of a node whose file cannot be reached; the kernel then looks it up again."""
    return fault(errno.ESTALE, "the file was moved or replaced on the host; look it up again")


class Descriptors:
    """The open directories of one tree, by the number of their node."""

    def __init__(self, limit: int = OPEN_MAX) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = limit if soft == resource.RLIM_INFINITY else soft // 4
        self._limit = max(2, min(limit, room))
        self._open: OrderedDict[int, int] = OrderedDict()
        self._kept: dict[int, int] = {}
        self._has_openat2 = True

    def __len__(self) -> int:
        return len(self._open) + len(self._kept)

    def keep(self, directory: "HostDirectory", fd: int) -> None:
        """Hold a directory open for good (the root; what lies beneath a mount point)."""
        self.drop(directory)
        self._kept[directory.qid] = fd

    def get(self, directory: "HostDirectory") -> int:
        """Give the descriptor of a directory, opening it if need be. Raises ESTALE."""
        qid = directory.qid
        fd = self._open.get(qid)
        if fd is not None:
            self._open.move_to_end(qid)
            return fd
        fd = self._kept.get(qid)
        return self._reopen(directory) if fd is None else fd

    def peek(self, directory: "HostDirectory") -> int | None:
        """Give the descriptor of a directory if it is open."""
        fd = self._open.get(directory.qid)
        return self._kept.get(directory.qid) if fd is None else fd

    def drop(self, directory: "HostDirectory") -> None:
        """Close what is open of a directory."""
        for table in (self._open, self._kept):
            fd = table.pop(directory.qid, None)
            if fd is not None:
                os.close(fd)

    def close(self) -> None:
        """Close all."""
        for table in (self._open, self._kept):
            while table:
                os.close(table.popitem()[1])

    def with_room(self, call: Callable[[], T]) -> T:
        """Do what opens a file; when no more can be opened, close directories and try again."""
        try:
            return call()
        except OSError as error:
            if error.errno not in _FULL or not self._open:
                raise
        self._shrink(len(self._open) // 2)
        return call()

    def _shrink(self, limit: int) -> None:
        while len(self._open) > limit:
            os.close(self._open.popitem(last=False)[1])

    def _reopen(self, directory: "HostDirectory") -> int:
        here: HostDirectory | None = directory
        chain: list[HostDirectory] = []
        start = None
        while here is not None and start is None:
            if not here.name and here.parent is not None:
                raise stale()
            chain.append(here)
            here = here.parent
            start = None if here is None else self.peek(here)
        if start is None:
            raise stale()
        chain.reverse()
        tree = directory.volume.tree
        if any(tree.is_covered(step) for step in chain):
            raise stale()
        names = [host.host_name(step.name) for step in chain]
        fd = self.with_room(lambda: self._descend(start, names))
        try:
            found = os.fstat(fd)
            if not directory.is_same(found, fd, b""):
                raise stale()
        except BaseException:
            os.close(fd)
            raise
        self._open[directory.qid] = fd
        self._shrink(self._limit)
        return fd

    def _descend(self, start: int, names: list[bytes]) -> int:
        # Not in one call: a path of the kernel has an end, a tree may be deeper.
        fd, at = start, 0
        try:
            while at < len(names):
                count = self._fitting(names, at)
                below = self._step(fd, names[at : at + count])
                if fd != start:
                    os.close(fd)
                fd, at = below, at + count
        except OSError as error:
            if fd != start:
                os.close(fd)
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise stale() from None
            raise
        return fd

    def _fitting(self, names: list[bytes], at: int) -> int:
        if not self._has_openat2:
            return 1
        count, length = 0, -1
        while at + count < len(names) and length + 1 + len(names[at + count]) < PATH_MAX:
            length += 1 + len(names[at + count])
            count += 1
        return count

    def _step(self, fd: int, names: list[bytes]) -> int:
        if len(names) == 1:
            return os.open(names[0], host.DIRECTORY, dir_fd=fd)
        try:
            return host.open_beneath(fd, b"/".join(names))
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
        self._has_openat2 = False
        return self._descend(fd, names)
