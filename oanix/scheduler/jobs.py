"""JobsFs: jobs as files, so that a shell script can order, watch and end them."""

import errno
import inspect
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakValueDictionary

import trio
from attrs import evolve

from oanix.caller import Caller
from oanix.errors import fault
from oanix.kit import (
    Folder,
    Handler,
    Opening,
    Owner,
    Rows,
    TableDirectory,
    TableService,
    Text,
    facts,
)
from oanix.kit.conversation import Quota
from oanix.namespace import Namespace
from oanix.node import READABLE, WOULD_BLOCK, CanReadlink, Handle, Node, WouldBlock
from oanix.operation import Deed, did
from oanix.scheduler.job import Job, maker_of
from oanix.scheduler.job_files import (
    Control,
    Input,
    Output,
    Specification,
    Wait,
    recipe_text,
    usage_text,
)
from oanix.scheduler.queue import Queue
from oanix.scheduler.scheduler import Runner, Scheduler
from oanix.scheduler.task import task_folder
from oanix.scheduler.trajectory import Trajectories
from oanix.scheduler.trajectory.calls import Mask
from oanix.scheduler.turns import Room
from oanix.stat import Stat
from oanix.table import Member

if TYPE_CHECKING:
    from oanix.services.logs import LogsFs

OPEN_NEW = 64
"""Opens of `new` that one user may have."""


