"""The mount table: an immutable tree of places, so that a fork copies one reference.

A `Place` stands for a path at which something is mounted, or that leads to one. Walking looks up
one component in one dictionary, whatever the number of mounts.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from enum import Enum

from attrs import evolve, field, frozen

from oanix.node import Node
from oanix.service import Service

_entry_numbers = itertools.count(1)
"""Numbers of mount entries are unique in the process: a door may serve several namespaces."""

_place_numbers = itertools.count(1)


class Access(Enum):
    """What a mount lets through; each refuses more than the one before."""

    RW = "rw"
    APPEND = "append"
    RO = "ro"

    def narrowed(self, other: "Access") -> "Access":
        """Give the stricter of the two."""
        return max(self, other, key=_STRICTNESS.index)


_STRICTNESS = list(Access)


@frozen(eq=False)
class MountEntry:
    """One service at one place, with the rights it has there. Its number never comes again."""

    service: Service
    access: Access = Access.RW
    options: Mapping[str, str] = field(factory=dict)
    number: int = field(factory=lambda: next(_entry_numbers), init=False)


@frozen(eq=False)
class Member:
    """One tree that a place shows; a union has several. `create`: new names may be made in it."""

    entry: MountEntry
    node: Node
    create: bool = True


NO_PLACES: Mapping[str, "Place"] = {}


@frozen(eq=False)
class Place:
    """A path in the mount table.

    members: what is mounted here, first wins; empty where the path only leads to mounts below.
    opaque: what lies beneath does not show (a dropped name). maker: the namespace that put members
    or opaque here. locked: something inherited was here, so what lies beneath must never show.
    """

    members: tuple[Member, ...] = ()
    children: Mapping[str, "Place"] = NO_PLACES
    opaque: bool = False
    locked: bool = False
    maker: int = 0
    number: int = field(factory=lambda: next(_place_numbers))
    shows: bool = field(init=False)
    """Whether there is something to see at this path without looking beneath."""
    binds: bool = field(init=False)
    """Whether anything is mounted or dropped at this path or below it."""

    @shows.default
    def _(self) -> bool:
        return bool(self.members) or any(place.shows for place in self.children.values())

    @binds.default
    def _(self) -> bool:
        marked = bool(self.members) or self.opaque
        return marked or any(place.binds for place in self.children.values())

    def find(self, names: tuple[str, ...]) -> "Place | None":
        """Find the place at a path below this one."""
        place: Place | None = self
        for name in names:
            if place is None:
                return None
            place = place.children.get(name)
        return place

    def measure(self) -> tuple[int, int]:
        """Count the places of this subtree and the levels it has."""
        places, depth, level = 0, 0, [self]
        while level:
            places, depth = places + len(level), depth + 1
            level = [child for place in level for child in place.children.values()]
        return places, depth

    def walk(self) -> "Iterator[Place]":
        """Go through the places of this subtree, without recursion: a path may be long."""
        todo = [self]
        while todo:
            place = todo.pop()
            yield place
            todo.extend(place.children.values())

    def holds_foreign(self, maker: int) -> bool:
        """Tell whether a namespace would uncover something by removing this subtree.

        What lies below a place of its own that is not locked came there with it or after it.
        """
        todo = [self]
        while todo:
            place = todo.pop()
            if place.locked:
                return True
            if not (place.members or place.opaque):
                todo.extend(place.children.values())
            elif place.maker != maker:
                return True
        return False


def put(root: Place, names: tuple[str, ...], place: Place | None) -> Place:
    """Give a tree with this place at this path; None takes it out. Places that lead nowhere go."""
    trail = [root]
    for name in names:
        trail.append(trail[-1].children.get(name) or Place())
    new = place
    for parent, name in zip(reversed(trail[:-1]), reversed(names), strict=True):
        children = dict(parent.children)
        if new is None or not (new.members or new.children or new.opaque or new.locked):
            children.pop(name, None)
        else:
            children[name] = new
        new = evolve(parent, children=children)
    return new or Place()


def mapped(place: Place, change: Callable[[Place], Place]) -> Place:
    """Give the tree with every place changed, children first; without recursion."""
    done: dict[int, Place] = {}
    order = list(place.walk())
    for old in reversed(order):
        children = {name: done[id(child)] for name, child in old.children.items()}
        done[id(old)] = change(evolve(old, children=children))
    return done[id(place)]


def merged(first: Place, second: Place) -> Mapping[str, Place]:
    """Give the children of two places that form a union; the first wins, covers of both stay."""
    children = dict(first.children)
    for name, place in second.children.items():
        mine = children.get(name)
        if mine is None:
            children[name] = place
        elif not (mine.members or mine.opaque):
            locked = place.locked or mine.locked
            children[name] = evolve(place, children=merged(mine, place), locked=locked)
    return children
