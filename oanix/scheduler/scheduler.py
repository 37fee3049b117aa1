"""Scheduler: which job runs when, and what becomes of it.

A job waits until the jobs that it comes after have completed, its time has come, and there is room;
of several, the one with the highest priority goes first, and waiting raises it. How a job is run is
its runner's matter.
"""

import errno
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import trio
from attrs import evolve, frozen

from oanix.bell import Bell
from oanix.caller import Caller
from oanix.errors import fault
from oanix.kit.conversation import maker_key
from oanix.namespace import Namespace
from oanix.scheduler.job import Job, State
from oanix.scheduler.queue import Queue
from oanix.scheduler.spec import PRIORITY, Spec

log = logging.getLogger(__name__)

AGEING_S: Final = 30.0
"""A job that waits gains a point of priority in so many seconds."""

KEPT: Final = 1_000
"""Jobs that have ended and are still shown."""

OWNED: Final = 10_000
"""Jobs that one user may have waiting."""


@frozen(kw_only=True)
class Ending:
    """How one try of a job ended. reason: `exit` for a code other than 0; a limit, a trap."""

    exit: int | None = None
    reason: str = ""
    usage: dict[str, Any]

    @property
    def good(self) -> bool:
        """Whether it did what it was to do."""
        return self.exit == 0 and not self.reason


class Runner(Protocol):
    """Runs jobs."""

    def check(self, job: Job) -> None:
        """Refuse what cannot be run as ordered. Raises OSError."""

    async def serve(self) -> None:
        """Do what goes on beside the jobs, for as long as it is not cancelled."""

    async def run(self, job: Job) -> Ending:
        """Run a job once, to its end; cancelled, it is ended within 250 ms.

        Raises OSError for what kept it from beginning.
        """


@frozen(kw_only=True)
class Room:
    """How many jobs run at a time: in all, and of one user."""

    jobs: int = 64
    of_one: int = 32


