"""Jobs that order jobs: with equal or fewer rights, out of what they have left, and no longer."""

import errno
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from oanix.caller import Caller
from oanix.scheduler.family import DEPTH_MAX
from oanix.scheduler.job import Job
from tests.fault.test_store_faults import python
from tests.scheduler.jobs_help import Jobs, jobs
from tests.scheduler.modules import wasm

WORLD = "bind /jobs /jobs\nbind /workspace /workspace\nbind /workspace/echo.wasm /echo.wasm ro\n"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Jobs]:
    async with jobs(tmp_path) as running:
        yield running


def job_of(here: Jobs, number: int) -> Job:
    job = here.service.scheduler.find(number)
    assert job is not None
    return job


async def within(here: Jobs, number: int) -> Jobs:
    """Act as a job that runs does, by its own namespace."""
    await here.reached(number, "running")
    await here.until(number, "memory", lambda said: not said.startswith("0 "), "usage")
    space = job_of(here, number).namespace
    assert space is not None
    return Jobs(space, here.service, Caller(uid=1_000, gid=1_000, job=str(number), door="wasi"))


async def parent(here: Jobs, **more: Any) -> tuple[int, Jobs]:
    """Start a job that waits, and may order others."""
    number = await here.start("echo", **{"namespace": WORLD, **more})
    return number, await within(here, number)


async def test_a_job_orders_a_job_and_sees_what_becomes_of_it(here: Jobs) -> None:
    mine, inside = await parent(here)
    child = await inside.start("hello")
    assert await inside.wait(child) == "completed 0"
    assert await inside.text(child, "stdout") == "hello\n"
    assert inside.client.listdir("/jobs") == ["README", "new", str(child)]
    assert job_of(here, child).parent == mine
    assert await here.fact(mine, "jobs", "usage") == "1 of 8"
    assert await here.fact(mine, "jobs-output", "usage") == "6"
    await here.tell(mine, "kill")
    await here.wait(mine)
    assert await here.fact(mine, "jobs", "usage") == "1 of 8"
    assert await here.fact(mine, "jobs-output", "usage") == "6"


async def test_a_job_sees_no_job_but_those_that_it_ordered(here: Jobs) -> None:
    other = await here.start("hello")
    await here.wait(other)
    mine, inside = await parent(here)
    child = await inside.new("echo", namespace="bind /jobs /jobs\n")
    await inside.tell(child, "start")
    nephew = await (await within(here, child)).new("hello")
    for number in (other, mine, nephew, 99):
        with pytest.raises(FileNotFoundError):
            await inside.text(number, "status")
        assert not inside.client.exists(f"/jobs/{number}")
    deep = await within(here, child)
    assert deep.client.listdir("/jobs") == ["README", "new", str(nephew)]
    for number in (other, mine, child):
        with pytest.raises(FileNotFoundError):
            await deep.text(number, "status")
    refused = await inside.new("hello", after=[other])
    with pytest.raises(OSError, match=f"no job {other}") as error:
        await inside.tell(refused, "start")
    assert error.value.errno == errno.EINVAL


async def test_a_jobs_world_holds_no_more_than_its_makers(here: Jobs) -> None:
    _, inside = await parent(here, namespace="bind /jobs /jobs\nbind /workspace /w ro\n")
    for recipe in ("bind /workspace /x\n", "bind /logs/../proc /x\n", "bind /dev /dev\n"):
        child = await inside.new()
        spec = {"module": "/w/hello.wasm", "namespace": recipe}
        await inside.client.write(f"/jobs/{child}/spec", json.dumps(spec) + "\n", create=False)
        with pytest.raises(OSError, match="namespace:1:6") as refused:
            await inside.tell(child, "start")
        assert refused.value.errno == errno.ENOENT
    child = await inside.new()
    spec = {"module": "/w/echo.wasm", "namespace": "bind /w /w\n"}
    await inside.client.write(f"/jobs/{child}/spec", json.dumps(spec) + "\n", create=False)
    await inside.tell(child, "start")
    deep = await within(here, child)
    with pytest.raises(OSError, match="read-only"):
        await deep.client.write("/w/new", b"")


