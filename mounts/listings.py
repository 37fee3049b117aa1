"""Listings: directories as the kernel asks for them, in parts, with the attributes of each name.

A binding that cannot let the kernel keep listings asks for each again. So they are kept here, with
their attributes, for as long as the service promises to announce what changes (`caching` FOREVER).
"""

import itertools
import math
from collections.abc import Callable

from attrs import define

from mounts.inodes import Inode, InodeTable, Listing
from oanix import path as paths
from oanix.caller import Caller
from oanix.channel import Channel
from oanix.namespace import Namespace
from oanix.operation import Kind, is_watched
from oanix.stat import StatLike

KEPT_MAX = 32_768
"""Names in listings that are kept."""


@define(eq=False)
class OpenDirectory:
    """A directory listed as it was when it was opened; cookies are places in the listing."""

    inode: Inode
    listing: Listing
    caller: Caller
    pending: tuple[int, Channel, StatLike] | None = None


class Listings:
    """The open directories of one mount, and the listings that are kept."""

    def __init__(
        self,
        namespace: Namespace,
        inodes: InodeTable,
        attributes: Callable[[Inode, StatLike], object],
        *,
        list_all: bool,
    ) -> None:
        self._namespace = namespace
        self._inodes = inodes
        self._attributes = attributes
        self._list_all = list_all
        self._open: dict[int, OpenDirectory] = {}
        self._numbers = itertools.count(1)
        self._kept = 0

    def open(self, caller: Caller, number: int) -> int:
        """Take a listing."""
        inode = self._inodes[number]
        listing = inode.listing
        if listing is None or is_watched(self._namespace, Kind.READDIR):
            names = [paths.encode(name) for name in inode.channel.readdir(caller)]
            listing = Listing([b".", b"..", *names], [None] * (len(names) + 2))
            self._keep(inode, listing)
        handle = next(self._numbers)
        self._open[handle] = OpenDirectory(inode, listing, caller)
        return handle

    def _keep(self, inode: Inode, listing: Listing) -> None:
        # The kernel keeps no listings for this binding, but asks for each again; see _changed.
        if inode.channel.caching != math.inf or len(listing.names) > KEPT_MAX:
            return
        self._kept += len(listing.names)
        if self._kept > KEPT_MAX:
            self.forget()
            self._kept = len(listing.names)
        inode.listing = listing

    def drop(self, inode: Inode) -> None:
        """Drop the listing of one directory: a name in it has changed."""
        if inode.listing is not None:
            self._kept -= len(inode.listing.names)
            inode.listing = None

    def forget(self) -> None:
        """Drop every listing that is kept."""
        for inode in self._inodes:
            inode.listing = inode.attributes = None
        self._kept = 0

    def read(self, handle: int, start: int, reply: Callable[[bytes, object, int], bool]) -> None:
        """Give entries from a cookie on until `reply` takes no more; each counts one lookup."""
        opened = self._open[handle]
        names, inodes = opened.listing.names, opened.listing.inodes
        fresh = self._watched() or opened.inode.listing is not opened.listing
        for index in range(start, len(names)):
            inode = inodes[index]
            if inode is None or fresh or inode.attributes is None or inode.lookups < 1:
                again = self._reply_looked_up if index > 1 else self._reply_itself
                if not again(opened, index, reply):
                    return
            elif reply(names[index], inode.attributes, index + 1):
                inode.lookups += 1
            else:
                return

    def _watched(self) -> bool:
        # Whether somebody wants to see each name that is looked up, so that none is answered here.
        return is_watched(self._namespace, Kind.WALK) or is_watched(self._namespace, Kind.STAT)

    def _reply_itself(
        self, opened: OpenDirectory, index: int, reply: Callable[[bytes, object, int], bool]
    ) -> bool:
        # For "." and ".." the kernel counts no lookup.
        channel = opened.inode.channel
        if index and channel.parent is not None:
            channel = channel.parent
        inode = self._inodes.find(channel.key) or opened.inode
        attributes = self._attributes(inode, channel.stat(opened.caller))
        return reply(opened.listing.names[index], attributes, index + 1)

    def _reply_looked_up(
        self, opened: OpenDirectory, index: int, reply: Callable[[bytes, object, int], bool]
    ) -> bool:
        listing, name = opened.listing, opened.listing.names[index]
        if opened.pending is not None and opened.pending[0] == index:
            _, channel, stat = opened.pending
        else:
            try:
                channel, stat = opened.inode.channel.lookup(opened.caller, paths.decode(name))
            except FileNotFoundError:
                return True  # removed since the listing was taken
        opened.pending = None
        if not (channel.listed or self._list_all):
            return True
        inode = self._inodes.add(channel, stat.st_ino)
        attributes = self._attributes(inode, stat)
        if not reply(name, attributes, index + 1):
            self._inodes.forget(inode.number, 1)
            opened.pending = index, channel, stat
            return False
        if opened.inode.listing is listing and inode.channel.caching == math.inf:
            listing.inodes[index], inode.attributes = inode, attributes
        return True

    async def fsync(self, handle: int, datasync: bool) -> None:
        """Make the names of an open directory durable."""
        opened = self._open[handle]
        await opened.inode.channel.fsync(opened.caller, datasync)

    def release(self, handle: int) -> None:
        """Drop a listing."""
        del self._open[handle]
