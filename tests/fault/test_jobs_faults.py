"""Jobs on disks that are full, read-only or damaged, killed at any moment, when clocks jump."""

import errno
import json
import os
import sqlite3
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import trio

from oanix.scheduler.turns import Room
from tests.fault.test_store_faults import python, tmpfs
from tests.scheduler.jobs_help import Jobs, jobs

pytestmark = pytest.mark.slow

ECHO_ONCE = {"stdin": "once\n", "worker": False}


# Killed ------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys, trio
from pathlib import Path
from tests.scheduler.jobs_help import jobs

left = int(sys.argv[2])

def count(cursor, statement, values):
    # Just before the statement that is left: all before it was done, it was not.
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return True

def say(*words):
    print(*words, flush=True)

async def main():
    async with jobs(Path(sys.argv[1])) as here:
        queue = here.service.scheduler.queue
        queue._opened[0]._connection.exec_trace = count
        number = await here.new()
        say("made", number)
        await here.client.write(
            f"/jobs/{number}/spec",
            '{"module": "/workspace/echo.wasm", "stdin": "once\\\\n", "worker": false}\\n',
            create=False)
        say("ordered", number)
        await here.tell(number, "start")
        say("started", number)
        assert await here.wait(number) == "completed 0"
        await queue.saved(here.service.scheduler.find(number))
        say("ended", number)
        other = await here.new("hello")
        say("made", other)
        say("done", 0)