async def test_the_end_of_a_job_ends_those_that_it_ordered(here: Jobs) -> None:
    mine, inside = await parent(here)
    runs = await inside.start("spin")
    draft = await inside.new("hello")
    child = await inside.start("echo", namespace="bind /jobs /jobs\n" + WORLD.split("\n")[1] + "\n")
    grandchild = await (await within(here, child)).start("echo")
    waits = await inside.start("hello", after=[runs])
    await here.reached(runs, "running")
    await here.tell(mine, "kill")
    # The stated figure is 250 ms; ten times that is the limit here.
    with trio.fail_after(2.5):
        for number in (runs, draft, child, waits):
            assert await here.wait(number) == f"cancelled job {mine} ended"
        assert await here.wait(grandchild) == f"cancelled job {child} ended"
    other, inside = await parent(here)
    child = await inside.start("echo")
    async with here.client.open(f"/jobs/{other}/stdin", 1):
        pass
    assert await here.wait(other) == "completed 0"
    assert await here.wait(child) == f"cancelled job {other} ended"


async def test_a_job_has_so_many_jobs_under_way_and_no_more(here: Jobs) -> None:
    mine, inside = await parent(here, limits={"jobs": 3})
    first = await inside.start("echo", namespace=WORLD, limits={"jobs": 100})
    deep = await within(here, first)
    await inside.new()
    third = await deep.new("hello")
    for one in (inside, deep):
        with pytest.raises(OSError, match="jobs under way") as refused:
            await one.new()
        assert refused.value.errno == errno.EMFILE
    assert await here.fact(mine, "met") == "jobs"
    assert await here.fact(mine, "met", "usage") == "jobs"
    await deep.tell(third, "kill")
    assert await here.wait(third) == "cancelled killed KILL"
    assert await inside.new() > third


async def test_jobs_nest_so_deep_and_no_deeper(here: Jobs) -> None:
    deeper: dict[str, Any] = {"limits": {"jobs": 100}, "namespace": WORLD}
    _, inside = await parent(here, **deeper)
    for _ in range(DEPTH_MAX - 1):
        inside = await within(here, await inside.start("echo", **deeper))
    with pytest.raises(OSError, match=f"at most {DEPTH_MAX} deep"):
        await inside.new()


async def test_a_job_gives_its_jobs_what_it_has_left_at_most(here: Jobs) -> None:
    limits = {"cpu": 2, "wall": 30, "memory": "8M", "files": 10, "output": "1K", "written": "1M",
              "table": 50, "fuel": 10**12}  # fmt: skip
    _, inside = await parent(here, limits=limits)
    child = await inside.start("echo", namespace=WORLD, limits={"cpu": 100, "memory": "1G"})
    await within(here, child)
    given = job_of(here, child).limits
    assert given is not None
    assert (given.files, given.table, given.output, given.written) == (10, 50, 1_024, 1 << 20)
    assert given.jobs == 7
    assert 1 < given.cpu <= 2
    assert 0 < given.wall <= 30
    assert given.memory == (8 << 20) - 65_536
    assert given.fuel is not None
    assert given.fuel <= 10**12
    flood = await inside.start("flood", limits={"output": "1G"})
    assert await inside.wait(flood) == "failed output"


@pytest.mark.slow
async def test_a_job_whose_jobs_use_too_much_together_ends_with_them(here: Jobs) -> None:
    mine, inside = await parent(here, limits={"cpu": 1})
    started = [await inside.start("spin") for _ in range(3)]
    assert await here.wait(mine) == "failed cpu"
    for number in started:
        assert await here.wait(number) in ("failed cpu", f"cancelled job {mine} ended")
    # Each for itself, they would have used three times as much.
    assert float(await here.fact(mine, "jobs-cpu", "usage")) < 2
    assert await here.run("hello") == "completed 0"


