"""Modules that mean harm: each ends clearly or is refused, and everything else goes on.

Each runs as a job, in a worker and in the server itself, while another job answers beside it.
"""

import json
import os
import random
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from oanix.caller import Caller
from tests.scheduler.hostile import (
    BADF,
    CREAT,
    DIRECTORY,
    DQUOT,
    FAULT,
    INVAL,
    MFILE,
    NOENT,
    NOMEM,
    NOTCAPABLE,
    OUT,
    ROOM,
    WRITE,
    Guest,
    told,
)
from tests.scheduler.jobs_help import Jobs, jobs
from tests.scheduler.modules import leb, section, slow_to_compile, wasm

pytestmark = pytest.mark.slow

STATED_S = 0.25
"""How soon after its deadline a job has ended, as it is stated."""

PATIENCE = 10
"""A test that must know that something ends waits ten times what is stated."""


class Arena:
    """Jobs, with one that answers beside them and a directory outside of what they are served."""

    def __init__(self, here: Jobs, folder: Path, worker: bool) -> None:
        self.here = here
        self.workspace = folder / "workspace"
        self.outside = folder / "outside"
        self._worker = worker

    async def run(self, module: bytes, **spec: Any) -> tuple[str, list[int]]:
        """Run a module; gives its exit line and what it told."""
        number = await self.start(module, **spec)
        line = await self.here.wait(number)
        return line, told(await self.here.client.read(f"/jobs/{number}/stdout"))

    async def start(self, module: bytes, **spec: Any) -> int:
        """Start a module."""
        (self.workspace / "hostile.wasm").write_bytes(module)
        return await self.here.start("hostile", worker=self._worker, **spec)


@asynccontextmanager
async def arena(folder: Path, worker: bool) -> AsyncIterator[Arena]:
    """Serve jobs; at the end the one beside still answers, and another runs."""
    outside = folder / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"XXXX")
    async with jobs(folder) as here:
        beside = await here.start("echo", limits={"wall": 600})
        await here.reached(beside, "running")
        yield Arena(here, folder, worker)
        async with (
            here.client.open(f"/jobs/{beside}/stdin", os.O_WRONLY) as into,
            here.client.open(f"/jobs/{beside}/stdout") as out,
        ):
            await into.write(b"alive")
            assert await out.read(100, within=10) == b"alive"
        assert await here.wait(beside) == "completed 0"
        assert await here.run("hello") == "completed 0"


@pytest.fixture(params=[True, False], ids=["worker", "inside"])
async def here(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Arena]:
    async with arena(tmp_path, request.param) as made:
        yield made


# Paths -------------------------------------------------------------------------------------------


async def test_no_path_leads_out_of_the_world(here: Arena) -> None:
    work = here.workspace
    (work / "folder").mkdir()
    (work / "out").symlink_to(here.outside)
    (work / "up").symlink_to("../outside")
    (work / "absolute").symlink_to("/etc/passwd")
    (work / "proc").symlink_to("/proc/self/root/etc/passwd")
    (work / "chain").symlink_to("up/secret")
    paths = {
        "../x": NOTCAPABLE, "..": NOTCAPABLE, "/etc/passwd": NOTCAPABLE, "/": NOTCAPABLE,
        "workspace/../../etc/passwd": NOTCAPABLE, "workspace/folder/../../..": NOTCAPABLE,
        "workspace/out/secret": NOENT, "workspace/up/secret": NOENT, "workspace/up": NOENT,
        "workspace/absolute": NOENT, "workspace/proc": NOENT, "workspace/chain": NOENT,
        "outside/secret": NOENT, "etc/passwd": NOENT, "workspace/../outside/secret": NOENT,
        "logs/../../logs/runs": NOTCAPABLE, "logs/runs": NOENT, "jobs": NOENT, "cap": NOENT,
        "proc/self/root": NOENT, "proc/1": NOENT, "proc/self/fd": NOENT,
    }  # fmt: skip
    guest = Guest()
    for path in paths:
        guest.tell(guest.open(path))
    for target, name in (("../../../etc/passwd", "a"), ("../outside/secret", "b"), ("..", "c")):
        made = f"(call $path_symlink {guest.text(target)} (i32.const 3)"
        guest.tell(f"{made} {guest.text(f'workspace/folder/{name}')})")
        guest.tell(guest.open(f"workspace/folder/{name}"))
        guest.tell(guest.open(f"workspace/folder/{name}/secret"))
    guest.tell(f"(call $path_symlink {guest.text('/etc')} (i32.const 3)"
               f" {guest.text('workspace/abs')})")  # fmt: skip
    line, found = await here.run(guest.made())
    assert line == "completed 0"
    answers = dict(zip(paths, found, strict=False))
    assert answers == paths
    assert found[len(paths) :] == [
        0, NOTCAPABLE, NOTCAPABLE,  # ../../../etc/passwd leaves the root
        0, NOENT, NOENT,  # what is beside the folder is the namespace's
        0, 0, NOENT,
        NOTCAPABLE,
    ]  # fmt: skip


