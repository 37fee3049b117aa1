"""Measure agents, beside wasmtime's own WASI where that does the same.

    python -m benchmarks.agents [--rounds N] [--json] [--only start calls idle jobs]

start: a module that asks for the time, from its bytes (cold), from what an earlier run compiled
(cached), and once it is loaded (warm). calls: what a call of WASI costs on a directory of the host,
in this process and in a worker. idle: the memory of 500 agents that wait for their input. jobs: how
many a second go through /jobs, from `new` to `wait`. Ours and theirs take turns; figures are
medians. The directory is a temporary one; set TMPDIR to measure another disk.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import trio
import trio.testing
import wasmtime
from attrs import asdict, frozen

from benchmarks.lib import guest as modules
from oanix.caller import Caller
from oanix.client import Client
from oanix.namespace import Namespace
from oanix.scheduler.engine import Engine, Guest, GuestLimits, Linker
from oanix.scheduler.inside import Inside
from oanix.scheduler.jobs import JobsFs
from oanix.scheduler.modules import Modules
from oanix.scheduler.wasi import Bounds, Process, functions
from oanix.scheduler.workers import Pool
from oanix.services.logs import LogsFs
from oanix.services.workspace import WorkspaceFs

ROUNDS = 7
WARM = 300
AGENTS = 500
JOBS, AT_ONCE = 300, 16
CALLER = Caller(uid=os.geteuid(), gid=os.getegid(), door="wasi")
UNBOUND = GuestLimits()


@frozen
class Row:
    """A figure of ours, beside that of wasmtime where there is one, and that in a worker."""

    section: str
    name: str
    unit: str
    oanix: float
    wasmtime: float | None = None
    worker: float | None = None

    def __str__(self) -> str:
        ratio = "" if self.wasmtime is None else f"{self.oanix / self.wasmtime:10.2f}"
        told = ["" if n is None else _figure(n) for n in (self.oanix, self.wasmtime, self.worker)]
        return f"  {self.name:30}{self.unit:7}{told[0]:>10}{told[1]:>10}{ratio:>10}{told[2]:>10}"


def _figure(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _taken(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


# Theirs ------------------------------------------------------------------------------------------


class Theirs:
    """wasmtime's own WASI, with the same settings of the compiler."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.engine = Engine().like()
        self._linker = wasmtime.Linker(self.engine)
        self._linker.define_wasi()

    def instance(
        self, module: wasmtime.Module, linker: wasmtime.Linker | None = None
    ) -> tuple[wasmtime.Store, wasmtime.Instance]:
        """Make an instance whose directory is that of the host."""
        store = wasmtime.Store(self.engine)
        wasi = wasmtime.WasiConfig()
        wasi.argv = ["guest"]
        wasi.preopen_dir(str(self._folder), "/")
        store.set_wasi(wasi)
        store.set_epoch_deadline(1 << 40)
        return store, (linker or self._linker).instantiate(store, module)

    def start(self, module: wasmtime.Module) -> None:
        """Run a module to its end."""
        store, instance = self.instance(module)
        call(store, instance, "_start")


def call(store: wasmtime.Store, instance: wasmtime.Instance, name: str, *numbers: int) -> None:
    """Call an export."""
    function = instance.exports(store)[name]
    assert isinstance(function, wasmtime.Func)
    function(store, *numbers)


# Ours --------------------------------------------------------------------------------------------


@asynccontextmanager
async def workspace(folder: Path) -> AsyncIterator[Namespace]:
    """Serve a directory of the host."""
    namespace = Namespace()
    service = WorkspaceFs(folder)
    namespace.mount(service, "/")
    async with service.running():
        yield namespace


def process_in(namespace: Namespace) -> Process:
    """Make a process with the root of a namespace as descriptor 3."""
    bounds = Bounds(written_bytes=1 << 50)
    process = Process(namespace, CALLER, args=["guest"], env={}, bounds=bounds)
    process.give([None, None, None])
    for _ in range(4):
        process.preopen(namespace.root, "/")
    return process


# Starts ------------------------------------------------------------------------------------------


