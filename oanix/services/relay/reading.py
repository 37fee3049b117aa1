"""Reading: finds events by filters, newest first, of one time the lowest id first.

The answers to the questions of a filter (`planning`) are merged up to its limit. A search is one
question, answered in the order of how well events fit.
"""

import errno
import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, islice
from typing import Final

from oanix.lib.nostr import Filter
from oanix.services.relay.planning import Condition, Planner, Question
from oanix.services.relay.policy import RelayPolicy
from oanix.services.relay.rules import Peer
from oanix.services.relay.terms import Terms, earliest, latest, place
from oanix.store import Row, Store, Value

ANSWER_BYTES: Final = 8 << 20
"""What an answer holds, at most: it waits in memory for a client that reads slowly."""

LEAST: Final = 8
"""Rows that are asked for at a time, at least."""

STEPS: Final = 2_000
"""After how many steps of SQLite's machine (some 0.1 ms) is asked whether time is up."""

Found = tuple[int, bytes, bytes]
"""A time, an id, and the JSON."""


class TimeUp(Exception):
    """The answer takes longer than it may."""


class Reader:
    """Finds events in a database that somebody else writes; one question at a time.

    Every method raises OSError, and TimeUp once `over` says so.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._over: Callable[[], bool] = _never
        self._policy = RelayPolicy()
        self._peer: Peer | None = None
        self._planner = Planner(Terms(store))
        store.function("may_read", self._may_read, 3)
        store.function("has_tag", self._planner.has_tag, 2)

    @contextmanager
    def asked(self, policy: RelayPolicy, peer: Peer, over: Callable[[], bool]) -> Iterator[None]:
        """Answer in the block what somebody asks, by these rules and within a time."""
        self._policy, self._peer, self._over = policy, peer, over
        try:
            with self._store.watched(over, STEPS):
                yield
        except OSError as error:
            if error.errno == errno.EINTR:
                raise TimeUp from None
            raise
        finally:
            self._policy, self._peer, self._over = RelayPolicy(), None, _never
            self._planner.forget()

    def _may_read(self, name: bytes, author: bytes, kind: int) -> int:
        assert self._peer is not None
        return self._policy.may_read(kind, author.hex(), name.hex(), self._peer)

    def find(
        self, filters: Sequence[Filter], peer: Peer, now: int, most: int
    ) -> tuple[list[bytes], bool]:
        """Give the JSON of what the filters match, each event once, and whether there is more.

        Each filter has its limit, and all of them `most`, and a bound in bytes. A lone search keeps
        its order.
        """
        found: dict[bytes, Found] = {}
        more = False
        for one in filters:
            limit = most if one.limit is None else min(one.limit, most)
            rows = list(islice(self._rows(one, peer, now, limit + 1), limit + 1))
            more = more or len(rows) > limit
            for at, name, raw in rows[:limit]:
                found[name] = (-at, name, raw)
        ordered = list(found.values())
        if len(filters) > 1 or filters[0].search is None:
            ordered.sort()
        kept = [raw for _, _, raw in ordered[:most]]
        if sum(map(len, kept)) > ANSWER_BYTES:
            sizes = accumulate(map(len, kept))
            kept = [raw for raw, size in zip(kept, sizes, strict=True) if size <= ANSWER_BYTES]
        return kept, more or len(ordered) > len(kept)

    def count(self, filters: Sequence[Filter], peer: Peer, now: int) -> int:
        """Count what the filters match, each event once (NIP-45)."""
        names: set[bytes] = set()
        for one in filters:
            names.update(name for _, name in self.names(one, peer, now, 1 << 40))
        return len(names)

    def names(self, one: Filter, peer: Peer, now: int, most: int) -> list[tuple[int, bytes]]:
        """Give the times and ids of what a filter matches, at most so many."""
        rows = self._ask(self._planner.together(one), one, peer, now, most, raw=False)
        return list({name: (at, name) for at, name, _ in rows}.values())

    def _rows(self, one: Filter, peer: Peer, now: int, most: int) -> Iterator[Found]:
        if one.limit == 0:
            return iter(())
        questions = self._planner.apart(one)
        if len(questions) == 1:
            return iter(self._ask(questions[0], one, peer, now, most, raw=True))
        # Each seldom has much more than its share of what is newest.
        share = max(LEAST, 2 * most // len(questions))
        answers = [self._piecewise(each, one, peer, now, most, share) for each in questions]
        return _once(heapq.merge(*answers, key=lambda row: (-row[0], row[1])))

    def _piecewise(
        self, question: Question, one: Filter, peer: Peer, now: int, most: int, size: int
    ) -> Iterator[Found]:
        last: Found | None = None
        while most > 0:
            size = min(size, most)
            rows = self._ask(question, one, peer, now, size, raw=True, after=last)
            yield from rows
            if len(rows) < size:
                return
            most -= size
            size *= 4
            last = rows[-1]

    def _ask(
        self, question: Question, one: Filter, peer: Peer, now: int, most: int, *,
        raw: bool, after: Found | None = None,
    ) -> list[Found]:  # fmt: skip
        if self._over():
            raise TimeUp
        conditions = [*question.conditions, *_within(one, question.order)]
        if after is not None:
            conditions += _after(after, question.order)
        conditions += [("(e.expires IS NULL OR e.expires > ?)", [now]), self._planner.guard(peer)]
        if self._policy.hides:
            conditions.append(("may_read(e.id, e.pubkey, e.kind)", ()))
        rank = "s.rank, " if question.ranked else ""
        values: list[Value] = [value for _, given in conditions for value in given]
        rows = self._store.execute(
            f"SELECT e.created_at, e.id, {'e.json' if raw else 'NULL'} FROM {question.source} "
            f"WHERE {' AND '.join(sql for sql, _ in conditions)} "
            f"ORDER BY {rank}{question.order}.place DESC, e.created_at DESC, e.id LIMIT ?",
            *values, most,
        )  # fmt: skip
        return [_typed(row) for row in rows]


def _within(one: Filter, order: str) -> list[Condition]:
    found: list[Condition] = []
    if one.since is not None:
        found.append((f"{order}.place >= ?", [earliest(one.since)]))
        found.append(("e.created_at >= ?", [one.since]))
    if one.until is not None:
        found.append((f"{order}.place <= ?", [latest(one.until)]))
        found.append(("e.created_at <= ?", [one.until]))
    return found


def _after(last: Found, order: str) -> list[Condition]:
    at, name, _ = last
    begin = place(at, name)
    return [
        (f"{order}.place <= ?", [begin]),
        (f"({order}.place < ? OR (-e.created_at, e.id) > (?, ?))", [begin, -at, name]),
    ]


def _never() -> bool:
    return False


def _typed(row: Row) -> Found:
    at, name, raw = row
    assert isinstance(at, int)
    assert isinstance(name, bytes)
    return at, name, raw if isinstance(raw, bytes) else b""


def _once(rows: Iterator[tuple[int, bytes, bytes]]) -> Iterator[Found]:
    # Two questions may find one event; in order, it comes twice in a row.
    last = b""
    for row in rows:
        if row[1] != last:
            last = row[1]
            yield row
