"""Negentropy: two sides find out which events the other lacks (NIP-77, protocol version 1).

Each side has items in the order of time and id. A message covers that order with ranges: a range
has a fingerprint of its items, or their ids, or is settled. Where fingerprints differ the range is
split, or its ids are told, so that messages grow with the difference and not with the sets.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from attrs import define, field, frozen

from oanix.lib.nostr.codec import Invalid

VERSION: Final = 0x61
SKIP, FINGERPRINT, IDS = 0, 1, 2

ID_BYTES: Final = 32
FINGERPRINT_BYTES: Final = 16
BUCKETS: Final = 16
"""Into how many ranges one is split; below twice as many items, ids are told instead."""

END: Final = 1 << 64
"""The time after all others."""

FRAME_LEAST: Final = 4_096
ROOM: Final = 200
"""Bytes that are left for the end of a message that is cut off."""

_MODULUS: Final = 1 << 256

Item = tuple[int, bytes]
"""A time and an id, or the beginning of one: as a bound, what comes before it is within."""

LAST: Final[Item] = (END, b"")


class Items:
    """What one side has. Making it sorts; a fingerprint of any range is then two subtractions."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = sorted(set(items))
        numbers = (int.from_bytes(name, "little") for _, name in self._items)
        self._sums = list(accumulate(numbers, lambda a, b: (a + b) % _MODULUS, initial=0))

    def __len__(self) -> int:
        return len(self._items)

    def find(self, bound: Item, start: int) -> int:
        """Give the first place from start on that is not before a bound."""
        return bisect_left(self._items, bound, start)

    def ids(self, start: int, end: int) -> list[bytes]:
        """Give the ids of a range."""
        return [name for _, name in self._items[start:end]]

    def fingerprint(self, start: int, end: int) -> bytes:
        """Hash the ids of a range, whatever their order."""
        total = (self._sums[end] - self._sums[start]) % _MODULUS
        data = total.to_bytes(ID_BYTES, "little") + _varint(end - start)
        return hashlib.sha256(data).digest()[:FINGERPRINT_BYTES]

    def bound(self, place: int) -> Item:
        """Give the shortest bound that parts a place from the one before it."""
        at, name = self._items[place]
        before, other = self._items[place - 1]
        if at != before:
            return at, b""
        shared = next(n for n in range(ID_BYTES) if name[n] != other[n])
        return at, name[: shared + 1]


def respond(items: Items, message: bytes, most: int) -> bytes:
    """Answer a message of the side that asks, in about `most` bytes (0: no bound). Raises Invalid.

    A message of an unknown version is answered with ours.
    """
    return _Round(items, most).answer(message, None)


@define
class Reconciliation:
    """The side that asks: send `initiate`, and what `step` gives for each answer, until None."""

    items: Items
    frame: int = 0
    have: set[bytes] = field(factory=set, init=False)
    """Ids that the other side lacks, as far as is known."""
    need: set[bytes] = field(factory=set, init=False)
    """Ids that this side lacks."""

    def initiate(self) -> bytes:
        """Write the first message."""
        return _Round(self.items, self.frame).begin()

    def step(self, message: bytes) -> bytes | None:
        """Read an answer; gives the next message, or None when all is known. Raises Invalid."""
        found = _Round(self.items, self.frame).answer(message, self)
        return found if len(found) > 1 else None


