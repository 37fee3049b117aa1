"""Reading: finds events by filters, newest first, of one time the lowest id first.

A filter is answered by one question for each value of its most telling list (each author, each
value of a tag), which an index answers in order; their answers are merged up to the limit. A search
is one question, answered in the order of how well events fit.
"""

import errno
import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, islice, product
from typing import Final

from attrs import frozen

from oanix.lib.nostr import Filter
from oanix.services.relay.policy import RelayPolicy
from oanix.services.relay.rules import GIFT_WRAPS, Peer
from oanix.services.relay.searching import expression
from oanix.store import Row, Store, Value

BRANCHES: Final = 400
"""Values of a list that are asked for one by one; more are asked for together, and sorted."""

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


@frozen
class _Question:
    """A part of SQL: from where, in which order, under which conditions, with which values."""

    source: str
    order: str
    conditions: tuple[str, ...]
    values: tuple[Value, ...]
    ranked: bool = False


class Reader:
    """Finds events in a database that somebody else writes; one question at a time.

    Every method raises OSError, and TimeUp once `over` says so.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._over: Callable[[], bool] = _never
        self._policy = RelayPolicy()
        self._peer: Peer | None = None
        store.function("may_read", self._may_read, 3)

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
        found: dict[bytes, int] = {}
        for question in _together(one):
            rows = self._ask(question, one, peer, now, most, raw=False)
            found.update((name, at) for at, name, _ in rows)
        return [(at, name) for name, at in found.items()]

    def _rows(self, one: Filter, peer: Peer, now: int, most: int) -> Iterator[Found]:
        if one.limit == 0:
            return iter(())
        questions = _questions(one)
        if len(questions) == 1:
            return iter(self._ask(questions[0], one, peer, now, most, raw=True))
        # Each seldom has much more than its share of what is newest.
        share = max(LEAST, 2 * most // len(questions))
        answers = [self._piecewise(each, one, peer, now, most, share) for each in questions]
        return _once(heapq.merge(*answers, key=lambda row: (-row[0], row[1])))

    def _piecewise(
        self, question: _Question, one: Filter, peer: Peer, now: int, most: int, size: int
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
        self, question: _Question, one: Filter, peer: Peer, now: int, most: int, *,
        raw: bool, after: Found | None = None,
    ) -> list[Found]:  # fmt: skip
        if self._over():
            raise TimeUp
        conditions, values = list(question.conditions), list(question.values)
        time = f"{question.order}.created_at"
        if one.since is not None:
            conditions.append(f"{time} >= ?")
            values.append(one.since)
        if one.until is not None:
            conditions.append(f"{time} <= ?")
            values.append(one.until)
        if after is not None:
            at, name, _ = after
            conditions.append(f"{time} <= ? AND ({time} < ? OR e.id > ?)")
            values += [at, at, name]
        conditions.append("(e.expires IS NULL OR e.expires > ?)")
        values.append(now)
        _guard(conditions, values, peer)
        if self._policy.hides:
            conditions.append("may_read(e.id, e.pubkey, e.kind)")
        order = "s.rank, " if question.ranked else ""
        rows = self._store.execute(
            f"SELECT e.created_at, e.id, {'e.json' if raw else 'NULL'} FROM {question.source} "
            f"WHERE {' AND '.join(conditions)} ORDER BY {order}{time} DESC, e.id LIMIT ?",
            *values, most,
        )  # fmt: skip
        return [_typed(row) for row in rows]


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


def _guard(conditions: list[str], values: list[Value], peer: Peer) -> None:
    """Leave out gift wraps that are not for who asks (NIP-59)."""
    kinds = ",".join(map(str, sorted(GIFT_WRAPS)))
    readers = sorted(peer.authed)
    if not readers:
        conditions.append(f"e.kind NOT IN ({kinds})")
        return
    conditions.append(
        f"(e.kind NOT IN ({kinds}) OR EXISTS (SELECT 1 FROM tags g WHERE g.seq = e.seq "
        f"AND g.name = 'p' AND g.value IN ({_marks(readers)})))"
    )
    values.extend(readers)


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _questions(one: Filter) -> list[_Question]:
    """Split a filter into questions that an index answers in order."""
    authors = [bytes.fromhex(author) for author in sorted(one.authors or ())]
    kinds = sorted(one.kinds or ())
    if one.ids is not None or one.search is not None:
        return _together(one)
    if one.tags:
        letter, wanted = min(one.tags.items(), key=lambda item: len(item[1]))
        if len(wanted) <= BRANCHES:
            return [_tagged(one, letter, [value]) for value in sorted(wanted)]
        return _together(one)
    if authors and kinds and len(authors) * len(kinds) <= BRANCHES:
        return [
            _Question("events e", "e", ("e.pubkey = ?", "e.kind = ?"), (author, kind))
            for author, kind in product(authors, kinds)
        ]
    if authors and not kinds and len(authors) <= BRANCHES:
        return [_Question("events e", "e", ("e.pubkey = ?",), (author,)) for author in authors]
    if kinds and not authors and len(kinds) <= BRANCHES:
        return [_Question("events e", "e", ("e.kind = ?",), (kind,)) for kind in kinds]
    return _together(one)


def _together(one: Filter) -> list[_Question]:
    """Ask for all that a filter matches at once."""
    if one.search is not None and (words := expression(one.search)):
        return [_searched(one, words)]
    if one.ids is None and one.tags:
        letter, wanted = min(one.tags.items(), key=lambda item: len(item[1]))
        return [_tagged(one, letter, sorted(wanted))]
    conditions, values = _rest(one, skip="")
    if one.ids is not None:
        names = [bytes.fromhex(name) for name in sorted(one.ids)]
        conditions.insert(0, f"e.id IN ({_marks(names)})")
        values[:0] = names
    return [_Question("events e", "e", tuple(conditions), tuple(values))]


def _tagged(one: Filter, letter: str, wanted: Sequence[str]) -> _Question:
    conditions, values = _rest(one, skip=letter)
    return _Question(
        "tags t CROSS JOIN events e ON e.seq = t.seq", "t",
        ("t.name = ?", f"t.value IN ({_marks(wanted)})", *conditions),
        (letter, *wanted, *values),
    )  # fmt: skip


def _searched(one: Filter, wanted: str) -> _Question:
    conditions, values = _rest(one, skip="")
    if one.ids is not None:
        names = [bytes.fromhex(name) for name in sorted(one.ids)]
        conditions.append(f"e.id IN ({_marks(names)})")
        values += names
    return _Question(
        "search s CROSS JOIN events e ON e.seq = s.rowid", "e",
        ("search MATCH ?", *conditions), (wanted, *values), ranked=True,
    )  # fmt: skip


def _rest(one: Filter, *, skip: str) -> tuple[list[str], list[Value]]:
    conditions: list[str] = []
    values: list[Value] = []
    if one.authors is not None:
        conditions.append(f"e.pubkey IN ({_marks(sorted(one.authors))})")
        values += [bytes.fromhex(author) for author in sorted(one.authors)]
    if one.kinds is not None:
        conditions.append(f"e.kind IN ({_marks(sorted(one.kinds))})")
        values += sorted(one.kinds)
    for letter, wanted in one.tags.items():
        if letter != skip:
            conditions.append(
                "EXISTS (SELECT 1 FROM tags o WHERE o.seq = e.seq AND o.name = ? "
                f"AND o.value IN ({_marks(sorted(wanted))}))"
            )
            values += [letter, *sorted(wanted)]
    return conditions, values
