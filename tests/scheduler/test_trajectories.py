"""Trajectories of jobs: what a real module did, as it was seen at the doors of its namespace."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from oanix.assembly import Context, build, default_lines, place
from oanix.caller import Caller
from oanix.client import Client
from oanix.lib.atif import document
from oanix.lib.vault import Mask
from oanix.lib.vault.forms import forms
from tests.scheduler.acting import (
    CREAT,
    DIRECTORY,
    ERR,
    READ,
    READDIR,
    WRITE,
    Acts,
)
from tests.scheduler.atif import valid
from tests.scheduler.jobs_help import Jobs, jobs
from tests.service.http_help import http
from tests.service.vaults import RULE, VALUE, made


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Jobs]:
    async with jobs(tmp_path) as running:
        (tmp_path / "workspace" / "in.txt").write_bytes(b"x" * 5_000)
        (tmp_path / "workspace" / ".env").write_text("TOKEN=1")
        yield running


async def read(here: Jobs, number: int) -> Any:
    return valid(await here.client.read(f"/logs/runs/{number}/trajectory.json"))


async def acted(here: Jobs, tmp_path: Path, acts: Acts, **spec: Any) -> Any:
    """Run a module, and give its trajectory."""
    (tmp_path / "workspace" / "acts.wasm").write_bytes(acts.module())
    number = await here.start("acts", **spec)
    await here.wait(number)
    return await read(here, number)


def calls(found: Any) -> list[tuple[str, Any, str]]:
    """List the calls: name, arguments, what came of it."""
    listed = []
    for step in found["steps"]:
        told = {one["source_call_id"]: one for one in step.get("observation", {"results": []})
                ["results"]}  # fmt: skip
        for call in step.get("tool_calls", ()):
            content = told[call["tool_call_id"]]["content"]
            listed.append((call["function_name"], call["arguments"], content))
    return listed


async def test_a_trajectory_tells_the_order_the_deeds_and_the_end(
    here: Jobs, tmp_path: Path
) -> None:
    acts = Acts().say("hello\n").open("workspace/in.txt").times(300, lambda a: a.read(16)).close()
    found = await acted(
        here, tmp_path, acts.say("bye\n"), args=["one", "two three"], name="greeter",
        env={"TOKEN": "value-of-token"}, input={"what": "greet"},
    )  # fmt: skip
    assert found["agent"]["name"] == "greeter"
    assert found["agent"]["version"].startswith("sha256:")
    assert found["extra"]["complete"] is True
    start, order, first, second, end = found["steps"]
    assert start["source"] == "system"
    assert "bind /workspace /workspace exclude=.env*:*.pem:*.key:.git/config" in start["message"]
    assert start["extra"]["hidden"] == [".env*", "*.pem", "*.key", ".git/config"]
    assert start["extra"]["limits"]["cpu"] == 10.0
    assert order["source"] == "user"
    assert order["message"] == 'greeter one \'two three\'\ninput: {"what": "greet"}'
    assert order["extra"]["env"] == ["TOKEN"]
    assert "value-of-token" not in json.dumps(found)
    assert (first["message"], second["message"]) == ("hello", "bye")
    assert calls(found) == [("read_file", {"path": "/workspace/in.txt"}, "read 4,800 bytes")]
    assert end["message"].startswith("completed 0\nused: wall ")
    assert end["extra"]["usage"]["read"] == 4_800
    assert found["final_metrics"] == {"total_steps": 5}


async def test_each_kind_of_operation_is_a_call(here: Jobs, tmp_path: Path) -> None:
    acts = Acts().open("workspace", DIRECTORY, READDIR).list().close()
    acts.open("workspace/new.txt", CREAT, WRITE).write("one\n").write("two\n").close()
    acts.open("logs/notes.log", CREAT, WRITE, 1).write("a line\n").close()
    acts.open("workspace/in.txt", 0, READ | WRITE).read(10).write("y").close()
    acts.rename("workspace/new.txt", "workspace/b.txt").unlink("workspace/b.txt")
    acts.mkdir("workspace/d").rmdir("workspace/d")
    found = calls(await acted(here, tmp_path, acts))
    assert [(name, said) for name, said, _ in found] == [
        ("list_directory", {"path": "/workspace"}),
        ("write_file", {"path": "/workspace/new.txt", "new": True}),
        ("append_file", {"path": "/logs/notes.log", "new": True}),
        ("edit_file", {"path": "/workspace/in.txt"}),
        ("rename", {"path": "/workspace/new.txt", "to": "/workspace/b.txt"}),
        ("remove_file", {"path": "/workspace/b.txt"}),
        ("make_directory", {"path": "/workspace/d"}),
        ("remove_directory", {"path": "/workspace/d"}),
    ]
    assert found[0][2].partition(": ")[0].endswith(" names")
    assert "in.txt" in found[0][2]
    assert [told for _, _, told in found[1:5]] == [
        "wrote 8 bytes", "wrote 7 bytes", "read 10 bytes, wrote 1 byte", "done"
    ]  # fmt: skip


async def test_what_was_refused_is_told_with_its_errno_and_sentence(
    here: Jobs, tmp_path: Path
) -> None:
    acts = Acts().open("workspace/.env").open("workspace/none").stat("workspace/no/such")
    acts.open("../etc/passwd").mkdir("workspace/d").mkdir("workspace/d").rmdir("workspace")
    acts.open("logs/trajectory.json", 0, WRITE).unlink("logs/stdout")
    found = await acted(here, tmp_path, acts)
    told = calls(found)
    assert told[0] == (
        "look_for",
        {"paths": ["/workspace/.env", "/workspace/none", "/workspace/no"]},
        "ENOENT: not found, 3 times",
    )
    refused = {(name, said.get("path")): content for name, said, content in told}
    assert "leads out of the directory" in refused["open_file", None]
    assert refused["make_directory", "/workspace/d"].startswith("EEXIST: ")
    assert refused["remove_directory", "/workspace"].startswith("EBUSY: ")
    assert refused["write_file", "/logs/trajectory.json"].startswith("EPERM: trajectory.json is ")
    assert refused["remove_file", "/logs/stdout"].startswith("EPERM: logs are append-only")
    [step] = [step for step in found["steps"] if "tool_calls" in step]
    assert sorted(step["extra"]["seen"]["failed"].values()) == [
        "EBUSY", "EEXIST", "ENOENT", "EPERM", "EPERM", "EPERM",
    ]  # fmt: skip


async def test_a_job_adds_steps_of_its_own_and_their_metrics_are_added_up(
    here: Jobs, tmp_path: Path
) -> None:
    line = {
        "message": "I shall read", "model_name": "m-1", "reasoning_content": "why not",
        "metrics": {"prompt_tokens": 10, "completion_tokens": 2, "cost_usd": 0.25},
    }  # fmt: skip
    text = json.dumps(line) + "\n"
    acts = Acts().open("task/steps", 0, WRITE).write(text).close()
    acts.open("workspace/in.txt").read().close()
    acts.open("task/steps", 0, WRITE).write('{"message": 1}\n').write(text).close()
    found = await acted(here, tmp_path, acts)
    own = [step for step in found["steps"] if step["extra"]["by"] == "job"]
    assert [step["model_name"] for step in own] == ["m-1", "m-1"]
    assert own[0]["tool_calls"][0]["arguments"] == {"path": "/workspace/in.txt"}
    [refusal] = [told for name, _, told in calls(found) if name == "write_file"]
    assert refusal == "EINVAL: step.message: this is a text"
    assert found["final_metrics"] == {
        "total_prompt_tokens": 20, "total_completion_tokens": 4, "total_cost_usd": 0.5,
        "total_steps": len(found["steps"]),
    }  # fmt: skip


async def test_nobody_else_writes_to_a_trajectory_and_only_its_job_adds_steps(here: Jobs) -> None:
    number = await here.start("hello")
    await here.wait(number)
    run = f"/logs/runs/{number}"
    for name in ("trajectory.json", "trajectory.jsonl"):
        for flags in (os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR):
            with pytest.raises(PermissionError):
                await here.namespace.resolve(Caller(), f"{run}/{name}").open(Caller(), flags)
        with pytest.raises(PermissionError):
            here.client.unlink(f"{run}/{name}")
    with pytest.raises(ProcessLookupError, match="does not run"):
        await here.client.write(f"/jobs/{number}/task/steps", '{"message": ""}\n', create=False)
    with pytest.raises(PermissionError):
        await here.by(Caller(uid=1_001)).client.write(
            f"/jobs/{number}/task/steps", "{}\n", create=False
        )


async def test_input_that_is_read_is_said_by_the_user(here: Jobs, tmp_path: Path) -> None:
    acts = Acts().hear().copy().hear().copy()
    (tmp_path / "workspace" / "acts.wasm").write_bytes(acts.module())
    number = await here.start("acts")
    await here.client.write(f"/jobs/{number}/stdin", "first\n", create=False)
    await here.wait(number)
    told = [(step["source"], step["message"]) for step in (await read(here, number))["steps"]]
    assert told[2:4] == [("user", "first"), ("agent", "first")]
    given = await acted(here, tmp_path, acts, stdin="all of it\n")
    assert given["steps"][1]["message"] == "acts.wasm\nstandard input: all of it\n"


async def test_requests_of_a_job_are_told_with_what_was_answered(
    here: Jobs, tmp_path: Path
) -> None:
    async with http() as web:
        here.namespace.mount(web.service, "/cap/http")
        call = json.dumps({"url": web.url("/status/404?key=secret"), "body": "sent-body"}) + "\n"
        acts = Acts().open(f"cap/http{web.tree('/bytes/3000')}").read(2_000).read(2_000).close()
        acts.open("cap/http/call", 0, READ | WRITE).write(call).read().close()
        acts.open(f"cap/http{web.tree('/status/410')}").open("cap/http/get/http/10.0.0.1/%2Fx")
        found = await acted(here, tmp_path, acts, grant=["/cap/http"])
        told = calls(found)
        assert told[0] == (
            "http_request", {"method": "GET", "url": web.url("/bytes/3000")},
            "200 Fine, 3,000 bytes",
        )  # fmt: skip
        assert told[1][1] == {"method": "POST", "url": web.url("/status/404") + "?key=***"}
        assert told[1][2].startswith("404 ")
        assert told[2][2].startswith("ENOENT: ")
        assert "answered 410" in told[2][2]
        assert told[3][2].startswith("EACCES: ")
        assert "secret" not in json.dumps(found)
        assert "sent-body" not in json.dumps(found)
        here.namespace.unmount("/cap/http")


async def test_secrets_that_are_known_are_masked_wherever_a_job_puts_them(tmp_path: Path) -> None:
    # A shell would write it otherwise.
    secret = "correct-horse's-battery"
    async with jobs(tmp_path, mask=lambda: Mask(forms(secret)).text) as here:
        acts = Acts().say(f"it is {secret}\n").open(f"workspace/{secret}", CREAT, WRITE).close()
        acts.open(f"workspace/no-{secret}").open("task/steps", 0, WRITE)
        acts.write(json.dumps({"message": secret, "extra": {"a": [secret]}}) + "\n").close()
        acts.open("task/result.json", 0, WRITE).write(json.dumps(secret)).close()
        found = await acted(here, tmp_path, acts, args=[secret], input=secret, name=secret)
        assert found["steps"][1]["message"].count("*" * len(secret)) == 3
        assert "battery" not in found["steps"][1]["message"]
        raw = (tmp_path / "logs" / "runs" / "1" / "trajectory.jsonl").read_text()
        assert secret not in raw
        assert raw.count("*" * len(secret)) >= 8


async def test_the_secrets_of_the_vault_are_masked_in_the_default_namespace(
    tmp_path: Path,
) -> None:
    (tmp_path / "project").mkdir()
    acts = Acts().say(f"{VALUE.decode()}\n")
    (tmp_path / "project" / "acts.wasm").write_bytes(acts.module())
    state, project = str(tmp_path / "state"), str(tmp_path / "project")
    lines = [
        line
        for line in default_lines(project, state)
        if line.path in ("/workspace", "/logs", "/jobs")
    ]
    for line in lines:
        os.makedirs(line.argument or "", exist_ok=True)
    vault = made(tmp_path)
    vault.set("token", VALUE, RULE)
    namespace = build(place(lines), Context(project), vault=vault)
    me = Client(namespace, Caller(uid=os.geteuid(), session="me"))
    async with AsyncExitStack() as running:
        for service in namespace.services():
            await running.enter_async_context(service.running())
        number = int(await me.read("/jobs/new"))
        spec = {"module": "/workspace/acts.wasm", "args": [VALUE.decode()]}
        await me.write(f"/jobs/{number}/spec", json.dumps(spec) + "\n", create=False)
        await me.write(f"/jobs/{number}/ctl", "start\n", create=False, append=True)
        line = await me.read_text(f"/jobs/{number}/wait", within=10)
        assert line == "completed 0\n"
        raw = await me.read(f"/logs/runs/{number}/trajectory.json")
    vault.close()
    assert VALUE not in raw
    assert [step["message"] for step in valid(raw)["steps"]][1:3] == [
        f"acts.wasm '{'*' * len(VALUE)}'", "*" * len(VALUE),
    ]  # fmt: skip


async def test_an_order_that_names_what_is_not_there_failed_where_it_was_given(
    here: Jobs, tmp_path: Path
) -> None:
    spec = json.dumps({"module": "/workspace/none.wasm"}) + "\n"
    acts = Acts().open("jobs/new").read().close().open("jobs/2/spec", 0, WRITE).write(spec).close()
    acts.open("jobs/2/ctl", 0, WRITE).write("start\n").close()
    found = await acted(here, tmp_path, acts, namespace="bind /jobs /jobs\n")
    assert calls(found)[2:] == [
        ("write_file", {"path": "/jobs/2/ctl"},
         "ENOENT: /workspace/none.wasm: no such file or directory"),
    ]  # fmt: skip


async def test_a_job_that_a_job_orders_is_referred_to(here: Jobs, tmp_path: Path) -> None:
    spec = json.dumps({"module": "/workspace/hello.wasm", "args": ["x"]}) + "\n"
    acts = Acts().open("jobs/new").read().close().open("jobs/2/spec", 0, WRITE).write(spec).close()
    acts.open("jobs/2/ctl", 0, WRITE).write("start\n").close()
    acts.open("jobs/2/wait").read().close()
    recipe = "bind /workspace /workspace\nbind /jobs /jobs\n"
    found = await acted(here, tmp_path, acts, namespace=recipe)
    child = await read(here, 2)
    assert calls(found) == [
        ("make_job", {}, "job 2"),
        ("specify_job", {"job": 2, "module": "/workspace/hello.wasm", "args": ["x"]}, "done"),
        ("control_job", {"job": 2, "command": "start"}, "done"),
        ("wait_for_job", {"job": 2}, "completed 0"),
    ]
    references = [
        result["subagent_trajectory_ref"][0]
        for step in found["steps"]
        for result in step.get("observation", {"results": ()})["results"]
        if "subagent_trajectory_ref" in result
    ]
    assert [ref["session_id"] for ref in references] == [child["session_id"]] * 2
    assert references[0]["trajectory_path"] == "/logs/runs/2/trajectory.json"
    assert child["extra"]["parent_session_id"] == found["session_id"]
    # What the child did is in its own trajectory alone.
    assert "hello" not in [step["message"] for step in found["steps"]]
    assert "hello" in [step["message"] for step in child["steps"]]


@pytest.mark.parametrize(
    ("module", "spec", "said"),
    [
        ("fails", {}, "failed 3 exit"),
        ("trap", {}, "failed trap unreachable"),
        ("spin", {"limits": {"cpu": 0.05}}, "failed cpu"),
        ("bad", {}, "failed error "),
    ],
)
async def test_however_a_job_ends_its_last_step_says_how(
    here: Jobs, module: str, spec: Any, said: str
) -> None:
    number = await here.start(module, **spec)
    line = await here.wait(number)
    found = await read(here, number)
    last = found["steps"][-1]
    assert found["extra"]["complete"] is True
    assert last["extra"]["exit_line"] == line
    assert last["message"].startswith(said)
    assert module != "trap" or "wasm backtrace" in last["message"]


async def test_a_killed_job_and_one_whose_worker_is_gone_end_their_trajectories(
    here: Jobs, tmp_path: Path
) -> None:
    acts = Acts().open("workspace/in.txt").read().hear()
    (tmp_path / "workspace" / "acts.wasm").write_bytes(acts.module())
    for end, said in (("kill", "cancelled killed KILL"), ("crash", "failed crashed")):
        number = await here.start("acts")
        await here.until(number, "files", lambda told: told.startswith("5 "), "usage")
        if end == "kill":
            await here.tell(number, "kill")
        else:
            os.kill(int(await here.fact(number, "process")), signal.SIGKILL)
        assert await here.wait(number) == said
        found = await read(here, number)
        assert found["steps"][-1]["message"].startswith(said)
        # What was open is closed, and so in the record.
        assert calls(found)[-1][:2] == ("read_file", {"path": "/workspace/in.txt"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"message": "' + b"x" * 65_536 + b'"}\n', "at most 65536 bytes"),
        (b'{"message": "\0"}\n', "NUL"),
        (b"\xff\xfe\n", "line of JSON"),
        (b'{"message": NaN}\n', "NaN"),
        (b"[" * 100_000 + b"\n", "at most"),
        (b"[" * 5_000 + b"]" * 5_000 + b"\n", "line of JSON"),
        (b"[]\n", "JSON object"),
        (b'{"source": "user", "message": "", "tool_calls": []}\n', "only a step of an agent"),
    ],
)
async def test_what_is_no_step_is_refused_and_the_next_one_is_taken(
    here: Jobs, tmp_path: Path, line: bytes, said: str
) -> None:
    (tmp_path / "workspace" / "acts.wasm").write_bytes(Acts().hear().module())
    number = await here.start("acts")
    await here.reached(number, "running")
    async with here.client.open(f"/jobs/{number}/task/steps", os.O_WRONLY) as file:
        with pytest.raises(OSError, match=said) as refused:
            await file.write(line)
        assert refused.value.errno == errno.EINVAL
        # An escape of half a character is JSON; it shows as what it is not.
        await file.write(b'{"message": "\\ud800 good"}\n')
    await here.client.write(f"/jobs/{number}/stdin", "x\n", create=False)
    await here.wait(number)
    own = [step for step in (await read(here, number))["steps"] if step["extra"]["by"] == "job"]
    assert [step["message"].lstrip("\ufffd") for step in own] == [" good"]


async def test_a_job_that_is_tried_again_has_one_trajectory(here: Jobs) -> None:
    retry = {"times": 1, "on": ["exit"], "delay": 0.01}
    number = await here.start("fails", retry=retry)
    await here.wait(number)
    found = await read(here, number)
    events = [step["extra"]["event"] for step in found["steps"] if "event" in step["extra"]]
    assert events == ["started", "tried", "started", "ended"]
    assert sum(step["source"] == "user" for step in found["steps"]) == 1


@pytest.mark.slow
async def test_steps_are_seen_as_they_come_and_a_running_job_has_a_valid_document(
    here: Jobs, tmp_path: Path
) -> None:
    acts = Acts().open("workspace/in.txt").read().close().hear().say("done\n")
    (tmp_path / "workspace" / "acts.wasm").write_bytes(acts.module())
    number = await here.new("acts")
    seen: list[Any] = []
    rung = trio.Event()

    async def follow() -> None:
        rest = b""
        async with here.client.open(f"/jobs/{number}/steps") as file:
            async for piece in file:
                *lines, rest = (rest + piece).split(b"\n")
                seen.extend(map(json.loads, lines))
                if len(seen) == 4:
                    rung.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await here.tell(number, "start")
        with trio.fail_after(10):
            await rung.wait()
        assert [one.get("source") for one in seen] == [None, "system", "user", "agent"]
        found = await read(here, number)
        assert found["extra"]["complete"] is False
        assert found["steps"] == seen[1:]
        await here.client.write(f"/jobs/{number}/stdin", "go on\n", create=False)
    assert (await here.wait(number)).startswith("completed")
    assert (await read(here, number))["steps"] == seen[1:]


async def test_a_job_that_never_ran_has_no_trajectory(here: Jobs) -> None:
    number = await here.new("hello")
    await here.tell(number, "kill")
    assert not here.client.exists(f"/logs/runs/{number}")


@pytest.mark.slow
async def test_ten_thousand_files_that_are_read_make_a_small_file(
    here: Jobs, tmp_path: Path
) -> None:
    acts = Acts().times(
        10_000, lambda a: a.open("workspace/in.txt").read(10).close().stat("workspace/none")
    )
    found = await acted(here, tmp_path, acts, worker=False)
    assert found["steps"][-1]["message"].startswith("completed 0")
    total = 0
    for _, _, told in calls(found):
        count = told.rpartition(", ")[2].removesuffix(" times").replace(",", "")
        total += int(count) if count.isdigit() else 1
    assert total >= 20_000
    size = (tmp_path / "logs" / "runs" / "1" / "trajectory.jsonl").stat().st_size
    assert size < 200_000


async def test_hostile_names_and_outputs_are_text_of_a_valid_document(
    here: Jobs, tmp_path: Path
) -> None:
    acts = Acts().say(b"\x1b[2J\xff\xfe\x00<script>\xe2\x80\xae\r\n").say(b"\xf0\x9f", ERR)
    acts.open("workspace/\x1b[31m\u202e<b>\"'&", CREAT, WRITE).close()
    found = await acted(here, tmp_path, acts, args=["\x1b]0;title\x07", "\u202e"])
    said = [step["message"] for step in found["steps"]]
    assert "\x1b[2J\ufffd\ufffd\0<script>\u202e\r" in said
    assert calls(found)[0][1]["path"] == "/workspace/\x1b[31m\u202e<b>\"'&"


KILLED = """
import sys, trio
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.scheduler.jobs_help import jobs

