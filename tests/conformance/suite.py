"""The acceptance suite as a library: one table of cases, run through every door.

A *door* is a way to the files of a tree (`Door`); a *case* is a function that uses one and asserts
what Linux promises. `run(case, door)` does one case in a folder of its own; `table(columns)` writes
what came of several doors, one column a door. A door says what it can do (`Capability`): cases that
need more are not run, so each door is tested with the list that it must have, not the one it has.

Paths are str with surrogateescape, as in `oanix.path`. A relative path is in the case's own folder,
one with `/` before it at the top of the door. Where the door's tree is a namespace, `arrange` puts
mounts at its top for the cases that need Capability.NAMESPACE.
"""

import errno
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Protocol

from attrs import define, frozen

from oanix.client import Client
from oanix.namespace import Namespace, Where
from oanix.stat import StatLike
from oanix.table import Access


class Capability(Enum):
    """What not every tree can do."""

    SYMLINKS = "symbolic links"
    HARD_LINKS = "hard links"
    XATTRS = "extended attributes"
    CHMOD = "modes"
    CHOWN = "owners"
    TIMES = "times"
    TRUNCATE = "sizes set"
    RANDOM_WRITE = "writes anywhere"
    RENAME = "renames"
    RENAME_FLAGS = "renames that exchange or do not replace"
    REMOVE = "removals"
    DIRECTORIES = "directories made"
    UNLINKED = "files used after their last name went"
    STATVFS = "figures of the storage"
    NAMESPACE = "mounts at its top"


POSIX = frozenset(Capability) - {Capability.NAMESPACE}
"""What a tree of Linux can do."""


