"""Planning: splits a filter into questions to the database that its indexes answer in order.

There is one question for each value of the most telling list (each author, each value of a tag); a
search, and a list that is too long for that, is one question. An index is asked for the beginning
of a value, or for a number made of it (`terms`), so each question has the value as well.
"""

from collections.abc import Sequence
from itertools import product
from typing import Final, TypeAlias

from attrs import frozen

from oanix.lib.nostr import Event, Filter, Invalid
from oanix.lib.nostr.event import is_replaceable
from oanix.services.relay.rules import GIFT_WRAPS, Peer
from oanix.services.relay.searching import expression
from oanix.services.relay.terms import Terms, short
from oanix.store import Value

BRANCHES: Final = 400
"""Values of a list that are asked for one by one; more are asked for together, and sorted."""

PROBED: Final = 16
"""Values of a tag that are looked up for an event that was found; more are looked for in it."""

Condition: TypeAlias = tuple[str, Sequence[Value]]
"""SQL, and the values of its question marks."""


@frozen
class Question:
    """A part of SQL: from where, in which order, under which conditions."""

    source: str
    order: str
    conditions: tuple[Condition, ...]
    ranked: bool = False


class Planner:
    """Makes the questions of filters. `has_tag` is to be a function of the database."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._long: list[tuple[str, frozenset[str]]] = []

    def forget(self) -> None:
        """Forget the long lists of what was answered."""
        self._long.clear()

    def has_tag(self, raw: bytes, number: int) -> int:
        """Tell whether the JSON of an event has a tag with one of the values of a long list."""
        letter, wanted = self._long[number]
        try:
            return not wanted.isdisjoint(Event.parse(raw).values(letter))
        except Invalid:
            return 0  # the disk has damaged it, and what it had is unknown

    def apart(self, one: Filter) -> list[Question]:
        """Split a filter into questions whose answers come in order, where that pays."""
        if one.ids is not None or one.search is not None:
            return [self.together(one)]
        if one.tags:
            letter, wanted = _shortest(one)
            if len(wanted) <= BRANCHES:
                return [self._tagged(one, letter, value) for value in sorted(wanted)]
        elif one.authors is not None:
            return self._written(one, sorted(one.authors), one.kinds)
        elif one.kinds is not None and len(one.kinds) <= BRANCHES:
            return [_plain([("e.kind = ?", [kind])]) for kind in sorted(one.kinds)]
        return [self.together(one)]

    def together(self, one: Filter) -> Question:
        """Ask for all that a filter matches at once."""
        if one.search is not None and (words := expression(one.search)):
            return Question(
                "search s CROSS JOIN events e ON e.seq = s.rowid", "e",
                (("search MATCH ?", [words]), *_named(one), *self._rest(one)), ranked=True,
            )  # fmt: skip
        if one.ids is None and one.tags:
            letter, wanted = _shortest(one)
            among, values = _among("t.term", self._terms.each(letter, wanted))
            tagged = f"e.seq IN (SELECT t.seq FROM tags t WHERE {among})"
            return _plain([(tagged, values), *self._rest(one, skip=letter)])
        conditions = [*_named(one), *self._rest(one)]
        if not conditions:
            # SQLite would rather sort everything than look up what an index of all has in order.
            return Question("events e INDEXED BY by_place", "e", ())
        return _plain(conditions)

    def guard(self, peer: Peer) -> Condition:
        """Leave out gift wraps that are not for who asks (NIP-59)."""
        kinds = ",".join(map(str, sorted(GIFT_WRAPS)))
        if not peer.authed:
            return f"e.kind NOT IN ({kinds})", ()
        tagged, values = self._has("p", peer.authed)
        return f"(e.kind NOT IN ({kinds}) OR {tagged})", values

    def _written(
        self, one: Filter, authors: list[str], kinds: frozenset[int] | None
    ) -> list[Question]:
        # What an author replaces has an address, and is not looked for among all that he wrote.
        alone = sorted(filter(is_replaceable, kinds or ()))
        if len(authors) > BRANCHES or len(authors) * len(alone) > BRANCHES:
            return [self.together(one)]
        found = []
        others = sorted(kinds.difference(alone)) if kinds is not None else []
        if others or kinds is None:
            among = [_among("+e.kind", others)] if others else []
            found = [_plain([*_by([author]), *among]) for author in authors]
        if alone:
            addresses = [f"{kind}:{author}:" for kind, author in product(alone, authors)]
            found.append(_plain([_among("e.address", addresses)]))
        return found

    def _tagged(self, one: Filter, letter: str, value: str) -> Question:
        return Question(
            "tags t CROSS JOIN events e ON e.seq = t.seq", "t",
            (("t.term = ?", [self._terms.of(letter, value)]), *self._rest(one, skip=letter)),
        )  # fmt: skip

    def _rest(self, one: Filter, *, skip: str = "") -> list[Condition]:
        found: list[Condition] = []
        if one.authors is not None:
            found += _by(sorted(one.authors))
        if one.kinds is not None:
            # The sign keeps SQLite from looking among all of a kind where it could among fewer.
            column = "e.kind" if one == Filter(kinds=one.kinds) else "+e.kind"
            found.append(_among(column, sorted(one.kinds)))
        return found + [
            self._has(letter, wanted) for letter, wanted in one.tags.items() if letter != skip
        ]

    def _has(self, letter: str, wanted: frozenset[str]) -> Condition:
        if len(wanted) > PROBED:
            self._long.append((letter, wanted))
            return "has_tag(e.json, ?)", [len(self._long) - 1]
        among, values = _among("o.term", self._terms.each(letter, wanted))
        return (
            f"EXISTS (SELECT 1 FROM tags o WHERE {among} "
            "AND o.place = e.place AND o.seq = e.seq)",
            values,
        )  # fmt: skip


def _plain(conditions: Sequence[Condition]) -> Question:
    return Question("events e", "e", tuple(conditions))


def _shortest(one: Filter) -> tuple[str, frozenset[str]]:
    return min(one.tags.items(), key=lambda item: len(item[1]))


def _named(one: Filter) -> list[Condition]:
    return _both("e.short", "e.id", sorted(one.ids)) if one.ids is not None else []


def _by(authors: Sequence[str]) -> list[Condition]:
    return _both("e.author", "e.pubkey", authors)


def _both(number: str, whole: str, values: Sequence[str]) -> list[Condition]:
    raw = list(map(bytes.fromhex, values))
    return [_among(number, list(map(short, raw))), _among(whole, raw)]


def _among(column: str, values: Sequence[Value]) -> Condition:
    return f"{column} IN ({','.join('?' * len(values))})", values
