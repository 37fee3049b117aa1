"""`oanix ls`, `stat` and `tree`: names and attributes, with no mount."""

import grp
import pwd
import stat as modes
import time
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

import click
import trio

from oanix.cli.failures import Failed, tell
from oanix.cli.output import Out, complain, json_name
from oanix.cli.running import run_work
from oanix.cli.source import opened, takes_source
from oanix.client import Client
from oanix.stat import StatLike

if TYPE_CHECKING:
    from oanix.channel import Channel

LS_EPILOG = """\b
Examples:
  oanix ls                         what this directory's namespace has at its root
  oanix ls -l /workspace /logs
  oanix ls --json -n team.ns /"""

STAT_EPILOG = """\b
Examples:
  oanix stat /workspace/README.md
  oanix stat --json /dev/null | jq .mode"""

TREE_EPILOG = """\b
Examples:
  oanix tree -L 2
  oanix tree -C ~/project /workspace/src"""

KINDS = {
    modes.S_IFREG: "regular file",
    modes.S_IFDIR: "directory",
    modes.S_IFLNK: "symbolic link",
    modes.S_IFIFO: "fifo",
    modes.S_IFSOCK: "socket",
    modes.S_IFCHR: "character device",
    modes.S_IFBLK: "block device",
}


class _Errors:
    """Says what went wrong with each path, and that something did."""

    def __init__(self) -> None:
        self.failed = False

    def add(self, error: OSError, path: str) -> None:
        if error.filename is None or not str(error.filename).startswith("/"):
            error.filename = path
        for line in tell(error)[0]:
            complain(line)
        self.failed = True

    def end(self) -> None:
        if self.failed:
            raise Failed


@click.command(short_help="List directories.", epilog=LS_EPILOG)
@takes_source
@click.option("-l", "long", is_flag=True, help="Show modes, owners, sizes and times.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
def ls(
    recipe: str | None, directory: str | None, long: bool, as_json: bool, paths: tuple[str, ...]
) -> None:
    """List directories of a namespace, names in order, one a line.

    Every name is listed, also those that begin with a dot.
    """

    async def run() -> None:
        out, errors = Out(), _Errors()
        async with opened(recipe, directory) as client:
            listings = _listings(client, paths or ("/",), errors)
            if as_json:
                out.json([_json(client, path) for _, files in listings for path in files])
            else:
                _print(out, client, listings, long)
        errors.end()

    run_work(run)


Listing = tuple[str | None, list[str]]
"""A directory and the paths of its files; None and a path for what is no directory."""


def _listings(client: Client, paths: tuple[str, ...], errors: _Errors) -> list[Listing]:
    found: list[Listing] = []
    for path in paths:
        try:
            channel = client.channel(path)
            if channel.is_directory:
                names = sorted(channel.readdir(client.caller))
                top = channel.path.rstrip("/")
                found.append((path, [f"{top}/{name}" for name in names]))
            else:
                found.append((None, [path]))
        except OSError as error:
            errors.add(error, path)
    return found


def _print(out: Out, client: Client, listings: list[Listing], long: bool) -> None:
    for number, (directory, files) in enumerate(listings):
        if directory is not None and len(listings) > 1:
            if number:
                out.line()
            out.line(out.name(directory) + b":")
        shown = [(path, path if directory is None else path.rpartition("/")[2]) for path in files]
        if long:
            _print_long(out, client, shown)
        else:
            for _, name in shown:
                out.line(out.name(name))


def _print_long(out: Out, client: Client, shown: list[tuple[str, str]]) -> None:
    rows = []
    for path, name in shown:
        stat = _lstat(client, path)
        if stat is None:
            rows.append(("??????????", "?", "?", "?", "?", "?", out.name(name)))
            continue
        written = out.name(name)
        if modes.S_ISLNK(stat.st_mode):
            written += b" -> " + out.name(client.readlink(path))
        rows.append((
            modes.filemode(stat.st_mode), str(stat.st_nlink), _user(stat.st_uid),
            _group(stat.st_gid), str(stat.st_size), _when(stat.st_mtime_ns), written,
        ))  # fmt: skip
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(6)]
    for mode, links, user, group, size, when, written in rows:
        cells = (
            mode, links.rjust(widths[1]), user.ljust(widths[2]), group.ljust(widths[3]),
            size.rjust(widths[4]), when.ljust(widths[5]),
        )  # fmt: skip
        out.line(*cells, written)


def _lstat(client: Client, path: str) -> StatLike | None:
    # A name may vanish between the listing and the look.
    try:
        return client.stat(path, follow=False)
    except OSError:
        return None