class Door(Protocol):
    """A way to the files of a tree. Every method raises OSError as the Linux call of its name."""

    folder: str
    """Where relative paths begin."""

    def open(self, path: str, flags: int, mode: int = 0o644) -> int: ...
    def close(self, fd: int) -> None: ...
    def read(self, fd: int, size: int) -> bytes: ...
    def pread(self, fd: int, size: int, offset: int) -> bytes: ...
    def write(self, fd: int, data: bytes) -> int: ...
    def pwrite(self, fd: int, data: bytes, offset: int) -> int: ...
    def lseek(self, fd: int, offset: int, whence: int) -> int: ...
    def ftruncate(self, fd: int, size: int) -> None: ...
    def fsync(self, fd: int) -> None: ...
    def fstat(self, fd: int) -> StatLike: ...
    def stat(self, path: str, *, follow: bool = True) -> StatLike: ...
    def same(self, one: str, other: str) -> bool: ...
    def listdir(self, path: str) -> list[str]: ...
    def mkdir(self, path: str, mode: int = 0o755) -> None: ...
    def rmdir(self, path: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def rename(self, source: str, target: str, flags: int = 0) -> None: ...
    def link(self, source: str, path: str) -> None: ...
    def symlink(self, target: str, path: str) -> None: ...
    def readlink(self, path: str) -> str: ...
    def chmod(self, path: str, mode: int) -> None: ...
    def chown(self, path: str, uid: int, gid: int) -> None: ...
    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None: ...
    def truncate(self, path: str, size: int) -> None: ...
    def getxattr(self, path: str, name: str) -> bytes: ...
    def setxattr(self, path: str, name: str, value: bytes) -> None: ...
    def listxattr(self, path: str) -> list[str]: ...
    def removexattr(self, path: str, name: str) -> None: ...
    def statvfs(self, path: str) -> tuple[int, int, int]:
        """Give the block size, the blocks, and the blocks free."""

    def settle(self) -> None:
        """Close what a case left open."""


@frozen
class Case:
    """One promise, and what a door must be able to do for it to be tried."""

    name: str
    needs: frozenset[Capability]
    function: Callable[[Door], None]


SOON_S = 5.0
"""How long a change may take from one view of a file to another."""

CASES: dict[str, Case] = {}
"""Every case by its name; filled by the modules of cases."""


def case(*needs: Capability) -> Callable[[Callable[[Door], None]], Callable[[Door], None]]:
    """Put a function into the table, under its name."""

    def add(function: Callable[[Door], None]) -> Callable[[Door], None]:
        name = function.__name__
        assert name not in CASES, f"two cases are named {name}"
        CASES[name] = Case(name, frozenset(needs), function)
        return function

    return add


def applicable(capabilities: Collection[Capability]) -> list[Case]:
    """List the cases that a door with these capabilities must pass."""
    return [one for one in CASES.values() if one.needs <= frozenset(capabilities)]


def run(one: Case, door: Door) -> None:
    """Do one case in a new folder at the top of the door. Raises what the case raises."""
    door.folder = "/" + one.name
    door.mkdir(door.folder)
    try:
        one.function(door)
    finally:
        door.settle()


@define
class Column:
    """What came of one door: its capabilities, and for each case "" or what went wrong."""

    door: str
    capabilities: frozenset[Capability]
    outcomes: dict[str, str]
    differences: Mapping[str, str]


def column(
    name: str,
    door: Door,
    capabilities: Collection[Capability],
    differences: Mapping[str, str] | None = None,
) -> Column:
    """Run every case that applies. differences: the standard that forces another end, by case."""
    outcomes = {}
    for one in applicable(capabilities):
        try:
            run(one, door)
            outcomes[one.name] = ""
        except (AssertionError, OSError) as error:
            outcomes[one.name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return Column(name, frozenset(capabilities), outcomes, differences or {})


def table(columns: Collection[Column]) -> str:
    """Write a Markdown table: yes, no with its reason, or — where the door need not."""
    lines = [
        "| case | " + " | ".join(one.door for one in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in CASES:
        cells = [_cell(one, name) for one in columns]
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(one: Column, name: str) -> str:
    if name not in one.outcomes:
        return "—"
    if not one.outcomes[name]:
        return "yes"
    return one.differences.get(name, f"**no**: {one.outcomes[name]}")


# What cases are written with ---------------------------------------------------------------------


def refuses(numbers: int | tuple[int, ...], call: Callable[..., object], *args: object) -> None:
    """Check that a call fails with this errno, or one of these where POSIX leaves the choice."""
    wanted = numbers if isinstance(numbers, tuple) else (numbers,)
    names = " or ".join(errno.errorcode[number] for number in wanted)
    try:
        answer = call(*args)
    except OSError as error:
        if error.errno not in wanted:
            got = errno.errorcode.get(error.errno or 0, str(error.errno))
            raise AssertionError(f"{got} instead of {names} for {args}: {error}") from error
    else:
        raise AssertionError(f"{answer!r} instead of {names} for {args}")


def soon(check: Callable[[], bool]) -> None:
    """Wait for what a door may learn a moment later: the kernel's caches are told by a thread."""
    pause = threading.Event()
    end = time.monotonic() + SOON_S
    while not check():
        assert time.monotonic() < end, f"not within {SOON_S} s"
        pause.wait(0.001)


def missing(door: Door, path: str) -> bool:
    """Tell whether a path leads nowhere."""
    try:
        door.stat(path)
    except FileNotFoundError:
        return True
    return False


def holds(door: Door, path: str, data: bytes) -> bool:
    """Tell whether a file is there and holds this."""
    try:
        return get(door, path) == data
    except FileNotFoundError:
        return False


def put(door: Door, path: str, data: bytes = b"", flags: int = 0, mode: int = 0o644) -> None:
    """Write a file."""
    fd = door.open(path, os.O_WRONLY | os.O_CREAT | (flags or os.O_TRUNC), mode)
    try:
        while data:
            data = data[door.write(fd, data) :]
    finally:
        door.close(fd)


def get(door: Door, path: str) -> bytes:
    """Read a file."""
    fd = door.open(path, os.O_RDONLY)
    try:
        pieces = []
        while piece := door.read(fd, 65_536):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        door.close(fd)


def arrange(namespace: Namespace) -> None:
    """Mount at the top of a namespace what the cases for Capability.NAMESPACE expect.

    /rw is a directory of the service beneath; /ro and /append show it with less rights; /front and
    /back are two more, joined at /union with new names going to /front; /rw/mounted is a mount
    point, and /rw/leads/to/mounted makes two directories lead to one.
    """
    client = Client(namespace)
    for path in ("/rw/mounted", "/rw/leads/to/mounted", "/front", "/back", "/union"):
        client.makedirs(path)
    namespace.bind("/back", "/rw/mounted")
    namespace.bind("/back", "/rw/leads/to/mounted")
    namespace.bind("/rw", "/ro", access=Access.RO)
    namespace.bind("/rw", "/append", access=Access.APPEND)
    namespace.bind("/back", "/union")
    namespace.bind("/front", "/union", Where.BEFORE, create=True)
