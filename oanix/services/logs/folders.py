"""The folders of `/logs`: those with logs, and `runs`. Nothing in them is removed or renamed."""

import errno
import os
import re
import stat as modes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Final
from weakref import WeakValueDictionary

from attrs import frozen

from oanix import path as paths
from oanix.caller import Caller
from oanix.errors import Missing, fault
from oanix.kit import Ring
from oanix.node import CanCreate, CanRemove, CanRename, Directory, Handle, Node
from oanix.services.logs import host
from oanix.services.logs.files import LogNode, RotatedNode
from oanix.services.logs.host import host_path
from oanix.services.logs.log import Log, Shared, recover
from oanix.services.logs.record import RECORDS, Record
from oanix.stat import StatLike

NAME_MAX: Final = 200
"""Longest name of a log in bytes: on the host a number and more stand behind it."""

LOGS_MAX: Final = 1000
"""How many logs one folder has at most."""

GONE: Final = ".gone-"
"""Before the name of a run whose folder is being removed."""

_ROTATED: Final = re.compile(r"(.+)\.([1-9][0-9]{0,8})(\.gz)?", re.DOTALL)


class AppendOnly(CanCreate, CanRemove, CanRename):
    """A folder in which names stay as they are, as with `chattr +a`; each refusal is EPERM."""

    makeable: ClassVar[str] = "nothing can be made here"

    def __init__(self, qid: int, folder: Path) -> None:
        self.qid = qid
        self.folder = folder

    def stat(self) -> StatLike:
        return os.stat(self.folder)

    def create(self, name: str, flags: int, mode: int, caller: Caller) -> tuple[Node, Handle]:
        raise self._no_new(name)

    def mkdir(self, name: str, mode: int, caller: Caller) -> Node:
        raise self._no_new(name)

    def mknod(self, name: str, mode: int, rdev: int, caller: Caller) -> Node:
        raise self._no_new(name)

    def symlink(self, name: str, target: str, caller: Caller) -> Node:
        raise self._no_new(name)

    def unlink(self, name: str, caller: Caller) -> None:
        self.walk(name)
        raise fault(errno.EPERM, f"logs are append-only: {name!r} stays; rotation removes old ones")

    def rmdir(self, name: str, caller: Caller) -> None:
        self.unlink(name, caller)

    def rename(
        self, name: str, target: Directory, new_name: str, *, flags: int, caller: Caller
    ) -> None:
        self.walk(name)
        raise fault(errno.EPERM, f"logs are append-only: {name!r} keeps its name")

    def _no_new(self, name: str) -> OSError:
        try:
            self.walk(name)
        except FileNotFoundError:
            return fault(errno.EPERM, self.makeable)
        return fault(errno.EEXIST, f"{name!r} exists")


@frozen(kw_only=True)
class Kind:
    """What the logs of a folder are.

    standard: the logs that are always there; suffixes: of those that an append makes; verbatim:
    those that keep bytes as they come, as they have one writer.
    """

    standard: tuple[str, ...]
    suffixes: tuple[str, ...]
    rotates: bool
    verbatim: tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()
    """Names that no append makes."""

    def has(self, name: str) -> bool:
        """Whether a log may have this name."""
        if name in self.reserved:
            return False
        return name in self.standard or (name.endswith(self.suffixes) and name[0] != ".")


