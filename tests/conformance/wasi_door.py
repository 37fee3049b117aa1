"""The WASI door of the acceptance suite: a guest makes each call, as a C library would."""

import errno
import os
import stat as modes
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from oanix.caller import Caller
from oanix.errors import fault
from oanix.namespace import Namespace
from oanix.path import decode, encode
from oanix.scheduler.engine import Engine, Guest, GuestLimits, Linker
from oanix.scheduler.wasi import Bounds, Process, functions
from oanix.scheduler.wasi.abi import (
    DIRECTORY,
    FILE,
    WRITING,
    FdFlags,
    FileType,
    FstFlags,
    OFlags,
    Rights,
    errno_of,
)
from oanix.stat import Stat, StatLike
from tests.scheduler.wasi_help import probe

LINUX = {errno_of(number): number for number in sorted(errno.errorcode, reverse=True)}
"""The errno of Linux for each number of WASI; of several the lowest."""

LINUX[errno_of(errno.EOPNOTSUPP)] = errno.EOPNOTSUPP
LINUX[errno_of(errno.EAGAIN)] = errno.EAGAIN
LINUX[76] = errno.EBADF
"""What a descriptor has no right to, a C library tells as this."""

KINDS = {
    FileType.DIRECTORY: modes.S_IFDIR, FileType.REGULAR_FILE: modes.S_IFREG,
    FileType.SYMBOLIC_LINK: modes.S_IFLNK, FileType.CHARACTER_DEVICE: modes.S_IFCHR,
}  # fmt: skip

TOP = 3
# Where things lie in the memory of the guest.
PATH, OTHER, VEC, OUT, BUFFER, SIZE = 1_024, 8_192, 16, 64, 65_536, 512 << 10


