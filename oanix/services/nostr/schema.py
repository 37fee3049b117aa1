"""Schema: what NostrFs keeps. Times are seconds since the epoch."""

from typing import Final

from oanix.store import Store

DATABASE: Final = "nostr.db"

MIGRATIONS: Final = (
    """
    CREATE TABLE relays (
        url TEXT PRIMARY KEY, reads INTEGER NOT NULL, writes INTEGER NOT NULL,
        auth INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE outbox (
        id TEXT NOT NULL, url TEXT NOT NULL, json BLOB NOT NULL, since INTEGER NOT NULL,
        PRIMARY KEY (id, url)
    ) STRICT, WITHOUT ROWID;
    """,
)


def has_pending(path: str) -> bool:
    """Tell whether events are on their way. Raises OSError."""
    with Store.open(path, MIGRATIONS) as store:
        return bool(store.execute("SELECT 1 FROM outbox LIMIT 1"))
