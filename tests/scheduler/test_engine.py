"""The engine: guests that call their host, wait, trap, pass a limit, and are ended."""

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import trio
from attrs import evolve, frozen

import oanix.scheduler.engine as direct
from oanix.scheduler.engine import (
    BadModule,
    Ended,
    Engine,
    Exit,
    Function,
    Guest,
    GuestLimits,
    Linker,
    Module,
    plain,
)
from tests.scheduler.modules import wasm

Call = Callable[..., int | Awaitable[int]]


@frozen
class Way:
    """A way to run guests: directly, or by the public interface of wasmtime."""

    engine: Engine
    linker: Callable[[Engine, Sequence[Function]], Linker]
    guest: Callable[[Linker, Module, object, GuestLimits], Guest]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


@pytest.fixture(params=[direct, plain], ids=["direct", "plain"])
def way(engine: Engine, request: pytest.FixtureRequest) -> Way:
    return Way(engine, request.param.Linker, request.param.Guest)


def host(
    name: str, params: str, call: Call, *, result: bool = True, waits: bool = False
) -> Function:
    return Function("host", name, params, result=result, call=call, waits=waits)


async def run(
    way: Way, text: str, *functions: Function, limits: GuestLimits | None = None,
    state: object = None, entry: str = "_start",
) -> Ended:  # fmt: skip
    module = await way.engine.compile(wasm(text))
    linker = way.linker(way.engine, functions)
    with way.guest(linker, module, state, limits or GuestLimits()) as guest:
        return await guest.run(entry)


def importing(name: str, params: str, body: str, result: str = "(result i32)") -> str:
    return f'(import "host" "{name}" (func $f {params} {result})) (func (export "_start") {body})'


async def test_a_guest_hands_over_unsigned_numbers_and_gets_the_answer(way: Way) -> None:
    heard: list[tuple[int, ...]] = []

    def call(guest: Guest, *numbers: int) -> int:
        heard.append(numbers)
        return 7

    body = "(if (i32.ne (call $f (i32.const -1) (i64.const -2) (i32.const 3)) (i32.const 7))"
    text = importing("f", "(param i32 i64 i32)", f"{body} (then unreachable))")
    for waits in (False, True):
        ended = await run(way, text, host("f", "iIi", call, waits=waits))
        assert (ended.code, ended.trap, ended.limit) == (0, "", "")
    assert heard == [(0xFFFFFFFF, 0xFFFFFFFFFFFFFFFE, 3)] * 2


async def test_many_guests_wait_at_a_time_and_each_gets_its_own(way: Way) -> None:
    async def doubled(number: int) -> int:
        await trio.sleep(0.05 - number / 10_000)
        return number * 2

    module = await way.engine.compile(
        wasm(importing("f", "(param i32)", "(call $got (call $f (call $mine)))").replace(
            "(func (export", '(import "host" "mine" (func $mine (result i32)))'
            '(import "host" "got" (func $got (param i32))) (func (export', 1))
    )  # fmt: skip
    got: dict[int, int] = {}

    def keep(guest: Guest, value: int) -> int:
        got[guest.state] = value
        return 0

    linker = way.linker(way.engine, [
        host("f", "i", lambda guest, number: doubled(number), waits=True),
        host("mine", "", lambda guest: guest.state),
        host("got", "i", keep, result=False),
    ])  # fmt: skip

    async def one(number: int) -> None:
        with way.guest(linker, module, number, GuestLimits()) as guest:
            assert (await guest.run()).code == 0

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(one, number)
    assert got == {number: number * 2 for number in range(200)}
    assert trio.current_time() - began < 5


class Broken(Exception):
    """What a function of the host raises in these tests."""


@pytest.mark.parametrize("waits", [False, True])
async def test_what_a_function_raises_is_raised_by_its_own_guest(way: Way, waits: bool) -> None:
    async def late(number: int) -> int:
        await trio.sleep(0.01 * (number % 3))
        raise Broken(number)

    def call(guest: Guest) -> int | Awaitable[int]:
        if waits:
            return late(guest.state)
        raise Broken(guest.state)

    module = await way.engine.compile(wasm(importing("f", "", "(drop (call $f))")))
    linker = way.linker(way.engine, [host("f", "", call, waits=waits)])
    wrong: list[int] = []

    async def one(number: int) -> None:
        with way.guest(linker, module, number, GuestLimits()) as guest:
            try:
                await guest.run()
            except Broken as error:
                if error.args == (number,):
                    return
        wrong.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(one, number)
    assert wrong == []


