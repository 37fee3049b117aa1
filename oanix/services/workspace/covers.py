"""Covers: names on which something is mounted that this server must not touch.

A server that looks into its own mount waits for itself for ever. What lies beneath its mount point
is therefore opened before the mount is made, and reached through that descriptor alone; every other
FUSE mount in the tree is shown as an empty directory.
"""

import errno
import math
import os
import select
import stat as modes
import time
from typing import TYPE_CHECKING

from oanix.errors import Missing, fault
from oanix.node import Directory, Node
from oanix.path import decode
from oanix.stat import Stat, StatLike

if TYPE_CHECKING:
    from oanix.services.workspace.directory import HostDirectory
    from oanix.services.workspace.tree import Tree

LOOK_SECONDS = 1.0
"""How often the table of mounts is asked whether it changed, at most."""

_MOUNTS = "/proc/self/mountinfo"

Place = tuple[int, int, str]
"""A name in a directory: the directory's device and inode number, and the name."""


class Covered(Directory):
    """An empty directory in place of a mount that is not to be touched."""

    __slots__ = ("_stat", "parent_qid", "qid")

    def __init__(self, qid: int, parent_qid: int) -> None:
        now = time.time_ns()
        self.qid = qid
        self.parent_qid = parent_qid
        self._stat = Stat(
            modes.S_IFDIR | 0o555, 2, os.geteuid(), os.getegid(),
            st_atime_ns=now, st_mtime_ns=now, st_ctime_ns=now,
        )  # fmt: skip

    def stat(self) -> StatLike:
        return self._stat

    def walk(self, name: str) -> Node:
        raise Missing(name)

    def readdir(self) -> list[str]:
        return []


class Covers:
    """The covered names of one tree."""

    def __init__(self) -> None:
        self._at: dict[Place, Directory] = {}
        self._shielded: dict[Place, Directory] = {}
        self._next = math.inf
        self._fd = -1
        self._poll = select.poll()
        self._tree: Tree | None = None

    def find(self, parent: "HostDirectory", name: str) -> Directory | None:
        """Give what stands for a name instead of what is mounted there, or None."""
        if self._next < time.monotonic():
            self._look()
        return self.seen(parent, name)

    def seen(self, parent: "HostDirectory", name: str) -> Directory | None:
        """Give the same without looking for new mounts, which walks through directories."""
        if not self._at:
            return None
        return self._at.get((parent.volume.dev, parent.ino, name))

    def watch_mounts(self, tree: "Tree") -> None:
        """Find the mounts beneath the root, and look for new ones from now on."""
        self._tree = tree
        self._fd = os.open(_MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
        self._poll.register(self._fd, select.POLLPRI)
        self._read()

    def shield(self, tree: "Tree", mountpoint: str) -> None:
        """Open what lies beneath a mount point, before something is mounted there."""
        names = _names_below(tree.root, os.path.realpath(mountpoint))
        if not names:
            return
        parent = tree.root
        for name in names[:-1]:
            parent = _directory(parent.walk(name))
        beneath = _directory(parent.walk(names[-1]))
        tree.descriptors.keep(beneath, os.dup(tree.descriptors.get(beneath)))
        place = (parent.volume.dev, parent.ino, names[-1])
        self._shielded[place] = self._at[place] = beneath

    def close(self) -> None:
        """Look no more."""
        self._next = math.inf
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _look(self) -> None:
        self._next = time.monotonic() + LOOK_SECONDS
        if self._poll.poll(0):
            self._read()

    def _read(self) -> None:
        tree = self._tree
        assert tree is not None
        # Not while reading: finding the places walks the tree.
        self._next = math.inf
        old, self._at = self._at, dict(self._shielded)
        root = tree.root_path.rstrip("/") + "/"
        for path in sorted(fuse_mounts()):
            if path.startswith(root):
                self._cover(tree, path[len(root) :].split("/"), old)
        self._next = time.monotonic() + LOOK_SECONDS
        for place in old.keys() ^ self._at.keys():
            covered = old.get(place) or self._at[place]
            if isinstance(covered, Covered):
                tree.service.entry_changed(covered.parent_qid, place[2])

    def _cover(self, tree: "Tree", names: list[str], old: dict[Place, Directory]) -> None:
        parent = tree.root
        for name in names[:-1]:
            try:
                parent = _directory(parent.walk(name))
            except OSError:
                return  # Within another mount, or hidden by one: nothing to reach it by.
        place = (parent.volume.dev, parent.ino, names[-1])
        if place not in self._at:
            self._at[place] = old.get(place) or Covered(tree.next_qid(), parent.qid)


def fuse_mounts() -> list[str]:
    """List the mount points of FUSE file systems that this process sees (proc(5))."""
    found = []
    with open(_MOUNTS, "rb") as table:
        for line in table:
            before, _, after = line.partition(b" - ")
            kind = after.split(b" ", 1)[0]
            if kind == b"fuse" or kind.startswith(b"fuse."):
                found.append(decode(_unescaped(before.split(b" ")[4])))
    return found


def _unescaped(field: bytes) -> bytes:
    first, *rest = field.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)


def _names_below(root: "HostDirectory", path: str) -> list[str]:
    # By identity, not by the text: the served directory may be reached by several paths.
    names = [name for name in path.split("/") if name]
    for count in range(len(names) + 1):
        stat = os.stat("/" + "/".join(names[:count]))
        if (stat.st_dev, stat.st_ino) == (root.volume.dev, root.ino):
            return names[count:]
    return []


def _directory(node: Node) -> "HostDirectory":
    from oanix.services.workspace.directory import HostDirectory

    if isinstance(node, HostDirectory):
        return node
    raise fault(errno.ENOTDIR, "this is no directory")
