"""Follow: the records of `events.jsonl` as a stream, for any number of readers.

Writers put records into one bounded ring and never wait; each reader has a place in it.
"""

import os
import stat as modes
import sys
from typing import Final

from oanix.caller import Caller
from oanix.kit import Ring, StreamHandle
from oanix.node import Handle, Node
from oanix.services.logs.host import refuse_change
from oanix.stat import Stat, StatLike

RING_BYTES: Final = 4 * 1_048_576
"""How many bytes of records are kept for readers that are behind."""


def ring_of(max_bytes: int) -> Ring:
    """Make the ring of one `/logs`; only bytes bound it."""
    return Ring(max_records=sys.maxsize, max_bytes=max_bytes)


class Follow(Node):
    """`follow`: new records as they come."""

    endless = True

    def __init__(self, qid: int, ring: Ring, now: int) -> None:
        self.qid = qid
        self._ring = ring
        self._stat = Stat(
            modes.S_IFREG | 0o444, 1, os.geteuid(), os.getegid(),
            st_atime_ns=now, st_mtime_ns=now, st_ctime_ns=now,
        )  # fmt: skip

    def stat(self) -> StatLike:
        return self._stat

    async def open(self, flags: int, caller: Caller) -> Handle:
        """Begin to listen. Raises EPERM for an open for writing."""
        refuse_change(flags, "follow")
        return StreamHandle(self._ring, self._ring.next)
