"""Runner: runs a job as a WASI guest, in a worker or in this process."""

import errno
import json
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from attrs import evolve

from oanix.caller import Caller
from oanix.channel import Channel, OpenFile
from oanix.client import Client
from oanix.errors import fault
from oanix.namespace import Namespace
from oanix.scheduler import kinds
from oanix.scheduler.engine import DIRECT, Ended, Guest, GuestLimits, Used
from oanix.scheduler.family import ancestors
from oanix.scheduler.inside import Inside
from oanix.scheduler.job import Job, maker_of
from oanix.scheduler.limits import Limits
from oanix.scheduler.modules import Modules, Stored
from oanix.scheduler.pipe import PipeReader
from oanix.scheduler.scheduler import Ending
from oanix.scheduler.scripts import FOLDER, Interpreters, Script, imports, script_of
from oanix.scheduler.spec import Source, Spec
from oanix.scheduler.stdio import Given, Heard, Kept
from oanix.scheduler.trajectory import Trajectories
from oanix.scheduler.trajectory.watching import watched
from oanix.scheduler.wasi import Bounds, OverLimit, Process
from oanix.scheduler.workers import Pool, WorkerDied, WorkerGuest
from oanix.scheduler.worlds import default_recipe, hidden_in, world

if TYPE_CHECKING:
    from oanix.node import Handle
    from oanix.scheduler.interpreters import Start
    from oanix.table import Member

log = logging.getLogger(__name__)

NOTHING = Used(wall=0.0, cpu=0.0, memory=0, fuel=None)
LAST_S = 2.0
"""How long the end of a job may take to be written down."""