class _Round:
    """One message in, one message out."""

    def __init__(self, items: Items, most: int) -> None:
        if most and most < FRAME_LEAST:
            raise ValueError(f"a message has {FRAME_LEAST} bytes or more")
        self._items = items
        self._most = most
        self._out = _Writer()

    def begin(self) -> bytes:
        """Write what is here, as one range."""
        self._split(0, len(self._items), LAST)
        return bytes(self._out.data)

    def answer(self, message: bytes, asking: Reconciliation | None) -> bytes:
        """Answer a message; asking: what learns of ids, on the side that asks."""
        read = _Reader(message)
        version = read.byte()
        if not 0x60 <= version <= 0x6F:
            raise Invalid("this is no negentropy message")
        if version != VERSION:
            if asking is not None:
                raise Invalid("the other side speaks another version of negentropy")
            return bytes([VERSION])
        start = 0
        settled: Item | None = None
        while not read.done:
            bound, mode = read.bound(), read.number()
            end = max(self._items.find(bound, start), start)
            mark = self._out.mark()
            if settled is not None:
                self._out.skip(settled)
            told = self._judge(read, mode, (start, end, bound), asking)
            if told is None:
                self._out.back(mark)
                settled = bound
            elif told < end:
                return self._cut(told)
            elif self._most and len(self._out.data) > self._most - ROOM:
                self._out.back(mark)
                if settled is not None:
                    self._out.skip(settled)
                return self._cut(start)
            else:
                settled = None
            start = end
        return bytes(self._out.data)

    def _judge(
        self, read: "_Reader", mode: int, about: tuple[int, int, Item],
        asking: Reconciliation | None,
    ) -> int | None:  # fmt: skip
        """Answer one range; gives up to where it is answered, None when it is settled."""
        start, end, bound = about
        if mode == SKIP:
            return None
        if mode == FINGERPRINT:
            if read.take(FINGERPRINT_BYTES) == self._items.fingerprint(start, end):
                return None
            self._split(start, end, bound)
            return end
        if mode != IDS:
            raise Invalid(f"{mode} is no mode of a range")
        theirs = read.ids()
        if asking is None:
            return self._tell(start, end, bound)
        ours = set(self._items.ids(start, end))
        asking.have |= ours - theirs
        asking.need |= theirs - ours
        return None

    def _cut(self, start: int) -> bytes:
        """End a message that has become too long: the rest is one fingerprint."""
        self._out.fingerprint(LAST, self._items.fingerprint(start, len(self._items)))
        return bytes(self._out.data)

    def _tell(self, start: int, end: int, bound: Item) -> int:
        """Tell the ids of a range, as many as fit; gives where what was told ends."""
        room = (end - start) * ID_BYTES
        if self._most:
            room = max(self._most - ROOM - len(self._out.data), ID_BYTES)
        fits = min(end, start + room // ID_BYTES)
        if fits < end:
            bound = self._items.bound(fits)
        self._out.ids(bound, self._items.ids(start, fits))
        return fits

    def _split(self, start: int, end: int, bound: Item) -> None:
        count = end - start
        if count < 2 * BUCKETS:
            self._out.ids(bound, self._items.ids(start, end))
            return
        size, extra = divmod(count, BUCKETS)
        for bucket in range(BUCKETS):
            past = start + size + (bucket < extra)
            edge = bound if past == end else self._items.bound(past)
            self._out.fingerprint(edge, self._items.fingerprint(start, past))
            start = past


@frozen
class _Mark:
    size: int
    time: int


class _Writer:
    """A message that is being written. Times are told as the difference to the last one."""

    def __init__(self) -> None:
        self.data = bytearray([VERSION])
        self._time = 0

    def mark(self) -> _Mark:
        """Note how far it is, to go `back` there."""
        return _Mark(len(self.data), self._time)

    def back(self, mark: _Mark) -> None:
        """Forget what was written since."""
        del self.data[mark.size :]
        self._time = mark.time

    def skip(self, bound: Item) -> None:
        """Say that a range is settled."""
        self._bound(bound)
        self.data += _varint(SKIP)

    def fingerprint(self, bound: Item, value: bytes) -> None:
        """Say a fingerprint."""
        self._bound(bound)
        self.data += _varint(FINGERPRINT) + value

    def ids(self, bound: Item, names: list[bytes]) -> None:
        """Say ids."""
        self._bound(bound)
        self.data += _varint(IDS) + _varint(len(names)) + b"".join(names)

    def _bound(self, bound: Item) -> None:
        at, prefix = bound
        self.data += b"\0" if at >= END else _varint(at - self._time + 1)
        self._time = at
        self.data += _varint(len(prefix)) + prefix


class _Reader:
    """A message that is being read. Everything raises Invalid for what is none."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._last: Item = (0, b"")

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._data)

    def byte(self) -> int:
        """Read a byte."""
        return self.take(1)[0]

    def take(self, size: int) -> bytes:
        """Read so many bytes."""
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise Invalid("the message is cut off")
        self._at += size
        return taken

    def number(self) -> int:
        """Read a number of up to 64 bits, seven at a time, the highest first."""
        value = 0
        while True:
            byte = self.byte()
            value = (value << 7) | (byte & 0x7F)
            if value >= END:
                raise Invalid("a number of the message has over 64 bits")
            if not byte & 0x80:
                return value

    def bound(self) -> Item:
        """Read a bound; they ascend, and nothing comes after the last one."""
        last = self._last
        if last[0] >= END:
            raise Invalid("a range begins after the end")
        ahead = self.number()
        at = END if ahead == 0 else min(last[0] + ahead - 1, END)
        size = self.number()
        if size > ID_BYTES:
            raise Invalid(f"a bound has at most {ID_BYTES} bytes of an id")
        bound = at, self.take(size)
        if bound < last:
            raise Invalid("the ranges are not in order")
        self._last = bound
        return bound

    def ids(self) -> set[bytes]:
        """Read ids."""
        count = self.number()
        if count * ID_BYTES > len(self._data) - self._at:
            raise Invalid("the message is cut off")
        return {self.take(ID_BYTES) for _ in range(count)}


def _varint(number: int) -> bytes:
    out = [number & 0x7F]
    while number := number >> 7:
        out.append(0x80 | (number & 0x7F))
    return bytes(reversed(out))