async def starts(rounds: int, folder: Path) -> list[Row]:
    """Measure how long a module takes from nothing to its end."""
    wasm = modules.hello()
    found: dict[str, tuple[list[float], list[float]]] = {
        name: ([], []) for name in ("cold", "cached", "warm")
    }
    kept = folder.parent / "compiled"
    await Engine().load(wasm, kept)
    theirs = Theirs(folder)
    ready = wasmtime.Module(theirs.engine, wasm)
    serialized = ready.serialize()

    def cold() -> None:
        other = Theirs(folder)
        other.start(wasmtime.Module(other.engine, wasm))

    def cached() -> None:
        other = Theirs(folder)
        other.start(wasmtime.Module.deserialize(other.engine, serialized))

    def warm() -> None:
        for _ in range(WARM):
            theirs.start(ready)

    async with workspace(folder) as namespace:
        for _ in range(rounds):
            for name, cache in (("cold", None), ("cached", kept)):
                began = time.perf_counter()
                engine = Engine()
                module = await engine.load(wasm, cache)
                await _start(Linker(engine, functions()), module, namespace)
                found[name][0].append(time.perf_counter() - began)
            found["cold"][1].append(_taken(cold))
            found["cached"][1].append(_taken(cached))
            linker = Linker(engine, functions())
            began = time.perf_counter()
            for _ in range(WARM):
                await _start(linker, module, namespace)
            found["warm"][0].append((time.perf_counter() - began) / WARM)
            found["warm"][1].append(_taken(warm) / WARM)
    return [
        Row("start", f"a module, {name}", "ms", median(ours) * 1e3, median(others) * 1e3)
        for name, (ours, others) in found.items()
    ]


async def _start(linker: Linker, module: Any, namespace: Namespace) -> None:
    process = process_in(namespace)
    with Guest(linker, module, process, UNBOUND) as guest:
        ended = await guest.run()
    process.close()
    if ended.code != 0:
        raise RuntimeError(f"the module ended otherwise: {ended}")


# Calls -------------------------------------------------------------------------------------------


async def calls(rounds: int, folder: Path) -> list[Row]:
    """Measure what each call costs."""
    wasm = modules.calls()
    theirs = Theirs(folder)
    stored = Modules(folder.parent)
    kept = await stored.keep(wasm)
    store, instance = theirs.instance(wasmtime.Module(theirs.engine, wasm))
    call(store, instance, "setup")
    ours: list[list[float]] = [[] for _ in modules.CALLS]
    others: list[list[float]] = [[] for _ in modules.CALLS]
    distant: list[list[float]] = [[] for _ in modules.CALLS]

    async def measured(guest: Any, into: list[list[float]], share: int, between: bool) -> int:
        await guest.call("setup")
        for _ in range(rounds):
            for number, one in enumerate(modules.CALLS):
                times = max(one.times // share, 10)
                began = time.perf_counter()
                await guest.call(str(number), times)
                into[number].append((time.perf_counter() - began) / times * 1e6)
                if between:
                    began = time.perf_counter()
                    call(store, instance, str(number), one.times)
                    others[number].append((time.perf_counter() - began) / one.times * 1e6)
        return 0

    async with workspace(folder) as namespace, trio.open_nursery() as nursery:
        pool = Pool(functions(), stored, size=1)
        nursery.start_soon(pool.serve)
        places: list[tuple[Any, list[list[float]], int, bool]] = [
            (Inside(functions), ours, 1, True), (pool, distant, 20, False),
        ]  # fmt: skip
        for place, into, share, between in places:
            process = process_in(namespace)

            async def entry(
                guest: Any, into: list[list[float]] = into, share: int = share,
                between: bool = between,
            ) -> int:  # fmt: skip
                return await measured(guest, into, share, between)

            ended = await place.run(kept, process, UNBOUND, entry=entry)
            process.close()
            if ended.code != 0:
                raise RuntimeError(f"the module ended otherwise: {ended}")
        nursery.cancel_scope.cancel()
    return [
        Row("calls", one.name, "µs", *(median(found[number]) for found in (ours, others, distant)))
        for number, one in enumerate(modules.CALLS)
    ]


# Idle agents -------------------------------------------------------------------------------------


async def idle_here() -> float:
    """Give the MiB that 500 agents which wait cost this process, once one has run."""
    from oanix.channel import OpenFile
    from oanix.scheduler.pipe import Pipe, PipeReader

    engine = Engine()
    module = await engine.compile(modules.waiting())
    linker = Linker(engine, functions())
    namespace = Namespace()
    namespace.mount(WorkspaceFs(Path(tempfile.gettempdir())), "/")
    pipes = [Pipe() for _ in range(AGENTS + 1)]

    async def one(pipe: Pipe) -> None:
        process = Process(namespace, CALLER, args=["guest"], env={})
        process.give([OpenFile(namespace.root, PipeReader(pipe), os.O_RDONLY)])
        with Guest(linker, module, process, UNBOUND) as guest:
            await guest.run()
        process.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, pipes.pop())
        await trio.testing.wait_all_tasks_blocked()
        before = resident()
        for pipe in pipes:
            nursery.start_soon(one, pipe)
        await trio.testing.wait_all_tasks_blocked()
        after = resident()
        nursery.cancel_scope.cancel()
    print(json.dumps([after, after - before]))
    return after


