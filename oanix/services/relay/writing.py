"""Writing: puts events into the tables, takes them out again, and makes their words findable. It
runs in one thread at a time; a group of events is one transaction.
"""

import logging
from collections.abc import Sequence
from typing import cast

from oanix.lib.nostr import Event, Invalid
from oanix.services.relay.batch import Batch, listed, remove, split, unhexed
from oanix.services.relay.rules import DELETION, GIFT_WRAP, SEARCHED, VANISH, Outcome
from oanix.services.relay.searching import words_of
from oanix.services.relay.terms import Terms, short
from oanix.store import Row, Statements, Store

log = logging.getLogger(__name__)

EVERYWHERE = "ALL_RELAYS"

_NAMED = (
    "SELECT e.seq, e.id, e.pubkey, e.kind, EXISTS (SELECT 1 FROM tags t WHERE t.term = ? "
    "AND t.place = e.place AND t.seq = e.seq) "
    "FROM json_each(?) c CROSS JOIN events e ON e.short = c.value"
)
_ADDRESSED = (
    "SELECT e.seq FROM json_each(?) c CROSS JOIN events e ON e.address = c.value "
    "WHERE e.created_at <= ?"
)
_GONE = (
    "INSERT INTO deleted_addresses VALUES (?, ?) ON CONFLICT (address) "
    "DO UPDATE SET until = max(until, excluded.until)"
)
_SEARCHED = f"[{','.join(map(str, sorted(SEARCHED)))}]"


class Writer:
    """The one writer of a relay's database. url: by which requests to vanish name this relay."""

    def __init__(self, store: Store, url: str = "") -> None:
        self._store = store
        self._terms = Terms(store)
        self.url = url.rstrip("/")

    def commit(self, events: Sequence[Event]) -> list[Outcome]:
        """Keep what is to be kept, durably, of events that were checked.

        An event that comes twice in a batch is a duplicate the second time. Raises OSError, with
        nothing kept.
        """
        outcomes: list[Outcome] = []
        with self._store.transaction() as statements:
            [(first,)] = statements.rows("SELECT seq FROM numbered")
            last = cast("int", first)
            for some in split(events):
                batch = Batch(statements, self._terms, some)
                outcomes += map(batch.put, some)
                last = batch.write(last)
                if outcomes[-1].fresh:
                    self._undo(some[-1], statements)
            if last != first:
                statements.run("UPDATE numbered SET seq = ?", (last,))
        return outcomes

    def sweep(self, now: int) -> int:
        """Remove what has expired; gives how many."""
        with self._store.transaction() as statements:
            found = statements.rows("SELECT seq FROM events WHERE expires <= ?", now)
            remove(statements, self._terms, found)
        return len(found)

    def index(self, most: int) -> bool:
        """Make the next events findable by their words; tells whether more are left."""
        with self._store.transaction():
            [(done,)] = self._store.execute("SELECT seq FROM indexed")
            rows = self._store.execute(
                "SELECT seq, CASE WHEN kind IN (SELECT value FROM json_each(?)) THEN json END "
                "FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
                _SEARCHED, done, most,
            )  # fmt: skip
            for seq, raw in rows:
                if isinstance(raw, bytes) and (words := _words(raw)):
                    self._store.execute(
                        "INSERT INTO search (rowid, words) VALUES (?, ?)", seq, words
                    )
            if rows:
                self._store.execute("UPDATE indexed SET seq = ?", rows[-1][0])
        return len(rows) == most

    def _undo(self, event: Event, statements: Statements) -> None:
        """Do what an event asks for that was written, if it is one that removes others."""
        if event.kind == DELETION:
            self._delete(event, statements)
        elif event.kind == VANISH and {self.url, EVERYWHERE} & {
            value.rstrip("/") for value in event.values("relay")
        }:
            self._vanish(event, statements)

    def _delete(self, event: Event, statements: Statements) -> None:
        key = bytes.fromhex(event.pubkey)
        names = unhexed(event.values("e"))
        found = statements.rows(
            _NAMED, self._terms.of("p", event.pubkey), listed([short(name) for name in names])
        )
        # A deletion of a deletion, or of a request to vanish, does nothing (NIP-9, NIP-62).
        gone: list[Row] = [
            (seq,)
            for seq, name, author, kind, names_reader in found
            if name in names
            and (
                (author == key and kind not in (DELETION, VANISH))
                or (kind == GIFT_WRAP and names_reader)
            )
        ]
        statements.each("INSERT OR IGNORE INTO deleted VALUES (?, ?)", [(n, key) for n in names])
        addresses = [
            address for address in event.values("a") if address.split(":")[1:2] == [event.pubkey]
        ]
        gone += statements.rows(_ADDRESSED, listed(addresses), event.created_at)
        statements.each(_GONE, [(address, event.created_at) for address in addresses])
        remove(statements, self._terms, gone)

    def _vanish(self, event: Event, statements: Statements) -> None:
        key, until = bytes.fromhex(event.pubkey), event.created_at
        written = statements.rows(
            "SELECT seq FROM events WHERE author = ? AND pubkey = ? AND created_at <= ? "
            "AND id != ?",
            short(key), key, until, bytes.fromhex(event.id),
        )  # fmt: skip
        received = statements.rows(
            "SELECT e.seq FROM tags t CROSS JOIN events e ON e.seq = t.seq "
            "WHERE t.term = ? AND e.kind = ? AND e.created_at <= ?",
            self._terms.of("p", event.pubkey), GIFT_WRAP, until,
        )  # fmt: skip
        remove(statements, self._terms, [*written, *received])
        statements.run(
            "INSERT INTO vanished VALUES (?, ?) ON CONFLICT (pubkey) "
            "DO UPDATE SET until = max(until, excluded.until)",
            (key, until),
        )


def _words(raw: bytes) -> str:
    try:
        return words_of(Event.parse(raw))
    except Invalid as error:
        # The disk has lost it; all that comes after it is still to be found.
        log.warning("a stored event cannot be read, nor searched: %s", error.reason)
        return ""
