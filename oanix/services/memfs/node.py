"""What the nodes of a file system in memory have in common: attributes, times, what they count."""

import errno
import os
import stat as modes
from collections.abc import Callable

from attrs import frozen

from oanix.caller import Caller
from oanix.errors import fault
from oanix.node import FOREVER, CanReadlink, CanSetattr, CanXattr, Handle
from oanix.path import encode
from oanix.service import Service
from oanix.services.memfs.space import Space
from oanix.services.memfs.xattr import Xattrs
from oanix.stat import Changed, Stat

LINK_MAX = 65_000
"""Names of one file, as in ext4."""

DAY_NS = 86_400 * 10**9

_TIME_MAX = 2**63 - 1


@frozen(eq=False)
class Place:
    """What the nodes know of the file system that they are in."""

    service: Service
    space: Space
    now: Callable[[], int]


class MemNode(CanSetattr, CanXattr):
    """A file of any kind. It counts one file for each of its names, and the memory it takes."""

    caching = FOREVER

    def __init__(self, place: Place, mode: int, uid: int, gid: int, rdev: int = 0) -> None:
        self.place = place
        self.qid = place.service.next_qid()
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.rdev = rdev
        self.nlink = 1
        self.names = 1
        self.taken = 0
        """Bytes counted against the space."""
        self.atime = self.mtime = self.ctime = place.now()
        self._xattrs: Xattrs | None = None
        place.space.take(uid, files=1)

    @property
    def size(self) -> int:
        """The size that stat tells."""
        return 0

    @property
    def blocks(self) -> int:
        """The memory of its content, in units of 512 bytes."""
        return 0

    def stat(self) -> Stat:
        return Stat(
            self.mode, self.nlink, self.uid, self.gid, self.rdev, self.size, 4096,
            self.atime, self.mtime, self.ctime, self.blocks,
        )  # fmt: skip

    # Times and counts ----------------------------------------------------------------------------

    def touched(self, *, content: bool = False) -> None:
        """Note that its attributes changed, or its content too."""
        now = self.place.now()
        self.ctime = now
        if content:
            self.mtime = now

    def accessed(self) -> None:
        """Note a read; like `relatime` in mount(8), once after each change and once a day."""
        now = self.place.now()
        if self.atime <= self.mtime or self.atime <= self.ctime or now - self.atime >= DAY_NS:
            self.atime = now

    def take(self, size: int) -> None:
        """Count bytes. Raises OSError ENOSPC, EDQUOT."""
        self.place.space.check(self.uid, size)
        self.place.space.take(self.uid, size)
        self.taken += size

    def named(self) -> None:
        """Count one more name. Raises OSError EMLINK, ENOSPC, EDQUOT, ENOENT for a removed file."""
        if not self.nlink:
            raise fault(errno.ENOENT, "the file was removed")
        if self.nlink >= LINK_MAX:
            raise fault(errno.EMLINK, f"a file has at most {LINK_MAX} names")
        self.place.space.check(self.uid, files=1)
        self.place.space.take(self.uid, files=1)
        self.names += 1
        self.nlink += 1
        self.touched()

    def unnamed(self) -> None:
        """Count one name less; with the last one what it holds is given back."""
        self.nlink -= 1
        self.touched()
        if self.nlink:
            self.place.space.take(self.uid, files=-1)
            self.names -= 1
            # Its other names show the old count of links, in whichever door.
            self.place.service.changed(self.qid)
        else:
            self.release()

    def release(self) -> None:
        """Give back what it holds, once it has no name (and no open file)."""
        self.place.space.take(self.uid, -self.taken, -self.names)
        self.taken = self.names = 0
        self._xattrs = None

    # Attributes ----------------------------------------------------------------------------------

    def setattr(self, changed: Changed, caller: Caller) -> None:
        """Change attributes: all, or none when one of them is refused."""
        for time in (changed.atime_ns, changed.mtime_ns):
            if time is not None and not -_TIME_MAX <= time <= _TIME_MAX:
                raise fault(errno.EINVAL, "a time lies within 292 years of 1970")
        if changed.mode is not None and modes.S_ISLNK(self.mode):
            raise fault(errno.EOPNOTSUPP, "the mode of a symbolic link cannot be changed")
        if changed.size is not None:
            self.check_size(changed.size)
        if changed.uid is not None or changed.gid is not None:
            self._chown(changed.uid, changed.gid, caller)
        if changed.size is not None:
            self.resize(changed.size, caller)
        if changed.mode is not None:
            # Who may do so is for the door to check, and with it set-gid for a foreign group.
            self.mode = modes.S_IFMT(self.mode) | (changed.mode & 0o7777)
        if changed.atime_ns is not None:
            self.atime = changed.atime_ns
        self.touched()
        if changed.mtime_ns is not None:
            self.mtime = changed.mtime_ns

    def check_size(self, size: int) -> None:
        """Refuse a size. Raises OSError as truncate(2)."""
        raise fault(errno.EINVAL, "only a regular file has a size to set")

    def resize(self, size: int, caller: Caller) -> None:
        """Set the size, which was checked."""

    def _chown(self, uid: int | None, gid: int | None, caller: Caller) -> None:
        if uid is not None and uid != self.uid:
            self.place.space.move(self.uid, uid, self.taken, self.names)
            self.uid = uid
        if not modes.S_ISDIR(self.mode):
            # As Linux does it, for root too (chown_common in fs/open.c).
            self.drop_privileges(caller)
        if gid is not None:
            self.gid = gid

    def drop_privileges(self, caller: Caller) -> None:
        """Clear set-uid, set-gid and `security.capability`: the content is no longer trusted.

        Without group execute, set-gid once meant mandatory locking: for the group's own it stays
        (setattr_should_drop_sgid in fs/attr.c).
        """
        self.mode &= ~modes.S_ISUID
        if self.mode & modes.S_IXGRP or not in_group(self.gid, caller):
            self.mode &= ~modes.S_ISGID
        if self._xattrs and "security.capability" in self._xattrs:
            self.take(-self._xattrs.remove("security.capability"))

    # Extended attributes -------------------------------------------------------------------------

    def getxattr(self, name: str) -> bytes:
        return self._attributes().get(name)

    def setxattr(self, name: str, value: bytes, caller: Caller) -> None:
        xattrs = self._attributes()
        self.take(xattrs.check(name, value, self.mode, caller))
        xattrs.set(name, value)
        self.touched()

    def listxattr(self) -> list[str]:
        return self._xattrs.names() if self._xattrs else []

    def removexattr(self, name: str, caller: Caller) -> None:
        xattrs = self._attributes()
        xattrs.get(name)
        xattrs.check_caller(name, caller)
        self.take(-xattrs.remove(name))
        self.touched()

    def _attributes(self) -> Xattrs:
        if self._xattrs is None:
            self._xattrs = Xattrs()
        return self._xattrs


def in_group(gid: int, caller: Caller) -> bool:
    """Tell whether the caller may act for a group."""
    return caller.uid == 0 or gid == caller.gid or gid in caller.groups


class MemLink(MemNode, CanReadlink):
    """A symbolic link."""

    def __init__(self, place: Place, target: str, uid: int, gid: int) -> None:
        super().__init__(place, modes.S_IFLNK | 0o777, uid, gid)
        self._target = target
        self._size = len(encode(target))
        self.taken = self._size
        place.space.take(uid, self._size)

    @property
    def size(self) -> int:
        return self._size

    def readlink(self) -> str:
        self.accessed()
        return self._target

    async def open(self, flags: int, caller: Caller) -> Handle:
        raise fault(errno.ELOOP, "this is a symbolic link; open what it points to")


class MemSpecial(MemNode):
    """A device, FIFO or socket: a name and a number. Before a FUSE door the kernel opens it."""

    async def open(self, flags: int, caller: Caller) -> Handle:
        if flags & os.O_DIRECTORY:
            raise fault(errno.ENOTDIR, "this is no directory")
        raise fault(errno.ENXIO, "nothing stands behind this special file here")
