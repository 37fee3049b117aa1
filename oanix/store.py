"""Store: a SQLite database that outlives a crash, and its errors as errnos (sqlite.org/wal.html).

The one importer of apsw. A schema is a list of migrations: the first makes the tables, each later
one changes them, and what was once released is never edited. `PRAGMA user_version` counts those
that are done; each is done in a transaction of its own, together with its number, so that a kill
leaves all of it or nothing.

A store belongs to one thread at a time. Several processes, and several stores of one process, may
have the same database open: writers wait for each other, up to `BUSY_S`.
"""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeAlias, TypeVar, cast

import apsw

from oanix.errors import fault

log = logging.getLogger(__name__)

BUSY_S = 5.0
"""How long a writer waits for the others."""

RETRY_S = 0.01
"""How often is tried again what SQLite itself does not wait for: the first switch to WAL."""

WAL_BYTES = 67_108_864
"""To how much the write-ahead log is cut back after it has grown."""

PAGE_BYTES = 4_096

Value: TypeAlias = int | float | str | bytes | None
Row: TypeAlias = tuple[Value, ...]
R = TypeVar("R")

_MEANING: dict[int, tuple[int, str]] = {
    apsw.SQLITE_FULL: (errno.ENOSPC, "the disk is full: make room and try again"),
    apsw.SQLITE_IOERR: (errno.EIO, "the disk failed; the system's log has more"),
    apsw.SQLITE_IOERR_SHMSIZE: (errno.ENOSPC, "the disk is full: make room and try again"),
    apsw.SQLITE_READONLY: (errno.EROFS, "the file or its disk is read-only"),
    apsw.SQLITE_PERM: (errno.EACCES, "this user may not use it"),
    apsw.SQLITE_CANTOPEN: (errno.EACCES, "it, or a file beside it, cannot be opened"),
    apsw.SQLITE_BUSY: (errno.EBUSY, f"another process kept it busy for {BUSY_S:g} s; try again"),
    apsw.SQLITE_LOCKED: (errno.EBUSY, "another connection of this process keeps it busy"),
    apsw.SQLITE_PROTOCOL: (errno.EBUSY, "other processes kept it busy; try again"),
    apsw.SQLITE_CORRUPT: (errno.EIO, "it is damaged: restore it from a copy, or move it away"),
    apsw.SQLITE_NOTADB: (errno.EIO, "it is no database: restore it from a copy, or move it away"),
    apsw.SQLITE_NOMEM: (errno.ENOMEM, "no memory is left"),
    apsw.SQLITE_TOOBIG: (errno.EMSGSIZE, "a value is larger than a database can hold"),
    apsw.SQLITE_INTERRUPT: (errno.EINTR, "it was interrupted"),
    apsw.SQLITE_CONSTRAINT: (errno.EINVAL, "it holds a value that its tables refuse"),
    apsw.SQLITE_CONSTRAINT_UNIQUE: (errno.EEXIST, "this exists already"),
    apsw.SQLITE_CONSTRAINT_PRIMARYKEY: (errno.EEXIST, "this exists already"),
}
"""SQLite's result codes (sqlite.org/rescode.html) as errnos. What is not here is a defect."""


