"""`oanix logs`: what jobs did, step by step: their trajectories, for people and for programs."""

import errno
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from typing import Any

import click

from oanix.cli.agent_job import print_json
from oanix.cli.agent_tree import Tree, place
from oanix.cli.agent_watch import takes_at, takes_directory
from oanix.cli.complete import run_numbers
from oanix.cli.failures import Failure
from oanix.cli.output import Out
from oanix.cli.running import run_work
from oanix.cli.trajectory_text import Paper, between, duration, ending, local, one_step, whole
from oanix.lib.atif import Trajectory
from oanix.lib.atif.model import step_of

EPILOG = """\b
Examples:
  oanix logs list                      the last runs of this directory's jobs
  oanix logs show                      what the last one did, step by step
  oanix logs show 7                    what job 7 did
  oanix logs show -f 7                 as it does it
  oanix logs show --html run.html 7    as a page for a browser
  oanix logs show --json 7 | jq '.steps[].tool_calls[]?.function_name'"""

LAST = 20
"""Runs that are listed."""


@click.group("logs", short_help="Show what jobs did, step by step.", epilog=EPILOG)
def logs() -> None:
    """Show the trajectories of jobs: what each saw, did and said (ATIF v1.4)."""


@logs.command("show", short_help="Show what a job did.", epilog=EPILOG)
@takes_at
@takes_directory
@click.option("-f", "--follow", is_flag=True, help="Show steps as they come, to its end.")
@click.option("--json", "as_json", is_flag=True, help="Print the document (ATIF v1.4).")
@click.option("--html", "file", metavar="FILE", help="Write a page for a browser; - prints it.")
@click.argument("run", metavar="[RUN]", type=click.IntRange(1), required=False,
                shell_complete=run_numbers)  # fmt: skip
def show(
    run: int | None,
    at: str | None,
    directory: str | None,
    follow: bool,
    as_json: bool,
    file: str | None,
) -> None:
    """Show what the job RUN did (default: the last one), while it runs or after."""
    if follow + as_json + (file is not None) > 1:
        raise click.UsageError("give one of --follow, --json and --html")
    run_work(_show, run, at, directory, follow, as_json, file)


async def _show(
    run: int | None,
    at: str | None,
    directory: str | None,
    follow: bool,
    as_json: bool,
    file: str | None,
) -> None:
    async with place(at, directory) as there:
        if run is None:
            run = max(_numbers(there.tree), default=0)
            if not run:
                raise Failure("no job ran here yet", "run one: oanix agent run", os.EX_NOINPUT)
        try:
            if follow:
                await _follow(there.tree, run)
                return
            text = await there.tree.read(f"/logs/runs/{run}/trajectory.json")
        except FileNotFoundError:
            raise Failure(
                f"there is no trajectory of a job {run}", "list them: oanix logs list",
                os.EX_NOINPUT,
            ) from None  # fmt: skip
    document = text.encode("utf-8", "surrogateescape")
    if as_json:
        Out().write(document)
        return
    found = Trajectory.read(document)
    if file is not None:
        _write_page(found, file)
        return
    out, paper = Out(), _paper()
    for line in whole(found, paper):
        out.line(line)


def _paper() -> Paper:
    if not sys.stdout.isatty():
        return Paper()
    return Paper(not os.environ.get("NO_COLOR"), shutil.get_terminal_size().columns)


def _write_page(found: Trajectory, file: str) -> None:
    # Slow to load, and needed by few.
    from oanix.cli.trajectory_page import page

    made = page(found)
    if file == "-":
        Out().write(made)
        return
    with open(file, "wb") as into:
        into.write(made)


async def _follow(tree: Tree, run: int) -> None:
    out, paper, before = Out(), _paper(), ""
    async for line in _lines(tree, f"/jobs/{run}/steps"):
        if line.startswith(b'{"__header__"'):
            continue
        step = step_of(json.loads(line))
        said = [*one_step(step, before, paper), ""]
        out.write("".join(f"{one}\n" for one in said).encode("utf-8", "backslashreplace"))
        before = step.timestamp or before


async def _lines(tree: Tree, path: str) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in tree.follow(path):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line


@logs.command("list", short_help="List the runs.", epilog="""\b
Examples:
  oanix logs list
  oanix logs list --all --json | jq -r '.[] | select(.failed > 0).run'""")  # fmt: skip
@takes_at
@takes_directory
@click.option("--all", "everything", is_flag=True, help=f"List all, not only the last {LAST}.")
@click.option("--json", "as_json", is_flag=True, help="Print an array of objects.")
def runs(at: str | None, directory: str | None, everything: bool, as_json: bool) -> None:
    """List the runs of jobs, newest last."""
    run_work(_runs, at, directory, everything, as_json)


async def _runs(at: str | None, directory: str | None, everything: bool, as_json: bool) -> None:
    found: list[dict[str, Any]] = []
    async with place(at, directory) as there:
        numbers = sorted(_numbers(there.tree))
        for number in numbers if everything else numbers[-LAST:]:
            try:
                text = await there.tree.read(f"/logs/runs/{number}/trajectory.json")
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EACCES):
                    raise
                continue
            run = Trajectory.read(text.encode("utf-8", "surrogateescape"))
            found.append(_row(number, run))
    if as_json:
        print_json(found)
        return
    rows = [
        (str(one["run"]), local(one["started"]), _took(one["seconds"]), str(one["steps"]),
         str(one["calls"]), str(one["failed"]), one["name"][:24], one["end"] or "running")
        for one in found
    ]  # fmt: skip
    Out().table(("RUN", "STARTED", "TIME", "STEPS", "CALLS", "FAILED", "NAME", "END"), rows)


def _numbers(tree: Tree) -> list[int]:
    return [int(name) for name in tree.names("/logs/runs") if name.isdecimal()]


def _took(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _row(number: int, run: Trajectory) -> dict[str, Any]:
    calls = [call for step in run.steps for call in step.calls]
    first, last = run.steps[0].timestamp, run.steps[-1].timestamp
    return {
        "run": number, "session": run.session, "name": str(run.agent.get("name", "")),
        "started": first, "seconds": between(first, last), "steps": len(run.steps),
        "calls": len(calls), "failed": sum(bool(call.errno) for call in calls),
        "end": ending(run),
    }  # fmt: skip
