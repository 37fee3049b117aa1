"""The registry: what servers say of themselves."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import evolve

from oanix.assembly import Context
from oanix.env import OanixEnv, Run, runs
from oanix.env.environment import Serving
from oanix.env.registry import registered
from oanix.recipe import parse

PAUSE_S = 0.01


def _wait(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    while not true():
        trio.from_thread.check_cancelled()
        pause.wait(PAUSE_S)


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


SERVING = Serving(mountpoint="/mnt/\udcff", serves="/project", log="/log")


async def test_a_server_says_what_it_does(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    lines = parse("mount mem /m\nmount dev /dev\nbind /m /n ro\n")
    async with OanixEnv.open(lines, Context("/"), state=state, serving=SERVING) as env:
        (run,) = runs(state)
        assert run == env.describe(SERVING)
        assert (run.pid, run.uid, run.mountpoint) == (os.getpid(), os.geteuid(), "/mnt/\udcff")
        assert run.recipe == "mount mem /m\nmount dev /dev\nbind /m /n ro\n"
        assert [(s.name, s.paths) for s in run.services] == [
            ("dev", ["/dev"]),
            ("mem", ["/m", "/n"]),
        ]
    assert runs(state) == []
    assert os.listdir(f"{state}/run") == []


@pytest.mark.slow
async def test_changes_are_written_within_seconds(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    async with OanixEnv.open(
        parse("mount mem /m"), Context("/"), state=state, serving=SERVING
    ) as env:
        env.operations = lambda: 7
        env.namespace.bind("/m", "/n")
        with trio.fail_after(20):
            await trio.to_thread.run_sync(_wait, lambda: runs(state)[0].operations == 7)
        assert runs(state)[0].recipe.endswith("bind /m /n\n")


async def test_what_does_not_change_is_not_written_again(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    state = str(tmp_path / "state")
    async with OanixEnv.open(parse("mount mem /m"), Context("/"), state=state, serving=SERVING):
        path = f"{state}/run/{os.getpid()}.json"
        before = os.stat(path)
        await trio.sleep(60)
        assert os.stat(path).st_ino == before.st_ino
        assert os.stat(path).st_mtime_ns == before.st_mtime_ns


@pytest.mark.slow
async def test_a_killed_server_is_not_listed_and_the_next_start_cleans_up(tmp_path: Path) -> None:
    state = tmp_path / "state"
    program = """
import os, signal, sys, trio
from oanix.assembly import Context
from oanix.env import OanixEnv
from oanix.env.environment import Serving
from oanix.recipe import parse
async def main():
    serving = Serving(mountpoint="/mnt", serves="/")
    lines = parse("mount mem /m")
    async with OanixEnv.open(lines, Context("/"), state=sys.argv[1], serving=serving):
        os.kill(os.getpid(), signal.SIGKILL)
trio.run(main)
"""
    done = await trio.run_process([sys.executable, "-c", program, state], check=False)
    assert done.returncode == -9
    left = os.listdir(state / "run")
    assert sorted(name.partition(".")[2] for name in left) == ["json", "lock"]
    assert runs(str(state)) == []
    async with OanixEnv.open(
        parse("mount mem /m"), Context("/"), state=str(state), serving=SERVING
    ):
        assert len(runs(str(state))) == 1
        assert not set(left) & set(os.listdir(state / "run"))


async def test_an_entry_that_cannot_be_read_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = str(tmp_path / "state")
    async with (
        OanixEnv.open(parse("mount mem /m"), Context("/"), state=state, serving=SERVING),
        OanixEnv.open(parse("mount dev /d"), Context("/"), state=state, serving=SERVING),
    ):
        _write(f"{state}/run/{os.getpid()}-2.json", '{"pid": 1}')
        assert [run.recipe for run in runs(state)] == ["mount mem /m\n"]
        assert "cannot read" in caplog.text


async def test_an_entry_that_cannot_be_written_is_said_once_and_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = str(tmp_path / "state")
    told = Run(pid=1, mountpoint="/mnt", serves="/", since=0, uid=0)
    with registered(state, lambda: told) as registration:
        path = f"{state}/run/{os.getpid()}.json"
        os.unlink(path)
        os.mkdir(path)
        for operations in range(3):
            told = evolve(told, operations=operations + 1)
            registration.update()
        assert caplog.text.count("cannot write") == 1
        os.rmdir(path)
        registration.update()
        assert runs(state) == [told]
