"""A module with directories of the host as its whole world, and the terminal as its files."""

import errno
import os
import select
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import trio
from attrs import frozen

from oanix.caller import Caller
from oanix.channel import OpenFile
from oanix.cli.output import complain
from oanix.errors import fault
from oanix.kit import Folder as Table
from oanix.kit import Handler, Opening, Rows, TableDirectory, TableService, Text
from oanix.namespace import Namespace
from oanix.node import READABLE, WOULD_BLOCK, WRITABLE, Handle, WouldBlock
from oanix.scheduler.engine import (
    Ended,
    Engine,
    Guest,
    GuestLimits,
    Linker,
    Loaded,
    Module,
    Used,
    in_time,
)
from oanix.scheduler.limits import Limits
from oanix.scheduler.scripts import Interpreters, Script, imports, make_script
from oanix.scheduler.wasi import Bounds, OverLimit, Process
from oanix.service import Service
from oanix.services.workspace import WorkspaceFs

PATIENCE_S = 1.0
"""After how long without news it says what it is doing."""

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


@frozen(kw_only=True)
class Ordered:
    """What is to run: the content of a file, how it is called, and with what.

    name: what a module is told that it is called; interpreter: the name of what runs a script, when
    the file does not say it.
    """

    data: bytes
    file: str
    name: str
    args: Sequence[str]
    env: Mapping[str, str]
    interpreter: str = ""


async def run_bare(
    ordered: Ordered, folders: Sequence[Folder], limits: Limits, cache: Path
) -> Ended:
    """Run a module or a script to its end.

    cache: where interpreters are kept. Raises OSError for a directory or a module that cannot be
    used.
    """
    script = make_script(ordered.data, ordered.file, ordered.interpreter)
    words = [ordered.name, *ordered.args]
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
        args = script.argv(ordered.args) if script else words
        process = Process(namespace, caller, args=args, env=ordered.env, bounds=bounds)
        try:
            process.give([await _standard(namespace, caller, number) for number in range(3)])
            for number, folder in enumerate(folders):
                process.preopen(namespace.resolve(caller, f"/{number}"), folder.guest)
            if script is not None:
                namespace.mount(_Task(script), "/task")
                # All of it: a program that asks where `/task` leads gets an answer.
                process.preopen(namespace.resolve(caller, "/task"), "/task")
            return await _run(ordered.data, script, process, limits, cache)
        finally:
            process.close()


class _Task(Service):
    """The directory with that of the script."""

    name = "task"

    def __init__(self, script: Script) -> None:
        super().__init__()
        rows: Rows = [(script.name, 0o400, Text(script.content))]
        self.root = TableDirectory(self, Table([("program", 0o500, Table(rows))]), 0o500)


async def _standard(namespace: Namespace, caller: Caller, number: int) -> OpenFile:
    flags = os.O_WRONLY if number else os.O_RDONLY
    return await namespace.resolve(caller, f"/standard/{number}").open(caller, flags)


async def _run(
    data: bytes, script: Script | None, process: Process, limits: Limits, cache: Path
) -> Ended:
    engine = Engine(fuel=limits.fuel is not None)
    module: Module | None
    left = GuestLimits(
        wall=limits.wall, cpu=limits.cpu, fuel=limits.fuel, memory=limits.memory,
        table=limits.table,
    )  # fmt: skip
    if script is None:
        module, left = await in_time(left, engine.compile(data))
    else:
        module = await _interpreter(script, engine, cache)
    if module is None:
        return Ended(limit="wall", used=Used(wall=limits.wall, cpu=0.0, memory=0, fuel=None))
    with Guest(Linker(engine, imports()), module, process, left) as guest:
        process.cpu_ns = lambda: guest.cpu_ns
        try:
            return await guest.run(script.start if script is not None else "_start")
        except OverLimit as over:
            return Ended(limit=over.limit, used=guest.used)


async def _interpreter(script: Script, engine: Engine, cache: Path) -> Module:
    """Load what runs a script, and say so when that takes long: it is compiled once."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_explain, script.interpreter.title)
        kept = await Interpreters(cache).ready(script.interpreter, fuel=engine.fuel, shared=False)
        module = await Loaded(engine).get(kept.digest, kept.path, kept.compiled)
        nursery.cancel_scope.cancel()
    return module


async def _explain(title: str) -> None:
    await trio.sleep(PATIENCE_S)
    complain(f"oanix: it compiles {title}, this once")
