"""Segments: the files of a journal, and what the last of them ends with."""

import os
import re
from collections.abc import Iterator

from attrs import frozen

from oanix.journal.anchor import Head
from oanix.journal.chain import follows, position

TAIL_BYTES = 8_388_608
"""How much of the last segment is read at a start: some times what is written between anchors."""

_NAME = re.compile(r"([0-9]{8,})\.jsonl")


@frozen
class Limits:
    """How large a segment grows, and how much is kept of all together; the oldest go first."""

    segment_bytes: int = 67_108_864
    kept_bytes: int = 1_073_741_824


@frozen
class End:
    """The last sound record of a journal: its number and hash, and where its line ends."""

    count: int
    hash: str
    size: int = 0
    cut: int = 0
    """How many bytes lie behind it that are no record."""
    trouble: str = ""
    """What does not fit the anchor."""


def segment(folder: str, number: int) -> str:
    """Name the file of a segment."""
    return os.path.join(folder, f"{number:08d}.jsonl")


def numbers(folder: str) -> list[int]:
    """List the segments that exist, oldest first; a missing folder has none."""
    try:
        found = map(_NAME.fullmatch, os.listdir(folder))
    except FileNotFoundError:
        return []
    return sorted(int(name[1]) for name in found if name)


def end_of(path: str, head: Head | None) -> End | None:
    """Find the last sound record of a segment, or None when it has none.

    From the record that the anchor knows, each must follow the one before it: what does not was
    torn by a crash, as no batch is anchored before it is on the disk. What lies before is left to
    `verify`.
    """
    records = list(_tail(path))
    anchored = head.count if head else 0
    first = _from(records, anchored)
    end: End | None = None
    trouble = ""
    for index, (line, start) in enumerate(records):
        place = position(line)
        whole = place is not None and (
            index <= first or end is None or (follows(line, end.hash) and place[0] == end.count + 1)
        )
        if not whole or place is None:
            if index > first:
                break
            continue
        if place[0] == anchored and head and place[1] != head.hash:
            trouble = f"record {anchored} is not the one that the anchor knows"
        end = End(*place, start + len(line) + 1)
    if end is None:
        return None
    size = os.path.getsize(path)
    return End(end.count, end.hash, end.size, size - end.size, trouble)


def _from(records: list[tuple[bytes, int]], anchored: int) -> int:
    # Where the record that is anchored lies: -1 when all that was read comes after it, the end when
    # all comes before it.
    stated = [place[0] for place in map(position, (line for line, _ in records)) if place]
    if not stated or stated[0] > anchored:
        return -1
    for index in range(len(records) - 1, -1, -1):
        place = position(records[index][0])
        if place and place[0] == anchored:
            return index
    return len(records)


def _tail(path: str) -> Iterator[tuple[bytes, int]]:
    # The last whole lines, without their newline, and where each begins.
    with open(path, "rb") as file:
        start = max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES)
        file.seek(start)
        if start:
            start += len(file.readline())
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1], start
            start += len(line)
