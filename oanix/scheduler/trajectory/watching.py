"""Watching: turns the operations of a job's namespace into the calls of its trajectory.

No read, write or lookup is watched: an open file has counted them when it is closed, and what is
missing is told by whoever reports it. So watching costs a guest's reads nothing.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import trio

from oanix.caller import Caller
from oanix.channel import Channel
from oanix.errors import Denied, errno_of
from oanix.opened import OpenFile
from oanix.operation import Deed, Kind, Subject
from oanix.recipe import Bind, Mount, Seal, Unmount, format_recipe
from oanix.scheduler.trajectory.calls import PATHS_MAX, Made
from oanix.stat import Changed

if TYPE_CHECKING:
    from oanix.namespace import Namespace
    from oanix.scheduler.trajectory.recorder import Recorder

NAMES_MAX: Final = 10
"""Names of a directory that a record of its listing shows."""

_NAMED: Final = {
    Kind.CREATE: "create_file", Kind.MKDIR: "make_directory", Kind.MKNOD: "make_node",
    Kind.SYMLINK: "make_symlink", Kind.UNLINK: "remove_file", Kind.RMDIR: "remove_directory",
}  # fmt: skip

_CALLED: Final = {
    "path_open": "open_file", "path_filestat_get": "stat", "path_readlink": "read_link",
    "path_create_directory": "make_directory", "path_unlink_file": "remove_file",
    "path_remove_directory": "remove_directory", "path_rename": "rename",
    "path_symlink": "make_symlink", "path_link": "link", "fd_read": "read_file",
    "fd_pread": "read_file", "fd_write": "write_file", "fd_pwrite": "write_file",
    "fd_readdir": "list_directory", "fd_filestat_set_size": "truncate_file",
}  # fmt: skip
"""What a call of WASI preview 1 is to a reader of trajectories."""

_QUIET: Final = (
    "fd_prestat_get", "fd_prestat_dir_name", "fd_fdstat_get", "fd_fdstat_set_flags", "fd_seek",
    "fd_tell", "fd_advise", "fd_filestat_get", "fd_close",
)  # fmt: skip
"""Calls with which a libc finds out what a descriptor is: that one fails is no news."""


@contextmanager
def watched(space: "Namespace", caller: Caller, recorder: "Recorder") -> Iterator[None]:
    """Record what a job does through its namespace, for as long as the block."""
    outer = tuple(one for one in space.onlookers if not isinstance(one, Watching))
    seen = Seen(recorder, caller, space)
    space.onlookers = (*outer, *(kind(seen) for kind in _KINDS))
    space.sentences.listen(caller, seen.reported)
    try:
        yield
    finally:
        space.sentences.listen(caller, None)
        space.onlookers = outer


class Seen:
    """What the onlookers of one job share."""

    def __init__(self, recorder: "Recorder", caller: Caller, space: "Namespace") -> None:
        self.recorder = recorder
        self.job = caller.job
        self.space = space
        self.created: set[int] = set()
        """Files that were made by opening them."""
        self._last: BaseException | None = None

    def call(
        self, name: str, arguments: dict[str, Any], outcome: str = "",
        error: BaseException | None = None, seconds: float = -1.0, **more: Any,
    ) -> None:  # fmt: skip
        """Record a call."""
        number = ""
        if error is not None:
            self._last = error
            number, outcome = told(error)
        self.recorder.call(Made(name, arguments, outcome, number, seconds, **more))

    def reported(self, error: BaseException, what: str) -> None:
        """Record what failed and was no operation, such as a name that is missing."""
        last, self._last = self._last, None
        if error is last or errno_of(error) == errno.EAGAIN:
            return
        verb, _, where = what.partition(" ")
        if verb in _QUIET:
            return
        number, outcome = told(error)
        if isinstance(error, FileNotFoundError) and where and not verb.startswith("fd_"):
            self._missing(where, number)
            return
        arguments = {"path" if where.startswith("/") else "on": where} if where else {}
        self.recorder.call(Made(_CALLED.get(verb, verb), arguments, outcome, number))

    def _missing(self, path: str, number: str) -> None:
        same = self.recorder.again("look_for", "missing", number)
        if same is None:
            made = Made("look_for", {}, "not found", number, key="missing", paths=[path])
            self.recorder.call(made)
        elif len(same.paths) < PATHS_MAX and path not in same.paths:
            same.paths.append(path)


def told(error: BaseException) -> tuple[str, str]:
    """Give the name of an error's number, and its sentence."""
    if isinstance(error, trio.Cancelled):
        return "ECANCELED", "given up"
    number = errno_of(error)
    sentence = error.strerror if isinstance(error, OSError) else None
    said = sentence or type(error).__name__
    if isinstance(error, Denied):
        said += f" (by {error.rule})"
    return errno.errorcode.get(number, f"errno {number}"), said


