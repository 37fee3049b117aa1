"""The host's system calls that the `os` module lacks, and names as the host takes them.

Everything here works on one component below a directory descriptor, or on a descriptor itself.
"""

import ctypes
import errno
import os
import struct
import sys
from typing import Final

from oanix import path as paths
from oanix.errors import fault

_libc = ctypes.CDLL(None, use_errno=True)

_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_AT_HANDLE_FID = 0x200
_STATX_BTIME = 0x800
_SYS_OPENAT2 = 437
_RESOLVE_BENEATH_WITHOUT_LINKS = 0x02 | 0x04 | 0x08
_UTIME_OMIT = (1 << 30) - 2
_HANDLE_MAX = 128

DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a directory is opened to be looked into, which needs no right to read it."""

PINNED: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a file is held without being opened."""

_NAMES_ARE_OURS = sys.getfilesystemencoding() == "utf-8"

# struct statx of statx(2): the mask, and the time of birth.
_birth = struct.Struct("<I76xqI").unpack_from
# struct statfs: the type, and the number of the file system.
_statfs = struct.Struct("@l48x8s").unpack_from
_handle_header = struct.Struct("<Ii")
_open_how = struct.Struct("<QQQ")


def host_name(name: str) -> bytes:
    """Give a name as the host takes it. Raises OSError as `check_name` does."""
    if len(name) > 63 or not name or name[0] == "." or "\0" in name or "/" in name:
        paths.check_name(name)
    return paths.encode(name)


def attribute_name(name: str) -> bytes:
    """Give the name of an extended attribute as the host takes it."""
    if not name or "\0" in name:
        raise fault(errno.EINVAL, f"no extended attribute can have the name {name!r}")
    return paths.encode(name)


def names_in(directory_fd: int) -> list[str]:
    """List an open directory, which need only have been opened with O_PATH."""
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        names = os.listdir(fd)
    finally:
        os.close(fd)
    return names if _NAMES_ARE_OURS else [paths.decode(os.fsencode(name)) for name in names]


def proc_path(fd: int) -> str:
    """Give the path that leads to what is open, whatever its name is now (proc(5))."""
    return f"/proc/self/fd/{fd}"


def birth_ns(directory_fd: int, name: bytes) -> int:
    """Tell when a file was made, in nanoseconds; 0 where the host's file system does not know.

    An empty name asks for what directory_fd itself is.
    """
    buffer = ctypes.create_string_buffer(256)
    flags = _AT_SYMLINK_NOFOLLOW | (0 if name else _AT_EMPTY_PATH)
    _checked(_libc.statx(directory_fd, name, flags, _STATX_BTIME, buffer))
    mask, seconds, nanoseconds = _birth(buffer)
    return seconds * 1_000_000_000 + nanoseconds if mask & _STATX_BTIME else 0


def open_beneath(directory_fd: int, path: bytes) -> int:
    """Open a directory several names below, through no symbolic link (openat2(2)).

    Raises OSError; ENOSYS where the kernel, or a filter before it, does not have the call.
    """
    how = _open_how.pack(DIRECTORY, 0, _RESOLVE_BENEATH_WITHOUT_LINKS)
    try:
        return _checked(
            _libc.syscall(
                ctypes.c_long(_SYS_OPENAT2),
                ctypes.c_int(directory_fd),
                ctypes.c_char_p(path),
                ctypes.c_char_p(how),
                ctypes.c_size_t(len(how)),
            )
        )
    except PermissionError as error:
        # EPERM is what old container filters answer for a call they do not know; EACCES is real.
        if error.errno == errno.EPERM:
            raise fault(errno.ENOSYS, "openat2 is filtered") from None
        raise


def rename(source_fd: int, name: bytes, target_fd: int, new_name: bytes, flags: int) -> None:
    """Move a name (renameat2(2))."""
    if not flags:
        os.rename(name, new_name, src_dir_fd=source_fd, dst_dir_fd=target_fd)
        return
    _checked(_libc.renameat2(source_fd, name, target_fd, new_name, ctypes.c_uint(flags)))


def set_times(fd: int, atime_ns: int | None, mtime_ns: int | None) -> None:
    """Set one or both times of what is open, even with O_PATH (utimensat(2))."""
    times = (ctypes.c_int64 * 4)(*_timespec(atime_ns), *_timespec(mtime_ns))
    _checked(_libc.utimensat(_AT_FDCWD, proc_path(fd).encode(), times, 0))


def _timespec(time_ns: int | None) -> tuple[int, int]:
    if time_ns is None:
        return 0, _UTIME_OMIT
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    if not -(1 << 63) <= seconds < 1 << 63:
        raise fault(errno.EINVAL, "the time is out of range")
    return seconds, nanoseconds


def storage_of(fd: int) -> tuple[int, bytes]:
    """Tell the type of the file system that something open lies in, and its number (statfs(2))."""
    buffer = ctypes.create_string_buffer(256)
    _checked(_libc.fstatfs(fd, buffer))
    kind, fsid = _statfs(buffer)
    return kind, fsid


def handle_of(directory_fd: int) -> bytes:
    """Give the file handle of an open directory: its length, type and bytes, as fanotify(7) has it.

    Raises OSError EOPNOTSUPP where the file system has none.
    """
    try:
        return _handle(directory_fd, _AT_EMPTY_PATH | _AT_HANDLE_FID)
    except OSError as error:
        # Before Linux 6.5 there is no AT_HANDLE_FID, and fewer file systems have handles.
        if error.errno != errno.EINVAL:
            raise
    return _handle(directory_fd, _AT_EMPTY_PATH)


def _handle(directory_fd: int, flags: int) -> bytes:
    buffer = ctypes.create_string_buffer(_handle_header.size + _HANDLE_MAX)
    _handle_header.pack_into(buffer, 0, _HANDLE_MAX, 0)
    mount = ctypes.c_int()
    _checked(
        _libc.name_to_handle_at(directory_fd, b"", buffer, ctypes.byref(mount), ctypes.c_int(flags))
    )
    size, _ = _handle_header.unpack_from(buffer)
    return buffer.raw[: _handle_header.size + size]


def fanotify_init(flags: int) -> int:
    """Open a group of marks (fanotify_init(2))."""
    return _checked(_libc.fanotify_init(ctypes.c_uint(flags), ctypes.c_uint(os.O_RDONLY)))


def fanotify_mark(group: int, flags: int, mask: int, directory_fd: int) -> None:
    """Change the mark on an open directory (fanotify_mark(2))."""
    # By the name ".": the call takes no O_PATH descriptor for the file itself.
    _checked(
        _libc.fanotify_mark(
            group, ctypes.c_uint(flags), ctypes.c_uint64(mask), directory_fd, ctypes.c_char_p(b".")
        )
    )


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
