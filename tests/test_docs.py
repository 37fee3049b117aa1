"""The README's commands work as it says, and links between the documents lead somewhere."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mounts import stale

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARK = "=== next command ==="


def _sessions(page: Path) -> list[tuple[str, str]]:
    """Give the commands of a page's transcripts, each with the output that it shows.

    A command goes on in lines that begin with the second prompt of a shell, `> `.
    """
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            while output.startswith(">"):
                more, _, output = output.partition("\n")
                command += "\n" + more[1:].removeprefix(" ")
            found.append((command, output))
    return found


def _pattern(output: str) -> str:
    # An ellipsis alone on its line stands for any lines, another for a part of its line.
    lines = []
    for line in output.splitlines(keepends=True):
        if line == "…\n":
            lines.append("(?:.*\n)*")
        else:
            lines.append(".*".join(re.escape(part) for part in line.split("…")))
    return "".join(lines)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.mark.fuse
@pytest.mark.slow
def test_the_tour_of_the_readme_shows_what_happens(tmp_path: Path) -> None:
    # Another program may have the port that the README names.
    port = str(_free_port())
    session = [
        (command.replace("8123", port), expected.replace("8123", port))
        for command, expected in _sessions(ROOT / "README.md")
    ]
    assert len(session) > 8
    assert any(port in command for command, _ in session)
    script = "".join(f"{command}\necho '{MARK}'\n" for command, _ in session)
    home = tmp_path / "home"
    home.mkdir()
    try:
        done = subprocess.run(
            ["bash", "-c", script],
            stdin=subprocess.DEVNULL,
            cwd=home,
            env={
                "HOME": str(home),
                "OANIX_STATE": str(tmp_path / "state"),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "LC_ALL": "C.UTF-8",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=50,
            check=True,
        )
    finally:
        if stale.find(str(home / "mnt")) is not None:
            stale.unmount(str(home / "mnt"), lazy=True)
    shown = done.stdout.split(f"{MARK}\n")[:-1]
    for (command, expected), output in zip(session, shown, strict=True):
        assert re.fullmatch(_pattern(expected), output), f"$ {command}\n{output}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:docs|tests|benchmarks|examples|mounts|oanix|bin)/[\w./-]+)`", page.read_text()
    )
    missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    assert missing == []
