"""Log: one append-only file of the state folder, and what was rotated out of it.

On the host a log `NAME` has its rotated files as `NAME.000007` and, packed, `NAME.000007.gz`;
numbers only grow, so that a rotation renames one file. The mtime of `NAME.born` is the time of the
first line.

Between any two steps of a rotation each line is in exactly one file that `recover` keeps.
"""

import logging
import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio
from attrs import define, field

from oanix.kit import Ring
from oanix.services.logs import host
from oanix.services.logs.events import cut_record, record_of, timestamp
from oanix.services.logs.host import HostFile, Step, host_path
from oanix.services.logs.lines import Line
from oanix.stat import StatLike

log = logging.getLogger(__name__)

OWED_BYTES: Final = 4 * 1_048_576
"""How much of half lines, ended while the disk was full, one log keeps in memory."""

_ROTATED: Final = re.compile(r"(?P<name>.+)\.(?P<number>[0-9]{6,})(?P<packed>\.gz)?", re.DOTALL)


@define(eq=False, kw_only=True)
class Shared:
    """What all logs of one service share."""

    clock: Callable[[], int]
    rotate_bytes: int
    rotate_age_ns: int
    step: Step
    next_qid: Callable[[], int]
    changed: Callable[[int], None]
    rotated: "Callable[[Log], None]"
    grown: Callable[[int], None]
    limiter: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(4))
    held: int = 0
    """Bytes of half lines that all open files hold."""
    warnings: dict[str, str] = field(factory=dict)

    def warn(self, name: str, sentence: str) -> None:
        """Tell once, in the log and in `status`, what a person should look at."""
        if self.warnings.get(name) != sentence:
            self.warnings[name] = sentence
            log.warning("logs: %s: %s", name, sentence)


@define(eq=False)
class Rotated:
    """A file that was rotated out of a log; `busy` while it is being packed."""

    file: HostFile
    number: int
    packed: bool
    qid: int
    busy: bool = False
    failed: bool = False