class JobsFs(TableService):
    """Jobs: programs that run with a namespace of their own, and nothing else.

    new            reading it makes a job and gives its number
    ID/spec        what the job is to be, as JSON: {"module": "/workspace/a.wasm", "args": ["x"]}
    ID/ctl         start, kill [SIGNAL], stop, cont, priority N, seal
    ID/wait        waits for the end, and gives it: completed 0
    ID/stdin       what is written here, the job reads
    ID/stdout      what the job writes, as it comes; stderr as well
    ID/status      where it is in its life, and why
    ID/usage       what it used, and what it may use
    ID/ns          the lines that its namespace is made of
    ID/steps       what the job does, step by step, as it does it
    ID/log         a link to /logs/runs/ID: output, events, trajectory
    ID/task        what the job sees as /task

    n=$(cat jobs/new); echo '{"module": "/workspace/hello.wasm"}' >jobs/$n/spec
    echo start >jobs/$n/ctl; cat jobs/$n/wait; cat jobs/$n/stdout

    Jobs persist: one that waits is there after a restart, and one that ran then has failed, with
    the reason `interrupted`. A job that is granted /jobs sees and controls those that it has made,
    and no others; they use what it may use, and end when it ends.
    """

    name: ClassVar[str] = "jobs"
    capability: ClassVar[bool] = True

    def __init__(
        self, folder: Path, logs: "LogsFs", root: Callable[[], Namespace], *,
        room: Room | None = None, serves: bool = True, clock: Callable[[], int] = time.time_ns,
        steady: Callable[[], float] = time.monotonic, users: Callable[[int], bool] | None = None,
        cache: Path | None = None, mask: Callable[[], Mask] | None = None,
    ) -> None:  # fmt: skip
        """Make it.

        folder: where jobs and modules are kept; logs: where runs are logged; root: the namespace of
        the owner, for jobs that were ordered before a restart; serves, steady: as for `Scheduler`.
        The clock: nanoseconds. users: whether a uid may order jobs, which act with the rights of
        the server; the server's own and root's, unless it is said. cache: where interpreters are
        kept, for all servers of a user. mask: gives what masks the secrets of now in trajectories.
        """
        super().__init__(now=clock)
        self._logs = logs
        self.inner = Namespace()
        """What the server itself sees of jobs and logs."""
        self.trajectories = Trajectories(
            logs, lambda number: self.scheduler.find(number), mask=mask, now=lambda: clock() / 1e9
        )

        def make_runner() -> Runner:
            # wasmtime takes long to load, and most commands run no job.
            from oanix.scheduler.runner import WasiRunner

            return WasiRunner(
                folder, root, self.inner, self.trajectories, self._shown, shares=serves,
                cache=cache or folder,
            )  # fmt: skip

        self.scheduler = Scheduler(
            Queue(folder / "jobs.db"),
            make_runner,
            room=room, serves=serves, now=lambda: clock() / 1e9, steady=steady,
            concluded=self.trajectories.concluded, forgotten=self._forget_logs,
        )  # fmt: skip
        self._users = users or (lambda uid: uid in (0, os.geteuid()))
        self.whose: WeakValueDictionary[int, Job] = WeakValueDictionary()
        """The jobs whose files are looked at, by the numbers of these."""
        self._nursery: trio.Nursery | None = None
        quota = Quota(OPEN_NEW, "open jobs/new; close some")
        self._new = New(self.scheduler, quota, self._users)
        self.grow([("new", 0o444, self._new)], _Jobs(self))
        self.inner.mount(self, "/jobs")
        self.inner.mount(logs, "/logs")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run jobs for as long as the block."""
        async with self.scheduler.running(), trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self.trajectories.run)
            try:
                yield
            finally:
                self._nursery.cancel_scope.cancel()
        self._nursery = None

    async def _forget_logs(self, numbers: Sequence[int]) -> None:
        await self._logs.drop_runs([str(number) for number in numbers])

    def status(self) -> dict[str, str]:
        """Tell how many jobs there are."""
        return self.scheduler.counts()

    def begin(self, task: Callable[[], Awaitable[object]]) -> None:
        """Have a task run. Raises OSError ESHUTDOWN when the service does not."""
        if self._nursery is None:
            raise fault(errno.ESHUTDOWN, "the service is not running")
        self._nursery.start_soon(task)

    def _shown(self, job: Job, member: Member) -> Member:
        """Give what is bound for a job as it may see it: of all jobs, those that it makes.

        The files of one job, bound by who may open them, are granted. Raises OSError EACCES.
        """
        if member.entry.service is not self:
            return member
        node = member.node
        if node is self.root or isinstance(node, _Mine):
            return evolve(member, node=_Mine(self, job))
        other = self.whose.get(node.qid)
        if other is not None and other is not job:
            JobGuard(other).admit(maker_of(job))
            other.guests.add(str(job.id))
        return member

    def own_rows(self) -> Rows:
        """Give the files that stand beside the jobs."""
        return [("README", 0o444, Text(inspect.cleandoc(self.__doc__ or "") + "\n")),
                ("new", 0o444, self._new)]  # fmt: skip

    async def _log(self, job: Job, name: str) -> Handle:
        """Open a log of a job, which is made if need be."""
        run = self._logs.open_run(str(job.id))
        if not run.record.exists:
            # Whoever is there before the first step waits for it.
            run.record.append(b"")
        channel = self.inner.resolve(_OWNER, f"/logs/runs/{job.id}/{name}")
        return (await channel.open(_OWNER, os.O_RDONLY)).handle

    def rows_of(self, job: Job) -> Rows:
        """Give the files of a job."""
        scheduler = self.scheduler
        return [
            ("ctl", 0o200, Control(scheduler, job, self.begin)),
            ("spec", 0o600, Specification(scheduler, job)),
            ("status", 0o400, Text(lambda _: facts(job.facts()))),
            ("wait", 0o400, Wait(scheduler, job)),
            ("stdin", 0o200, Input(job)),
            ("stdout", 0o400, Output(job, lambda: self._log(job, "stdout"))),
            ("stderr", 0o400, Output(job, lambda: self._log(job, "stderr"))),
            ("steps", 0o400, Output(job, lambda: self._log(job, "trajectory.jsonl"))),
            ("usage", 0o400, Text(lambda _: usage_text(job))),
            ("ns", 0o400, Text(lambda _: recipe_text(job))),
            ("task", 0o700, task_folder(job)),
        ]


_OWNER = Caller(door="jobs")


class JobGuard:
    """Who may use the files of a job: its user; of jobs, itself, its maker, and whom it is bound.

    A job that has been bound a file sees no other file of the same job.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def enter(self, caller: Caller) -> None:
        """Let somebody open a file. Raises OSError EACCES."""
        if caller.job not in self._job.guests:
            self.admit(caller)

    def admit(self, caller: Caller) -> None:
        """Let somebody open a file, or bind it for another. Raises OSError EACCES."""
        job = self._job
        if caller.job:
            allowed = caller.job in (str(job.id), str(job.parent))
        else:
            allowed = caller.uid in (job.uid, 0)
        if not allowed:
            raise fault(errno.EACCES, f"job {job.id} belongs to another")

    def leave(self) -> None:
        """Count a close; nothing depends on it."""


