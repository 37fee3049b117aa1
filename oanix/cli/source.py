"""Source: which namespace a command is about, `-n RECIPE` or `-C DIR`, and how it is opened."""

import os
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any, TypeVar

import click
from attrs import frozen

from oanix.assembly import (
    Context,
    default_lines,
    load,
    place,
    uses_secrets,
    workspace_state,
)
from oanix.caller import Caller
from oanix.cli.failures import Failure, sentence
from oanix.client import Client
from oanix.env import OanixEnv, state_folder
from oanix.env.state import make_state
from oanix.journal import JournalPlace
from oanix.recipe import RecipeError

if TYPE_CHECKING:
    from oanix.lib.vault import Key
    from oanix.recipe import Placed

PATIENCE_S = 5.0
"""How long a command waits for another that holds the same state and will soon end."""

F = TypeVar("F", bound=Callable[..., Any])


@frozen
class Source:
    """A recipe that was read, and what people call it: the path of its file or directory."""

    lines: "list[Placed]"
    context: Context
    called: str
    state: str
    journal: JournalPlace


def source_of(recipe: str | None, directory: str | None) -> Source:
    """Read the recipe that a command names, or make that of its directory.

    Raises RecipeError, and Failure when a file or directory cannot be used.
    """
    state = state_folder()
    if recipe is not None and directory is not None:
        raise click.UsageError("give a recipe or a directory; a recipe names its own directories")
    if recipe is not None:
        lines, context = read(recipe)
        called = "standard input" if recipe == "-" else os.path.abspath(recipe)
        return Source(lines, context, called, state, JournalPlace.of_recipe(state, called))
    if directory == "":
        # As from a variable that is not set: what is not named must not be served.
        raise click.UsageError("the directory is empty; write . for this one")
    directory = directory or "."
    if not os.path.isdir(directory):
        what = "is no directory" if os.path.lexists(directory) else "does not exist"
        raise Failure(f"{directory} {what}", "make it, or correct the path", os.EX_NOINPUT)
    called = os.path.abspath(directory)
    journal = JournalPlace.of_workspace(state, workspace_state(state, called))
    return Source(place(default_lines(called, state)), Context(called), called, state, journal)


def key_of(source: Source, *, ask: bool, mountpoint: str = "") -> "Key | None":
    """Get the key of the vault, for a recipe that uses secrets; see `key_for_server`."""
    if not uses_secrets(source.lines):
        return None
    # Its libraries are not loaded for a namespace without secrets.
    from oanix.cli.passphrase import key_for_server, open_vault

    make_state(source.state)
    with closing(open_vault()) as vault:
        return key_for_server(
            vault, ask=ask, mountpoint=shlex.quote(mountpoint) if mountpoint else "MOUNTPOINT"
        )


def read(recipe: str) -> "tuple[list[Placed], Context]":
    """Read a recipe's file. Raises RecipeError, and Failure for what cannot be read."""
    if not recipe:
        raise click.UsageError("the recipe is empty; write the path of its file")
    try:
        return load(recipe)
    except RecipeError:
        raise
    except OSError as error:
        # open(2) names the file in its error, read(2) does not.
        error.filename = error.filename or recipe
        raise Failure(
            f"cannot read the recipe {sentence(error)}",
            "write the path of a recipe's file, or - for the standard input",
            os.EX_NOINPUT,
        ) from None


def takes_source(command: F) -> F:
    """Give a command the options -n and -C."""
    command = click.option(
        "-C", "directory", metavar="DIR", help="Use the default namespace of DIR (default: here)."
    )(command)
    return click.option(
        "-n",
        "recipe",
        metavar="RECIPE",
        help="Use the namespace of a recipe; - reads it from stdin.",
    )(command)


@asynccontextmanager
async def opened(recipe: str | None, directory: str | None) -> AsyncIterator[Client]:
    """Run the namespace in this process, with no mount, for as long as the block."""
    source = source_of(recipe, directory)
    async with OanixEnv.open(
        source.lines, source.context, state=source.state, patience_s=PATIENCE_S,
        key=key_of(source, ask=False), journal=source.journal,
    ) as env:  # fmt: skip
        yield Client(env.namespace, _user())


def _user() -> Caller:
    # What is written here is signed with the same names as what goes through a mount.
    return Caller(
        uid=os.geteuid(), gid=os.getegid(), groups=tuple(os.getgroups()), pid=os.getpid(),
        session=str(os.getsid(0)), door="client",
    )  # fmt: skip
