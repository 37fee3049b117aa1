"""WorkspaceFs: a directory of the host as a service."""

import errno
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar

import trio

from oanix.errors import fault
from oanix.node import Directory, Node
from oanix.service import Service
from oanix.services.workspace.exclude import Excluding, Patterns
from oanix.services.workspace.tree import Tree
from oanix.services.workspace.watcher import Watcher
from oanix.stat import StatFs


class WorkspaceFs(Service):
    """The files of a host directory, whoever else changes them meanwhile.

    exclude: patterns of names that do not exist here. watch: whether to be told by the host of what
    others change; without it doors look again after a second.
    """

    name = "workspace"
    options: ClassVar[Mapping[str, str]] = {
        "exclude": "names that do not exist here: patterns with colons between them (.env*:*.pem)",
    }

    def __init__(
        self, root: str | os.PathLike[str], *, exclude: Sequence[str] = (), watch: bool = True
    ) -> None:
        super().__init__()
        try:
            fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            sentence = f"cannot serve a directory: {error.strerror}"
            raise fault(error.errno or errno.EIO, sentence, os.fspath(root)) from None
        self._tree = Tree(self, fd)
        self._watch = watch
        self._watcher = Watcher(self._tree)
        self._trouble = ""
        self.root = self._excluding(self._tree.root, Patterns.parse(exclude))

    # What a mount asks of it ----------------------------------------------------------------------

    def narrow(self, node: Node, options: Mapping[str, str]) -> Node:
        """Give the node without the names that match `exclude`."""
        super().narrow(node, {k: v for k, v in options.items() if k not in self.options})
        patterns = Patterns.parse(options.get("exclude", "").split(":"))
        return self._excluding(node, patterns)

    def _excluding(self, node: Node, patterns: Patterns) -> Node:
        if not patterns or not isinstance(node, Directory):
            return node
        return Excluding.over(node, patterns)

    def shield(self, mountpoint: str) -> None:
        """Prepare for being mounted at a place that may lie within the served directory.

        To be called before the mount is made: from then on what lies beneath the mount point is
        reached through a descriptor, and the mount itself is never touched.
        """
        self._tree.covers.shield(self._tree, mountpoint)

    def statfs(self) -> StatFs:
        found = os.fstatvfs(self._tree.descriptors.get(self._tree.root))
        return StatFs(
            bsize=found.f_bsize, frsize=found.f_frsize, blocks=found.f_blocks,
            bfree=found.f_bfree, bavail=found.f_bavail, files=found.f_files,
            ffree=found.f_ffree, favail=found.f_favail,
        )  # fmt: skip

    # Life time ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch the host for as long as the block runs; the directory is closed at its end."""
        try:
            async with trio.open_nursery() as nursery:
                if self._watch:
                    self._start_watching(nursery)
                yield
                nursery.cancel_scope.cancel()
        finally:
            self._tree.close()

    def _start_watching(self, nursery: trio.Nursery) -> None:
        try:
            self._tree.marks.open()
        except OSError as error:
            self._trouble = error.strerror or str(error)
            return
        nursery.start_soon(self._watcher.run)

    def status(self) -> dict[str, str]:
        """Tell how the host is watched, and what is wrong with that."""
        tree, found = self._tree, {"root": self._tree.root_path}
        marks = tree.marks
        if not marks.active:
            found["watch"] = "none, looks again after a second"
            if self._trouble:
                found["warning"] = f"the host does not tell of changes ({self._trouble})"
            return found
        found["watch"] = f"fanotify, {len(marks)} directories"
        if marks.unmarked:
            found["warning"] = (
                f"{marks.unmarked} directories cannot be watched ({marks.reason}); changes in them "
                "show after a second"
            )
        elif self._watcher.overflows:
            found["warning"] = (
                f"the host lost events {self._watcher.overflows} times; all was looked at again"
            )
        return found
