"""Queue: the jobs on the disk, so that none is lost and none runs twice.

What a job is now lives in memory; here it is written down, many jobs to a transaction. Whoever must
know that it is on the disk waits for that with `saved`.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import trio

from oanix.bell import Bell
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

        Raises OSError as `Store.open`.
        """
        self._path = path
        self._stores: tuple[Store, Store] | None = None
        self._limiter = trio.CapacityLimiter(1)
        self._dirty: dict[int, Job] = {}
        self._gone: set[int] = set()
        self._work, self._done = Bell(), Bell()
        self._asked = self._written = 0
        self._failed: OSError | None = None
        self._last = self._highest() if path.exists() else 0

    @property
    def _opened(self) -> "tuple[Store, Store]":
        # One for the thread that writes, one to read at once.
        if self._stores is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            first = Store.open(str(self._path), MIGRATIONS)
            self._stores = first, Store.open(str(self._path), MIGRATIONS)
        return self._stores

    def _ask(self, sql: str, *values: Value) -> list[Row]:
        return [] if self._stores is None else self._stores[1].execute(sql, *values)

    def _highest(self) -> int:
        rows = self._opened[1].execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'")
        return cast("int", rows[0][0]) if rows else 0

    def next_id(self) -> int:
        """Give an id that no job has ever had."""
        self._last += 1
        return self._last

    def close(self) -> None:
        """Write what is left, and close."""
        try:
            if self._dirty or self._gone:
                self._put([_row(job) for job in self._dirty.values()], list(self._gone))
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
                log.warning("%d jobs could not be written: %s", len(jobs), error.strerror)
                self._failed = error
                for job in jobs:
                    self._dirty.setdefault(job.id, job)
                self._gone.update(gone)
                self._written = number
                self._done.ring()
                await trio.sleep(1)
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
        rows = self._ask(f"{_LOAD} WHERE state IN ('pending', 'running') ORDER BY id")
        return [_job(row) for row in rows]

    def get(self, number: int) -> Job | None:
        """Find a job."""
        rows = self._ask(f"{_LOAD} WHERE id = ?", number)
        return _job(rows[0]) if rows else None

    def ids(self) -> list[int]:
        """List the ids of all jobs, oldest first."""
        return [cast("int", row[0]) for row in self._ask("SELECT id FROM jobs")]

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
