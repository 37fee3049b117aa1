"""`oanix doctor`: what it looks at, and when it fails."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.commands import TIME_OUT_S, Oanix

pytestmark = pytest.mark.slow

NAMES = [
    "python", "kernel", "/dev/fuse", "right to mount", "fusermount3", "pyfuse3", "libfuse",
    "user_allow_other", "user namespaces", "FUSE passthrough", "fanotify", "open files",
    "state folder", "what a mount cannot do",
]  # fmt: skip


def test_each_thing_is_looked_at_and_told_in_json(oanix: Oanix) -> None:
    done = oanix("doctor", "--json")
    found = json.loads(done.stdout)
    assert [check["name"] for check in found] == NAMES
    assert {check["state"] for check in found} <= {"ok", "warn", "fail"}
    assert all(check["found"] for check in found)
    assert all(check["remedy"] for check in found if check["state"] != "ok")
    fails = any(check["state"] == "fail" for check in found)
    assert done.returncode == (os.EX_UNAVAILABLE if fails else 0)


def test_people_get_a_line_each_and_what_to_do(oanix: Oanix) -> None:
    lines = oanix("doctor").stdout.decode().splitlines()
    assert next(line for line in lines if line[:4].strip()).split()[:2] == ["ok", "python"]
    assert any(line.strip().startswith("do: docs/posix.md") for line in lines)


def test_too_few_open_files_fail(oanix: Oanix) -> None:
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *map(str, oanix.command("doctor"))],
        capture_output=True, env=oanix.env, cwd=oanix.here, check=False, timeout=TIME_OUT_S,
    )  # fmt: skip
    assert done.returncode == os.EX_UNAVAILABLE
    assert b"200, raised to at most 200" in done.stdout
    assert b"ulimit -Hn" in done.stdout


def test_a_lost_right_to_mount_fails_and_setup_says_so_too(oanix: Oanix) -> None:
    setup = Path(__file__).parents[2] / "bin" / "setup"
    lost = ["unshare", "--user", "--map-root-user",
            "setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]  # fmt: skip
    for command in (oanix.command("doctor"), [setup, "--check-fuse"]):
        done = subprocess.run(
            [*lost, *map(str, command)],
            capture_output=True, env=oanix.env, cwd=oanix.here, check=False, timeout=TIME_OUT_S,
        )  # fmt: skip
        assert done.returncode == os.EX_UNAVAILABLE
        assert b"--cap-add SYS_ADMIN" in done.stdout + done.stderr


def test_a_state_folder_that_cannot_be_made_fails(oanix: Oanix) -> None:
    done = Oanix(oanix.here / "hello.txt" / "state", oanix.here)("doctor")
    assert done.returncode == os.EX_UNAVAILABLE
    assert b"set OANIX_STATE" in done.stdout
