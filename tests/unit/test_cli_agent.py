"""`oanix agent`: modules run from the command line, as jobs or with directories alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve

from tests.commands import TIME_OUT_S, Oanix
from tests.scheduler.jobs_help import ECHO, FLOOD, SPIN, saying
from tests.scheduler.modules import wasm

# What is compiled takes its time on a machine that has other things to do.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def modules(oanix: Oanix) -> Path:
    for name, data in [
        ("hello", saying("hello\n")), ("three", saying("no\n", 3)), ("echo", ECHO),
        ("spin", SPIN), ("flood", FLOOD), ("trap", wasm('(func (export "_start") unreachable)')),
    ]:  # fmt: skip
        (oanix.here / f"{name}.wasm").write_bytes(data)
    return oanix.here


@pytest.mark.parametrize("way", [(), ("--dir", ".::/here")], ids=["job", "dir"])
@pytest.mark.parametrize(
    ("words", "stdin", "code", "out", "said"),
    [
        (["hello.wasm"], b"", 0, b"hello\n", b""),
        (["three.wasm"], b"", 3, b"no\n", b""),
        (["echo.wasm"], b"in and out\n", 0, b"in and out\n", b""),
        (["--limit", "cpu=0.1", "spin.wasm"], b"", 124, b"", b"it ended: cpu"),
        (["--limit", "wall=100ms", "spin.wasm"], b"", 124, b"", b"it ended: wall"),
        (["trap.wasm"], b"", 134, b"", b"it ended: trap unreachable"),
    ],
    ids=["hello", "code", "echo", "cpu", "wall", "trap"],
)
def test_a_module_runs_to_its_end(
    oanix: Oanix, modules: Path, way: tuple[str, ...], words: list[str], stdin: bytes, code: int,
    out: bytes, said: bytes,
) -> None:  # fmt: skip
    done = oanix("agent", "run", *way, *words, stdin=stdin)
    assert (done.returncode, done.stdout) == (code, out), done.stderr
    assert said in done.stderr


def test_a_bare_module_is_given_no_directory(oanix: Oanix, modules: Path) -> None:
    # It exits with what fd_prestat_get answers for the first descriptor that it was not given.
    (modules / "asks.wasm").write_bytes(wasm(
        '(import "wasi_snapshot_preview1" "fd_prestat_get"'
        ' (func $asks (param i32 i32) (result i32)))'
        '(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'
        '(func (export "_start") (call $exit (call $asks (i32.const 3) (i32.const 0))))'
    ))  # fmt: skip
    assert oanix("agent", "run", "--bare", "asks.wasm").returncode == 8
    assert oanix("agent", "run", "--dir", ".", "asks.wasm").returncode == 0
    assert oanix("agent", "run", "--bare", "echo.wasm", stdin=b"x").stdout == b"x"


PYTHON = """import os, sys
print("|".join(sys.argv), os.getenv("A"), sys.stdin.read().strip())
if sys.argv[1:] == ["--wrong"]: raise ValueError("broken")
sys.exit(len(sys.argv))
"""


@pytest.mark.parametrize("way", [(), ("--dir", ".::/here")], ids=["job", "dir"])
@pytest.mark.parametrize("interpreter", ["cpython", "micropython"])
def test_python_runs_to_its_end(oanix: Oanix, way: tuple[str, ...], interpreter: str) -> None:
    (oanix.here / "script.py").write_text(PYTHON)
    more = () if interpreter == "cpython" else ("--interpreter", interpreter)
    words = ("agent", "run", *way, *more, "--env", "A=x", "script.py")
    done = oanix(*words, "one two", "--three", stdin=b"said\n")
    at = b"/task/program" if way else b"/workspace"
    shown = at + b"/script.py|one two|--three x said\n"
    assert (done.returncode, done.stdout) == (3, shown), done.stderr
    done = oanix(*words, "--wrong")
    assert done.returncode == 1
    assert b"ValueError: broken" in done.stderr
    assert b'File "' + at + b'/script.py", line 3, in <module>' in done.stderr


SHOWS = """import * as std from "qjs:std"
console.log(scriptArgs.join("|"), std.getenv("A"), std.in.readAsString().trim())
if (scriptArgs[1] === "--wrong") throw new Error("broken")
std.exit(scriptArgs.length)
"""


@pytest.mark.parametrize("way", [(), ("--dir", ".::/here")], ids=["job", "dir"])
def test_a_script_runs_to_its_end(oanix: Oanix, way: tuple[str, ...]) -> None:
    (oanix.here / "script.js").write_text(SHOWS)
    (oanix.here / "script").write_text("#!/usr/bin/env qjs\n" + SHOWS)
    # The first run may have to tell that it compiles.
    assert oanix("agent", "run", *way, "script.js").returncode == 1
    for file, more in (("script.js", ()), ("script", ()), ("script", ("--interpreter", "quickjs"))):
        words = ("agent", "run", *way, *more, "--env", "A=x", file, "one two", "--three")
        done = oanix(*words, stdin=b"said\n")
        at = "/task/program" if way else "/workspace"
        shown = f"{at}/{file}|one two|--three x said\n"
        assert (done.returncode, done.stdout) == (3, shown.encode()), done.stderr
        assert done.stderr == b""
    done = oanix("agent", "run", *way, "script.js", "--wrong")
    assert done.returncode == 1
    assert b"Error: broken" in done.stderr
    assert f"{at}/script.js:3:".encode() in done.stderr


def test_a_script_that_may_be_executed_runs_itself_as_an_agent(oanix: Oanix) -> None:
    script = oanix.here / "self.js"
    script.write_text("#!/usr/bin/env -S oanix agent run\nconsole.log(scriptArgs.slice(1).join())")
    script.chmod(0o755)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [script, "one", "--two"], capture_output=True, timeout=TIME_OUT_S, cwd=oanix.here,
        env={**oanix.env, "PATH": path}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"one,--two\n"), done.stderr


def test_a_script_of_directories_alone_sees_these_and_itself(oanix: Oanix) -> None:
    (oanix.here / "in").mkdir()
    (oanix.here / "in" / "data").write_text("inside")
    (oanix.here / "see.js").write_text(
        'console.log(std.loadFile("/given/data"), os.readdir("/task/program")[0].sort().join(),'
        ' std.open(scriptArgs[0], "w"), std.loadFile("/given/../see.js"))'
    )
    done = oanix("agent", "run", "--dir", "in::/given", "see.js")
    assert (done.returncode, done.stdout) == (0, b"inside .,..,see.js null null\n"), done.stderr


def test_a_compilation_that_takes_long_is_told(oanix: Oanix) -> None:
    (oanix.here / "a.py").write_text("print(1)")
    for number, way in enumerate([(), ("--dir", ".")]):
        environment = {"OANIX_CACHE": str(oanix.state / f"cache{number}")}
        fresh = evolve(oanix, environment={**oanix.environment, **environment})
        done = fresh("agent", "run", *way, "a.py")
        assert (done.returncode, done.stdout) == (0, b"1\n"), done.stderr
        assert done.stderr == b"oanix: it compiles CPython 3.12.0, this once\n"
        again = fresh("agent", "run", *way, "a.py")
        assert (again.returncode, again.stdout, again.stderr) == (0, b"1\n", b"")


@pytest.mark.parametrize("way", [(), ("--dir", ".")], ids=["job", "dir"])
def test_a_cache_that_cannot_be_written_is_told(oanix: Oanix, way: tuple[str, ...]) -> None:
    (oanix.here / "a.js").write_text("console.log(1)")
    nowhere = evolve(oanix, environment={"OANIX_CACHE": "/dev/null/cache"})
    done = nowhere("agent", "run", *way, "a.js")
    assert done.returncode != 0
    assert b"cannot be kept (Not a directory); set OANIX_CACHE" in done.stderr, done.stderr
    assert b"internal error" not in done.stderr


def test_output_is_bounded(oanix: Oanix, modules: Path) -> None:
    done = oanix("agent", "run", "--dir", ".", "--limit", "output=64K", "flood.wasm")
    assert done.returncode == 134
    assert len(done.stdout) <= 65_536
    assert b"it ended: output" in done.stderr


def test_how_it_ended_is_told_as_json(oanix: Oanix, modules: Path) -> None:
    done = oanix("agent", "run", "--json", "--name", "one", "hello.wasm")
    first, told = done.stdout.splitlines()
    found = json.loads(told)
    assert first == b"hello"
    assert (found["state"], found["exit"], found["name"]) == ("completed", "0", "one")
    listed = json.loads(oanix("agent", "ps", "--all", "--json").stdout)
    assert [one["id"] for one in listed] == [found["id"]]
    assert oanix("agent", "ps").stdout.count(b"\n") == 1
    assert oanix("agent", "logs", found["id"]).stdout == b"hello\n"
    bare = oanix("agent", "run", "--dir", ".", "--json", "three.wasm")
    assert json.loads(bare.stdout.splitlines()[1])["exit"] == 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "none.wasm"], 2, "does not exist"),
        (["run", "--env", "X", "hello.wasm"], 2, "NAME=VALUE"),
        (["run", "--limit", "speed=1", "hello.wasm"], 65, "no limit 'speed'"),
        (["run", "--dir", "no/such", "hello.wasm"], os.EX_NOINPUT, "is no directory"),
        (["run", "--dir", ".", "--grant", "/cap/http", "hello.wasm"], 2, "a world of their own"),
        (["run", "--grant", "/none", "hello.wasm"], 65, "/none"),
        (["run", "--grant", "/dev", "--world", "hello.txt", "hello.wasm"], 2, "leave out --grant"),
        (["run", "--dir", ".", "hello.txt"], 65, "no WebAssembly module"),
        (["run", "--interpreter", "perl", "hello.txt"], 65, "there are: quickjs, cpython"),
        (
            ["run", "--dir", ".", "--interpreter", "perl", "hello.txt"],
            65,
            "there are: quickjs, cpython",
        ),
        (["run", "--interpreter", "quickjs", "hello.wasm"], 65, "no script for quickjs"),
        (["run", "hello.txt"], 126, "no WebAssembly module"),
        (["logs", "99"], os.EX_NOINPUT, "no job 99"),
        (["kill", "99"], os.EX_NOINPUT, "no job 99"),
        (["kill", "0"], 2, "0"),
    ],
)
def test_what_cannot_be_done_says_why(
    oanix: Oanix, modules: Path, words: list[str], code: int, said: str
) -> None:
    (modules / "hello.txt").write_text("hello")
    done = oanix("agent", *words)
    assert said in done.stderr.decode()
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"internal error" not in done.stderr


def test_a_job_of_no_server_cannot_outlive_its_command(oanix: Oanix, modules: Path) -> None:
    done = oanix("agent", "run", "--detach", "hello.wasm")
    assert done.returncode == 1
    assert b"mount it first" in done.stderr
    assert oanix("agent", "ps", "--all").stdout.count(b"\n") == 1
