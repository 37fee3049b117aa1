"""Pool: the workers of a server, one a core, started when they are wanted."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from struct import error as StructError
from typing import Any, Final

import trio
from attrs import asdict

from oanix.bell import Bell
from oanix.scheduler.engine import Ended, Function, GuestLimits
from oanix.scheduler.modules import Modules, Stored
from oanix.scheduler.workers import wire
from oanix.scheduler.workers.guest import WorkerGuest

log = logging.getLogger(__name__)

SILENT_S: Final = 10.0
"""A worker with guests that has said nothing for so long is ended: it speaks often."""

LOOK_S: Final = 0.5
"""How often a worker with guests is looked at, and how long one that is late is heard out: what it
said while this process stood still has not been read yet."""

IDLE_S: Final = 60.0
"""A worker without guests is ended after so long."""

LEAVING_S: Final = 3.0
"""A worker that takes so much longer to end a guest that was cancelled is ended."""

OVERDUE_S: Final = 1.0
"""A worker that lets a guest run for so much longer than it may is ended."""


class _Worker:
    """One process, seen from here."""

    def __init__(
        self, process: subprocess.Popen[bytes], end: socket.socket, functions: Sequence[Function]
    ) -> None:
        self.process = process
        self.wire = wire.Wire(end)
        self.functions = functions
        self.guests: dict[int, WorkerGuest] = {}
        self.leaving: dict[int, float] = {}
        """Guests that it was told to end, and until when it may take."""
        self.speaks = False
        self.heard = trio.current_time()
        self.gone = False
        self.retired = False
        """Whether it gets no more guests, and ends after those that it has."""
        self._taken = Bell()
        imports = [[f.module, f.name, f.params, f.result] for f in functions]
        self.wire.put(wire.said(b"H", 0, {"imports": imports}))

    async def run(self) -> None:
        """Pass on what it says, until it is gone."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.wire.flush)
                nursery.start_soon(self._watch)
                while True:
                    data, descriptor = await self.wire.get()
                    if not data:
                        nursery.cancel_scope.cancel()
                        return
                    self._hear(data, descriptor)
        finally:
            self.kill()
            for guest in list(self.guests.values()):
                guest.died()
            self.wire.close()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self.process.wait)

    def _hear(self, data: bytes, descriptor: int | None) -> None:
        self.heard, self.speaks = trio.current_time(), True
        taken = False
        try:
            letter, number = wire.HEAD.unpack_from(data)
            if letter == b"E":
                self.leaving.pop(number, None)
            elif letter == b"B":
                self.retired = True
                self._taken.ring()
                return
            guest = self.guests.get(number)
            if guest is not None:
                taken = letter == b"M"
                guest.hear(letter, data, descriptor)
        except (ValueError, LookupError, TypeError, StructError) as error:
            log.warning("worker=%d speaks nonsense, and is ended: %s", self.process.pid, error)
            self.kill()
        finally:
            if descriptor is not None and not taken:
                os.close(descriptor)

    async def _watch(self) -> None:
        late_since: float | None = None
        while True:
            with trio.move_on_after(LOOK_S if self.guests or self.leaving else IDLE_S):
                await self._taken.wait()
            now = trio.current_time()
            if not self._late(now):
                late_since = None
            elif late_since is None:
                late_since = now
            elif now >= late_since + LOOK_S:
                log.warning("worker=%d does not answer, and is ended", self.process.pid)
                self.kill()
            if not self.guests and not self.leaving and (self.retired or now - self.heard > IDLE_S):
                self.kill()

    def _late(self, now: float) -> bool:
        if not self.guests and not self.leaving:
            return False
        return (
            now - self.heard > SILENT_S
            or any(guest.overdue(now - OVERDUE_S) for guest in self.guests.values())
            or any(until < now for until in self.leaving.values())
        )

    @property
    def alive(self) -> bool:
        """Whether it can be given a guest."""
        return not (self.gone or self.retired) and self.process.poll() is None

    def take(self, guest: WorkerGuest) -> None:
        """Have a guest."""
        self.guests[guest.number] = guest
        self.heard = trio.current_time()
        self._taken.ring()

    def leave(self, guest: WorkerGuest) -> None:
        """Have a guest no more, once it has said that this one ended: others live there, too."""
        del self.guests[guest.number]
        if not guest.ended and not self.gone:
            patience = LEAVING_S if self.speaks else SILENT_S
            self.leaving[guest.number] = trio.current_time() + patience
        if self.leaving or self.retired:
            self._taken.ring()

    def kill(self) -> None:
        """End it, and all its guests."""
        self.gone = True
        with suppress(ProcessLookupError):
            self.process.kill()


