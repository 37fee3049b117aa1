"""Workers: guests in processes of their own, whose calls are served on their memory from here."""

import json
import math
import os
import signal
import struct
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from oanix.scheduler.engine import BadModule, Ended, Exit, Function, GuestLimits
from oanix.scheduler.modules import Modules
from oanix.scheduler.workers import Pool, WorkerDied, WorkerGuest, wire
from oanix.scheduler.workers.pool import OVERDUE_S
from tests.scheduler.modules import slow_to_compile, wasm

pytestmark = pytest.mark.slow

Call = Callable[..., int | Awaitable[int]]


class Workers:
    """A pool, and a folder for what it runs."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self.folder = folder
        self.pool = pool

    async def run(
        self, text: str, state: object = None, limits: GuestLimits | None = None, **more: Any
    ) -> Ended:
        """Run a module from its text to its end."""
        data = text if isinstance(text, bytes) else wasm(text)
        with trio.fail_after(20):
            kept = await Modules(self.folder).keep(data)
            return await self.pool.run(kept, state, limits or GuestLimits(), **more)


@asynccontextmanager
async def workers(folder: Path, *functions: Function, size: int = 1) -> AsyncIterator[Workers]:
    pool = Pool(functions, Modules(folder), size=size)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pool.serve)
        try:
            yield Workers(folder, pool)
        finally:
            nursery.cancel_scope.cancel()


def host(name: str, params: str, call: Call, *, result: bool = True) -> Function:
    return Function("host", name, params, result=result, call=call)


def importing(name: str, params: str, body: str, result: str = "(result i32)") -> str:
    return f'(import "host" "{name}" (func $f {params} {result}))  (func (export "_start") {body})'


async def test_a_call_is_served_here_on_the_memory_of_the_guest(tmp_path: Path) -> None:
    heard: list[tuple[object, ...]] = []

    def swap(guest: WorkerGuest, at: int, big: int) -> int:
        heard.append((guest.state, big, guest.memory.read(at, 5)))
        guest.memory.write(at, b"howdy")
        return 7

    body = (
        "(if (i32.ne (call $f (i32.const 16) (i64.const -2)) (i32.const 7)) (then unreachable))"
        "(if (i32.ne (i32.load8_u (i32.const 17)) (i32.const 111)) (then unreachable))"
    )
    text = importing("swap", "(param i32 i64)", body) + '(data (i32.const 16) "hello")'
    async with workers(tmp_path, host("swap", "iI", swap)) as there:
        ended = await there.run(text, "mine")
    assert (ended.code, ended.trap, ended.limit) == (0, "", "")
    assert heard == [("mine", (1 << 64) - 2, b"hello")]
    assert ended.used.memory == 65_536


async def test_memory_that_grew_is_seen_and_what_lies_beyond_is_a_fault(tmp_path: Path) -> None:
    found: list[object] = []

    def look(guest: WorkerGuest, at: int) -> int:
        try:
            found.append(guest.memory.read(at, 4))
        except OSError as error:
            found.append(error.errno)
        return 0

    body = (
        "(drop (call $f (i32.const 70000))) (drop (memory.grow (i32.const 1)))"
        "(i32.store (i32.const 70000) (i32.const 0x31323334)) (drop (call $f (i32.const 70000)))"
    )
    async with workers(tmp_path, host("look", "i", look)) as there:
        ended = await there.run(importing("look", "(param i32)", body))
    assert ended.code == 0
    assert found == [14, b"4321"]
    assert ended.used.memory == 131_072


async def test_many_guests_wait_at_a_time_and_each_gets_its_own(tmp_path: Path) -> None:
    arrived = 0
    all_there = trio.Event()

    async def meet(guest: WorkerGuest) -> int:
        nonlocal arrived
        arrived += 1
        if arrived == 20:
            all_there.set()
        await all_there.wait()
        return int(guest.state)

    def call(guest: WorkerGuest) -> Awaitable[int]:
        return meet(guest)

    text = (
        '(import "host" "meet" (func $f (result i32)))'
        '(import "host" "bye" (func $bye (param i32)))'
        '(func (export "_start") (call $bye (call $f)))'
    )
    codes: list[int | None] = [None] * 20
    functions = host("meet", "", call), host("bye", "i", bye, result=False)
    async with workers(tmp_path, *functions, size=2) as there, trio.open_nursery() as nursery:

        async def one(number: int) -> None:
            codes[number] = (await there.run(text, number)).code

        for number in range(20):
            nursery.start_soon(one, number)
    assert codes == list(range(20))


def bye(guest: WorkerGuest, code: int) -> int:
    raise Exit(code)


@pytest.mark.parametrize(
    ("body", "limits", "expected"),
    [
        ("(loop $l (br $l))", {"wall": 0.2}, "wall"),
        ("(loop $l (br $l))", {"cpu": 0.1}, "cpu"),
        ("(loop $l (br $l))", {"fuel": 10_000}, "fuel"),
        ("(call $deep)", {}, "stack"),
    ],
)
async def test_a_limit_that_is_passed_is_named(
    tmp_path: Path, body: str, limits: dict[str, Any], expected: str
) -> None:
    async with workers(tmp_path) as there:
        text = f'(func $deep (call $deep)) (func (export "_start") {body})'
        ended = await there.run(text, limits=GuestLimits(**limits))
        assert (ended.limit, ended.code) == (expected, None)
        assert (await there.run('(func (export "_start"))')).code == 0


@pytest.mark.parametrize(
    ("body", "trap"),
    [
        ("unreachable", "unreachable"),
        ("(drop (i32.load (i32.const -4)))", "memory out of bounds"),
        ("(drop (i32.load (i32.const 70000)))", "memory out of bounds"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "integer division by zero"),
    ],
)
async def test_a_trap_is_named_and_the_worker_lives(tmp_path: Path, body: str, trap: str) -> None:
    async with workers(tmp_path) as there:
        ended = await there.run(f'(func (export "_start") {body})')
        assert (ended.trap, ended.code) == (trap, None)
        before = there.pool.processes
        assert (await there.run('(func (export "_start"))')).code == 0
        assert there.pool.processes == before


async def test_what_a_function_raises_is_raised_here(tmp_path: Path) -> None:
    class Oops(Exception):
        pass

    def fail(guest: WorkerGuest) -> int:
        raise Oops

    async def later() -> int:
        raise Oops

    async with workers(tmp_path, host("f", "", fail), host("g", "", lambda g: later())) as there:
        for name in ("f", "g"):
            with pytest.raises(Oops):
                await there.run(importing(name, "", "(drop (call $f))"))


async def test_what_is_no_module_is_refused_with_a_sentence(tmp_path: Path) -> None:
    async with workers(tmp_path) as there:
        with pytest.raises(BadModule, match="not valid"):
            await there.run(b"\0asm\x01\0\0\0\xff")  # type: ignore[arg-type]
        with pytest.raises(BadModule, match="imports what there is not"):
            await there.run(importing("none", "", "(drop (call $f))"))


async def test_a_guest_can_be_called_by_its_host(tmp_path: Path) -> None:
    async def twice(guest: WorkerGuest) -> int:
        guest.memory.write(0, (20).to_bytes(4, "little"))
        return await guest.call("add", 1) + await guest.call("add", 1)

    text = (
        '(func (export "add") (param i32) (result i32)'
        ' (i32.add (local.get 0) (i32.load (i32.const 0)))) (func (export "trap") unreachable)'
    )
    async with workers(tmp_path) as there:
        assert (await there.run(text, entry=twice)).code == 42
        ended = await there.run(text, entry=lambda guest: guest.call("trap"))
        assert (ended.code, ended.trap) == (None, "unreachable")


@pytest.mark.parametrize("body", ["(loop $l (br $l))", "(drop (call $f))"])
async def test_a_guest_is_cancelled_wherever_it_is(tmp_path: Path, body: str) -> None:
    async def waiting() -> int:
        await trio.sleep_forever()
        return 0

    def never(guest: WorkerGuest) -> Awaitable[int]:
        return waiting()

    async with workers(tmp_path, host("f", "", never)) as there:
        await there.run('(func (export "_start"))')
        begun, cancelled = trio.Event(), math.inf
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def run() -> None:
                    await there.run(importing("f", "", body), begun=lambda guest: begun.set())

                nursery.start_soon(run)
                await begun.wait()
                cancelled = trio.current_time()
                scope.cancel()
        assert scope.cancelled_caught
        # The stated figure is 250 ms; ten times that is the limit here.
        assert trio.current_time() < cancelled + 2.5
        before = there.pool.processes
        assert (await there.run('(func (export "_start"))')).code == 0
        assert there.pool.processes == before


async def test_a_worker_that_is_killed_costs_its_own_guests_alone(tmp_path: Path) -> None:
    spin = '(func (export "_start") (loop $l (br $l)))'
    async with workers(tmp_path, size=2) as there:
        died, begun = 0, 0

        async def one() -> None:
            nonlocal died, begun

            def seated(guest: WorkerGuest) -> None:
                nonlocal begun
                begun += 1

            try:
                await there.run(spin, limits=GuestLimits(wall=60, cpu=60), begun=seated)
            except WorkerDied:
                died += 1

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(one)
            await until(lambda: begun == 2)
            first, _ = there.pool.processes
            os.kill(first, signal.SIGKILL)
            await until(lambda: died == 1)
            assert (await there.run('(func (export "_start"))')).code == 0
            nursery.cancel_scope.cancel()
        assert died == 1


async def test_a_worker_that_stands_still_is_ended_with_its_guest(tmp_path: Path) -> None:
    async with workers(tmp_path) as there:
        await there.run('(func (export "_start"))')
        (worker,) = there.pool.processes

        def stop(guest: WorkerGuest) -> None:
            os.kill(worker, signal.SIGSTOP)
            scope.cancel()

        with trio.CancelScope() as scope:
            await there.run('(func (export "_start"))', begun=stop)
        assert scope.cancelled_caught
        await until(lambda: worker not in there.pool.processes)
        assert (await there.run('(func (export "_start"))')).code == 0


async def test_a_module_that_takes_long_to_compile_passes_the_time_of_its_guest(
    tmp_path: Path,
) -> None:
    async with workers(tmp_path) as there:
        ended = await there.run(slow_to_compile(), limits=GuestLimits(wall=0.3))
        assert ended.limit == "wall"
        assert (await there.run('(func (export "_start"))')).code == 0


def waiting_for(going: trio.Event) -> Function:
    """A function of the host that waits."""

    async def waiting() -> int:
        await going.wait()
        return 7

    return host("f", "", lambda guest: waiting())


async def wait_unharmed(there: Workers) -> None:
    """Run a guest that waits, and that what becomes of others must not end."""
    ended = await there.run(importing("f", "", "(drop (call $f))"))
    assert (ended.code, ended.trap) == (0, "")


def _cpu_s(pid: int) -> float:
    """Give the processor time of a process (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_a_worker_that_compiles_for_nobody_ends_after_its_guests(tmp_path: Path) -> None:
    going = trio.Event()

    async with workers(tmp_path, waiting_for(going)) as there, trio.open_nursery() as nursery:

        async def compiling() -> None:
            with given_up:
                await there.run(slow_to_compile())

        given_up = trio.CancelScope()
        nursery.start_soon(wait_unharmed, there)
        await until(lambda: bool(there.pool.processes))
        (worker,) = there.pool.processes
        before = _cpu_s(worker)
        nursery.start_soon(compiling)
        # To read it and to look at it takes less.
        await until(lambda: _cpu_s(worker) > before + 1)
        given_up.cancel()
        await until(lambda: given_up.cancelled_caught)
        # The next has another.
        assert (await there.run('(func (export "_start"))')).code == 0
        assert worker in there.pool.processes
        going.set()
        await until(lambda: worker not in there.pool.processes)


async def test_a_server_that_stood_still_hears_its_workers_out(tmp_path: Path) -> None:
    """As by Ctrl-Z, or with its machine."""
    going, begun = trio.Event(), list[WorkerGuest]()

    async with workers(tmp_path, waiting_for(going)) as there, trio.open_nursery() as nursery:

        async def spins() -> None:
            spin = '(func (export "_start") (loop $l (br $l)))'
            ended = await there.run(spin, limits=GuestLimits(wall=0.5), begun=begun.append)
            assert ended.limit == "wall"
            going.set()

        nursery.start_soon(wait_unharmed, there)
        await until(lambda: bool(there.pool.processes))
        before = there.pool.processes
        nursery.start_soon(spins)
        await until(lambda: bool(begun) and begun[0].overdue(math.inf))
        threading.Event().wait(0.5 + OVERDUE_S + 0.5)
        await going.wait()
        assert there.pool.processes == before


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not true():
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_workers_leave_nothing_behind(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    async with workers(tmp_path, size=2) as there:
        for _ in range(5):
            await there.run('(func (export "_start"))')
        pids = there.pool.processes
    assert pids
    living = set(map(int, filter(str.isdigit, os.listdir("/proc"))))
    assert not living & set(pids)
    # Fewer where garbage of earlier tests was collected meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= len(before)


CONFINED = """
import json, os, socket, sys
from pathlib import Path
from oanix.scheduler.workers.confine import confine

modules, compiled, secret, server = sys.argv[1:]
print(json.dumps(confine([Path(modules)], [Path(compiled)])))

def tried(call):
    try:
        return str(call())
    except OSError as error:
        return type(error).__name__

print(json.dumps({
    "read": tried(lambda: Path(modules, "module").read_text()),
    "keep": tried(lambda: Path(compiled, "new").write_text("code")),
    "replace": tried(lambda: os.replace(f"{compiled}/new", f"{compiled}/old")),
    "change": tried(lambda: Path(modules, "module").write_text("x")),
    "secret": tried(lambda: Path(secret).read_text()),
    "list": tried(lambda: os.listdir("/")),
    "run": tried(lambda: os.execv("/bin/true", ["true"])),
    "connect": tried(lambda: socket.create_connection(("127.0.0.1", 9))),
    "signal": tried(lambda: os.kill(int(server), 0)),
}))
"""


async def test_a_worker_reaches_nothing_but_its_modules(tmp_path: Path) -> None:
    for name in ("modules", "compiled"):
        (tmp_path / name).mkdir()
    (tmp_path / "modules" / "module").write_text("wasm")
    (tmp_path / "secret").write_text("secret")
    words = [str(tmp_path / name) for name in ("modules", "compiled", "secret")]
    done = await trio.run_process(
        [sys.executable, "-c", CONFINED, *words, str(os.getpid())], capture_stdout=True
    )
    fenced, told = map(json.loads, done.stdout.splitlines())
    if not fenced:
        pytest.skip("this kernel has no Landlock")
    assert told == {
        "read": "wasm", "keep": "4", "replace": "None", "change": "PermissionError",
        "secret": "PermissionError", "list": "PermissionError", "run": "PermissionError",
        "connect": "PermissionError", "signal": "PermissionError",
    }  # fmt: skip


async def test_a_worker_has_no_capability_gets_none_and_comes_second(tmp_path: Path) -> None:
    async with workers(tmp_path) as there:
        await there.run('(func (export "_start"))')
        [pid] = there.pool.processes
        text = await trio.Path(f"/proc/{pid}/status").read_text()
        assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    told = dict(line.partition(":\t")[::2] for line in text.splitlines())
    assert (told["CapEff"], told["CapPrm"], told["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")


async def test_what_a_worker_may_not_say_is_refused() -> None:
    heard: list[bytes] = []

    async def never() -> int:
        await trio.sleep_forever()
        return 0

    functions = [host("f", "i", lambda guest, n: never())]

    def fresh() -> WorkerGuest:
        return WorkerGuest(1, functions, None, GuestLimits(), put=heard.append, process=1)

    for message in (
        wire.numbers(b"F", 1, 9, 0), wire.numbers(b"F", 1), wire.numbers(b"M", 1),
        wire.numbers(b"?", 1), b"E\1\0\0\0{", b"E\1\0\0\0[]", b"U\1\0\0\0\0",
    ):  # fmt: skip
        with pytest.raises((ValueError, LookupError, struct.error)):
            fresh().hear(message[:1], message, None)
    guest = fresh()
    guest.hear(b"F", wire.numbers(b"F", 1, 0, 0, 7), None)
    with pytest.raises(ValueError, match="one call under way"):
        guest.hear(b"F", wire.numbers(b"F", 1, 0, 0, 7), None)
    descriptor = os.memfd_create("unsealed")
    with pytest.raises(ValueError, match="taken away"):
        guest.hear(b"M", wire.numbers(b"M", 1), descriptor)
    guest.close()
    assert heard == []


GROWS = (
    '(func (export "_start") (loop $l'
    " (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) {end})"
)


@pytest.mark.parametrize("end", ["", "unreachable"])
async def test_memory_that_is_refused_is_told(tmp_path: Path, end: str) -> None:
    async with workers(tmp_path) as there:
        limits = GuestLimits(memory=4 << 20)
        ended = await there.run(GROWS.format(end=end), limits=limits)
        assert (ended.code, ended.trap) == (None if end else 0, end)
        assert ended.used.met == {"memory"}
        assert 3 << 20 <= ended.used.memory <= 4 << 20
        ended = await there.run('(func (export "_start"))', limits=limits)
        assert ended.used.met == frozenset()
        large = '(module (memory (export "memory") 100) (func (export "_start")))'
        assert (await there.run(large, limits=limits)).limit == "memory"