async def main():
    async with jobs(Path(sys.argv[1])) as here:
        number = await here.start("acts")
        async with here.client.open(f"/jobs/{number}/steps") as file:
            rest = b""
            async for piece in file:
                rest += piece
                if b"in.txt" in rest:
                    print("seen", flush=True)

trio.run(main)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """Leave what a server leaves that is killed while a job waits for its input."""
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "in.txt").write_bytes(b"x")
    acts = Acts().open("workspace/in.txt").read().close().hear()
    (tmp_path / "workspace" / "acts.wasm").write_bytes(acts.module())
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path, root], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"seen\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdout.close()
    return tmp_path


@pytest.mark.slow
async def test_a_killed_server_leaves_a_valid_trajectory_and_the_next_one_ends_it(
    killed: Path,
) -> None:
    file = killed / "logs" / "runs" / "1" / "trajectory.jsonl"
    assert len(valid(document(file.read_bytes(), "1"))["steps"]) == 3
    # Half a line, as when it is killed within a write.
    file.write_bytes(file.read_bytes() + b'{"step_id":4,"sou')
    async with jobs(killed) as here:
        assert await here.wait(1) == "failed interrupted"
        found = await read(here, 1)
        assert found["extra"]["complete"] is True
        assert "notes" not in found
        assert found["steps"][-1]["message"].startswith("failed interrupted")
        assert ("read_file", {"path": "/workspace/in.txt"}, "read 1 byte") in calls(found)


@pytest.mark.slow
async def test_a_trajectory_that_cannot_be_ended_keeps_no_job_from_ending(
    killed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # As on a disk with errors: what was a log cannot be opened.
    (killed / "logs" / "runs" / "1" / "stdout").unlink()
    (killed / "logs" / "runs" / "1" / "stdout").mkdir()
    async with jobs(killed) as here:
        assert await here.wait(1) == "failed interrupted"
        assert await here.run("hello") == "completed 0"
    assert "its trajectory cannot be ended" in caplog.text


async def test_a_disk_that_is_full_does_not_end_a_job(here: Jobs, tmp_path: Path) -> None:
    # A directory in its place can be written to as little as a full disk.
    run = tmp_path / "logs" / "runs" / "1"
    run.mkdir()
    (run / "trajectory.jsonl").mkdir()
    assert await here.run("hello") == "completed 0"
    with pytest.raises(FileNotFoundError):
        await here.client.read("/logs/runs/1/trajectory.json")
