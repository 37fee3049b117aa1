"""Nostr tree: the files of /cap/nostr in a mounted namespace, as a command uses them."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import click
from attrs import frozen
from click.shell_completion import CompletionItem

from oanix.cli.complete import mountpoints
from oanix.cli.failures import Failure, sentence
from oanix.cli.live import ERRORS_MAX, find_mount, mounted_now
from oanix.env import runs, state_folder

PLACE = "cap/nostr"
CHUNK = 1 << 20
"""Bytes that are read at a time: who reads little at a time falls behind."""

_SENTENCE = re.compile(r"\w+ (/.*?): (.*)")
_CODES = {
    errno.EPERM: os.EX_NOPERM, errno.EACCES: os.EX_NOPERM, errno.EINVAL: os.EX_DATAERR,
    errno.ENOTCONN: os.EX_UNAVAILABLE, errno.EHOSTUNREACH: os.EX_UNAVAILABLE,
    errno.ETIMEDOUT: os.EX_TEMPFAIL, errno.EAGAIN: os.EX_TEMPFAIL,
}  # fmt: skip


def _places(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return mountpoints(ctx, param, incomplete)


takes_at = click.option(
    "--at", metavar="PATH", shell_complete=_places,
    help="Use this mount, or this folder of it (default: the one there is).",
)  # fmt: skip


@frozen
class Tree:
    """Where the files are: the folder, the mount point above it, and its path beneath that."""

    folder: str
    mountpoint: str

    @classmethod
    def find(cls, at: str | None) -> "Tree":
        """Find it: at a path, else in the mount one is in, else in the only one. Raises Failure."""
        mountpoint = _mount() if at is None else find_mount(at)
        if at is not None and _is_tree(at):
            return cls(os.path.realpath(at), mountpoint)
        folder = os.path.join(mountpoint, PLACE)
        if not _is_tree(folder):
            raise Failure(
                f"the namespace at {mountpoint} has no /{PLACE}",
                f"add `mount nostr /{PLACE}` to its recipe, or say where it is: --at PATH",
            )
        return cls(folder, mountpoint)

    def path(self, *names: str) -> str:
        """Give the path of one of its files."""
        return os.path.join(self.folder, *names)

    @property
    def within(self) -> str:
        """Its path in the namespace."""
        return "/" + os.path.relpath(self.folder, self.mountpoint)

    def read(self, *names: str) -> bytes:
        """Read a file. Raises Failure with what the server says."""
        with self.told(), open(self.path(*names), "rb", buffering=0) as file:
            return b"".join(iter(lambda: file.read(CHUNK), b""))

    def write(self, text: str, *names: str) -> None:
        """Write a line to a file. Raises Failure with what the server says."""
        with self.told(), self.opened(os.O_WRONLY, *names) as descriptor:
            write_all(descriptor, f"{text}\n".encode())

    @contextmanager
    def opened(self, flags: int, *names: str) -> Iterator[int]:
        """Open a file for as long as the block."""
        descriptor = os.open(self.path(*names), flags | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn an error of its files into a Failure, with the sentence of the server."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self.failure(error) from error

    def failure(self, error: OSError) -> Failure:
        """Make the Failure of an error: FUSE carries the number alone."""
        said = self._said()
        remedy = self._remedy(said) if said and error.errno == errno.EACCES else ""
        return Failure(said or sentence(error), remedy, _CODES.get(error.errno or 0, 1))

    def _lines(self, name: str) -> list[str]:
        try:
            with open(os.path.join(self.mountpoint, "dev", name), "rb") as file:
                return file.read(ERRORS_MAX).decode("utf-8", "backslashreplace").splitlines()
        except OSError:
            # Not every namespace has /dev; the errno then has to say it all.
            return []

    def _remedy(self, said: str) -> str:
        """Give what would allow what was refused with these words."""
        lines = self._lines("why")
        if not any(line.startswith("because ") and said in line for line in lines):
            return ""
        allows = [line for line in lines if line.startswith("allow-with ")]
        return f"what would allow it: {allows[-1].removeprefix('allow-with ')}" if allows else ""

    def _said(self) -> str:
        lines = self._lines("errstr")
        found = _SENTENCE.fullmatch(lines[-1]) if lines else None
        # Another program of the session may have failed at something else meanwhile.
        return found[2] if found and found[1].startswith(f"{self.within}/") else ""


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it: a write that takes several lines may end before one that fails."""
    while data:
        data = data[os.write(descriptor, data) :]


def _mount() -> str:
    try:
        return find_mount(".")
    except Failure:
        known = [run.mountpoint for run in runs(state_folder())]
    if len(known) != 1:
        remedy = mounted_now() if known else "mount one: oanix mount --daemon DIR MOUNTPOINT"
        said = "say which mount: --at PATH" if known else "nothing is mounted"
        raise Failure(said, remedy, os.EX_USAGE if known else 1)
    return find_mount(known[0])


def _is_tree(folder: str) -> bool:
    return all(os.path.exists(os.path.join(folder, name)) for name in ("npub", "publish"))
