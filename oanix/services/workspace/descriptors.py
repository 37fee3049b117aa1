"""Descriptors of directories: a bounded number stays open, the others are opened when needed.

A directory is opened again by the names that lead to it from its nearest open ancestor, none of
them a symbolic link, and must then be the same directory as before.
"""

import errno
import os
import resource
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from oanix.errors import fault
from oanix.path import PATH_MAX
from oanix.services.workspace import host

if TYPE_CHECKING:
    from oanix.services.workspace.directory import HostDirectory

T = TypeVar("T")

OPEN_MAX = 1024
"""How many directories stay open at most, or a quarter of what the process may open if less."""

IN_USE = 8
"""So many of the last used are never closed to make room: an operation may be about to use them."""

NEAR = 64
"""How many levels are gone down to a directory that is only to be let go of."""

_FULL = (errno.EMFILE, errno.ENFILE)


def stale() -> OSError:
    """Make the error of a node whose file cannot be reached; the kernel then looks it up again."""
    return fault(errno.ESTALE, "the file was moved or replaced on the host; look it up again")


class Descriptors:
    """The open directories of one tree, by the number of their node.

    A descriptor is to be used before many other directories are: it may be closed then.
    """

    def __init__(self, limit: int = OPEN_MAX) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        room = limit if soft == resource.RLIM_INFINITY else soft // 4
        self._limit = max(IN_USE, min(limit, room))
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
            if error.errno not in _FULL or len(self._open) <= IN_USE:
                raise
        self._shrink(max(IN_USE, len(self._open) // 2))
        return call()

    def _shrink(self, limit: int) -> None:
        while len(self._open) > limit:
            os.close(self._open.popitem(last=False)[1])

    @contextmanager
    def visit(self, directory: "HostDirectory") -> Iterator[int]:
        """Open a directory for a moment unless it is open, or too deep below one that is."""
        fd = self.peek(directory)
        if fd is not None:
            yield fd
            return
        fd = self._open_again(directory, NEAR)
        try:
            yield fd
        finally:
            os.close(fd)

    def _reopen(self, directory: "HostDirectory") -> int:
        fd = self._open[directory.qid] = self._open_again(directory, sys.maxsize)
        self._shrink(self._limit)
        return fd

    def _open_again(self, directory: "HostDirectory", reach: int) -> int:
        start, chain = self._way_to(directory, reach)
        if any(directory.volume.tree.is_covered(step) for step in chain):
            raise stale()
        names = [host.host_name(step.name) for step in chain]
        fd = self.with_room(lambda: self._descend(start, names))
        try:
            if not directory.is_same(os.fstat(fd), fd, b""):
                raise stale()
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _way_to(self, directory: "HostDirectory", reach: int) -> "tuple[int, list[HostDirectory]]":
        # The nearest open ancestor, and the directories from there on.
        chain: list[HostDirectory] = []
        here = directory
        while here.parent is not None and here.name and len(chain) < reach:
            chain.append(here)
            here = here.parent
            start = self.peek(here)
            if start is not None:
                if here.qid in self._open:
                    self._open.move_to_end(here.qid)
                return start, chain[::-1]
        raise stale()

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
