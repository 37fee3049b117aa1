"""`oanix agent run KIND`: kinds that ship and others, from the command line."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.commands import Oanix
from tests.scheduler.jobs_help import saying

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def tool(oanix: Oanix, **changed: object) -> None:
    """Install a kind that runs a module."""
    folder = oanix.here / "tool"
    folder.mkdir(exist_ok=True)
    said = {"name": "tool", "version": "1", "description": "A tool.", "module": "m.wasm",
            "needs": [{"path": "/workspace", "why": "its files"}], **changed}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(said))
    (folder / "m.wasm").write_bytes(saying("it ran\n"))
    done = oanix("agent", "install", "--replace", folder)
    assert done.returncode == 0, done.stderr


def test_scaffold_and_explain_code_work_and_say_what_is_hidden(oanix: Oanix) -> None:
    (oanix.here / "certs").mkdir()
    for name in (".env", ".env.local", "certs/a.key", "plain.txt"):
        (oanix.here / name).write_text("hunter2")
    done = oanix("agent", "run", "scaffold", "dashboard", "site", "--title", "Tea")
    assert done.returncode == 0, done.stderr
    assert b"made site/index.html" in done.stdout
    assert b"oanix: hidden from it: .env, .env.local, certs/a.key\n" in done.stderr
    assert "<title>Tea</title>" in (oanix.here / "site/index.html").read_text()
    done = oanix("agent", "run", "--json", "explain_code", "--path", "site")
    assert done.returncode == 0, done.stderr
    report, told = done.stdout.rstrip().rsplit(b"\n", 1)
    assert report.startswith(b"# Tea\n")
    assert json.loads(told)["name"] == "explain_code"
    assert b"hunter2" not in done.stdout
    again = oanix("agent", "run", "scaffold", "dashboard", "site")
    assert again.returncode == 1
    assert b"and nothing was written: site/index.html, site/styles.css" in again.stderr


def test_help_comes_from_the_manifest(oanix: Oanix) -> None:
    for words in (["--help"], ["landing", "-h"]):
        done = oanix("agent", "run", "scaffold", *words)
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"Usage: oanix agent run scaffold [OPTIONS] [TEMPLATE] [NAME]\n" in done.stdout
    assert b"It cannot run yet" in oanix("agent", "run", "fix_bug", "--help").stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["scaffold", "landing", "--titel", "x"], 2, "did you mean 'title'?"),
        (["scaffold", "shop"], 2, "TEMPLATE: this is one of: landing, dashboard, api"),
        (["explain_code", "--depth", "99"], 2, "from 1 to 12"),
        (["fix_bug", "it crashes"], 1, "fix_bug needs /chat (a model does the thinking)"),
        (["fix_bug"], 1, "needs /chat"),
        (["no_such"], 2, "'no_such' does not exist, and no kind is called so"),
        (["folder"], 2, "'folder' is a directory, and no kind is called so"),
        (["--dir", ".", "scaffold", "api"], 2, "leave out --dir"),
        (["--interpreter", "quickjs", "scaffold", "api"], 2, "leave out --interpreter"),
        (["--grant", "/none", "scaffold", "api"], 65, "/none"),
    ],
)
def test_what_cannot_be_run_says_why(oanix: Oanix, words: list[str], code: int, said: str) -> None:
    done = oanix("agent", "run", *words)
    assert said in done.stderr.decode()
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr


def test_a_file_goes_before_a_kind_and_an_order_before_a_manifest(oanix: Oanix) -> None:
    tool(oanix, needs=[{"path": "/workspace", "why": "its files"},
                       {"path": "/chat", "why": "a talk", "optional": True}])  # fmt: skip
    done = oanix("agent", "run", "tool")
    assert (done.returncode, done.stdout) == (0, b"it ran\n"), done.stderr
    assert b"oanix: it does without /chat (a talk)\n" in done.stderr
    (oanix.here / "scaffold").write_bytes(saying("a file\n"))
    done = oanix("agent", "run", "scaffold")
    assert (done.returncode, done.stdout) == (0, b"a file\n"), done.stderr
    (oanix.here / "world.ns").write_text("bind /dev /dev\n")
    done = oanix("agent", "run", "--world", "world.ns", "tool")
    assert b"which the namespace of this order does not show" in done.stderr
    (oanix.here / "world.ns").write_text("mount workspace:/ /workspace\n")
    done = oanix("agent", "run", "--world", "world.ns", "tool")
    assert (done.returncode, b"1:1" in done.stderr) == (os.EX_DATAERR, True), done.stderr


def test_a_kind_whose_files_were_changed_does_not_run(oanix: Oanix) -> None:
    tool(oanix)
    (Path(oanix.state) / "agents/tool/m.wasm").write_bytes(saying("evil\n"))
    done = oanix("agent", "run", "tool")
    assert done.returncode != 0
    assert (done.stdout, b"its hash differs" in done.stderr) == (b"", True), done.stderr


def test_the_kind_that_the_page_writes_counts_words(oanix: Oanix) -> None:
    page = (Path(__file__).parents[2] / "docs/man/agents.md").read_text()
    example = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)[0]
    (oanix.here / "hello.txt").write_text("one two  three\n")
    python, *words = map(str, oanix.command())
    script = f'oanix() {{ "{python}" {" ".join(words)} "$@"; }}\n{example}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=oanix.here, env=oanix.env, check=False,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3"


def test_many_hidden_names_are_counted(oanix: Oanix) -> None:
    tool(oanix)
    for number in range(12):
        (oanix.here / f"{number:02}.pem").touch()
    (oanix.here / ".git").mkdir()
    (oanix.here / ".git/config").touch()
    done = oanix("agent", "run", "tool")
    assert b"06.pem, and 5 more\n" in done.stderr
