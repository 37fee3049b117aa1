"""Jobs as files: ordered, run, watched, controlled and ended through `/jobs`."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from oanix.caller import Caller
from oanix.client import Client
from oanix.scheduler.modules import Modules
from oanix.scheduler.turns import Room
from tests.scheduler.jobs_help import Jobs, jobs
from tests.scheduler.modules import wasm


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Jobs]:
    async with jobs(tmp_path) as running:
        yield running


async def test_a_job_is_ordered_run_and_answered(here: Jobs) -> None:
    number = await here.new("hello", args=["a"], name="greeting")
    assert number == 1
    assert await here.fact(number, "state") == "pending"
    assert await here.fact(number, "reason") == "not started"
    assert json.loads(await here.text(number, "spec"))["args"] == ["a"]
    await here.tell(number, "start")
    assert await here.wait(number) == "completed 0"
    assert await here.text(number, "stdout") == "hello\n"
    assert await here.text(number, "stderr") == ""
    assert here.client.listdir("/jobs") == ["README", "new", "1"]
    assert here.client.readlink("/jobs/1/log") == "../../logs/runs/1"
    assert await here.client.read("/jobs/1/log/stdout") == b"hello\n"
    events = (await here.client.read_text("/logs/runs/1/events.jsonl")).splitlines()
    assert [json.loads(line)["message"] for line in events] == ["job 1 started", "job 1 ended"]


@pytest.mark.parametrize(
    ("module", "spec", "line"),
    [
        ("hello", {}, "completed 0"),
        ("fails", {}, "failed 3 exit"),
        ("trap", {}, "failed trap unreachable"),
        ("spin", {"limits": {"cpu": 0.05}}, "failed cpu"),
        ("spin", {"limits": {"wall": "50ms"}}, "failed wall"),
        ("spin", {"timeout": 0.05}, "failed timeout"),
        ("spin", {"limits": {"fuel": 100_000}}, "failed fuel"),
        ("flood", {"limits": {"output": "64K"}}, "failed output"),
        ("echo", {"stdin": "said\n"}, "completed 0"),
        ("hello", {"limits": {"memory": 100}}, "failed memory"),
    ],
)
async def test_how_a_job_ended_is_said(
    here: Jobs, module: str, spec: dict[str, Any], line: str
) -> None:
    assert await here.run(module, **spec) == line


async def test_what_cannot_be_run_says_why(here: Jobs) -> None:
    assert (await here.run("bad")).startswith("failed error this is no WebAssembly module")
    for spec, number, said in [
        ({"module": "/workspace/none.wasm"}, errno.ENOENT, "none.wasm"),
        ({"module": "/dev"}, errno.EISDIR, "directory"),
        ({}, errno.EINVAL, "module"),
        ({"module": "/workspace/hello.wasm", "after": [99]}, errno.EINVAL, "no job 99"),
        ({"module": "/workspace/hello.wasm", "namespace": "bind /none /x\n"}, errno.ENOENT,
         "namespace:1:6"),
    ]:  # fmt: skip
        job = await here.new(**spec)
        with pytest.raises(OSError, match=said) as refused:
            await here.tell(job, "start")
        assert refused.value.errno == number
        assert await here.fact(job, "reason") == "not started"


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ("[]", "JSON object"),
        ('{"modul": "/a"}', "did you mean 'module'"),
        ('{"module": "a.wasm"}', "absolute path"),
        ('{"priority": 9223372036854775808}', "priority: this is a whole number"),
        ('{"limits": {"memory": -1}}', "memory is above 0"),
        ('{"limits": {"colour": 1}}', "no limit 'colour'"),
        ('{"args": [1]}', "args: this is a text"),
        ('{"env": {"A=B": "x"}}', "cannot be the name"),
        ('{"namespace": "mount dev /dev"}', "use bind"),
        ('{"retry": {"on": ["rain"]}}', "what can be tried again"),
        ('{"timeout": NaN}', "NaN"),
        ('{"module": "/a", "module": "/b"}', "'module' is there twice"),
        ('{"limits": {"cpu": 1, "cpu": 9}}', "'cpu' is there twice"),
        ('{"after": [1]}', "does not come after itself"),
        ("{" + '"a":{' * 3000 + "}" * 3001, "no JSON"),
        ('{"input":' + "[" * 600 + "]" * 600 + "}", "100 levels"),
        ('{"args": ["\\ud800"]}', "surrogate"),
        ('{"env": {"A": "\\udcff"}}', "surrogate"),
        ('{"input": {"\\ud800": 1}}', "surrogate"),
        ('{"module": "/workspace/\\udcff"}', "surrogate"),
        ('{"input": 1e999}', "beyond all bounds"),
    ],
)
async def test_what_is_no_specification_is_refused(here: Jobs, said: str, match: str) -> None:
    number = await here.new()
    with pytest.raises(OSError, match=match) as refused:
        await here.client.write(f"/jobs/{number}/spec", said + "\n", create=False)
    assert refused.value.errno == errno.EINVAL
    # The queue goes on for everybody.
    assert await here.run("hello") == "completed 0"


async def test_a_specification_may_take_several_lines(here: Jobs) -> None:
    number = await here.new()
    async with here.client.open(f"/jobs/{number}/spec", os.O_WRONLY) as file:
        for line in ('{"module":\n', '"/workspace/hello.wasm",\n', '"limits": {"cpu": 1}\n', "}\n"):
            await file.write(line.encode())
    await here.tell(number, "start")
    assert await here.wait(number) == "completed 0"
    with pytest.raises(OSError, match="was started") as refused:
        await here.client.write(f"/jobs/{number}/spec", '{"args": []}\n', create=False)
    assert refused.value.errno == errno.EBUSY


async def test_input_is_piped_and_output_followed_as_it_comes(here: Jobs) -> None:
    number = await here.start("echo")
    async with (
        here.client.open(f"/jobs/{number}/stdin", os.O_WRONLY) as into,
        here.client.open(f"/jobs/{number}/stdout") as out,
    ):
        for line in (b"one\n", b"two\n"):
            await into.write(line)
            assert await out.read(100, within=5) == line
        assert await here.fact(number, "state") == "running"
    assert await here.wait(number) == "completed 0"
    with pytest.raises(BrokenPipeError):
        await here.client.write(f"/jobs/{number}/stdin", b"late\n", create=False)


async def test_output_is_kept_byte_by_byte_and_seen_before_its_line_ends(here: Jobs) -> None:
    raw = bytes(range(256)) * 8
    number = await here.start("echo")
    async with (
        here.client.open(f"/jobs/{number}/stdin", os.O_WRONLY) as into,
        here.client.open(f"/jobs/{number}/stdout") as out,
    ):
        await into.write(b"name? ")
        assert await out.read(100, within=5) == b"name? "
        await into.write(raw)
    assert await here.wait(number) == "completed 0"
    assert await here.client.read(f"/jobs/{number}/stdout", within=5) == b"name? " + raw


async def test_a_job_is_killed_stopped_and_goes_on(here: Jobs) -> None:
    number = await here.start("spin")
    await here.reached(number, "running")
    await here.tell(number, "kill")
    # The stated figure is 250 ms; ten times that is the limit here.
    with trio.fail_after(2.5):
        assert await here.wait(number) == "cancelled killed KILL"
    with pytest.raises(ProcessLookupError, match="has ended"):
        await here.tell(number, "kill")
    waiting = await here.start("echo")
    await here.tell(waiting, "kill term")
    assert await here.wait(waiting) == "cancelled killed TERM"
    stopped = await here.new("hello")
    await here.tell(stopped, "stop\nstart")
    assert await here.fact(stopped, "stopped") == "yes"
    assert await here.fact(stopped, "state") == "pending"
    await here.tell(stopped, "cont")
    assert await here.wait(stopped) == "completed 0"
    for command in ("dance", "kill HARD", "priority 101", "start now"):
        with pytest.raises(OSError, match=r"no command|followed by|is no number|alone") as refused:
            await here.tell(await here.new(), command)
        assert refused.value.errno == errno.EINVAL


async def test_a_running_job_stands_still(here: Jobs) -> None:
    number = await here.start("spin", limits={"cpu": 50, "wall": 50})

    async def used() -> float:
        return float((await here.fact(number, "cpu", "usage")).split()[0])

    await here.until(number, "cpu", lambda said: not said.startswith(("-", "0.000")), "usage")
    await here.tell(number, "stop")
    with trio.fail_after(20):
        # Its worker says four times a second what it has used.
        before, since = await used(), trio.current_time()
        while trio.current_time() < since + 1:
            with trio.move_on_after(0.05):
                await here.service.scheduler.bell.wait()
            if (now := await used()) != before:
                before, since = now, trio.current_time()
    await here.tell(number, "cont")
    await here.until(number, "cpu", lambda said: float(said.split()[0]) > before, "usage")
    await here.tell(number, "kill")
    assert await here.wait(number) == "cancelled killed KILL"


async def test_a_job_comes_after_others(here: Jobs) -> None:
    first = await here.start("echo")
    good = await here.start("hello", after=[first])
    await here.until(good, "reason", lambda said: said == f"waits for job {first}")
    bad = await here.new("hello", after=[first, good])
    await here.client.write(f"/jobs/{first}/stdin", b"go\n", create=False)
    assert await here.wait(good) == "completed 0"
    await here.tell(bad, "start")
    assert await here.wait(bad) == "completed 0"
    failed = await here.start("fails")
    assert await here.run("hello", after=[failed]) == f"failed job {failed} failed"


async def test_a_job_is_tried_again_as_its_order_says(here: Jobs) -> None:
    number = await here.start("fails", retry={"times": 2, "on": ["exit"], "delay": "1ms"})
    assert await here.wait(number) == "failed 3 exit"
    assert await here.fact(number, "tries") == "3"
    assert await here.text(number, "stdout") == "no\n" * 3
    assert (await here.run("fails", retry=5)) == "failed 3 exit"


async def test_each_try_waits_twice_as_long_as_the_one_before(tmp_path: Path) -> None:
    steady = [100.0]
    async with jobs(tmp_path, steady=lambda: steady[0]) as here:
        retry = {"times": 3, "on": ["exit"], "delay": 10}
        number = await here.start("fails", retry=retry, worker=False)
        job = here.service.scheduler.find(number)
        assert job is not None
        for tries, delay in enumerate((10, 20, 40), 1):
            told = f"tried {tries} times, last exit"
            await here.until(number, "reason", lambda said, told=told: said == told)
            assert job.not_before == steady[0] + delay
            steady[0] += delay - 0.001
            await here.tell(number, "cont")
            assert await here.run("hello", worker=False) == "completed 0"
            assert await here.fact(number, "tries") == str(tries)
            steady[0] += 0.001
            await here.tell(number, "cont")
            await here.until(number, "tries", lambda said, n=tries: said == str(n + 1))
        assert await here.wait(number) == "failed 3 exit"


async def test_a_sealed_namespace_takes_no_more_changes(here: Jobs) -> None:
    number = await here.start("echo", namespace="bind /proc /proc\nbind /dev /dev\n")
    await here.reached(number, "running")
    job = here.service.scheduler.find(number)
    assert job is not None
    assert job.namespace is not None
    inside = Client(job.namespace, Caller(job=str(number), uid=1_000))
    await inside.write("/proc/self/ctl", "bind /dev/null /null\n", append=True, create=False)
    assert inside.exists("/null")
    await here.tell(number, "seal")
    for line in ("bind /dev/null /other\n", "unmount /dev\n"):
        with pytest.raises(OSError, match="sealed"):
            await inside.write("/proc/self/ctl", line, append=True, create=False)
    assert not inside.exists("/other")
    await here.tell(number, "kill")
    draft = await here.new("echo", namespace="bind /dev /dev\n")
    await here.tell(draft, "seal\nstart")
    await here.reached(draft, "running")
    sealed = here.service.scheduler.find(draft)
    assert sealed is not None
    assert sealed.namespace is not None
    assert sealed.namespace.sealed
    await here.tell(draft, "kill")


async def test_priority_decides_and_waiting_raises_it(tmp_path: Path) -> None:
    times = [0]
    async with jobs(
        tmp_path, room=Room(jobs=1, of_one=1), clock=lambda: times[0],
        steady=lambda: times[0] / 1e9,
    ) as here:  # fmt: skip
        running = await here.start("echo")
        await here.reached(running, "running")
        old = await here.start("hello", priority=0)
        times[0] += 400 * 10**9
        low, high = await here.start("hello", priority=-5), await here.start("hello", priority=10)
        await here.client.write(f"/jobs/{running}/stdin", b"\n", create=False)
        for number in (old, low, high):
            assert await here.wait(number) == "completed 0"
        started = {n: await here.fact(n, "started") for n in (old, low, high)}
        order = await order_of(here, (old, low, high))
    assert order == [old, high, low], started


async def order_of(here: Jobs, numbers: tuple[int, ...]) -> list[int]:
    found = {}
    for number in numbers:
        line = (await here.client.read_text(f"/logs/runs/{number}/events.jsonl")).splitlines()[0]
        found[number] = json.loads(line)["timestamp"]
    return sorted(numbers, key=lambda number: str(found[number]))


# Whose they are ----------------------------------------------------------------------------------


async def test_a_job_is_its_makers(here: Jobs) -> None:
    number = await here.start("hello")
    await here.wait(number)
    other = here.by(Caller(uid=2_000, gid=2_000, session="other"))
    for name in ("status", "stdout", "spec", "wait"):
        with pytest.raises(PermissionError):
            await other.text(number, name)
    with pytest.raises(PermissionError):
        await other.tell(number, "kill")
    stranger = here.by(Caller(uid=1_000, gid=1_000, job="77"))
    with pytest.raises(PermissionError):
        await stranger.text(number, "stdout")
    itself = here.by(Caller(uid=1_000, gid=1_000, job=str(number)))
    assert await itself.text(number, "stdout") == "hello\n"


async def test_the_world_of_a_job_is_its_recipe_and_its_task(here: Jobs) -> None:
    recipe = "bind /workspace /src ro\nbind /dev/null /null\nseal\n"
    number = await here.start("echo", namespace=recipe)
    await here.reached(number, "running")
    job = here.service.scheduler.find(number)
    assert job is not None
    assert job.namespace is not None
    inside = Client(job.namespace, Caller(job=str(number), uid=1_000))
    found = {entry.path for entry in inside.tree()}
    modules = {f"/src/{name}" for name in here.client.listdir("/workspace")}
    names = ("stdout", "stderr", "events.jsonl", "trajectory.json", "trajectory.jsonl")
    logs = {"/logs", *(f"/logs/{name}" for name in names)}
    names = ("spec.json", "meta.json", "status", "result.json", "steps")
    task = {f"/task/{name}" for name in names}
    assert found == {"/", "/src", "/null", "/task"} | modules | logs | task
    with pytest.raises(OSError, match="read-only"):
        await inside.write("/src/new", b"")
    with pytest.raises(OSError, match="sealed"):
        job.namespace.unmount("/src")
    await inside.write("/task/result.json", b'{"answer": 42}')
    with pytest.raises(OSError, match="JSON"):
        await inside.write("/task/result.json", b"not JSON")
    assert await here.text(number, "ns") == recipe
    await here.tell(number, "kill")
    await here.wait(number)
    assert await here.text(number, "task/result.json") == '{"answer": 42}'


async def test_the_default_world_hides_secrets_and_has_no_network(here: Jobs) -> None:
    for name in (".env", ".env.local", "server.key", "a.pem"):
        await here.client.write(f"/workspace/{name}", b"secret")
    number = await here.start("echo")
    await here.reached(number, "running")
    job = here.service.scheduler.find(number)
    assert job is not None
    assert job.namespace is not None
    inside = Client(job.namespace, Caller(job=str(number), uid=1_000))
    assert set(inside.listdir("/")) == {"workspace", "dev", "proc", "task", "logs"}
    assert not {".env", ".env.local", "server.key", "a.pem"} & set(inside.listdir("/workspace"))
    events = (await here.client.read_text(f"/logs/runs/{number}/events.jsonl")).splitlines()
    assert json.loads(events[0])["hidden"] == [".env*", "*.pem", "*.key", ".git/config"]
    await here.tell(number, "kill")


# Restarts ----------------------------------------------------------------------------------------


async def test_what_waited_is_run_by_the_next_server(tmp_path: Path) -> None:
    async with jobs(tmp_path, room=Room(jobs=1)) as here:
        running = await here.start("echo")
        await here.reached(running, "running")
        waiting = await here.start("hello")
        draft = await here.new("hello")
    async with jobs(tmp_path) as here:
        assert await here.wait(running) == "failed interrupted"
        assert await here.wait(waiting) == "completed 0"
        assert await here.fact(draft, "reason") == "not started"
        assert await here.new() == draft + 1


SERVER = """
import sys, trio
from pathlib import Path
from oanix.scheduler.modules import Modules
from tests.scheduler.jobs_help import jobs

