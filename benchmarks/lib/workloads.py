"""Whole programs at work in a directory, timed from start to end, with a look at the result."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from time import perf_counter
from typing import TYPE_CHECKING

from .job import Wrong

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .job import Job

NEEDLE = "needle-in-a-haystack"


def git_clone(job: Job) -> float:
    """Clone a local repository as a remote one is cloned: through a pack, with no hard links."""
    return _timed(job, "git", "clone", "-q", "--no-local", job.fixtures / "repository", "clone")


def git_status(job: Job) -> float:
    """Ask for the status of a clone, the second time: the first one settles the index."""
    clone = job.root / "clone"
    if not clone.exists():
        git_clone(job)
    command = ("git", "-C", clone, "status", "--porcelain")
    _timed(job, *command)
    seconds, output = _run(job, *command)
    if output:
        raise Wrong("git status reports changes in a fresh clone")
    return seconds


def compileall(job: Job) -> float:
    """Compile a copy of some packages of the standard library."""
    folder = job.root / "python"
    seconds = _timed(job, sys.executable, "-m", "compileall", "-q", folder)
    sources, compiled = len(list(folder.rglob("*.py"))), len(list(folder.rglob("*.pyc")))
    if sources != compiled:
        raise Wrong(f"{compiled} files compiled of {sources}")
    return seconds


def sqlite(job: Job) -> float:
    """Insert one row a transaction, with SQLite's default journal and syncing."""
    with contextlib.closing(sqlite3.connect(job.root / "data.sqlite", timeout=30)) as database:
        database.isolation_level = None
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
        start = perf_counter()
        for number in range(job.sizes.transactions):
            database.execute("BEGIN")
            database.execute("INSERT INTO t (body) VALUES (?)", (f"row {number} " * 10,))
            database.execute("COMMIT")
        seconds = perf_counter() - start
        (count,) = database.execute("SELECT count(*) FROM t").fetchone()
        (health,) = database.execute("PRAGMA integrity_check").fetchone()
    if (count, health) != (job.sizes.transactions, "ok"):
        raise Wrong(f"{count} rows of {job.sizes.transactions}, integrity: {health}")
    return seconds


def tar(job: Job) -> float:
    """Unpack an archive of small files."""
    (job.root / "tree").mkdir()
    seconds = _timed(job, "tar", "xf", job.fixtures / "tree.tar", "-C", "tree")
    count = sum(1 for _ in _files(job.root / "tree"))
    if count != job.sizes.tree_files:
        raise Wrong(f"{count} files unpacked of {job.sizes.tree_files}")
    return seconds


def rg(job: Job) -> float:
    """Search the unpacked files."""
    return _search(job, "rg", "--no-config", "--no-ignore", "-l", NEEDLE, "tree")


def grep(job: Job) -> float:
    """Search the unpacked files."""
    return _search(job, "grep", "-rl", NEEDLE, "tree")


def rm(job: Job) -> float:
    """Remove a tree of files that this mount has not seen yet."""
    seconds = _timed(job, "rm", "-rf", "tree")
    if (job.root / "tree").exists():
        raise Wrong("rm -rf left the directory behind")
    return seconds


def look_up(job: Job) -> None:
    """Stat every file of a large tree, so that the server knows all of them."""
    count = 0
    for path in _files(job.root):
        os.stat(path)
        count += 1
    if count != job.sizes.memory_files:
        raise Wrong(f"{count} files found of {job.sizes.memory_files}")


def _search(job: Job, *command: str) -> float:
    _unpacked(job)
    seconds, output = _run(job, *command)
    found, expected = len(output.splitlines()), len(range(0, job.sizes.tree_files, 100))
    if found != expected:
        raise Wrong(f"{command[0]} found {found} files of {expected}")
    return seconds


def _unpacked(job: Job) -> None:
    if not (job.root / "tree").exists():
        tar(job)


def _files(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield f"{parent}/{name}"


def _timed(job: Job, *command: str | Path) -> float:
    return _run(job, *command)[0]


def _run(job: Job, *command: str | Path) -> tuple[float, str]:
    """Run a command in the step's directory; return its time in seconds and its output."""
    start = perf_counter()
    # The end is seen by the pipes' closing: a wait with a time-out looks only every 50 ms.
    done = subprocess.run(
        [str(part) for part in command],
        cwd=job.root, env=job.environment, timeout=job.timeout, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    seconds = perf_counter() - start
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise Wrong(said[-1] if said else f"{command[0]}: exit status {done.returncode}")
    return seconds, done.stdout