class _JobDirectory(TableDirectory):
    """The directory of a job, with the link to its logs."""

    def __init__(self, service: JobsFs, job: Job) -> None:
        super().__init__(
            service, Folder(service.rows_of(job)), 0o500,
            owner=Owner(uid=job.uid, gid=job.gid), guard=JobGuard(job), now=service.now,
        )  # fmt: skip
        self._rows["log"] = _LogLink(service, job)
        todo: list[Node] = [self]
        while todo:
            node = todo.pop()
            service.whose[node.qid] = job
            todo += node._rows.values() if isinstance(node, TableDirectory) else []


class _LogLink(CanReadlink):
    """`log`: where the output of a job is, seen from its directory at /jobs."""

    def __init__(self, service: JobsFs, job: Job) -> None:
        self.qid = service.next_qid()
        self._target = f"../../logs/runs/{job.id}"
        self._uid, self._gid = job.uid, job.gid

    def stat(self) -> Stat:
        return Stat(0o120777, 1, self._uid, self._gid, st_size=len(self._target))

    def readlink(self) -> str:
        return self._target


class _Jobs:
    """The directories of the jobs, made when they are looked at."""

    def __init__(self, service: JobsFs, maker: Job | None = None) -> None:
        self._service = service
        self._maker = maker
        self._made: WeakValueDictionary[int, _JobDirectory] = WeakValueDictionary()

    def find(self, name: str) -> Node | None:
        """Find the directory of a job."""
        if not (name.isascii() and name.isdigit() and len(name) < 16) or name != str(int(name)):
            return None
        made = self._made.get(int(name))
        if made is None:
            job = self._service.scheduler.find(int(name))
            if job is None or (self._maker is not None and job.parent != self._maker.id):
                return None
            made = self._made[job.id] = _JobDirectory(self._service, job)
        return made

    def names(self) -> list[str]:
        """List the jobs."""
        scheduler = self._service.scheduler
        made = scheduler.ids() if self._maker is None else scheduler.ids_of(self._maker)
        return list(map(str, made))

    def placed(self, directory: TableDirectory) -> None:
        """Learn in which directory they are."""


class _Mine(TableDirectory):
    """`/jobs` as a job sees it."""

    def __init__(self, service: JobsFs, job: Job) -> None:
        super().__init__(service, Folder(service.own_rows(), _Jobs(service, job)), now=service.now)


class New(Handler):
    """`new`: its first read makes a job, and gives its number once that is on the disk."""

    reads = True
    makes = True

    def __init__(self, scheduler: Scheduler, quota: Quota, users: Callable[[int], bool]) -> None:
        self._scheduler = scheduler
        self._quota = quota
        self._users = users

    async def open(self, opening: Opening) -> Handle:
        if not self._users(opening.caller.uid):
            raise fault(
                errno.EACCES, "jobs act with the rights of the server: its user orders them"
            )
        self._quota.hold(opening.caller)
        return _NewHandle(self._scheduler, self._quota, opening)


class _NewHandle(Handle):
    told = True

    def __init__(self, scheduler: Scheduler, quota: Quota, opening: Opening) -> None:
        self._scheduler = scheduler
        self._quota = quota
        self._caller = opening.caller
        self._home = opening.namespace
        self._job: Job | None = None

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if size < 0 or offset < 0:
            raise fault(errno.EINVAL, "sizes and offsets are not negative")
        if self._job is None:
            return WOULD_BLOCK
        return (b"%d\n" % self._job.id)[offset : offset + size]

    async def read(self, size: int, offset: int) -> bytes:
        if self._job is None:
            self._job = await self._scheduler.draft(self._caller, self._home)
            did(self._home, self._caller, Deed("make_job", {}, f"job {self._job.id}"))
        answer = self.try_read(size, offset)
        assert answer is not WOULD_BLOCK
        return answer

    def ready(self, wake: Callable[[], None] | None) -> int:
        return READABLE

    def close(self) -> None:
        self._quota.drop(self._caller)
