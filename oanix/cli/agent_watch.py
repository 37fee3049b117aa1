"""`oanix agent ps` and `top`: the jobs that there are, once or again and again."""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
import trio
from attrs import frozen

from oanix.cli.agent_tree import Tree, is_gone, place
from oanix.cli.output import Out, escape
from oanix.cli.running import run_work

takes_at = click.option("--at", metavar="MOUNT", help="Use the jobs of this mount.")
takes_directory = click.option(
    "-C", "directory", metavar="DIR", help="Use the jobs of DIR (default: here)."
)

Row = dict[str, str]

HEAD: Final = ("ID", "STATE", "CPU", "MEMORY", "NAME", "REASON")
TOP: Final = ("ID", "STATE", "%CPU", "CPU", "TIME", "MEMORY", "READ", "WRITTEN", "PROCESS", "NAME")
UNDER_WAY: Final = ("pending", "running")
PLAIN, HOME, CLEAR, LEAVE = "", "\x1b[?1049h\x1b[?25l", "\x1b[H\x1b[2J", "\x1b[?25h\x1b[?1049l"


def lines_of(text: str) -> dict[str, str]:
    """Read lines of a key and its value."""
    return dict(line.partition(" ")[::2] for line in text.splitlines())


class Watch:
    """The jobs of a tree; those that have ended are read once."""

    def __init__(self, tree: Tree, *, everything: bool) -> None:
        self._tree = tree
        self._everything = everything
        self._ended: dict[str, Row] = {}

    async def rows(self) -> list[Row]:
        """Give what `status` and `usage` say of each job, oldest first."""
        found = []
        for number in sorted((n for n in self._tree.names("/jobs") if n.isdigit()), key=int):
            row = self._ended.get(number)
            if row is None:
                row = await self._row(number)
            if row is not None and (self._everything or row["state"] in UNDER_WAY):
                found.append(row)
        return found

    async def _row(self, number: str) -> Row | None:
        try:
            row = lines_of(await self._tree.read(f"/jobs/{number}/status"))
            if self._everything or row["state"] in UNDER_WAY:
                usage = lines_of(await self._tree.read(f"/jobs/{number}/usage"))
                row |= {name: usage.get(name, "-").split(" ")[0]
                        for name in ("cpu", "wall", "memory", "read", "written")}  # fmt: skip
        except OSError as error:
            # Another's, or forgotten since it was listed.
            if is_gone(error) or isinstance(error, PermissionError):
                return None
            raise
        if row["state"] not in UNDER_WAY:
            self._ended[number] = row
        return row


@click.command(short_help="List the jobs.", epilog="""\b
Examples:
  oanix agent ps
  oanix agent ps --all --json | jq -r '.[].id'""")  # fmt: skip
@takes_at
@takes_directory
@click.option("--all", "everything", is_flag=True, help="Show those that have ended as well.")
@click.option("--json", "as_json", is_flag=True, help="Print an array of objects.")
def ps(at: str | None, directory: str | None, everything: bool, as_json: bool) -> None:
    """List the jobs that wait or run."""
    run_work(_ps, at, directory, everything, as_json)


async def _ps(at: str | None, directory: str | None, everything: bool, as_json: bool) -> None:
    async with place(at, directory) as there:
        found = await Watch(there.tree, everything=everything).rows()
    out = Out()
    if as_json:
        out.write(json.dumps(found, ensure_ascii=False).encode() + b"\n")
        return
    out.table(HEAD, [
        (one["id"], one["state"], one["cpu"], size(one["memory"]), one["name"], one["reason"])
        for one in found
    ])  # fmt: skip


# Again and again ---------------------------------------------------------------------------------


@click.command(short_help="Watch the jobs.", epilog="""\b
Examples:
  oanix agent top
  oanix agent top --interval 0.5 --sort memory
  oanix agent top --count 1 --json

Press Ctrl-C to leave. PROCESS is the worker that a job runs in.""")  # fmt: skip
@takes_at
@takes_directory
@click.option("--interval", metavar="SECONDS", default=1.0, show_default=True,
              type=click.FloatRange(0.1, 3_600), help="Look so often.")  # fmt: skip
@click.option("--count", metavar="N", type=click.IntRange(1), help="Look N times, then end.")
@click.option("--sort", type=click.Choice(["id", "cpu", "memory"]), default="cpu",
              show_default=True, help="What comes first.")  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Show those that have ended as well.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array a look, on a line.")
def top(at: str | None, directory: str | None, **given: Any) -> None:
    """Show what the jobs use, while they do; in a pipe, one table after the other."""
    run_work(_top, at, directory, given)


@frozen
class _Seen:
    at: float
    cpu: dict[str, float]


async def _top(at: str | None, directory: str | None, given: dict[str, Any]) -> None:
    async with place(at, directory) as there:
        watch = Watch(there.tree, everything=given["everything"])
        out = Out()
        before: _Seen | None = None
        looks = 0
        with _screen(out.terminal and not given["as_json"]) as clear:
            while True:
                rows = await watch.rows()
                now = time.monotonic()
                cpu = {one["id"]: _number(one.get("cpu", "-")) for one in rows}
                for one in rows:
                    one["percent"] = _share(one["id"], before, now, cpu)
                _sort(rows, given["sort"])
                _shown(out, rows, clear, given["as_json"])
                before = _Seen(now, cpu)
                looks += 1
                if given["count"] is not None and looks >= given["count"]:
                    return
                await trio.sleep(given["interval"])


@contextmanager
def _screen(terminal: bool) -> Iterator[str]:
    """Have a screen of its own on a terminal; gives what clears it."""
    if not terminal:
        yield PLAIN
        return
    sys.stdout.write(HOME)
    try:
        yield CLEAR
    finally:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()


def _share(job: str, before: _Seen | None, now: float, cpu: dict[str, float]) -> str:
    if before is None or job not in before.cpu or now <= before.at:
        return "-"
    return f"{max(cpu[job] - before.cpu[job], 0) / (now - before.at) * 100:.1f}"


def _sort(rows: list[Row], by: str) -> None:
    if by == "id":
        rows.sort(key=lambda one: int(one["id"]))
    elif by == "memory":
        rows.sort(key=lambda one: -_number(one["memory"]))
    else:
        rows.sort(key=lambda one: (-_number(one["percent"]), -_number(one["cpu"])))


def _shown(out: Out, rows: Sequence[Row], clear: str, as_json: bool) -> None:
    if as_json:
        out.write(json.dumps(rows, ensure_ascii=False).encode() + b"\n")
        return
    states = [one["state"] for one in rows]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    shown = list(rows)
    if clear:
        sys.stdout.write(clear)
        sys.stdout.flush()
        shown = shown[: max(os.get_terminal_size().lines - 4, 1)]
    out.line(f"{time.strftime('%H:%M:%S')}  {counted or 'no jobs'}")
    out.table(TOP, [
        (one["id"], one["state"], one["percent"], one["cpu"], one["wall"], size(one["memory"]),
         size(one["read"]), size(one["written"]), one["process"], one["name"])
        for one in shown
    ])  # fmt: skip
    if len(shown) < len(rows):
        out.line(escape(f"and {len(rows) - len(shown)} more"))
    out.line("")
    out.write(b"")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def size(text: str) -> str:
    """Write a number of bytes for people."""
    if not text.isdigit():
        return text
    number = float(text)
    for unit in ("", "K", "M", "G"):
        if number < 1024 or unit == "G":
            break
        number /= 1024
    return f"{number:.0f}{unit}" if not unit or number >= 100 else f"{number:.1f}{unit}"
