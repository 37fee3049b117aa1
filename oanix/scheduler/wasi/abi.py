"""The binary interface of `wasi_snapshot_preview1`: its numbers, and the layout of its structures.

Source: WASI preview 1, `typenames.witx` (WebAssembly/WASI, legacy/preview1). Everything is
little-endian; a structure's size is the stride of its arrays.
"""

import errno
import os
import stat as modes
from enum import IntEnum
from struct import Struct
from typing import Final

MODULE: Final = "wasi_snapshot_preview1"


class Errno(IntEnum):
    """What a call answers."""

    SUCCESS = 0
    AGAIN = 6
    BADF = 8
    FAULT = 21
    INVAL = 28
    IO = 29
    NOTSUP = 58
    NOTCAPABLE = 76


_NAMES: Final = (
    "SUCCESS", "2BIG", "ACCES", "ADDRINUSE", "ADDRNOTAVAIL", "AFNOSUPPORT", "AGAIN", "ALREADY",
    "BADF", "BADMSG", "BUSY", "CANCELED", "CHILD", "CONNABORTED", "CONNREFUSED", "CONNRESET",
    "DEADLK", "DESTADDRREQ", "DOM", "DQUOT", "EXIST", "FAULT", "FBIG", "HOSTUNREACH", "IDRM",
    "ILSEQ", "INPROGRESS", "INTR", "INVAL", "IO", "ISCONN", "ISDIR", "LOOP", "MFILE", "MLINK",
    "MSGSIZE", "MULTIHOP", "NAMETOOLONG", "NETDOWN", "NETRESET", "NETUNREACH", "NFILE", "NOBUFS",
    "NODEV", "NOENT", "NOEXEC", "NOLCK", "NOLINK", "NOMEM", "NOMSG", "NOPROTOOPT", "NOSPC",
    "NOSYS", "NOTCONN", "NOTDIR", "NOTEMPTY", "NOTRECOVERABLE", "NOTSOCK", "NOTSUP", "NOTTY",
    "NXIO", "OVERFLOW", "OWNERDEAD", "PERM", "PIPE", "PROTO", "PROTONOSUPPORT", "PROTOTYPE",
    "RANGE", "ROFS", "SPIPE", "SRCH", "STALE", "TIMEDOUT", "TXTBSY", "XDEV", "NOTCAPABLE",
)  # fmt: skip
"""The errnos of WASI in their order. Where it has none for what Linux has, the nearest is told."""

_NEAREST: Final = {
    errno.ECANCELED: "CANCELED", errno.ENODATA: "NOENT", errno.ETIME: "TIMEDOUT",
    errno.ECOMM: "IO", errno.EREMOTEIO: "IO", errno.ENOTBLK: "NOTSUP", errno.EUSERS: "MFILE",
    errno.EKEYREJECTED: "ACCES", errno.EKEYEXPIRED: "ACCES", errno.ENOKEY: "ACCES",
    errno.EHOSTDOWN: "HOSTUNREACH", errno.ESHUTDOWN: "PIPE", errno.ENOTUNIQ: "EXIST",
    errno.EDQUOT: "DQUOT",
}  # fmt: skip

_NUMBERS: Final = {
    number: _NAMES.index(name.removeprefix("E"))
    for number, name in errno.errorcode.items()
    if name.removeprefix("E") in _NAMES
} | {number: _NAMES.index(name) for number, name in _NEAREST.items()}


def errno_of(number: int) -> int:
    """Map an errno of Linux; what WASI has no number for is IO."""
    return _NUMBERS.get(number, Errno.IO)