trio.run(main)
"""


async def test_killed_before_any_statement_nothing_acknowledged_is_lost_or_done_twice(
    tmp_path: Path,
) -> None:
    for statements in count():
        folder = tmp_path / str(statements)
        folder.mkdir()
        child = python(KILLED, folder, statements)
        out, _ = await trio.to_thread.run_sync(child.communicate)
        told = [line.split() for line in out.decode().splitlines()]
        if ["done", "0"] in told:
            break
        assert child.returncode < 0
        await checked(folder, {(word, int(number)) for word, number in told})
    assert statements > 15


async def checked(folder: Path, told: set[tuple[str, int]]) -> None:
    """See that a server that starts after a kill has all that was acknowledged."""
    async with jobs(folder) as here:
        known = set(here.client.listdir("/jobs")) - {"README", "new"}
        assert {str(number) for word, number in told if word == "made"} <= known
        for number in map(int, known):
            if ("ordered", number) in told:
                assert json.loads(await here.text(number, "spec"))["stdin"] == "once\n"
            if ("started", number) not in told:
                continue
            line = await here.wait(number)
            assert line == "completed 0" or ("ended", number) not in told
            assert line in ("completed 0", "failed interrupted")
            output = await here.text(number, "stdout")
            assert output in ("once\n", "") if "failed" in line else output == "once\n"
            assert await here.fact(number, "tries") == "1"
        assert await here.new() > max(map(int, known), default=0)


# Full --------------------------------------------------------------------------------------------


def grown(here: Jobs, pages: int) -> None:
    """Let the database have so many pages more than it has."""
    store = here.service.scheduler.queue._opened[0]
    [(now,)] = store.execute("PRAGMA page_count")
    assert isinstance(now, int)
    store.execute(f"PRAGMA max_page_count = {now + pages}")


async def test_a_disk_full_at_any_page_is_told_and_what_was_refused_is_not_done(
    tmp_path: Path,
) -> None:
    refused = set()
    for spare in count():
        folder = tmp_path / str(spare)
        folder.mkdir()
        async with jobs(folder) as here:
            first = await here.new("hello")
            grown(here, spare)
            drafts, step, number = await as_far_as_it_goes(here)
            refused.add(step)
            grown(here, 10_000)
            known = {"README", "new", *map(str, [first, *drafts])}
            assert set(here.client.listdir("/jobs")) == known
            if step == "ordered":
                assert json.loads(await here.text(number, "spec"))["module"] == ""
            if step == "started":
                assert await here.fact(number, "reason") == "not started"
                await here.tell(number, "start")
            if step in ("started", ""):
                assert (await here.wait(number)).startswith(
                    ("completed 0", "failed error the queue")
                )
            assert await here.run("hello") == "completed 0"
        async with jobs(folder) as here:
            assert await here.fact(first, "state") == "pending"
            assert await here.new() > first
        if step == "":
            break
    assert {"made", "ordered"} <= refused


async def as_far_as_it_goes(here: Jobs) -> tuple[list[int], str, int]:
    """Make jobs, order the last, and say at which step the disk was full."""
    drafts: list[int] = []
    number, large = 0, {"args": ["x" * 12_000], **ECHO_ONCE}
    for step in ("made", "ordered", "started"):
        try:
            if step == "made":
                for _ in range(30):
                    drafts.append(number := await here.new())
            elif step == "ordered":
                spec = {"module": "/workspace/echo.wasm", **large}
                text = json.dumps(spec) + "\n"
                await here.client.write(f"/jobs/{number}/spec", text, create=False)
            else:
                await here.tell(number, "start")
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return drafts, step, number
    return drafts, "", number


async def test_a_command_that_is_done_on_a_full_disk_says_that_it_is_not_on_the_disk(
    tmp_path: Path,
) -> None:
    async with jobs(tmp_path) as here:
        number = await here.start("echo", worker=False, args=["x" * 20_000])
        await here.reached(number, "running")
        waits = await here.start("hello", after=[number], args=["x" * 20_000])
        filler = [await here.new() for _ in range(3)]
        grown(here, 0)
        spec = {"module": "/workspace/echo.wasm", "args": ["y" * 60_000]}
        for one in filler:
            with pytest.raises(OSError, match="disk is full"):
                await here.client.write(f"/jobs/{one}/spec", json.dumps(spec) + "\n", create=False)
        grown(here, 10_000)
        await here.tell(number, "kill")
        assert await here.wait(number) == "cancelled killed KILL"
        assert await here.wait(waits) == f"failed job {number} cancelled"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    yield from tmpfs(tmp_path / "disk", 8 << 20)


async def test_a_job_on_a_full_disk_has_a_clear_end_and_the_next_one_runs(disk: Path) -> None:
    async with jobs(disk) as here:
        assert await here.run("hello") == "completed 0"
        info = os.statvfs(disk)
        (disk / "filler").write_bytes(b"x" * (info.f_bavail * info.f_frsize))
        for _ in range(3):
            try:
                number = await here.start("flood", worker=False)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            else:
                assert (await here.wait(number)).startswith("failed")
        (disk / "filler").unlink()
        assert await here.run("hello") == "completed 0"


# Read-only, damaged ------------------------------------------------------------------------------


async def told_and_living(folder: Path, number: int, said: str) -> None:
    """See that the server starts, says what is wrong, and has everything else."""
    async with jobs(folder) as here:
        with pytest.raises(OSError, match=said) as refused:
            await here.new()
        assert refused.value.errno == number
        assert said in here.service.status()["warning"]
        assert here.client.listdir("/jobs") == ["README", "new"]
        assert await here.client.read("/dev/null") == b""
        assert "hello.wasm" in here.client.listdir("/workspace")


async def test_a_database_that_is_damaged_is_told_and_the_server_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with jobs(tmp_path) as here:
        for _ in range(50):
            await here.new("hello", args=["x" * 2_000])
    database = tmp_path / "jobs" / "jobs.db"
    whole = database.read_bytes()
    database.write_bytes(b"no database" * 1_000)
    await told_and_living(tmp_path, errno.EIO, "no database")
    middle = whole[:4_096] + b"\xff" * (len(whole) - 4_096)
    database.write_bytes(middle)
    await told_and_living(tmp_path, errno.EIO, "damaged")
    database.write_bytes(whole)
    async with jobs(tmp_path) as here:
        assert len(here.client.listdir("/jobs")) == 52
        assert await here.run("hello") == "completed 0"
    assert "cannot be used" in caplog.text


async def test_an_order_that_nobody_understands_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with jobs(tmp_path, room=Room(jobs=1)) as here:
        bad, good = await here.new("hello"), await here.new("hello")
    with sqlite3.connect(tmp_path / "jobs" / "jobs.db") as database:
        database.execute('UPDATE jobs SET spec = \'{"of": "tomorrow"}\' WHERE id = ?', (bad,))
    database.close()
    async with jobs(tmp_path) as here:
        with pytest.raises(OSError, match="cannot be read") as refused:
            await here.text(bad, "status")
        assert refused.value.errno == errno.EIO
        await here.tell(good, "start")
        assert await here.wait(good) == "completed 0"
    assert f"job {bad} cannot be read" in caplog.text


async def test_a_disk_that_is_read_only_is_told_and_the_server_lives(
    disk: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with jobs(disk) as here:
        await here.new("hello")
    (tmp_path / "jobs").symlink_to(disk / "jobs")
    await trio.run_process(["mount", "-o", "remount,ro", str(disk)])
    await told_and_living(tmp_path, errno.EROFS, "read-only")
    await trio.run_process(["mount", "-o", "remount,rw", str(disk)])
    async with jobs(tmp_path) as here:
        assert await here.run("hello") == "completed 0"
    assert "cannot be used" in caplog.text


# Clocks ------------------------------------------------------------------------------------------

DAY = 86_400 * 10**9


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forth", "back"])
async def test_a_clock_that_is_set_changes_nothing_that_waits(tmp_path: Path, jump: int) -> None:
    time = [1_800_000_000 * 10**9]
    async with jobs(tmp_path, clock=lambda: time[0]) as here:
        waits = await here.start("echo", timeout=3_600)
        await here.reached(waits, "running")
        again = await here.start("fails", retry={"times": 2, "on": ["exit"], "delay": "50ms"})
        after = await here.start("hello", after=[waits], timeout=3_600)
        time[0] += jump
        assert await here.wait(again) == "failed 3 exit"
        assert await here.fact(again, "tries") == "3"
        assert await here.run("hello", timeout=3_600) == "completed 0"
        assert await here.fact(waits, "state") == "running"
        await here.client.write(f"/jobs/{waits}/stdin", b"x", create=False)
        assert await here.wait(after) == "completed 0"


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forth", "back"])
async def test_a_clock_that_was_set_between_two_servers_holds_nothing_up(
    tmp_path: Path, jump: int
) -> None:
    time = [1_800_000_000 * 10**9]
    async with jobs(tmp_path, clock=lambda: time[0], room=Room(jobs=1)) as here:
        running = await here.start("echo")
        await here.reached(running, "running")
        waiting = await here.start("hello", priority=-100)
        again = await here.start("fails", retry={"times": 3, "on": ["exit", "interrupted"]})
        time[0] += 1
    time[0] += jump
    async with jobs(tmp_path, clock=lambda: time[0]) as here:
        assert await here.wait(waiting) == "completed 0"
        await here.until(again, "tries", lambda said: int(said) >= 2)
        await here.tell(again, "kill")


async def test_what_was_stopped_stays_so_over_a_restart(tmp_path: Path) -> None:
    async with jobs(tmp_path) as here:
        number = await here.new("hello")
        await here.tell(number, "stop\nstart")
    async with jobs(tmp_path) as here:
        assert await here.run("hello") == "completed 0"
        assert await here.fact(number, "state") == "pending"
        assert await here.fact(number, "stopped") == "yes"
        await here.tell(number, "cont")
        assert await here.wait(number) == "completed 0"


# Descriptors -------------------------------------------------------------------------------------

FEW = """
import resource, sys, trio
from pathlib import Path
from tests.scheduler.jobs_help import jobs