async def test_what_a_job_holds_is_not_given_to_the_next(here: Jobs) -> None:
    mine, inside = await parent(here, limits={"memory": "3M"})
    large = [await inside.start("large") for _ in range(2)]
    for number in large:
        await within(here, number)
    assert await inside.wait(await inside.start("large")) == "failed memory"
    for number in large:
        await inside.tell(number, "kill")
        await inside.wait(number)
    await within(here, await inside.start("large"))
    assert await here.fact(mine, "state") == "running"


async def test_what_jobs_have_used_up_is_not_given_again(here: Jobs) -> None:
    mine, inside = await parent(here, limits={"output": "10K"})
    for _ in range(2):
        number = await inside.start("hello")
        assert await inside.wait(number) == "completed 0"
    flood = await inside.start("flood")
    assert await inside.wait(flood) == "failed output"
    limits = job_of(here, flood).usage["limits"]
    assert limits["output"] == 10_240 - 12
    assert await here.fact(mine, "state") == "running"


async def test_a_module_that_is_new_here_counts_as_what_its_maker_wrote(here: Jobs) -> None:
    mine, inside = await parent(here, limits={"written": "300K"})
    large = wasm('(func (export "_start")) (data (i32.const 0) "' + "x" * 60_000 + '")')
    for number in range(3):
        text = large + bytes([0, 3, 1, 65 + number, 0])
        await here.client.write(f"/workspace/new{number}.wasm", text)
        for _ in range(2):
            assert await inside.wait(await inside.start(f"new{number}")) == "completed 0"
    assert int(await here.fact(mine, "jobs-written", "usage")) == 3 * (len(large) + 5)
    for number in range(3, 6):
        await here.client.write(
            f"/workspace/new{number}.wasm", large + bytes([0, 3, 1, 97, 98 + number])
        )
        await inside.start(f"new{number}")
        if (await here.fact(mine, "state")) != "running":
            break
    assert await here.wait(mine) == "failed written"


async def test_a_jobs_job_does_not_go_before_it(here: Jobs) -> None:
    _, inside = await parent(here, priority=-5)
    child = await inside.new("hello", priority=50)
    assert await inside.fact(child, "priority") == "-5"
    await inside.tell(child, "priority 100")
    assert await inside.fact(child, "priority") == "-5"


async def test_jobs_of_jobs_run_where_their_user_has_no_room_left(tmp_path: Path) -> None:
    from oanix.scheduler.turns import Room

    async with jobs(tmp_path, room=Room(jobs=1, of_one=1)) as here:
        _, inside = await parent(here)
        waits = await here.start("hello")
        child = await inside.start("hello")
        assert await inside.wait(child) == "completed 0"
        assert await here.fact(waits, "state") == "pending"


async def test_after_a_restart_the_jobs_of_a_job_have_ended_with_it(tmp_path: Path) -> None:
    async with jobs(tmp_path) as here:
        mine, inside = await parent(here, retry={"times": 1, "delay": "1ms"})
        runs = await inside.start("echo", retry=3)
        await here.reached(runs, "running")
        draft = await inside.new("hello")
    async with jobs(tmp_path) as here:
        assert (await here.wait(runs)).startswith(("failed interrupted", "cancelled"))
        assert await here.wait(draft) == f"cancelled job {mine} ended"
        await here.reached(mine, "running")
        assert await here.fact(mine, "tries") == "2"
        again = await (await within(here, mine)).start("hello")
        assert await here.wait(again) == "completed 0"


# Pipelines ---------------------------------------------------------------------------------------


async def test_the_output_of_a_job_is_read_by_the_next_as_it_comes(here: Jobs) -> None:
    first = await here.start("echo")
    second = await here.start("echo", stdin={"path": f"/jobs/{first}/stdout"})
    third = await here.start("echo", stdin={"path": f"/jobs/{second}/stdout"})
    async with (
        here.client.open(f"/jobs/{first}/stdin", 1) as into,
        here.client.open(f"/jobs/{third}/stdout") as out,
    ):
        for line in (b"one\n", b"two\n"):
            await into.write(line)
            assert await out.read(100, within=5) == line
    for number in (first, second, third):
        assert await here.wait(number) == "completed 0"
    assert json.loads(await here.text(second, "spec"))["stdin"] == {"path": f"/jobs/{first}/stdout"}


