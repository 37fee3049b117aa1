"""Listing: the names in a directory (`fd_readdir`)."""

import errno
from collections.abc import Awaitable
from typing import Final

import trio

from oanix import path as paths
from oanix.errors import fault
from oanix.scheduler.engine import Memory
from oanix.scheduler.wasi import abi
from oanix.scheduler.wasi.abi import FileType, Rights
from oanix.scheduler.wasi.attributes import inode
from oanix.scheduler.wasi.descriptors import Folder
from oanix.scheduler.wasi.process import Process

NAMES_MAX: Final = 1 << 18
"""Names that a guest may have of listings, of all its open directories together."""

TURN: Final = 256
"""Names that are looked up between two turns of others."""


def fd_readdir(
    process: Process, memory: Memory, fd: int, out: int, size: int, cookie: int, used: int
) -> int | Awaitable[int]:
    """List a directory from a place on, cut off where there is no more room.

    The listing is made when it is read from its beginning (readdir(3), rewinddir(3)).
    """
    folder = process.fds.folder(fd, Rights.FD_READDIR)
    memory.view(out, size)
    memory.view(used, 4)
    if cookie == 0 or not folder.names:
        _list(process, folder)
    listing = _Listing(process, memory, folder, out, size, cookie)
    if listing.more(TURN):
        return _go_on(memory, listing, used)
    memory.put_u32(used, listing.filled)
    return 0


def _list(process: Process, folder: Folder) -> None:
    folder.names = []
    names = [".", "..", *folder.channel.readdir(process.caller)]
    held = sum(len(one.names) for one in process.fds if isinstance(one, Folder))
    if held + len(names) > NAMES_MAX:
        raise fault(errno.ENOMEM, f"over {NAMES_MAX} names of directories that are open")
    folder.names = names


async def _go_on(memory: Memory, listing: "_Listing", used: int) -> int:
    while listing.more(TURN):
        await trio.lowlevel.checkpoint()
    memory.put_u32(used, listing.filled)
    return 0


class _Listing:
    """Fills a buffer with entries."""

    def __init__(
        self, process: Process, memory: Memory, folder: Folder, out: int, size: int, cookie: int
    ) -> None:
        self._process, self._memory, self._folder = process, memory, folder
        # What is listed anew meanwhile, by this or another descriptor, is another listing.
        self._names = folder.names
        self._out, self._size = out, size
        self._next = min(cookie, len(self._names))
        self.filled = 0

    def more(self, count: int) -> bool:
        """Add so many entries; tells whether there are more, and room for them."""
        for index in range(self._next, min(self._next + count, len(self._names))):
            self._next = index + 1
            entry = _dirent(self._process, self._folder, self._names[index], index)
            if entry is not None:
                left = self._size - self.filled
                self._memory.write(self._out + self.filled, entry[:left])
                self.filled += min(len(entry), left)
            if self.filled >= self._size:
                return False
        return self._next < len(self._names)


def _dirent(process: Process, folder: Folder, name: str, index: int) -> bytes | None:
    here = folder.channel
    raw = paths.encode(name)
    number, kind = 0, FileType.UNKNOWN
    try:
        if name in (".", ".."):
            found = here if name == "." else here.parent or here
            stat = found.stat(process.caller)
        else:
            found, stat = here.lookup(process.caller, name)
        number, kind = inode(found.key, stat), abi.file_type(stat.st_mode)
    except FileNotFoundError:
        # It was removed since the listing was made.
        return None
    except OSError as error:
        # It is there, and what it is nobody here may know.
        process.report(error, f"fd_readdir {here.path}/{name}")
    return abi.DIRENT.pack(index + 1, number, len(raw), kind) + raw
