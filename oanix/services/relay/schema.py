"""Schema: the tables of a relay. Times are seconds since the epoch; ids and keys are bytes.

1. Each event once. `address` is set for what a newer one replaces, and unique.
2. `place` orders events, newest first when read backwards, of one time the lowest id first; `short`
   and `author` are the beginnings of the id and of the key (`terms`). Indexes of such numbers are a
   quarter as large as those of the values, which a question compares as well. `by_author` holds the
   kind, so that an author's other kinds are passed over within it.
3. `tags` has, for the first value of each tag of one letter, a number that is made of it with the
   `secret`, so that nobody finds two values of one number. It has no other index: what an event
   adds to it is known from its JSON.
4. What was deleted stays known: an id with who deleted it, an address or a key until a time.
5. Whatever is found for a reader has not expired, whether the sweep has come by or not.
6. `search` holds the words of events up to the `indexed` one: it follows, so that writing an event
   never waits for it. A number of an event (the last is `numbered`) is never used again, for what
   it might still name.
"""

from typing import Final

MIGRATIONS: Final = (
    """
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        short INTEGER NOT NULL,
        author INTEGER NOT NULL,
        place INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        expires INTEGER,
        address TEXT UNIQUE,
        id BLOB NOT NULL,
        pubkey BLOB NOT NULL,
        json BLOB NOT NULL
    ) STRICT;
    CREATE INDEX by_id ON events (short);
    CREATE INDEX by_place ON events (place);
    CREATE INDEX by_author ON events (author, place, kind);
    CREATE INDEX by_kind ON events (kind, place);
    CREATE INDEX by_expiry ON events (expires) WHERE expires IS NOT NULL;
    CREATE TABLE tags (
        term INTEGER NOT NULL,
        place INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (term, place, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE secret (value BLOB NOT NULL) STRICT;
    INSERT INTO secret VALUES (randomblob(16));
    CREATE TABLE numbered (seq INTEGER NOT NULL) STRICT;
    INSERT INTO numbered VALUES (0);
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
