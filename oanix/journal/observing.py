"""Observing: what of each operation is recorded. It runs at each change of a file, so it is terse.

Each kind of operation has an observer of its own, as the namespace's table then tells them apart.
"""

import os
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from oanix.channel import Channel
from oanix.errors import Denied, errno_of
from oanix.journal.record import CANCELLED, Detail, Entry, note
from oanix.opened import OpenFile
from oanix.operation import Kind, Observer, Operation
from oanix.recipe import Bind, Mount, Seal, Unmount
from oanix.stat import Changed

if TYPE_CHECKING:
    from oanix.caller import Caller
    from oanix.table import MountEntry

MOUNTS_MAX = 10_000
"""Of how many mounts the path is remembered."""

_WRITING = os.O_ACCMODE | os.O_TRUNC
_MODES = ("read", "write", "read write", "read write")

Keep = Callable[[Entry], None]


class Mounts:
    """The paths of mount entries. An entry never comes to another path."""

    def __init__(self) -> None:
        self.paths: dict[int, str] = {}

    def find(self, channel: Channel) -> str:
        """Look for the path of a channel's mount, and remember all others."""
        if len(self.paths) > MOUNTS_MAX:
            self.paths.clear()
        for path, entry in channel.namespace.entries():
            self.paths[entry.number] = path
        return self.paths.setdefault(channel.entry.number, "")


class Recording:
    """What the observers of a journal share: where entries go, and what time it is."""

    kinds: frozenset[Kind] = frozenset()

    def __init__(self, keep: Keep, now: Callable[[], float], mounts: Mounts) -> None:
        self.keep = keep
        self.now = now
        self.mounts = mounts

    def before(self, operation: Operation) -> None:
        """Refuse nothing."""

    def record(
        self,
        operation: Operation,
        op: str,
        channel: Channel,
        path: str,
        target: str = "",
        detail: Detail = "",
    ) -> None:
        """Keep what is to be recorded of an operation."""
        entry, error, rule, result = channel.entry, operation.error, "", 0
        service = entry.service
        if service.capability:
            path, target = service.journal_name(path), service.journal_name(target)
        if error is not None:
            result, rule = outcome(error)
        mount = self.mounts.paths.get(entry.number)
        if mount is None:
            mount = self.mounts.find(channel)
        seconds = perf_counter() - operation.started
        self.keep(
            (self.now(), operation.caller, mount, service.name, op, path, target, detail,
             result, rule, -1, -1, 0, seconds)
        )  # fmt: skip


def outcome(error: BaseException) -> tuple[int, str]:
    """Give the result of what failed, and the rule that refused it."""
    if isinstance(error, trio.Cancelled):
        return CANCELLED, ""
    return errno_of(error), error.rule if isinstance(error, Denied) else ""


class Named(Recording):
    """What is done to a name in a directory."""

    kinds = frozenset({Kind.CREATE, Kind.MKDIR, Kind.MKNOD, Kind.SYMLINK, Kind.UNLINK, Kind.RMDIR})

    def after(self, operation: Operation) -> None:
        """Record it."""
        channel, arguments, result = operation.subject, operation.arguments, operation.result
        assert isinstance(channel, Channel)
        path = below(channel, arguments[0])
        if result.__class__ is tuple:
            # In a union the new file tells which member it was made in.
            made = result[0]
            channel = made if isinstance(made, Channel) else channel
        target = str(arguments[1]) if operation.kind is Kind.SYMLINK else ""
        self.record(operation, operation.kind.value, channel, path, target)


class Moved(Recording):
    """A rename or a hard link: two names."""

    kinds = frozenset({Kind.RENAME, Kind.LINK})

    def after(self, operation: Operation) -> None:
        """Record it."""
        channel, arguments = operation.subject, operation.arguments
        assert isinstance(channel, Channel)
        if operation.kind is Kind.LINK:
            source, name = arguments
            assert isinstance(source, Channel)
            self.record(operation, "link", channel, below(channel, name), source.path)
            return
        to = arguments[1]
        assert isinstance(to, Channel)
        target = below(to, arguments[2])
        self.record(operation, "rename", channel, below(channel, arguments[0]), target)


class Altered(Recording):
    """Attributes that were changed."""

    kinds = frozenset({Kind.SETATTR, Kind.SETXATTR, Kind.REMOVEXATTR})

    def after(self, operation: Operation) -> None:
        """Record it."""
        channel, what = operation.subject, operation.arguments[0]
        assert isinstance(channel, Channel)
        detail = what if isinstance(what, Changed) else str(what)
        self.record(operation, operation.kind.value, channel, channel.path, detail=detail)


class Opened(Recording):
    """An open that failed, that truncated, or at a capability."""

    kinds = frozenset({Kind.OPEN})

    def after(self, operation: Operation) -> None:
        """Record it, if it is one of these."""
        channel, flags = operation.subject, operation.arguments[0]
        assert isinstance(channel, Channel)
        assert isinstance(flags, int)
        cut = flags & os.O_TRUNC
        if operation.error is None and not cut and not channel.entry.service.capability:
            return
        detail = _MODES[flags & os.O_ACCMODE] + (" truncate" if cut else "")
        self.record(operation, "open", channel, channel.path, detail=detail)


class Closed(Recording):
    """The end of a file that was open for writing, or at a capability."""

    kinds = frozenset({Kind.CLOSE})

    def after(self, operation: Operation) -> None:
        """Record what went through it; the time is that from its open."""
        file = operation.subject
        assert isinstance(file, OpenFile)
        channel = file.channel
        entry: MountEntry = channel.entry
        service = entry.service
        path = channel.path
        if service.capability:
            path = service.journal_name(path)
        elif not file.flags & _WRITING:
            return
        error = operation.error
        result, rule = (file.error, "") if error is None else outcome(error)
        mount = self.mounts.paths.get(entry.number)
        if mount is None:
            mount = self.mounts.find(channel)
        caller: Caller = operation.caller
        self.keep(
            (self.now(), caller, mount, service.name, "close", path, "", "", result, rule,
             file.bytes_read, file.bytes_written, file.errors, perf_counter() - file.since)
        )  # fmt: skip


class Bound(Recording):
    """A change of the namespace itself."""

    kinds = frozenset({Kind.NAMESPACE})

    def after(self, operation: Operation) -> None:
        """Record it, as the line of a recipe."""
        path, line = operation.arguments
        assert isinstance(line, Bind | Mount | Seal | Unmount)
        self.keep(note(self.now(), "namespace", line, str(path)))


def below(channel: Channel, name: object) -> str:
    """Give the path of a name in a directory."""
    path = channel.path
    return f"/{name}" if path == "/" else f"{path}/{name}"


def observers(keep: Keep, now: Callable[[], float]) -> tuple[Observer, ...]:
    """Make the observers of a journal."""
    mounts = Mounts()
    kinds = (Named, Moved, Altered, Opened, Closed, Bound)
    return tuple(kind(keep, now, mounts) for kind in kinds)