class WasiDoor:
    """A guest whose world is a namespace. Its methods are called in a worker thread."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self.folder = "/"
        self._open: set[int] = set()

    # The guest -----------------------------------------------------------------------------------

    def _call(self, name: str, *numbers: int) -> None:
        answer = trio.from_thread.run(self._guest.call, name, *numbers)
        if answer:
            raise OSError(LINUX[answer], os.strerror(LINUX[answer]), name)

    def _put(self, path: str, at: int = PATH) -> tuple[int, int]:
        whole = path if path.startswith("/") else f"{self.folder}/{path}"
        # A C library strips the preopened directory, here the root.
        raw = encode(whole).lstrip(b"/") or b"."
        return self._write(raw, at)

    def _write(self, raw: bytes, at: int) -> tuple[int, int]:
        trio.from_thread.run_sync(self._guest.memory.write, at, raw)
        return at, len(raw)

    def _read(self, at: int, size: int) -> bytes:
        return trio.from_thread.run_sync(self._guest.memory.read, at, size)

    def _u32(self, at: int = OUT) -> int:
        return int.from_bytes(self._read(at, 4), "little")

    def _vec(self, size: int) -> tuple[int, int]:
        self._write(struct.pack("<II", BUFFER, size), VEC)
        return VEC, 1

    # Files ---------------------------------------------------------------------------------------

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        how = 0
        for linux, wasi in (
            (os.O_CREAT, OFlags.CREAT), (os.O_EXCL, OFlags.EXCL), (os.O_TRUNC, OFlags.TRUNC),
            (os.O_DIRECTORY, OFlags.DIRECTORY),
        ):  # fmt: skip
            how |= wasi if flags & linux else 0
        rights = FILE | DIRECTORY
        if flags & os.O_ACCMODE == os.O_RDONLY:
            rights &= ~WRITING
        elif flags & os.O_ACCMODE == os.O_WRONLY:
            rights &= ~(Rights.FD_READ | Rights.FD_READDIR)
        follow = 0 if flags & os.O_NOFOLLOW else 1
        more = FdFlags.APPEND if flags & os.O_APPEND else 0
        at, size = self._put(path)
        self._call("path_open", TOP, follow, at, size, how, rights, rights, more, OUT)
        fd = self._u32()
        self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:
        self._open.discard(fd)
        self._call("fd_close", fd)

    def read(self, fd: int, size: int) -> bytes:
        self._call("fd_read", fd, *self._vec(min(size, SIZE)), OUT)
        return self._read(BUFFER, self._u32())

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self._call("fd_pread", fd, *self._vec(min(size, SIZE)), offset, OUT)
        return self._read(BUFFER, self._u32())

    def write(self, fd: int, data: bytes) -> int:
        self._write(data[:SIZE], BUFFER)
        self._call("fd_write", fd, *self._vec(len(data[:SIZE])), OUT)
        return self._u32()

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self._write(data[:SIZE], BUFFER)
        self._call("fd_pwrite", fd, *self._vec(len(data[:SIZE])), offset, OUT)
        return self._u32()

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        self._call("fd_seek", fd, offset & (1 << 64) - 1, whence, OUT)
        return int.from_bytes(self._read(OUT, 8), "little")

    def ftruncate(self, fd: int, size: int) -> None:
        self._call("fd_filestat_set_size", fd, size & (1 << 64) - 1)

    def fsync(self, fd: int) -> None:
        self._call("fd_sync", fd)

    # Attributes ----------------------------------------------------------------------------------

    def _found(self) -> StatLike:
        device, inode, kind, links, size, atime, mtime, ctime = struct.unpack(
            "<QQB7xQQQQQ", self._read(OUT, 64)
        )
        return Stat(
            KINDS[kind], links, 0, 0, st_ino=inode, st_size=size, st_atime_ns=atime,
            st_mtime_ns=mtime, st_ctime_ns=ctime, st_rdev=device,
        )  # fmt: skip

    def fstat(self, fd: int) -> StatLike:
        self._call("fd_filestat_get", fd, OUT)
        return self._found()

    def stat(self, path: str, *, follow: bool = True) -> StatLike:
        at, size = self._put(path)
        self._call("path_filestat_get", TOP, int(follow), at, size, OUT)
        return self._found()

    def same(self, one: str, other: str) -> bool:
        found = [self.stat(path, follow=False) for path in (one, other)]
        return found[0].st_ino == found[1].st_ino

    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        at, size = self._put(path)
        which = FstFlags.ATIM | FstFlags.MTIM
        self._call("path_filestat_set_times", TOP, 1, at, size, atime_ns, mtime_ns, which)

    def truncate(self, path: str, size: int) -> None:
        # truncate(2) of wasi-libc: it opens, and sets the size of that.
        fd = self.open(path, os.O_WRONLY)
        try:
            self.ftruncate(fd, size)
        finally:
            self.close(fd)

    def _none(self, what: str) -> OSError:
        return fault(errno.EOPNOTSUPP, f"WASI preview 1 has no {what}")

    def chmod(self, path: str, mode: int) -> None:
        raise self._none("modes")

    def chown(self, path: str, uid: int, gid: int) -> None:
        raise self._none("owners")

    def getxattr(self, path: str, name: str) -> bytes:
        raise self._none("extended attributes")

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        raise self._none("extended attributes")

    def listxattr(self, path: str) -> list[str]:
        raise self._none("extended attributes")

    def removexattr(self, path: str, name: str) -> None:
        raise self._none("extended attributes")

    def statvfs(self, path: str) -> tuple[int, int, int]:
        raise self._none("figures of the storage")

    # Names ---------------------------------------------------------------------------------------

    def listdir(self, path: str) -> list[str]:
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return [name for name in self._names(fd) if name not in (".", "..")]
        finally:
            self.close(fd)

    def _names(self, fd: int) -> Sequence[str]:
        found, cookie = [], 0
        while True:
            self._call("fd_readdir", fd, BUFFER, SIZE, cookie, OUT)
            filled = self._u32()
            data, at = self._read(BUFFER, filled), 0
            while at + 24 <= filled:
                following, _, length, _ = struct.unpack_from("<QQIB3x", data, at)
                if at + 24 + length > filled:
                    break
                found.append(decode(data[at + 24 : at + 24 + length]))
                at, cookie = at + 24 + length, following
            if filled < SIZE:
                return found

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        self._call("path_create_directory", TOP, *self._put(path))

    def rmdir(self, path: str) -> None:
        self._call("path_remove_directory", TOP, *self._put(path))

    def unlink(self, path: str) -> None:
        self._call("path_unlink_file", TOP, *self._put(path))

    def rename(self, source: str, target: str, flags: int = 0) -> None:
        if flags:
            raise self._none("flags of a rename")
        old = self._put(source)
        self._call("path_rename", TOP, *old, TOP, *self._put(target, OTHER))

    def link(self, source: str, path: str) -> None:
        old = self._put(source)
        self._call("path_link", TOP, 0, *old, TOP, *self._put(path, OTHER))

    def symlink(self, target: str, path: str) -> None:
        old = self._write(encode(target), OTHER)
        self._call("path_symlink", *old, TOP, *self._put(path))

    def readlink(self, path: str) -> str:
        at, size = self._put(path)
        self._call("path_readlink", TOP, at, size, BUFFER, SIZE, OUT)
        return decode(self._read(BUFFER, self._u32()))

    def settle(self) -> None:
        while self._open:
            self.close(next(iter(self._open)))


@asynccontextmanager
async def wasi_door(namespace: Namespace) -> AsyncIterator[WasiDoor]:
    """Run a guest whose world is a namespace, for as long as the block."""
    bounds = Bounds(files=1_024, written_bytes=1 << 63)
    process = Process(namespace, Caller(door="wasi"), args=["probe"], env={}, bounds=bounds)
    process.give([None, None, None])
    for _ in range(TOP + 1):
        process.preopen(namespace.root, "/")
    engine = Engine()
    module = await engine.compile(probe())
    ready = trio.Event()

    async def living(guest: Guest) -> int:
        ready.set()
        await trio.sleep_forever()
        return 0

    with Guest(Linker(engine, functions()), module, process, GuestLimits()) as guest:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guest.run, living)
            await ready.wait()
            yield WasiDoor(guest)
            nursery.cancel_scope.cancel()
    process.close()
