"""The inode table of a kernel door: numbers that the kernel knows, and what stands behind them.

An inode stands for (mount entry, qid) under a 64-bit number of its own, so that one file seen
through a read-only and a writable mount keeps two rights. Where the number that the file has on the
host is free it is that one: tools such as git remember inode numbers, and take a new one for a
change. The kernel counts each answer that names an inode and gives the counts back with FORGET; at
zero the inode is gone. Nothing here belongs to one binding.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from attrs import define

from oanix.channel import Channel

ROOT = 1
"""The number of the root (FUSE_ROOT_ID)."""

FIRST_FRESH = 1 << 56
"""Where fresh numbers begin: above what a host gives."""


@define(eq=False)
class Inode:
    """A file as the kernel knows it.

    lookups: answers that named it and were not forgotten. version: of the content in the kernel's
    page cache. size: of the newest open snapshot, None when there is none. attributes and listing:
    what was last told of it, kept while the service promises to announce a change.
    """

    number: int
    channel: Channel
    key: tuple[int, int]
    lookups: int = 0
    version: int | None = None
    size: int | None = None
    attributes: Any = None
    listing: "Listing | None" = None


@define(eq=False)
class Listing:
    """The names of a directory at one moment, and their inodes as far as they were looked up."""

    names: list[bytes]
    inodes: list[Inode | None]


class InodeTable:
    """Inodes by their number and by what they stand for."""

    def __init__(self, root: Channel) -> None:
        self._fresh = itertools.count(FIRST_FRESH)
        self._by_number: dict[int, Inode] = {}
        self._by_key: dict[tuple[int, int], Inode] = {}
        self._enter(Inode(ROOT, root, root.key))

    def __len__(self) -> int:
        return len(self._by_number)

    def __getitem__(self, number: int) -> Inode:
        return self._by_number[number]

    def __iter__(self) -> Iterator[Inode]:
        return iter(self._by_number.values())

    def get(self, number: int) -> Inode | None:
        """Find the inode with a number."""
        return self._by_number.get(number)

    def find(self, key: tuple[int, int]) -> Inode | None:
        """Find the inode of a mount entry and qid."""
        return self._by_key.get(key)

    def add(self, channel: Channel, wished: int = 0) -> Inode:
        """Give the inode for a channel and count one lookup; a known one takes the newest name.

        wished: the number that a new inode gets if it is free.
        """
        key = channel.key
        inode = self._by_key.get(key)
        if inode is None:
            free = ROOT < wished < FIRST_FRESH and wished not in self._by_number
            inode = self._enter(Inode(wished if free else next(self._fresh), channel, key))
        else:
            known = inode.channel
            known.node = channel.node
            if known.parent is not channel.parent or known.name != channel.name:
                self._rename(known, channel.parent, channel.name)
        inode.lookups += 1
        return inode

    def _enter(self, inode: Inode) -> Inode:
        self._by_key[inode.key] = self._by_number[inode.number] = inode
        return inode

    def _rename(self, known: Channel, parent: Channel | None, name: str) -> None:
        # The root stays the root, even where a bind shows it once more.
        if parent is not None and known.parent is not None:
            known.moved(parent, name)

    def forget(self, number: int, count: int) -> None:
        """Take back lookups; the last one takes the inode with it."""
        inode = self._by_number.get(number)
        if inode is None or number == ROOT:
            return
        inode.lookups -= count
        if inode.lookups <= 0:
            del self._by_number[number]
            if self._by_key.get(inode.key) is inode:
                del self._by_key[inode.key]

    def reroot(self, root: Channel) -> None:
        """Let the root number stand for another channel: something was mounted at `/`."""
        old = self._by_number[ROOT]
        if self._by_key.get(old.key) is old:
            del self._by_key[old.key]
        old.channel, old.key = root, root.key
        self._by_key[old.key] = old
