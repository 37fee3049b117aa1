"""Scheduler: which job runs when, and what becomes of it.

A job waits until the jobs that it comes after have completed, its time has come, and there is room;
of several, the one with the highest priority goes first, and waiting raises it. How a job is run is
its runner's matter.
"""

import errno
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import trio
from attrs import evolve, frozen

from oanix.bell import Bell
from oanix.caller import Caller
from oanix.errors import fault
from oanix.kit.conversation import maker_key
from oanix.namespace import Namespace
from oanix.scheduler import family
from oanix.scheduler.job import Job, State
from oanix.scheduler.queue import Queue
from oanix.scheduler.spec import PRIORITY, Spec
from oanix.scheduler.turns import Room, circle, next_turn

log = logging.getLogger(__name__)

OWNED: Final = 10_000
"""Jobs that one user may have waiting."""

WATCH_S: Final = 0.05
"""How often it is looked whether a job has passed a limit together with its jobs."""


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

    async def understood(self, job: Job) -> Spec:
        """Give the specification of a job with all that it comes to. Raises OSError."""

    def check(self, job: Job) -> None:
        """Refuse what cannot be run as ordered. Raises OSError."""

    async def serve(self) -> None:
        """Do what goes on beside the jobs, for as long as it is not cancelled."""

    async def run(self, job: Job) -> Ending:
        """Run a job once, to its end; cancelled, it is ended within 250 ms.

        Raises OSError for what kept it from beginning.
        """


