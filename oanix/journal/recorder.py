"""Journal: what waits to be recorded, and the task that writes it in batches."""

import errno
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from oanix.journal.anchor import Authenticator
from oanix.journal.observing import onlookers
from oanix.journal.record import Entry, note
from oanix.journal.segments import Limits
from oanix.journal.writer import Writer

if TYPE_CHECKING:
    from oanix.namespace import Namespace

log = logging.getLogger(__name__)

BATCH_S = 0.2
"""How long a record waits for others to be written with it, and what a kill may cost."""

SYNC_S = 1.0
"""How long what was written waits to be synced and anchored, and what a power cut may cost more.

Each time is two syncs, and a sync of a busy disk waits for the operations that it records too."""

BATCH = 10_000
"""How many records are written, and synced, before these times are over."""

QUEUE_MAX = 100_000
"""How many records wait at most, when the disk is full or slow; what is more is counted."""

T = TypeVar("T")

KeySource = Callable[[], Authenticator]
"""Gives the key of the anchors; raises OSError EACCES while it is locked, ENOENT without one."""


class Journal:
    """Records what is done through the namespaces that it observes, while it is running."""

    def __init__(
        self,
        folder: str,
        anchor: str,
        *,
        key: KeySource | None = None,
        quiet: bool = False,
        limits: Limits | None = None,
        now: Callable[[], float] = time.time,
        queue_max: int = QUEUE_MAX,
    ) -> None:
        """Make the journal of a folder, whose head is kept in the file `anchor` too.

        quiet: a start at which nothing happens leaves no record.
        """
        self.folder = folder
        self._key = key
        self._quiet = quiet
        self._withheld: list[Entry] = []
        self._writer = Writer(folder, anchor, limits or Limits(), now)
        self._now = now
        self._queue_max = queue_max
        self._queue: list[Entry] = []
        self._lost = 0
        self._trouble = ""
        self._wake = trio.Event()
        self._many = trio.Event()
        self._turn = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)
        self._onlookers = onlookers(self._keep, now)

    # Life ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write for as long as the block; when it ends, what is still to be written is.

        Raises OSError: EAGAIN when another process writes to this journal, and as open(2).
        """
        self._writer.use(self._authenticator())
        self._queue += await self._do(self._writer.open)
        self._note("start")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                yield
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                self._note("stop")
                await self.flush()
                self._writer.close()
            unwritten = len(self._queue) + self._lost
            if unwritten:
                log.warning("the journal ends without %d records: %s", unwritten, self._trouble)

    def observe(self, namespace: "Namespace") -> None:
        """Record from now on what is done through a namespace, and through what is forked of it."""
        self._note("namespace", namespace.recipe())
        namespace.onlookers = (*namespace.onlookers, *self._onlookers)

    def status(self) -> dict[str, str]:
        """Tell how far it is; a key `warning` is what a person should look at."""
        said = {
            "records": str(self._writer.count),
            "waiting": str(len(self._queue)),
            "bytes": str(self._writer.kept_bytes),
            "authenticated": "yes" if self._writer.authenticated else "no",
        }
        if self._lost:
            said["lost"] = str(self._lost)
        return {**said, "warning": f"journal: {self._trouble}"} if self._trouble else said

    async def flush(self) -> None:
        """Write and anchor what was recorded so far. A failure is logged and kept for later."""
        async with self._turn:
            while self._queue or self._lost or self._writer.ahead:
                if not (await self._write_batch() and (self._queue or await self._anchor())):
                    return

    async def _write(self) -> None:
        due = math.inf
        while True:
            with trio.move_on_at(due):
                await self._wake.wait()
            with trio.move_on_after(BATCH_S):
                await self._many.wait()
            self._wake, self._many = trio.Event(), trio.Event()
            async with self._turn:
                await self._write_batch()
                if trio.current_time() >= due or self._writer.ahead >= BATCH:
                    await self._anchor()
            if not self._writer.ahead:
                due = math.inf
            elif due == math.inf:
                due = trio.current_time() + SYNC_S
            if self._queue or self._lost:
                # Only what was there is written: a loop that went on until nothing is left would
                # write all the time under load. What is left may wait for room on the disk.
                self._wake.set()

    async def _write_batch(self) -> bool:
        # Give whether what waits could be written.
        batch = self._queue[:BATCH]
        lost = self._lost if len(batch) == len(self._queue) else 0
        said = [self._loss(lost)] if lost else []
        try:
            await self._do(partial(self._writer.write, [*batch, *said]))
        except OSError as error:
            self._failed(error, "cannot write to the journal")
            return False
        self._lost -= lost
        del self._queue[: len(batch)]
        return True

    async def _anchor(self) -> bool:
        # Give whether what was written is on the disk, and the anchor knows it.
        self._writer.use(self._authenticator())
        try:
            self._queue += await self._do(self._writer.anchor)
        except OSError as error:
            self._failed(error, "cannot write the anchor of the journal")
            return False
        self._trouble = ""
        return True

    def _authenticator(self) -> Authenticator | None:
        # Asked each time, on the thread of the vault: it may be unlocked and locked at any time.
        try:
            return self._key() if self._key else None
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.ENOENT):
                raise
            return None

    def _loss(self, count: int) -> Entry:
        said = f"{count} records could not be kept: {self._trouble or 'too many at once'}"
        return note(self._now(), "lost", said)

    def _failed(self, error: OSError, what: str) -> None:
        if not self._trouble:
            log.warning("%s: %s", what, error.strerror or error)
        self._trouble = f"{what}: {error.strerror or error}"

    async def _do(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _keep(self, entry: Entry) -> None:
        if self._quiet:
            self._quiet = False
            self._queue += self._withheld
            self._wake.set()
        queue = self._queue
        waiting = len(queue)
        if waiting >= self._queue_max:
            self._lost += 1
            return
        queue.append(entry)
        if not waiting:
            self._wake.set()
        elif waiting == BATCH:
            self._many.set()

    def _note(self, op: str, detail: str = "") -> None:
        if self._quiet:
            self._withheld.append(note(self._now(), op, detail))
            return
        self._queue.append(note(self._now(), op, detail))
        self._wake.set()