class Log:
    """One log. Touched on the trio thread only; an append is done when `append` returns."""

    def __init__(
        self, folder: Path, name: str, shared: Shared, *, rotates: bool, ring: Ring | None = None,
        verbatim: bool = False,
    ) -> None:  # fmt: skip
        self.name = name
        self.shared = shared
        self.rotates = rotates
        self.verbatim = verbatim
        self.ring = ring
        self.file = HostFile(folder, name, append=True)
        self.qid = shared.next_qid()
        self.old: list[Rotated] = []
        """What was rotated out, newest first."""
        self.sync_failures: list[OSError] = []
        self._stamped = name.endswith(".jsonl")
        self._writers = 0
        self._number = 0
        self._owed: list[bytes] = []
        self._retry_size = 0
        self._torn = False
        self._born = 0

    # Writing -------------------------------------------------------------------------------------

    def enter(self) -> None:
        """Count a writer: the descriptor stays open over rotations until the last one leaves."""
        self.file.open(create=True)
        self._writers += 1

    def leave(self) -> None:
        """Count a writer out."""
        self._writers -= 1
        self.file.close()

    def append(self, lines: list[Line], source: str) -> None:
        """Store lines. Raises OSError, ENOSPC among them, and then has stored nothing."""
        self._store(self._render(lines, source))

    def append_bytes(self, data: bytes) -> None:
        """Store bytes as they are. Raises OSError, and then has stored nothing."""
        self._store([data])

    def end_line(self, line: Line, source: str) -> None:
        """Store the half line of a file that is closed; keep it for later when that fails."""
        records = self._render([line], source)
        try:
            self._store(records)
        except OSError as error:
            self.shared.warn(self.name, f"half a line waits: {error.strerror}")
            if sum(map(len, self._owed + records)) > OWED_BYTES:
                log.error("logs: %s: half a line of %d bytes is lost", self.name, len(line.raw))
            else:
                self._owed += records
        else:
            self.shared.changed(self.qid)

    def settle(self) -> None:
        """Store what is kept from `end_line`. Raises OSError."""
        if self._owed:
            self._store([])

    def _render(self, lines: list[Line], source: str) -> list[bytes]:
        if self._stamped:
            stamp = timestamp(self.shared.clock())
            return [record_of(line, stamp, source) for line in lines]
        return [_plain(line) for line in lines]

    def _store(self, records: list[bytes]) -> None:
        records = self._owed + records
        data = b"".join(records)
        if self._torn:
            self._mend()
        if self.rotates:
            self._rotate_if_due(len(data))
        fd = self.file.open(create=True)
        try:
            host.append_whole(fd, data)
        except host.Torn:
            self._torn = True
            raise
        finally:
            self.file.close()
        if self._owed:
            self._owed = []
            self.shared.warnings.pop(self.name, None)
        # A handle that outlives the service stores its half line, and nobody follows any more.
        if self.ring is not None and not self.ring.closed:
            self.ring.put_all(records)
        if self.rotates:
            self.shared.grown(len(data))

    async def sync(self) -> None:
        """Make every line durable that was appended until now; failures go to `sync_failures`."""
        files = [self.file, *(old.file for old in self.old if not old.packed)]
        fds: list[int] = []
        try:
            for file in files:
                fds.append(os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        try:
            await trio.to_thread.run_sync(
                host.sync_all, fds, self.file.folder, limiter=self.shared.limiter
            )
        except OSError as error:
            self.sync_failures.append(error)

    # Rotating ------------------------------------------------------------------------------------

    def _rotate_if_due(self, coming: int) -> None:
        size = self.file.size
        now = self.shared.clock()
        if not size:
            self._be_born(now)
            return
        full = size + coming > self.shared.rotate_bytes
        if size < self._retry_size or not (full or now - self._born >= self.shared.rotate_age_ns):
            return
        try:
            self.rotate()
        except OSError as error:
            self.shared.warn(self.name, f"cannot be rotated, and grows: {error.strerror}")
            self._retry_size = size + self.shared.rotate_bytes // 16
        else:
            self._be_born(now)

    def rotate(self) -> None:
        """Put an empty file in the log's place. Raises OSError, and then the log is as it was."""
        step, live = self.shared.step, self.file
        live_path = live.path
        new = HostFile(live.folder, f"{self.name}.next", append=True)
        new.open(create=True)
        try:
            step("made")
            rotated_name = f"{self.name}.{self._number + 1:06d}"
            rotated_path = host_path(live.folder, rotated_name)
            os.rename(live_path, rotated_path)
            step("renamed")
            try:
                os.rename(new.path, live_path)
            except OSError:
                os.rename(rotated_path, live_path)
                raise
        except OSError:
            new.close()
            raise
        step("replaced")
        self._number += 1
        live.name, live.append, new.name = rotated_name, False, self.name
        if self._writers:
            live.release(self._writers)
            new.take(self._writers)
        new.close()
        self.file, self.qid = new, self.shared.next_qid()
        self.old.insert(0, Rotated(live, self._number, False, self.shared.next_qid()))
        self._retry_size = 0
        self.shared.warnings.pop(self.name, None)
        self.shared.rotated(self)
        os.chmod(rotated_path, 0o444)

    def _be_born(self, now: int) -> None:
        self._born = now
        marker = host_path(self.file.folder, f"{self.name}.born")
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644))
            os.utime(marker, ns=(now, now))
        except OSError as error:
            self.shared.warn(self.name, f"its age will not outlive a restart: {error.strerror}")

    async def pack(self, old: Rotated, stop: threading.Event) -> None:
        """Replace a rotated file by a packed one. Raises OSError; cancelled, nothing is lost."""
        step, plain = self.shared.step, old.file
        packed = HostFile(plain.folder, f"{plain.name}.gz")
        partial = packed.path + b".tmp"
        old.busy = True
        try:
            if not await trio.to_thread.run_sync(
                host.pack, plain.path, partial, stop, limiter=self.shared.limiter
            ):
                return
            step("packed")
            os.rename(partial, packed.path)
            step("named")
            await trio.to_thread.run_sync(
                host.sync_all, [], plain.folder, limiter=self.shared.limiter
            )
            step("synced")
            os.unlink(plain.path)
            step("unlinked")
            old.file, old.packed, old.qid = packed, True, self.shared.next_qid()
        finally:
            old.busy = False

    def drop(self, old: Rotated) -> int:
        """Remove a rotated file for good and give its size. Raises OSError."""
        size = old.file.size
        with suppress(FileNotFoundError):  # someone has cleaned up by hand
            os.unlink(old.file.path)
        self.old.remove(old)
        return size

    # Starting ------------------------------------------------------------------------------------

    def load(self, rotated: dict[int, bool]) -> None:
        """Take over what the state folder has of this log: numbers, and whether each is packed."""
        for number in sorted(rotated, reverse=True):
            name = f"{self.name}.{number:06d}" + (".gz" if rotated[number] else "")
            file = HostFile(self.file.folder, name)
            qid = self.shared.next_qid()
            self.old.append(Rotated(file, number, rotated[number], qid))
        self._number = max(rotated, default=0)
        self.file.open(create=True)
        try:
            self._born = self._age(self.file.stat())
            self._mend()
        except OSError as error:
            self._torn = True
            self.shared.warn(self.name, f"half a line could not be ended: {error.strerror}")
        finally:
            self.file.close()

    def _age(self, info: StatLike) -> int:
        try:
            return os.stat(host_path(self.file.folder, f"{self.name}.born")).st_mtime_ns
        except FileNotFoundError:
            return info.st_mtime_ns

    def _mend(self) -> None:
        # End the half line that a crash, or an append that could not be taken back, has left.
        if self.verbatim:
            self._torn = False
            return
        fd = self.file.open(create=True)
        try:
            start, rest = host.half_line(fd)
            if rest and self._stamped:
                record = cut_record(rest, timestamp(self.shared.clock()))
                os.ftruncate(fd, start)
                host.append_whole(fd, record)
            elif rest:
                host.append_whole(fd, b"\n")
        finally:
            self.file.close()
        self._torn = False


def recover(folder: Path) -> dict[str, dict[int, bool]]:
    """Finish or take back what a crash left half done, and list the logs that have rotated files.

    For each log: the numbers of its rotated files, and whether each is packed.
    """
    found: dict[str, dict[int, bool]] = {}
    for name in host.names_in(folder):
        # A packed copy gets its name when it is durable; a next file has never been written to.
        if name.endswith((".gz.tmp", ".next")):
            os.unlink(host_path(folder, name))
        elif match := _ROTATED.fullmatch(name):
            numbers = found.setdefault(match["name"], {})
            number, packed = int(match["number"]), bool(match["packed"])
            if number in numbers:
                os.unlink(host_path(folder, f"{match['name']}.{match['number']}"))
            numbers[number] = packed or numbers.get(number, False)
    return found


def _plain(line: Line) -> bytes:
    mark = b" [piece %d, goes on]" % line.piece if line.more else b""
    return line.raw + mark + b"\n"