async def test_a_guest_exits_with_a_code(way: Way) -> None:
    def leave(guest: Guest, code: int) -> int:
        raise Exit(code)

    text = importing("f", "(param i32)", "(call $f (i32.const 42)) unreachable", "")
    for waits in (False, True):
        ended = await run(way, text, host("f", "i", leave, result=False, waits=waits))
        assert ended.code == 42


SPIN = '(func (export "_start") (loop $l (br $l)))'


async def test_a_guest_that_spins_leaves_the_others_their_turn_and_can_be_cancelled(
    way: Way,
) -> None:
    used = cancelled = 0.0

    async def count() -> None:
        nonlocal used, cancelled
        began = time.process_time()
        for _ in range(20):
            await trio.sleep(0.001)
        cancelled = time.process_time()
        used = cancelled - began
        scope.cancel()

    with trio.fail_after(30), trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await run(way, SPIN)
    assert scope.cancelled_caught
    # In a processor's time, whoever else has it: a turn every 5 ms, with some room, and the end.
    assert 0 < used < 0.5
    assert time.process_time() - cancelled < 0.25


async def test_a_guest_in_a_loop_of_calls_leaves_the_others_their_turn(way: Way) -> None:
    used = 0.0

    async def other() -> None:
        nonlocal used
        began = time.thread_time()
        for _ in range(40):
            await trio.lowlevel.checkpoint()
        used = time.thread_time() - began
        nursery.cancel_scope.cancel()

    def busy(guest: Guest) -> int:
        return sum(range(20_000)) & 1

    text = importing("f", "", "(loop $l (drop (call $f)) (br $l))")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await run(way, text, host("f", "", busy), limits=GuestLimits(wall=50, cpu=50))
    # Every 5 ms of a processor's time, whoever else has it; five times that is the limit here.
    assert 0 < used < 1


async def test_a_guest_that_waits_can_be_cancelled(way: Way) -> None:
    ended: list[str] = []

    async def forever() -> int:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("told")
        return 0

    text = importing("f", "", "(drop (call $f))")
    with trio.move_on_after(0.05) as scope:
        await run(way, text, host("f", "", lambda guest: forever(), waits=True))
    assert scope.cancelled_caught
    assert ended == ["told"]


DEEP = '(func $f (export "_start") (call $f))'
GROW = (
    '(func (export "_start") (local i32) (loop $l '
    "(if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) (br $l)))"
)


@pytest.mark.parametrize(
    ("text", "limits", "limit"),
    [
        (SPIN, GuestLimits(cpu=0.05), "cpu"),
        (SPIN, GuestLimits(wall=0.05), "wall"),
        (DEEP, GuestLimits(), "stack"),
        ('(module (memory (export "memory") 100) (func (export "_start")))',
         GuestLimits(memory=65_536), "memory"),
        ('(module (memory (export "memory") 1) (table 5000 funcref) (func (export "_start")))',
         GuestLimits(table=100), "table"),
    ],
    ids=["cpu", "wall", "stack", "memory", "table"],
)  # fmt: skip
async def test_a_limit_that_is_passed_is_named(
    way: Way, text: str, limits: GuestLimits, limit: str
) -> None:
    began = time.monotonic()
    ended = await run(way, text, limits=limits)
    assert (ended.code, ended.trap, ended.limit) == (None, "", limit)
    # The stated figure is 250 ms; ten times that is the limit here.
    assert time.monotonic() - began < 0.05 + 2.5


async def test_memory_grows_to_its_limit_and_no_further(way: Way) -> None:
    ended = await run(way, GROW, limits=GuestLimits(memory=8 << 20))
    assert ended.trap == "unreachable"
    assert 7 << 20 <= ended.used.memory <= 8 << 20


