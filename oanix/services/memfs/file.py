"""A regular file in memory, and the open file."""

import errno
import os

from oanix.caller import Caller
from oanix.errors import fault
from oanix.node import Handle
from oanix.services.memfs.content import PAGE, Content
from oanix.services.memfs.node import MemNode, Place
from oanix.stat import Changed, Stat

SIZE_MAX = 1 << 44
"""The largest file, holes included: 16 TiB, as ext4 has it."""


class MemFile(MemNode):
    """A regular file. It keeps its content for as long as it has a name or is open."""

    def __init__(self, place: Place, mode: int, uid: int, gid: int) -> None:
        super().__init__(place, mode, uid, gid)
        self.content = Content()
        self.version = 0
        self._opens = 0

    @property
    def size(self) -> int:
        return self.content.size

    @property
    def blocks(self) -> int:
        return self.content.pages * (PAGE // 512)

    def opened(self, flags: int, caller: Caller) -> "MemHandle":
        """Open it. Raises OSError: ENOTDIR, ESTALE for a file that is gone."""
        if flags & os.O_DIRECTORY:
            raise fault(errno.ENOTDIR, "this is no directory")
        self._require_alive()
        if flags & os.O_TRUNC:
            self.resize(0, caller)
            self.touched(content=True)
        self._opens += 1
        return MemHandle(self, flags, caller)

    async def open(self, flags: int, caller: Caller) -> Handle:
        return self.opened(flags, caller)

    def closed(self) -> None:
        """Note that an open file was closed; with the last one an unnamed file is gone."""
        self._opens -= 1
        self.release()

    def release(self) -> None:
        if not (self.nlink or self._opens):
            self.content = Content()
            super().release()

    def _require_alive(self) -> None:
        if not (self.nlink or self._opens):
            raise fault(errno.ESTALE, "the file was removed")

    # Content -------------------------------------------------------------------------------------

    def write(self, data: bytes, offset: int, caller: Caller) -> int:
        """Write: as much as there is room for. Raises OSError: EFBIG, ENOSPC, EDQUOT."""
        if offset < 0:
            raise fault(errno.EINVAL, "an offset is not negative")
        if not data:
            return 0
        if offset >= SIZE_MAX:
            raise fault(errno.EFBIG, f"a file has at most {SIZE_MAX} bytes")
        before = self.content.pages
        room = self.place.space.room(self.uid) // PAGE
        written = self.content.write(data[: SIZE_MAX - offset], offset, room)
        if not written:
            self.place.space.check(self.uid, (room + 1) * PAGE)
        self._recount(before)
        self._changed(caller)
        return written

    def check_size(self, size: int) -> None:
        if size < 0:
            raise fault(errno.EINVAL, "a size is not negative")
        if size > SIZE_MAX:
            raise fault(errno.EFBIG, f"a file has at most {SIZE_MAX} bytes")
        self._require_alive()

    def resize(self, size: int, caller: Caller) -> None:
        # POSIX marks the times when the size changes, and always after O_TRUNC.
        if size != self.content.size:
            before = self.content.pages
            self.content.truncate(size)
            self._recount(before)
            self._changed(caller)
        elif caller.uid:
            self.drop_privileges(caller)

    def _recount(self, pages: int) -> None:
        growth = (self.content.pages - pages) * PAGE
        if growth:
            self.place.space.take(self.uid, growth)
            self.taken += growth

    def _changed(self, caller: Caller) -> None:
        self.version += 1
        self.touched(content=True)
        if caller.uid:
            self.drop_privileges(caller)


class MemHandle(Handle):
    """An open file in memory: every operation answers at once."""

    direct = False

    def __init__(self, node: MemFile, flags: int, caller: Caller) -> None:
        self._node = node
        self._flags = flags
        self._caller = caller

    @property
    def version(self) -> int:  # type: ignore[override]
        """The version of the content as it is now."""
        return self._node.version

    def try_read(self, size: int, offset: int) -> bytes:
        if self._flags & os.O_ACCMODE == os.O_WRONLY:
            return self._refuse("reading")
        if size < 0 or offset < 0:
            raise fault(errno.EINVAL, "sizes and offsets are not negative")
        if not self._flags & os.O_NOATIME:
            self._node.accessed()
        return self._node.content.read(size, offset)

    def try_write(self, data: bytes, offset: int) -> int:
        if self._flags & os.O_ACCMODE == os.O_RDONLY:
            self._refuse("writing")
        if self._flags & os.O_APPEND:
            offset = self._node.size
        return self._node.write(data, offset, self._caller)

    def _refuse(self, what: str) -> bytes:
        raise fault(errno.EBADF, f"this file was not opened for {what}")

    async def fsync(self, datasync: bool) -> None:
        """Do nothing: there is no storage beneath."""

    def truncate(self, size: int) -> None:
        if self._flags & os.O_ACCMODE == os.O_RDONLY:
            raise fault(errno.EINVAL, "this file was not opened for writing")
        self._node.setattr(Changed(size=size), self._caller)

    def stat(self) -> Stat:
        return self._node.stat()

    def close(self) -> None:
        self._node.closed()
