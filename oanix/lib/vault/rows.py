"""Rows: the tables of a vault, in a SQLite file that several processes use at once.

    vault   one row: how the data key is kept
    secret  one row a secret; `sealed` is bound to its name and its rule

`sealed` is one byte, 1 where there is a value and 0 where there is none, and the value, encrypted.
Every change is one statement or one transaction, so a kill leaves the old row or the new one.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, cast

from attrs import field, frozen

from oanix.errors import fault
from oanix.lib.vault.keys import Cost, Kept
from oanix.store import Store

MIGRATIONS: Final = (
    """
    CREATE TABLE vault (
        one     INTEGER PRIMARY KEY CHECK (one = 1),
        id      TEXT NOT NULL,
        kind    TEXT NOT NULL,
        item    TEXT NOT NULL,
        n       INTEGER NOT NULL,
        r       INTEGER NOT NULL,
        p       INTEGER NOT NULL,
        wrapped BLOB NOT NULL
    ) STRICT;
    CREATE TABLE secret (
        name    TEXT PRIMARY KEY,
        rule    TEXT NOT NULL,
        sealed  BLOB NOT NULL,
        created INTEGER NOT NULL,
        rotated INTEGER NOT NULL,
        used    INTEGER,
        uses    INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    """,
)

Use = tuple[int, int]
"""How often since it was last stored, and when last."""


@frozen
class Row:
    """One secret as it is stored; times in nanoseconds since the epoch."""

    name: str
    rule: str
    sealed: bytes = field(repr=False)
    created: int
    rotated: int
    used: int | None = None
    uses: int = 0


class Rows:
    """The tables. While the file does not exist there are no rows; the first change makes it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._store: Store | None = None
        self._changes = 0

    def revision(self) -> tuple[int, int]:
        """Give what differs after each change, by this process or another."""
        store = self._look()
        if store is None:
            return (0, 0)
        # Counts the commits of the others only (sqlite.org/pragma.html#pragma_data_version).
        return cast("int", store.execute("PRAGMA data_version")[0][0]), self._changes

    def kept(self) -> Kept | None:
        """Read how the data key is kept; None for a vault that was not made yet."""
        store = self._look()
        rows = store.execute("SELECT id, kind, item, n, r, p, wrapped FROM vault") if store else []
        if not rows:
            return None
        vault, kind, item, n, r, p, wrapped = cast(
            "tuple[str, str, str, int, int, int, bytes]", rows[0]
        )
        return Kept(vault, kind, item, Cost(n, r, p), wrapped)

    def keep(self, new: Kept, instead_of: Kept | None) -> None:
        """Store how the data key is kept. Raises OSError EBUSY when that changed meanwhile."""
        with self.transaction():
            if self.kept() != instead_of:
                raise fault(errno.EBUSY, "another process changed the vault's key; try again")
            self._make().execute(
                "INSERT OR REPLACE INTO vault VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
                new.vault, new.kind, new.item, new.cost.n, new.cost.r, new.cost.p, new.wrapped,
            )  # fmt: skip

    def all(self) -> dict[str, Row]:
        """Read every row, by name."""
        store = self._look()
        if store is None:
            return {}
        with _readable(self.path):
            rows = store.execute(f"{_SELECT} ORDER BY name")
        return {row.name: row for row in map(_row, rows)}

    def get(self, name: str) -> Row | None:
        """Read one row."""
        store = self._look()
        if store is None:
            return None
        with _readable(self.path):
            rows = store.execute(f"{_SELECT} WHERE name = ?", name)
        return _row(rows[0]) if rows else None

    def put(self, row: Row) -> None:
        """Store a row, in place of one of that name."""
        self._make().execute(
            "INSERT OR REPLACE INTO secret VALUES (?, ?, ?, ?, ?, ?, ?)",
            row.name, row.rule, row.sealed, row.created, row.rotated, row.used, row.uses,
        )  # fmt: skip
        self._changes += 1

    def remove(self, name: str) -> bool:
        """Remove a row; tell whether there was one."""
        store = self._look()
        if store is None:
            return False
        self._changes += 1
        return bool(store.execute("DELETE FROM secret WHERE name = ? RETURNING name", name))

    def add_uses(self, uses: Mapping[str, Use]) -> None:
        """Add to the counts of uses, all at once."""
        store = self._look()
        if store is None:
            return
        with self.transaction():
            for name, (count, last) in uses.items():
                store.execute(
                    "UPDATE secret SET uses = uses + ?, used = max(ifnull(used, 0), ?) "
                    "WHERE name = ?", count, last, name,
                )  # fmt: skip
        self._changes += 1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of the block or nothing, while no other process changes anything."""
        with self._make().transaction():
            yield
        self._changes += 1

    def close(self) -> None:
        """Close the file."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _look(self) -> Store | None:
        if self._store is None and os.path.lexists(self.path):
            return self._make()
        return self._store

    def _make(self) -> Store:
        if self._store is None:
            self._store = Store.open(self.path, MIGRATIONS)
        return self._store


@contextmanager
def _readable(path: str) -> Iterator[None]:
    # SQLite checks no text: what somebody wrote into the file may be no UTF-8.
    try:
        yield
    except UnicodeDecodeError:
        raise fault(errno.EIO, f"{path} was changed outside this program", path) from None


_SELECT: Final = "SELECT name, rule, sealed, created, rotated, used, uses FROM secret"


def _row(values: object) -> Row:
    return Row(*cast("tuple[str, str, bytes, int, int, int | None, int]", values))
