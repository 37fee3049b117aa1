"""Files: the calls that take an open descriptor (WASI preview 1, `fd_*`)."""

import errno
from collections.abc import Awaitable

from oanix.errors import fault
from oanix.node import WOULD_BLOCK
from oanix.scheduler.engine import Memory
from oanix.scheduler.wasi import abi
from oanix.scheduler.wasi.abi import FdFlags, Rights, Whence
from oanix.scheduler.wasi.descriptors import Folder, Opened
from oanix.scheduler.wasi.process import Process

IOVECS_MAX = 1_024
"""Buffers of one call (limits.h, IOV_MAX)."""

CHUNK = 1 << 20
"""Bytes of one read or write; more is done in several, as the call allows."""

OFFSET_MAX = (1 << 63) - 1

Answer = int | Awaitable[int]

# Reading and writing -----------------------------------------------------------------------------


def _buffers(memory: Memory, pointer: int, count: int) -> list[tuple[int, int]]:
    if count > IOVECS_MAX:
        raise fault(errno.EINVAL, f"a call takes at most {IOVECS_MAX} buffers")
    return list(abi.IOVEC.iter_unpack(memory.read(pointer, 8 * count)))


def _room(memory: Memory, pointer: int, count: int) -> tuple[list[tuple[int, int]], int]:
    """List the buffers that a read fills, checked before anything is taken from a stream."""
    buffers, left = [], CHUNK
    for at, size in _buffers(memory, pointer, count):
        memory.view(at, size)
        buffers.append((at, min(size, left)))
        left -= min(size, left)
    return buffers, CHUNK - left


def _scatter(memory: Memory, buffers: list[tuple[int, int]], data: bytes) -> None:
    if len(buffers) == 1:
        memory.write(buffers[0][0], data)
        return
    at = 0
    for pointer, size in buffers:
        if at >= len(data):
            break
        memory.write(pointer, data[at : at + size])
        at += size


def _gather(memory: Memory, pointer: int, count: int) -> bytes:
    pieces, left = [], CHUNK
    for at, size in _buffers(memory, pointer, count):
        memory.view(at, size)
        pieces.append(memory.read(at, min(size, left)))
        left -= min(size, left)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def fd_read(process: Process, memory: Memory, fd: int, vec: int, count: int, out: int) -> Answer:
    """Read where the last read or write ended."""
    one = process.fds.file(fd, Rights.FD_READ)
    buffers, size = _room(memory, vec, count)
    memory.view(out, 4)
    data = one.file.try_read(process.caller, size, one.offset) if size else b""
    if data is WOULD_BLOCK:
        return _read(process, memory, one, buffers, size, out)
    one.offset += len(data)
    process.used.read_bytes += len(data)
    _scatter(memory, buffers, data)
    memory.put_u32(out, len(data))
    return 0


async def _read(
    process: Process, memory: Memory, one: Opened, buffers: list[tuple[int, int]], size: int,
    out: int,
) -> int:  # fmt: skip
    if one.flags & FdFlags.NONBLOCK:
        raise fault(errno.EAGAIN, "there is nothing to read yet")
    data = await one.file.read(process.caller, size, one.offset)
    one.offset += len(data)
    process.used.read_bytes += len(data)
    _scatter(memory, buffers, data)
    memory.put_u32(out, len(data))
    return 0


def fd_pread(
    process: Process, memory: Memory, fd: int, vec: int, count: int, offset: int, out: int
) -> Answer:
    """Read at an offset (pread(2)); a stream has none."""
    one = process.fds.file(fd, Rights.FD_READ)
    process.fds.file(fd, Rights.FD_SEEK)
    check_offset(offset)
    buffers, size = _room(memory, vec, count)
    memory.view(out, 4)
    data = one.file.try_read(process.caller, size, offset) if size else b""
    if data is WOULD_BLOCK:
        return _pread(process, memory, one, buffers, size, offset, out)
    process.used.read_bytes += len(data)
    _scatter(memory, buffers, data)
    memory.put_u32(out, len(data))
    return 0


async def _pread(
    process: Process, memory: Memory, one: Opened, buffers: list[tuple[int, int]], size: int,
    offset: int, out: int,
) -> int:  # fmt: skip
    data = await one.file.read(process.caller, size, offset)
    process.used.read_bytes += len(data)
    _scatter(memory, buffers, data)
    memory.put_u32(out, len(data))
    return 0


