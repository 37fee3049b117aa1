"""Verify: read a journal from its first record, and find the first one that is not as written."""

import errno
import os
from collections.abc import Callable
from enum import Enum

from attrs import frozen

from oanix.journal.anchor import Anchor, Head
from oanix.journal.chain import follows, parse, position
from oanix.journal.reading import Place, Tail

TRIES = 3
"""How often is begun again when the journal is pruned meanwhile."""

REPORT_EVERY = 10_000
"""After how many records the caller hears how far it is."""


class Trust(Enum):
    """What vouches for the anchor."""

    GENUINE = "the anchor is authenticated with the vault's key"
    NO_TAG = "not authenticated: the vault was locked or absent when the anchor was written"
    NO_KEY = "not authenticated: the vault is locked, so the tag of the anchor cannot be checked"
    FORGED = "the tag of the anchor is not genuine: the anchor was replaced"
    MISSING = "there is no anchor"


@frozen
class Problem:
    """The first bad record: where it is (or should be), its number, and what is wrong."""

    place: Place
    number: int
    what: str
    """One of edited, missing, reordered, duplicated, truncated, rewritten, anchor, broken."""
    sentence: str

    def __str__(self) -> str:
        line = f", line {self.place.line}" if self.place.line else ""
        return f"record {self.number} ({self.place.file}{line}): {self.what}: {self.sentence}"


@frozen
class Finding:
    """What `verify` has found."""

    first: int
    last: int
    covered: int
    trust: Trust
    problem: Problem | None = None
    notes: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing was changed, as far as the anchor tells."""
        return self.problem is None

    @property
    def uncovered(self) -> int:
        """How many records come after the last that the anchor knows."""
        return max(0, self.last - self.covered)


def verify(folder: str, anchor: Anchor, progress: Callable[[int], None] | None = None) -> Finding:
    """Check every record and the anchor; the journal may be written meanwhile.

    progress hears how many records were read. Raises OSError as open(2).
    """
    for _ in range(TRIES - 1):
        checking = _Checking(folder, anchor, progress)
        finding = checking.run()
        if finding.sound or not checking.was_pruned():
            return finding
    return _Checking(folder, anchor, progress).run()


class _Checking:
    """One pass over a journal."""

    def __init__(self, folder: str, anchor: Anchor, progress: Callable[[int], None] | None) -> None:
        self._folder = folder
        self._anchor = anchor
        self._progress = progress
        self._trust, self._head = self._read_anchor()
        head = self._head or Head()
        self._count, self._hash = head.pruned, head.pruned_hash
        self._place = Place(folder, 0)
        self._notes: list[str] = []

    def _read_anchor(self) -> tuple[Trust, Head | None]:
        try:
            head = self._anchor.read()
        except OSError as error:
            if error.errno != errno.EBADMSG:
                raise
            return Trust.FORGED, None
        if head is None:
            return Trust.MISSING, None
        if not head.tag:
            return Trust.NO_TAG, head
        fits = self._anchor.fits(head)
        return {None: Trust.NO_KEY, True: Trust.GENUINE, False: Trust.FORGED}[fits], head

    def was_pruned(self) -> bool:
        """Tell whether the anchor says by now that the journal begins later."""
        now = self._read_anchor()[1]
        return bool(now and self._head and now.pruned != self._head.pruned)

    def run(self) -> Finding:
        tail = Tail(self._folder)
        problem = self._records(tail) or self._ending()
        if tail.rest:
            self._notes.append(
                f"an unfinished line of {tail.rest} bytes is at the end: the journal is written "
                "now, or its writer was killed; its next start will cut that off"
            )
        return Finding(
            (self._head.pruned if self._head else 0) + 1, self._count,
            self._head.count if self._head else 0, self._trust, problem, tuple(self._notes),
        )  # fmt: skip

    def _records(self, tail: Tail) -> Problem | None:
        broken: Problem | None = None
        for place, line in tail:
            if self._is_leftover(line):
                continue
            if not follows(line, self._hash):
                return broken or self._wrong(place, line)
            stated = position(line)
            if stated is None or stated[0] != self._count + 1:
                return broken or self._problem(
                    place, "edited", "its form is not that of the next record"
                )
            self._place = place
            self._count, self._hash = stated
            if self._head and self._count == self._head.count and self._hash != self._head.hash:
                return self._problem(
                    place, "rewritten", "the anchor knows another record of this number: it, or "
                    "one before it, was rewritten with all that follow, or the anchor was replaced",
                    self._count,
                )  # fmt: skip
            if line.find(b',"who":') < 0:
                broken = broken or self._own(place, line)
            if self._progress and not self._count % REPORT_EVERY:
                self._progress(self._count)
        return broken

    def _is_leftover(self, line: bytes) -> bool:
        # Pruned by the anchor already; a crash kept the file from being removed.
        pruned = self._head.pruned if self._head else 0
        if not pruned or self._count > pruned:
            return False
        stated = position(line)
        return stated is not None and stated[0] <= pruned

    def _own(self, place: Place, line: bytes) -> Problem | None:
        # What the journal says of itself.
        record = parse(line)
        said = f"{record.get('detail', '')} (record {self._count}, {record.get('time', '')})"
        if record.get("op") == "broken":
            return self._problem(place, "broken", f"a start has found this: {said}", self._count)
        if record.get("op") in ("lost", "recovered", "pruned"):
            self._notes.append(f"{record['op']}: {said}")
        return None

    def _wrong(self, place: Place, line: bytes) -> Problem:
        expected, stated = self._count + 1, position(line)
        if stated is None:
            return self._problem(place, "edited", "it has not the form of a record")
        number = stated[0]
        if number == expected:
            return self._problem(
                place, "edited", "its hash does not fit it and the record before it"
            )
        if number < expected:
            what = (
                "duplicated" if number == self._count and stated[1] == self._hash else "reordered"
            )
            return self._problem(place, what, f"record {number} stands here once more or too late")
        if any(self._is(other, expected) for _, other in Tail(self._folder)):
            return self._problem(place, "reordered", f"record {number} stands in its place")
        return self._problem(
            place, "missing", f"record {number} comes next, so {number - expected} are gone"
        )

    def _is(self, line: bytes, number: int) -> bool:
        stated = position(line)
        return stated is not None and stated[0] == number

    def _ending(self) -> Problem | None:
        if self._trust is Trust.FORGED:
            return self._at_anchor("anchor", self._trust.value)
        head = self._head
        if head is None:
            return self._at_anchor("anchor", "there is none, so nothing tells where it ended")
        if self._count < head.count:
            gone = head.count - self._count
            return self._problem(
                self._place, "truncated",
                f"the anchor knows {head.count} records: the last {gone} are gone",
            )  # fmt: skip
        return None

    def _at_anchor(self, what: str, sentence: str) -> Problem:
        return Problem(Place(os.path.abspath(self._anchor.path), 0), self._count, what, sentence)

    def _problem(self, place: Place, what: str, sentence: str, number: int = 0) -> Problem:
        return Problem(place, number or self._count + 1, what, sentence)
