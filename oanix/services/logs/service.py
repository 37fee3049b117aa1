"""LogsFs: the service `/logs`."""

import logging
import math
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, Final

import trio

from oanix.bell import Bell
from oanix.service import Service
from oanix.services.logs.files import Text
from oanix.services.logs.folders import Kind, LogFolder, RunFolder, Runs
from oanix.services.logs.follow import RING_BYTES, Follow, ring_of
from oanix.services.logs.host import Step
from oanix.services.logs.log import Log, Rotated, Shared
from oanix.stat import StatFs

logger = logging.getLogger(__name__)

README: Final = b"""\
/logs: append-only logs.

    stdout.log stderr.log   lines as they came; append with >> or tee -a
    events.jsonl            one JSON object a line: timestamp level message source ...
    NAME.log NAME.jsonl     the first append makes them
    NAME.1.gz NAME.2.gz     rotated logs, the newest first
    follow                  new records of events.jsonl, without end; read it with cat
    runs/ID/                stdout stderr events.jsonl trajectory.json of one job

    echo 'tests passed' >> stdout.log
    echo '{"level":"warning","message":"disk at 91 %"}' >> events.jsonl
    echo 'a plain line is a message' >> events.jsonl
    tail -n 3 events.jsonl

Nothing here is truncated, overwritten, removed or renamed (EPERM). A line is stored when its
newline has come, or when its file is closed; lines of several writers never mix.
Levels: trace debug info notice warning error critical.
"""

_ROOT: Final = Kind(
    standard=("stdout.log", "stderr.log", "events.jsonl"),
    suffixes=(".log", ".jsonl"),
    rotates=True,
)

_DAY_S: Final = 86_400.0
_MIB: Final = 1_048_576


