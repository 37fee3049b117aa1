"""The shell scripts of `examples/jobs`, and Ctrl-C on a reader that waits, on a real mount."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import TIME_OUT_S, Oanix
from tests.mount.mounting import mounted, wait_until
from tests.scheduler.hostile import Guest
from tests.scheduler.jobs_help import ECHO, SPIN, saying

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

SCRIPTS = Path(__file__).parents[2] / "examples/jobs"


def shows_its_file() -> bytes:
    """Make a module that copies /in to its standard output, and says whether it sees more."""
    guest = Guest()
    guest.do(f"(if {guest.open('in')} (then (call $proc_exit (i32.const 9))))")
    guest.do(f"(if (i32.eqz {guest.open('workspace')}) (then (call $proc_exit (i32.const 8))))")
    fd = "(i32.const 4)"
    guest.loop(
        f"(drop {guest.read(fd, 100)}) (if (i32.eqz (i32.load (i32.const 24)))"
        " (then (call $proc_exit (i32.const 0))))"
        " (i32.store (i32.const 16) (i32.const 64))"
        " (i32.store (i32.const 20) (i32.load (i32.const 24)))"
        " (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))"
    )
    return guest.made()


@pytest.fixture(scope="module")
def oanix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oanix]:
    """The command line, with the default namespace mounted."""
    base = tmp_path_factory.mktemp("scripts")
    for name in ("here", "mnt"):
        (base / name).mkdir()
    for name, data in (("hello", saying("hello\n")), ("three", saying("no\n", 3)), ("spin", SPIN),
                       ("echo", ECHO), ("shows", shows_its_file())):  # fmt: skip
        (base / "here" / f"{name}.wasm").write_bytes(data)
    oanix = Oanix(base / "state", base / "here", {
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    })  # fmt: skip
    with mounted(oanix, base / "mnt"):
        yield oanix


@pytest.fixture
def mount(oanix: Oanix) -> Path:
    return oanix.here.parent / "mnt"


def run(
    script: str, *words: object, stdin: bytes = b"", **env: str
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [SCRIPTS / script, *map(str, words)], input=stdin, capture_output=True,
        timeout=TIME_OUT_S, env={**os.environ, **env}, check=False,
    )  # fmt: skip


def test_a_script_runs_a_job_and_ends_with_its_code(mount: Path) -> None:
    done = run("run.sh", mount, "/workspace/hello.wasm", 'a "quoted" \\ word', "ü")
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr
    number = re.findall(rb"job (\d+) completed 0", done.stderr)[-1].decode()
    spec = (mount / "jobs" / number / "spec").read_text()
    assert '"a \\"quoted\\" \\\\ word"' in spec
    assert run("run.sh", mount, "/workspace/three.wasm").returncode == 3
    done = run("run.sh", mount, "/workspace/spin.wasm", LIMITS='{"cpu": 0.1}')
    assert (done.returncode, b"failed cpu" in done.stderr) == (1, True), done.stderr
    assert run("run.sh", mount, "/workspace/none.wasm").returncode == 1
    assert run("run.sh").returncode == 2


def test_a_script_passes_its_arguments_on_as_they_are(oanix: Oanix, mount: Path) -> None:
    (oanix.here / "args.js").write_text("console.log(JSON.stringify(scriptArgs.slice(1)))")
    words = ["two words", '"quoted" \\ and \\n', "two\nlines\tand a tab", "é", "$HOME `x`", ""]
    done = run("run.sh", mount, "/workspace/args.js", *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == words


def test_ctrl_c_ends_the_job_of_a_script(mount: Path) -> None:
    before = set(os.listdir(mount / "jobs"))
    with subprocess.Popen(
        [SCRIPTS / "run.sh", mount, "/workspace/spin.wasm"], start_new_session=True,
        stderr=subprocess.PIPE, env={**os.environ, "LIMITS": '{"cpu": 60}'},
    ) as script:  # fmt: skip
        wait_until(lambda: state_of_new(mount, before) == "running")
        os.killpg(script.pid, signal.SIGINT)
        assert script.stderr is not None
        said = script.stderr.read().decode()
        script.wait(TIME_OUT_S)
    assert "cancelled killed INT" in said
    assert script.returncode == 130


def state_of_new(mount: Path, before: set[str]) -> str:
    new = set(os.listdir(mount / "jobs")) - before
    if not new:
        return ""
    status = (mount / "jobs" / new.pop() / "status").read_text()
    return dict(line.split(" ", 1) for line in status.splitlines())["state"]


def test_a_pool_gives_each_job_its_own_file(oanix: Oanix, mount: Path) -> None:
    (oanix.here / "texts").mkdir()
    for number in range(7):
        (oanix.here / "texts" / f"text {number}.txt").write_text(f"this is {number}\n")
    wait_until(lambda: len(os.listdir(mount / "workspace/texts")) == 7)
    files = sorted((mount / "workspace/texts").iterdir())
    done = run("pool.sh", mount, 3, "/workspace/shows.wasm", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = "".join(f"{file}: completed 0\nthis is {n}\n" for n, file in enumerate(files))
    assert done.stdout.decode() == expected
    done = run("pool.sh", mount, 2, "/workspace/three.wasm", *files)
    assert done.returncode == 7


def test_a_pipeline_passes_on_what_comes(mount: Path) -> None:
    three = ["/workspace/echo.wasm"] * 3
    done = run("pipeline.sh", mount, *three, stdin=b"one\ntwo\n" * 10_000)
    assert (done.returncode, done.stdout) == (0, b"one\ntwo\n" * 10_000), done.stderr
    done = run("pipeline.sh", mount, "/workspace/hello.wasm", "/workspace/echo.wasm")
    assert (done.returncode, done.stdout) == (0, b"hello\n"), done.stderr
    done = run("pipeline.sh", mount, "/workspace/three.wasm", "/workspace/echo.wasm")
    assert (done.returncode, done.stdout) == (1, b"no\n")


def test_what_a_job_reads_late_waits_for_it(oanix: Oanix, mount: Path) -> None:
    jobs, data = mount / "jobs", b"one more line\n" * 20_000
    number = (jobs / "new").read_text().strip()
    with subprocess.Popen(["cp", "/dev/stdin", jobs / number / "stdin"], stdin=subprocess.PIPE,
                          stderr=subprocess.PIPE) as writer:  # fmt: skip
        assert writer.stdin is not None
        writer.stdin.write(data[:100_000])
        # A write to any other file is given up after a second.
        begun = time.monotonic()
        wait_until(lambda: writer.poll() is not None or time.monotonic() - begun > 2)
        assert writer.poll() is None
        (jobs / number / "spec").write_text('{"module": "/workspace/echo.wasm"}\n')
        (jobs / number / "ctl").write_text("start\n")
        _, said = writer.communicate(data[100_000:], TIME_OUT_S)
    assert (writer.returncode, said) == (0, b"")
    assert (jobs / number / "wait").read_text() == "completed 0\n"
    assert (jobs / number / "stdout").read_bytes() == data


def test_ctrl_c_lets_a_reader_go_and_the_job_runs_on(mount: Path) -> None:
    jobs = mount / "jobs"
    number = (jobs / "new").read_text().strip()
    (jobs / number / "spec").write_text('{"module": "/workspace/echo.wasm"}\n')
    (jobs / number / "ctl").write_text("start\n")
    for name in ("wait", "stdout"):
        with subprocess.Popen(["cat", jobs / number / name]) as reader:
            wait_until(lambda pid=reader.pid: waits_in_fuse(pid))  # type: ignore[misc]
            began = time.monotonic()
            reader.send_signal(signal.SIGINT)
            assert reader.wait(TIME_OUT_S) == -signal.SIGINT
            assert time.monotonic() - began < 2.5
    wait_until(lambda: "state running" in (jobs / number / "status").read_text())
    (jobs / number / "stdin").write_text("still here\n")
    assert (jobs / number / "wait").read_text() == "completed 0\n"
    assert (jobs / number / "stdout").read_text() == "still here\n"


def waits_in_fuse(pid: int) -> bool:
    """Whether a process waits for an answer of the mount."""
    return "fuse" in Path(f"/proc/{pid}/wchan").read_text() or (
        Path(f"/proc/{pid}/syscall").read_text().split()[0] == "0"
    )
