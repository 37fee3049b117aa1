"""The files of one job: each a handler over the job and its scheduler."""

import errno
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from oanix.errors import fault
from oanix.kit import Handler, Opening, Snapshot, facts, integer
from oanix.kit.awaited import AwaitedLines, Start
from oanix.kit.file import check_truncate
from oanix.node import READABLE, WOULD_BLOCK, WRITABLE, Handle, WouldBlock
from oanix.operation import Deed, did
from oanix.recipe import format_recipe, parse
from oanix.scheduler import family
from oanix.scheduler.job import Job
from oanix.scheduler.limits import Limits
from oanix.scheduler.pipe import PipeWriter
from oanix.scheduler.scheduler import Scheduler
from oanix.scheduler.spec import PRIORITY, SPEC_MAX, Spec, parse_spec

SIGNALS: Final = ("KILL", "TERM", "INT", "HUP", "QUIT", "PIPE")
"""What `kill` may be followed by; each ends the job, and its `status` says by which."""

LINE_MAX: Final = 4_096


class Control(Handler):
    """`ctl`: one command a line; the write ends when it is done and on the disk."""

    writes = True

    def __init__(self, scheduler: Scheduler, job: Job, start: Start) -> None:
        self._scheduler = scheduler
        self._job = job
        self._start = start

    async def open(self, opening: Opening) -> Handle:
        return _Commands(self._scheduler, self._job, opening, self._start)


class _Commands(AwaitedLines):
    told = True

    def __init__(self, scheduler: Scheduler, job: Job, opening: Opening, start: Start) -> None:
        super().__init__(opening, start, LINE_MAX)
        self._scheduler = scheduler
        self._job = job

    async def take(self, line: bytes) -> None:
        verb, argument = (*self.text(line).split(None, 1), "", "")[:2]
        argument = argument.strip()
        scheduler, job = self._scheduler, self._job
        if verb in ("start", "stop", "cont", "seal") and argument:
            raise fault(errno.EINVAL, f"{verb} stands alone; leave out {argument[:40]!r}")
        if verb == "start":
            await scheduler.start(job)
        elif verb == "kill":
            signal = argument.upper().removeprefix("SIG") or "KILL"
            if signal not in SIGNALS:
                raise fault(errno.EINVAL, f"kill is followed by one of: {', '.join(SIGNALS)}")
            scheduler.kill(job, signal)
        elif verb in ("stop", "cont"):
            scheduler.pause(job, verb == "stop")
        elif verb == "priority":
            scheduler.set_priority(job, integer(argument, PRIORITY[0], PRIORITY[-1]))
        elif verb == "seal":
            scheduler.seal(job)
        else:
            verbs = "start, kill [SIGNAL], stop, cont, priority N, seal"
            raise fault(errno.EINVAL, f"{verb[:40]!r} is no command; write one of: {verbs}")
        if verb != "start":
            await self._saved(verb)
        told = {"job": job.id, "command": f"{verb} {argument}".rstrip()}
        run = job.id if verb == "start" else 0
        did(self._opening.namespace, self._opening.caller, Deed("control_job", told, run=run))

    async def _saved(self, verb: str) -> None:
        try:
            await self._scheduler.queue.saved(self._job)
        except OSError as error:
            why = f"{verb} was done, but is not on the disk yet: {error.strerror}"
            raise fault(error.errno or errno.EIO, why) from None


class Specification(Handler):
    """`spec`: JSON that is read back as it was understood. It is taken when it is whole."""

    reads = True
    writes = True

    def __init__(self, scheduler: Scheduler, job: Job) -> None:
        self._scheduler = scheduler
        self._job = job

    async def open(self, opening: Opening) -> Handle:
        shown = Snapshot(self._job.spec.show().encode(), opening.file) if opening.reads else None
        if not opening.writes:
            assert shown is not None
            return shown
        return _SpecHandle(self._scheduler, self._job, opening, shown)


