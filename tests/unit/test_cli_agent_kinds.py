"""`oanix agent list|info|install|remove|pin`: kinds from the command line."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.commands import TIME_OUT_S, Oanix

pytestmark = pytest.mark.slow

MANIFEST = {
    "name": "tool", "version": "1", "description": "A tool.", "interpreter": "quickjs",
    "program": "main.js", "needs": [{"path": "/workspace", "why": "its files"}],
    "arguments": [], "limits": {"wall": "9s"},
}  # fmt: skip


@pytest.fixture
def tool(oanix: Oanix) -> Path:
    folder = oanix.here / "tool"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "main.js").write_text("1")
    return folder


def kinds(oanix: Oanix) -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in json.loads(oanix("agent", "list", "--json").stdout)}


def test_kinds_are_installed_listed_shown_and_removed(oanix: Oanix, tool: Path) -> None:
    done = oanix("agent", "install", tool)
    assert (done.returncode, done.stdout) == (
        0, b"installed tool 1; it gets, when it is run:\n  /workspace: its files\n"
           b"  at most: wall 9s\n"
    ), done.stderr  # fmt: skip
    found = kinds(oanix)
    assert (found["tool"]["state"], found["tool"]["ships"]) == ("ready", False)
    assert (found["fix_bug"]["state"], found["fix_bug"]["ships"]) == ("not yet", True)
    listed = oanix("agent", "list").stdout.decode().splitlines()
    assert listed[0].split() == ["KIND", "VERSION", "STATE", "DESCRIPTION"]
    assert len(listed) == len(found) + 1
    shown = oanix("agent", "info", "tool").stdout.decode()
    assert "Usage: oanix agent run tool\n" in shown
    assert "  bind /workspace /workspace\n" in shown
    assert f"from {tool}" in shown
    said = json.loads(oanix("agent", "info", "--json", "tool").stdout)
    assert list(said["sha256"]) == ["main.js"]
    seen = oanix("ls", "/agents/tool").stdout.split()
    assert seen == [b"README", b"main.js", b"manifest.json"]
    again = oanix("agent", "install", tool)
    assert (again.returncode, b"add --replace" in again.stderr) == (os.EX_CANTCREAT, True)
    assert oanix("agent", "install", "--replace", tool).returncode == 0
    assert oanix("agent", "remove", "tool").returncode == 0
    assert "tool" not in kinds(oanix)


def test_a_pinned_kind_is_installed_as_it_was_handed_on_or_not_at_all(
    oanix: Oanix, tool: Path
) -> None:
    assert oanix("agent", "pin", tool).returncode == 0
    said = json.loads((tool / "manifest.json").read_text())
    assert {**said, "sha256": None} == {**MANIFEST, "sha256": None}
    (tool / "main.js").write_text("2")
    done = oanix("agent", "install", tool)
    assert done.returncode == os.EX_DATAERR
    assert b"it was changed since" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["info", "nothing"], os.EX_NOINPUT, "there is no kind 'nothing'; there are: add_endpoint"),
        (["remove", "scaffold"], 1, "ships with OANIX, and stays"),
        (["remove", "../here"], os.EX_NOINPUT, "there is no kind '../here'"),
        (["install", "hello.txt"], os.EX_DATAERR, "this is no kind"),
        (["install", "folder"], os.EX_DATAERR, "there is no manifest.json in it"),
        (["install", "missing"], 2, "does not exist"),
        (["pin", "folder"], os.EX_NOINPUT, "there is no manifest.json"),
    ],
)
def test_what_cannot_be_done_says_why(oanix: Oanix, words: list[str], code: int, said: str) -> None:
    done = oanix("agent", *words)
    assert said in done.stderr.decode()
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"limits": {"speed": 1}}, b"there is no limit 'speed'"),
     ({"interpreter": "cobol"}, b"cobol")],
)  # fmt: skip
def test_what_no_job_could_be_ordered_with_is_refused(
    oanix: Oanix, tool: Path, changed: dict[str, object], said: bytes
) -> None:
    (tool / "manifest.json").write_text(json.dumps({**MANIFEST, **changed}))
    done = oanix("agent", "install", tool)
    assert done.returncode == os.EX_DATAERR
    assert said in done.stderr
    assert "tool" not in kinds(oanix)


@pytest.mark.parametrize(
    ("words", "offered"), [("info sc", "plain,scaffold\n"), ("run sc", "plain,scaffold\nfile,sc\n")]
)
def test_the_shell_completes_names_of_kinds(oanix: Oanix, words: str, offered: str) -> None:
    env = {
        **oanix.env, "_OANIX_COMPLETE": "bash_complete", "COMP_WORDS": f"oanix agent {words}",
        "COMP_CWORD": "3",
    }  # fmt: skip
    done = subprocess.run(
        oanix.command(), env=env, capture_output=True, text=True, timeout=TIME_OUT_S, check=False
    )
    assert done.stdout == offered, done.stderr
