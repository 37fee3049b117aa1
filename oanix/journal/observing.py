"""Observing: what of each operation is recorded. It runs at each change of a file, so it is terse.

Each kind of operation has an onlooker of its own, as the namespace's table then tells them apart.
"""

import os
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from oanix.caller import Caller
from oanix.channel import Channel
from oanix.errors import Denied, errno_of
from oanix.journal.record import CANCELLED, Detail, Entry, note
from oanix.opened import OpenFile
from oanix.operation import Kind, Onlooker, Subject
from oanix.recipe import Bind, Mount, Seal, Unmount
from oanix.stat import Changed

if TYPE_CHECKING:
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
    """What the onlookers of a journal share: where entries go, and what time it is."""

    kinds: frozenset[Kind] = frozenset()

    def __init__(self, keep: Keep, now: Callable[[], float], mounts: Mounts) -> None:
        self.keep = keep
        self.now = now
        self.mounts = mounts

    def record(
        self,
        op: str,
        channel: Channel,
        caller: Caller,
        path: str,
        target: str,
        detail: Detail,
        error: BaseException | None,
        started: float,
    ) -> None:
        """Keep what is to be recorded of an operation."""
        entry, rule, result = channel.entry, "", 0
        service = entry.service
        if service.capability:
            path, target = service.journal_name(path), service.journal_name(target)
        if error is not None:
            result, rule = outcome(error)
        mount = self.mounts.paths.get(entry.number)
        if mount is None:
            mount = self.mounts.find(channel)
        seconds = perf_counter() - started
        self.keep(
            (self.now(), caller, mount, service.name, op, path, target, detail,
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

    def seen(
        self, kind: Kind, subject: Subject, caller: Caller, arguments: tuple[object, ...],
        result: object, error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        """Record it."""
        channel = subject
        assert isinstance(channel, Channel)
        path = below(channel, arguments[0])
        if result.__class__ is tuple:
            # In a union the new file tells which member it was made in.
            made = result[0]
            channel = made if isinstance(made, Channel) else channel
        target = str(arguments[1]) if kind is Kind.SYMLINK else ""
        self.record(kind._value_, channel, caller, path, target, "", error, started)


class Moved(Recording):
    """A rename or a hard link: two names."""

    kinds = frozenset({Kind.RENAME, Kind.LINK})

    def seen(
        self, kind: Kind, subject: Subject, caller: Caller, arguments: tuple[object, ...],
        result: object, error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        """Record it."""
        assert isinstance(subject, Channel)
        if kind is Kind.LINK:
            to, name = arguments
            assert isinstance(to, Channel)
            target = to.path
        else:
            name, to = arguments[:2]
            assert isinstance(to, Channel)
            target = below(to, arguments[2])
        path = below(subject, name)
        self.record(kind._value_, subject, caller, path, target, "", error, started)


class Altered(Recording):
    """Attributes that were changed."""

    kinds = frozenset({Kind.SETATTR, Kind.SETXATTR, Kind.REMOVEXATTR})

    def seen(
        self, kind: Kind, subject: Subject, caller: Caller, arguments: tuple[object, ...],
        result: object, error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        """Record it."""
        what = arguments[0]
        assert isinstance(subject, Channel)
        detail = what if isinstance(what, Changed) else str(what)
        self.record(kind._value_, subject, caller, subject.path, "", detail, error, started)


class Opened(Recording):
    """An open that failed, that truncated, or at a capability."""

    kinds = frozenset({Kind.OPEN})

    def seen(
        self, kind: Kind, subject: Subject, caller: Caller, arguments: tuple[object, ...],
        result: object, error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        """Record it, if it is one of these."""
        flags = arguments[0]
        assert isinstance(subject, Channel)
        assert isinstance(flags, int)
        cut = flags & os.O_TRUNC
        if error is None and not cut and not subject.entry.service.capability:
            return
        detail = _MODES[flags & os.O_ACCMODE] + (" truncate" if cut else "")
        self.record("open", subject, caller, subject.path, "", detail, error, started)


class Closed(Recording):
    """The end of a file that was open for writing, or at a capability."""

    kinds = frozenset({Kind.CLOSE})

    def seen(
        self, kind: Kind, subject: Subject, caller: Caller, arguments: tuple[object, ...],
        result: object, error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        """Record what went through it; the time is that from its open."""
        file = subject
        assert isinstance(file, OpenFile)
        channel = file.channel
        entry: MountEntry = channel.entry
        service = entry.service
        if not file.flags & _WRITING and not service.capability:
            return
        path = service.journal_name(channel.path) if service.capability else channel.path
        number, rule = (file.error, "") if error is None else outcome(error)
        mount = self.mounts.paths.get(entry.number)
        if mount is None:
            mount = self.mounts.find(channel)
        self.keep(
            (self.now(), caller, mount, service.name, "close", path, "", "", number, rule,
             file.bytes_read, file.bytes_written, file.errors, perf_counter() - file.since)
        )  # fmt: skip


class Bound(Recording):
    """A change of the namespace itself."""

    kinds = frozenset({Kind.NAMESPACE})

    def seen(
        self, kind: Kind, subject: Subject, caller: Caller, arguments: tuple[object, ...],
        result: object, error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        """Record it, as the line of a recipe."""
        path, line = arguments
        assert isinstance(line, Bind | Mount | Seal | Unmount)
        self.keep(note(self.now(), "namespace", line, str(path)))


def below(channel: Channel, name: object) -> str:
    """Give the path of a name in a directory."""
    path = channel.path
    return f"/{name}" if path == "/" else f"{path}/{name}"


def onlookers(keep: Keep, now: Callable[[], float]) -> tuple[Onlooker, ...]:
    """Make the onlookers of a journal."""
    mounts = Mounts()
    kinds = (Named, Moved, Altered, Opened, Closed, Bound)
    return tuple(kind(keep, now, mounts) for kind in kinds)
