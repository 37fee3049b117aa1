"""Descriptors: the open files and directories of a guest, by their numbers."""

import errno
import os
from collections.abc import Iterator
from typing import Final

from attrs import define, field

from oanix.caller import Caller
from oanix.channel import Channel, OpenFile
from oanix.errors import fault
from oanix.scheduler.wasi import abi
from oanix.scheduler.wasi.abi import FdFlags, FileType, Rights
from oanix.stat import StatLike
from oanix.table import Access


class NotCapable(PermissionError):
    """What a descriptor has no right to; EPERM to whoever knows no rights."""

    def __init__(self, sentence: str) -> None:
        super().__init__(errno.EPERM, sentence)


@define(eq=False)
class Folder:
    """An open directory. preopened: by which path the guest knows it, when it was given one."""

    channel: Channel
    preopened: str | None = None
    rights: int = 0
    inheriting: int = 0
    flags: int = 0
    names: list[str] = field(factory=list)
    """The listing, as it was when reading began at the first name."""

    def __attrs_post_init__(self) -> None:
        access = self.channel.entry.access
        self.inheriting = abi.ALL
        self.rights = abi.DIRECTORY
        place = self.channel.place
        if access is Access.RO and not (place and place.children):
            # Where mounts lie beneath, they may allow what this one does not.
            self.rights &= ~abi.CHANGING

    @property
    def type(self) -> FileType:
        return FileType.DIRECTORY

    @property
    def key(self) -> tuple[int, int]:
        return self.channel.key

    def stat(self, caller: Caller) -> StatLike:
        return self.channel.stat(caller)

    def close(self, caller: Caller) -> None:
        """Let go of it."""


@define(eq=False)
class Opened:
    """An open file."""

    file: OpenFile
    rights: int
    flags: int = 0
    """Those of FdFlags."""
    inheriting: int = 0
    offset: int = 0
    standard: bool = False
    """Whether it is the standard output or error, whose bytes are counted apart."""
    type: FileType = FileType.UNKNOWN

    def __attrs_post_init__(self) -> None:
        kind = abi.file_type(self.file.stat().st_mode)
        if self.file.stream and kind is FileType.REGULAR_FILE:
            # libc seeks in regular files, and asks whether the others can.
            kind = FileType.UNKNOWN
        self.type = kind
        if self.file.stream or kind is FileType.CHARACTER_DEVICE:
            self.rights &= ~(Rights.FD_SEEK | Rights.FD_TELL)

    @classmethod
    def of(cls, file: OpenFile, flags: int, allowed: int, *, standard: bool = False) -> "Opened":
        """Make the descriptor of a file: its rights are what it was opened for."""
        mode = file.flags & os.O_ACCMODE
        rights = abi.FILE & allowed
        if mode == os.O_RDONLY:
            rights &= ~abi.WRITING
        elif mode == os.O_WRONLY:
            rights &= ~Rights.FD_READ
        return cls(file, rights, flags, standard=standard)

    @property
    def channel(self) -> Channel:
        return self.file.channel

    @property
    def key(self) -> tuple[int, int]:
        return self.file.channel.key

    @property
    def appends(self) -> bool:
        return bool(self.flags & FdFlags.APPEND)

    def stat(self, caller: Caller) -> StatLike:
        return self.file.stat()

    def close(self, caller: Caller) -> None:
        """Let go of it. Raises OSError for what an earlier write has left."""
        try:
            self.file.flush()
        finally:
            self.file.close(caller)


Descriptor = Folder | Opened

FDS_MAX: Final = 1 << 16


class Descriptors:
    """The table of a guest."""

    def __init__(self, most: int) -> None:
        """Make it. most: how many may be open at a time, with those that the guest was given."""
        self._kept: dict[int, Descriptor] = {}
        self._most = min(most, FDS_MAX)

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Descriptor]:
        return iter(list(self._kept.values()))

    def get(self, number: int) -> Descriptor:
        """Find one. Raises OSError EBADF."""
        found = self._kept.get(number)
        if found is None:
            raise fault(errno.EBADF, f"no descriptor has the number {number}")
        return found

    def file(self, number: int, right: int) -> Opened:
        """Find an open file that has a right. Raises EBADF, EISDIR; NotCapable."""
        found = self._kept.get(number)
        if found is None:
            raise fault(errno.EBADF, f"no descriptor has the number {number}")
        if found.__class__ is not Opened:
            raise fault(errno.EISDIR, f"descriptor {number} is a directory")
        if not found.rights & right:
            self._refuse(found, right)
        return found

    def folder(self, number: int, right: int) -> Folder:
        """Find an open directory that has a right. Raises EBADF, ENOTDIR; NotCapable."""
        found = self.get(number)
        if not isinstance(found, Folder):
            raise fault(errno.ENOTDIR, f"descriptor {number} is no directory")
        if not found.rights & right:
            self._refuse(found, right)
        return found

    def either(self, number: int, right: int) -> Descriptor:
        """Find a file or a directory that has a right. Raises EBADF; NotCapable."""
        found = self.get(number)
        if not found.rights & right:
            self._refuse(found, right)
        return found

    def _refuse(self, found: Descriptor, right: int) -> None:
        if found.channel.entry.access is Access.RO and right & (abi.CHANGING | abi.WRITING):
            raise fault(errno.EROFS, f"{found.channel.path} is read-only here")
        if right & (Rights.FD_SEEK | Rights.FD_TELL) and isinstance(found, Opened):
            raise fault(errno.ESPIPE, f"{found.channel.path} is a stream")
        if right in (Rights.FD_READ, Rights.FD_WRITE):
            raise fault(errno.EBADF, f"{found.channel.path} was not opened for this")
        raise NotCapable(f"the descriptor of {found.channel.path} lacks {abi.right_name(right)}")

    def room(self) -> None:
        """Refuse one more. Raises OSError EMFILE."""
        if len(self._kept) >= self._most:
            raise fault(errno.EMFILE, f"at most {self._most} files are open at a time")

    def add(self, one: Descriptor) -> int:
        """Give a descriptor the lowest free number; ask `room` before."""
        number = 0
        while number in self._kept:
            number += 1
        self._kept[number] = one
        return number

    def take(self, number: int) -> Descriptor:
        """Take one out. Raises OSError EBADF."""
        self.get(number)
        return self._kept.pop(number)

    def renumber(self, number: int, to: int) -> Descriptor | None:
        """Give a descriptor the number of another; gives the one that had it. Raises EBADF."""
        self.get(to)
        one = self.get(number)
        if number == to:
            return None
        old = self._kept[to]
        self._kept[to] = one
        del self._kept[number]
        return old
