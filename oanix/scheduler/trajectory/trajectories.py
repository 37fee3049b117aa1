"""Trajectories: the recorders of one server, and the task that writes what waits."""

import json
import logging
import shlex
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from oanix.bell import Bell
from oanix.lib.atif import Header, stamp
from oanix.scheduler.job import Job
from oanix.scheduler.kinds import left_out
from oanix.scheduler.spec import Source
from oanix.scheduler.trajectory.recorder import Recorder

if TYPE_CHECKING:
    from oanix.scheduler.trajectory.calls import Mask
    from oanix.services.logs import LogsFs

log = logging.getLogger(__name__)

STEP_S: Final = 0.5
"""How long a step waits for more that belongs to it."""

ANSWER_MAX: Final = 2_000
"""Characters of an answer that the last step shows."""


class Trajectories:
    """The trajectories of the jobs of one server."""

    def __init__(
        self, logs: "LogsFs", find: Callable[[int], Job | None], *,
        mask: "Callable[[], Mask] | None" = None, now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """Make it.

        find: finds a job by its number; mask: gives what masks the secrets that are known now. The
        clock: seconds since the epoch.
        """
        self._logs = logs
        self._find = find
        self._masking = mask
        self._now = now
        self._waiting: set[Recorder] = set()
        self._bell = Bell()

    async def run(self) -> None:
        """Write steps that have waited for long enough, for ever."""
        while True:
            while not self._waiting:
                await self._bell.wait()
            await trio.sleep(STEP_S)
            for recorder in list(self._waiting):
                self._waiting.discard(recorder)
                recorder.flush()

    def open(self, job: Job) -> Recorder:
        """Begin to record a job, or go on."""
        record = self._logs.open_run(str(job.id)).record
        recorder = job.trajectory = Recorder(
            record, record.read(), now=self._now, mask=self._mask,
            wrote=job.output.ring, session=self._session, dirty=lambda: self._dirty(recorder),
        )  # fmt: skip
        return recorder

    def _dirty(self, recorder: Recorder) -> None:
        self._waiting.add(recorder)
        self._bell.ring()

    def _mask(self, text: str) -> str:
        return text if self._masking is None else self._masking()(text)

    def _session(self, number: int) -> str:
        job = self._find(number)
        return session_of(job) if job is not None else f"job-{number}"

    # Life of a job -------------------------------------------------------------------------------

    def started(self, job: Job, digest: str, limits: dict[str, Any], hidden: Sequence[str]) -> None:
        """Write down that a job runs: what, in which world, on whose order."""
        recorder, spec = job.trajectory, job.spec
        if recorder is None:
            return
        recorder.begin(self._header(job, digest))
        bounds = ", ".join(
            f"{name} {_size(name, value)}" for name, value in limits.items() if value is not None
        )
        module = "" if spec.module.startswith("sha256:") else f"{spec.module}, "
        said = [f"job {job.id} started: {module}sha256:{digest[:12]}…"]
        said += [f"agent: {spec.kind}"] if spec.kind else []
        said += [f"run by {spec.interpreter}"] if spec.interpreter else []
        said += [f"try {job.tries}"] if job.tries > 1 else []
        said += ["its world:", *(f"  {line}" for line in job.recipe.splitlines())]
        said += [f"left out: {line}" for line in left_out(spec.namespace)] if spec.kind else []
        said += [f"hidden: {' '.join(hidden) or 'nothing'}", f"limits: {bounds}"]
        recorder.system(
            "\n".join(said), event="started", module=spec.module, digest=digest,
            hidden=list(hidden), limits=limits, attempt=job.tries,
        )  # fmt: skip
        if job.tries == 1:
            recorder.user(_order(job, self._mask), **_ordered(job))

    def concluded(self, job: Job) -> None:
        """Write down how a try of a job ended, once that is known."""
        recorder = job.trajectory
        if recorder is None:
            if not (job.started and self._logs.has_run(str(job.id))):
                return
            try:
                recorder = self.open(job)
            except OSError as error:
                # A job ends as it did, whether that can be written down or not.
                log.warning("job=%d its trajectory cannot be ended: %s", job.id, error.strerror)
                return
        recorder.begin(self._header(job, ""))
        usage = {name: value for name, value in job.usage.items() if name != "limits"}
        line = job.exit_line
        said = line if job.state.ended else f"{job.reason}; it will be tried again"
        if usage:
            used = ", ".join(f"{name} {_used(name, value)}" for name, value in usage.items()
                             if name not in ("met", "backtrace"))  # fmt: skip
            said += f"\nused: {used}"
        said += f"\nmet its limits: {usage['met']}" if usage.get("met") else ""
        said += f"\n{usage['backtrace']}" if usage.get("backtrace") else ""
        more: dict[str, Any] = {"exit_line": line, "usage": usage}
        if job.result:
            answer = job.result.decode("utf-8", "replace")
            said += f"\nanswer: {answer[:ANSWER_MAX]}"
        recorder.end(said, last=job.state.ended, **more)
        job.trajectory = None
        self._waiting.discard(recorder)

    def _header(self, job: Job, digest: str) -> Header:
        spec = job.spec
        name = self._mask(spec.name or spec.kind or spec.module.rpartition("/")[2]) or "job"
        extra: dict[str, Any] = {"job": job.id, "module": self._mask(spec.module)}
        if job.parent is not None:
            extra |= {"parent": job.parent, "parent_session_id": self._session(job.parent)}
        version = f"sha256:{digest}" if digest else "unknown"
        return Header(
            session_id=session_of(job), agent={"name": name, "version": version},
            created_at=stamp(self._now()), extra=extra,
        )  # fmt: skip


def _size(name: str, value: object) -> str:
    if name in ("wall", "cpu"):
        return f"{value:g} s" if isinstance(value, float) else f"{value} s"
    if name in ("memory", "output", "written") and isinstance(value, int) and not value % 1_024:
        return f"{value / 2**20:,g} MiB"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _used(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f} s"
    unit = " bytes" if name in ("memory", "output", "read", "written") else ""
    return f"{value:,}{unit}" if isinstance(value, int) else str(value)


def session_of(job: Job) -> str:
    """Name the trajectory of a job: its number, and when it was ordered."""
    made = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(job.created))
    return f"job-{job.id}-{made}"


def _order(job: Job, mask: "Mask") -> str:
    spec = job.spec
    # First, as a shell's quotes would part a secret.
    words = [mask(word) for word in (spec.name or spec.module.rpartition("/")[2], *spec.args)]
    said = [shlex.join(words)]
    if spec.input is not None:
        said.append(f"input: {json.dumps(spec.input, ensure_ascii=False)}")
    if isinstance(spec.stdin, Source):
        said.append(f"standard input: from {spec.stdin.path}")
    elif spec.stdin:
        said.append(f"standard input: {spec.stdin}")
    return "\n".join(said)


def _ordered(job: Job) -> dict[str, Any]:
    spec = job.spec
    # Of the environment the names alone: its values are where tokens are.
    found: dict[str, Any] = {"args": list(spec.args), "env": sorted(spec.env)}
    if job.parent is not None:
        found["ordered_by"] = f"job {job.parent}"
    return {name: value for name, value in found.items() if value}