class Scheduler:
    """The jobs of one server. Use it while it is `running`."""

    def __init__(
        self, queue: Queue, runner: Callable[[], Runner], *, room: Room | None = None,
        serves: bool = True, now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        concluded: Callable[[Job], None] = lambda job: None,
        forgotten: Callable[[Sequence[int]], Awaitable[None]] | None = None,
    ) -> None:  # fmt: skip
        """Make it.

        runner: made when a job is started; serves: whether it takes up what earlier runs have left,
        as what ends soon does not. now gives the seconds since the epoch, for people; what is
        waited for goes by `steady`, which nobody sets. concluded: called when a job has ended, or
        will be tried again; forgotten: awaited with the numbers of jobs that are no longer kept.
        """
        self._concluded = concluded
        self._forgotten = forgotten
        self._serves = serves
        self.queue = queue
        self._make_runner = runner
        self._runner: Runner | None = None
        self.room = room or Room()
        self.now = now
        self.steady = steady
        self.bell = Bell()
        """Rung when any job changes."""
        self._jobs: dict[int, Job] = {}
        self._ended: set[int] = set()
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
        """Take up what an earlier run has left: what ran is interrupted, what waited waits.

        The jobs of a job end with it: what they were made of has gone.
        """
        self._ended = set(self.queue.ids())
        now, steady = self.now(), self.steady()
        for job in self.queue.unfinished():
            self._ended.discard(job.id)
            self._jobs[job.id] = job
            job.held = not self._serves
            # The clock may have been set meanwhile: nothing is older, or later, than it can be.
            if job.ordered is not None:
                job.since = steady - max(now - job.ordered, 0.0)
            longest = job.spec.retry.after(max(job.tries, 1))
            job.not_before = steady + min(max(job.due - now, 0.0), longest)
            if job.state is State.RUNNING:
                if job.parent is not None:
                    job.told = State.FAILED, "interrupted"
                self._conclude(job, Ending(reason="interrupted", usage=job.usage))
            elif job.parent is not None:
                self._finish(job, State.CANCELLED, f"job {job.parent} ended")

    # Ordering ------------------------------------------------------------------------------------

    async def draft(self, caller: Caller, home: Namespace) -> Job:
        """Make a job that is not started. Raises OSError EMFILE for too many; as the disk does."""
        owner = maker_key(caller)
        parent = self._maker(caller)
        if parent is not None:
            family.admit(parent)
        elif sum(job.owner == owner for job in self._jobs.values()) >= OWNED:
            raise fault(errno.EMFILE, f"you have {OWNED} jobs that have not ended")
        job = Job(
            self.queue.next_id(), owner, caller.uid, caller.gid,
            parent.id if parent is not None else None, Spec(), self.now(), home=home, by=parent,
        )  # fmt: skip
        self._jobs[job.id] = job
        if parent is not None:
            parent.children.add(job)
        try:
            await self.queue.saved(job)
        except BaseException:
            del self._jobs[job.id]
            if parent is not None:
                parent.children.discard(job)
            self.queue.forget(job.id)
            raise
        if parent is not None and parent.state is not State.RUNNING:
            self._finish(job, State.CANCELLED, f"job {parent.id} ended")
        return job

    def _maker(self, caller: Caller) -> Job | None:
        if not caller.job:
            return None
        job = self._jobs.get(int(caller.job)) if caller.job.isdigit() else None
        if job is None or job.state is not State.RUNNING:
            raise fault(errno.ESRCH, f"job {caller.job} does not run, and orders no more")
        return job

    def specify(self, job: Job, spec: Spec) -> None:
        """Say what a job is to be. Raises OSError EBUSY once it was started."""
        self._require_draft(job)
        if job.id in spec.after:
            raise fault(errno.EINVAL, "a job does not come after itself")
        job.spec, job.priority, job.refused = spec, self._priority(job, spec.priority), ""
        self._changed(job)

    async def specified(self, job: Job, spec: Spec) -> None:
        """Say what a job is to be, and have it on the disk. Raises OSError as the disk, too."""
        before = job.spec, job.priority
        self.specify(job, spec)
        await self._or_back(job, before)

    def _priority(self, job: Job, asked: int) -> int:
        # What a job orders does not go before the job itself.
        return asked if job.by is None else min(asked, job.by.priority)

    async def _or_back(self, job: Job, before: tuple[Spec, int]) -> None:
        """Have a change of an order on the disk, or not at all."""
        try:
            await self.queue.saved(job)
        except OSError:
            if job.state is State.PENDING:
                job.spec, job.priority = before
                job.ordered = job.since = None
                job.reason = "not started"
            raise

    async def start(self, job: Job) -> None:
        """Let a job run when its turn comes. Raises OSError as the runner, EBUSY, EINVAL."""
        self._require_draft(job)
        if job.refused:
            raise fault(errno.EINVAL, f"its specification was refused: {job.refused}")
        job.spec.ready()
        for number in job.spec.after:
            before = self.find(number)
            if before is None or before.owner != job.owner:
                raise fault(errno.EINVAL, f"after: you have no job {number}")
        if way := circle(job, self.find):
            told = " after ".join(map(str, way))
            raise fault(errno.EINVAL, f"these jobs would wait for each other: {told}")
        ordered = job.spec
        spec = await self.runner.understood(job)
        self._require_draft(job)
        if job.spec is not ordered:
            raise fault(errno.EBUSY, f"the specification of job {job.id} was changed meanwhile")
        job.spec = spec
        try:
            self.runner.check(job)
        except OSError:
            job.spec = ordered
            raise
        job.ordered = self.now()
        job.reason = "queued"
        await self._or_back(job, (ordered, job.priority))
        if job.state is State.PENDING:
            # It is begun once it is on the disk: what was refused never runs.
            job.since = self.steady()
            job.bell.ring()
            self.bell.ring()
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

    def ids_of(self, maker: Job) -> list[int]:
        """List the jobs that a job has made, oldest first."""
        mine = {job.id for job in self._jobs.values() if job.parent == maker.id}
        return sorted({*mine, *self.queue.ids_of(maker.id)})

    def counts(self) -> dict[str, str]:
        """Tell how many jobs wait, run, and have ended."""
        states = Counter(job.state for job in self._jobs.values())
        return {
            "waiting": str(states[State.PENDING]),
            "running": str(states[State.RUNNING]),
            "ended": str(len(self._ended)),
            **({"warning": str(self.queue.broken)} if self.queue.broken is not None else {}),
        }

    # Controlling ---------------------------------------------------------------------------------

    def kill(self, job: Job, signal: str = "KILL") -> None:
        """End a job. Raises OSError ESRCH when it has ended."""
        if job.state.ended:
            raise fault(errno.ESRCH, f"job {job.id} has ended: {job.exit_line}")
        self._end(job, State.CANCELLED, f"killed {signal}")

    def _end(self, job: Job, state: State, reason: str) -> None:
        """Have a job end, wherever it is."""
        if job.told is None:
            job.told = state, reason
        if job.state is State.PENDING:
            self._finish(job, *job.told)
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
        job.priority = self._priority(job, priority)
        self._changed(job)
        self._work.ring()

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
            turn = next_turn(self._jobs.values(), self.steady(), self.room, self.find)
            if turn.job is None:
                with trio.move_on_after(turn.wait):
                    await self._work.wait()
            elif turn.failed:
                self._finish(turn.job, State.FAILED, turn.failed)
            else:
                await self._begin(turn.job)

    async def _begin(self, job: Job) -> None:
        assert self._nursery is not None
        job.state, job.reason = State.RUNNING, ""
        job.started, job.tries = self.now(), job.tries + 1
        job.limits = family.limits_of(job)
        job.usage, job.met = {}, set()
        try:
            # What runs was written down as running: a crash finds it so, and it never runs twice.
            await self.queue.saved(job)
        except OSError as error:
            self._finish(job, State.FAILED, f"error the queue cannot be written: {error.strerror}")
            return
        job.bell.ring()
        self.bell.ring()
        self._nursery.start_soon(self._run, job)
        if job.by is not None and not job.by.watched:
            job.by.watched = True
            self._nursery.start_soon(self._watch, job.by)

    async def _run(self, job: Job) -> None:
        ending = Ending(reason="interrupted", usage={})
        try:
            with trio.CancelScope() as job.scope:
                if job.spec.timeout is not None and job.since is not None:
                    left = job.since + job.spec.timeout - self.steady()
                    job.scope.deadline = trio.current_time() + max(left, 0)
                if job.told is not None:
                    job.scope.cancel()
                ending = await self.runner.run(job)
            if job.scope.cancelled_caught and job.told is None:
                ending = evolve(ending, reason="timeout")
        except OSError as error:
            ending = Ending(reason=f"error {error.strerror}", usage={})
        except Exception as error:
            log.exception("job=%d its runner failed", job.id)
            ending = Ending(reason=f"internal error {type(error).__name__}", usage={})
        finally:
            job.scope = None
            for child in list(job.children):
                self._end(child, State.CANCELLED, f"job {job.id} ended")
            self._conclude(job, ending)
            self._work.ring()

    async def _watch(self, job: Job) -> None:
        """End a job that passes a limit together with its jobs."""
        tries = job.tries
        while job.state is State.RUNNING and job.tries == tries:
            if name := family.over(job):
                self._end(job, State.FAILED, name)
                break
            await trio.sleep(WATCH_S)
        job.watched = False

    def _conclude(self, job: Job, ending: Ending) -> None:
        job.usage, job.exit = {**job.usage, **ending.usage}, ending.exit
        if met := job.limits_met:
            job.usage["met"] = ",".join(sorted(met))
        job.usage.update(family.told(job))
        family.spend(job, job.usage)
        if job.told is not None:
            self._finish(job, *job.told)
        elif ending.good:
            self._finish(job, State.COMPLETED, "")
        elif self._again(job, ending):
            delay = job.spec.retry.after(job.tries)
            job.state, job.due = State.PENDING, self.now() + delay
            job.not_before = self.steady() + delay
            job.reason = f"tried {job.tries} times, last {ending.reason or 'exit'}"
            self._recorded(job)
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
        if job.by is not None:
            job.by.children.discard(job)
        self._recorded(job)
        job.stdin.end()
        self._changed(job)
        job.output.ring()
        self._work.ring()
        # Whoever still holds it sees its end; others find it on the disk, once it is there.
        if self._nursery is not None:
            self._nursery.start_soon(self._shelve, job)

    def _recorded(self, job: Job) -> None:
        try:
            self._concluded(job)
        except OSError as error:
            # A job ends as it did, whether that can be written down or not.
            log.warning("job=%d its end cannot be recorded: %s", job.id, error.strerror)

    async def _shelve(self, job: Job) -> None:
        try:
            await self.queue.saved(job)
        except OSError:
            # The queue has said so, and tries again; the job stays in memory.
            return
        self._jobs.pop(job.id, None)
        self._ended.add(job.id)
        if len(self._ended) > self.room.kept + self.room.kept // 10:
            await self._forget_oldest()

    async def _forget_oldest(self) -> None:
        try:
            old = self.queue.ended_before(self.room.kept)
        except OSError as error:
            log.warning("old jobs cannot be listed, and stay: %s", error.strerror)
            return
        for number in old:
            self.queue.forget(number)
            self._ended.discard(number)
        self.bell.ring()
        if self._forgotten is not None:
            await self._forgotten(old)
