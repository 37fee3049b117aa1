"""Process: what one guest is to WASI: its arguments, its descriptors, its namespace, its bounds."""

import errno
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from attrs import define, field, frozen

from oanix import path as paths
from oanix.caller import Caller
from oanix.channel import Channel, OpenFile
from oanix.errors import fault
from oanix.namespace import Namespace
from oanix.scheduler.wasi import abi
from oanix.scheduler.wasi.descriptors import Descriptors, Folder, NotCapable, Opened

TEXT_MAX: Final = 1 << 20
"""Bytes of all arguments, or of the whole environment."""


NAME_BYTES: Final = 4_096
"""What a new name counts as: a block of a disk."""


class OverLimit(Exception):
    """A guest that goes beyond what it may: it ends. limit: the name of what was passed."""

    def __init__(self, limit: str, sentence: str) -> None:
        super().__init__(sentence)
        self.limit = limit


@frozen(kw_only=True)
class Bounds:
    """What a guest may use of the namespace. Sizes in bytes."""

    files: int = 64
    output_bytes: int = 16 << 20
    written_bytes: int = 1 << 30


@define(eq=False)
class Use:
    """What a guest has used."""

    files: int = 0
    """The most that were open at a time."""
    output_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    refused: set[str] = field(factory=set)
    """Limits that it met and lived on: `files`, `written`."""


class Process:
    """One guest."""

    def __init__(
        self, namespace: Namespace, caller: Caller, *, args: Sequence[str],
        env: Mapping[str, str], bounds: Bounds | None = None,
        now_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        cpu_ns: Callable[[], int] = time.thread_time_ns,
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:  # fmt: skip
        """Make it, with nothing open. Raises OSError: E2BIG, EINVAL for arguments with a NUL."""
        self.namespace = namespace
        self.caller = caller
        self.args = _texts(args)
        self.env = _texts([f"{name}={value}" for name, value in env.items()])
        self.bounds = bounds or Bounds()
        self.used = Use()
        self.now_ns = now_ns
        self.monotonic_ns = monotonic_ns
        self.cpu_ns = cpu_ns
        self.randomness = randomness
        self.fds = Descriptors(self.bounds.files)

    # What it is given ----------------------------------------------------------------------------

    def give(self, files: Sequence[OpenFile | None]) -> None:
        """Open its standard input, output and error; None is a closed one."""
        for number, file in enumerate(files):
            if file is not None:
                flags = _fd_flags(file.flags)
                given = Opened.of(file, flags, abi.ALL, standard=number in (1, 2))
                assert self.added(given) == number

    def preopen(self, channel: Channel, path: str) -> int:
        """Open a directory before the start, known to the guest by a path."""
        if not channel.is_directory:
            raise fault(errno.ENOTDIR, "only a directory can be opened before the start", path)
        return self.added(Folder(channel, path))

    def close(self) -> None:
        """Close what it has left open."""
        for one in self.fds:
            try:
                one.close(self.caller)
            except OSError as error:
                self.report(error, f"close {one.channel.path}")

    # What it uses --------------------------------------------------------------------------------

    def added(self, one: Folder | Opened) -> int:
        """Give a number to what was opened; `fds.room` was asked before."""
        number = self.fds.add(one)
        self.used.files = max(self.used.files, len(self.fds))
        return number

    def may_write(self, one: Opened, size: int) -> None:
        """Count what is about to be written. Raises OverLimit for output, EDQUOT for files."""
        if one.standard:
            if self.used.output_bytes + size > self.bounds.output_bytes:
                raise OverLimit("output", f"over {self.bounds.output_bytes} bytes of output")
        elif not one.file.stream and self.used.written_bytes + size > self.bounds.written_bytes:
            self.used.refused.add("written")
            raise fault(errno.EDQUOT, f"this job may write {self.bounds.written_bytes} bytes")

    def may_make(self) -> None:
        """Count a new name, which takes room on a disk as well. Raises OSError EDQUOT."""
        if self.used.written_bytes + NAME_BYTES > self.bounds.written_bytes:
            self.used.refused.add("written")
            raise fault(errno.EDQUOT, f"this job may write {self.bounds.written_bytes} bytes")
        self.used.written_bytes += NAME_BYTES

    def wrote(self, one: Opened, size: int) -> None:
        """Count what was written."""
        if one.standard:
            self.used.output_bytes += size
        else:
            self.used.written_bytes += size

    def room(self) -> None:
        """Refuse to open one more. Raises OSError EMFILE."""
        try:
            self.fds.room()
        except OSError:
            self.used.refused.add("files")
            raise

    # What went wrong -----------------------------------------------------------------------------

    def report(self, error: Exception, what: str) -> int:
        """Keep what an error says for `/dev/errstr`, and give WASI's number for it."""
        number = self.namespace.sentences.report(error, self.caller, what)
        return abi.Errno.NOTCAPABLE if isinstance(error, NotCapable) else abi.errno_of(number)


def _texts(words: Sequence[str]) -> list[bytes]:
    found = [paths.encode(word) for word in words]
    if any(b"\0" in word for word in found):
        raise fault(errno.EINVAL, "an argument or variable holds a NUL")
    if sum(map(len, found)) > TEXT_MAX:
        raise fault(errno.E2BIG, f"arguments and environment have at most {TEXT_MAX} bytes each")
    return [word + b"\0" for word in found]


def _fd_flags(flags: int) -> int:
    found = abi.FdFlags.APPEND if flags & os.O_APPEND else 0
    return found | (abi.FdFlags.NONBLOCK if flags & os.O_NONBLOCK else 0)
