"""Follow: the records of `events.jsonl` as a stream, for any number of readers.

Writers put records into one bounded ring and never wait; each reader has a place in it.
"""

import os
import stat as modes
from collections.abc import Callable
from typing import Final

from attrs import define, field

from oanix.bell import Bell
from oanix.caller import Caller
from oanix.node import READABLE, WOULD_BLOCK, Handle, Node, WouldBlock
from oanix.services.logs.host import refuse_change
from oanix.stat import Stat, StatLike

RING_BYTES: Final = 4 * 1_048_576
"""How many bytes of records are kept for readers that are behind."""


@define(eq=False)
class Ring:
    """The last records, numbered from 0 on; the newest one is always there."""

    bound: int = RING_BYTES
    bell: Bell = field(factory=Bell, init=False)
    closed: bool = field(default=False, init=False)
    first: int = field(default=0, init=False)
    next: int = field(default=0, init=False)
    _records: dict[int, bytes] = field(factory=dict, init=False)
    _bytes: int = field(default=0, init=False)

    def add(self, records: list[bytes]) -> None:
        """Put records in and wake the readers. Never waits."""
        for record in records:
            self._records[self.next] = record
            self.next += 1
            self._bytes += len(record)
            while self._bytes > self.bound and self.first < self.next - 1:
                self._bytes -= len(self._records.pop(self.first))
                self.first += 1
        self.bell.ring()

    def get(self, number: int) -> bytes:
        """Give a record that is still there."""
        return self._records[number]

    def close(self) -> None:
        """End the stream: readers see what is left, and then the end."""
        self.closed = True
        self.bell.ring()


class FollowHandle(Handle):
    """One reader: it sees each record once, from the open on."""

    stream = True

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._at = ring.next
        self._rest = b""

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        """Give whole lines, as many as fit; a part of one where none fits. b"" when all ended."""
        if size <= 0:
            return b""
        found: list[bytes] = []
        room = size
        while room and (line := self._peek()):
            if len(line) > room:
                if not found:
                    self._advance(line[room:])
                    return line[:room]
                break
            self._advance(b"")
            found.append(line)
            room -= len(line)
        if found or self._ring.closed:
            return b"".join(found)
        return WOULD_BLOCK

    async def read(self, size: int, offset: int) -> bytes:
        """Wait for the next record. A cancelled read has taken nothing."""
        while (answer := self.try_read(size, offset)) is WOULD_BLOCK:
            await self._ring.bell.wait()
        return answer

    def ready(self, wake: Callable[[], None] | None) -> int:
        """Say whether a record waits."""
        if self._rest or self._at < self._ring.next or self._ring.closed:
            return READABLE
        if wake is not None:
            self._ring.bell.listen(wake, self)
        return 0

    def close(self) -> None:
        """Leave the ring."""
        self._ring.bell.forget(self)

    def _peek(self) -> bytes:
        if self._rest:
            return self._rest
        missed = self._ring.first - self._at
        if missed > 0:
            self._at = self._ring.first
            self._rest = b'{"dropped":%d}\n' % missed
            return self._rest
        return self._ring.get(self._at) if self._at < self._ring.next else b""

    def _advance(self, rest: bytes) -> None:
        if not self._rest:
            self._at += 1
        self._rest = rest


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
        return FollowHandle(self._ring)