async def main():
    async with jobs(Path(sys.argv[1])) as here:
        once = await here.start("echo")
        again = await here.start("echo", retry={"times": 1, "on": ["interrupted"], "delay": "1ms"},
                                 stdin="twice\\n", limits={"cpu": 1})
        await here.wait(again)
        spins = await here.start("spin", retry={"times": 1, "delay": "1ms"}, limits={"wall": 30})
        await here.reached(once, "running")
        await here.reached(spins, "running")
        draft = await here.new("hello")
        print(once, again, spins, draft, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def killed(folder: Path, root: Path) -> tuple[int, ...]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, folder], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as server:  # fmt: skip
        assert server.stdout
        numbers = tuple(map(int, server.stdout.readline().split()))
        server.send_signal(signal.SIGKILL)
        server.wait(10)
    return numbers


@pytest.mark.slow
async def test_after_a_kill_nothing_is_lost_and_nothing_runs_twice(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    once, again, spins, draft = await trio.to_thread.run_sync(killed, tmp_path, root)
    async with jobs(tmp_path) as here:
        assert await here.wait(once) == "failed interrupted"
        assert await here.fact(once, "tries") == "1"
        assert await here.wait(again) == "completed 0"
        await here.reached(spins, "running")
        assert await here.fact(spins, "tries") == "2"
        await here.tell(spins, "kill")
        assert await here.fact(draft, "state") == "pending"
        await here.tell(draft, "start")
        assert await here.wait(draft) == "completed 0"
        assert await here.text(once, "stdout") == ""


async def test_a_worker_that_dies_costs_its_own_jobs_which_say_so(here: Jobs) -> None:
    number = await here.start("spin", limits={"cpu": 20, "wall": 20})
    await here.reached(number, "running")
    await here.until(number, "process", str.isdigit)
    worker = int(await here.fact(number, "process"))
    assert worker != os.getpid()
    os.kill(worker, signal.SIGKILL)
    assert await here.wait(number) == "failed crashed"
    assert await here.run("hello") == "completed 0"


async def test_a_job_whose_worker_died_is_tried_again_where_its_order_says_so(here: Jobs) -> None:
    retry = {"times": 1, "on": ["crashed"], "delay": 0.01}
    number = await here.start("echo", retry=retry)
    await here.until(number, "process", str.isdigit)
    os.kill(int(await here.fact(number, "process")), signal.SIGKILL)
    await here.until(number, "tries", lambda said: said == "2")
    await here.client.write(f"/jobs/{number}/stdin", "again\n", create=False)
    assert await here.wait(number) == "completed 0"
    assert await here.text(number, "stdout") == "again\n"


async def test_a_trusted_module_may_run_in_the_server(here: Jobs) -> None:
    number = await here.start("spin", worker=False, limits={"wall": 50, "cpu": 50})
    await here.until(number, "process", str.isdigit)
    assert int(await here.fact(number, "process")) == os.getpid()
    await here.tell(number, "kill")
    assert await here.wait(number) == "cancelled killed KILL"


OTHER_VERSION = """
import sys, trio
from pathlib import Path
from wasmtime import _bindings

del _bindings._wasmtime_call_future_poll
from oanix.scheduler import engine
from oanix.scheduler.modules import Modules
from tests.scheduler.jobs_help import jobs

async def main():
    async with jobs(Path(sys.argv[1])) as here:
        print(await here.run("hello"), await here.run("fails"), await here.run("trap"))
        print(await here.run("spin", limits={"cpu": 0.1}), await here.run("flood"))
        number = await here.start("echo")
        await here.reached(number, "running")
        await here.client.write(f"/jobs/{number}/stdin", "said", create=False)
        print(await here.wait(number), (await here.text(number, "stdout")).strip())
        number, line = await here.run_script("a.js", SCRIPT)
        print(line, (await here.text(number, "stdout")).strip())

SCRIPT = "os.setTimeout(() => { console.log('late'); std.exit(4) }, 5)"
assert not engine.DIRECT
trio.run(main)
"""


@pytest.mark.slow
def test_with_another_version_of_wasmtime_jobs_run_by_its_public_interface(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OTHER_VERSION, str(tmp_path)], capture_output=True, text=True,
        timeout=60, check=False, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "completed 0 failed 3 exit failed trap unreachable", "failed cpu failed output",
        "completed 0 said", "failed 4 exit late",
    ], done.stderr  # fmt: skip
    assert "wasmtime has no wasmtime_call_future_poll" in done.stderr
    assert "install the wasmtime that setup.cfg names" in done.stderr