class Scheduler:
    """The jobs of one server. Use it while it is `running`."""

    def __init__(
        self, queue: Queue, runner: Callable[[], Runner], *, room: Room | None = None,
        serves: bool = True, now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Make it.

        runner: made when a job is started; serves: whether it takes up what earlier runs have left,
        as what ends soon does not; the clock: seconds since the epoch.
        """
        self._serves = serves
        self.queue = queue
        self._make_runner = runner
        self._runner: Runner | None = None
        self.room = room or Room()
        self.now = now
        self.bell = Bell()
        """Rung when any job changes."""
        self._jobs: dict[int, Job] = {}
        self._ended: set[int] = set()
        self._running: Counter[str] = Counter()
        self._work = Bell()
        self._nursery: trio.Nursery | None = None
        self._beside: trio.Nursery | None = None

    @property
    def runner(self) -> Runner:
        """What runs the jobs."""
        if self._runner is None:
            self._runner = self._make_runner()
            if self._beside is not None:
                self._beside.start_soon(self._runner.serve)
        return self._runner

    # Life ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run jobs for as long as the block; those under way at its end are interrupted."""
        self._recover()
        try:
            async with trio.open_nursery() as nursery:
                self._beside = nursery
                nursery.start_soon(self.queue.run)
                try:
                    async with trio.open_nursery() as self._nursery:
                        self._nursery.start_soon(self._dispatch)
                        for job in list(self._jobs.values()):
                            if job.state.ended:
                                self._nursery.start_soon(self._shelve, job)
                        try:
                            yield
                        finally:
                            self._nursery.cancel_scope.cancel()
                finally:
                    self._nursery = self._beside = None
                    nursery.cancel_scope.cancel()
        finally:
            self.queue.close()

    def _recover(self) -> None:
        """Take up what an earlier run has left: what ran is interrupted, what waited waits."""
        self._ended = set(self.queue.ids())
        for job in self.queue.unfinished():
            self._ended.discard(job.id)
            self._jobs[job.id] = job
            job.held = not self._serves
            if job.state is State.RUNNING:
                ending = Ending(reason="interrupted", usage=job.usage)
                self._conclude(job, ending)

    # Ordering ------------------------------------------------------------------------------------

    async def draft(self, caller: Caller, home: Namespace) -> Job:
        """Make a job that is not started. Raises OSError EMFILE for too many; as the disk does."""
        owner = maker_key(caller)
        waiting = sum(job.owner == owner for job in self._jobs.values())
        if waiting >= OWNED:
            raise fault(errno.EMFILE, f"you have {OWNED} jobs that have not ended")
        parent = int(caller.job) if caller.job.isdigit() else None
        job = Job(self.queue.next_id(), owner, caller.uid, caller.gid, parent, Spec(), self.now())
        self._jobs[job.id] = job
        try:
            await self.queue.saved(job)
        except BaseException:
            del self._jobs[job.id]
            raise
        return job

    def specify(self, job: Job, spec: Spec) -> None:
        """Say what a job is to be. Raises OSError EBUSY once it was started."""
        self._require_draft(job)
        if job.id in spec.after:
            raise fault(errno.EINVAL, "a job does not come after itself")
        job.spec, job.priority = spec, spec.priority
        self._changed(job)

    async def start(self, job: Job) -> None:
        """Let a job run when its turn comes. Raises OSError as `Runner.check`, EBUSY, EINVAL."""
        self._require_draft(job)
        job.spec.ready()
        for number in job.spec.after:
            if self.find(number) is None:
                raise fault(errno.EINVAL, f"after: there is no job {number}")
        self.runner.check(job)
        job.ordered = self.now()
        job.reason = "queued"
        await self.queue.saved(job)
        self._changed(job)
        self._work.ring()

    def _require_draft(self, job: Job) -> None:
        if job.ordered is not None or job.state is not State.PENDING:
            raise fault(errno.EBUSY, f"job {job.id} was started; make another")

    # Finding -------------------------------------------------------------------------------------

    def find(self, number: int) -> Job | None:
        """Find a job, one that has ended too."""
        job = self._jobs.get(number)
        if job is None and number in self._ended:
            job = self.queue.get(number)
        return job

    def ids(self) -> list[int]:
        """List all jobs that there are, oldest first."""
        return sorted({*self._ended, *self._jobs})

    def counts(self) -> dict[str, str]:
        """Tell how many jobs wait, run, and have ended."""
        states = Counter(job.state for job in self._jobs.values())
        return {
            "waiting": str(states[State.PENDING]),
            "running": str(states[State.RUNNING]),
            "ended": str(len(self._ended)),
        }

    # Controlling ---------------------------------------------------------------------------------

    def kill(self, job: Job, signal: str = "KILL") -> None:
        """End a job. Raises OSError ESRCH when it has ended."""
        if job.state.ended:
            raise fault(errno.ESRCH, f"job {job.id} has ended: {job.exit_line}")
        job.killed = signal
        if job.state is State.PENDING:
            self._finish(job, State.CANCELLED, f"killed {signal}")
        elif job.scope is not None:
            job.scope.cancel()

    def pause(self, job: Job, stopped: bool) -> None:
        """Stop a job where it is, or let it go on. Raises OSError ESRCH when it has ended."""
        if job.state.ended:
            raise fault(errno.ESRCH, f"job {job.id} has ended: {job.exit_line}")
        job.stopped = stopped
        if job.pause is not None:
            job.pause(stopped)
        self._changed(job)
        self._work.ring()

    def seal(self, job: Job) -> None:
        """Have the namespace of a job take no more changes. Raises OSError ESRCH."""
        if job.state.ended:
            raise fault(errno.ESRCH, f"job {job.id} has ended: {job.exit_line}")
        job.sealed = True
        if job.namespace is not None:
            job.namespace.seal()
        self._changed(job)

    def set_priority(self, job: Job, priority: int) -> None:
        """Change when it comes. Raises OSError EINVAL, ESRCH."""
        if priority not in PRIORITY:
            raise fault(errno.EINVAL, f"a priority is from {PRIORITY[0]} to {PRIORITY[-1]}")
        if job.state.ended:
            raise fault(errno.ESRCH, f"job {job.id} has ended: {job.exit_line}")
        job.priority = priority
        self._changed(job)
        self._work.ring()

    def forget(self, job: Job) -> None:
        """Remove a job that has ended. Raises OSError EBUSY for another."""
        if not job.state.ended:
            raise fault(errno.EBUSY, f"job {job.id} has not ended; kill it first")
        self.queue.forget(job.id)
        self._ended.discard(job.id)
        self.bell.ring()

    async def ended(self, job: Job) -> None:
        """Wait for the end of a job."""
        while not job.state.ended:
            await job.bell.wait()

    def _changed(self, job: Job) -> None:
        self.queue.touch(job)
        job.bell.ring()
        self.bell.ring()

    # Running -------------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        assert self._nursery is not None
        while True:
            wait = math.inf
            while True:
                job, wait = self._next()
                if job is None:
                    break
                await self._begin(job)
            with trio.move_on_after(wait):
                await self._work.wait()

    def _next(self) -> tuple[Job | None, float]:
        """Give the job whose turn it is, or in how many seconds to look again."""
        now, wait = self.now(), math.inf
        best: tuple[float, int, Job] | None = None
        full = self._running.total() >= self.room.jobs
        for job in list(self._jobs.values()):
            if job.state is not State.PENDING or job.ordered is None:
                continue
            if job.stopped or job.held:
                continue
            if self._overdue(job, now):
                self._finish(job, State.FAILED, "timeout")
                continue
            if job.spec.timeout is not None:
                wait = min(wait, job.ordered + job.spec.timeout - now)
            if not self._allowed(job):
                continue
            if job.due > now:
                wait = min(wait, job.due - now)
                continue
            if full or self._running[job.owner] >= self.room.of_one:
                continue
            rank = (-job.priority - (now - job.ordered) / AGEING_S, job.id, job)
            best = min(best, rank) if best is not None else rank
        return (best[2] if best is not None else None), max(wait, 0.0)

    def _overdue(self, job: Job, now: float) -> bool:
        timeout, ordered = job.spec.timeout, job.ordered
        return timeout is not None and ordered is not None and now >= ordered + timeout

    def _allowed(self, job: Job) -> bool:
        """Whether all that a job comes after have completed; ends it when one of them has not."""
        for number in job.spec.after:
            before = self.find(number)
            if before is None or before.state in (State.FAILED, State.CANCELLED):
                how = "is gone" if before is None else before.state.value
                self._finish(job, State.FAILED, f"job {number} {how}")
                return False
            if not before.state.ended:
                reason = f"waits for job {number}"
                if job.reason != reason:
                    job.reason = reason
                    self._changed(job)
                return False
        return True

    async def _begin(self, job: Job) -> None:
        assert self._nursery is not None
        job.state, job.reason = State.RUNNING, ""
        job.started, job.tries = self.now(), job.tries + 1
        self._running[job.owner] += 1
        try:
            # What runs was written down as running: a crash finds it so, and it never runs twice.
            await self.queue.saved(job)
        except OSError as error:
            self._running[job.owner] -= 1
            self._finish(job, State.FAILED, f"the queue cannot be written: {error.strerror}")
            return
        job.bell.ring()
        self.bell.ring()
        self._nursery.start_soon(self._run, job)

    async def _run(self, job: Job) -> None:
        ending = Ending(reason="interrupted", usage={})
        try:
            with trio.CancelScope() as job.scope:
                if job.spec.timeout is not None and job.ordered is not None:
                    left = job.ordered + job.spec.timeout - self.now()
                    job.scope.deadline = trio.current_time() + max(left, 0)
                if job.killed:
                    job.scope.cancel()
                ending = await self.runner.run(job)
            if job.scope.cancelled_caught and not job.killed:
                ending = evolve(ending, reason="timeout")
        except OSError as error:
            ending = Ending(reason=f"error {error.strerror}", usage={})
        except Exception as error:
            log.exception("job=%d its runner failed", job.id)
            ending = Ending(reason=f"internal error {type(error).__name__}", usage={})
        finally:
            job.scope = None
            self._running[job.owner] -= 1
            self._conclude(job, ending)
            self._work.ring()

    def _conclude(self, job: Job, ending: Ending) -> None:
        job.usage, job.exit = ending.usage, ending.exit
        if job.killed:
            self._finish(job, State.CANCELLED, f"killed {job.killed}")
        elif ending.good:
            self._finish(job, State.COMPLETED, "")
        elif self._again(job, ending):
            delay = job.spec.retry.after(job.tries)
            job.state, job.due = State.PENDING, self.now() + delay
            job.reason = f"tried {job.tries} times, last {ending.reason or 'exit'}"
            self._changed(job)
        else:
            self._finish(job, State.FAILED, ending.reason or "exit")

    def _again(self, job: Job, ending: Ending) -> bool:
        retry = job.spec.retry
        reason = (ending.reason or "exit").split()[0]
        return job.tries <= retry.times and reason in retry.on and job.ordered is not None

    def _finish(self, job: Job, state: State, reason: str) -> None:
        job.state, job.reason, job.ended = state, reason, self.now()
        job.stopped = False
        job.stdin.end()
        self._changed(job)
        job.output.ring()
        self._work.ring()
        # Whoever still holds it sees its end; others find it on the disk, once it is there.
        if self._nursery is not None:
            self._nursery.start_soon(self._shelve, job)

    async def _shelve(self, job: Job) -> None:
        try:
            await self.queue.saved(job)
        except OSError:
            # The queue has said so, and tries again; the job stays in memory.
            return
        self._jobs.pop(job.id, None)
        self._ended.add(job.id)
        if len(self._ended) > KEPT * 2:
            for number in self.queue.ended_before(KEPT):
                self.queue.forget(number)
                self._ended.discard(number)