class Pool:
    """Workers, and which guests each has. They run while `serve` does."""

    def __init__(
        self, functions: Sequence[Function], modules: Modules, *,
        given: Path | None = None, size: int | None = None,
    ) -> None:  # fmt: skip
        """Make it, with no worker yet.

        functions: what guests import; given: what the server has compiled for workers.
        """
        self._functions = functions
        self._folders = modules.stored, modules.compiled_by_workers, given or modules.stored
        self._size = size or os.cpu_count() or 1
        self._workers: list[_Worker] = []
        self._wanted = False
        self._work, self._ready = Bell(), Bell()
        self._failed: OSError | None = None
        self._last = 0

    @property
    def processes(self) -> list[int]:
        """The process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    async def serve(self) -> None:
        """Start workers when they are wanted; ends them all when it is cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                while not self._wanted:
                    await self._work.wait()
                self._wanted = False
                if len(self._free()) < self._size:
                    try:
                        worker = await self._start()
                    except OSError as error:
                        self._failed = error
                    else:
                        self._workers.append(worker)
                        nursery.start_soon(self._kept, worker)
                self._ready.ring()

    async def _kept(self, worker: _Worker) -> None:
        try:
            await worker.run()
        finally:
            self._workers.remove(worker)

    async def _start(self) -> _Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            for folder in self._folders:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            command = [
                sys.executable, "-P", "-m", "oanix.scheduler.workers", str(theirs.fileno()),
                *map(str, self._folders),
            ]  # fmt: skip
            process = await trio.to_thread.run_sync(_spawned, command, theirs.fileno())
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return _Worker(process, ours, self._functions)

    def _free(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.alive]

    async def _seat(self) -> _Worker:
        """Give the worker with the fewest guests, a new one while there is a core for it.

        Raises OSError when none can be started.
        """
        while True:
            free = self._free()
            if free:
                best = min(free, key=lambda worker: len(worker.guests))
                if not best.guests or len(free) >= self._size:
                    return best
            self._failed = None
            self._wanted = True
            self._work.ring()
            await self._ready.wait()
            if self._failed is not None:
                raise self._failed.with_traceback(None)

    async def run(
        self, kept: Stored, state: Any, limits: GuestLimits,
        entry: "str | Callable[[WorkerGuest], Awaitable[int]]" = "_start",
        begun: Callable[[WorkerGuest], None] = lambda guest: None,
    ) -> Ended:  # fmt: skip
        """Run a guest in a worker, to its end.

        begun: called with the guest when it has its place. Raises WorkerDied, BadModule, OSError,
        and what a function of the host raises.
        """
        worker = await self._seat()
        self._last += 1
        guest = WorkerGuest(
            self._last, self._functions, state, limits, put=worker.wire.put,
            process=worker.process.pid,
        )  # fmt: skip
        worker.take(guest)
        try:
            begun(guest)
            return await guest.run({"digest": kept.digest, "limits": asdict(limits)}, entry)
        finally:
            worker.leave(guest)
            guest.close()


def _spawned(command: list[str], descriptor: int) -> "subprocess.Popen[bytes]":
    # It keeps nothing of the server but that end, and not the directory that it works in.
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, pass_fds=(descriptor,), cwd="/",
        start_new_session=True,
    )  # fmt: skip
