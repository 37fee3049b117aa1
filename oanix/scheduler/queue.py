"""Queue: the jobs on the disk, so that none is lost and none runs twice.

What a job is now lives in memory; here it is written down, many jobs to a transaction. Whoever must
know that it is on the disk waits for that with `saved`.
"""

import errno
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import trio

from oanix.bell import Bell
from oanix.errors import fault
from oanix.scheduler.job import Job, State
from oanix.scheduler.spec import parse_spec
from oanix.store import Row, Store, Value

log = logging.getLogger(__name__)

MIGRATIONS: Final = (
    """
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        owner TEXT NOT NULL,
        uid INTEGER NOT NULL,
        gid INTEGER NOT NULL,
        parent INTEGER,
        spec TEXT NOT NULL,
        created REAL NOT NULL,
        priority INTEGER NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        tries INTEGER NOT NULL,
        ordered REAL,
        due REAL NOT NULL,
        started REAL,
        ended REAL,
        exit INTEGER,
        usage TEXT NOT NULL,
        sealed INTEGER NOT NULL,
        recipe TEXT NOT NULL,
        result BLOB NOT NULL
    ) STRICT;
    CREATE INDEX unfinished ON jobs (id) WHERE state IN ('pending', 'running');
    CREATE INDEX by_end ON jobs (ended) WHERE ended IS NOT NULL;
    """,
    """
    ALTER TABLE jobs ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX by_parent ON jobs (parent) WHERE parent IS NOT NULL;
    """,
)
"""Schema 1: a row a job; its id is never used again. 2: what was stopped stays so."""

RETRY_S: Final = 1.0
"""How long after a failure what could not be written is tried again."""

_COLUMNS: Final = (
    "id", "owner", "uid", "gid", "parent", "spec", "created", "priority", "state", "reason",
    "tries", "ordered", "due", "started", "ended", "exit", "usage", "sealed", "recipe", "result",
    "stopped",
)  # fmt: skip
_SAVE: Final = (
    f"INSERT OR REPLACE INTO jobs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
)
_LOAD: Final = f"SELECT {', '.join(_COLUMNS)} FROM jobs"


