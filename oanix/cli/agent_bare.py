"""A module with directories of the host as its whole world, and the terminal as its files."""

import errno
import os
import select
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

import trio
from attrs import frozen

from oanix.caller import Caller
from oanix.channel import OpenFile
from oanix.errors import fault
from oanix.kit import Handler, Opening, TableService
from oanix.namespace import Namespace
from oanix.node import READABLE, WOULD_BLOCK, WRITABLE, Handle, WouldBlock
from oanix.scheduler.engine import Ended, Engine, Guest, GuestLimits, Linker
from oanix.scheduler.limits import Limits
from oanix.scheduler.wasi import Bounds, OverLimit, Process, functions
from oanix.services.workspace import WorkspaceFs

PIECE = 4_096
"""What a pipe that is ready takes without waiting (pipe(7), PIPE_BUF)."""


@frozen
class Folder:
    """A directory of the host, and by which path the module knows it."""

    host: str
    guest: str


class _Input(Handler):
    reads = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def open(self, opening: Opening) -> Handle:
        return _Reading(self._descriptor)


class _Output(Handler):
    writes = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def open(self, opening: Opening) -> Handle:
        return _Writing(self._descriptor)


class _Reading(Handle):
    """Reads a descriptor of this process in a thread: it may be anything, a terminal too."""

    stream = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        return WOULD_BLOCK if size > 0 else b""

    async def read(self, size: int, offset: int) -> bytes:
        if size <= 0:
            return b""
        return await trio.to_thread.run_sync(
            os.read, self._descriptor, size, abandon_on_cancel=True
        )

    def ready(self, wake: Callable[[], None] | None) -> int:
        return READABLE if select.select([self._descriptor], [], [], 0)[0] else 0


class _Writing(Handle):
    """Writes a descriptor of this process, waiting where it is a pipe that nobody empties."""

    stream = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        if not select.select([], [self._descriptor], [], 0)[1]:
            return WOULD_BLOCK
        return os.write(self._descriptor, data[:PIECE])

    async def write(self, data: bytes, offset: int) -> int:
        while (written := self.try_write(data, offset)) is WOULD_BLOCK:
            await trio.lowlevel.wait_writable(self._descriptor)
        return written

    def truncate(self, size: int) -> None:
        raise fault(errno.EINVAL, "this has no size to set")

    def ready(self, wake: Callable[[], None] | None) -> int:
        return WRITABLE if select.select([], [self._descriptor], [], 0)[1] else 0


class _Terminal(TableService):
    """The standard files of this process."""

    name = "terminal"

    def __init__(self) -> None:
        super().__init__()
        self.grow([("0", 0o400, _Input(0)), ("1", 0o200, _Output(1)), ("2", 0o200, _Output(2))])


async def run_bare(
    wasm: bytes, args: Sequence[str], env: Mapping[str, str], folders: Sequence[Folder],
    limits: Limits,
) -> Ended:  # fmt: skip
    """Run a module to its end. Raises OSError for a directory or a module that cannot be used."""
    namespace = Namespace()
    terminal = _Terminal()
    namespace.mount(terminal, "/standard")
    for number, folder in enumerate(folders):
        namespace.mount(WorkspaceFs(folder.host), f"/{number}")
    caller = Caller(
        uid=os.geteuid(), gid=os.getegid(), groups=tuple(os.getgroups()), pid=os.getpid(),
        door="wasi",
    )  # fmt: skip
    async with AsyncExitStack() as running:
        for service in namespace.services():
            await running.enter_async_context(service.running())
        bounds = Bounds(
            files=limits.files, output_bytes=limits.output, written_bytes=limits.written
        )
        process = Process(namespace, caller, args=args, env=env, bounds=bounds)
        try:
            process.give([await _standard(namespace, caller, number) for number in range(3)])
            for number, folder in enumerate(folders):
                process.preopen(namespace.resolve(caller, f"/{number}"), folder.guest)
            return await _run(wasm, process, limits)
        finally:
            process.close()


async def _standard(namespace: Namespace, caller: Caller, number: int) -> OpenFile:
    flags = os.O_WRONLY if number else os.O_RDONLY
    return await namespace.resolve(caller, f"/standard/{number}").open(caller, flags)


async def _run(wasm: bytes, process: Process, limits: Limits) -> Ended:
    engine = Engine(fuel=limits.fuel is not None)
    module = await engine.compile(wasm)
    bounds = GuestLimits(
        wall=limits.wall, cpu=limits.cpu, fuel=limits.fuel, memory=limits.memory,
        table=limits.table,
    )  # fmt: skip
    with Guest(Linker(engine, functions()), module, process, bounds) as guest:
        process.cpu_ns = lambda: guest.cpu_ns
        try:
            return await guest.run()
        except OverLimit as over:
            return Ended(limit=over.limit, used=guest.used)
