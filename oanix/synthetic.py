"""Synthetic: the directories of paths that lead to mounts and that no service provides."""

import errno
import os
import stat as modes
import time

from oanix.node import FOREVER, Directory, Node
from oanix.service import Service
from oanix.stat import Stat, StatLike
from oanix.table import MountEntry


class SyntheticDirectory(Directory):
    """A directory that holds nothing but the mounts beneath it; the namespace tells of those."""

    caching = FOREVER

    def __init__(self, qid: int, stat: Stat) -> None:
        self.qid = qid
        self._stat = stat

    def walk(self, name: str) -> Node:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)

    def stat(self) -> StatLike:
        return self._stat

    def readdir(self) -> list[str]:
        return []


class Synthetic(Service):
    """The service that such directories belong to: one for a namespace and its forks."""

    name = "namespace"

    def __init__(self) -> None:
        super().__init__()
        now = time.time_ns()
        self._stat = Stat(
            modes.S_IFDIR | 0o555, 2, os.geteuid(), os.getegid(),
            st_atime_ns=now, st_mtime_ns=now, st_ctime_ns=now,
        )  # fmt: skip
        self.root = self.directory(0)
        self.entry = MountEntry(self)

    def directory(self, number: int) -> SyntheticDirectory:
        """Give the directory that stands at the place with this number."""
        return SyntheticDirectory(number, self._stat)
