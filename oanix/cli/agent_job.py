"""A module as a job of a tree: ordered, watched, and ended when the command that did so ends."""

import errno
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from signal import Signals
from typing import Any

import trio

from oanix.cli.agent_hidden import tell_world
from oanix.cli.agent_tree import Here, Place, Tree, place
from oanix.cli.agent_watch import lines_of
from oanix.cli.failures import Failed, Failure, single
from oanix.cli.output import Out, complain
from oanix.cli.running import die_of, heeding_signals

CODES = {
    "wall": 124, "cpu": 124, "timeout": 124, "fuel": 124, "interrupted": os.EX_TEMPFAIL,
    "error": 126, "killed": 137,
}  # fmt: skip
"""With what it ends where the module gave no code: as timeout(1) and a shell do."""

ABORTED = 134
"""With what it ends when a trap or a limit has ended it, as a shell says of abort(3)."""

PATIENCE_S = 1.0
"""After how long it says why nothing happens yet."""

LOOKS = 5
"""How often it looks for that."""

GIVES_UP_S = 2.0
"""How long the end of a job is waited for once it was told to end: it takes 250 ms."""


def print_json(value: object) -> None:
    """Print a value as a line of JSON."""
    out = Out()
    out.write(json.dumps(value, ensure_ascii=False).encode() + b"\n")


def end(code: int | None, reason: str) -> None:
    """End with the code of a module, or with what says why it gave none."""
    if reason:
        complain(f"oanix: it ended: {reason}")
    final = code if code is not None else CODES.get(reason.split(" ", 1)[0], ABORTED)
    if final:
        raise Failed(final & 0xFF)


async def run_job(
    spec: dict[str, object], given: dict[str, Any], data: bytes | None = None, script: str = ""
) -> None:
    """Have a job run to its end, and end with its code; detached, print its number.

    data: the module or script, unless a kind is ordered; script: its file, if it is a script.
    """
    line = ""
    async with place(given["at"], given["directory"]) as there:
        if given["detach"] and isinstance(there.tree, Here):
            raise Failure(
                "nothing serves this directory, so that the job would end with this command",
                "mount it first: oanix mount --daemon MOUNTPOINT",
            )
        if data is not None:
            spec["module"] = await _shown_at(there, script, data) or _kept(there, data)
        if given["world"]:
            spec["namespace"] = given["world"].read()
        elif given["grant"]:
            spec["grant"] = list(given["grant"])
        if not given["detach"] and not _feeds():
            spec["stdin"] = ""
        number = (await there.tree.read("/jobs/new")).strip()
        async with _owned(there.tree, number) as told:
            await there.tree.write(f"/jobs/{number}/spec", json.dumps(spec) + "\n")
            await there.tree.write(f"/jobs/{number}/ctl", "start\n")
            await tell_world(there.tree, number)
            if given["detach"]:
                Out().write(f"{number}\n".encode())
                return
            line = await _watched(there.tree, number, feed="stdin" not in spec)
        if given["as_json"] and not told:
            facts = await _facts(there.tree, number)
            usage = await there.tree.read(f"/jobs/{number}/usage")
            print_json({**facts, "usage": lines_of(usage)})
    for one in told:
        die_of(one)
    state, code, reason = _parts(line)
    end(code, "" if state == "completed" or reason == "exit" else reason)


def _feeds() -> bool:
    """Tell whether a job gets the standard input: not that of a terminal behind one's back."""
    if not os.isatty(0):
        return True
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        # Another's terminal, which stops nobody who reads it.
        return True


@asynccontextmanager
async def _owned(tree: Tree, number: str) -> AsyncIterator[list[Signals]]:
    """Have a job end with the block, unless it is done with it; gives the signal that ended it."""
    told: list[Signals] = []
    why = "KILL"
    try:
        async with heeding_signals() as told:
            yield told
    except BaseException as error:
        if _server_is_gone(error):
            # Whatever read from it says so.
            raise Failure(
                f"the server has ended, and with it job {number}",
                "once it is mounted again, see what it did: oanix logs show", os.EX_TEMPFAIL,
            ) from None  # fmt: skip
        why = "PIPE" if isinstance(single(error), BrokenPipeError) else why
        await _ended_early(tree, number, why)
        raise
    if told:
        await _ended_early(tree, number, told[0].name)


def _server_is_gone(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_server_is_gone(one) for one in error.exceptions)
    return isinstance(error, OSError) and error.errno in (errno.ENOTCONN, errno.ECONNABORTED)


async def _ended_early(tree: Tree, number: str, why: str) -> None:
    with trio.move_on_after(GIVES_UP_S, shield=True), suppress(OSError):
        await tree.write(f"/jobs/{number}/ctl", f"kill {why}\n")
        await tree.read(f"/jobs/{number}/wait")


async def _shown_at(there: Place, script: str, data: bytes) -> str:
    """Give the path of a script in the namespace, if it is there: it finds what lies beside it."""
    for path in there.paths_of(script) if script else ():
        # Where something else covers it, it is kept like any other.
        with suppress(OSError):
            if (await there.tree.read(path)).encode("utf-8", "surrogateescape") == data:
                return path
    return ""


def _kept(there: Place, data: bytes) -> str:
    """Keep a module where jobs find it by its hash, and give that."""
    digest = hashlib.sha256(data).hexdigest()
    folder = there.folder / "modules"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / digest
    if not path.exists():
        new = folder / f"{digest}.{os.getpid()}"
        new.write_bytes(data)
        os.replace(new, path)
    return f"sha256:{digest}"


async def _watched(tree: Tree, number: str, *, feed: bool) -> str:
    """Show what a job writes as it comes, and give its exit line."""
    async with trio.open_nursery() as nursery:
        if feed:
            nursery.start_soon(_fed, tree, number)
        nursery.start_soon(_explained, tree, number)
        async with trio.open_nursery() as shown:
            shown.start_soon(show, tree, f"/jobs/{number}/stdout", 1)
            shown.start_soon(show, tree, f"/jobs/{number}/stderr", 2)
        line = await tree.read(f"/jobs/{number}/wait")
        nursery.cancel_scope.cancel()
    return line.strip()


async def _fed(tree: Tree, number: str) -> None:
    # A job that reads no more is no failure.
    with suppress(BrokenPipeError):
        await tree.feed(f"/jobs/{number}/stdin", 0)


async def _explained(tree: Tree, number: str) -> None:
    """Say why nothing happens yet, when an interpreter is compiled first."""
    for _ in range(LOOKS):
        await trio.sleep(PATIENCE_S)
        reason = (await _facts(tree, number))["reason"]
        if reason.startswith("compiles "):
            complain(f"oanix: it {reason}")
            return


async def show(tree: Tree, path: str, descriptor: int) -> None:
    """Copy what a file of a tree gives, as it comes, to its end."""
    async for piece in tree.follow(path):
        while piece:
            piece = piece[os.write(descriptor, piece) :]


def _parts(line: str) -> tuple[str, int | None, str]:
    state, _, rest = line.partition(" ")
    first, _, after = rest.partition(" ")
    if first.isdigit():
        return state, int(first), after
    return state, None, rest


async def _facts(tree: Tree, number: str) -> dict[str, str]:
    return lines_of(await tree.read(f"/jobs/{number}/status"))
