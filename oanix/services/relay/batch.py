"""Batch: events on their way into the tables together, by the rules of what replaces and what
deletes (NIP-01, 9, 40, 62).

What the database knows of all of them is read at once, and what is kept is written at once: a
statement for each would cost more than the check of a signature. An event that deletes others ends
a batch, as it changes what is known.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, cast

from oanix.lib.nostr import Event, encode
from oanix.services.relay.rules import DELETION, GIFT_WRAP, VANISH, Outcome
from oanix.services.relay.terms import Terms, place, short
from oanix.store import Row, Statements

FRESH: Final = Outcome(True, fresh=True)
DUPLICATE: Final = Outcome(True, "duplicate: this event is here already")
DELETED: Final = Outcome(False, "blocked: its author has deleted this event")
VANISHED: Final = Outcome(False, "blocked: its author asked to vanish from here")
READER_DELETED: Final = Outcome(False, "blocked: its reader has deleted this gift wrap")
READER_VANISHED: Final = Outcome(False, "blocked: its reader asked to vanish from here")
OLDER: Final = Outcome(False, "blocked: a newer version of this event is here")

REMOVED: Final = 1_000
"""Events that are removed by one statement."""

_HERE: Final = (
    "SELECT e.id FROM json_each(?) c CROSS JOIN events e ON e.short = c.value "
    "WHERE e.id IN (SELECT unhex(value) FROM json_each(?))"
)
_DELETED: Final = (
    "SELECT d.id, d.pubkey FROM json_each(?) c CROSS JOIN deleted d ON d.id = unhex(c.value)"
)
_VANISHED: Final = (
    "SELECT v.pubkey, v.until FROM json_each(?) c "
    "CROSS JOIN vanished v ON v.pubkey = unhex(c.value)"
)
_GONE: Final = (
    "SELECT d.address, d.until FROM json_each(?) c CROSS JOIN deleted_addresses d "
    "ON d.address = c.value"
)
_HELD: Final = (
    "SELECT e.address, e.created_at, e.id, e.seq FROM json_each(?) c CROSS JOIN events e "
    "ON e.address = c.value"
)
_REMOVED: Final = (
    "SELECT e.json, e.place, e.seq FROM json_each(?) c CROSS JOIN events e ON e.seq = c.value"
)


def split(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """Split events into batches."""
    first = 0
    for number, event in enumerate(events, 1):
        if event.kind == DELETION or event.kind == VANISH:
            yield events[first:number]
            first = number
    if first < len(events):
        yield events[first:]


def listed(values: Sequence[object]) -> str:
    """Write values for `json_each`."""
    return encode(values).decode()


def unhexed(values: Iterable[str]) -> set[bytes]:
    """Give the ids and keys among the values of tags."""
    found = set()
    for value in values:
        if len(value) == 64:
            with suppress(ValueError):
                found.add(bytes.fromhex(value))
    return found


def remove(statements: Statements, terms: Terms, found: Sequence[Row]) -> None:
    """Remove the events with these numbers, and all that names them."""
    numbers = [seq for (seq,) in found]
    for at in range(0, len(numbers), REMOVED):
        some = numbers[at : at + REMOVED]
        tags: list[tuple[int, int, int]] = []
        for raw, at_place, seq in statements.rows(_REMOVED, listed(some)):
            tags += terms.stored(raw, cast("int", at_place), cast("int", seq))
        statements.each("DELETE FROM tags WHERE term = ? AND place = ? AND seq = ?", tags)
        statements.each("DELETE FROM events WHERE seq = ?", [(seq,) for seq in some])


class Batch:
    """Events that are put one after the other, and then written."""

    def __init__(self, statements: Statements, terms: Terms, events: Sequence[Event]) -> None:
        """Read what is known of events, all that will be put."""
        self._statements = statements
        self._terms = terms
        self._kept: dict[bytes, tuple[Event, str | None]] = {}
        self._replaced: list[Row] = []
        names = [event.id for event in events]
        keys = {event.pubkey for event in events}
        for event in events:
            if event.kind == GIFT_WRAP:
                keys.update(event.values("p"))
        addresses = [address for event in events if (address := event.address) is not None]
        rows = statements.rows
        ids = listed(names)
        shorts = listed([short(bytes.fromhex(name)) for name in names])
        self._here = {name for (name,) in rows(_HERE, shorts, ids)}
        self._deleted = set(rows(_DELETED, ids))
        self._vanished = _times(rows(_VANISHED, listed([*keys])))
        self._gone = _times(rows(_GONE, listed(addresses))) if addresses else {}
        held = rows(_HELD, listed(addresses)) if addresses else ()
        self._held: dict[object, Row] = {row[0]: row[1:] for row in held}

    def put(self, event: Event) -> Outcome:
        """Take an event, or refuse it; what is taken is written later."""
        name = bytes.fromhex(event.id)
        address = event.address
        refusal = self._known(event, name, address)
        if refusal is not None:
            return refusal
        if event.is_ephemeral:
            return FRESH
        if address is not None and not self._replace(event, name, address):
            return OLDER
        self._here.add(name)
        self._kept[name] = event, address
        return FRESH

    def _known(self, event: Event, name: bytes, address: str | None) -> Outcome | None:
        """Refuse what is here already, what its author has deleted, and who has vanished."""
        if name in self._here:
            return DUPLICATE
        author = bytes.fromhex(event.pubkey)
        at = event.created_at
        deleted = (name, author) in self._deleted or at <= self._gone.get(address, -1)
        if deleted and event.kind != DELETION:
            return DELETED
        if at <= self._vanished.get(author, -1):
            return VANISHED
        return self._unwanted(event, name) if event.kind == GIFT_WRAP else None

    def _unwanted(self, event: Event, name: bytes) -> Outcome | None:
        # Nobody has the key that signed a wrap: its readers delete it, and it vanishes with them
        # (NIP-59).
        readers = unhexed(event.values("p"))
        if any((name, reader) in self._deleted for reader in readers):
            return READER_DELETED
        if any(event.created_at <= self._vanished.get(reader, -1) for reader in readers):
            return READER_VANISHED
        return None

    def _replace(self, event: Event, name: bytes, address: str) -> bool:
        """Have an event take the place of an older one; tells whether it may."""
        held = self._held.get(address)
        if held is not None:
            at, old, seq = held
            assert isinstance(at, int)
            assert isinstance(old, bytes)
            if not event.replaces(at, old.hex()):
                return False
            self._here.discard(old)
            if seq is None:
                del self._kept[old]
            else:
                self._replaced.append((seq,))
        self._held[address] = event.created_at, name, None
        return True

    def write(self, last: int) -> int:
        """Write what was kept, with numbers after the last; gives the last one now."""
        remove(self._statements, self._terms, self._replaced)
        rows: list[Row] = []
        tags: list[tuple[int, int, int]] = []
        for seq, (name, (event, address)) in enumerate(self._kept.items(), last + 1):
            author = bytes.fromhex(event.pubkey)
            at = place(event.created_at, name)
            rows.append(
                (
                    seq, short(name), short(author), at, event.kind, event.created_at,
                    event.expiration, address, name, author, event.json(),
                )
            )  # fmt: skip
            tags += self._terms.rows(event, at, seq)
        # In the order of the index, neighbours find their page at hand.
        tags.sort()
        self._statements.each("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._statements.each("INSERT OR IGNORE INTO tags VALUES (?, ?, ?)", tags)
        return last + len(rows)


def _times(rows: Iterable[Row]) -> dict[object, int]:
    return {what: cast("int", until) for what, until in rows}
