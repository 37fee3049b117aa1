"""Schema: the tables of a relay. Times are seconds since the epoch; ids and keys are bytes.

1. Each event once. `address` is set for what a newer one replaces, and unique.
2. `tags` has the first values of one-letter tags, with the time: newest first needs no sort.
3. What was deleted stays known: an id with who deleted it, an address or a key until a time.
4. Whatever is found for a reader has not expired, whether the sweep has come by or not.
5. `search` holds the words of events up to the `indexed` one: it follows, so that writing an event
   never waits for it. A number of an event is never used again, for what it might still name.
"""

from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        pubkey BLOB NOT NULL,
        kind INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        expires INTEGER,
        address TEXT UNIQUE,
        json BLOB NOT NULL
    ) STRICT;
    CREATE INDEX by_time ON events (created_at DESC, id);
    CREATE INDEX by_author ON events (pubkey, created_at DESC, id);
    CREATE INDEX by_author_kind ON events (pubkey, kind, created_at DESC, id);
    CREATE INDEX by_kind ON events (kind, created_at DESC, id);
    CREATE INDEX by_expiry ON events (expires) WHERE expires IS NOT NULL;
    CREATE TABLE tags (
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        seq INTEGER NOT NULL REFERENCES events ON DELETE CASCADE,
        PRIMARY KEY (name, value, created_at DESC, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tags_of ON tags (seq);
    CREATE TABLE deleted (
        id BLOB NOT NULL, pubkey BLOB NOT NULL, PRIMARY KEY (id, pubkey)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE deleted_addresses (
        address TEXT PRIMARY KEY, until INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE vanished (
        pubkey BLOB PRIMARY KEY, until INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE VIRTUAL TABLE search USING fts5 (
        words, content='', contentless_delete=1, tokenize="unicode61 remove_diacritics 2"
    );
    CREATE TRIGGER unsearchable AFTER DELETE ON events BEGIN
        DELETE FROM search WHERE rowid = old.seq;
    END;
    CREATE TABLE indexed (seq INTEGER NOT NULL) STRICT;
    INSERT INTO indexed VALUES (0);
    CREATE TABLE settings (
        name TEXT PRIMARY KEY, value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
)
