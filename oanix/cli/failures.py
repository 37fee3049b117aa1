"""Failures: what a command says when it could not do its work, and the exit code that follows."""

import errno
import os
import signal
from typing import Final

import click

from oanix.cli.output import escape
from oanix.env import Busy
from oanix.errors import Denied
from oanix.recipe import RecipeError

FAILED: Final = 1
"""The operation failed, as with every Unix tool."""

INTERRUPTED: Final = 128 + signal.SIGINT
BROKEN_PIPE: Final = 128 + signal.SIGPIPE


class Failure(Exception):
    """A command failed: one sentence, what to do about it, and the exit code (sysexits.h)."""

    def __init__(self, sentence: str, remedy: str = "", code: int = FAILED) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy
        self.code = code


class Failed(Exception):
    """A command failed and has said why already."""

    def __init__(self, code: int = FAILED) -> None:
        super().__init__()
        self.code = code


def single(error: BaseException) -> BaseException:
    """Take an error out of the groups that nurseries put around it, when it is the only one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def tell(error: BaseException) -> tuple[list[str], int]:
    """Give the lines that say what went wrong, and the exit code."""
    error = single(error)
    if isinstance(error, Failed):
        return [], error.code
    if isinstance(error, Failure):
        lines = [f"oanix: {escape(error.sentence)}"]
        return [*lines, f"  {escape(error.remedy)}"] if error.remedy else lines, error.code
    if isinstance(error, click.UsageError):
        return _usage(error), error.exit_code
    if isinstance(error, BrokenPipeError):
        return [], BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return [], INTERRUPTED
    if isinstance(error, BaseExceptionGroup):
        if error.subgroup(KeyboardInterrupt):
            return [], INTERRUPTED
        # Several at once: each says its own, and the first decides.
        each = [tell(one) for one in error.exceptions]
        return [line for lines, _ in each for line in lines][:4], each[0][1]
    if isinstance(error, Denied):
        told = [f"oanix: {escape(sentence(error))}", f"  refused by {escape(error.rule)}"]
        return [*told, f"  what would allow it: {escape(error.remedy)}"], FAILED
    if isinstance(error, OSError) and error.errno:
        return [f"oanix: {escape(sentence(error))}"], _code(error)
    said = f": {error}" if str(error) else ""
    return [
        f"oanix: internal error: {type(error).__name__}{escape(said)}",
        "  run it again as `oanix --debug …` and report what it shows",
    ], os.EX_SOFTWARE


def sentence(error: OSError) -> str:
    """Write an OSError as one sentence with the path that it is about."""
    said = error.strerror or errno.errorcode.get(error.errno or 0, "unknown error")
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    return said if not name or name in said else f"{name}: {said}"


def _code(error: OSError) -> int:
    if isinstance(error, RecipeError):
        return os.EX_DATAERR
    return os.EX_TEMPFAIL if isinstance(error, Busy) else FAILED


def _usage(error: click.UsageError) -> list[str]:
    path = error.ctx.command_path if error.ctx else "oanix"
    return [f"oanix: {escape(error.format_message())}", f"  {path} --help shows how it is used"]
