"""For tests of jobs: a namespace with `/jobs`, `/logs`, `/workspace`, and modules to run."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from oanix.caller import Caller
from oanix.client import Client
from oanix.env import cache_folder
from oanix.namespace import Namespace
from oanix.scheduler.jobs import JobsFs
from oanix.scheduler.turns import Room
from oanix.services.devfs import DevFs
from oanix.services.logs import LogsFs
from oanix.services.procfs import ProcFs
from oanix.services.workspace import WorkspaceFs
from tests.scheduler.modules import wasm

WASI = '(import "wasi_snapshot_preview1"'
WRITE = f'{WASI} "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))'
READ = f'{WASI} "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))'
EXIT = f'{WASI} "proc_exit" (func $exit (param i32)))'
SAY = "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const {size}))"
MEMORY = '(memory (export "memory") 1)'


def saying(text: str, code: int = 0) -> bytes:
    """Make a module that writes a text to its standard output, and exits with a code."""
    raw = text.encode()
    data = "".join(f"\\{byte:02x}" for byte in raw)
    return wasm(
        f'(module {WRITE} {EXIT} {MEMORY} (data (i32.const 64) "{data}")'
        f' (func (export "_start") {SAY.format(size=len(raw))}'
        " (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
        f" (call $exit (i32.const {code}))))"
    )


ECHO = wasm(
    f'(module {READ} {WRITE} {MEMORY} (func (export "_start") (loop $l'
    " (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 4096))"
    " (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))"
    " (if (i32.load (i32.const 8)) (then (i32.store (i32.const 4) (i32.load (i32.const 8)))"
    " (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $l))))))"
)
"""Copies its standard input to its standard output."""

FLOOD = wasm(
    f'(module {WRITE} {MEMORY} (func (export "_start") (loop $l {SAY.format(size=4_096)}'
    " (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $l))))"
)
SPIN = wasm('(func (export "_start") (loop $l (br $l)))')
LARGE = wasm('(module (memory (export "memory") 20) (func (export "_start") (loop $l (br $l))))')
"""Has 1.25 MiB of memory, and spins."""

MODULES = {
    "large": LARGE,
    "hello": saying("hello\n"), "fails": saying("no\n", 3), "echo": ECHO, "flood": FLOOD,
    "spin": SPIN, "trap": wasm('(func (export "_start") unreachable)'), "bad": b"\0asm\1",
}  # fmt: skip


class Jobs:
    """What one caller does with jobs, by their files."""

    patience_s = 50.0
    """How long an end is waited for."""

    def __init__(self, namespace: Namespace, service: JobsFs, caller: Caller) -> None:
        self.namespace = namespace
        self.service = service
        self.client = Client(namespace, caller)

    def by(self, caller: Caller) -> "Jobs":
        """Be somebody else."""
        return Jobs(self.namespace, self.service, caller)

    async def new(self, module: str = "", /, **spec: Any) -> int:
        """Make a job with a specification."""
        number = int(await self.client.read("/jobs/new"))
        if module:
            spec["module"] = f"/workspace/{module}.wasm"
        if spec:
            await self.client.write(f"/jobs/{number}/spec", json.dumps(spec) + "\n", create=False)
        return number

    async def tell(self, number: int, command: str) -> None:
        """Write a command."""
        await self.client.write(f"/jobs/{number}/ctl", command + "\n", create=False, append=True)

    async def start(self, module: str = "", /, **spec: Any) -> int:
        """Make a job and start it."""
        number = await self.new(module, **spec)
        await self.tell(number, "start")
        return number

    async def wait(self, number: int) -> str:
        """Wait for the end, and give the exit line."""
        return (await self.client.read_text(f"/jobs/{number}/wait", within=self.patience_s)).strip()

    async def run(self, module: str, /, **spec: Any) -> str:
        """Run a job to its end."""
        return await self.wait(await self.start(module, **spec))

    async def run_script(self, file: str, text: str, /, **spec: Any) -> tuple[int, str]:
        """Run a script to its end; gives its number, and the exit line."""
        await self.client.write(f"/workspace/{file}", text)
        number = await self.start(**{"module": f"/workspace/{file}", **spec})
        return number, await self.wait(number)

    async def text(self, number: int, name: str) -> str:
        """Read a file of a job."""
        return await self.client.read_text(f"/jobs/{number}/{name}", within=10)

    async def fact(self, number: int, name: str, of: str = "status") -> str:
        """Read a line of `status` or `usage`."""
        lines = dict(line.split(" ", 1) for line in (await self.text(number, of)).splitlines())
        return lines.get(name, "")

    async def reached(self, number: int, state: str) -> None:
        """Wait until a job is in a state."""
        await self.until(number, "state", lambda said: said == state)
        if state == "running":
            await self.until(number, "wall", lambda said: said[0] != "-", "usage")

    async def until(
        self, number: int, name: str, good: Callable[[str], bool], of: str = "status"
    ) -> None:
        """Wait until a line of `status` or `usage` says what is wanted."""
        bell = self.service.scheduler.bell
        with trio.fail_after(10):
            while not good(await self.fact(number, name, of)):
                with trio.move_on_after(0.01):
                    await bell.wait()


@asynccontextmanager
async def jobs(folder: Path, **more: Any) -> AsyncIterator[Jobs]:
    """Serve jobs with what a folder keeps, for as long as the block."""
    for name in ("workspace", "logs", "jobs"):
        (folder / name).mkdir(exist_ok=True)
    for name, data in MODULES.items():
        (folder / "workspace" / f"{name}.wasm").write_bytes(data)
    namespace = Namespace()
    logs = LogsFs(folder / "logs")
    more = {"users": lambda uid: True, "cache": Path(cache_folder()), **more}
    service = JobsFs(folder / "jobs", logs, lambda: namespace, **more)
    namespace.mount(WorkspaceFs(str(folder / "workspace")), "/workspace")
    namespace.mount(logs, "/logs")
    namespace.mount(DevFs(), "/dev")
    namespace.mount(ProcFs(), "/proc")
    namespace.mount(service, "/jobs")
    async with AsyncExitStack() as running:
        for one in namespace.services():
            await running.enter_async_context(one.running())
        yield Jobs(namespace, service, Caller(uid=1_000, gid=1_000, session="me", door="test"))


__all__ = ["Jobs", "Room", "jobs", "saying"]