class Store:
    """A database. Every method raises OSError with the errno and the sentence of `_MEANING`."""

    def __init__(self, connection: apsw.Connection, path: str) -> None:
        self._connection = connection
        self.path = path

    @classmethod
    def open(
        cls, path: str, migrations: Sequence[str], *, durable: bool = True, cache_bytes: int = 0
    ) -> "Store":
        """Open a database and bring its schema up to date; what does not exist is made (0600).

        cache_bytes: what it may keep in memory where it is large and much used, and how far its log
        grows before it is written back. Without `durable` a power cut may undo the last
        transactions, but never break the file. Raises OSError: EOPNOTSUPP for a database of a newer
        program; EACCES, EROFS, EISDIR, ELOOP for a symbolic link, and as open(2) for what cannot be
        used.
        """
        path = _usable(path)
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
        with _meant(path):
            store = cls(apsw.Connection(path, flags=flags), path)
        try:
            with _meant(path):
                store._configure(durable)
                if cache_bytes:
                    store._enlarge(cache_bytes)
                store._migrate(migrations)
        except BaseException:
            store.close()
            raise
        return store

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def execute(self, sql: str, *values: Value) -> list[Row]:
        """Run SQL with these values for its question marks, and give the rows it answers.

        Outside `transaction` it is one of its own, and durable when this returns. Raises OSError:
        EEXIST for a key that is taken, EINVAL for another constraint, EBUSY, ENOSPC, EIO.
        """
        with _meant(self.path):
            return cast("list[Row]", self._connection.execute(sql, values).fetchall())

    @contextmanager
    def transaction(self) -> Iterator["Statements"]:
        """Do all of the block or, when it raises, nothing of it (BEGIN IMMEDIATE); no nesting.

        It gives a way to run statements that costs less than `execute`, for where there are many.
        Await nothing in it: whoever else comes meanwhile would be part of it.
        """
        if not self._connection.get_autocommit():
            raise RuntimeError("a transaction within a transaction")
        self.execute("BEGIN IMMEDIATE")
        try:
            with _meant(self.path):
                yield Statements(self._connection)
            self.execute("COMMIT")
        except BaseException:
            # A full disk makes SQLite itself roll back; a second time would be an error.
            if not self._connection.get_autocommit():
                self.execute("ROLLBACK")
            raise

    @contextmanager
    def watched(self, over: Callable[[], bool], steps: int) -> Iterator[None]:
        """Ask every so many steps of SQLite's machine whether it is over: OSError EINTR then.

        What `over` raises is raised by what it interrupts (sqlite.org/c3ref/progress_handler.html).
        """
        self._connection.set_progress_handler(over, steps)
        try:
            yield
        finally:
            self._connection.set_progress_handler(None)

    def function(self, name: str, call: Callable[..., Value], arguments: int) -> None:
        """Make a function of ours known to SQL. It must not raise."""
        self._connection.create_scalar_function(name, call, arguments)

    def close(self) -> None:
        """Close it; the last one to do so empties the write-ahead log. Closing twice is allowed."""
        with _meant(self.path):
            self._connection.close()

    # Inside --------------------------------------------------------------------------------------

    def _configure(self, durable: bool) -> None:
        connection = self._connection
        connection.set_busy_timeout(int(BUSY_S * 1000))
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys = ON")
        # Views and triggers of a file that somebody tampered with run no dangerous function.
        connection.execute("PRAGMA trusted_schema = OFF")
        _patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchall())
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        if connection.readonly("main"):
            raise fault(errno.EROFS, f"{self.path}: {_MEANING[apsw.SQLITE_READONLY][1]}")

    def _enlarge(self, size: int) -> None:
        connection = self._connection
        connection.execute(f"PRAGMA cache_size = -{size // 1024}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {min(size, WAL_BYTES) // PAGE_BYTES}")

    def _migrate(self, migrations: Sequence[str]) -> None:
        known = len(migrations)
        while True:
            version = self._version()
            if version > known:
                raise fault(
                    errno.EOPNOTSUPP,
                    f"{self.path} was written by a newer program (its schema is {version}, this "
                    f"one knows {known}): use the newer program",
                )
            if version == known:
                return
            with self.transaction():
                # Another process may have done it while this one waited for the lock.
                if self._version() == version:
                    self._change(migrations[version])
                    self._require_strict()
                    self._connection.execute(f"PRAGMA user_version = {version + 1}")
                    log.debug("path=%s schema=%d", self.path, version + 1)

    def _change(self, migration: str) -> None:
        try:
            self._connection.execute(migration)
        except apsw.SQLError as error:
            raise fault(
                errno.EINVAL,
                f"{self.path} holds the tables of another program: name another file ({error})",
            ) from error

    def _version(self) -> int:
        return int(cast("int", self.execute("PRAGMA user_version")[0][0]))

    def _require_strict(self) -> None:
        rows = self.execute(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' "
            "AND NOT strict AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
        if rows:
            raise ValueError(f"a migration makes tables that are not STRICT: {rows}")


class Statements:
    """Statements of one transaction; their errors become errnos at its end."""

    __slots__ = ("_connection",)

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, values: Sequence[Value]) -> None:
        """Run a statement that answers nothing."""
        self._connection.execute(sql, values)

    def each(self, sql: str, values: Sequence[Sequence[Value]]) -> None:
        """Run a statement for each of several lists of values."""
        self._connection.executemany(sql, values)

    def rows(self, sql: str, *values: Value) -> list[Row]:
        """Give the rows of an answer."""
        return cast("list[Row]", self._connection.execute(sql, values).fetchall())


def _usable(path: str) -> str:
    # Makes the file if there is none, and refuses what SQLite would open read-only or elsewhere.
    # An existing file is not opened: closing it would free the locks that SQLite holds on it for
    # another store of this process (fcntl(2), "Advisory record locking").
    folder, name = os.path.split(os.path.abspath(path))
    path = os.path.join(os.path.realpath(folder), name)
    if os.path.islink(path):
        raise fault(errno.ELOOP, "a database is no symbolic link", path)
    if os.path.isdir(path):
        raise fault(errno.EISDIR, "a database is no directory", path)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _sync_folder(folder)
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            raise fault(errno.EROFS, "the disk of this database is read-only", path)
        raise fault(errno.EACCES, "this user may not read and write this database", path)
    return path


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _patiently(attempt: Callable[[], R]) -> R:
    # Changing to WAL needs the file alone, and SQLite does not wait for that as it does elsewhere.
    end = time.monotonic() + BUSY_S
    while True:
        try:
            return attempt()
        except apsw.BusyError:
            if time.monotonic() >= end:
                raise
            time.sleep(RETRY_S)


@contextmanager
def _meant(path: str) -> Iterator[None]:
    # Give SQLite's errors their errno and sentence.
    try:
        yield
    except apsw.Error as error:
        code = getattr(error, "extendedresult", 0)
        meaning = _MEANING.get(code) or _MEANING.get(code & 0xFF)
        if meaning is None:
            raise
        number, sentence = meaning
        raise fault(number, f"{path}: {sentence} ({error})") from error