class _SpecHandle(Handle):
    """Takes a specification: at a newline when it is whole by then, else at the close."""

    told = True

    def __init__(
        self, scheduler: Scheduler, job: Job, opening: Opening, shown: Snapshot | None
    ) -> None:
        self._scheduler = scheduler
        self._job = job
        self._opening = opening
        self._shown = shown
        self._said = bytearray()

    def try_read(self, size: int, offset: int) -> bytes:
        if self._shown is None:
            raise fault(errno.EBADF, "this file was not opened for reading")
        return self._shown.try_read(size, offset)

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        if len(self._said) + len(data) > SPEC_MAX:
            self._said.clear()
            raise fault(errno.EFBIG, f"a specification has at most {SPEC_MAX} bytes")
        if self._whole_with(data):
            return WOULD_BLOCK
        self._said += data
        return len(data)

    def _whole_with(self, data: bytes) -> bool:
        # Braces in texts may hide the end; then it is taken at the close.
        said = self._said + data
        whole = said.rstrip().endswith(b"}") and said.count(b"{") <= said.count(b"}")
        return whole and data.endswith(b"\n")

    async def write(self, data: bytes, offset: int) -> int:
        answer = self.try_write(data, offset)
        if answer is not WOULD_BLOCK:
            return answer
        said = bytes(self._said + data)
        self._said.clear()
        opening = self._opening
        with self._refusing():
            spec = parse_spec(said)
            await self._scheduler.specified(self._job, spec)
        opening.file.written()
        self._tell(spec)
        return len(data)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Have the start of the job say what was wrong: a shell does not look how a close ends."""
        try:
            yield
        except OSError as error:
            if self._job.ordered is None:
                self._job.refused = error.strerror or str(error)
            raise

    def _tell(self, spec: Spec) -> None:
        told = {"job": self._job.id, "module": spec.module or spec.kind, "args": [*spec.args]}
        did(self._opening.namespace, self._opening.caller, Deed("specify_job", told))

    async def fsync(self, datasync: bool) -> None:
        await self._scheduler.queue.saved(self._job)

    def truncate(self, size: int) -> None:
        check_truncate(size)

    def flush(self) -> None:
        if self._said.strip():
            parse_spec(bytes(self._said))

    def ready(self, wake: Callable[[], None] | None) -> int:
        return READABLE | WRITABLE

    def close(self) -> None:
        if not self._said.strip():
            return
        opening = self._opening
        try:
            with self._refusing():
                spec = parse_spec(bytes(self._said))
                self._scheduler.specify(self._job, spec)
            opening.file.written()
            self._tell(spec)
        except OSError as error:
            opening.namespace.sentences.report(error, opening.caller, f"close {opening.file.name}")


class Wait(Handler):
    """`wait`: waits for the end of the job, and gives its exit line."""

    reads = True

    def __init__(self, scheduler: Scheduler, job: Job) -> None:
        self._scheduler = scheduler
        self._job = job

    async def open(self, opening: Opening) -> Handle:
        return _WaitHandle(self._job, opening)


class _WaitHandle(Handle):
    stream = True
    told = True

    def __init__(self, job: Job, opening: Opening) -> None:
        self._job = job
        self._opening = opening
        self._rest: bytes | None = None

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if self._rest is None:
            if not self._job.state.ended:
                return WOULD_BLOCK
            line = self._job.exit_line
            self._rest = f"{line}\n".encode()
            told = Deed("wait_for_job", {"job": self._job.id}, line, run=self._job.id)
            did(self._opening.namespace, self._opening.caller, told)
        given, self._rest = self._rest[:size], self._rest[size:]
        return given

    async def read(self, size: int, offset: int) -> bytes:
        while (answer := self.try_read(size, offset)) is WOULD_BLOCK:
            await self._job.bell.wait()
        return answer

    def ready(self, wake: Callable[[], None] | None) -> int:
        if self._job.state.ended:
            return READABLE
        if wake is not None:
            self._job.bell.listen(wake, self)
        return 0

    def close(self) -> None:
        self._job.bell.forget(self)


class Input(Handler):
    """`stdin`: what is written here is what the job reads."""

    writes = True

    def __init__(self, job: Job) -> None:
        self._job = job

    async def open(self, opening: Opening) -> Handle:
        return PipeWriter(self._job.stdin)


class Output(Handler):
    """`stdout`, `stderr`: what the job writes, as it comes, to its end."""

    reads = True

    def __init__(self, job: Job, show: "Callable[[], Awaitable[Handle]]") -> None:
        self._job = job
        self._show = show

    async def open(self, opening: Opening) -> Handle:
        return _Following(self._job, await self._show())


class _Following(Handle):
    """Reads a file that grows until the job has ended."""

    stream = True

    def __init__(self, job: Job, kept: Handle) -> None:
        self._job = job
        self._kept = kept
        self._at = 0

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if size <= 0:
            return b""
        ended = self._job.state.ended
        data = self._kept.try_read(size, self._at)
        if data is WOULD_BLOCK or data:
            self._at += 0 if data is WOULD_BLOCK else len(data)
            return data
        return b"" if ended else WOULD_BLOCK

    async def read(self, size: int, offset: int) -> bytes:
        while (data := self.try_read(size, offset)) is WOULD_BLOCK:
            await self._job.output.wait()
        return data

    def ready(self, wake: Callable[[], None] | None) -> int:
        size = self._kept.stat()
        if self._job.state.ended or (size is not None and size.st_size > self._at):
            return READABLE
        if wake is not None:
            self._job.output.listen(wake, self)
        return 0

    def close(self) -> None:
        self._job.output.forget(self)
        self._kept.close()


def usage_text(job: Job) -> str:
    """Tell what a job used and what it may use, each limit in a line; `-` is what nobody knows."""
    told = job.live() if job.live is not None else job.usage
    limits = told.get("limits") or (job.limits or Limits.parse(job.spec.limits)).show()
    told = {**told, **family.told(job)}
    lines: dict[str, object] = {}
    if job.spec.interpreter:
        lines["interpreter"] = job.spec.interpreter
    for name, most in limits.items():
        lines[name] = f"{_short(told.get(name))} of {_short(most)}"
    for name, value in told.items():
        if name not in limits and name not in ("limits", "backtrace", "met"):
            lines[name] = _short(value)
    if met := job.limits_met:
        lines["met"] = ",".join(sorted(met))
    return facts(lines)


def _short(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def recipe_text(job: Job) -> str:
    """Give the lines of its namespace: as they were done, else as they were ordered."""
    return job.recipe or format_recipe(p.line for p in parse(job.spec.namespace or ""))
