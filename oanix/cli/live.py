"""Live: a namespace that is mounted, as its own files under the mount point show and change it."""

import errno
import os
import re

import click

from oanix.cli.failures import Failure, sentence
from oanix.env import Run, runs, state_folder
from oanix.recipe import Line, Placed, format_recipe, parse

ERRORS_MAX = 65_536

_SENTENCE = re.compile(r"write /proc/self/ctl: (?:ctl:\d+:\d+: )?(.*)")
"""What the server says of a line that it could not do; where it stood is known here."""


def find_mount(path: str) -> str:
    """Give the mount point of the namespace that a path lies in.

    Raises Failure when the path is in none, or its server is gone.
    """
    from mounts import stale

    if not path:
        raise click.UsageError("the mount point is empty")
    here = mount_around(path)
    if here is None:
        raise Failure(f"no namespace is mounted at {path}", mounted_now())
    if stale.is_dead(here):
        raise Failure(f"the server of {here} is gone", f"clear it: oanix unmount {here}")
    return here


def mount_around(path: str) -> str | None:
    """Give the mount point of the namespace that a path lies in, if it does."""
    from mounts import stale

    here = os.path.realpath(path)
    while True:
        mounted = stale.find(here)
        if mounted is not None and mounted.kind == stale.TYPE:
            return here
        if here == "/":
            return None
        here = os.path.dirname(here)


def mounted_now() -> str:
    """Say which mount points could have been meant."""
    known = ", ".join(run.mountpoint for run in runs(state_folder()))
    return f"mounted now: {known or 'none'}"


def followed(mountpoint: str) -> str:
    """Give a mount point as the kernel lists it, also when a symbolic link leads to it.

    One whose server is gone cannot be looked at: islink then says no, and it is taken as it is.
    """
    link = os.path.islink(mountpoint)
    return os.path.realpath(mountpoint) if link else os.path.abspath(mountpoint)


def run_at(mountpoint: str) -> Run | None:
    """Find what the server of a mount point says of itself."""
    real = os.path.realpath(mountpoint)
    return next((r for r in runs(state_folder()) if os.path.realpath(r.mountpoint) == real), None)


def read_recipe(mountpoint: str) -> str:
    """Read the recipe of a mounted namespace."""
    try:
        with open(f"{mountpoint}/proc/self/ns", "rb") as file:
            return file.read().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        # A namespace need not have /proc; its server knows all the same.
        run = run_at(mountpoint)
        if run is None:
            raise _no_proc(mountpoint, "ns") from None
        return run.recipe


def change(mountpoint: str, line: Line) -> None:
    """Do a line of a recipe in a mounted namespace.

    Raises Failure with the sentence of the server, or as it can be told here.
    """
    written = format_recipe([line])
    try:
        control = os.open(f"{mountpoint}/proc/self/ctl", os.O_WRONLY)
    except FileNotFoundError:
        raise _no_proc(mountpoint, "ctl") from None
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        raise Failure(
            f"the namespace at {mountpoint} is mounted read-only, so it cannot be changed",
            "unmount it and mount it again without ro; a recipe can say ro for single paths",
            os.EX_NOPERM,
        ) from None
    try:
        os.write(control, os.fsencode(written))
    except OSError as error:
        said = _last_error(mountpoint) or sentence(error)
        raise Failure(
            said, f"the line was: {written.strip()}", _CODES.get(error.errno or 0, 1)
        ) from error
    finally:
        os.close(control)


_CODES = {errno.EPERM: os.EX_NOPERM, errno.EACCES: os.EX_NOPERM, errno.EINVAL: os.EX_DATAERR}


def checked(line: Line) -> Placed:
    """Read a line as the server will, so that a mistake is shown before anything is written."""
    return parse(format_recipe([line]), "command line")[0]


def _last_error(mountpoint: str) -> str:
    try:
        with open(f"{mountpoint}/dev/errstr", "rb") as file:
            lines = file.read(ERRORS_MAX).decode("utf-8", "backslashreplace").splitlines()
    except OSError:
        # Not every namespace has /dev; the errno then has to say it all.
        return ""
    # Another program of the session may have failed at something else meanwhile.
    told = _SENTENCE.fullmatch(lines[-1]) if lines else None
    return told[1] if told else ""


def _no_proc(mountpoint: str, name: str) -> Failure:
    return Failure(
        f"the namespace at {mountpoint} has no /proc/self/{name}",
        "add `mount proc /proc` to its recipe",
    )
