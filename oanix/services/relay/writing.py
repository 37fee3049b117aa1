"""Writing: puts events into the tables, by the rules of what replaces and what deletes (NIP-01, 9,
40, 62). It runs in one thread at a time; a batch is one transaction.
"""

import logging
from collections.abc import Sequence

from oanix.lib.nostr import Event, Invalid, encode
from oanix.services.relay.rules import DELETION, GIFT_WRAP, SEARCHED, VANISH, Outcome
from oanix.services.relay.searching import words_of
from oanix.store import Statements, Store

log = logging.getLogger(__name__)

EVERYWHERE = "ALL_RELAYS"

_KNOWN = (
    "SELECT EXISTS (SELECT 1 FROM events WHERE id = ?), "
    "EXISTS (SELECT 1 FROM deleted WHERE id = ? AND pubkey = ?), "
    "EXISTS (SELECT 1 FROM vanished WHERE pubkey = ? AND until >= ?)"
)
# Nobody has the key that signed a wrap: its readers delete it, and it vanishes with them (NIP-59).
_UNWANTED = (
    "WITH readers AS MATERIALIZED (SELECT unhex(value) AS key FROM json_each(?)) "
    "SELECT EXISTS (SELECT 1 FROM deleted WHERE id = ? AND pubkey IN (SELECT key FROM readers)), "
    "EXISTS (SELECT 1 FROM readers JOIN vanished ON pubkey = key WHERE until >= ?)"
)
_SEARCHED = f"[{','.join(map(str, sorted(SEARCHED)))}]"