class FileType(IntEnum):
    """What kind of file it is."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SYMBOLIC_LINK = 7


_TYPES: Final = {
    modes.S_IFBLK: FileType.BLOCK_DEVICE,
    modes.S_IFCHR: FileType.CHARACTER_DEVICE,
    modes.S_IFDIR: FileType.DIRECTORY,
    modes.S_IFREG: FileType.REGULAR_FILE,
    modes.S_IFLNK: FileType.SYMBOLIC_LINK,
}


def file_type(mode: int) -> FileType:
    """Give the kind of a file from its mode; WASI knows neither FIFOs nor the sockets of a path."""
    return _TYPES.get(modes.S_IFMT(mode), FileType.UNKNOWN)


# Flags are plain numbers: an IntFlag makes an object at each `&`, which costs more than the call.


class FdFlags:
    """How a descriptor reads and writes."""

    APPEND: Final = 1
    DSYNC: Final = 2
    NONBLOCK: Final = 4
    RSYNC: Final = 8
    SYNC: Final = 16


def open_flags(flags: int) -> int:
    """Give how open(2) writes those flags."""
    found = os.O_APPEND if flags & FdFlags.APPEND else 0
    found |= os.O_NONBLOCK if flags & FdFlags.NONBLOCK else 0
    found |= os.O_DSYNC if flags & FdFlags.DSYNC else 0
    return found | (os.O_SYNC if flags & (FdFlags.SYNC | FdFlags.RSYNC) else 0)


class OFlags:
    """How `path_open` opens."""

    CREAT: Final = 1
    DIRECTORY: Final = 2
    EXCL: Final = 4
    TRUNC: Final = 8


class FstFlags:
    """Which times are set, and to what."""

    ATIM: Final = 1
    ATIM_NOW: Final = 2
    MTIM: Final = 4
    MTIM_NOW: Final = 8


class Whence(IntEnum):
    """From where `fd_seek` counts."""

    SET = 0
    CUR = 1
    END = 2


class Clock(IntEnum):
    """The clocks."""

    REALTIME = 0
    MONOTONIC = 1
    PROCESS_CPUTIME = 2
    THREAD_CPUTIME = 3


class EventType(IntEnum):
    """What `poll_oneoff` waits for."""

    CLOCK = 0
    FD_READ = 1
    FD_WRITE = 2


FD_FLAGS: Final = FdFlags.APPEND | FdFlags.DSYNC | FdFlags.NONBLOCK | FdFlags.RSYNC | FdFlags.SYNC
O_FLAGS: Final = OFlags.CREAT | OFlags.DIRECTORY | OFlags.EXCL | OFlags.TRUNC
FST_FLAGS: Final = FstFlags.ATIM | FstFlags.ATIM_NOW | FstFlags.MTIM | FstFlags.MTIM_NOW
"""All flags that there are."""

SYMLINK_FOLLOW: Final = 1
ABSTIME: Final = 1
HANGUP: Final = 1


class Rights:
    """What may be done with a descriptor."""

    FD_DATASYNC: Final = 1 << 0
    FD_READ: Final = 1 << 1
    FD_SEEK: Final = 1 << 2
    FD_FDSTAT_SET_FLAGS: Final = 1 << 3
    FD_SYNC: Final = 1 << 4
    FD_TELL: Final = 1 << 5
    FD_WRITE: Final = 1 << 6
    FD_ADVISE: Final = 1 << 7
    FD_ALLOCATE: Final = 1 << 8
    PATH_CREATE_DIRECTORY: Final = 1 << 9
    PATH_CREATE_FILE: Final = 1 << 10
    PATH_LINK_SOURCE: Final = 1 << 11
    PATH_LINK_TARGET: Final = 1 << 12
    PATH_OPEN: Final = 1 << 13
    FD_READDIR: Final = 1 << 14
    PATH_READLINK: Final = 1 << 15
    PATH_RENAME_SOURCE: Final = 1 << 16
    PATH_RENAME_TARGET: Final = 1 << 17
    PATH_FILESTAT_GET: Final = 1 << 18
    PATH_FILESTAT_SET_SIZE: Final = 1 << 19
    PATH_FILESTAT_SET_TIMES: Final = 1 << 20
    FD_FILESTAT_GET: Final = 1 << 21
    FD_FILESTAT_SET_SIZE: Final = 1 << 22
    FD_FILESTAT_SET_TIMES: Final = 1 << 23
    PATH_SYMLINK: Final = 1 << 24
    PATH_REMOVE_DIRECTORY: Final = 1 << 25
    PATH_UNLINK_FILE: Final = 1 << 26
    POLL_FD_READWRITE: Final = 1 << 27
    SOCK_SHUTDOWN: Final = 1 << 28
    SOCK_ACCEPT: Final = 1 << 29


R = Rights


def right_name(right: int) -> str:
    """Name what is missing; of several the lowest."""
    names = {value: name for name, value in vars(Rights).items() if name[0] != "_"}
    return names[right & -right]


WRITING: Final = R.FD_WRITE | R.FD_ALLOCATE | R.FD_FILESTAT_SET_SIZE
"""What a file has that was opened for writing."""

FILE: Final = int(
    WRITING | R.FD_DATASYNC | R.FD_READ | R.FD_SEEK | R.FD_FDSTAT_SET_FLAGS | R.FD_SYNC
    | R.FD_TELL | R.FD_ADVISE | R.FD_FILESTAT_GET | R.FD_FILESTAT_SET_TIMES
    | R.POLL_FD_READWRITE
)  # fmt: skip

CHANGING: Final = (
    R.PATH_CREATE_DIRECTORY | R.PATH_CREATE_FILE | R.PATH_LINK_TARGET | R.PATH_RENAME_SOURCE
    | R.PATH_RENAME_TARGET | R.PATH_FILESTAT_SET_SIZE | R.PATH_FILESTAT_SET_TIMES
    | R.FD_FILESTAT_SET_TIMES | R.PATH_SYMLINK | R.PATH_REMOVE_DIRECTORY | R.PATH_UNLINK_FILE
)  # fmt: skip
"""What a directory has where names may be changed."""

DIRECTORY: Final = int(
    CHANGING | R.PATH_LINK_SOURCE | R.PATH_OPEN | R.FD_READDIR | R.PATH_READLINK
    | R.PATH_FILESTAT_GET | R.FD_FILESTAT_GET | R.FD_FDSTAT_SET_FLAGS | R.FD_SYNC | R.FD_DATASYNC
)  # fmt: skip

ALL: Final = FILE | DIRECTORY

PRESTAT: Final = Struct("<B3xI")
FDSTAT: Final = Struct("<BxH4xQQ")
FILESTAT: Final = Struct("<QQB7xQQQQQ")
DIRENT: Final = Struct("<QQIB3x")
SUBSCRIPTION: Final = Struct("<QB7xIxxxxQQH6x")
"""userdata, type, clock or descriptor; of a clock, too: timeout, precision, flags."""
EVENT: Final = Struct("<QHBxxxxxQH6x")
"""userdata, error, type, bytes, flags."""
U32: Final = Struct("<I")
U64: Final = Struct("<Q")
IOVEC: Final = Struct("<II")