async def test_fuel_is_counted_where_the_engine_does(way: Way) -> None:
    way = evolve(way, engine=Engine(fuel=True))
    ended = await run(way, SPIN, limits=GuestLimits(fuel=100_000))
    assert ended.limit == "fuel"
    again = [
        (await run(way, '(func (export "_start"))', limits=GuestLimits(fuel=1_000))).used.fuel
        for _ in range(2)
    ]
    assert again[0] == again[1]
    assert again[0] is not None
    assert 0 < again[0] < 1_000


@pytest.mark.parametrize(
    ("body", "trap"),
    [
        ("unreachable", "unreachable"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "integer division by zero"),
        ("(drop (i32.load (i32.const 0x7fffffff)))", "memory out of bounds"),
        ("(drop (i32.trunc_f32_s (f32.const nan)))", "bad conversion to integer"),
    ],
)
async def test_a_trap_is_named_and_the_host_lives(way: Way, body: str, trap: str) -> None:
    ended = await run(way, f'(func (export "_start") {body})')
    assert (ended.code, ended.trap, ended.limit) == (None, trap, "")
    assert "wasm" in ended.backtrace


async def test_a_trap_in_the_start_function_is_told(way: Way) -> None:
    ended = await run(way, '(func $s unreachable) (start $s) (func (export "_start"))')
    assert ended.trap == "unreachable"


async def test_the_start_function_may_call_its_host_and_reach_its_memory(way: Way) -> None:
    async def write(guest: Guest, at: int) -> int:
        guest.memory.put_u32(at, 99)
        return guest.memory.u32(at)

    text = (
        '(import "host" "f" (func $f (param i32) (result i32)))'
        "(func $s (if (i32.ne (call $f (i32.const 8)) (i32.const 99)) (then unreachable)))"
        '(start $s) (func (export "_start"))'
    )
    assert (await run(way, text, host("f", "i", write, waits=True))).code == 0


async def test_no_pointer_leads_out_of_the_memory(way: Way) -> None:
    seen: list[str] = []

    def probe(guest: Guest) -> int:
        memory = guest.memory
        size = memory.size
        for what in (
            lambda: memory.read(size - 3, 4), lambda: memory.read(1 << 32, 1),
            lambda: memory.view(0, size + 1), lambda: memory.write(size, b"x"),
            lambda: memory.u32(size - 3), lambda: memory.u64((1 << 32) - 1),
            lambda: memory.put_u32(size - 1, 1), lambda: memory.put_u64(size - 7, 1),
            lambda: memory.put_u16(size - 1, 1),
        ):  # fmt: skip
            with pytest.raises(OSError, match="out of its memory"):
                what()
        memory.write(size - 4, b"last")
        seen.append(bytes(memory.view(size - 4, 4)).decode())
        return 0

    text = importing(
        "f", "", "(drop (call $f)) (drop (memory.grow (i32.const 1))) (drop (call $f))"
    )
    assert (await run(way, text, host("f", "", probe))).code == 0
    assert seen == ["last", "last"]


async def test_a_memory_is_out_of_reach_once_its_guest_is_closed(way: Way) -> None:
    kept: list[Guest] = []

    def keep(guest: Guest) -> int:
        kept.append(guest)
        return guest.memory.u32(0)

    await run(way, importing("f", "", "(drop (call $f))"), host("f", "", keep))
    with pytest.raises(OSError, match="out of its memory"):
        kept[0].memory.read(0, 1)


async def test_a_guest_stands_still_and_goes_on(way: Way) -> None:
    called = 0

    async def step() -> int:
        nonlocal called
        called += 1
        await trio.lowlevel.checkpoint()
        return 0

    async def reached(number: int) -> None:
        with trio.fail_after(5):
            while called < number:
                await trio.lowlevel.checkpoint()

    body = "(loop $l (drop (call $f)) (br $l))"
    module = await way.engine.compile(wasm(importing("f", "", body)))
    linker = way.linker(way.engine, [host("f", "", lambda guest: step(), waits=True)])
    with way.guest(linker, module, None, GuestLimits()) as guest:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guest.run)
            await reached(10)
            guest.pause(True)
            for _ in range(3):
                await trio.lowlevel.checkpoint()
            stood = called
            for _ in range(20):
                await trio.lowlevel.checkpoint()
            assert called == stood
            guest.pause(False)
            await reached(stood + 10)
            nursery.cancel_scope.cancel()


# Modules -----------------------------------------------------------------------------------------

