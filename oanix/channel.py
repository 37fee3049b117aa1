"""Channel: the one way in. Every path operation of every door goes through here.

A channel is a node as seen from one namespace. Its position says what is mounted beneath and which
member of a union is meant; the channel checks what the mount lets through, lets the observers of
the namespace see each operation, and announces changes to the other doors.
"""

import errno
import os

from oanix import path as paths
from oanix.caller import Caller
from oanix.capability import able, directory_of, has_name
from oanix.errors import Missing, fault
from oanix.node import (
    WOULD_BLOCK,
    CanCreate,
    CanLink,
    CanReadlink,
    CanRemove,
    CanRename,
    CanSetattr,
    CanXattr,
    Directory,
    Node,
    SeesNamespace,
    WouldBlock,
)
from oanix.opened import OpenFile
from oanix.operation import Kind, observed, observed_async
from oanix.position import Position
from oanix.service import Change
from oanix.stat import Changed, StatFs, StatLike
from oanix.table import Access, MountEntry

__all__ = [
    "RENAME_EXCHANGE",
    "RENAME_NOREPLACE",
    "WOULD_BLOCK",
    "Channel",
    "OpenFile",
    "WouldBlock",
]

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
_RENAME_KNOWN = RENAME_NOREPLACE | RENAME_EXCHANGE

Found = tuple["Channel", StatLike]