class LogFolder(AppendOnly):
    """A folder of logs, with what was rotated out of them, and a few files beside them."""

    makeable = "an append makes NAME.log and NAME.jsonl here (>> in a shell), and nothing else"

    def __init__(
        self, folder: Path, shared: Shared, kind: Kind, *, rings: Mapping[str, Ring]
    ) -> None:
        super().__init__(shared.next_qid(), folder)
        self.shared = shared
        self.kind = kind
        self.beside: dict[str, Node] = {}
        self.logs: dict[str, Log] = {}
        rotated = recover(folder)
        names = [*kind.standard, *sorted({*host.names_in(folder), *rotated} - {*kind.standard})]
        for name in names:
            if kind.has(name) and (name in kind.standard or self._is_ours(name)):
                log = Log(
                    folder, name, shared, rotates=kind.rotates, ring=rings.get(name),
                    verbatim=name in kind.verbatim,
                )  # fmt: skip
                log.load(rotated.get(name, {}))
                self.logs[name] = log

    def _is_ours(self, name: str) -> bool:
        # The log of rotated files may be missing: a crash came before the new one had its name.
        mode = host.mode_of(host_path(self.folder, name))
        if mode is not None and not modes.S_ISREG(mode):
            self.shared.warn(name, "is no regular file, and so no log")
            return False
        return True

    def walk(self, name: str) -> Node:
        if beside := self.beside.get(name):
            return beside
        if log := self.logs.get(name):
            return LogNode(log)
        if match := _ROTATED.fullmatch(name):
            stem, number, packed = match.groups()
            owner = self.logs.get(stem)
            if owner is not None and int(number) <= len(owner.old):
                rotated = owner.old[int(number) - 1]
                if rotated.packed == bool(packed):
                    return RotatedNode(owner, rotated)
        raise Missing(name)

    def readdir(self) -> list[str]:
        rotated = [name for log in self.logs.values() for name in rotated_names(log)]
        return [*self.beside, *self.logs, *rotated]

    def create(self, name: str, flags: int, mode: int, caller: Caller) -> tuple[Node, Handle]:
        """Make a log. Raises EPERM for another name or without O_APPEND, ENAMETOOLONG, EDQUOT."""
        if name in self.beside or name in self.logs or not self.kind.has(name):
            raise self._no_new(name)
        if not flags & os.O_APPEND or not flags & os.O_ACCMODE:
            raise fault(errno.EPERM, "a log is made by an append: open it with O_APPEND (use >>)")
        if len(paths.encode(name)) > NAME_MAX:
            raise fault(errno.ENAMETOOLONG, f"the name of a log has at most {NAME_MAX} bytes")
        if len(self.logs) >= LOGS_MAX:
            raise fault(errno.EDQUOT, f"a folder has at most {LOGS_MAX} logs")
        log = Log(self.folder, name, self.shared, rotates=self.kind.rotates)
        log.load({})
        node = LogNode(log)
        handle = node.opened(flags & ~os.O_TRUNC, caller)
        self.logs[name] = log
        return node, handle


def rotated_names(log: Log) -> list[str]:
    """Give the names that the rotated files of a log have now, newest first."""
    return [
        f"{log.name}.{number}" + (".gz" if old.packed else "")
        for number, old in enumerate(log.old, 1)
    ]


class RunFolder(LogFolder):
    """`runs/ID`: what one job wrote."""

    makeable = "an append makes NAME.log, NAME.jsonl and NAME.json here, and nothing else"

    def __init__(self, folder: Path, shared: Shared) -> None:
        super().__init__(folder, shared, _RUN, rings={})
        self.record = Record(folder, shared)

    def walk(self, name: str) -> Node:
        return self.record.find(name) or super().walk(name)

    def readdir(self) -> list[str]:
        return [*super().readdir(), *self.record.names()]


_RUN: Final = Kind(
    standard=("stdout", "stderr", "events.jsonl"),
    suffixes=(".log", ".jsonl", ".json"),
    rotates=False,
    verbatim=("stdout", "stderr"),
    reserved=RECORDS,
)


class Runs(AppendOnly):
    """`runs`: a folder a job, listed from the state folder and opened when it is looked at."""

    makeable = "folders of runs are made for jobs when they start, and nothing else is here"

    def __init__(
        self, folder: Path, shared: Shared, entry_changed: Callable[[int, str], None]
    ) -> None:
        super().__init__(shared.next_qid(), folder)
        self._shared = shared
        self._entry_changed = entry_changed
        # One folder is one node for as long as anyone holds it, and no memory after that.
        self._open: WeakValueDictionary[str, RunFolder] = WeakValueDictionary()

    def walk(self, name: str) -> Node:
        if run := self._open.get(name):
            return run
        if not self.has(name):
            raise Missing(name)
        run = self._open[name] = RunFolder(self.folder / name, self._shared)
        return run

    def readdir(self) -> list[str]:
        return [name for name in host.names_in(self.folder) if self.has(name)]

    def make(self, name: str) -> RunFolder:
        """Make the folder of a run, or give the one there is. Raises OSError for a bad name."""
        paths.check_name(name)
        if name.startswith("."):
            raise fault(errno.EINVAL, "the id of a run does not begin with a dot")
        if not self.has(name):
            os.mkdir(host_path(self.folder, name), 0o755)
            self._entry_changed(self.qid, name)
        run = self.walk(name)
        assert isinstance(run, RunFolder)
        return run

    def drop(self, name: str) -> Path | None:
        """Take the folder of a run away; gives where it lies until it is removed, if there was one.

        Whoever has a log of it open keeps that. Raises OSError.
        """
        if not self.has(name):
            return None
        gone = self.folder / f"{GONE}{name}"
        os.rename(host_path(self.folder, name), gone)
        self._open.pop(name, None)
        self._entry_changed(self.qid, name)
        return gone

    def gone(self) -> list[Path]:
        """List what was taken away and not removed yet."""
        return [self.folder / name for name in host.names_in(self.folder) if name.startswith(GONE)]

    def has(self, name: str) -> bool:
        """Tell whether there is a folder of this run."""
        if name.startswith(".") or "/" in name:
            return False
        mode = host.mode_of(host_path(self.folder, name))
        return mode is not None and modes.S_ISDIR(mode)