class WasiRunner:
    """Runs jobs."""

    def __init__(
        self, folder: Path, root: Callable[[], Namespace], inner: Namespace,
        trajectories: Trajectories, shown: "Callable[[Job, Member], Member]", *, shares: bool,
        cache: Path,
    ) -> None:  # fmt: skip
        """Make it.

        folder: where modules are kept; root: the namespace of the owner; inner: one that shows
        `/jobs` and `/logs` as the server sees them; trajectories: where runs are recorded;
        shown: how a job sees what is bound for it; shares: whether this process has more to do than
        one job, so that jobs run in others; cache: where interpreters are kept, for all servers of
        a user.
        """
        self._trajectories = trajectories
        self._shown = shown
        self._root = root
        self._inner = inner
        self._modules = Modules(folder)
        self._interpreters = Interpreters(cache)
        self._inside = Inside(imports)
        self._workers: Pool | None = None
        if shares and DIRECT:
            given = self._interpreters.compiled
            self._workers = Pool(imports(), self._modules, given=given)

    async def serve(self) -> None:
        """Have workers, for as long as it is not cancelled."""
        if self._workers is not None:
            await self._workers.serve()

    async def understood(self, job: Job) -> Spec:
        """Give the specification of a job with all that it comes to. Raises OSError."""
        if not job.spec.kind:
            return job.spec
        return await kinds.understood(job.spec, self._home(job), caller_of(job))

    def check(self, job: Job) -> None:
        """Refuse what cannot be run as ordered. Raises OSError."""
        home, caller = self._home(job), caller_of(job)
        spec = job.spec
        if spec.module and not spec.module.startswith("sha256:"):
            found = _found(home, caller, spec.module)
            if found.is_directory:
                raise fault(errno.EISDIR, f"{spec.module} is a directory, and no module")
        if isinstance(spec.stdin, Source):
            given = _found(home, maker_of(job), spec.stdin.path)
            if given.is_directory:
                raise fault(errno.EISDIR, f"{spec.stdin.path} is a directory: no job can read it")
        # `ns` has it from here on.
        shown = partial(self._shown, job)
        parent = kinds.parent_of(spec, home)
        job.recipe = world(parent, self._recipe(job, home), {}, shown).recipe()

    def _home(self, job: Job) -> Namespace:
        if job.home is not None:
            return job.home
        if job.parent is not None:
            raise fault(errno.ESRCH, f"job {job.parent}, whose world it was to share, has ended")
        return self._root()

    def _recipe(self, job: Job, home: Namespace) -> str:
        if job.spec.namespace is not None:
            return job.spec.namespace
        return default_recipe(home, caller_of(job), job.spec.grant)

    async def run(self, job: Job) -> Ending:
        """Run a job once, to its end."""
        home, caller = self._home(job), caller_of(job)
        limits = job.limits or Limits.parse(job.spec.limits)
        recorder = self._trajectories.open(job)
        with trio.move_on_after(limits.wall) as finding:
            module = await self._modules.find(job.spec.module, Client(home, caller))
        if finding.cancelled_caught:
            # It is read from a file that waits, which may be the output of another job.
            return Ending(reason="wall", usage={})
        if job.by is not None and module.fresh:
            # It is kept on the disk for whoever orders it again.
            job.by.spent["written"] = job.by.spent.get("written", 0) + module.size
        script = await self._script(job, module)
        logs = self._inner.resolve(caller, f"/logs/runs/{job.id}")
        task = self._inner.resolve(caller, f"/jobs/{job.id}/task")
        given = {"/task": task, "/logs": logs}
        if job.spec.kind:
            # What it runs lies among files that it reads.
            given[FOLDER] = home.resolve(caller, os.path.dirname(job.spec.module))
        space = world(
            kinds.parent_of(job.spec, home), self._recipe(job, home), given,
            lambda member: self._shown(job, member),
        )  # fmt: skip
        if job.sealed:
            space.seal()
        job.recipe, job.namespace = space.recipe(), space
        words = [job.spec.name or os.path.basename(job.spec.module), *job.spec.args]
        if script is not None:
            at = "" if job.spec.kind else _shown_at(job.spec.module, space, home, caller)
            words = script.argv(job.spec.args, at)
        process = Process(
            space, caller, args=words, env=job.spec.env,
            bounds=Bounds(files=limits.files, output_bytes=limits.output,
                          written_bytes=limits.written),
        )  # fmt: skip
        with watched(space, caller, recorder):
            try:
                process.give(await self._standard(job, caller))
                process.preopen(space.root, "/")
                hidden = _hidden(space, caller)
                await self._note(
                    job, "started", module=job.spec.module, digest=module.digest,
                    interpreter=job.spec.interpreter, hidden=hidden, **_of_kind(job),
                )  # fmt: skip
                self._trajectories.started(job, module.digest, limits.show(), hidden)
                return await self._guest(job, module, script, process, limits)
            finally:
                job.live = job.pause = job.namespace = job.process = job.script = None
                process.close()
                with trio.move_on_after(LAST_S, shield=True):
                    await self._last_note(job)

    async def _last_note(self, job: Job) -> None:
        try:
            await self._note(job, "ended", usage=job.usage)
        except OSError as error:
            # A job ends as it did, whether that can be written down or not.
            log.warning("job=%d its end cannot be logged: %s", job.id, error.strerror)

    async def _script(self, job: Job, module: Stored) -> Script | None:
        """Look whether a job is a script, and say on the job what runs it."""
        spec = job.spec
        called = spec.name if spec.module.startswith("sha256:") else spec.module
        script = await script_of(module, os.path.basename(called), spec.interpreter)
        if script is not None:
            job.spec = evolve(spec, interpreter=script.interpreter.name)
            job.script = script.name, script.content
        return script

    async def _interpreter(
        self, job: Job, script: Script, *, fuel: bool, shared: bool
    ) -> Stored:  # fmt: skip
        """Have what runs a script ready, and say on the job when that takes seconds."""

        def compiles() -> None:
            job.reason = f"compiles {script.interpreter.title}, this once"

        try:
            return await self._interpreters.ready(
                script.interpreter, fuel=fuel, shared=shared, compiles=compiles
            )
        finally:
            job.reason = ""

    async def _guest(
        self, job: Job, module: Stored, script: Script | None, process: Process, limits: Limits
    ) -> Ending:
        """Run the module of a job, or what runs its script, to its end."""
        found: list[Guest | WorkerGuest] = []

        def used() -> dict[str, Any]:
            return usage(limits, found[0].used if found else NOTHING, process)

        def begun(guest: Guest | WorkerGuest) -> None:
            found.append(guest)
            process.cpu_ns = lambda: guest.cpu_ns
            job.live, job.pause, job.process = used, guest.pause, guest.process
            guest.pause(job.stopped)

        # What a job orders is no more trusted than the job itself.
        inside = self._workers is None or all(one.spec.worker is False for one in ancestors(job))
        place = self._inside if inside or self._workers is None else self._workers
        start: str | Start = "_start"
        try:
            if script is not None:
                counted, start = limits.fuel is not None, script.start
                module = await self._interpreter(job, script, fuel=counted, shared=not inside)
            ended = await place.run(module, process, guest_limits(limits), start, begun)
            return _ending(ended, limits, process)
        except OverLimit as over:
            return Ending(reason=over.limit, usage=used())
        except WorkerDied:
            return Ending(reason="crashed", usage=used())
        finally:
            job.usage = used()

    async def _standard(self, job: Job, caller: Caller) -> list[OpenFile | None]:
        """Open its standard input, output and error."""
        files = [await self._input(job, caller)]
        try:
            for name in ("stdout", "stderr"):
                channel = self._inner.resolve(caller, f"/logs/runs/{job.id}/{name}")
                opened = await channel.open(caller, os.O_WRONLY | os.O_APPEND)
                kept = Kept(opened, caller, partial(_said, job, name))
                files.append(OpenFile(channel, kept, os.O_WRONLY))
        except BaseException:
            for file in files:
                file.close(caller)
            raise
        return list(files)

    async def _input(self, job: Job, caller: Caller) -> OpenFile:
        given = job.spec.stdin
        if isinstance(given, Source):
            maker = maker_of(job)
            return await self._home(job).resolve(maker, given.path).open(maker, os.O_RDONLY)
        source: Handle = Given((given or "").encode())
        if given is None:
            source = Heard(PipeReader(job.stdin), partial(_said, job, "stdin"))
        at = self._inner.resolve(caller, f"/jobs/{job.id}/stdin")
        return OpenFile(at, source, os.O_RDONLY)

    async def _note(self, job: Job, message: str, **more: Any) -> None:
        line = json.dumps({"message": f"job {job.id} {message}", "try": job.tries, **more})
        client = Client(self._inner, caller_of(job))
        await client.write(f"/logs/runs/{job.id}/events.jsonl", line + "\n", append=True)


