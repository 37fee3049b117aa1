"""Scripts as jobs: each interpreter starts, ends, fails, waits and is stopped as it should."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from attrs import evolve, frozen

from oanix.scheduler.interpreters import INTERPRETERS, chosen, interpreter
from oanix.scheduler.interpreters.exporting import exporting
from oanix.scheduler.interpreters.table import QUICKJS
from tests.scheduler.jobs_help import Jobs, jobs

# The first script of an interpreter has it compiled, which is long on a busy machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
PATIENCE_S = 170


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Jobs]:
    async with jobs(tmp_path) as running:
        running.patience_s = PATIENCE_S
        yield running


@frozen(kw_only=True)
class Scripts:
    """The same scripts in one language."""

    interpreter: str
    suffix: str
    shows: str
    """Prints its path and arguments, as a JSON list, and the variable A."""
    copies: str
    """Prints what a line of its input says, in upper case."""
    exits: str
    """Prints `out` without a newline, and exits with 7."""
    fails: str
    """Raises an error that says `broken`."""
    error: str
    """How its standard error then shows where."""
    sleeps: str
    """Prints `awake` after 50 ms."""
    naps: str
    """Prints `ready`, and sleeps for a minute."""
    reads: str
    """Prints `ready`, and reads an endless file to its end."""
    spins: str
    """Prints `ready`, and never ends."""
    floods: str
    grows: str
    recurses: str
    writes: str
    """Writes `/task/result.json`, and a file."""
    own: str
    """Tries to write its own script, and prints how that failed."""


QJS = Scripts(
    interpreter="quickjs",
    suffix=".js",
    shows='console.log(JSON.stringify(scriptArgs), std.getenv("A"))',
    copies="console.log(std.in.getline().toUpperCase())",
    exits='std.out.puts("out"); std.exit(7)',
    fails='function inner() { throw new Error("broken") }\ninner()',
    error="at inner (/workspace/script.js:1:",
    sleeps='os.setTimeout(() => console.log("awake"), 50)',
    naps='console.log("ready"); os.sleep(60_000)',
    reads='console.log("ready"); const f = std.open("/dev/zero", "r");'
    "const b = new ArrayBuffer(65536); while (f.read(b, 0, 65536)) ;",
    spins='console.log("ready"); for (;;) ;',
    floods='for (;;) console.log("x".repeat(1000))',
    grows="const all = []; for (;;) all.push(new Uint8Array(1_000_000).fill(1))",
    recurses="function deeper(n) { return deeper(n + 1) + 1 }\ndeeper(0)",
    writes='import * as std from "qjs:std"; const put = (path, text) => { const f = '
    'std.open(path, "w"); f.puts(text); f.close() };'
    'put("/task/result.json", JSON.stringify({ok: [1, null]})); put("/workspace/out.txt", "done")',
    own='console.log(String(std.open(scriptArgs[0], "w")))',
)

PYTHON = Scripts(
    interpreter="cpython",
    suffix=".py",
    shows='import json, os, sys; print(json.dumps(sys.argv, ensure_ascii=False), os.getenv("A"))',
    copies="import sys; print(sys.stdin.readline().strip().upper())",
    exits='import sys; sys.stdout.write("out"); sys.exit(7)',
    fails='def inner():\n    raise ValueError("broken")\ninner()',
    error='File "/workspace/script.py", line 2, in inner',
    sleeps='import time; time.sleep(0.05); print("awake")',
    naps='import time; print("ready"); time.sleep(60)',
    reads='print("ready")\nwith open("/dev/zero", "rb") as f:\n while f.read(65536): pass',
    spins='print("ready")\nwhile True: pass',
    floods='while True: print("x" * 1000)',
    grows='all = []\nwhile True: all.append(b"x" * 1_000_000)',
    recurses="def deeper(n): return deeper(n + 1) + 1\ndeeper(0)",
    writes="import json\n"
    'with open("/task/result.json", "w") as f: json.dump({"ok": [1, None]}, f)\n'
    'with open("/workspace/out.txt", "w") as f: f.write("done")',
    own='import sys\ntry: open(sys.argv[0], "w")\nexcept OSError as error: print(error.errno)',
)

MICRO = evolve(
    PYTHON,
    interpreter="micropython",
    shows='import json, os, sys; print(json.dumps(sys.argv), os.getenv("A"))',
    copies='import sys; print(sys.stdin.readline().rstrip("\\n").upper())',
)

ALL = [QJS, PYTHON, MICRO]
each = pytest.mark.parametrize("scripts", ALL, ids=[one.interpreter for one in ALL])


@each
async def test_a_script_has_its_arguments_environment_and_input(
    here: Jobs, scripts: Scripts
) -> None:
    file = f"script{scripts.suffix}"
    said = {"interpreter": scripts.interpreter, "args": ["a b", "ü"], "env": {"A": "x"}}
    number, line = await here.run_script(file, scripts.shows, **said)
    assert line == "completed 0", await here.text(number, "stderr")
    assert await here.text(number, "stdout") == (
        f"{json.dumps([f'/workspace/{file}', 'a b', 'ü'], ensure_ascii=False)} x\n".replace(
            '", "', '","' if scripts.interpreter == "quickjs" else '", "'
        )
    )
    number, line = await here.run_script(file, scripts.copies, stdin="said\nmore\n", **said)
    assert (line, await here.text(number, "stdout")) == ("completed 0", "SAID\n")
    assert await here.text(number, "stderr") == ""


@each
async def test_the_end_of_a_script_is_told(here: Jobs, scripts: Scripts) -> None:
    file, said = f"script{scripts.suffix}", {"interpreter": scripts.interpreter}
    number, line = await here.run_script(file, scripts.exits, **said)
    assert (line, await here.text(number, "stdout")) == ("failed 7 exit", "out")
    number, line = await here.run_script(file, scripts.fails, **said)
    assert line == "failed 1 exit"
    told = await here.text(number, "stderr")
    assert "broken" in told
    assert scripts.error in told


@each
async def test_what_runs_a_script_is_told(here: Jobs, scripts: Scripts) -> None:
    file, said = f"script{scripts.suffix}", {"interpreter": scripts.interpreter}
    number, line = await here.run_script(file, scripts.exits, **said)
    name = scripts.interpreter
    assert await here.fact(number, "interpreter") == name
    assert await here.fact(number, "interpreter", "usage") == name
    assert json.loads(await here.text(number, "spec"))["interpreter"] == name
    assert json.loads(await here.text(number, "task/meta.json"))["interpreter"] == name
    events = (await here.client.read_text(f"/logs/runs/{number}/events.jsonl")).splitlines()
    assert json.loads(events[0])["interpreter"] == name
    assert line == "failed 7 exit"


@each
async def test_a_script_leaves_a_result_and_files(here: Jobs, scripts: Scripts) -> None:
    file, said = f"script{scripts.suffix}", {"interpreter": scripts.interpreter}
    number, line = await here.run_script(file, scripts.writes, **said)
    assert line == "completed 0", await here.text(number, "stderr")
    assert json.loads(await here.text(number, "task/result.json")) == {"ok": [1, None]}
    assert await here.client.read_text("/workspace/out.txt") == "done"


@each
async def test_a_script_is_not_in_its_own_world_but_can_be_read(
    here: Jobs, scripts: Scripts
) -> None:
    file = f"script{scripts.suffix}"
    number, line = await here.run_script(
        file, scripts.own, interpreter=scripts.interpreter, namespace="seal\n"
    )
    assert line == "completed 0", await here.text(number, "stderr")
    # WASI's number for EACCES is 2.
    assert await here.text(number, "stdout") in ("null\n", "2\n")
    assert await here.client.read_text(f"/workspace/{file}") == scripts.own
    # What has ended has no program any more.
    assert "program" not in here.client.listdir(f"/jobs/{number}/task")


@each
async def test_a_script_sleeps_without_using_the_processor(here: Jobs, scripts: Scripts) -> None:
    file, said = f"script{scripts.suffix}", {"interpreter": scripts.interpreter}
    number, line = await here.run_script(file, scripts.sleeps, **said)
    assert (line, await here.text(number, "stdout")) == ("completed 0", "awake\n")
    wall = float((await here.fact(number, "wall", "usage")).split()[0])
    cpu = float((await here.fact(number, "cpu", "usage")).split()[0])
    assert wall >= 0.05
    assert cpu < wall


@each
@pytest.mark.parametrize("what", ["naps", "reads", "spins"])
async def test_a_script_is_killed_wherever_it_is(here: Jobs, scripts: Scripts, what: str) -> None:
    file = f"script{scripts.suffix}"
    await here.client.write(f"/workspace/{file}", getattr(scripts, what))
    number = await here.start(module=f"/workspace/{file}", interpreter=scripts.interpreter)
    async with here.client.open(f"/jobs/{number}/stdout") as out:
        # It is there before the end: nothing holds back what a script has said.
        said = b""
        while not said.endswith(b"\n"):
            said += await out.read(100, within=PATIENCE_S)
        assert said == b"ready\n"
    await here.tell(number, "kill")
    with trio.fail_after(2.5):
        assert await here.wait(number) == "cancelled killed KILL"


@each
@pytest.mark.parametrize(
    ("what", "limits", "line"),
    [
        ("spins", {"cpu": 0.2}, "failed cpu"),
        ("naps", {"wall": 0.3}, "failed wall"),
        ("reads", {"cpu": 0.2}, "failed cpu"),
        ("floods", {"output": "64K"}, "failed output"),
        ("grows", {"memory": "32M"}, "failed 1 exit"),
        ("recurses", {}, "failed 1 exit"),
    ],
)
async def test_a_script_is_held_to_its_limits(
    here: Jobs, scripts: Scripts, what: str, limits: dict[str, object], line: str
) -> None:
    file, said = f"script{scripts.suffix}", {"interpreter": scripts.interpreter}
    number, ended = await here.run_script(file, getattr(scripts, what), limits=limits, **said)
    assert ended == line, await here.text(number, "stderr")


@pytest.mark.parametrize("scripts", [QJS, MICRO], ids=["quickjs", "micropython"])
async def test_fuel_is_counted_for_a_script_too(here: Jobs, scripts: Scripts) -> None:
    file, said = f"script{scripts.suffix}", {"interpreter": scripts.interpreter}
    _, line = await here.run_script(file, scripts.spins, limits={"fuel": 500_000_000}, **said)
    assert line == "failed fuel"


# JavaScript alone ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "out"),
    [
        ("Promise.resolve(1).then(console.log)", "completed 0", "1\n"),
        ("let n = 0; const step = () => { if (++n < 3) os.setTimeout(step, 2); console.log(n) };"
         " step()", "completed 0", "1\n2\n3\n"),
        ("const t = os.setTimeout(() => console.log('no'), 20_000); os.setTimeout(() =>"
         " os.clearTimeout(t), 1)", "completed 0", ""),
        ('import * as os from "qjs:os"; await os.sleepAsync(2); console.log("top")',
         "completed 0", "top\n"),
        ("os.setTimeout(() => { throw new Error('late') }, 2)", "failed 1 exit", ""),
        ("Promise.reject(new Error('late'))", "failed 1 exit", ""),
        ("os.setTimeout(() => Promise.reject(new Error('late')), 2)", "failed 1 exit", ""),
        ("os.setTimeout(() => std.exit(5), 2); os.setTimeout(() => console.log('no'), 9_000)",
         "failed 5 exit", ""),
        ("globalThis.os = globalThis.std = null; console.log('odd')", "failed 1 exit", "odd\n"),
        ("what is this", "failed 1 exit", ""),
    ],
)  # fmt: skip
async def test_javascript_waits_for_timers_and_promises(
    here: Jobs, text: str, line: str, out: str
) -> None:
    number, ended = await here.run_script("script.js", text)
    assert (ended, await here.text(number, "stdout")) == (line, out)
    if "late" in text:
        assert "Error: late" in await here.text(number, "stderr")


# How a script is known ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "file", "said", "name"),
    [
        (b"", "a.js", "", "quickjs"),
        (b"", "a.mjs", "", "quickjs"),
        (b"\0asm\1\0\0\0", "a.js", "", ""),
        (b"", "a.txt", "quickjs", "quickjs"),
        (b"", "a.txt", "", ""),
        (b"#!/usr/bin/qjs\n1", "a", "", "quickjs"),
        (b"#!/usr/bin/env -S A=1 qjs --std\r\n1", "a", "", "quickjs"),
        (b"", "a.py", "", "cpython"),
        (b"", "a.py", "micropython", "micropython"),
        (b"#!/usr/bin/env micropython\n1", "a.py", "", "micropython"),
        (b"#!/usr/bin/python3\n1", "a", "", "cpython"),
        (b"#!/bin/sh\n1", "a", "", ""),
        (b"#!/bin/sh\n1", "a.js", "", "quickjs"),
        (b"#!", "a", "", ""),
        (b"#!\n", "a", "", ""),
        (b"#!" + b"x" * 10_000, "a", "", ""),
        (b"#!\xff\xfe\n", "a", "", ""),
    ],
)
def test_a_script_says_what_it_is_for(data: bytes, file: str, said: str, name: str) -> None:
    found = chosen(data, file, said)
    assert (found.name if found else "") == name


async def test_a_script_runs_again_by_its_hash(here: Jobs) -> None:
    number, _ = await here.run_script("script.js", "console.log(scriptArgs[0])")
    events = (await here.client.read_text(f"/logs/runs/{number}/events.jsonl")).splitlines()
    module = f"sha256:{json.loads(events[0])['digest']}"
    again = await here.start(module=module, interpreter="quickjs")
    assert await here.wait(again) == "completed 0"
    assert await here.text(again, "stdout") == "/task/program/main.js\n"
    named = await here.start(module=module, name="greets.js")
    assert await here.wait(named) == "completed 0"
    assert await here.text(named, "stdout") == "/task/program/greets.js\n"


async def test_what_is_no_script_is_refused(here: Jobs) -> None:
    _, line = await here.run_script("note.txt", "hello")
    assert line.startswith("failed error this is no WebAssembly module")
    assert "#! line" in line
    line = await here.run("hello", interpreter="quickjs")
    assert line == "failed error hello.wasm is a module, and no script for quickjs"
    number = await here.new()
    with pytest.raises(OSError, match="no interpreter 'perl'; there are: quickjs") as refused:
        await here.client.write(f"/jobs/{number}/spec", '{"interpreter": "perl"}\n', create=False)
    assert refused.value.errno == errno.EINVAL


PARTS = {
    "quickjs": ("js", "export const half = n => n / 2\n",
                'import { half } from "./parts.js"; console.log(half(3))'),
    "cpython": ("py", "def half(n): return n / 2\n", "import parts; print(parts.half(3))"),
    "micropython": ("py", "def half(n): return n / 2\n", "import parts; print(parts.half(3))"),
}  # fmt: skip


@pytest.mark.parametrize("interpreter", PARTS)
async def test_a_script_of_files_has_what_lies_beside_it(here: Jobs, interpreter: str) -> None:
    suffix, parts, whole = PARTS[interpreter]
    here.client.mkdir("/workspace/tools")
    await here.client.write(f"/workspace/tools/parts.{suffix}", parts)
    number, line = await here.run_script(f"tools/whole.{suffix}", whole, interpreter=interpreter)
    assert line == "completed 0", await here.text(number, "stderr")
    assert await here.text(number, "stdout") == "1.5\n"
    # Nothing is left beside what was imported.
    assert len(here.client.listdir("/workspace/tools")) == 2


@pytest.mark.parametrize(
    ("namespace", "at"),
    [
        ("bind /workspace /workspace\nseal\n", "/workspace/whole.js"),
        ("bind /workspace /src\nseal\n", "/task/program/whole.js"),
        ("bind /workspace '/workspace exclude=*.js'\nseal\n", "/task/program/whole.js"),
        ("bind /workspace/other /workspace\nseal\n", "/task/program/whole.js"),
    ],
)
async def test_a_script_runs_where_its_world_shows_the_same_file(
    here: Jobs, namespace: str, at: str
) -> None:
    here.client.mkdir("/workspace/other")
    await here.client.write("/workspace/other/whole.js", "console.log('another')")
    text = "console.log(scriptArgs[0])"
    number, line = await here.run_script("whole.js", text, namespace=namespace)
    assert (line, await here.text(number, "stdout")) == ("completed 0", f"{at}\n")


async def test_a_script_has_a_size(here: Jobs) -> None:
    fits = "//" + "x" * ((16 << 20) - 2)
    assert (await here.run_script("large.js", fits))[1] == "completed 0"
    _, line = await here.run_script("large.js", fits + "x")
    assert line == f"failed error a script has at most {16 << 20} bytes"


def test_what_a_specification_may_name_is_known_without_an_engine() -> None:
    slow = "{'wasmtime', 'importlib.metadata'}"
    told = f"import sys, oanix.scheduler.spec; print({slow} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, check=True)
    assert done.stdout == b"set()\n"


# Where it comes from ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(INTERPRETERS))
def test_an_interpreter_is_the_one_that_is_known(name: str) -> None:
    assert interpreter(name).wasm().startswith(b"\0asm")


@pytest.mark.parametrize(
    ("change", "number", "said"),
    [
        ({"digest": "0" * 64}, errno.ENOEXEC, "not the one that is known here: the SHA-256 of"),
        ({"package": "no-such-package"}, errno.ENOEXEC, "pip install no-such-package==0.17.0"),
        ({"file": "none.wasm"}, errno.ENOEXEC, "cannot be read .*; install it anew"),
    ],
)
def test_another_interpreter_than_the_known_one_is_refused(
    change: dict[str, str], number: int, said: str
) -> None:
    with pytest.raises(OSError, match=said) as refused:
        evolve(QUICKJS, **change).wasm()
    assert refused.value.errno == number


def test_only_a_module_that_exports_can_export_more() -> None:
    with pytest.raises(OSError, match="exports nothing"):
        exporting(b"\0asm\1\0\0\0", {"exit": 1})


async def test_many_jobs_wait_for_one_compilation(tmp_path: Path) -> None:
    compiled = tmp_path / "cache" / "compiled"
    async with jobs(tmp_path, cache=compiled.parent) as here:
        await here.client.write("/workspace/a.js", "console.log(1)")
        numbers = [await here.start(module="/workspace/a.js") for _ in range(8)]
        await here.until(numbers[0], "reason", lambda said: said.startswith("compiles QuickJS"))
        await here.tell(numbers[0], "kill")
        with trio.fail_after(10):
            assert await here.wait(numbers[0]) == "cancelled killed KILL"
        assert {await here.wait(number) for number in numbers[1:]} == {"completed 0"}
    (kept,) = compiled.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    made = kept.stat().st_mtime_ns
    async with jobs(tmp_path, cache=compiled.parent) as here:
        assert (await here.run_script("b.js", "1"))[1] == "completed 0"
    assert [one.stat().st_mtime_ns for one in compiled.iterdir()] == [made]
    assert not list((tmp_path / "jobs" / "compiled").glob("*"))
    kept.write_bytes(b"broken")
    async with jobs(tmp_path, cache=compiled.parent) as here:
        assert (await here.run_script("b.js", "1"))[1] == "completed 0"
    assert kept.stat().st_size > 1_000_000
    os.chmod(kept, 0o666)
    # What others could have written is native code, and is not run.
    async with jobs(tmp_path, cache=compiled.parent) as here:
        assert (await here.run_script("b.js", "1"))[1] == "completed 0"
    assert kept.stat().st_mode & 0o777 == 0o600
