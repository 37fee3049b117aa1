"""`oanix cat` and `oanix write`: the content of files, with no mount."""

import errno
import os
import sys

import click
import trio

from oanix.cli.failures import Failed, Failure, sentence, single, tell
from oanix.cli.output import Out, complain
from oanix.cli.running import run_work
from oanix.cli.source import opened, takes_source
from oanix.client import CHUNK, Client

CAT_EPILOG = """\b
Examples:
  oanix cat /workspace/README.md
  oanix cat /logs/stdout.log | tail
  oanix cat -n team.ns /proc/self/ns"""

WRITE_EPILOG = """\b
Examples:
  echo hello | oanix write /workspace/hello.txt
  echo '{"event":"deploy"}' | oanix write --append /logs/events.jsonl"""


@click.command(short_help="Print files.", epilog=CAT_EPILOG)
@takes_source
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
def cat(recipe: str | None, directory: str | None, paths: tuple[str, ...]) -> None:
    """Print files of a namespace, one after the other.

    A file without an end is printed as it comes, until Ctrl-C.
    """
    run_work(_cat, recipe, directory, paths)


async def _cat(recipe: str | None, directory: str | None, paths: tuple[str, ...]) -> None:
    out = Out()
    failed = False
    async with opened(recipe, directory) as client:
        for path in paths:
            try:
                await _copy(client, path, out)
            except BrokenPipeError:
                raise
            except OSError as error:
                _say(error, path)
                failed = True
    if failed:
        raise Failed


async def _copy(client: Client, path: str, out: Out) -> None:
    async with client.open(path) as file:
        async for piece in file:
            out.write(piece)


def _say(error: OSError, path: str) -> None:
    if error.filename is None:
        error.filename = path
    for line in tell(single(error))[0]:
        complain(line)


@click.command(short_help="Write a file from stdin.", epilog=WRITE_EPILOG)
@takes_source
@click.option("--append", is_flag=True, help="Write at the end, and keep what is there.")
@click.argument("path")
def write(recipe: str | None, directory: str | None, append: bool, path: str) -> None:
    """Write the standard input to a file of a namespace, which is made if need be.

    An append-only file, such as a log, takes --append alone.
    """
    run_work(_write, recipe, directory, path, append)


async def _write(recipe: str | None, directory: str | None, path: str, append: bool) -> None:
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
    async with opened(recipe, directory) as client:
        try:
            async with client.open(path, flags) as file:
                while piece := await trio.to_thread.run_sync(_some_input, abandon_on_cancel=True):
                    await file.write(piece)
        except OSError as error:
            error.filename = error.filename or path
            if error.errno != errno.EPERM or append:
                raise
            # The sentence is for shells, which have >> in place of our option.
            remedy = f"a file that is append-only takes: oanix write --append {path}"
            raise Failure(sentence(error), remedy) from error


def _some_input() -> bytes:
    # As much as has come. Not through the buffer of sys.stdin: a thread that is left behind in it
    # would keep the interpreter from ending.
    try:
        descriptor = sys.stdin.fileno()
    except OSError:
        return sys.stdin.buffer.read(CHUNK)
    return os.read(descriptor, CHUNK)