async def main():
    async with jobs(Path(sys.argv[1])) as here:
        assert await here.run("hello", worker=False) == "completed 0"
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        started, refused = [], 0
        for _ in range(60):
            try:
                started.append(await here.start("echo", worker=False, limits={"wall": 60}))
            except OSError as error:
                refused += 1
                assert error.errno in (24, 23), error
        states = []
        for number in started:
            scheduler = here.service.scheduler
            job = scheduler.find(number)
            while job.state.value == "pending" and job.reason == "queued":
                with trio.move_on_after(0.05):
                    await scheduler.bell.wait()
                if sum(j.state.value == "running" for j in map(scheduler.find, started) if j) > 31:
                    break
            states.append(job.exit_line)
        for number in started:
            job = here.service.scheduler.find(number)
            if not job.state.ended:
                here.service.scheduler.kill(job)
        with trio.fail_after(20):
            for number in started:
                await here.service.scheduler.ended(here.service.scheduler.find(number))
        assert await here.run("hello", worker=False) == "completed 0"
        print(len(started), refused, sorted(set(states)))

trio.run(main)
"""


def test_with_64_descriptors_each_job_has_a_clear_end_and_the_server_lives(tmp_path: Path) -> None:
    child = python(FEW, tmp_path)
    out, _ = child.communicate(timeout=100)
    assert child.returncode == 0
    states = out.decode()
    assert "too many" in states.lower() or "EMFILE" in states or int(states.split()[1]) > 0, states
    assert "internal error" not in states
