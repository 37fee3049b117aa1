"""Stream: records for any number of readers, from a bounded ring."""

import errno
from collections import deque
from collections.abc import Callable

from attrs import define, field

from oanix import path as paths
from oanix.bell import Bell
from oanix.errors import fault
from oanix.kit.file import Handler, Opening
from oanix.node import READABLE, WOULD_BLOCK, Handle, WouldBlock

RECORDS = 4096
BYTES = 1 << 20


def dropped_line(count: int) -> bytes:
    """Write the record that stands for records which a reader missed."""
    return b'{"dropped":%d}\n' % count


@define(eq=False)
class Ring:
    """The last records of a stream: at most so many, of so many bytes. Putting never waits."""

    max_records: int = RECORDS
    max_bytes: int = BYTES
    dropped: Callable[[int], bytes] = dropped_line
    closed: bool = field(default=False, init=False)
    bell: Bell = field(factory=Bell, init=False)
    first: int = field(default=0, init=False)
    """The number of the oldest record that is kept."""
    _kept: deque[bytes] = field(factory=deque, init=False)
    _size: int = field(default=0, init=False)

    @property
    def next(self) -> int:
        """The number that the next record will have."""
        return self.first + len(self._kept)

    def put(self, record: str | bytes) -> None:
        """Add a record, and wake the readers; a text is a line, and gets the newline that it lacks.

        Raises ValueError when the stream was closed: whoever closes it knows who puts.
        """
        if self.closed:
            raise ValueError("the stream was closed")
        if isinstance(record, str):
            record = paths.encode(record if record.endswith("\n") else record + "\n")
        self._kept.append(record)
        self._size += len(record)
        while len(self._kept) > self.max_records or (
            self._size > self.max_bytes and len(self._kept) > 1
        ):
            self._size -= len(self._kept.popleft())
            self.first += 1
        self.bell.ring()

    def put_all(self, records: list[bytes]) -> None:
        """Add several records; as `put`."""
        for record in records:
            self.put(record)

    def get(self, number: int) -> bytes:
        """Give a record that is kept."""
        return self._kept[number - self.first]

    def close(self) -> None:
        """End the stream: readers get what is kept, then the end."""
        self.closed = True
        self.bell.ring()


class Stream(Handler):
    """A file over a ring. Each open reads on its own.

    whole: whether a reader begins with what is kept already, or with what comes after its open. A
    reader that fell behind gets one record that says how many it missed.
    """

    reads = True
    endless = True

    def __init__(self, ring: Ring, *, whole: bool = True) -> None:
        self._ring = ring
        self._whole = whole

    async def open(self, opening: Opening) -> Handle:
        return StreamHandle(self._ring, self._ring.first if self._whole else self._ring.next)


class StreamHandle(Handle):
    """One reader of a ring. A read gives whole records, unless its buffer is smaller than one."""

    stream = True

    def __init__(self, ring: Ring, cursor: int) -> None:
        self._ring = ring
        self._cursor = cursor
        self._rest = b""

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if size <= 0:
            return b""
        pieces: list[bytes] = []
        room = size
        while room:
            record = self._rest or self._peek()
            if not record or (pieces and len(record) > room):
                break
            if not self._rest:
                self._pass()
            pieces.append(record[:room])
            self._rest = record[room:]
            room -= len(pieces[-1])
        if pieces or self._ring.closed:
            return b"".join(pieces)
        return WOULD_BLOCK

    def _peek(self) -> bytes:
        missed = self._ring.first - self._cursor
        if missed > 0:
            return self._ring.dropped(missed)
        return self._ring.get(self._cursor) if self._cursor < self._ring.next else b""

    def _pass(self) -> None:
        behind = self._cursor < self._ring.first
        self._cursor = self._ring.first if behind else self._cursor + 1

    async def read(self, size: int, offset: int) -> bytes:
        while (answer := self.try_read(size, offset)) is WOULD_BLOCK:
            await self._ring.bell.wait()
        return answer

    def try_write(self, data: bytes, offset: int) -> int:
        raise fault(errno.EBADF, "a stream is read only")

    def ready(self, wake: Callable[[], None] | None) -> int:
        if self._rest or self._cursor < self._ring.next or self._ring.closed:
            return READABLE
        if wake is not None:
            self._ring.bell.listen(wake, self)
        return 0

    def close(self) -> None:
        self._ring.bell.forget(self)