async def test_a_link_that_is_swapped_with_a_directory_never_leads_outside(here: Arena) -> None:
    work = here.workspace
    (work / "inside").mkdir()
    (work / "inside" / "secret").write_bytes(b"I")
    (work / "swap").symlink_to("inside")
    (work / "next").symlink_to("../outside")
    (work / "third").symlink_to(here.outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(work / "swap", work / "old")
            os.rename(work / "next", work / "swap")
            os.rename(work / "third", work / "next")
            os.rename(work / "old", work / "third")

    guest = Guest()
    opened = guest.open("workspace/swap/secret")
    guest.loop(
        f"(if (i32.eqz {opened}) (then (drop {guest.read()})"
        f" (call $tell (i32.load8_u (i32.const {ROOM})))"
        f" (drop (call $fd_close (i32.load (i32.const {OUT}))))))",
        times=3_000,
    )
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        line, found = await here.run(guest.made())
    finally:
        stop.set()
        thread.join()
    assert line == "completed 0"
    assert set(found) == {ord("I")}


async def test_another_jobs_files_are_not_there(here: Arena) -> None:
    other = await here.here.start("hello")
    await here.here.wait(other)
    guest = Guest()
    paths = [f"jobs/{other}/stdout", f"jobs/{other}", f"jobs/{other}/task/spec.json",
             f"logs/runs/{other}/stdout", "logs/runs", f"logs/../jobs/{other}/spec",
             f"task/../../{other}"]  # fmt: skip
    guest.tell(*map(guest.open, paths))
    recipe = "bind /workspace /workspace\nbind /jobs /jobs\n"
    line, found = await here.run(guest.made(), namespace=recipe)
    assert (line, found) == ("completed 0", [*[NOENT] * 6, NOTCAPABLE])


# Time --------------------------------------------------------------------------------------------


def polls(guest: Guest) -> str:
    """Wait for ever, by a clock at 2^64-1."""
    guest.do(f"(i32.store8 (i32.const {ROOM + 8}) (i32.const 0))",
             f"(i32.store (i32.const {ROOM + 16}) (i32.const 1))",
             f"(i64.store (i32.const {ROOM + 24}) (i64.const -1))")  # fmt: skip
    return f"(call $poll_oneoff (i32.const {ROOM}) (i32.const 512) (i32.const 1) (i32.const 8))"


def endless(name: str) -> Guest:
    guest = Guest()
    if name == "spin":
        return guest.loop()
    if name == "stdin":
        return guest.loop(f"(drop {guest.read('(i32.const 0)')})")
    if name == "zero":
        guest.do(f"(drop {guest.open('dev/zero')})")
        return guest.loop(f"(drop {guest.read(size=1_000_000)})")
    if name == "poll":
        return guest.do(f"(drop {polls(guest)})")
    if name == "polls":
        return guest.loop(
            "(drop (call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)))"
        )
    if name == "names":
        guest.do(f"(drop {guest.open('workspace/many', DIRECTORY)})")
        return guest.loop(
            f"(drop (call $fd_readdir (i32.load (i32.const {OUT})) (i32.const {ROOM})"
            " (i32.const 1000000) (i64.const 0) (i32.const 8)))"
        )
    if name == "links":
        return guest.loop(f"(drop {guest.open('workspace/' + 'l/' * 40)})")
    calls = {
        "yield": "(call $sched_yield)",
        "clock": "(call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 8))",
        "random": f"(call $random_get (i32.const {ROOM}) (i32.const 1000000))",
        "args": f"(call $args_get (i32.const {ROOM}) (i32.const {ROOM + 65_536}))",
        "fault": "(call $fd_write (i32.const 1) (i32.const -1) (i32.const -1) (i32.const -1))",
    }
    return guest.loop(f"(drop {calls[name]})")


ENDLESS = ["spin", "stdin", "zero", "poll", "polls", "names", "links", "yield", "clock", "random",
           "args", "fault"]  # fmt: skip


async def prepared(here: Arena, name: str) -> dict[str, Any]:
    """Make what an endless module needs; gives more of its specification."""
    if name == "names":
        (here.workspace / "many").mkdir()
        for number in range(20_000):
            os.mknod(here.workspace / "many" / f"{number:05}")
    if name == "links":
        (here.workspace / "d").mkdir()
        (here.workspace / "l").symlink_to("d/../" * 800)
    return {"args": ["a" * 200] * 4_000} if name == "args" else {}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_never_ends_is_ended_at_its_deadline(here: Arena, name: str) -> None:
    more = await prepared(here, name)
    number = await here.start(endless(name).made(), limits={"wall": 0.3, "cpu": 60}, **more)
    # It may have ended before this is seen.
    await here.here.until(number, "state", lambda said: said != "pending")
    with trio.fail_after(0.3 + STATED_S * PATIENCE):
        assert await here.here.wait(number) == "failed wall"


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_never_ends_is_ended_when_it_is_killed(here: Arena, name: str) -> None:
    more = await prepared(here, name)
    number = await here.start(endless(name).made(), limits={"cpu": 60}, **more)
    await here.here.reached(number, "running")
    began = time.monotonic()
    await here.here.tell(number, "kill")
    assert await here.here.wait(number) == "cancelled killed KILL"
    assert time.monotonic() - began < STATED_S * PATIENCE


@pytest.mark.parametrize("name", ["names", "links", "random", "args", "zero", "clock"])
async def test_what_the_server_does_for_a_job_counts_as_its_own(here: Arena, name: str) -> None:
    more = await prepared(here, name)
    number = await here.start(endless(name).made(), limits={"wall": 60, "cpu": 0.3}, **more)
    with trio.fail_after(30):
        assert await here.here.wait(number) == "failed cpu"
    used = await here.here.fact(number, "cpu", "usage")
    assert 0.3 <= float(used.split()[0]) < 0.3 + STATED_S * PATIENCE


async def test_no_endless_job_keeps_the_others_waiting(here: Arena) -> None:
    """Each of them at once, and a file is still looked at within a moment."""
    more = [await prepared(here, name) for name in ENDLESS]
    started = [
        await here.start(endless(name).made(), limits={"wall": 60, "cpu": 60}, **spec)
        for name, spec in zip(ENDLESS, more, strict=True)
    ]
    for number in started:
        await here.here.reached(number, "running")
    for _ in range(20):
        with trio.fail_after(STATED_S * PATIENCE):
            await here.here.text(started[0], "status")
            await trio.lowlevel.checkpoint()
    for number in started:
        await here.here.tell(number, "kill")
        await here.here.wait(number)


# What it takes -----------------------------------------------------------------------------------


async def test_memory_grows_to_the_limit_and_no_further(here: Arena) -> None:
    guest = Guest().tell("(memory.grow (i32.const 65520))", "(memory.grow (i32.const 100))")
    guest.do("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))")
    guest.tell("(memory.size)", "(table.grow $table (ref.null func) (i32.const 100000))",
               "(table.grow $table (ref.null func) (i32.const 5))")  # fmt: skip
    line, found = await here.run(guest.made(), limits={"memory": "16M", "table": 100})
    assert line == "completed 0"
    assert found == [2**32 - 1, 16, 256, 2**32 - 1, 10]


async def test_descriptors_run_out_for_the_job_alone(here: Arena) -> None:
    opened = Guest()
    one = opened.open("workspace/hello.wasm")
    opened.do(
        "(loop $l (local.set $m (i32.add (local.get $m) (i32.const 1)))"
        f" (br_if $l (i32.eqz (local.tee $n {one}))))"
    )
    opened.tell("(local.get $n)", "(local.get $m)")
    number = await here.start(opened.made())
    assert await here.here.wait(number) == "completed 0"
    output = await here.here.client.read(f"/jobs/{number}/stdout")
    assert told(output) == [MFILE, 64 - 4 + 1]
    for file in ("status", "usage"):
        assert await here.here.fact(number, "met", file) == "files"
    assert await here.here.fact(number, "files", "usage") == "64 of 64"


async def test_listings_that_are_held_open_run_out(here: Arena) -> None:
    await prepared(here, "names")
    guest = Guest()
    listed = (
        f"(if {guest.open('workspace/many', DIRECTORY)} (then unreachable))"
        f" (local.set $n (call $fd_readdir (i32.load (i32.const {OUT})) (i32.const {ROOM})"
        " (i32.const 100) (i64.const 0) (i32.const 8)))"
    )
    guest.do(
        "(loop $l (local.set $m (i32.add (local.get $m) (i32.const 1)))"
        f" {listed} (br_if $l (i32.eqz (local.get $n))))"
    )
    guest.tell("(local.get $n)", "(local.get $m)")
    line, found = await here.run(guest.made())
    assert (line, found) == ("completed 0", [NOMEM, (1 << 18) // 20_002 + 1])


async def test_a_flood_of_output_ends_at_the_limit(here: Arena) -> None:
    guest = Guest()
    guest.loop(f"(drop {guest.write('(i32.const 1)', 1_000_000)})",
               f"(drop {guest.write('(i32.const 2)', 1_000_000)})", times=10_000)  # fmt: skip
    number = await here.start(guest.made())
    assert await here.here.wait(number) == "failed output"
    sizes = [
        here.here.client.stat(f"/logs/runs/{number}/{name}").st_size
        for name in ("stdout", "stderr")
    ]
    assert 15 << 20 < sum(sizes) <= 16 << 20


async def test_what_is_written_ends_at_the_limit(here: Arena) -> None:
    guest = Guest()
    fd = f"(i32.load (i32.const {OUT}))"
    guest.do(f"(drop {guest.open('workspace/big', CREAT, WRITE)})")
    guest.do(
        "(loop $l (local.set $m (i32.add (local.get $m) (i32.const 1)))"
        f" (br_if $l (i32.eqz (local.tee $n {guest.write(fd, 65_536)}))))"
    )
    guest.tell("(local.get $n)", "(local.get $m)")
    guest.tell(f"(call $fd_allocate {fd} (i64.const 0) (i64.const 1073741824))")
    guest.tell(f"(call $fd_filestat_set_size (i32.load (i32.const {OUT})) (i64.const 1073741824))")
    line, found = await here.run(guest.made(), limits={"written": "1M"})
    assert line == "completed 0"
    assert found == [DQUOT, 16, DQUOT, DQUOT]
    assert (here.workspace / "big").stat().st_size == 15 * 65_536


async def test_names_that_are_made_count_as_written(here: Arena) -> None:
    guest = Guest()
    name = guest.text("workspace/0000000000")
    at = name.split("(i32.const ")[1].split(")")[0]
    # The name counts up in its last bytes, so that each is another.
    step = (
        f"(i32.store (i32.const {int(at) + 14}) (i32.add (i32.const 0x61616161)"
        " (i32.and (local.get $m) (i32.const 0x0f0f0f0f))))"
        " (local.set $m (i32.add (local.get $m) (i32.const 1)))"
        " (if (i32.and (local.get $m) (i32.const 0x10)) (then (local.set $m"
        " (i32.add (local.get $m) (i32.const 0xf0)))))"
    )
    guest.do(
        f"(loop $l {step} (br_if $l (i32.eqz (local.tee $n"
        f" (call $path_create_directory (i32.const 3) {name})))))"
    )
    guest.tell("(local.get $n)")
    line, found = await here.run(guest.made(), limits={"written": "400K"})
    assert (line, found) == ("completed 0", [DQUOT])
    assert sum(one.is_dir() for one in here.workspace.iterdir()) == 100


async def test_the_stack_overflows_alone(here: Arena) -> None:
    deep = wasm('(func $f (export "_start") (call $f) (call $f))')
    assert await here.run(deep) == ("failed stack", [])


# Pointers and numbers ----------------------------------------------------------------------------


async def test_forged_numbers_get_an_errno(here: Arena) -> None:
    guest = Guest()
    guest.tell(
        "(call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8))",
        "(call $fd_read (i32.const 0) (i32.const -4) (i32.const 1) (i32.const 8))",
        "(call $fd_close (i32.const -1))", "(call $fd_close (i32.const 0x80000000))",
        "(call $fd_renumber (i32.const -1) (i32.const 3))",
        "(call $fd_renumber (i32.const 3) (i32.const 0x80000000))",
        "(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 1000000) (i32.const 8))",
        "(call $random_get (i32.const 16) (i32.const -1))",
        "(call $path_open (i32.const 3) (i32.const 0) (i32.const 0xfffffff0) (i32.const 0x20)"
        " (i32.const 0) (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 0))",
    )  # fmt: skip
    line, found = await here.run(guest.made())
    assert line == "completed 0"
    assert found == [INVAL, FAULT, BADF, BADF, BADF, BADF, INVAL, FAULT, FAULT]


async def test_buffers_that_overlap_or_reach_too_far_do_no_harm(here: Arena) -> None:
    guest = Guest()
    guest.do(f"(drop {guest.open('dev/zero')})")
    for index in range(1_000):
        guest.do(f"(i64.store (i32.const {65_536 + 8 * index}) (i64.const 0xD000000020000))")
    fd = f"(i32.load (i32.const {OUT}))"
    vec, many = "(i32.const 65536)", "(i32.const 1000)"
    guest.tell(f"(call $fd_read {fd} {vec} {many} (i32.const 8))")
    guest.do("(i64.store (i32.const 65536) (i64.const 0xFFFFFFFF00000000))")
    guest.tell(f"(call $fd_read {fd} {vec} (i32.const 1) (i32.const 8))")
    line, found = await here.run(guest.made())
    assert (line, found) == ("completed 0", [0, FAULT])


async def test_the_root_can_be_renumbered_over_and_is_gone_then(here: Arena) -> None:
    guest = Guest()
    guest.do(f"(drop {guest.open('workspace', DIRECTORY)})")
    guest.tell(
        f"(call $fd_renumber (i32.load (i32.const {OUT})) (i32.const 3))",
        "(call $fd_prestat_get (i32.const 3) (i32.const 8))",
        guest.open("hello.wasm"), guest.open("../logs/stdout"), guest.open("workspace"),
    )  # fmt: skip
    line, found = await here.run(guest.made())
    assert (line, found) == ("completed 0", [0, BADF, 0, NOTCAPABLE, NOENT])


# Modules -----------------------------------------------------------------------------------------


def functions(count: int) -> bytes:
    """A module of so many empty functions."""
    return (
        b"\0asm\1\0\0\0" + section(1, b"\x01\x60\0\0") + section(3, leb(count) + bytes(count))
        + section(7, b"\x01\x06_start\0\0") + section(10, leb(count) + b"\x02\x00\x0b" * count)
    )  # fmt: skip


BAD = {
    "empty": (b"", "empty"), "text": (b"(module)", "wat2wasm"),
    "component": (b"\0asm\x0d\0\x01\0rest", "component"),
    "script": (b"#!/bin/sh\n", "no WebAssembly"),
    "leb": (b"\0asm\1\0\0\0" + b"\x01" + b"\xff" * 20, "not valid"),
    "long leb": (b"\0asm\1\0\0\0" + b"\x03" + b"\x80" * 5 + b"\0", "not valid"),
    "functions": (functions(1_000_000), "at most 100000 functions"),
    "sections": (b"\0asm\1\0\0\0" + section(0, b"\0") * 20_000, "at most 10000 sections"),
    "body": (functions(10)[:-1], "not valid"),
    "imports": (wasm('(import "env" "magic" (func)) (func (export "_start"))'), "env.magic"),
    "type": (wasm('(import "wasi_snapshot_preview1" "fd_close" (func (param f64)))'
                  '(func (export "_start"))'), "cannot be linked"),
    "no start": (wasm('(func (export "main"))'), "no function _start"),
    "start takes": (wasm('(func (export "_start") (param i32))'), "_start"),
    "threads": (b"\0asm\1\0\0\0" + section(5, b"\x01\x03\x01\x02"), "shared memory"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_good_module_says_why(here: Arena, name: str) -> None:
    module, said = BAD[name]
    line, _ = await here.run(module)
    assert line.startswith("failed ")
    assert said in line


async def test_a_module_of_200_megabytes_is_refused(here: Arena) -> None:
    number = await here.start(b"\0asm\1\0\0\0")
    await here.here.wait(number)
    (here.workspace / "huge.wasm").write_bytes(b"\0asm\1\0\0\0")
    os.truncate(here.workspace / "huge.wasm", 200 << 20)
    line = await here.here.run("huge")
    assert line.startswith("failed error a module has at most")


async def test_a_module_that_never_comes_is_given_up(here: Arena) -> None:
    number = await here.here.new()
    spec = {"module": f"/jobs/{number}/stdout", "limits": {"wall": 0.3}}
    await here.here.client.write(f"/jobs/{number}/spec", json.dumps(spec) + "\n", create=False)
    await here.here.tell(number, "start")
    with trio.fail_after(0.3 + STATED_S * PATIENCE):
        assert await here.here.wait(number) == "failed wall"
    number = await here.here.new()
    spec = {"module": "/dev/zero", "limits": {"wall": 30}}
    await here.here.client.write(f"/jobs/{number}/spec", json.dumps(spec) + "\n", create=False)
    await here.here.tell(number, "start")
    assert (await here.here.wait(number)).startswith("failed error")


async def test_every_beginning_of_a_module_is_refused(here: Arena) -> None:
    whole = wasm('(func (export "_start") (local i32) (local.set 0 (i32.const 7)))')
    for size in range(0, len(whole), 3):
        line, _ = await here.run(whole[:size])
        assert line.startswith(("failed error", "failed trap")), (size, line)
    assert await here.run(whole) == ("completed 0", [])


@pytest.mark.parametrize(
    ("body", "reason"),
    [("unreachable", "trap unreachable"), ("(loop $l (br $l))", "wall"),
     ("(call $proc_exit (i32.const 4))", "4 exit")],
    ids=["trap", "loop", "exit"],
)  # fmt: skip
async def test_a_start_function_has_the_limits_of_the_rest(
    here: Arena, body: str, reason: str
) -> None:
    module = Guest().do(body).made(start=True)
    # To compile it takes of this time, too.
    limits = {"wall": 0.3 if reason == "wall" else 30}
    assert await here.run(module, limits=limits) == (f"failed {reason}", [])


async def test_a_module_that_takes_long_to_compile_is_killed_at_once(here: Arena) -> None:
    number = await here.start(functions(100_000))
    await here.here.until(number, "state", lambda said: said == "running")
    began = time.monotonic()
    await here.here.tell(number, "kill")
    assert await here.here.wait(number) == "cancelled killed KILL"
    assert time.monotonic() - began < STATED_S * PATIENCE


async def test_a_module_that_takes_long_to_compile_has_no_more_time_for_that(here: Arena) -> None:
    began = time.monotonic()
    line, _ = await here.run(slow_to_compile(), limits={"wall": 0.3})
    assert line == "failed wall"
    assert time.monotonic() - began < 0.3 + STATED_S * PATIENCE
    assert await here.run(Guest().made()) == ("completed 0", [])


async def test_a_job_that_has_ended_is_not_killed_again(here: Arena) -> None:
    number = await here.start(Guest().made())
    await here.here.wait(number)
    for command in ("kill", "stop", "cont", "seal", "priority 3", "start"):
        with pytest.raises(OSError, match=r"has ended|was started"):
            await here.here.tell(number, command)
    assert await here.here.wait(number) == "completed 0"


async def test_a_stranger_is_told_nothing(here: Arena) -> None:
    number = await here.start(Guest().made())
    await here.here.wait(number)
    for caller in (Caller(uid=2_000, gid=2_000), Caller(uid=1_000, gid=1_000, job="999")):
        for name in ("spec", "status", "stdout", "usage", "ns", "wait", "task/spec.json"):
            with pytest.raises(PermissionError):
                await here.here.by(caller).text(number, name)


def busy() -> bytes:
    """A module that opens, reads, makes and lists, so that a flipped bit finds something."""
    guest = Guest()
    guest.tell(guest.open("workspace/hello.wasm"), guest.read(), guest.open("workspace", DIRECTORY))
    guest.tell(
        f"(call $fd_readdir (i32.load (i32.const {OUT})) (i32.const {ROOM}) (i32.const 999)"
        " (i64.const 0) (i32.const 8))"
    )
    guest.tell(guest.path("path_create_directory", "workspace/made"), guest.open("task/status"))
    guest.loop("(drop (call $sched_yield))", times=5)
    return guest.made()


@pytest.mark.parametrize("seed", range(4))
async def test_a_module_with_a_flipped_bit_is_refused_or_ends(here: Arena, seed: int) -> None:
    chance, whole = random.Random(seed), busy()
    assert (await here.run(whole))[0] == "completed 0"
    for _ in range(40):
        bad = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 8])):
            bad[chance.randrange(8, len(bad))] ^= 1 << chance.randrange(8)
        limits = {"wall": 0.5, "cpu": 0.5, "memory": "16M", "written": "1M"}
        number = await here.start(bytes(bad), limits=limits)
        line = await here.here.wait(number)
        assert line.startswith(("completed 0", "failed ")), line
        assert "internal error" not in line
        assert "crashed" not in line