class Queue:
    """The jobs of one server."""

    def __init__(self, path: Path) -> None:
        """Open the database, if there is one; else it is made for the first job.

        One that cannot be used is told by `broken`: there are no jobs then, and none can be made.
        """
        self._path = path
        self._stores: tuple[Store, Store] | None = None
        self._limiter = trio.CapacityLimiter(1)
        self._dirty: dict[int, Job] = {}
        self._gone: set[int] = set()
        self._work, self._done = Bell(), Bell()
        self._asked = self._written = 0
        self._failed: OSError | None = None
        self.broken: OSError | None = None
        """Why the database cannot be used."""
        self._last = 0
        if path.exists():
            with self._using():
                self._last = self._highest()

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            log.warning("%s cannot be used, and there are no jobs: %s", self._path, error.strerror)
            self.broken = error

    @property
    def _opened(self) -> "tuple[Store, Store]":
        # One for the thread that writes, one to read at once.
        if self._stores is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            first = Store.open(str(self._path), MIGRATIONS)
            try:
                self._stores = first, Store.open(str(self._path), MIGRATIONS)
            except BaseException:
                first.close()
                raise
        return self._stores

    def _ask(self, sql: str, *values: Value) -> list[Row]:
        return [] if self._stores is None else self._stores[1].execute(sql, *values)

    def _highest(self) -> int:
        rows = self._opened[1].execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")
        return cast("int", rows[0][0]) if rows else 0

    def next_id(self) -> int:
        """Give an id that no job has ever had. Raises OSError where the database is of no use."""
        if self.broken is not None:
            number, why = self.broken.errno or errno.EIO, self.broken.strerror
            raise fault(number, f"{self._path}: {why}; then start the server again")
        self._last += 1
        return self._last

    def close(self) -> None:
        """Write what is left, and close."""
        try:
            if self._dirty or self._gone:
                self._put([_row(job) for job in self._dirty.values()], list(self._gone))
        except OSError as error:
            log.warning("%d jobs could not be written: %s", len(self._dirty), error.strerror)
        finally:
            for store in self._stores or ():
                store.close()

    # Writing -------------------------------------------------------------------------------------

    def touch(self, job: Job) -> int:
        """Have a job written soon."""
        self._dirty[job.id] = job
        self._asked += 1
        self._work.ring()
        return self._asked

    async def saved(self, job: Job) -> None:
        """Write a job, and wait until it is on the disk. Raises OSError as the disk does."""
        number = self.touch(job)
        while self._written < number:
            await self._done.wait()
        if self._failed is not None:
            raise self._failed.with_traceback(None)

    async def run(self) -> None:
        """Write what is touched, for ever."""
        while True:
            while not (self._dirty or self._gone):
                await self._work.wait()
            # What others touch in this turn is written with it.
            await trio.lowlevel.checkpoint()
            jobs, self._dirty = list(self._dirty.values()), {}
            gone, self._gone = list(self._gone), set()
            number = self._asked
            rows = [_row(job) for job in jobs]
            try:
                await trio.to_thread.run_sync(self._put, rows, gone, limiter=self._limiter)
                self._failed = None
            except OSError as error:
                if self._failed is None or self._failed.errno != error.errno:
                    log.warning("%d jobs could not be written: %s", len(jobs), error.strerror)
                self._failed = error
                for job in jobs:
                    self._dirty.setdefault(job.id, job)
                self._gone.update(gone)
                self._written = number
                self._done.ring()
                await trio.sleep(RETRY_S)
                continue
            self._written = number
            self._done.ring()

    def _put(self, rows: "Sequence[Sequence[Any]]", gone: Sequence[int]) -> None:
        with self._opened[0].transaction() as statements:
            statements.each(_SAVE, rows)
            statements.each("DELETE FROM jobs WHERE id = ?", [(number,) for number in gone])

    # Reading -------------------------------------------------------------------------------------

    def unfinished(self) -> list[Job]:
        """List the jobs that have not ended, oldest first."""
        found: list[Job] = []
        with self._using():
            for row in self._ask(f"{_LOAD} WHERE state IN ('pending', 'running') ORDER BY id"):
                try:
                    found.append(_job(row))
                except (OSError, ValueError, LookupError) as error:
                    # It stays as it is: a version that understands it may come.
                    log.warning("job %s cannot be read, and does not run: %s", row[0], error)
        return found

    def get(self, number: int) -> Job | None:
        """Find a job. Raises OSError as the disk does, EIO for what is no job."""
        rows = self._ask(f"{_LOAD} WHERE id = ?", number)
        try:
            return _job(rows[0]) if rows else None
        except (OSError, ValueError, LookupError) as error:
            raise fault(errno.EIO, f"job {number} cannot be read: {error}") from None

    def ids(self) -> list[int]:
        """List the ids of all jobs, oldest first."""
        found: list[int] = []
        with self._using():
            found = [cast("int", row[0]) for row in self._ask("SELECT id FROM jobs")]
        return found

    def ids_of(self, parent: int) -> list[int]:
        """List the ids of the jobs that a job has made, oldest first."""
        rows = self._ask("SELECT id FROM jobs WHERE parent = ? ORDER BY id", parent)
        return [cast("int", row[0]) for row in rows]

    def ended_before(self, keep: int) -> list[int]:
        """List the jobs that ended, but for the last so many."""
        rows = self._ask(
            "SELECT id FROM jobs WHERE ended IS NOT NULL ORDER BY ended DESC LIMIT -1 OFFSET ?",
            keep,
        )
        return [cast("int", row[0]) for row in rows]

    def forget(self, number: int) -> None:
        """Remove a job that has ended, soon."""
        self._dirty.pop(number, None)
        self._gone.add(number)
        self._work.ring()


def _row(job: Job) -> tuple[Any, ...]:
    return (
        job.id, job.owner, job.uid, job.gid, job.parent, job.spec.show(), job.created,
        job.priority, job.state.value, job.reason, job.tries, job.ordered, job.due, job.started,
        job.ended, job.exit, json.dumps(job.usage), int(job.sealed), job.recipe,
        job.result, int(job.stopped),
    )  # fmt: skip


def _job(row: Row) -> Job:
    said: dict[str, Any] = dict(zip(_COLUMNS, row, strict=True))
    said["spec"] = parse_spec(said["spec"])
    said["state"] = State(said["state"])
    said["usage"] = json.loads(said["usage"])
    said["sealed"], said["stopped"] = bool(said["sealed"]), bool(said["stopped"])
    return Job(**said)
