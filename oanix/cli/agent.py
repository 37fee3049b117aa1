"""`oanix agent`: run WebAssembly modules and scripts as agents, and watch, list and end them."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oanix.cli.agent_job import end, print_json, run_job, show
from oanix.cli.agent_kinds import (
    Runnable,
    asks_for_help,
    info,
    install,
    list_kinds,
    order_of,
    pin,
    remove,
)
from oanix.cli.agent_tree import place
from oanix.cli.agent_watch import ps, takes_at, takes_directory, top
from oanix.cli.complete import run_numbers
from oanix.cli.failures import Failure, sentence, single
from oanix.cli.output import complain, escape, escape_name
from oanix.cli.running import run_work
from oanix.env import cache_folder
from oanix.lib.agents import Installed
from oanix.recipe import RecipeError
from oanix.scheduler.interpreters import INTERPRETERS, chosen

if TYPE_CHECKING:
    from oanix.cli.agent_bare import Ordered

EPILOG = """\b
Examples:
  oanix agent run hello.wasm                      its world is this directory, and no network
  oanix agent run script.js one two
  oanix agent run explain_code                    a kind that is installed
  oanix agent run --grant /cap/http fetch.wasm https://example.com/
  oanix agent run --dir data::/data sort.wasm /data/in.txt
  oanix agent ps
  oanix agent top
  oanix agent logs -f 7
  oanix agent kill 7"""

RUN_EPILOG = """\b
Examples:
  oanix agent run hello.wasm one two
  oanix agent run scaffold --help
  oanix agent run scaffold landing site --title Tea
  oanix agent run --interpreter quickjs script one two
  echo text | oanix agent run --limit cpu=1 --limit memory=64M count.wasm
  oanix agent run --grant /cap/http --grant /cap/nostr bot.wasm
  oanix agent run --world agent.ns --json build.wasm
  oanix agent run --dir src::/src --dir out::/out --env LANG=C tool.wasm /src

Limits: wall cpu fuel memory table files output written jobs (docs/man/jobs.md)."""

NAME_MAX = 200
"""Characters of the name of a job."""

_WRONG = (errno.EINVAL, errno.ENOEXEC)


@click.group(short_help="Run modules and scripts as agents.", epilog=EPILOG)
def agent() -> None:
    """Run modules and scripts whose only world is a namespace; watch, list and end them."""


@agent.command(short_help="Run a module or a script to its end.", epilog=RUN_EPILOG,
               context_settings={"ignore_unknown_options": True,
                                 "allow_interspersed_args": False})  # fmt: skip
@takes_at
@takes_directory
@click.option("--dir", "folders", metavar="HOST::GUEST", multiple=True,
              help="Give it this directory; with one, it has these and nothing else.")  # fmt: skip
@click.option("--bare", is_flag=True, help="Give it no directory: its standard files alone.")
@click.option("--env", metavar="NAME=VALUE", multiple=True, help="Set a variable for it.")
@click.option("--grant", metavar="PATH", multiple=True,
              help="Add a path of the namespace to its world, such as /cap/http.")  # fmt: skip
@click.option("--world", metavar="RECIPE", type=click.File("r", encoding="utf-8"),
              help="Make its world of the binds in this file.")  # fmt: skip
@click.option("--interpreter", metavar="NAME", default="",
              help=f"Run a script with this: {', '.join(INTERPRETERS)}.")  # fmt: skip
@click.option("--limit", metavar="NAME=VALUE", multiple=True, help="Set what it may use.")
@click.option("--name", metavar="TEXT", help="Call the job so.")
@click.option("--detach", is_flag=True, help="Print its number, and do not wait for its end.")
@click.option("--json", "as_json", is_flag=True, help="Print how it ended as JSON, at the end.")
@click.argument("module", metavar="MODULE|KIND", type=Runnable())
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(module: Installed | str, args: tuple[str, ...], **given: Any) -> None:
    """Run MODULE with ARGS. It ends with the module's code; 124 when its time was up.

    MODULE is a WebAssembly module, or a script whose suffix or #! line says what runs it; a name
    that is no file is that of a kind (`oanix agent list`), and KIND --help shows what it takes.
    """
    if given["world"] and given["grant"]:
        raise click.UsageError("--world says all that it gets; write `bind PATH PATH` there, and "
                               "leave out --grant")  # fmt: skip
    env = dict(_pair(one, "--env", "NAME=VALUE") for one in given["env"])
    limits: dict[str, object] = dict(_pair(one, "--limit", "NAME=VALUE") for one in given["limit"])
    if isinstance(module, Installed):
        if not asks_for_help(module, args):
            _check_text(*args, *given["env"])
            spec = order_of(module, args, given)
            with _told():
                run_work(run_job, {**spec, "env": env, "limits": limits}, given)
        return
    data, file = Path(module).read_bytes(), os.path.basename(module)
    name, said = given["name"] or printable(file), given["interpreter"]
    if given["folders"] or given["bare"]:
        if given["grant"] or given["world"] or given["at"] or given["directory"]:
            raise click.UsageError("--dir and --bare make a world of their own; leave out --grant, "
                                   "--world, --at and -C")  # fmt: skip
        from oanix.cli.agent_bare import Ordered

        ordered = Ordered(data=data, file=file, name=name, args=args, env=env, interpreter=said)
        with _told():
            _bare(ordered, given["folders"], limits, given["as_json"])
        return
    _check_text(*args, *given["env"])
    spec = {"args": list(args), "env": env, "limits": limits, "name": name}
    with _told():
        found = chosen(data, file, said)
        if found is not None:
            spec["interpreter"] = found.name
        run_work(run_job, spec, given, data, module if found is not None else "")


@contextmanager
def _told() -> Iterator[None]:
    """Say what was wrong with an order or a module, with the exit code for that."""
    try:
        yield
    except (OSError, BaseExceptionGroup) as group:
        error = single(group)
        if isinstance(error, RecipeError) or not isinstance(error, OSError):
            raise
        if error.errno not in _WRONG:
            raise
        raise Failure(sentence(error), "see docs/man/jobs.md", os.EX_DATAERR) from group


def _check_text(*words: str) -> None:
    """Refuse what an order, which is JSON, cannot say."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            said = "is no UTF-8, and so cannot be given to a job; --bare and --dir take any bytes"
            raise click.UsageError(f"'{escape(word)}' {said}") from None