class LogsFs(Service):
    """Logs in a folder of the host, which one process has at a time.

    rotate_bytes and rotate_age_s: when a log is rotated; keep: how many rotated files each log
    has; total_bytes: how much all logs, but not the runs, take before the oldest rotated file
    goes; clock gives nanoseconds since the epoch; step is called with each step of a rotation.

    Making it repairs what a crash has left. Without `running` rotated files stay unpacked.
    """

    name: ClassVar[str] = "logs"

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], int] = time.time_ns,
        rotate_bytes: int = 64 * _MIB,
        rotate_age_s: float = 7 * _DAY_S,
        keep: int = 10,
        total_bytes: int = 1024 * _MIB,
        ring_bytes: int = RING_BYTES,
        step: Step = lambda _: None,
    ) -> None:
        super().__init__()
        if rotate_bytes <= 0 or rotate_age_s <= 0 or keep < 0 or total_bytes < 0 or ring_bytes < 0:
            raise ValueError("the bounds of the logs are positive numbers")
        self.folder = folder
        self._keep = keep
        self._total_bytes = total_bytes
        self._bytes = 0
        self._trim_at = total_bytes
        self._work = Bell()
        self._removing = trio.CapacityLimiter(1)
        self._shared = Shared(
            clock=clock,
            rotate_bytes=rotate_bytes,
            rotate_age_ns=int(rotate_age_s * 1e9) if math.isfinite(rotate_age_s) else 2**63,
            step=step,
            next_qid=self.next_qid,
            changed=self.changed,
            rotated=self._rotated,
            grown=self._grown,
        )
        (folder / "runs").mkdir(mode=0o755, parents=True, exist_ok=True)
        self._ring = ring_of(ring_bytes)
        self._logs = LogFolder(folder, self._shared, _ROOT, rings={"events.jsonl": self._ring})
        self._runs = Runs(folder / "runs", self._shared, self.entry_changed)
        self._logs.beside = {
            "README": Text(self.next_qid(), README, clock()),
            "follow": Follow(self.next_qid(), self._ring, clock()),
            "runs": self._runs,
        }
        self.root = self._logs
        self._trim()

    def open_run(self, run: str) -> RunFolder:
        """Make the folder of a run and give it; the one there is when it exists.

        Raises OSError: EINVAL or ENAMETOOLONG for what is no name, ENOSPC.
        """
        return self._runs.make(run)

    async def drop_runs(self, runs: Sequence[str]) -> None:
        """Remove the folders of runs; one that cannot be is told, and tried at the next start."""
        gone = []
        for run in runs:
            try:
                gone.append(self._runs.drop(run))
            except OSError as error:
                logger.warning("the logs of run %s cannot be removed: %s", run, error.strerror)
        await self._remove([path for path in gone if path is not None])

    async def _remove(self, folders: Sequence[Path]) -> None:
        def remove() -> None:
            for folder in folders:
                try:
                    shutil.rmtree(folder)
                except OSError as error:
                    logger.warning("%s cannot be removed: %s", folder, error.strerror)

        if folders:
            await trio.to_thread.run_sync(remove, limiter=self._removing)

    def has_run(self, run: str) -> bool:
        """Tell whether a run has a folder."""
        return self._runs.has(run)

    def statfs(self) -> StatFs:
        """Give the state of the disk that has the state folder."""
        info = os.statvfs(self.folder)
        return StatFs(
            bsize=info.f_bsize, frsize=info.f_frsize, blocks=info.f_blocks, bfree=info.f_bfree,
            bavail=info.f_bavail, files=info.f_files, ffree=info.f_ffree, favail=info.f_favail,
        )  # fmt: skip

    def status(self) -> dict[str, str]:
        """Tell how many bytes the logs take, and what a person should look at."""
        told = {"bytes": str(sum(self._sizes()))}
        if self._shared.warnings:
            told["warning"] = "; ".join(
                f"{name} {sentence}" for name, sentence in sorted(self._shared.warnings.items())
            )
        return told

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Pack what is rotated; at the end store what waits, and end `follow`."""
        stop = threading.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pack, stop)
            nursery.start_soon(self._remove, self._runs.gone())
            try:
                yield
            finally:
                stop.set()
                nursery.cancel_scope.cancel()
                self._settle()
                self._ring.close()

    def _settle(self) -> None:
        for log in self._logs.logs.values():
            try:
                log.settle()
            except OSError as error:
                self._shared.warn(log.name, f"half a line is lost: {error.strerror}")

    # Rotated files -------------------------------------------------------------------------------

    def _rotated(self, log: Log) -> None:
        for other in self._all_rotated():
            other[1].failed = False
        self.entry_changed(self._logs.qid, log.name)
        self._tell(log)
        self._trim()
        self._work.ring()

    def _grown(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self._trim_at:
            self._trim()

    def _tell(self, log: Log) -> None:
        # Every number may mean another file now, packed or not; one more for what has just gone.
        for number in range(1, len(log.old) + 2):
            self.entry_changed(self._logs.qid, f"{log.name}.{number}")
            self.entry_changed(self._logs.qid, f"{log.name}.{number}.gz")

    def _all_rotated(self) -> list[tuple[Log, Rotated]]:
        return [(log, old) for log in self._logs.logs.values() for old in log.old]

    async def _pack(self, stop: threading.Event) -> None:
        while True:
            waiting = [
                pair for pair in self._all_rotated() if not (pair[1].packed or pair[1].failed)
            ]
            if not waiting:
                await self._work.wait()
                continue
            log, old = min(waiting, key=lambda pair: pair[1].number)
            try:
                await log.pack(old, stop)
            except OSError as error:
                old.failed = True
                self._shared.warn(old.file.name, f"cannot be packed yet: {error.strerror}")
            else:
                self._shared.warnings.pop(old.file.name.removesuffix(".gz"), None)
            self._tell(log)
            self._trim()

    def _sizes(self) -> list[int]:
        logs = self._logs.logs.values()
        files = [log.file for log in logs] + [old.file for _, old in self._all_rotated()]
        return [file.size for file in files]

    def _trim(self) -> None:
        """Remove rotated files that are too many or too much, the oldest first."""
        for log in self._logs.logs.values():
            for old in log.old[self._keep :]:
                self._drop(log, old)
        total = sum(self._sizes())
        for log, old in sorted(self._all_rotated(), key=_age):
            if total <= self._total_bytes:
                break
            total -= self._drop(log, old)
        self._bytes = total
        # What cannot be removed is not looked at again for every line.
        above = total > self._total_bytes
        self._trim_at = total + _MIB if above else self._total_bytes

    def _drop(self, log: Log, old: Rotated) -> int:
        if old.busy:
            return 0
        try:
            size = log.drop(old)
        except OSError as error:
            self._shared.warn(old.file.name, f"cannot be removed: {error.strerror}")
            return 0
        self._tell(log)
        return size


def _age(pair: tuple[Log, Rotated]) -> tuple[int, int]:
    _, old = pair
    return old.file.mtime_ns, old.number
