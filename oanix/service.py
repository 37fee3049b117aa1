"""Service: a tree of files that can be mounted, and the announcements of its changes."""

import errno
import itertools
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import ClassVar

from attrs import define, field, frozen

from oanix.errors import fault
from oanix.node import Node
from oanix.stat import StatFs

_QUERY_VALUE = re.compile(r"([?&][^=&/]*=)[^&/]*")


@frozen
class Change:
    """Something changed: the content and attributes of a node, or one name of a directory.

    qid is the node's or the directory's; name is None for the node itself. door is the door through
    which the change came ("" when it came from elsewhere), whose own caches know of it already;
    entry is the mount entry it came through, as one door may see one file through several.
    """

    service: "Service"
    qid: int
    name: str | None = None
    door: str = ""
    entry: int = 0


Subscriber = Callable[[Change], None]


@define(eq=False)
class Changes:
    """Who wants to know of changes. Announcing never blocks."""

    subscribers: tuple[Subscriber, ...] = field(default=(), init=False)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call back at every change from now on."""
        self.subscribers = (*self.subscribers, subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Call back no more."""
        self.subscribers = tuple(kept for kept in self.subscribers if kept != subscriber)

    def announce(self, change: Change) -> None:
        """Tell every subscriber."""
        for subscriber in self.subscribers:
            subscriber(change)


class Service:
    """A file service: a root node with a name, options and a life time.

    Subclasses set `root` and, where they have tasks or things to close, override `running`.
    Services are touched on the trio thread only.
    """

    name: ClassVar[str] = "service"
    """What a recipe calls it."""

    options: ClassVar[Mapping[str, str]] = {}
    """The narrowings that `narrow` understands: name, and what its value means."""

    capability: ClassVar[bool] = False
    """Whether it reaches beyond the tree (the network, keys, control): then the journal records
    each open of its files, for reading too."""

    root: Node

    def __init__(self) -> None:
        self.changes = Changes()
        self._qids = itertools.count(1)

    def next_qid(self) -> int:
        """Give a number for a new node."""
        return next(self._qids)

    def mounted(self, options: Mapping[str, str]) -> Node:
        """Give the root as its owner mounts it. Raises OSError EINVAL for an unknown option.

        It is for what only an owner may allow: a bind has to do with `narrow`.
        """
        return self.narrow(self.root, options) if options else self.root

    def narrow(self, node: Node, options: Mapping[str, str]) -> Node:
        """Give the node as seen under these options. Raises OSError EINVAL for an unknown one."""
        for option in options:
            known = ", ".join(self.options) or "none"
            raise fault(errno.EINVAL, f"{self.name} has no option {option!r}; it has: {known}")
        return node

    def journal_name(self, path: str) -> str:
        """Write a path of a capability as the journal may show it: query values are masked."""
        return _QUERY_VALUE.sub(r"\1***", path) if "?" in path else path

    def statfs(self) -> StatFs:
        """Give the state of the storage."""
        return StatFs()

    def shield(self, mountpoint: str) -> None:
        """Never touch what will be mounted at this host path: the server would wait for itself.

        Called by a door before it mounts; for services over a host directory.
        """

    def status(self) -> dict[str, str]:
        """Tell what `oanix ps` should show of it; a key `warning` is shown as one."""
        return {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run for as long as the block: its tasks live in a nursery of its own."""
        yield

    def changed(self, qid: int) -> None:
        """Announce that the content or attributes of a node changed outside a door's knowledge."""
        if self.changes.subscribers:
            self.changes.announce(Change(self, qid))

    def entry_changed(self, directory: int, name: str) -> None:
        """Announce that a name appeared in, vanished from or changed in a directory."""
        if self.changes.subscribers:
            self.changes.announce(Change(self, directory, name))
