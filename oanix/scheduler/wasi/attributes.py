"""Attributes: what kind of file a descriptor stands for, and how that is changed (`fd_*stat_*`)."""

import errno
import os

from oanix import path as paths
from oanix.errors import fault
from oanix.scheduler.engine import Memory
from oanix.scheduler.wasi import abi
from oanix.scheduler.wasi.abi import FdFlags, FstFlags, Rights, open_flags
from oanix.scheduler.wasi.descriptors import Folder
from oanix.scheduler.wasi.files import OFFSET_MAX, check_offset
from oanix.scheduler.wasi.process import Process
from oanix.stat import Changed, StatLike

# What it is --------------------------------------------------------------------------------------


def write_stat(memory: Memory, out: int, key: tuple[int, int], stat: StatLike) -> None:
    """Write the attributes of a file; key is its mount entry and its qid."""
    memory.write(out, abi.FILESTAT.pack(
        key[0], inode(key, stat), abi.file_type(stat.st_mode), stat.st_nlink, stat.st_size,
        max(stat.st_atime_ns, 0), max(stat.st_mtime_ns, 0), max(stat.st_ctime_ns, 0),
    ))  # fmt: skip


def inode(key: tuple[int, int], stat: StatLike) -> int:
    """Give the number of a file, which two mounts of one service must not share.

    A qid may be forgotten when nobody has the file open; a host's number stays.
    """
    entry, qid = key
    # An odd multiplier (2^64 over the golden ratio) sets the entries far apart.
    return (entry * 0x9E3779B97F4A7C15 + (stat.st_ino or qid)) & 0xFFFFFFFFFFFFFFFF


def fd_filestat_get(process: Process, memory: Memory, fd: int, out: int) -> int:
    """Give the attributes of an open file or directory."""
    one = process.fds.either(fd, Rights.FD_FILESTAT_GET)
    write_stat(memory, out, one.key, one.stat(process.caller))
    return 0


def fd_fdstat_get(process: Process, memory: Memory, fd: int, out: int) -> int:
    """Give what kind of descriptor it is, and what may be done with it."""
    one = process.fds.get(fd)
    memory.write(out, abi.FDSTAT.pack(one.type, one.flags, one.rights, one.inheriting))
    return 0


async def fd_fdstat_set_flags(process: Process, memory: Memory, fd: int, flags: int) -> int:
    """Set whether it appends, waits, and is durable at once; a file that does so is opened anew."""
    one = process.fds.either(fd, Rights.FD_FDSTAT_SET_FLAGS)
    if flags & ~abi.FD_FLAGS:
        raise fault(errno.EINVAL, f"there are no such flags: {flags:#x}")
    changed = one.flags ^ flags
    if isinstance(one, Folder):
        if flags & FdFlags.APPEND:
            raise fault(errno.EISDIR, "a directory does not append")
    elif changed & ~FdFlags.NONBLOCK and one.rights & Rights.FD_WRITE and not one.standard:
        how = one.file.flags & ~(os.O_APPEND | os.O_TRUNC | os.O_SYNC | os.O_DSYNC)
        how |= open_flags(flags)
        anew = await one.channel.open(process.caller, how)
        old, one.file = one.file, anew
        old.flush()
        old.close(process.caller)
    one.flags = flags
    return 0


def fd_fdstat_set_rights(
    process: Process, memory: Memory, fd: int, base: int, inheriting: int
) -> int:
    """Give up rights; there is no way to get one."""
    one = process.fds.get(fd)
    if base & ~one.rights or inheriting & ~one.inheriting:
        process.report(fault(errno.EPERM, "rights only shrink"), f"fd_fdstat_set_rights {fd}")
        return abi.Errno.NOTCAPABLE
    one.rights, one.inheriting = base, inheriting
    return 0


def fd_prestat_get(process: Process, memory: Memory, fd: int, out: int) -> int:
    """Say that a descriptor was given, and how long its path is."""
    one = process.fds.get(fd)
    if not isinstance(one, Folder) or one.preopened is None:
        raise fault(errno.EBADF, f"descriptor {fd} was not given at the start")
    memory.write(out, abi.PRESTAT.pack(0, len(paths.encode(one.preopened))))
    return 0


def fd_prestat_dir_name(process: Process, memory: Memory, fd: int, out: int, size: int) -> int:
    """Give the path by which a given directory is known."""
    one = process.fds.get(fd)
    if not isinstance(one, Folder) or one.preopened is None:
        raise fault(errno.EBADF, f"descriptor {fd} was not given at the start")
    path = paths.encode(one.preopened)
    if len(path) > size:
        raise fault(errno.ENAMETOOLONG, f"the path has {len(path)} bytes")
    memory.write(out, path)
    return 0


# Changing it -------------------------------------------------------------------------------------


def fd_advise(
    process: Process, memory: Memory, fd: int, offset: int, length: int, advice: int
) -> int:
    """Take advice, which changes nothing here."""
    process.fds.file(fd, Rights.FD_ADVISE)
    check_offset(offset)
    if advice > 5:
        raise fault(errno.EINVAL, f"there is no advice {advice}")
    return 0


def fd_allocate(process: Process, memory: Memory, fd: int, offset: int, length: int) -> int:
    """Make a file at least so large (posix_fallocate(3))."""
    one = process.fds.file(fd, Rights.FD_ALLOCATE)
    end = offset + length
    check_offset(end)
    if not length:
        raise fault(errno.EINVAL, "a length is not zero")
    if one.file.stream:
        raise fault(errno.ESPIPE, "a stream has no size")
    if end > (size := one.file.stat().st_size):
        process.may_write(one, end - size)
        one.file.truncate(process.caller, end)
        process.wrote(one, end - size)
    return 0


def fd_filestat_set_size(process: Process, memory: Memory, fd: int, size: int) -> int:
    """Set the size of a file."""
    one = process.fds.file(fd, Rights.FD_FILESTAT_SET_SIZE)
    check_offset(size)
    more = max(size - one.file.stat().st_size, 0)
    if more:
        process.may_write(one, more)
    one.file.truncate(process.caller, size)
    process.wrote(one, more)
    return 0


def fd_filestat_set_times(
    process: Process, memory: Memory, fd: int, atime: int, mtime: int, which: int
) -> int:
    """Set the times of an open file."""
    one = process.fds.either(fd, Rights.FD_FILESTAT_SET_TIMES)
    one.channel.setattr(process.caller, changed_times(process, atime, mtime, which))
    return 0


def changed_times(process: Process, atime: int, mtime: int, which: int) -> Changed:
    """Say which times change, and to what. Raises OSError EINVAL for a contradiction."""
    both = (FstFlags.ATIM | FstFlags.ATIM_NOW, FstFlags.MTIM | FstFlags.MTIM_NOW)
    if which & ~abi.FST_FLAGS or any(which & flags == flags for flags in both):
        raise fault(errno.EINVAL, "a time is set to a value or to now, not to both")
    now = process.now_ns()
    times: list[int | None] = []
    for value, given, current in (
        (atime, FstFlags.ATIM, FstFlags.ATIM_NOW),
        (mtime, FstFlags.MTIM, FstFlags.MTIM_NOW),
    ):
        times.append(value if which & given else now if which & current else None)
    if any(time is not None and time > OFFSET_MAX for time in times):
        raise fault(errno.EINVAL, "a time is below 2^63 nanoseconds")
    return Changed(atime_ns=times[0], mtime_ns=times[1])
