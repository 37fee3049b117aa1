"""`oanix unmount`: end a mount."""

import errno
import os
import select

import click

from oanix.cli.complete import mountpoints
from oanix.cli.failures import Failure, sentence
from oanix.cli.live import followed, mounted_now, run_at

EPILOG = """\b
Examples:
  oanix unmount ~/mnt
  oanix unmount --lazy ~/mnt       also while a program works in it"""

WAIT_S = 10.0
"""How long a server may take to end after its mount is gone."""


@click.command(short_help="End a mount.", epilog=EPILOG)
@click.option(
    "--lazy", is_flag=True, help="Take it away now; it ends when nobody uses it any more."
)
@click.argument("mountpoint", shell_complete=mountpoints)
def unmount(lazy: bool, mountpoint: str) -> None:
    """Undo the mount at MOUNTPOINT and wait until its server has ended.

    A mount whose server was killed is cleared as well.
    """
    from mounts import stale

    if not mountpoint:
        raise click.UsageError("the mount point is empty")
    mountpoint = followed(mountpoint)
    server = None if lazy else _server(mountpoint)
    try:
        stale.unmount(mountpoint, lazy=lazy)
        if server is not None:
            # The last it does is for its state: whoever removes that comes after it.
            select.select([server], [], [], WAIT_S)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise Failure(sentence(error), mounted_now()) from None
    finally:
        if server is not None:
            os.close(server)


def _server(mountpoint: str) -> int | None:
    """Give a descriptor of the process that serves a mount, if it lives (pidfd_open(2))."""
    run = run_at(mountpoint)
    try:
        return None if run is None else os.pidfd_open(run.pid)
    except ProcessLookupError:
        return None
