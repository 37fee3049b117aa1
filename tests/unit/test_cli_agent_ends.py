"""`oanix agent run`: what a signal does to its job, and what its standard input may be."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.commands import TIME_OUT_S, Oanix
from tests.scheduler.jobs_help import ECHO, saying

pytestmark = pytest.mark.slow

LOOP = 'console.log("begun"); for (;;);'
ASK = "console.log(`you are ${std.in.getline()}`);"
BEHIND = """
import os, subprocess, sys
os.setsid()
os.close(os.open(os.ttyname(0), os.O_RDWR))
sys.exit(subprocess.run(sys.argv[1:], process_group=0).returncode)
"""
"""Runs a command behind the back of its terminal, as a shell's `&` does."""


def jobs(oanix: Oanix) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(oanix("agent", "ps", "--all", "--json").stdout)
    return found


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)],
)
def test_a_signal_that_ends_the_command_ends_its_job(
    oanix: Oanix, number: signal.Signals, code: int
) -> None:
    (oanix.here / "loop.js").write_text(LOOP)
    with oanix.start("agent", "run", "loop.js") as command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"begun\n"
        command.send_signal(number)
        out, said = command.communicate(timeout=TIME_OUT_S)
    assert (command.returncode, out) == (code, b""), said
    [job] = jobs(oanix)
    assert (job["state"], job["reason"]) == ("cancelled", f"killed {number.name[3:]}")
    told = json.loads(oanix("logs", "show", "--json", job["id"]).stdout)
    assert told["steps"][-1]["message"].startswith(f"cancelled killed {number.name[3:]}")
    assert told["extra"]["complete"] is True


def test_an_order_that_is_refused_leaves_no_job_that_waits(oanix: Oanix) -> None:
    (oanix.here / "hello.wasm").write_bytes(saying("hello\n"))
    done = oanix("agent", "run", "--limit", "cpu=soon", "hello.wasm")
    assert (done.returncode, b"'soon' is no time" in done.stderr) == (65, True), done.stderr
    assert [job["state"] for job in jobs(oanix)] == ["cancelled"]


@pytest.mark.parametrize("file", [b"new\nline.js", b"no \xff utf-8.js", b"x" * 249 + b".js"])
def test_a_script_may_be_called_as_any_file(oanix: Oanix, file: bytes) -> None:
    with open(os.path.join(os.fsencode(oanix.here), file), "w") as script:
        script.write('console.log("ran", ...scriptArgs.slice(1))')
    done = oanix("agent", "run", file, "word")
    assert (done.returncode, done.stdout) == (0, b"ran word\n"), done.stderr


def test_words_that_an_order_cannot_say_are_refused_by_name(oanix: Oanix) -> None:
    (oanix.here / "a.js").write_text('console.log("ran")')
    for words in ([b"a.js", b"x\xff"], [b"--env", b"A=x\xff", b"a.js"]):
        done = oanix("agent", "run", *words)
        assert (done.returncode, b"x\\xff' is no UTF-8" in done.stderr) == (2, True), done.stderr
    assert jobs(oanix) == []
    done = oanix("agent", "run", "--bare", "a.js", b"x\xff")
    assert (done.returncode, done.stdout) == (0, b"ran\n"), done.stderr


@pytest.mark.parametrize("way", [(), ("--bare",)], ids=["job", "bare"])
def test_standard_files_that_are_closed_lead_nowhere(oanix: Oanix, way: tuple[str, ...]) -> None:
    (oanix.here / "echo.wasm").write_bytes(ECHO)
    (oanix.here / "hello.wasm").write_bytes(saying("hello\n"))
    for module, closed in (("echo.wasm", "<&-"), ("hello.wasm", ">&-"), ("hello.wasm", "2>&-")):
        command = oanix.command("agent", "run", *way, module)
        done = subprocess.run(
            ["sh", "-c", f'"$@" {closed}', "sh", *command], capture_output=True, cwd=oanix.here,
            env=oanix.env, timeout=TIME_OUT_S, check=False,
        )  # fmt: skip
        said = b"hello\n" if closed == "2>&-" else b""
        assert (done.returncode, done.stdout, done.stderr) == (0, said, b""), closed


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def test_a_job_can_ask_whoever_sits_at_the_terminal(
    oanix: Oanix, terminal: tuple[int, int]
) -> None:
    (oanix.here / "ask.js").write_text(ASK)
    ours, theirs = terminal
    os.write(ours, b"Ada\n")
    done = subprocess.run(
        oanix.command("agent", "run", "ask.js"), stdin=theirs, capture_output=True,
        env=oanix.env, cwd=oanix.here, timeout=TIME_OUT_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"you are Ada\n"), done.stderr


def test_a_job_behind_a_terminal_reads_nothing_and_is_not_stopped(
    oanix: Oanix, terminal: tuple[int, int]
) -> None:
    (oanix.here / "ask.js").write_text(ASK)
    ours, theirs = terminal
    os.write(ours, b"for the shell\n")
    done = subprocess.run(
        [sys.executable, "-c", BEHIND, *oanix.command("agent", "run", "ask.js")], stdin=theirs,
        capture_output=True, env=oanix.env, cwd=oanix.here, timeout=TIME_OUT_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"you are null\n"), done.stderr
