"""Folder: a directory that is a table of rows, and what comes and goes beside them."""

import stat as modes
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from oanix import path as paths
from oanix.errors import Missing
from oanix.kit.file import Guard, Handler, Owner, kind_of
from oanix.node import FOREVER, Directory, Node
from oanix.service import Service
from oanix.stat import Stat


class Children(Protocol):
    """The names of a directory that come and go."""

    def find(self, name: str) -> Node | None:
        """Find one."""

    def names(self) -> list[str]:
        """List them."""

    def placed(self, directory: "TableDirectory") -> None:
        """Learn in which directory they are, once."""


class Folder:
    """A directory within a table."""

    def __init__(self, rows: "Rows" = (), children: Children | None = None) -> None:
        self.rows = rows
        self.children = children


Row = tuple[str, int, Handler | Folder]
"""A name, its mode without the type, and what it does."""

Rows = Sequence[Row]


class TableDirectory(Directory):
    """A directory whose names are rows of a table; nothing is made or removed in it by name."""

    def __init__(
        self,
        service: Service,
        folder: Folder,
        mode: int = 0o555,
        *,
        owner: Owner | None = None,
        guard: Guard | None = None,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        """Build the tree. Raises ValueError for a row that cannot be."""
        self.qid = service.next_qid()
        self.service = service
        self.owner = owner or Owner()
        self.guard = guard
        self.now = now
        self._mode = mode
        self._made = now()
        self._rows: dict[str, Node] = {}
        self._children = folder.children
        self.caching = 0.0 if folder.children else FOREVER
        for row in folder.rows:
            self._add(row)
        if folder.children is not None:
            folder.children.placed(self)

    def _add(self, row: Row) -> None:
        name, mode, content = row
        paths.check_name(name)
        if name in self._rows:
            raise ValueError(f"the table has {name!r} twice")
        if isinstance(content, Folder):
            self._rows[name] = TableDirectory(
                self.service, content, mode, owner=self.owner, guard=self.guard, now=self.now
            )
            return
        self._rows[name] = kind_of(content)(
            self.service, name, mode, content, owner=self.owner, guard=self.guard, now=self.now
        )

    def walk(self, name: str) -> Node:
        node = self._rows.get(name)
        if node is None and self._children is not None:
            node = self._children.find(name)
        if node is None:
            raise Missing(name)
        return node

    def readdir(self) -> list[str]:
        return [*self._rows, *(self._children.names() if self._children is not None else ())]

    def stat(self) -> Stat:
        folders = sum(isinstance(node, Directory) for node in self._rows.values())
        folders += len(self._children.names()) if self._children is not None else 0
        return Stat(
            modes.S_IFDIR | self._mode, 2 + folders, self.owner.uid, self.owner.gid,
            st_atime_ns=self._made, st_mtime_ns=self._made, st_ctime_ns=self._made,
        )  # fmt: skip
