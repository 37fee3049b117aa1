"""Jobs: what was asked, and how far it is, so that a restart goes on where it was.

    waiting → running → answered → done, failed        cancelled, unpaid, refused

`answered` holds what is to be published, and once that is signed the event itself: an event that is
published twice is one event.
"""

import errno
import fcntl
import os
from pathlib import Path
from typing import Final, Literal

from attrs import frozen

from oanix.dvm.request import Request
from oanix.errors import fault
from oanix.lib.nostr import Event
from oanix.store import Store

State = Literal[
    "waiting", "running", "answered", "done", "failed", "cancelled", "unpaid", "refused"
]

DATABASE: Final = "jobs.db"

MIGRATIONS: Final = (
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY,
        event TEXT NOT NULL,
        state TEXT NOT NULL,
        seen INTEGER NOT NULL,
        -- How often a program was started for it.
        tries INTEGER NOT NULL DEFAULT 0,
        -- What it becomes once its answer is published: done or failed.
        outcome TEXT NOT NULL DEFAULT '',
        -- The answer: first a template, then the signed event.
        answer TEXT NOT NULL DEFAULT ''
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX jobs_by_state ON jobs (state, seen);
    """,
)


@frozen
class Job:
    """A job that is not at its end."""

    request: Request
    state: State
    tries: int
    outcome: State
    answer: str


class Jobs:
    """The jobs of one worker, in a folder that it has for itself."""

    def __init__(self, store: Store, lock: int) -> None:
        """Make it over its database, with the descriptor that holds the folder's lock."""
        self._store = store
        self._lock = lock

    @classmethod
    def open(cls, folder: Path) -> "Jobs":
        """Open the jobs of a folder, which is made. Raises OSError; EBUSY while another has it."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(Store.open(str(folder / DATABASE), MIGRATIONS), lock)
        except BlockingIOError:
            os.close(lock)
            raise fault(errno.EBUSY, "another worker uses this folder", str(folder)) from None
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Close them, and let another have the folder."""
        self._store.close()
        os.close(self._lock)

    def add(self, request: Request, state: State, now: int) -> bool:
        """Note a job; tells whether it is new."""
        found = self._store.execute(
            "INSERT INTO jobs (id, event, state, seen) VALUES (?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING RETURNING 1",
            request.id, request.event.json().decode(), state, now,
        )  # fmt: skip
        return bool(found)

    def find(self, job: str) -> Job | None:
        """Find a job."""
        rows = self._store.execute(
            "SELECT event, state, tries, outcome, answer FROM jobs WHERE id = ?", job
        )
        return _job(*rows[0]) if rows else None

    def open_ones(self) -> list[Job]:
        """List those that are not at their end, in the order they came."""
        return [
            _job(*row)
            for row in self._store.execute(
                "SELECT event, state, tries, outcome, answer FROM jobs "
                "WHERE state IN ('waiting', 'running', 'answered') ORDER BY seen, id"
            )
        ]

    def claim(self, job: str) -> bool:
        """Begin one that waits; tells whether it still does."""
        return self._change(job, "waiting", "state = 'running', tries = tries + 1")

    def release(self, job: str, *, tried: bool) -> None:
        """Let one wait again that was running; tried: whether that counts."""
        back = "" if tried else ", tries = tries - 1"
        self._change(job, "running", f"state = 'waiting'{back}")

    def answer(self, job: str, outcome: State, template: str) -> None:
        """Keep the answer to one that was running."""
        self._change(
            job, "running", "state = 'answered', outcome = ?, answer = ?", outcome, template
        )

    def sign(self, job: str, event: Event) -> None:
        """Keep the answer as it was signed."""
        self._change(job, "answered", "answer = ?", event.json().decode())

    def end(self, job: str, state: State) -> None:
        """Be done with one."""
        self._store.execute("UPDATE jobs SET state = ?, answer = '' WHERE id = ?", state, job)

    def forget(self, before: int) -> None:
        """Forget those that are at their end and were asked for before a time."""
        self._store.execute(
            "DELETE FROM jobs WHERE seen < ? AND state NOT IN ('waiting', 'running', 'answered')",
            before,
        )

    def counts(self) -> dict[str, int]:
        """Count them by state."""
        rows = self._store.execute("SELECT state, count(*) FROM jobs GROUP BY state ORDER BY state")
        return {str(state): int(str(count)) for state, count in rows}

    def _change(self, job: str, state: State, change: str, *values: str) -> bool:
        sql = f"UPDATE jobs SET {change} WHERE id = ? AND state = ? RETURNING 1"
        return bool(self._store.execute(sql, *values, job, state))


def _job(event: object, state: object, tries: object, outcome: object, answer: object) -> Job:
    return Job(
        Request.of(Event.parse(str(event))), state, int(str(tries)), outcome, str(answer)  # type: ignore[arg-type]
    )  # fmt: skip