def printable(file: str) -> str:
    """Give what a job is called by the name of its file, which may be any bytes."""
    return (file if file.isprintable() else escape_name(file))[:NAME_MAX]


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"{option} is written {form}, not {text!r}")
    return name, value


# With directories alone --------------------------------------------------------------------------


def _bare(
    ordered: "Ordered", folders: Sequence[str], limits: dict[str, object], as_json: bool
) -> None:
    from oanix.cli.agent_bare import Folder, run_bare
    from oanix.scheduler.limits import Limits

    given = []
    for folder in folders:
        host, colons, guest = folder.partition("::")
        if not os.path.isdir(host):
            raise Failure(f"{host} is no directory", "write --dir HOST::GUEST", os.EX_NOINPUT)
        given.append(Folder(os.path.abspath(host), guest if colons else host))
    ended = run_work(run_bare, ordered, given, Limits.parse(limits), Path(cache_folder()))
    reason = ended.limit or (f"trap {ended.trap}" if ended.trap else "")
    if as_json:
        print_json({"exit": ended.code, "reason": reason, "cpu": ended.used.cpu,
                    "wall": ended.used.wall, "memory": ended.used.memory})  # fmt: skip
    if ended.backtrace:
        complain(ended.backtrace)
    end(ended.code, reason)


# Watching ----------------------------------------------------------------------------------------


@agent.command(short_help="Show what a job has written.", epilog="""\b
Examples:
  oanix agent logs 7
  oanix agent logs -f --stderr 7""")  # fmt: skip
@takes_at
@takes_directory
@click.option("-f", "--follow", is_flag=True, help="Go on to its end.")
@click.option("--stderr", "errors", is_flag=True, help="Show the standard error instead.")
@click.argument("number", metavar="ID", type=click.IntRange(1), shell_complete=run_numbers)
def logs(number: int, at: str | None, directory: str | None, follow: bool, errors: bool) -> None:
    """Show what a job has written to its standard output."""
    name = "stderr" if errors else "stdout"
    path = f"/jobs/{number}/{name}" if follow else f"/logs/runs/{number}/{name}"
    run_work(_logs, at, directory, number, path)


async def _logs(at: str | None, directory: str | None, number: int, path: str) -> None:
    async with place(at, directory) as there:
        try:
            await show(there.tree, path, 1)
        except FileNotFoundError:
            raise _no_job(number) from None


@agent.command(short_help="End a job.", epilog="""\b
Examples:
  oanix agent kill 7
  oanix agent kill 7 TERM""")  # fmt: skip
@takes_at
@takes_directory
@click.argument("number", metavar="ID", type=click.IntRange(1), shell_complete=run_numbers)
@click.argument("signal", required=False, default="KILL")
def kill(number: int, signal: str, at: str | None, directory: str | None) -> None:
    """End a job, whatever it does; SIGNAL is only told."""
    run_work(_kill, at, directory, number, signal)


async def _kill(at: str | None, directory: str | None, number: int, signal: str) -> None:
    async with place(at, directory) as there:
        try:
            await there.tree.write(f"/jobs/{number}/ctl", f"kill {signal}\n")
        except FileNotFoundError:
            raise _no_job(number) from None
        except ProcessLookupError as error:
            raise Failure(sentence(error), "see it: oanix agent ps --all") from None


def _no_job(number: int) -> Failure:
    return Failure(f"there is no job {number}", "list them: oanix agent ps --all", os.EX_NOINPUT)


for _command in (ps, top, list_kinds, info, install, remove, pin):
    agent.add_command(_command)
