"""Channel: the one way in. Every path operation of every door goes through here.

A channel is a node as seen from one namespace: the node, the mount entry it was reached through,
and the way it was walked. It checks what the mount lets through, shows what is mounted beneath,
lets the observers of the namespace see each operation, and announces changes to the other doors.
"""

import errno
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from oanix import path as paths
from oanix.caller import Caller
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
    Handle,
    Node,
    SeesNamespace,
    WouldBlock,
)
from oanix.operation import Kind, observed, observed_async
from oanix.service import Change
from oanix.stat import Changed, StatFs, StatLike
from oanix.table import Access, MountEntry, Place

if TYPE_CHECKING:
    from oanix.namespace import Namespace

__all__ = [
    "RENAME_EXCHANGE",
    "RENAME_NOREPLACE",
    "WOULD_BLOCK",
    "Channel",
    "OpenFile",
    "WouldBlock",
]

N = TypeVar("N", bound=Node)

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
_RENAME_KNOWN = RENAME_NOREPLACE | RENAME_EXCHANGE

Found = tuple["Channel", StatLike]


class Channel:
    """A node as seen from one namespace. Methods raise OSError as the Linux calls they mirror."""

    __slots__ = ("_hidden", "_place", "_table", "entry", "name", "namespace", "node", "parent")

    def __init__(
        self,
        parent: "Channel | None",
        name: str,
        entry: MountEntry,
        node: Node,
        place: Place | None,
    ) -> None:
        self.parent = parent
        self.name = name
        self.entry = entry
        self.node = node
        self.namespace: Namespace
        self._table: Place | None = None
        self._hidden = False
        if parent is not None:
            self.namespace = parent.namespace
            self._table = parent.namespace.table
            self._hidden = parent._hidden
        self._place = place

    @classmethod
    def root(cls, namespace: "Namespace") -> "Channel":
        """Give the root of a namespace."""
        table = namespace.table
        member = table.members[0] if table.members else namespace.synthetic(table)
        channel = cls(None, "", member.entry, member.node, table)
        channel.namespace, channel._table = namespace, table
        return channel

    def __repr__(self) -> str:
        return f"<Channel {self.path} of {self.entry.service.name}>"

    # What it is ----------------------------------------------------------------------------------

    @property
    def key(self) -> tuple[int, int]:
        """The file's identity for a door: mount entry and qid."""
        return self.entry.number, self.node.qid

    @property
    def path(self) -> str:
        """The path by which this was walked, as names are now."""
        names: list[str] = []
        here: Channel = self
        while here.parent is not None:
            names.append(here.name)
            here = here.parent
        return paths.join(names[::-1])

    @property
    def caching(self) -> float:
        """For how many seconds a door may remember this name and its attributes."""
        return self.node.caching

    @property
    def listed(self) -> bool:
        """Whether programs that read every file of a tree can read this one to an end."""
        return not (self.node.endless or self.node.makes)

    @property
    def is_directory(self) -> bool:
        """Whether it has names in it."""
        return isinstance(self.node, Directory)

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return isinstance(self.node, CanReadlink)

    def moved(self, parent: "Channel", name: str) -> None:
        """Take the name that a rename has given to this file."""
        self.parent, self.name, self._table = parent, name, None

    @property
    def place(self) -> Place | None:
        """The place of this path in the mount table as it is now, or None where nothing is near.

        A directory that was covered after it was walked sees nothing of what is mounted over it,
        and keeps the place that it had: what was covered or dropped beneath it stays so.
        """
        table = self.namespace.table
        if self._table is not table:
            self._find_place(table)
        return self._place

    def _find_place(self, table: Place) -> None:
        # After a bind or unmount: climb to what is known, then come down. Not recursive: a path may
        # have thousands of components.
        stale: list[Channel] = []
        here: Channel | None = self
        while here is not None and here._table is not table:
            stale.append(here)
            here = here.parent
        for channel in reversed(stale):
            parent = channel.parent
            place: Place | None = table
            if parent is not None:
                place = parent._place and parent._place.children.get(channel.name)
            channel._table = table
            channel._hidden = (parent is not None and parent._hidden) or (
                place is not None and not channel._shown_at(place)
            )
            if not channel._hidden:
                channel._place = place

    def _shown_at(self, place: Place) -> bool:
        if place.members:
            return any(member.entry is self.entry for member in place.members)
        return not place.opaque or self.node.qid == place.number

    # Directories ---------------------------------------------------------------------------------

    @observed(Kind.WALK)
    def lookup(self, caller: Caller, name: str) -> Found:
        """Find a name and its attributes. Raises Missing, ENOTDIR, and as `paths.check_name`."""
        return self._lookup(name)

    def walk(self, caller: Caller, name: str) -> "Channel":
        """Find a name."""
        return self.lookup(caller, name)[0]

    def _lookup(self, name: str) -> Found:
        if not name or name[0] == "." or not name.isascii() or len(name) > paths.NAME_MAX:
            paths.check_name(name)
        if "\0" in name or "/" in name:
            paths.check_name(name)
        place = self.place
        child: Place | None = None
        if place is not None:
            child = place.children.get(name)
            if child is not None and (child.members or child.opaque):
                return self._enter(child, name)
            if len(place.members) > 1:
                for member in place.members:
                    try:
                        node, stat = _directory(member.node).lookup(name)
                    except FileNotFoundError:
                        continue
                    return self._below(name, member.entry, node, child), stat
                return self._synthetic(child, name)
        if child is None:
            node, stat = _directory(self.node).lookup(name)
            return Channel(self, name, self.entry, node, None), stat
        try:
            node, stat = _directory(self.node).lookup(name)
        except FileNotFoundError:
            return self._synthetic(child, name)
        return self._below(name, self.entry, node, child), stat

    def _below(self, name: str, entry: MountEntry, node: Node, child: Place | None) -> "Channel":
        if child is not None and not isinstance(node, Directory) and child.shows:
            return self._synthetic(child, name)[0]
        return Channel(self, name, entry, node, child)

    def _enter(self, child: Place, name: str) -> Found:
        if not child.members:
            return self._synthetic(child, name)
        member = child.members[0]
        return Channel(self, name, member.entry, member.node, child), member.node.stat()

    def _synthetic(self, child: Place | None, name: str) -> Found:
        if child is None or not child.shows:
            raise Missing(name)
        member = self.namespace.synthetic(child)
        return Channel(self, name, member.entry, member.node, child), member.node.stat()

    @observed(Kind.READDIR)
    def readdir(self, caller: Caller) -> list[str]:
        """List the names as they are now, mounts and unions merged, each once."""
        place = self.place
        if place is None:
            return _directory(self.node).readdir()
        names: dict[str, None] = {}
        for _, node in self._trees(place):
            names.update(dict.fromkeys(_directory(node).readdir()))
        for name, child in place.children.items():
            if child.shows:
                names[name] = None
            elif child.opaque:
                names.pop(name, None)
        return list(names)

    def _trees(self, place: Place | None) -> Iterator[tuple[MountEntry, Node]]:
        if place is not None and len(place.members) > 1:
            for member in place.members:
                yield member.entry, member.node
        else:
            yield self.entry, self.node

    def _holder(self, name: str) -> tuple[MountEntry, Node]:
        # The member of a union that has the name: remove and rename act there.
        place = self.place
        if place is not None and len(place.members) > 1:
            for member in place.members:
                if _has(member.node, name):
                    return member.entry, member.node
            raise Missing(name)
        return self.entry, self.node

    def _creator(self, name: str) -> tuple[MountEntry, Node]:
        # The member of a union that takes new names.
        place = self.place
        self._refuse_mounted(place, name, errno.EEXIST)
        if place is None or len(place.members) < 2:
            return self.entry, self.node
        if any(_has(member.node, name) for member in place.members):
            raise fault(errno.EEXIST, f"{name!r} exists")
        for member in place.members:
            if member.create:
                return member.entry, member.node
        raise fault(
            errno.EPERM, "no member of this union was bound with -c, so none takes new names"
        )

    def _refuse_mounted(self, place: Place | None, name: str, number: int) -> None:
        # A directory that leads to a dropped name stays too: moved, it would show the name again.
        child = place and place.children.get(name)
        if not child or not child.binds:
            return
        if child.opaque and not child.shows:
            raise fault(errno.EPERM, f"{name!r} was dropped from this namespace")
        if child.shows or number == errno.EBUSY:
            raise fault(number, f"{name!r} is a mount point, or leads to one or to a dropped name")

    # Making --------------------------------------------------------------------------------------

    @observed(Kind.CREATE)
    def create(
        self, caller: Caller, name: str, flags: int, mode: int
    ) -> tuple["Channel", "OpenFile", StatLike]:
        """Make a regular file and open it (O_CREAT | O_EXCL)."""
        entry, node = self._making(name)
        if entry.access is Access.APPEND and _writes(flags) and not flags & os.O_APPEND:
            raise fault(errno.EPERM, "this mount is append-only: open with O_APPEND")
        new, handle = _able(node, CanCreate).create(name, flags, mode, caller)
        channel = self._made(caller, entry, node, name, new)
        return channel, OpenFile(channel, handle, flags), handle.stat() or new.stat()

    @observed(Kind.MKDIR)
    def mkdir(self, caller: Caller, name: str, mode: int) -> Found:
        """Make a directory."""
        entry, node = self._making(name)
        new = _able(node, CanCreate).mkdir(name, mode, caller)
        return self._made(caller, entry, node, name, new), new.stat()

    @observed(Kind.MKNOD)
    def mknod(self, caller: Caller, name: str, mode: int, rdev: int) -> Found:
        """Make a regular or special file."""
        entry, node = self._making(name)
        new = _able(node, CanCreate).mknod(name, mode, rdev, caller)
        return self._made(caller, entry, node, name, new), new.stat()

    @observed(Kind.SYMLINK)
    def symlink(self, caller: Caller, name: str, target: str) -> Found:
        """Make a symbolic link."""
        entry, node = self._making(name)
        new = _able(node, CanCreate).symlink(name, target, caller)
        return self._made(caller, entry, node, name, new), new.stat()

    @observed(Kind.LINK)
    def link(self, caller: Caller, source: "Channel", name: str) -> Found:
        """Give an existing file one more name here."""
        entry, node = self._making(name)
        if _has(node, name):
            raise fault(errno.EEXIST, f"{name!r} exists")
        if source.entry is not entry:
            raise fault(errno.EXDEV, "a hard link stays within one mount")
        if source.is_directory:
            raise fault(errno.EPERM, "a directory has one name")
        _able(node, CanLink).link(source.node, name, caller)
        self._announce(caller, entry, source.node.qid)
        return self._made(caller, entry, node, name, source.node), source.node.stat()

    def _making(self, name: str) -> tuple[MountEntry, Node]:
        paths.check_name(name)
        entry, node = self._creator(name)
        if entry.access is Access.RO:
            if _has(node, name):
                raise fault(errno.EEXIST, f"{name!r} exists")
            raise _read_only(entry)
        return entry, node

    def _made(
        self, caller: Caller, entry: MountEntry, directory: Node, name: str, node: Node
    ) -> "Channel":
        self._announce(caller, entry, directory.qid, name)
        return Channel(self, name, entry, node, None)

    # Removing and moving -------------------------------------------------------------------------

    @observed(Kind.UNLINK)
    def unlink(self, caller: Caller, name: str) -> None:
        """Remove a name that is no directory."""
        entry, node = self._removing(name)
        _able(node, CanRemove).unlink(name, caller)
        self._announce(caller, entry, node.qid, name)

    @observed(Kind.RMDIR)
    def rmdir(self, caller: Caller, name: str) -> None:
        """Remove an empty directory."""
        entry, node = self._removing(name)
        _able(node, CanRemove).rmdir(name, caller)
        self._announce(caller, entry, node.qid, name)

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
        _able(node, CanRename).rename(
            name, _directory(to_node), new_name, flags=flags, caller=caller
        )
        self._announce(caller, entry, node.qid, name)
        self._announce(caller, entry, to_node.qid, new_name)

    def _removing(self, name: str) -> tuple[MountEntry, Node]:
        paths.check_name(name)
        place = self.place
        child = place and place.children.get(name)
        if child and child.opaque and not child.shows:
            raise Missing(name)
        self._refuse_mounted(place, name, errno.EBUSY)
        entry, node = self._holder(name)
        directory = _directory(node)
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
        _able(self.node, CanSetattr).setattr(changed, caller)
        self._announce(caller, self.entry, self.node.qid)

    @observed(Kind.READLINK)
    def readlink(self, caller: Caller) -> str:
        """Give the target of a symbolic link."""
        return _able(self.node, CanReadlink).readlink()

    @observed(Kind.GETXATTR)
    def getxattr(self, caller: Caller, name: str) -> bytes:
        """Read an extended attribute. Raises ENODATA, EOPNOTSUPP."""
        return _able(self.node, CanXattr).getxattr(name)

    @observed(Kind.SETXATTR)
    def setxattr(self, caller: Caller, name: str, value: bytes) -> None:
        """Set an extended attribute."""
        self._require_change()
        _able(self.node, CanXattr).setxattr(name, value, caller)
        self._announce(caller, self.entry, self.node.qid)

    @observed(Kind.LISTXATTR)
    def listxattr(self, caller: Caller) -> list[str]:
        """List the names of the extended attributes; none where the service knows none."""
        return self.node.listxattr() if isinstance(self.node, CanXattr) else []

    @observed(Kind.REMOVEXATTR)
    def removexattr(self, caller: Caller, name: str) -> None:
        """Remove an extended attribute."""
        self._require_change()
        _able(self.node, CanXattr).removexattr(name, caller)
        self._announce(caller, self.entry, self.node.qid)

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
    async def open(self, caller: Caller, flags: int) -> "OpenFile":
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
            self._announce(caller, self.entry, node.qid)
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
        await _directory(self.node).fsync(datasync)

    # Telling the others --------------------------------------------------------------------------

    def _announce(
        self, caller: Caller, entry: MountEntry, qid: int, name: str | None = None
    ) -> None:
        changes = entry.service.changes
        if changes.subscribers:
            changes.announce(Change(entry.service, qid, name, caller.door, entry.number))