def fd_write(process: Process, memory: Memory, fd: int, vec: int, count: int, out: int) -> Answer:
    """Write where the last read or write ended, or at the end."""
    one = process.fds.file(fd, Rights.FD_WRITE)
    data = _gather(memory, vec, count)
    memory.view(out, 4)
    process.may_write(one, len(data))
    offset = _end(one) if one.appends else one.offset
    written = one.file.try_write(process.caller, data, offset) if data else 0
    if written is WOULD_BLOCK:
        return _write(process, memory, one, data, offset, out)
    one.offset = offset + written
    process.wrote(one, written)
    memory.put_u32(out, written)
    return 0


async def _write(
    process: Process, memory: Memory, one: Opened, data: bytes, offset: int, out: int
) -> int:
    if one.flags & FdFlags.NONBLOCK:
        raise fault(errno.EAGAIN, "the file takes no more just now")
    written = await one.file.write(process.caller, data, offset)
    one.offset = offset + written
    process.wrote(one, written)
    memory.put_u32(out, written)
    return 0


def fd_pwrite(
    process: Process, memory: Memory, fd: int, vec: int, count: int, offset: int, out: int
) -> Answer:
    """Write at an offset (pwrite(2)); where the file appends, at its end."""
    one = process.fds.file(fd, Rights.FD_WRITE)
    process.fds.file(fd, Rights.FD_SEEK)
    check_offset(offset)
    data = _gather(memory, vec, count)
    memory.view(out, 4)
    process.may_write(one, len(data))
    written = one.file.try_write(process.caller, data, offset) if data else 0
    if written is WOULD_BLOCK:
        return _pwrite(process, memory, one, data, offset, out)
    process.wrote(one, written)
    memory.put_u32(out, written)
    return 0


async def _pwrite(
    process: Process, memory: Memory, one: Opened, data: bytes, offset: int, out: int
) -> int:
    written = await one.file.write(process.caller, data, offset)
    process.wrote(one, written)
    memory.put_u32(out, written)
    return 0


def _end(one: Opened) -> int:
    return 0 if one.file.stream else one.file.stat().st_size


def check_offset(offset: int) -> None:
    """Refuse what is no offset. Raises OSError EINVAL."""
    if offset > OFFSET_MAX:
        raise fault(errno.EINVAL, "an offset is not negative, and below 2^63")


# Where it stands ---------------------------------------------------------------------------------


def fd_seek(process: Process, memory: Memory, fd: int, delta: int, whence: int, out: int) -> int:
    """Move to an offset, and give it."""
    # Asking where one stands needs no more than the right to be told (lseek(2)).
    asks = whence == Whence.CUR and delta == 0
    one = process.fds.file(fd, Rights.FD_TELL if asks else Rights.FD_SEEK)
    if delta > OFFSET_MAX:
        delta -= 1 << 64
    if whence == Whence.SET:
        offset = delta
    elif whence == Whence.CUR:
        offset = one.offset + delta
    elif whence == Whence.END:
        offset = _size(one) + delta
    else:
        raise fault(errno.EINVAL, f"there is no whence {whence}")
    if not 0 <= offset <= OFFSET_MAX:
        raise fault(errno.EINVAL, "an offset is not negative, and below 2^63")
    memory.put_u64(out, offset)
    one.offset = offset
    return 0


def fd_tell(process: Process, memory: Memory, fd: int, out: int) -> int:
    """Give the offset."""
    memory.put_u64(out, process.fds.file(fd, Rights.FD_TELL).offset)
    return 0


def _size(one: Opened) -> int:
    return one.file.stat().st_size if one.file.size is None else one.file.size


# Making it durable -------------------------------------------------------------------------------


async def fd_sync(process: Process, memory: Memory, fd: int) -> int:
    """Make a file or a directory durable."""
    return await _sync(process, fd, Rights.FD_SYNC, datasync=False)


async def fd_datasync(process: Process, memory: Memory, fd: int) -> int:
    """Make what was written durable."""
    return await _sync(process, fd, Rights.FD_DATASYNC, datasync=True)


async def _sync(process: Process, fd: int, right: int, *, datasync: bool) -> int:
    one = process.fds.either(fd, right)
    if isinstance(one, Folder):
        await one.channel.fsync(process.caller, datasync)
    else:
        await one.file.fsync(process.caller, datasync)
    return 0


# The table ---------------------------------------------------------------------------------------


def fd_close(process: Process, memory: Memory, fd: int) -> int:
    """Close a descriptor; an error is of what an earlier write has left (close(2))."""
    process.fds.take(fd).close(process.caller)
    return 0


def fd_renumber(process: Process, memory: Memory, fd: int, to: int) -> int:
    """Give a descriptor the number of another, which is closed."""
    old = process.fds.renumber(fd, to)
    if old is not None:
        old.close(process.caller)
    return 0