def resident() -> float:
    """Give the resident memory of this process, in MiB."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


async def idle(rounds: int, folder: Path) -> list[Row]:
    """Measure the memory of agents that wait, in a process of their own."""
    del rounds, folder
    command = [sys.executable, "-m", "benchmarks.agents", "--idle"]
    done = await trio.run_process(command, capture_stdout=True)
    whole, more = json.loads(done.stdout)
    return [
        Row("idle", f"{AGENTS} agents, the process", "MiB", whole),
        Row("idle", "one more agent", "KiB", more * 1024 / AGENTS),
    ]


# Jobs --------------------------------------------------------------------------------------------


async def jobs(rounds: int, folder: Path) -> list[Row]:
    """Measure how many jobs a second are ordered, run, and waited for."""
    (folder / "hello.wasm").write_bytes(modules.hello())
    namespace = Namespace()
    logs = LogsFs(folder.parent / "logs")
    service = JobsFs(folder.parent / "jobs", logs, lambda: namespace)
    work = WorkspaceFs(folder)
    for mounted, path in ((work, "/workspace"), (logs, "/logs"), (service, "/jobs")):
        namespace.mount(mounted, path)
    client = Client(namespace, Caller(uid=CALLER.uid, gid=CALLER.gid, session="bench"))
    found: dict[bool, list[float]] = {False: [], True: []}
    async with work.running(), logs.running(), service.running():
        for _ in range(max(rounds // 2, 1)):
            for worker, taken in found.items():
                await _job(client, worker)
                began = time.perf_counter()
                await _many(client, worker)
                taken.append(JOBS / (time.perf_counter() - began))
    return [
        Row("jobs", f"{JOBS} jobs, {AT_ONCE} at a time", "a second", median(found[False]),
            worker=median(found[True]))
    ]  # fmt: skip


async def _many(client: Client, worker: bool) -> None:
    left = JOBS

    async def some() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await _job(client, worker)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(some)


async def _job(client: Client, worker: bool) -> None:
    number = (await client.read_text("/jobs/new")).strip()
    spec = json.dumps({"module": "/workspace/hello.wasm", "worker": worker, "stdin": ""})
    await client.write(f"/jobs/{number}/spec", spec + "\n", create=False)
    await client.write(f"/jobs/{number}/ctl", "start\n", create=False, append=True)
    line = await client.read_text(f"/jobs/{number}/wait", within=30)
    if line != "completed 0\n":
        raise RuntimeError(f"job {number}: {line}")


# The whole ---------------------------------------------------------------------------------------

SECTIONS: dict[str, Callable[[int, Path], Awaitable[list[Row]]]] = {
    "start": starts, "calls": calls, "idle": idle, "jobs": jobs,
}  # fmt: skip


def prepare(folder: Path) -> None:
    """Lay out what the calls read."""
    (folder / modules.FILE).write_bytes(bytes(range(256)) * (modules.BYTES // 256))
    (folder / modules.FOLDER).mkdir()
    for number in range(modules.ENTRIES):
        (folder / modules.FOLDER / f"entry-{number:03}").touch()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true", help="print an array of objects")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--idle", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.idle:
        trio.run(idle_here)
        return
    rows: list[Row] = []
    if not given.json:
        print(
            f"  {'':30}{'':7}{'oanix':>10}{'wasmtime':>10}{'ratio':>10}{'worker':>10}", flush=True
        )
    for name in given.only:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="agents-") as top:
            folder = Path(top) / "served"
            folder.mkdir()
            prepare(folder)
            found = trio.run(SECTIONS[name], given.rounds, folder)
        rows += found
        if not given.json:
            print("\n".join(map(str, found)), flush=True)
    if given.json:
        print(json.dumps([asdict(row) for row in rows], ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()
