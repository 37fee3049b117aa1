"""Tree: what the nodes of one served directory share.

It knows which node stands for which file of the host. Nodes are held weakly: what no door holds is
forgotten, and comes back as a new node when it is looked up again.
"""

import os
import stat as modes
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio
from attrs import define, field

from oanix.service import Service
from oanix.services.workspace import host
from oanix.services.workspace.covers import Covers
from oanix.services.workspace.descriptors import Descriptors
from oanix.services.workspace.directory import HostDirectory
from oanix.services.workspace.files import HostFile, HostLink, HostNode, HostSpecial
from oanix.services.workspace.marks import Marks

if TYPE_CHECKING:
    from collections.abc import Callable

READERS_MAX = 8
"""How many threads at most read from the host's disk, or sync to it, at a time."""


KINDS: dict[int, type[HostNode]] = {
    modes.S_IFREG: HostFile,
    modes.S_IFDIR: HostDirectory,
    modes.S_IFLNK: HostLink,
}
"""The class of a node by the type of its file; the others are HostSpecial."""


@define(eq=False)
class Volume:
    """One file system of the host within the tree: its nodes by inode number."""

    tree: "Tree"
    dev: int
    nodes: dict[int, weakref.ref[HostNode]] = field(factory=dict)


class Tree:
    """One served directory."""

    def __init__(self, service: Service, root_fd: int) -> None:
        self.service = service
        self.next_qid: Callable[[], int] = service.next_qid
        self.as_root = os.geteuid() == 0
        self.descriptors = Descriptors()
        self.limiter = trio.CapacityLimiter(READERS_MAX)
        self.marks = Marks()
        self.covers = Covers()
        self.opened: dict[int, HostFile] = {}
        self._volumes: dict[int, Volume] = {}
        stat = os.fstat(root_fd)
        self.root = HostDirectory(self._volume(stat.st_dev), None, "", stat)
        self.root.volume.nodes[self.root.ino] = weakref.ref(self.root)
        self.descriptors.keep(self.root, root_fd)
        self.covers.watch_mounts(self)

    @property
    def root_path(self) -> str:
        """Where the served directory is now."""
        return os.readlink(host.proc_path(self.descriptors.get(self.root)))

    def close(self) -> None:
        """Let go of the host."""
        self.marks.close()
        self.covers.close()
        self.descriptors.close()

    # Which node stands for which file ------------------------------------------------------------

    def node(self, parent: HostDirectory, name: str, stat: os.stat_result) -> HostNode:
        """Give the node of the file that a name leads to."""
        node = self.known(parent, name, stat)
        if node is None:
            volume = self._volume(stat.st_dev)
            make = KINDS.get(modes.S_IFMT(stat.st_mode), HostSpecial)
            node = make(volume, parent, name, stat)
            volume.nodes[stat.st_ino] = weakref.ref(node)
        return node

    def known(self, parent: HostDirectory, name: str, stat: os.stat_result) -> HostNode | None:
        """Give the node of the file that a name leads to if there is one, and let it know the name.

        An inode number that the host has given to another file in the meantime is not it.
        """
        volume = self._volumes.get(stat.st_dev)
        reference = volume.nodes.get(stat.st_ino) if volume is not None else None
        node = reference() if reference is not None else None
        if node is None:
            return None
        if node.ctime_ns != stat.st_ctime_ns:
            fd = self.descriptors.get(parent)
            if not node.is_same(stat, fd, host.host_name(name)):
                self.forget(node)
                return None
        many = stat.st_nlink > 1
        if node.name != name or node.parent is not parent or many != (node.links is not None):
            node.found_at(parent, name, stat)
        return node

    def at(self, parent: HostDirectory, name: str) -> HostNode | None:
        """Give the node that stands for what has this name now, if both exist."""
        try:
            fd = self.descriptors.get(parent)
            stat = os.stat(host.host_name(name), dir_fd=fd, follow_symlinks=False)
            return self.known(parent, name, stat)
        except OSError:
            return None

    def nodes(self) -> Iterator[HostNode]:
        """Go through the nodes as they are now."""
        for volume in self._volumes.values():
            for reference in list(volume.nodes.values()):
                node = reference()
                if node is not None:
                    yield node

    def forget(self, node: HostNode) -> None:
        """Take note that a file has lost its last name; its number may come back for another."""
        self.unlist(node)
        node.name = ""

    def unlist(self, node: HostNode) -> None:
        """Take a node out of the index, if it is still the one that stands for its number."""
        nodes = node.volume.nodes
        reference = nodes.get(node.ino)
        if reference is not None and reference() in (None, node):
            del nodes[node.ino]

    def _volume(self, dev: int) -> Volume:
        volume = self._volumes.get(dev)
        if volume is None:
            volume = self._volumes[dev] = Volume(self, dev)
        return volume

    # What is not to be touched -------------------------------------------------------------------

    def is_covered(self, directory: HostDirectory) -> bool:
        """Tell whether the way to a directory leads onto such a mount."""
        parent = directory.parent
        if parent is None:
            return False
        found = self.covers.seen(parent, directory.name)
        return found is not None and found is not directory