def _found(home: Namespace, caller: Caller, path: str) -> Channel:
    """Look up what an order names. Raises OSError that says which, as it is told of `ctl`."""
    try:
        return home.resolve(caller, path)
    except OSError as error:
        told = error.strerror or ""
        raise fault(error.errno or errno.EIO, told if path in told else f"{path}: {told}") from None


def _said(job: Job, name: str, data: bytes) -> None:
    if job.trajectory is not None and name == "stdin":
        job.trajectory.heard(data)
    elif job.trajectory is not None:
        job.trajectory.said(name, data)
    job.output.ring()


def _shown_at(path: str, space: Namespace, home: Namespace, caller: Caller) -> str:
    """Give the path of a script when a world shows the same file there, else nothing."""
    if not path.startswith("/"):
        return ""
    try:
        found, meant = space.resolve(caller, path), home.resolve(caller, path)
    except OSError:
        return ""
    same = found.entry.service is meant.entry.service and found.node.qid == meant.node.qid
    return found.path if same else ""


def caller_of(job: Job) -> Caller:
    """Say on whose behalf a job acts."""
    return Caller(uid=job.uid, gid=job.gid, job=str(job.id), door="wasi")


def guest_limits(limits: Limits) -> GuestLimits:
    """Give the limits that the engine enforces."""
    return GuestLimits(
        wall=limits.wall, cpu=limits.cpu, fuel=limits.fuel, memory=limits.memory,
        table=limits.table,
    )  # fmt: skip


def usage(limits: Limits, used: Used, process: Process) -> dict[str, Any]:
    """Tell what a job has used, and what it may use."""
    met = sorted(process.used.refused | used.met)
    return {
        "wall": round(used.wall, 6), "cpu": round(used.cpu, 6), "memory": used.memory,
        **({"fuel": used.fuel} if used.fuel is not None else {}),
        "files": process.used.files, "output": process.used.output_bytes,
        "read": process.used.read_bytes, "written": process.used.written_bytes,
        **({"met": ",".join(met)} if met else {}), "limits": limits.show(),
    }  # fmt: skip


def _ending(ended: Ended, limits: Limits, process: Process) -> Ending:
    told = usage(limits, ended.used, process)
    if ended.limit:
        return Ending(reason=ended.limit, usage=told)
    if ended.trap:
        return Ending(reason=f"trap {ended.trap}", usage={**told, "backtrace": ended.backtrace})
    return Ending(exit=ended.code, usage=told)


def _of_kind(job: Job) -> dict[str, object]:
    if not job.spec.kind:
        return {}
    return {"kind": job.spec.kind, "left_out": list(kinds.left_out(job.spec.namespace))}


def _hidden(space: Namespace, caller: Caller) -> list[str]:
    try:
        return hidden_in(space.resolve(caller, "/workspace"), caller)
    except OSError:
        return []
