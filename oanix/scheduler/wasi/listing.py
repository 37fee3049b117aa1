"""Listing: the names in a directory (`fd_readdir`)."""

from oanix import path as paths
from oanix.scheduler.engine import Memory
from oanix.scheduler.wasi import abi
from oanix.scheduler.wasi.abi import FileType, Rights
from oanix.scheduler.wasi.attributes import inode
from oanix.scheduler.wasi.descriptors import Folder
from oanix.scheduler.wasi.process import Process


def fd_readdir(
    process: Process, memory: Memory, fd: int, out: int, size: int, cookie: int, used: int
) -> int:
    """List a directory from a place on, cut off where there is no more room.

    The listing is made when it is read from its beginning (readdir(3), rewinddir(3)).
    """
    folder = process.fds.folder(fd, Rights.FD_READDIR)
    memory.view(out, size)
    memory.view(used, 4)
    if cookie == 0:
        folder.names = [".", "..", *folder.channel.readdir(process.caller)]
    left = size
    for index in range(min(cookie, len(folder.names)), len(folder.names)):
        entry = _dirent(process, folder, index)
        if entry is None:
            continue
        memory.write(out, entry[:left])
        out += len(entry)
        left -= len(entry)
        if left <= 0:
            break
    memory.put_u32(used, size - max(left, 0))
    return 0


def _dirent(process: Process, folder: Folder, index: int) -> bytes | None:
    name, here = folder.names[index], folder.channel
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