class Writer:
    """The one writer of a relay's database. url: by which requests to vanish name this relay."""

    def __init__(self, store: Store, url: str = "") -> None:
        self._store = store
        self.url = url.rstrip("/")

    def commit(self, events: Sequence[Event]) -> list[Outcome]:
        """Keep what is to be kept, durably, of events that were checked.

        An event that comes twice in a batch is a duplicate the second time. Raises OSError, with
        nothing kept.
        """
        with self._store.transaction() as statements:
            return [self._put(event, statements) for event in events]

    def sweep(self, now: int) -> int:
        """Remove what has expired; gives how many."""
        with self._store.transaction():
            self._store.execute("DELETE FROM events WHERE expires <= ?", now)
            return int(str(self._store.execute("SELECT changes()")[0][0]))

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

    def _put(self, event: Event, statements: Statements) -> Outcome:
        refusal = self._known(event, statements)
        if refusal is not None:
            return refusal
        if event.is_ephemeral:
            return Outcome(True, fresh=True)
        address = event.address
        if address is not None and (newer := self._replace(event, address)):
            return newer
        self._insert(event, address, statements)
        if event.kind == DELETION:
            self._delete(event)
        elif event.kind == VANISH and {self.url, EVERYWHERE} & {
            value.rstrip("/") for value in event.values("relay")
        }:
            self._vanish(event)
        return Outcome(True, fresh=True)

    def _known(self, event: Event, statements: Statements) -> Outcome | None:
        """Refuse what is here already, what its author has deleted, and who has vanished."""
        name, author = bytes.fromhex(event.id), bytes.fromhex(event.pubkey)
        found = statements.row(_KNOWN, (name, name, author, author, event.created_at))
        assert found is not None
        if found[0]:
            return Outcome(True, "duplicate: this event is here already")
        deleted = bool(found[1])
        if not deleted and event.address is not None:
            kept = statements.row(
                "SELECT 1 FROM deleted_addresses WHERE address = ? AND until >= ?",
                (event.address, event.created_at),
            )
            deleted = kept is not None
        if deleted and event.kind != DELETION:
            return Outcome(False, "blocked: its author has deleted this event")
        if found[2]:
            return Outcome(False, "blocked: its author asked to vanish from here")
        return self._unwanted(event, statements) if event.kind == GIFT_WRAP else None

    def _unwanted(self, event: Event, statements: Statements) -> Outcome | None:
        readers = encode(event.values("p")).decode()
        found = statements.row(_UNWANTED, (readers, bytes.fromhex(event.id), event.created_at))
        assert found is not None
        if found[0]:
            return Outcome(False, "blocked: its reader has deleted this gift wrap")
        if found[1]:
            return Outcome(False, "blocked: its reader asked to vanish from here")
        return None

    def _replace(self, event: Event, address: str) -> Outcome | None:
        found = self._store.execute(
            "SELECT seq, created_at, id FROM events WHERE address = ?", address
        )
        for seq, at, name in found:
            assert isinstance(at, int)
            assert isinstance(name, bytes)
            if not event.replaces(at, name.hex()):
                return Outcome(False, "blocked: a newer version of this event is here")
            self._store.execute("DELETE FROM events WHERE seq = ?", seq)
        return None

    def _insert(self, event: Event, address: str | None, statements: Statements) -> None:
        at = event.created_at
        statements.run(
            "INSERT INTO events (id, pubkey, kind, created_at, expires, address, json) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                bytes.fromhex(event.id), bytes.fromhex(event.pubkey), event.kind, at,
                event.expiration, address, event.json(),
            ),
        )  # fmt: skip
        seq = statements.last_id
        tags = [(name, value, at, seq) for name, value in event.indexed]
        if tags:
            statements.each("INSERT OR IGNORE INTO tags VALUES (?, ?, ?, ?)", tags)

    def _delete(self, event: Event) -> None:
        key = bytes.fromhex(event.pubkey)
        for value in event.values("e"):
            if len(value) != 64:
                continue
            try:
                name = bytes.fromhex(value)
            except ValueError:
                continue
            # A deletion of a deletion, or of a request to vanish, does nothing (NIP-9, NIP-62).
            self._store.execute(
                "DELETE FROM events WHERE id = ? AND pubkey = ? AND kind NOT IN (?, ?)",
                name, key, DELETION, VANISH,
            )  # fmt: skip
            self._store.execute(
                "DELETE FROM events WHERE id = ? AND kind = ? AND EXISTS (SELECT 1 FROM tags WHERE "
                "name = 'p' AND value = ? AND created_at = events.created_at AND seq = events.seq)",
                name, GIFT_WRAP, event.pubkey,
            )  # fmt: skip
            self._store.execute("INSERT OR IGNORE INTO deleted VALUES (?, ?)", name, key)
        for address in event.values("a"):
            if address.split(":")[1:2] != [event.pubkey]:
                continue
            self._store.execute(
                "DELETE FROM events WHERE address = ? AND created_at <= ?",
                address, event.created_at,
            )  # fmt: skip
            self._store.execute(
                "INSERT INTO deleted_addresses VALUES (?, ?) ON CONFLICT (address) "
                "DO UPDATE SET until = max(until, excluded.until)",
                address, event.created_at,
            )  # fmt: skip

    def _vanish(self, event: Event) -> None:
        key, until = bytes.fromhex(event.pubkey), event.created_at
        self._store.execute(
            "DELETE FROM events WHERE pubkey = ? AND created_at <= ? AND id != ?",
            key, until, bytes.fromhex(event.id),
        )  # fmt: skip
        self._store.execute(
            "DELETE FROM events WHERE kind = ? AND created_at <= ? AND seq IN "
            "(SELECT seq FROM tags WHERE name = 'p' AND value = ?)",
            GIFT_WRAP, until, event.pubkey,
        )  # fmt: skip
        self._store.execute(
            "INSERT INTO vanished VALUES (?, ?) ON CONFLICT (pubkey) "
            "DO UPDATE SET until = max(until, excluded.until)",
            key, until,
        )  # fmt: skip


def _words(raw: bytes) -> str:
    try:
        return words_of(Event.parse(raw))
    except Invalid as error:
        # The disk has lost it; all that comes after it is still to be found.
        log.warning("a stored event cannot be read, nor searched: %s", error.reason)
        return ""