async def test_a_recipe_binds_the_output_of_another_job_and_nothing_else_of_it(here: Jobs) -> None:
    first = await here.start("hello")
    await here.wait(first)
    bound = (
        f"bind /jobs/{first}/stdout /in\nbind /jobs/{first}/task/spec.json /order\n"
        "bind /jobs /jobs\n"
    )
    _, inside = await parent(here, namespace=bound)
    assert await inside.client.read("/in", within=5) == b"hello\n"
    assert b"hello.wasm" in await inside.client.read("/order")
    assert inside.client.listdir("/jobs") == ["README", "new"]
    stranger = Jobs(here.namespace, here.service, Caller(uid=1_000, gid=1_000, job="77"))
    with pytest.raises(PermissionError):
        await stranger.text(first, "stdout")


async def test_a_job_cannot_bind_or_read_what_its_maker_may_not(here: Jobs) -> None:
    other = here.by(Caller(uid=2_000, gid=2_000, session="other"))
    theirs = await other.start("hello")
    await other.wait(theirs)
    line = await here.run("hello", stdin={"path": f"/jobs/{theirs}/stdout"})
    assert line == f"failed error job {theirs} belongs to another"
    job = await here.new("hello", namespace=f"bind /jobs/{theirs}/stdout /in\n")
    with pytest.raises(PermissionError, match="belongs to another"):
        await here.tell(job, "start")
    for path, number in (("/none", errno.ENOENT), ("/dev", errno.EISDIR)):
        job = await here.new("hello", stdin={"path": path})
        with pytest.raises(OSError, match=path) as refused:
            await here.tell(job, "start")
        assert refused.value.errno == number


# Whose rights ------------------------------------------------------------------------------------


async def test_only_the_user_of_the_server_orders_jobs(tmp_path: Path) -> None:
    async with jobs(tmp_path, users=lambda uid: uid == 1_000) as here:
        assert await here.run("hello") == "completed 0"
        with pytest.raises(PermissionError, match="rights of the server"):
            await here.by(Caller(uid=2_000, gid=2_000)).new("hello")


async def test_jobs_that_wait_for_each_other_are_refused(here: Jobs) -> None:
    first, second, third = [await here.new("hello") for _ in range(3)]
    for number, after in ((first, second), (second, third), (third, first)):
        spec = {"module": "/workspace/hello.wasm", "after": [after]}
        await here.client.write(f"/jobs/{number}/spec", json.dumps(spec) + "\n", create=False)
    with pytest.raises(OSError, match=f"{first} after {second} after {third} after {first}"):
        await here.tell(first, "start")
    await here.tell(third, "kill")
    await here.tell(first, "start\n")
    await here.tell(second, "start\n")
    assert await here.wait(first) == f"failed job {second} failed"


FAMILY = """
import sys, trio
from pathlib import Path
from tests.scheduler.jobs_help import jobs
from tests.scheduler.test_family import parent

async def main():
    async with jobs(Path(sys.argv[1])) as here:
        mine, inside = await parent(here)
        runs = await inside.start("echo", retry=3)
        await here.reached(runs, "running")
        waits, draft = await inside.start("hello", after=[runs]), await inside.new("hello")
        print(mine, runs, waits, draft, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.slow
async def test_after_a_kill_the_jobs_of_a_job_have_ended_with_it(tmp_path: Path) -> None:
    def killed() -> list[int]:
        with python(FAMILY, tmp_path) as server:
            assert server.stdout is not None
            numbers = list(map(int, server.stdout.readline().split()))
            server.kill()
        return numbers

    mine, runs, waits, draft = await trio.to_thread.run_sync(killed)
    async with jobs(tmp_path) as here:
        assert await here.wait(mine) == "failed interrupted"
        assert await here.wait(runs) == "failed interrupted"
        for number in (waits, draft):
            assert await here.wait(number) == f"cancelled job {mine} ended"