class OpenFile:
    """A file opened through a channel: the handle as doors see it."""

    __slots__ = ("channel", "flags", "handle", "namespace")

    def __init__(self, channel: Channel, handle: Handle, flags: int) -> None:
        self.channel = channel
        self.handle = handle
        self.flags = flags
        self.namespace = channel.namespace

    @property
    def path(self) -> str:
        """The path by which it was opened."""
        return self.channel.path

    @property
    def stream(self) -> bool:
        """Whether offsets mean nothing."""
        return self.handle.stream

    @property
    def direct(self) -> bool:
        """Whether it must not be kept in a page cache."""
        return self.handle.direct

    @property
    def size(self) -> int | None:
        """Exact size of a snapshot, in bytes."""
        return self.handle.size

    @property
    def version(self) -> int:
        """Version of the content."""
        return self.handle.version

    @observed(Kind.READ)
    def try_read(self, caller: Caller, size: int, offset: int) -> bytes | WouldBlock:
        """Read at once, or answer WOULD_BLOCK."""
        return self.handle.try_read(size, offset)

    @observed_async(Kind.READ)
    async def read(self, caller: Caller, size: int, offset: int) -> bytes:
        """Read, waiting for as long as there is nothing to say."""
        return await self.handle.read(size, offset)

    @observed(Kind.WRITE)
    def try_write(self, caller: Caller, data: bytes, offset: int) -> int | WouldBlock:
        """Write at once, or answer WOULD_BLOCK."""
        self._require_writing(errno.EBADF)
        answer = self.handle.try_write(data, offset)
        if answer is not WOULD_BLOCK:
            self._wrote(caller)
        return answer

    @observed_async(Kind.WRITE)
    async def write(self, caller: Caller, data: bytes, offset: int) -> int:
        """Write, waiting briefly when it must, then EAGAIN."""
        self._require_writing(errno.EBADF)
        written = await self.handle.write(data, offset)
        self._wrote(caller)
        return written

    @observed(Kind.TRUNCATE)
    def truncate(self, caller: Caller, size: int) -> None:
        """Set the size through the open file."""
        if self.channel.entry.access is Access.APPEND:
            raise fault(errno.EPERM, "this mount is append-only")
        self._require_writing(errno.EINVAL)
        self.handle.truncate(size)
        self._wrote(caller)

    @observed_async(Kind.FSYNC)
    async def fsync(self, caller: Caller, datasync: bool) -> None:
        """Make what was written durable."""
        await self.handle.fsync(datasync)

    @observed(Kind.CLOSE)
    def close(self, caller: Caller) -> None:
        """Let go of the handle."""
        self.handle.close()

    def flush(self) -> None:
        """Report an error of an earlier write."""
        self.handle.flush()

    def stat(self) -> StatLike:
        """Give the attributes of the open file."""
        return self.handle.stat() or self.channel.node.stat()

    def ready(self, wake: Callable[[], None] | None = None) -> int:
        """Say what would not block (poll(2)); `wake` is called once when that may change."""
        return self.handle.ready(wake)

    def _require_writing(self, number: int) -> None:
        # Not left to the service: the rights of the mount were checked against these flags.
        if not self.flags & os.O_ACCMODE:
            raise fault(number, "this file was not opened for writing")

    def _wrote(self, caller: Caller) -> None:
        channel = self.channel
        if channel.entry.service.changes.subscribers:
            channel._announce(caller, channel.entry, channel.node.qid)