class Channel(Position):
    """A node as seen from one namespace. Methods raise OSError as the Linux calls they mirror."""

    __slots__ = ()

    # What it is ----------------------------------------------------------------------------------

    @property
    def caching(self) -> float:
        """For how many seconds a door may remember this name and its attributes."""
        return self.node.caching

    @property
    def listed(self) -> bool:
        """Whether programs that read every file of a tree can read this one to an end."""
        return not (self.node.endless or self.node.makes)

    @property
    def waits(self) -> bool:
        """Whether opening it may wait for somebody else."""
        return self.node.waits

    @property
    def is_directory(self) -> bool:
        """Whether it has names in it."""
        return isinstance(self.node, Directory)

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return isinstance(self.node, CanReadlink)

    # Directories ---------------------------------------------------------------------------------

    @observed(Kind.WALK)
    def lookup(self, caller: Caller, name: str) -> Found:
        """Find a name and its attributes. Raises Missing, ENOTDIR, and as `paths.check_name`."""
        return self._lookup(name)

    def walk(self, caller: Caller, name: str) -> "Channel":
        """Find a name."""
        return self.lookup(caller, name)[0]

    @observed(Kind.READDIR)
    def readdir(self, caller: Caller) -> list[str]:
        """List the names as they are now, mounts and unions merged, each once."""
        return self._names()

    # Making --------------------------------------------------------------------------------------

    @observed(Kind.CREATE)
    def create(
        self, caller: Caller, name: str, flags: int, mode: int
    ) -> tuple["Channel", OpenFile, StatLike]:
        """Make a regular file and open it (O_CREAT | O_EXCL)."""
        entry, node = self._making(name)
        if entry.access is Access.APPEND and _writes(flags) and not flags & os.O_APPEND:
            raise fault(errno.EPERM, "this mount is append-only: open with O_APPEND")
        new, handle = able(node, CanCreate).create(name, flags, mode, caller)
        channel = self._made(caller, entry, node, name, new)
        return channel, OpenFile(channel, handle, flags), handle.stat() or new.stat()

    @observed(Kind.MKDIR)
    def mkdir(self, caller: Caller, name: str, mode: int) -> Found:
        """Make a directory."""
        entry, node = self._making(name)
        new = able(node, CanCreate).mkdir(name, mode, caller)
        return self._made(caller, entry, node, name, new), new.stat()

    @observed(Kind.MKNOD)
    def mknod(self, caller: Caller, name: str, mode: int, rdev: int) -> Found:
        """Make a regular or special file."""
        entry, node = self._making(name)
        new = able(node, CanCreate).mknod(name, mode, rdev, caller)
        return self._made(caller, entry, node, name, new), new.stat()

    @observed(Kind.SYMLINK)
    def symlink(self, caller: Caller, name: str, target: str) -> Found:
        """Make a symbolic link."""
        entry, node = self._making(name)
        new = able(node, CanCreate).symlink(name, target, caller)
        return self._made(caller, entry, node, name, new), new.stat()

    @observed(Kind.LINK)
    def link(self, caller: Caller, source: "Channel", name: str) -> Found:
        """Give an existing file one more name here."""
        entry, node = self._making(name)
        if has_name(node, name):
            raise fault(errno.EEXIST, f"{name!r} exists")
        if source.entry is not entry:
            raise fault(errno.EXDEV, "a hard link stays within one mount")
        if source.is_directory:
            raise fault(errno.EPERM, "a directory has one name")
        able(node, CanLink).link(source.node, name, caller)
        self.announce(caller, entry, source.node.qid)
        return self._made(caller, entry, node, name, source.node), source.node.stat()

    def _making(self, name: str) -> tuple[MountEntry, Node]:
        paths.check_name(name)
        entry, node = self._creator(name)
        if entry.access is Access.RO:
            if has_name(node, name):
                raise fault(errno.EEXIST, f"{name!r} exists")
            raise _read_only(entry)
        return entry, node

    def _made(
        self, caller: Caller, entry: MountEntry, directory: Node, name: str, node: Node
    ) -> "Channel":
        self.announce(caller, entry, directory.qid, name)
        return Channel(self, name, entry, node, None)

    # Removing and moving -------------------------------------------------------------------------

    @observed(Kind.UNLINK)
    def unlink(self, caller: Caller, name: str) -> None:
        """Remove a name that is no directory."""
        entry, node = self._removing(name)
        able(node, CanRemove).unlink(name, caller)
        self.announce(caller, entry, node.qid, name)

    @observed(Kind.RMDIR)
    def rmdir(self, caller: Caller, name: str) -> None:
        """Remove an empty directory."""
        entry, node = self._removing(name)
        able(node, CanRemove).rmdir(name, caller)
        self.announce(caller, entry, node.qid, name)

    @observed(Kind.RENAME)
    def rename(
        self, caller: Caller, name: str, target: "Channel", new_name: str, flags: int = 0
    ) -> None:
        """Move a name (renameat2(2)); between mount entries it is EXDEV, so that `mv` copies."""
        if flags & ~_RENAME_KNOWN or flags == _RENAME_KNOWN:
            raise fault(errno.EINVAL, "rename takes NOREPLACE or EXCHANGE and no other flag")
        entry, node = self._removing(name)
        paths.check_name(new_name)
        target._refuse_mounted(target.place, new_name, errno.EBUSY)
        to_node = next((to for at, to in target._trees(target.place) if at is entry), None)
        if to_node is None:
            raise fault(errno.EXDEV, "a rename stays within one mount")
        able(node, CanRename).rename(
            name, directory_of(to_node), new_name, flags=flags, caller=caller
        )
        self.announce(caller, entry, node.qid, name)
        self.announce(caller, entry, to_node.qid, new_name)

    def _removing(self, name: str) -> tuple[MountEntry, Node]:
        paths.check_name(name)
        place = self.place
        child = place and place.children.get(name)
        if child and child.opaque and not child.shows:
            raise Missing(name)
        self._refuse_mounted(place, name, errno.EBUSY)
        entry, node = self._holder(name)
        directory = directory_of(node)
        if entry.access is Access.RO:
            raise _read_only(entry)
        if entry.access is Access.APPEND:
            directory.walk(name)
            raise fault(errno.EPERM, "this mount is append-only: nothing in it is removed or moved")
        return entry, node

    # Attributes ----------------------------------------------------------------------------------

    @observed(Kind.STAT)
    def stat(self, caller: Caller) -> StatLike:
        """Give the attributes."""
        return self.node.stat()

    @observed(Kind.SETATTR)
    def setattr(self, caller: Caller, changed: Changed) -> None:
        """Change attributes."""
        self._require_change()
        if changed.size is not None and self.is_directory:
            raise fault(errno.EISDIR, "a directory has no size to set")
        if changed.size is not None and changed.size < 0:
            raise fault(errno.EINVAL, "a size is not negative")
        able(self.node, CanSetattr).setattr(changed, caller)
        self.announce(caller, self.entry, self.node.qid)

    @observed(Kind.READLINK)
    def readlink(self, caller: Caller) -> str:
        """Give the target of a symbolic link."""
        return able(self.node, CanReadlink).readlink()

    @observed(Kind.GETXATTR)
    def getxattr(self, caller: Caller, name: str) -> bytes:
        """Read an extended attribute. Raises ENODATA, EOPNOTSUPP."""
        return able(self.node, CanXattr).getxattr(name)

    @observed(Kind.SETXATTR)
    def setxattr(self, caller: Caller, name: str, value: bytes) -> None:
        """Set an extended attribute."""
        self._require_change()
        able(self.node, CanXattr).setxattr(name, value, caller)
        self.announce(caller, self.entry, self.node.qid)

    @observed(Kind.LISTXATTR)
    def listxattr(self, caller: Caller) -> list[str]:
        """List the names of the extended attributes; none where the service knows none."""
        return self.node.listxattr() if isinstance(self.node, CanXattr) else []

    @observed(Kind.REMOVEXATTR)
    def removexattr(self, caller: Caller, name: str) -> None:
        """Remove an extended attribute."""
        self._require_change()
        able(self.node, CanXattr).removexattr(name, caller)
        self.announce(caller, self.entry, self.node.qid)

    @observed(Kind.STATFS)
    def statfs(self, caller: Caller) -> StatFs:
        """Give the state of the storage beneath."""
        return self.entry.service.statfs()

    def _require_change(self) -> None:
        if self.entry.access is Access.RO:
            raise _read_only(self.entry)
        if self.entry.access is Access.APPEND:
            raise fault(errno.EPERM, "this mount is append-only: attributes stay as they are")

    # Opening -------------------------------------------------------------------------------------

    @observed_async(Kind.OPEN)
    async def open(self, caller: Caller, flags: int) -> OpenFile:
        """Open a file (open(2) without O_CREAT). Raises EISDIR, EROFS, EPERM, ELOOP."""
        node = self.node
        if isinstance(node, Directory):
            raise fault(errno.EISDIR, f"{self.name or '/'} is a directory")
        if self.entry.access is not Access.RW:
            self._check_open(flags)
        if isinstance(node, SeesNamespace):
            return OpenFile(self, await node.open_in(self.namespace, flags, caller), flags)
        handle = await node.open(flags, caller)
        if flags & os.O_TRUNC:
            self.announce(caller, self.entry, node.qid)
        return OpenFile(self, handle, flags)

    def _check_open(self, flags: int) -> None:
        if self.entry.access is Access.RO and (_writes(flags) or self.node.makes):
            raise _read_only(self.entry)
        if _writes(flags) and (flags & os.O_TRUNC or not flags & os.O_APPEND):
            raise fault(
                errno.EPERM, "this mount is append-only: open with O_APPEND (>> in a shell)"
            )

    @observed_async(Kind.FSYNC)
    async def fsync(self, caller: Caller, datasync: bool) -> None:
        """Make the names of a directory durable (fsync(2) of its descriptor)."""
        await directory_of(self.node).fsync(datasync)

    # Telling the others --------------------------------------------------------------------------

    def announce(
        self, caller: Caller, entry: MountEntry, qid: int, name: str | None = None
    ) -> None:
        """Tell the other doors that a file, or a name in a directory, is not what it was."""
        changes = entry.service.changes
        if changes.subscribers:
            changes.announce(Change(entry.service, qid, name, caller.door, entry.number))


def _writes(flags: int) -> bool:
    return bool(flags & (os.O_ACCMODE | os.O_TRUNC))


def _read_only(entry: MountEntry) -> OSError:
    return fault(errno.EROFS, f"{entry.service.name} is mounted read-only here")
