"""Node and Handle: what a file service is made of.

A `Node` is one file or directory, a `Handle` one open file. The base classes are small; what a
service can do beyond them it says by inheriting a capability class (`CanCreate`, `CanRename`, …).
What it does not inherit is refused by the channel with the errno that Linux users expect.

Metadata operations are plain functions: they answer from memory or local disk and never wait for a
network. Only `open` and the operations of a handle may wait. No door imports this module.
"""

import errno
import math
import select
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from oanix.caller import Caller
from oanix.errors import fault
from oanix.stat import Changed, StatLike

if TYPE_CHECKING:
    from oanix.namespace import Namespace

FOREVER: Final = math.inf
"""Caching of what stays as it is until its service announces a change."""

READABLE: Final = select.POLLIN | select.POLLRDNORM
WRITABLE: Final = select.POLLOUT | select.POLLWRNORM


class _Answer(Enum):
    WOULD_BLOCK = "would block"


WOULD_BLOCK: Final = _Answer.WOULD_BLOCK
"""The answer of `try_read` and `try_write` when they would have to wait."""

WouldBlock = Literal[_Answer.WOULD_BLOCK]


WRITE_WAIT_S: Final = 1.0
"""How long a write waits: meanwhile it keeps every other writer of the file waiting."""


class Handle:
    """One open file.

    A handle is half-duplex: write the question, then read the answer. `try_read` and `try_write`
    answer at once and without a checkpoint when they can; after WOULD_BLOCK the caller awaits
    `read` or `write`. A cancelled `read` has taken nothing from a stream; a cancelled `write` has
    written nothing. `close` is called exactly once, when nothing else is under way.
    """

    stream: bool = False
    """Ignores offsets, and has no end to seek to."""

    direct: bool = True
    """Must not be kept in a page cache: two reads of one offset may differ."""

    size: int | None = None
    """Exact size in bytes of a snapshot, from the open on; None: as `stat` says, or no end."""

    write_wait_s: float = WRITE_WAIT_S
    """How long a door lets a write wait before EAGAIN: longer where somebody elsewhere answers,
    and math.inf as with a pipe, where the write has to end some time by itself."""

    version: int = 0
    """Version of the content (intro(5)): while it stays the same, a door may keep its cache."""

    told: bool = False
    """What it is used for is told as deeds (`oanix.operation.Deed`), so that its bytes need not."""

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        """Read at once; b"" is the end. Raises OSError EBADF when not open for reading."""
        raise fault(errno.EBADF, "this file was not opened for reading")

    async def read(self, size: int, offset: int) -> bytes:
        """Read, waiting for as long as there is nothing to say."""
        answer = self.try_read(size, offset)
        if answer is WOULD_BLOCK:
            raise fault(errno.EIO, f"{type(self).__name__} waits without a way to wait")
        return answer

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        """Write at once. Raises OSError EBADF when not open for writing."""
        raise fault(errno.EBADF, "this file was not opened for writing")

    async def write(self, data: bytes, offset: int) -> int:
        """Write, waiting briefly when it must, then EAGAIN."""
        answer = self.try_write(data, offset)
        if answer is WOULD_BLOCK:
            raise fault(errno.EAGAIN, "the file takes no more just now; try again")
        return answer

    def flush(self) -> None:
        """Report an error of an earlier write. Called at least once per descriptor closed."""

    async def fsync(self, datasync: bool) -> None:
        """Make what was written durable. Raises OSError once per handle for a failed write-back."""

    def truncate(self, size: int) -> None:
        """Set the size through this open file (ftruncate(2))."""
        raise fault(errno.EINVAL, "this file has no size to set")

    def stat(self) -> StatLike | None:
        """Give the attributes of the open file, or None to ask its node."""
        return None

    def ready(self, wake: Callable[[], None] | None) -> int:
        """Say what would not block, as poll(2) does; `wake` is called once when that may change."""
        return READABLE | WRITABLE

    def close(self) -> None:
        """Let go of everything. Must not raise."""


