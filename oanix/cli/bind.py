"""`oanix bind` and `oanix unbind`: change a mounted namespace."""

import click

from oanix.cli.complete import mountpoints
from oanix.cli.live import change, checked, find_mount
from oanix.recipe import Bind, Unmount, no_option
from oanix.table import Access

BIND_EPILOG = """\b
Examples:
  oanix bind ~/mnt /workspace/src /src          a second name
  oanix bind ~/mnt /workspace /workspace ro     read-only from now on
  oanix bind -b -c ~/mnt /dist /workspace/out   a union; new files go to /dist"""

UNBIND_EPILOG = """\b
Examples:
  oanix unbind ~/mnt /src"""


@click.command(short_help="Give a path of a mount one more name.", epilog=BIND_EPILOG)
@click.option("-b", "before", is_flag=True, help="Show SOURCE before what is at TARGET.")
@click.option("-a", "after", is_flag=True, help="Show SOURCE after what is at TARGET.")
@click.option("-c", "create", is_flag=True, help="New names at TARGET are made in SOURCE.")
@click.argument("mountpoint", shell_complete=mountpoints)
@click.argument("source")
@click.argument("target")
@click.argument("rights", metavar="[ro|append] [OPTION=VALUE]...", nargs=-1)
def bind(
    before: bool,
    after: bool,
    create: bool,
    mountpoint: str,
    source: str,
    target: str,
    rights: tuple[str, ...],
) -> None:
    """Show at TARGET what SOURCE shows, in the namespace at MOUNTPOINT.

    SOURCE and TARGET are paths of the namespace, as /workspace. Without -b or -a, SOURCE takes the
    place of what was at TARGET. Only the mounted namespace changes, not the recipe it came from.
    """
    if before and after:
        raise click.UsageError("-b and -a exclude each other")
    access, options = _rights(rights)
    where = "-b" if before else "-a" if after else ""
    line = checked(Bind(source, target, where, create, access, options)).line
    change(find_mount(mountpoint), line)


def _rights(words: tuple[str, ...]) -> tuple[Access, dict[str, str]]:
    access, options = Access.RW, {}
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if not number and word in ("ro", "append", "rw"):
            access = Access(word)
        elif not equals or not name:
            raise click.UsageError(no_option(word))
        elif name in options:
            raise click.UsageError(f"the option {name!r} is given twice")
        else:
            options[name] = value
    return access, options


@click.command(short_help="Take a path out of a mount.", epilog=UNBIND_EPILOG)
@click.argument("mountpoint", shell_complete=mountpoints)
@click.argument("path")
def unbind(mountpoint: str, path: str) -> None:
    """Take away what is mounted or bound at PATH in the namespace at MOUNTPOINT."""
    line = checked(Unmount(path)).line
    change(find_mount(mountpoint), line)
