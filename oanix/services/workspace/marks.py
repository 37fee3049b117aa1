"""Marks: directories of which the host tells what changes in them (fanotify(7)).

Works without privileges since Linux 5.13. An event names the directory by its file handle and the
entry by its name, and says which process did it: what this process does itself is passed over.
"""

import errno
import os
import struct
import weakref
from typing import TYPE_CHECKING, Final

from attrs import frozen

from oanix.errors import fault
from oanix.path import decode
from oanix.services.workspace import host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oanix.services.workspace.directory import HostDirectory

# fanotify_init(2) and fanotify_mark(2); the numbers are those of linux/fanotify.h.
_CLOEXEC, _NONBLOCK = 0x1, 0x2
_UNLIMITED = 0x10 | 0x20
_REPORT_DFID_NAME = 0x400 | 0x800
_MARK_ADD, _MARK_REMOVE = 0x1, 0x2

MODIFY: Final = 0x2
ATTRIB: Final = 0x4
CLOSE_WRITE: Final = 0x8
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
OVERFLOW: Final = 0x4000
_EVENT_ON_CHILD, _ONDIR = 0x08000000, 0x40000000

NAMES: Final = MOVED_FROM | MOVED_TO | CREATE | DELETE
"""The events that change the names of a directory."""

# CLOSE_WRITE is there for those who write through a shared mapping: they cause no MODIFY.
_MASK = NAMES | MODIFY | ATTRIB | CLOSE_WRITE | DELETE_SELF | MOVE_SELF | _EVENT_ON_CHILD | _ONDIR

_LOCAL = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0xCA451A4E,  # bcachefs
        0x2FC12FC1,  # zfs
        0xF2F52010,  # f2fs
        0x01021994,  # tmpfs
        0x858458F6,  # ramfs
        0x794C7630,  # overlayfs
        0x4D44,  # vfat
        0x2011BAB0,  # exfat
        0x7366746E,  # ntfs3
    }
)
"""File systems all of whose changes pass through this host (magic numbers of linux/magic.h). Nobody
here is told of what another machine changes in a network's file system, nor of what /proc shows."""

READ_SIZE = 256 * 1024
"""How many bytes of events are read at a time."""

_event = struct.Struct("<IBBHQii").unpack_from
_info = struct.Struct("<BxH8xI").unpack_from
_EVENT_SIZE, _KEY_AT, _HANDLE_AT = 24, 4, 20


@frozen
class Event:
    """Something that another process did: in which directory, to which name ("." is itself)."""

    key: bytes
    name: str
    mask: int


class Marks:
    """The marked directories of one tree. Inactive until opened."""

    def __init__(self) -> None:
        self._group = -1
        self._pid = 0
        self._directories: dict[bytes, weakref.ref[HostDirectory]] = {}
        self._fsids: dict[int, bytes] = {}
        self.unmarked = 0
        self.endless = False
        self.reason = ""

    def __len__(self) -> int:
        return len(self._directories)

    @property
    def active(self) -> bool:
        """Whether directories can be marked."""
        return self._group >= 0

    def fileno(self) -> int:
        """Give the descriptor that is readable when there are events."""
        return self._group

    def open(self) -> None:
        """Begin. Raises OSError where the host does not let this user watch."""
        flags = _CLOEXEC | _NONBLOCK | _REPORT_DFID_NAME
        try:
            self._group = host.fanotify_init(flags | _UNLIMITED)
            self.endless = True
        except PermissionError:
            self._group = host.fanotify_init(flags)
        self._pid = os.getpid()

    def close(self) -> None:
        """End; every mark goes with the group."""
        if self._group >= 0:
            os.close(self._group)
        self._group = -1
        for directory in self.directories():
            directory.mark = None
        self._directories.clear()

    def add(self, directory: "HostDirectory", fd: int) -> None:
        """Mark a directory; where that fails, it is not tried again and counted as unmarked."""
        try:
            key = self._fsid(directory.volume.dev, fd) + host.handle_of(fd)
            host.fanotify_mark(self._group, _MARK_ADD, _MASK, fd)
        except OSError as error:
            directory.mark = b""
            self.unmarked += 1
            self.reason = error.strerror or str(error)
            return
        directory.mark = key
        self._directories[key] = weakref.ref(directory)

    def remove(self, directory: "HostDirectory") -> None:
        """Take the mark off a directory that nobody holds any more."""
        key, directory.mark = directory.mark, None
        if not key or not self.active:
            return
        self._directories.pop(key, None)
        try:
            with directory.volume.tree.descriptors.visit(directory) as fd:
                host.fanotify_mark(self._group, _MARK_REMOVE, _MASK, fd)
        except OSError:
            # The directory is gone, and its mark with it; or it was moved away, or lies very deep:
            # what is told of it is passed over, until it is looked into again.
            return

    def directory(self, key: bytes) -> "HostDirectory | None":
        """Give the marked directory that an event names."""
        reference = self._directories.get(key)
        return reference() if reference is not None else None

    def directories(self) -> "Iterator[HostDirectory]":
        """Go through the marked directories as they are now."""
        for reference in list(self._directories.values()):
            directory = reference()
            if directory is not None:
                yield directory

    def read(self) -> list[Event] | None:
        """Read what others did; None when nothing is left for now."""
        try:
            data = os.read(self._group, READ_SIZE)
        except BlockingIOError:
            return None
        own = self._pid
        found: list[Event] = []
        at, end = 0, len(data)
        while at < end:
            size, _, _, _, mask, _, pid = _event(data, at)
            if pid != own:
                found.append(_parsed(data, at, mask))
            at += size
        return found

    def _fsid(self, dev: int, fd: int) -> bytes:
        fsid = self._fsids.get(dev)
        if fsid is None:
            kind, fsid = host.storage_of(fd)
            if kind not in _LOCAL:
                raise fault(errno.EOPNOTSUPP, "others may change this file system unseen")
            self._fsids[dev] = fsid
        return fsid


def _parsed(data: bytes, at: int, mask: int) -> Event:
    if mask & OVERFLOW:
        return Event(b"", "", mask)
    start = at + _EVENT_SIZE
    _, size, handle_size = _info(data, start)
    end = start + _HANDLE_AT + handle_size
    name = data[end : start + size].partition(b"\0")[0]
    return Event(data[start + _KEY_AT : end], decode(name), mask)