class Node:
    """One file of a service."""

    __slots__ = ()

    qid: int
    """A number that no other file of this service instance ever has."""

    caching: float = 0.0
    """For how many seconds a door may remember its attributes and its name: 0, N, or FOREVER."""

    endless: ClassVar[bool] = False
    """A read never ends: the FUSE door does not list it, so that `grep -r` and `tar` end."""

    makes: ClassVar[bool] = False
    """Opening it makes something (`new`): refused where the mount is read-only, and not listed."""

    waits: ClassVar[bool] = False
    """Opening it may wait for somebody else, who may never answer."""

    def stat(self) -> StatLike:
        """Give the attributes."""
        raise NotImplementedError

    async def open(self, flags: int, caller: Caller) -> Handle:
        """Open the file. Raises OSError; a cancelled open leaves nothing open."""
        raise fault(errno.EISDIR, "this is a directory")


class Directory(Node):
    """A node that has names in it."""

    __slots__ = ()

    def walk(self, name: str) -> Node:
        """Find a name. Raises Missing when there is none."""
        raise NotImplementedError

    def lookup(self, name: str) -> tuple[Node, StatLike]:
        """Find a name and its attributes; overridden where one question answers both."""
        node = self.walk(name)
        return node, node.stat()

    def readdir(self) -> list[str]:
        """List the names, each once."""
        raise NotImplementedError

    async def fsync(self, datasync: bool) -> None:
        """Make the names durable; nothing to do where nothing outlives the service."""


class SeesNamespace(Node):
    """A file that shows something of the namespace through which it is opened (`/proc/self/ns`)."""

    __slots__ = ()

    async def open_in(self, namespace: "Namespace", flags: int, caller: Caller) -> Handle:
        """Open the file as seen from this namespace."""
        raise NotImplementedError


class CanCreate(Directory):
    """A directory in which new names can be made. Each raises OSError EEXIST for a name in use."""

    __slots__ = ()

    def create(self, name: str, flags: int, mode: int, caller: Caller) -> tuple[Node, Handle]:
        """Make a regular file and open it (open(2) with O_CREAT | O_EXCL)."""
        raise NotImplementedError

    def mkdir(self, name: str, mode: int, caller: Caller) -> Node:
        """Make a directory."""
        raise NotImplementedError

    def mknod(self, name: str, mode: int, rdev: int, caller: Caller) -> Node:
        """Make a regular or special file (mknod(2))."""
        raise fault(errno.EPERM, "no special file can be made here")

    def symlink(self, name: str, target: str, caller: Caller) -> Node:
        """Make a symbolic link."""
        raise fault(errno.EPERM, "no symbolic link can be made here")


class CanLink(Directory):
    """A directory that takes hard links to files of the same service."""

    __slots__ = ()

    def link(self, node: Node, name: str, caller: Caller) -> None:
        """Give an existing file one more name."""
        raise NotImplementedError


class CanRemove(Directory):
    """A directory whose names can be removed."""

    __slots__ = ()

    def unlink(self, name: str, caller: Caller) -> None:
        """Remove a name that is no directory; open files stay usable (unlink(2))."""
        raise NotImplementedError

    def rmdir(self, name: str, caller: Caller) -> None:
        """Remove an empty directory (rmdir(2))."""
        raise NotImplementedError


class CanRename(Directory):
    """A directory whose names can be moved to directories of the same service."""

    __slots__ = ()

    def rename(
        self, name: str, target: Directory, new_name: str, *, flags: int, caller: Caller
    ) -> None:
        """Move a name; flags as in renameat2(2): RENAME_NOREPLACE and RENAME_EXCHANGE."""
        raise NotImplementedError


class CanReadlink(Node):
    """A symbolic link."""

    __slots__ = ()

    def readlink(self) -> str:
        """Give the target as it was written."""
        raise NotImplementedError


class CanSetattr(Node):
    """A node whose attributes can be changed."""

    __slots__ = ()

    def setattr(self, changed: Changed, caller: Caller) -> None:
        """Change attributes. Raises OSError as chmod(2), chown(2), truncate(2), utimensat(2)."""
        raise NotImplementedError


class CanXattr(Node):
    """A node with extended attributes (xattr(7)). Raises OSError ENODATA for a missing one."""

    __slots__ = ()

    def getxattr(self, name: str) -> bytes:
        """Read one."""
        raise NotImplementedError

    def setxattr(self, name: str, value: bytes, caller: Caller) -> None:
        """Set one."""
        raise NotImplementedError

    def listxattr(self) -> list[str]:
        """List their names."""
        raise NotImplementedError

    def removexattr(self, name: str, caller: Caller) -> None:
        """Remove one."""
        raise NotImplementedError