GOOD = wasm('(func (export "_start"))')


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"#!/bin/sh\n", "no WebAssembly module"),
        (b"(module)", "wat2wasm"),
        (b"\0asm\x0d\0\x01\0rest", "component"),
        (GOOD[:-3], "not valid"),
        (GOOD[:8] + b"\x01\xff\xff\xff\xff\xff", "not valid"),
    ],
    ids=["empty", "script", "text", "component", "truncated", "leb"],
)
async def test_what_is_no_module_is_refused_with_a_sentence(
    way: Way, data: bytes, said: str
) -> None:
    with pytest.raises(BadModule, match=said):
        await way.engine.compile(data)


async def test_imports_that_there_are_not_are_named(way: Way) -> None:
    text = (
        '(import "env" "magic" (func)) (import "host" "f" (func (param i32)))'
        '(func (export "_start"))'
    )
    with pytest.raises(BadModule, match=r"imports what there is not: env\.magic"):
        await run(way, text, host("f", "i", lambda guest, n: 0, result=False))
    with pytest.raises(BadModule, match="cannot be linked"):
        await run(
            way, '(import "host" "f" (func (param i64))) (func (export "_start"))',
            host("f", "i", lambda guest, n: 0, result=False),
        )  # fmt: skip


async def test_a_module_without_a_start_or_a_memory_is_no_harm(way: Way) -> None:
    assert "no function _start" in (await run(way, "(module)")).trap
    assert (await run(way, '(module (func (export "_start")))')).code == 0


async def test_an_engine_that_is_gone_leaves_no_thread() -> None:
    way = Way(Engine(), direct.Linker, direct.Guest)
    before = set(threading.enumerate())
    assert (await run(way, '(func (export "_start"))')).code == 0
    (ticker,) = (one for one in threading.enumerate() if one.name == "epochs" and one not in before)
    del way
    gc.collect()
    ticker.join(10)
    assert not ticker.is_alive()


async def test_what_was_compiled_is_used_again(tmp_path: Path) -> None:
    folder = tmp_path / "compiled"
    await Engine().load(GOOD, folder)
    [kept] = folder.iterdir()
    assert (folder.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o600)
    before = kept.stat()
    engine = Engine()
    module = await engine.load(GOOD, folder)
    with direct.Guest(Linker(engine, []), module, None, GuestLimits()) as guest:
        assert (await guest.run()).code == 0
    assert kept.stat().st_ino == before.st_ino
    await Engine(fuel=True).load(GOOD, folder)
    assert len(list(folder.iterdir())) == 2


async def test_what_others_could_have_changed_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "compiled"
    await Engine().load(GOOD, folder)
    [kept] = folder.iterdir()
    kept.chmod(0o622)
    await Engine().load(GOOD, folder)
    kept.chmod(0o600)
    kept.write_bytes(kept.read_bytes()[:200])
    module = await Engine().load(GOOD, folder)
    assert set(module.exports) == {"_start", "memory"}
    assert len(kept.read_bytes()) > 200
    folder.chmod(0o755)
    with pytest.raises(PermissionError, match="0700"):
        await Engine().load(GOOD, folder)


# A process of its own ----------------------------------------------------------------------------

MANY = """
import trio
from oanix.scheduler.engine import Engine, Function, Guest, GuestLimits, Linker
from tests.scheduler.modules import wasm

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

async def main():
    engine = Engine()
    module = await engine.compile(wasm(
        '(import "host" "f" (func $f (result i32))) (func (export "_start") (drop (call $f)))'))
    waiting = 0
    async def wait():
        nonlocal waiting
        waiting += 1
        await trio.sleep_forever()
    f = Function("host", "f", "", result=True, call=lambda guest: wait(), waits=True)
    linker = Linker(engine, [f])
    async def one():
        with Guest(linker, module, None, GuestLimits()) as guest:
            await guest.run()
    async with trio.open_nursery() as nursery:
        for _ in range(500):
            nursery.start_soon(one)
        with trio.fail_after(20):
            while waiting < 500:
                await trio.lowlevel.checkpoint()
        print(resident() // 1024)
        nursery.cancel_scope.cancel()

trio.run(main)
"""


@pytest.mark.slow
def test_five_hundred_guests_that_wait_have_little_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY], capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert int(done.stdout) < 500