def path_of(channel: Channel, name: object = None) -> str:
    """Give a path as a record may show it."""
    path = channel.path
    if name is not None:
        path = f"{path.rstrip('/')}/{name}"
    service = channel.entry.service
    return service.journal_name(path) if service.capability else path


class Watching:
    """Sees some kinds of operations of one job."""

    kinds: frozenset[Kind] | None = frozenset()

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def seen(
        self, kind: Kind, subject: Subject, caller: Caller, arguments: tuple[object, ...],
        result: object, error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        """Record it, if it is of this job."""
        if caller.job == self._seen.job:
            self.record(kind, subject, arguments, result, error, started)

    def record(
        self, kind: Kind, subject: Subject, arguments: tuple[object, ...], result: object,
        error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        """Record it."""
        raise NotImplementedError


class Named(Watching):
    """What is done to a name in a directory."""

    kinds = frozenset(_NAMED)

    def record(
        self, kind: Kind, subject: Subject, arguments: tuple[object, ...], result: object,
        error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        if kind is Kind.CREATE and error is None:
            # Its close tells the rest.
            assert isinstance(result, tuple)
            self._seen.created.add(id(result[1]))
            return
        assert isinstance(subject, Channel)
        said: dict[str, Any] = {"path": path_of(subject, arguments[0])}
        if kind is Kind.SYMLINK:
            said["target"] = str(arguments[1])
        self._seen.call(_NAMED[kind], said, "", error, perf_counter() - started)


class Moved(Watching):
    """A rename or a hard link."""

    kinds = frozenset({Kind.RENAME, Kind.LINK})

    def record(
        self, kind: Kind, subject: Subject, arguments: tuple[object, ...], result: object,
        error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        assert isinstance(subject, Channel)
        if kind is Kind.LINK:
            to, name = arguments
            assert isinstance(to, Channel)
            said = {"path": path_of(to), "to": path_of(subject, name)}
        else:
            name, to = arguments[:2]
            assert isinstance(to, Channel)
            said = {"path": path_of(subject, name), "to": path_of(to, arguments[2])}
        self._seen.call(kind.value, said, "", error, perf_counter() - started)


class Altered(Watching):
    """Attributes that were changed, and files that were cut."""

    kinds = frozenset({Kind.SETATTR, Kind.SETXATTR, Kind.REMOVEXATTR, Kind.TRUNCATE})

    def record(
        self, kind: Kind, subject: Subject, arguments: tuple[object, ...], result: object,
        error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        channel = subject.channel if isinstance(subject, OpenFile) else subject
        assert isinstance(channel, Channel)
        said: dict[str, Any] = {"path": path_of(channel)}
        what = arguments[0]
        if kind is Kind.TRUNCATE:
            said["size"] = what
        elif isinstance(what, Changed):
            times = what.atime_ns is not None or what.mtime_ns is not None
            changes = {"mode": what.mode, "uid": what.uid, "gid": what.gid, "size": what.size,
                       "times": times or None}  # fmt: skip
            said |= {name: value for name, value in changes.items() if value is not None}
        else:
            said["name"] = str(what)
        names = {Kind.SETATTR: "set_attributes", Kind.TRUNCATE: "truncate_file"}
        self._seen.call(names.get(kind, kind.value), said, "", error, perf_counter() - started)


class Opened(Watching):
    """An open that failed."""

    kinds = frozenset({Kind.OPEN})

    def record(
        self, kind: Kind, subject: Subject, arguments: tuple[object, ...], result: object,
        error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        if error is None:
            return
        assert isinstance(subject, Channel)
        flags = arguments[0]
        assert isinstance(flags, int)
        said = {"path": path_of(subject)}
        name = "write_file" if flags & os.O_ACCMODE else "read_file"
        self._seen.call(name, said, "", error, perf_counter() - started)


class Closed(Watching):
    """The end of an open file: what went through it."""

    kinds = frozenset({Kind.CLOSE})

    def record(
        self, kind: Kind, subject: Subject, arguments: tuple[object, ...], result: object,
        error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        file = subject
        assert isinstance(file, OpenFile)
        created = id(file) in self._seen.created
        self._seen.created.discard(id(file))
        if file.handle.told and error is None:
            return
        path = path_of(file.channel)
        name = "read_file"
        if file.flags & os.O_ACCMODE:
            name = "append_file" if file.flags & os.O_APPEND else "write_file"
            name = "edit_file" if file.bytes_read and file.bytes_written else name
        outcome = "" if file.bytes_read or file.bytes_written else "no bytes"
        number = ""
        if file.errors and file.error != errno.EAGAIN:
            number = errno.errorcode.get(file.error, f"errno {file.error}")
            outcome = f"{file.errors:,} reads or writes failed"
        if error is not None:
            number, outcome = told(error)
        recorder, seconds = self._seen.recorder, perf_counter() - file.since
        key = f"{path} new" if created else path
        same = recorder.again(name, key, number)
        if same is not None:
            same.read += file.bytes_read
            same.written += file.bytes_written
            same.seconds += seconds
            return
        said: dict[str, Any] = {"path": path, "new": True} if created else {"path": path}
        recorder.call(Made(
            name, said, outcome, number, seconds, file.bytes_read, file.bytes_written, key=key
        ))  # fmt: skip


class Listed(Watching):
    """A directory that was listed."""

    kinds = frozenset({Kind.READDIR})

    def record(
        self, kind: Kind, subject: Subject, arguments: tuple[object, ...], result: object,
        error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        assert isinstance(subject, Channel)
        path = path_of(subject)
        if error is None:
            same = self._seen.recorder.again("list_directory", path)
            if same is not None:
                same.seconds += perf_counter() - started
                return
        outcome = ""
        if isinstance(result, list):
            more = ", …" if len(result) > NAMES_MAX else ""
            names = ", ".join(map(str, result[:NAMES_MAX])) + more
            noun = "name" if len(result) == 1 else "names"
            outcome = f"{len(result):,} {noun}: {names}" if result else "empty"
        self._seen.call(
            "list_directory", {"path": path}, outcome, error, perf_counter() - started, key=path
        )


class Bound(Watching):
    """A change of the namespace itself."""

    kinds = frozenset({Kind.NAMESPACE})

    def seen(
        self, kind: Kind, subject: Subject, caller: Caller, arguments: tuple[object, ...],
        result: object, error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        """Record it, whoever did it, if it is the world of this job and not that of a child."""
        if subject.namespace is not self._seen.space:
            return
        line = arguments[1]
        assert isinstance(line, Bind | Mount | Seal | Unmount)
        self._seen.call("change_namespace", {"line": format_recipe([line]).strip()})


class Done(Watching):
    """What a service did for the job."""

    kinds = frozenset({Kind.DEED})

    def record(
        self, kind: Kind, subject: Subject, arguments: tuple[object, ...], result: object,
        error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        deed = arguments[0]
        assert isinstance(deed, Deed)
        self._seen.call(
            deed.name, dict(deed.arguments), deed.outcome, deed.error, deed.seconds, run=deed.run,
            served=True,
        )  # fmt: skip


_KINDS: Final[tuple[Callable[[Seen], Watching], ...]] = (
    Named, Moved, Altered, Opened, Closed, Listed, Bound, Done
)  # fmt: skip