def _writes(flags: int) -> bool:
    return bool(flags & (os.O_ACCMODE | os.O_TRUNC))


def _has(node: Node, name: str) -> bool:
    try:
        _directory(node).walk(name)
    except FileNotFoundError:
        return False
    return True


def _directory(node: Node) -> Directory:
    if isinstance(node, Directory):
        return node
    raise fault(errno.ENOTDIR, "this is no directory")


def _read_only(entry: MountEntry) -> OSError:
    return fault(errno.EROFS, f"{entry.service.name} is mounted read-only here")


_REFUSALS: dict[type[Node], tuple[int, str]] = {
    CanCreate: (errno.EROFS, "nothing can be made in this directory"),
    CanRemove: (errno.EROFS, "nothing in this directory can be removed"),
    CanRename: (errno.EROFS, "nothing in this directory can be renamed"),
    CanLink: (errno.EPERM, "this service has no hard links"),
    CanReadlink: (errno.EINVAL, "this is no symbolic link"),
    CanSetattr: (errno.EROFS, "the attributes of this file cannot be changed"),
    CanXattr: (errno.EOPNOTSUPP, "this service has no extended attributes"),
}


def _able(node: Node, capability: type[N]) -> N:
    if isinstance(node, capability):
        return node
    if issubclass(capability, Directory):
        _directory(node)
    number, sentence = _REFUSALS[capability]
    raise fault(number, sentence)
