"""`oanix agent` with a mounted namespace: jobs of its server, ordered by command and by shell."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mounts import stale
from tests.commands import TIME_OUT_S, Oanix
from tests.mount.mounting import mounted, wait_until
from tests.scheduler.jobs_help import ECHO, SPIN, saying

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


@pytest.fixture(scope="module")
def oanix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oanix]:
    """The command line, with the default namespace mounted."""
    base = tmp_path_factory.mktemp("agent")
    for name in ("here", "mnt"):
        (base / name).mkdir()
    for name, data in (("hello", saying("hello\n")), ("spin", SPIN), ("echo", ECHO)):
        (base / "here" / f"{name}.wasm").write_bytes(data)
    oanix = Oanix(base / "state", base / "here", {
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    })  # fmt: skip
    with mounted(oanix, base / "mnt"):
        yield oanix


def shell(oanix: Oanix, script: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=oanix.here.parent / "mnt",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIME_OUT_S,
        check=False,
        env={**oanix.env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_example_of_the_page_works_in_a_shell(oanix: Oanix) -> None:
    page = (Path(__file__).parents[2] / "docs/man/jobs.md").read_text()
    example, *_ = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert shell(oanix, example) == "completed 0\nhello\n"


def test_a_module_runs_on_the_server_of_its_directory(oanix: Oanix) -> None:
    done = oanix("agent", "run", "echo.wasm", stdin=b"through the mount\n")
    assert (done.returncode, done.stdout) == (0, b"through the mount\n"), done.stderr


def test_a_detached_job_is_listed_followed_and_killed(oanix: Oanix) -> None:
    number = oanix("agent", "run", "--detach", "--name", "spins", "spin.wasm").stdout.strip()
    [found] = json.loads(oanix("agent", "ps", "--json").stdout)
    assert (found["id"].encode(), found["name"]) == (number, "spins")
    assert oanix("agent", "kill", number.decode()).returncode == 0
    assert shell(oanix, f"cat jobs/{number.decode()}/wait") == "cancelled killed KILL\n"
    assert json.loads(oanix("agent", "ps", "--json").stdout) == []
    done = oanix("agent", "kill", number.decode())
    assert (done.returncode, b"has ended" in done.stderr) == (1, True), done.stderr


def test_a_signal_ends_a_job_that_was_not_detached(oanix: Oanix) -> None:
    (oanix.here / "loop.js").write_text('console.log("begun"); for (;;);')
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)):
        with oanix.start("agent", "run", "loop.js") as command:
            assert command.stdout is not None
            assert command.stdout.readline() == b"begun\n"
            [job] = json.loads(oanix("agent", "ps", "--json").stdout)
            command.send_signal(number)
            assert command.wait(TIME_OUT_S) == code
        ended = shell(oanix, f"cat jobs/{job['id']}/wait")
        assert ended == f"cancelled killed {number.name[3:]}\n"


def test_a_reader_that_goes_away_ends_the_job(oanix: Oanix) -> None:
    (oanix.here / "flood.js").write_text('for (;;) console.log("more");')
    script = """
        set +o pipefail
        oanix agent run --name flood --limit output=2G workspace/flood.js | head -n 1
        n=$(oanix agent ps --all --json | jq -r '.[] | select(.name == "flood").id')
        cat jobs/$n/wait
    """
    assert shell(oanix, script) == "more\ncancelled killed PIPE\n"


def test_in_a_mount_its_jobs_are_meant(oanix: Oanix) -> None:
    done = shell(oanix, "cd workspace; oanix agent run --json hello.wasm | tail -n 1")
    number = json.loads(done)["id"]
    assert shell(oanix, f"cat logs/runs/{number}/stdout") == "hello\n"


def test_what_jobs_use_is_watched(oanix: Oanix) -> None:
    number = (
        oanix("agent", "run", "--detach", "--name", "busy", "spin.wasm").stdout.strip().decode()
    )
    done = oanix("agent", "top", "--count", "3", "--interval", "0.3", "--json")
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(looks) == 3, done.stderr
    first, _, last = ([one for one in rows if one["id"] == number] for rows in looks)
    assert first[0]["percent"] == "-"
    assert float(last[0]["percent"]) > 5
    assert float(last[0]["cpu"]) > float(first[0]["cpu"])
    assert last[0]["process"].isdigit()
    shown = oanix("agent", "top", "--count", "1").stdout.decode()
    assert "1 running" in shown
    assert re.search(rf"(?m)^{number} +running .* busy$", shown)
    assert "\x1b" not in shown
    oanix("agent", "kill", number)
    assert "no jobs" in oanix("agent", "top", "--count", "1").stdout.decode()


def test_the_output_of_one_is_the_input_of_the_next(oanix: Oanix) -> None:
    script = """
        new() { n=$(cat jobs/new); echo "{\\"module\\": \\"/workspace/$1.wasm\\"}" >jobs/$n/spec
                echo start >jobs/$n/ctl; echo $n; }
        a=$(new hello); b=$(new echo)
        cat jobs/$a/stdout >jobs/$b/stdin
        cat jobs/$b/wait jobs/$b/stdout
    """
    assert shell(oanix, script) == "completed 0\nhello\n"


def test_kinds_are_files_that_a_shell_reads_and_orders(oanix: Oanix) -> None:
    page = (Path(__file__).parents[2] / "docs/man/agents.md").read_text()
    example = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)[-1]
    said = shell(oanix, example)
    assert "scaffold: starts a project from a template" in said
    assert "completed 0\n" in said
    assert '"template":"api"' in said
    assert (oanix.here / "notes/app.py").read_text().startswith('"""Notes: an HTTP API')
    script = """
        echo x >agents/scaffold/main.js 2>&1 || echo refused
        mkdir agents/mine 2>&1 || echo refused
        n=$(cat jobs/new); echo '{"kind": "fix_bug", "args": ["x"]}' >jobs/$n/spec
        echo start >jobs/$n/ctl || tail -n 1 dev/errstr
    """
    told = shell(oanix, script)
    assert told.count("refused") == 2
    assert "fix_bug needs /chat" in told


