"""Watcher: tells the doors what others change in the served directory."""

import logging
from typing import TYPE_CHECKING

import trio

from oanix.services.workspace import marks
from oanix.services.workspace.marks import Event

if TYPE_CHECKING:
    from oanix.services.workspace.directory import HostDirectory
    from oanix.services.workspace.files import HostFile
    from oanix.services.workspace.tree import Tree

log = logging.getLogger(__name__)

PAUSE = 0.005
"""For how many seconds events are let gather before they are read."""

BATCH = 1000
"""After how many announcements others get their turn."""


class Watcher:
    """Reads the events of the marked directories and announces what they mean."""

    def __init__(self, tree: "Tree") -> None:
        self._tree = tree
        self.overflows = 0

    async def run(self) -> None:
        """Go on until cancelled."""
        events = self._tree.marks
        while True:
            await trio.lowlevel.wait_readable(events.fileno())
            await trio.sleep(PAUSE)
            while (found := events.read()) is not None:
                if found:
                    await self._tell(found)
                await trio.lowlevel.checkpoint()

    async def _tell(self, found: list[Event]) -> None:
        what: dict[tuple[bytes, str], int] = {}
        for event in found:
            place = event.key, event.name
            what[place] = what.get(place, 0) | event.mask
        listed: set[int] = set()
        for count, ((key, name), mask) in enumerate(what.items(), 1):
            if mask & marks.OVERFLOW:
                await self._tell_all()
                continue
            directory = self._tree.marks.directory(key)
            if directory is not None:
                self._tell_one(directory, name, mask, listed)
            if count % BATCH == 0:
                await trio.lowlevel.checkpoint()

    def _tell_one(self, directory: "HostDirectory", name: str, mask: int, listed: set[int]) -> None:
        tree, service = self._tree, self._tree.service
        if name == ".":
            service.changed(directory.qid)
            return
        node = tree.at(directory, name)
        if mask & marks.NAMES:
            service.entry_changed(directory.qid, name)
            if directory.qid not in listed:
                listed.add(directory.qid)
                service.changed(directory.qid)
            for opened in self._opened_at(directory, name):
                if opened is not node:
                    service.changed(opened.qid)
        if node is not None:
            node.foreign_change()
            service.changed(node.qid)

    def _opened_at(self, directory: "HostDirectory", name: str) -> "list[HostFile]":
        # A file that is open and has lost this name: its number of links is another now.
        return [
            node
            for node in self._tree.opened.values()
            if node.parent is directory and node.name == name
        ]

    async def _tell_all(self) -> None:
        """Announce everything known: the host has lost count of what changed."""
        self.overflows += 1
        log.warning("the host lost events of changes; everything known is looked at again")
        service = self._tree.service
        for count, node in enumerate(self._tree.nodes(), 1):
            node.foreign_change()
            if node.parent is not None and node.name:
                service.entry_changed(node.parent.qid, node.name)
            service.changed(node.qid)
            if count % BATCH == 0:
                await trio.lowlevel.checkpoint()