@cache
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@cache
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _when(nanoseconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(nanoseconds / 1e9))
    except (OverflowError, ValueError, OSError):
        return f"@{nanoseconds // 1_000_000_000}"


def _json(client: Client, path: str) -> dict[str, object]:
    found: dict[str, object] = {
        **json_name("name", path.rpartition("/")[2] or "/"),
        **json_name("path", path),
    }
    stat = _lstat(client, path)
    if stat is None:
        return found
    found |= {
        "type": KINDS.get(modes.S_IFMT(stat.st_mode), "unknown"),
        "mode": f"{modes.S_IMODE(stat.st_mode):04o}",
        "nlink": stat.st_nlink,
        "uid": stat.st_uid,
        "gid": stat.st_gid,
        "size": stat.st_size,
        "blocks": stat.st_blocks,
        "atime_ns": stat.st_atime_ns,
        "mtime_ns": stat.st_mtime_ns,
        "ctime_ns": stat.st_ctime_ns,
    }
    if modes.S_ISLNK(stat.st_mode):
        found |= json_name("target", client.readlink(path))
    return found


@click.command(short_help="Show attributes.", epilog=STAT_EPILOG)
@takes_source
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
def stat(recipe: str | None, directory: str | None, as_json: bool, paths: tuple[str, ...]) -> None:
    """Show the attributes of files of a namespace, and through which mount they are seen.

    A symbolic link is not followed.
    """

    async def run() -> None:
        out, errors, found = Out(), _Errors(), []
        async with opened(recipe, directory) as client:
            for path in paths:
                try:
                    entry = client.channel(path, follow=False).entry
                    shown = _json(client, path)
                except OSError as error:
                    errors.add(error, path)
                    continue
                shown |= {"service": entry.service.name, "access": entry.access.value}
                found.append((path, shown))
        if as_json:
            out.json([shown for _, shown in found])
        else:
            _print_stats(out, found)
        errors.end()

    run_work(run)


def _print_stats(out: Out, found: list[tuple[str, dict[str, object]]]) -> None:
    for number, (path, shown) in enumerate(found):
        if number:
            out.line()
        out.line(b"path     " + out.name(path))
        for key, value in shown.items():
            if key.endswith("_ns") and isinstance(value, int):
                seconds, rest = divmod(value, 1_000_000_000)
                out.line(f"{key[:-3]:8} {_when(value)} (@{seconds}.{rest:09d})")
            elif not key.startswith(("name", "path")):
                out.line(f"{key:8} ".encode() + out.name(str(value)))


@click.command(short_help="Draw a directory tree.", epilog=TREE_EPILOG)
@takes_source
@click.option("-L", "levels", type=click.IntRange(min=1), metavar="N", help="Go N levels deep.")
@click.argument("path", default="/")
def tree(recipe: str | None, directory: str | None, levels: int | None, path: str) -> None:
    """Draw a directory of a namespace and all beneath it; symbolic links are not followed."""

    async def run() -> None:
        out, errors = Out(), _Errors()
        async with opened(recipe, directory) as client:
            out.line(out.name(path))
            counts = [0, 0]
            for lead, name, is_directory in _walk(client, path, levels, errors):
                out.line(lead.encode() + out.name(name))
                counts[is_directory] += 1
                if is_directory:
                    # Nothing in a tree waits; Ctrl-C ends a large one nevertheless.
                    await trio.lowlevel.checkpoint()
            out.line()
            out.line(f"{_count(counts[1], 'directory', 'directories')}, "
                     f"{_count(counts[0], 'file', 'files')}")  # fmt: skip
        errors.end()

    run_work(run)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _walk(
    client: Client, path: str, levels: int | None, errors: _Errors
) -> Iterator[tuple[str, str, bool]]:
    # Neither recursive nor by whole paths: there may be thousands of components.
    def names_of(channel: "Channel") -> list[str]:
        try:
            return sorted(channel.readdir(client.caller), reverse=True)
        except OSError as error:
            errors.add(error, channel.path)
            return []

    top = client.channel(path)
    stack = [("", top, names_of(top))]
    while stack:
        lead, here, names = stack[-1]
        if not names:
            stack.pop()
            continue
        name = names.pop()
        last = not names
        try:
            channel, stat = here.lookup(client.caller, name)
            arrow = f" -> {channel.readlink(client.caller)}" if channel.is_symlink else ""
        except OSError as error:
            errors.add(error, f"{here.path.rstrip('/')}/{name}")
            continue
        is_directory = modes.S_ISDIR(stat.st_mode)
        yield lead + ("└── " if last else "├── "), name + arrow, is_directory
        if is_directory and (levels is None or len(stack) < levels):
            stack.append((lead + ("    " if last else "│   "), channel, names_of(channel)))