async def test_what_a_job_used_is_told_after_its_end(here: Jobs) -> None:
    number = await here.start("hello")
    assert await here.wait(number) == "completed 0"
    assert await here.fact(number, "memory", "usage") == "65536 of 268435456"


async def test_what_a_job_comes_after_is_looked_up_once_when_it_has_ended(tmp_path: Path) -> None:
    """A thousand jobs that came after one read it from the disk a million times."""
    async with jobs(tmp_path, room=Room(jobs=2, of_one=2)) as here:
        first = await here.start("echo", worker=False)
        await here.reached(first, "running")
        waiting = [await here.start("hello", worker=False, after=[first]) for _ in range(50)]
        queue, asked = here.service.scheduler.queue, []
        queue._opened[1]._connection.exec_trace = lambda cursor, sql, values: not asked.append(sql)
        await here.client.write(f"/jobs/{first}/stdin", b"x", create=False)
        for number in waiting:
            assert await here.wait(number) == "completed 0"
        assert sum("WHERE id = ?" in sql for sql in asked) <= 4 * len(waiting)


async def test_the_oldest_jobs_are_forgotten_with_their_logs(tmp_path: Path) -> None:
    async with jobs(tmp_path, room=Room(kept=10)) as here:
        numbers = []
        for _ in range(12):
            numbers.append(await here.start("hello", worker=False))
            assert await here.wait(numbers[-1]) == "completed 0"
        old, left = numbers[:2], numbers[2:]

        def kept() -> list[int]:
            return sorted(int(name) for name in here.client.listdir("/jobs") if name.isdigit())

        with trio.fail_after(10):
            while kept() != left or any((tmp_path / "logs/runs").glob(".*")):
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert sorted(map(int, here.client.listdir("/logs/runs"))) == left
        with pytest.raises(FileNotFoundError):
            await here.client.read(f"/logs/runs/{old[0]}/stdout")
    async with jobs(tmp_path, room=Room(kept=10)) as here:
        assert await here.text(left[0], "stdout") == "hello\n"


async def test_a_job_that_was_refused_memory_says_so(here: Jobs) -> None:
    grow = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable"
    data = wasm(f'(func (export "_start") {grow})')
    await here.client.write("/workspace/grows.wasm", data)
    number = await here.start("grows", limits={"memory": "4M"})
    assert await here.wait(number) == "failed trap unreachable"
    assert await here.fact(number, "met") == "memory"


async def test_many_modules_are_kept_at_a_time_by_several_servers(tmp_path: Path) -> None:
    stores = [Modules(tmp_path), Modules(tmp_path)]

    async def keep(number: int) -> None:
        for store in stores:
            kept = await store.keep(b"module %d" % (number % 40))
            assert await trio.Path(kept.path).read_bytes() == b"module %d" % (number % 40)

    async with trio.open_nursery() as nursery:
        for number in range(80):
            nursery.start_soon(keep, number)
    assert len(list((tmp_path / "modules").iterdir())) == 40