def test_a_kind_runs_on_the_server_of_its_directory(oanix: Oanix) -> None:
    (oanix.here / ".env").write_text("hunter2")
    done = oanix("agent", "run", "explain_code", "--path", "notes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"# Notes\n")
    assert b"oanix: hidden from it: .env\n" in done.stderr
    assert b"hunter2" not in done.stdout


def test_errors_reach_the_shell(oanix: Oanix) -> None:
    script = """
        n=$(cat jobs/new)
        echo '{"modul": 1}' >jobs/$n/spec || tail -n 1 dev/errstr
        echo fly >jobs/$n/ctl || tail -n 1 dev/errstr
    """
    said = shell(oanix, script)
    assert "did you mean 'module'" in said
    assert "'fly' is no command" in said


def test_a_start_says_what_of_its_order_is_wrong(oanix: Oanix) -> None:
    script = """
        refused() { n=$(cat jobs/new); echo "$1" >jobs/$n/spec
                    echo start >jobs/$n/ctl 2>/dev/null || tail -n 1 dev/errstr; }
        refused '{"module": "/workspace/none.wasm"}'
        refused '{"module": "/workspace/hello.wasm", "stdin": {"path": "/workspace/gone.txt"}}'
        # Bash does not look how the close ends, which is when what is not whole is refused.
        refused '{"module": "/workspace/hello.wasm"'
        echo '{"module": "/workspace/hello.wasm"}' >jobs/$n/spec; echo start >jobs/$n/ctl
        cat jobs/$n/wait
    """
    missing, gone, broken, ended = shell(oanix, script).splitlines()
    assert missing.endswith("ctl: /workspace/none.wasm: no such file or directory")
    assert gone.endswith("ctl: /workspace/gone.txt: no such file or directory")
    assert "its specification was refused: this is no JSON" in broken
    assert ended == "completed 0"


def test_a_server_that_is_killed_is_told_once(oanix: Oanix) -> None:
    base = oanix.here.parent / "killed"
    for name in ("here", "mnt"):
        (base / name).mkdir(parents=True)
    (base / "here/loop.js").write_text('console.log("begun"); for (;;);')
    other = Oanix(base / "state", base / "here", oanix.environment)
    with mounted(other, base / "mnt"):
        [served] = json.loads(other("ps", "--json").stdout)
        with other.start("agent", "run", "loop.js") as command:
            assert command.stdout is not None
            assert command.stdout.readline() == b"begun\n"
            os.kill(served["pid"], signal.SIGKILL)
            _, said = command.communicate(timeout=TIME_OUT_S)
        assert command.returncode == os.EX_TEMPFAIL
        told = said.decode().splitlines()[-2:]
        assert told[0] == "oanix: the server has ended, and with it job 1"
        assert "Transport" not in said.decode()
        # A mount whose server is gone is none to os.path.ismount, though it is still there.
        wait_until(lambda: stale.find(str(base / "mnt")) is None)
        assert other("mount", "--daemon", ".", base / "mnt").returncode == 0
        [job] = json.loads(other("agent", "ps", "--all", "--json").stdout)
        assert (job["state"], job["reason"]) == ("failed", "interrupted")
