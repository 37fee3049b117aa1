"""Position: where a node stands in a namespace, and which names are beneath it there.

It knows the mount table alone: what is mounted or dropped beneath, how a union is merged, and which
member of a union a change goes to. It asks for no rights and changes no file.
"""

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from oanix import path as paths
from oanix.capability import directory_of, has_name
from oanix.errors import Missing, fault
from oanix.node import Directory, Node
from oanix.stat import StatLike
from oanix.table import MountEntry, Place

if TYPE_CHECKING:
    from oanix.namespace import Namespace


class Position:
    """A node, the mount entry that it was reached through, and the way it was walked."""

    __slots__ = ("_hidden", "_place", "_table", "entry", "name", "namespace", "node", "parent")

    parent: Self | None

    def __init__(
        self,
        parent: Self | None,
        name: str,
        entry: MountEntry,
        node: Node,
        place: Place | None,
    ) -> None:
        self.parent = parent
        self.name = name
        self.entry = entry
        self.node = node
        self.namespace: Namespace
        self._table: Place | None = None
        self._hidden = False
        if parent is not None:
            self.namespace = parent.namespace
            self._table = parent.namespace.table
            self._hidden = parent._hidden
        self._place = place

    @classmethod
    def root(cls, namespace: "Namespace") -> Self:
        """Give the root of a namespace."""
        table = namespace.table
        member = table.members[0] if table.members else namespace.synthetic(table)
        root = cls(None, "", member.entry, member.node, table)
        root.namespace, root._table = namespace, table
        return root

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} of {self.entry.service.name}>"

    @property
    def key(self) -> tuple[int, int]:
        """The file's identity for a door: mount entry and qid."""
        return self.entry.number, self.node.qid

    @property
    def path(self) -> str:
        """The path by which this was walked, as names are now."""
        names: list[str] = []
        here: Position = self
        while here.parent is not None:
            names.append(here.name)
            here = here.parent
        return paths.join(names[::-1])

    def moved(self, parent: Self, name: str) -> None:
        """Take the name that a rename has given to this file."""
        self.parent, self.name, self._table = parent, name, None

    @property
    def place(self) -> Place | None:
        """The place of this path in the mount table as it is now, or None where nothing is near.

        A directory that was covered after it was walked sees nothing of what is mounted over it,
        and keeps the place that it had: what was covered or dropped beneath it stays so.
        """
        table = self.namespace.table
        if self._table is not table:
            self._find_place(table)
        return self._place

    def _find_place(self, table: Place) -> None:
        # After a bind or unmount: climb to what is known, then come down. Not recursive: a path may
        # have thousands of components.
        stale: list[Position] = []
        here: Position | None = self
        while here is not None and here._table is not table:
            stale.append(here)
            here = here.parent
        for position in reversed(stale):
            parent = position.parent
            place: Place | None = table
            if parent is not None:
                place = parent._place and parent._place.children.get(position.name)
            position._table = table
            position._hidden = (parent is not None and parent._hidden) or (
                place is not None and not position._shown_at(place)
            )
            if not position._hidden:
                position._place = place

    def _shown_at(self, place: Place) -> bool:
        if place.members:
            return any(member.entry is self.entry for member in place.members)
        return not place.opaque or self.node.qid == place.number

    # Finding and listing -------------------------------------------------------------------------

    def _lookup(self, name: str) -> tuple[Self, StatLike]:
        if not name or name[0] == "." or not name.isascii() or len(name) > paths.NAME_MAX:
            paths.check_name(name)
        if "\0" in name or "/" in name:
            paths.check_name(name)
        place = self.place
        child: Place | None = None
        if place is not None:
            child = place.children.get(name)
            if child is not None and (child.members or child.opaque):
                return self._enter(child, name)
            if len(place.members) > 1:
                for member in place.members:
                    try:
                        node, stat = directory_of(member.node).lookup(name)
                    except FileNotFoundError:
                        continue
                    return self._below(name, member.entry, node, child), stat
                return self._synthetic(child, name)
        if child is None:
            node, stat = directory_of(self.node).lookup(name)
            return type(self)(self, name, self.entry, node, None), stat
        try:
            node, stat = directory_of(self.node).lookup(name)
        except FileNotFoundError:
            return self._synthetic(child, name)
        return self._below(name, self.entry, node, child), stat

    def _below(self, name: str, entry: MountEntry, node: Node, child: Place | None) -> Self:
        if child is not None and not isinstance(node, Directory) and child.shows:
            return self._synthetic(child, name)[0]
        return type(self)(self, name, entry, node, child)

    def _enter(self, child: Place, name: str) -> tuple[Self, StatLike]:
        if not child.members:
            return self._synthetic(child, name)
        member = child.members[0]
        return type(self)(self, name, member.entry, member.node, child), member.node.stat()

    def _synthetic(self, child: Place | None, name: str) -> tuple[Self, StatLike]:
        if child is None or not child.shows:
            raise Missing(name)
        member = self.namespace.synthetic(child)
        return type(self)(self, name, member.entry, member.node, child), member.node.stat()

    def _names(self) -> list[str]:
        place = self.place
        if place is None:
            return directory_of(self.node).readdir()
        names: dict[str, None] = {}
        for _, node in self._trees(place):
            names.update(dict.fromkeys(directory_of(node).readdir()))
        for name, child in place.children.items():
            if child.shows:
                names[name] = None
            elif child.opaque:
                names.pop(name, None)
        return list(names)

    # Who holds a name ----------------------------------------------------------------------------

    def _trees(self, place: Place | None) -> Iterator[tuple[MountEntry, Node]]:
        if place is not None and len(place.members) > 1:
            for member in place.members:
                yield member.entry, member.node
        else:
            yield self.entry, self.node

    def _holder(self, name: str) -> tuple[MountEntry, Node]:
        # The member of a union that has the name: remove and rename act there.
        place = self.place
        if place is not None and len(place.members) > 1:
            for member in place.members:
                if has_name(member.node, name):
                    return member.entry, member.node
            raise Missing(name)
        return self.entry, self.node

    def _creator(self, name: str) -> tuple[MountEntry, Node]:
        # The member of a union that takes new names.
        place = self.place
        self._refuse_mounted(place, name, errno.EEXIST)
        if place is None or len(place.members) < 2:
            return self.entry, self.node
        if any(has_name(member.node, name) for member in place.members):
            raise fault(errno.EEXIST, f"{name!r} exists")
        for member in place.members:
            if member.create:
                return member.entry, member.node
        raise fault(
            errno.EPERM, "no member of this union was bound with -c, so none takes new names"
        )

    def _refuse_mounted(self, place: Place | None, name: str, number: int) -> None:
        # A directory that leads to a dropped name stays too: moved, it would show the name again.
        child = place and place.children.get(name)
        if not child or not child.binds:
            return
        if child.opaque and not child.shows:
            raise fault(errno.EPERM, f"{name!r} was dropped from this namespace")
        if child.shows or number == errno.EBUSY:
            raise fault(number, f"{name!r} is a mount point, or leads to one or to a dropped name")
