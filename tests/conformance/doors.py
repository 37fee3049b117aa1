"""Doors of the acceptance suite: a directory of the host, and a namespace in this process."""

import ctypes
import errno
import os
from collections.abc import Callable
from typing import TypeVar

import trio

from oanix.caller import Caller
from oanix.client import Client, File
from oanix.errors import fault
from oanix.namespace import Namespace
from oanix.path import decode, encode
from oanix.stat import Changed, StatLike

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100


class HostDoor:
    """Plain calls on a directory: the host's own, or a mount point of ours."""

    def __init__(self, top: str) -> None:
        self.top = os.fsencode(top)
        self.folder = "/"
        self._open: set[int] = set()

    def _at(self, path: str) -> bytes:
        whole = path if path.startswith("/") else f"{self.folder}/{path}"
        return self.top + encode(whole)

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        fd = os.open(self._at(path), flags, mode)
        self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:
        self._open.discard(fd)
        os.close(fd)

    def read(self, fd: int, size: int) -> bytes:
        return os.read(fd, size)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def write(self, fd: int, data: bytes) -> int:
        return os.write(fd, data)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        return os.lseek(fd, offset, whence)

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def fstat(self, fd: int) -> StatLike:
        return os.fstat(fd)

    def stat(self, path: str, *, follow: bool = True) -> StatLike:
        return os.stat(self._at(path), follow_symlinks=follow)

    def same(self, one: str, other: str) -> bool:
        return os.path.samestat(os.lstat(self._at(one)), os.lstat(self._at(other)))

    def listdir(self, path: str) -> list[str]:
        return [decode(name) for name in os.listdir(self._at(path))]

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def rename(self, source: str, target: str, flags: int = 0) -> None:
        paths = self._at(source), self._at(target)
        if _libc.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], flags):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), source)

    def link(self, source: str, path: str) -> None:
        os.link(self._at(source), self._at(path), follow_symlinks=False)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(encode(target), self._at(path))

    def readlink(self, path: str) -> str:
        return decode(os.readlink(self._at(path)))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._at(path), uid, gid)

    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        os.utime(self._at(path), ns=(atime_ns, mtime_ns))

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._at(path), size)

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self._at(path), encode(name))

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        os.setxattr(self._at(path), encode(name), value)

    def listxattr(self, path: str) -> list[str]:
        return os.listxattr(self._at(path))

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self._at(path), encode(name))

    def statvfs(self, path: str) -> tuple[int, int, int]:
        found = os.statvfs(self._at(path))
        return found.f_frsize, found.f_blocks, found.f_bfree

    def settle(self) -> None:
        while self._open:
            os.close(self._open.pop())


class KernelDoor:
    """A namespace through the client and the channel, without any door of Linux between.

    Its methods are called in a worker thread of a running trio loop, as services are touched on
    that loop's thread alone.
    """

    def __init__(self, namespace: Namespace, caller: Caller | None = None) -> None:
        self.client = Client(namespace, caller)
        self.folder = "/"
        self._files: dict[int, tuple[File, Callable[[], object]]] = {}
        self._next = 3

    def _at(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.folder}/{path}"

    def _do(self, call: Callable[[], T]) -> T:
        return trio.from_thread.run_sync(call)

    def _file(self, fd: int) -> File:
        if fd not in self._files:
            raise fault(errno.EBADF, f"{fd} is not open")
        return self._files[fd][0]

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        manager = self.client.open(self._at(path), flags, mode)
        file = trio.from_thread.run(manager.__aenter__)
        fd, self._next = self._next, self._next + 1
        self._files[fd] = file, lambda: trio.from_thread.run(manager.__aexit__, None, None, None)
        return fd

    def close(self, fd: int) -> None:
        self._file(fd)
        self._files.pop(fd)[1]()

    def read(self, fd: int, size: int) -> bytes:
        return trio.from_thread.run(self._file(fd).read, size)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        file = self._file(fd)
        before = file.tell()
        self._do(lambda: file.seek(offset))
        try:
            return self.read(fd, size)
        finally:
            self._do(lambda: file.seek(before))

    def write(self, fd: int, data: bytes) -> int:
        return trio.from_thread.run(self._file(fd).write, data)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        file = self._file(fd)
        before = file.tell()
        self._do(lambda: file.seek(offset))
        try:
            return self.write(fd, data)
        finally:
            self._do(lambda: file.seek(before))

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        file = self._file(fd)
        return self._do(lambda: file.seek(offset, whence))

    def ftruncate(self, fd: int, size: int) -> None:
        file = self._file(fd)
        self._do(lambda: file.truncate(size))

    def fsync(self, fd: int) -> None:
        trio.from_thread.run(self._file(fd).fsync)

    def fstat(self, fd: int) -> StatLike:
        return self._do(self._file(fd).stat)

    def stat(self, path: str, *, follow: bool = True) -> StatLike:
        return self._do(lambda: self.client.stat(self._at(path), follow=follow))

    def same(self, one: str, other: str) -> bool:
        def keys() -> bool:
            channels = [self.client.channel(self._at(p), follow=False) for p in (one, other)]
            return channels[0].key == channels[1].key

        return self._do(keys)

    def listdir(self, path: str) -> list[str]:
        return self._do(lambda: self.client.listdir(self._at(path)))

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        self._do(lambda: self.client.mkdir(self._at(path), mode))

    def rmdir(self, path: str) -> None:
        self._do(lambda: self.client.rmdir(self._at(path)))

    def unlink(self, path: str) -> None:
        self._do(lambda: self.client.unlink(self._at(path)))

    def rename(self, source: str, target: str, flags: int = 0) -> None:
        self._do(lambda: self.client.rename(self._at(source), self._at(target), flags))

    def link(self, source: str, path: str) -> None:
        self._do(lambda: self.client.link(self._at(source), self._at(path)))

    def symlink(self, target: str, path: str) -> None:
        self._do(lambda: self.client.symlink(target, self._at(path)))

    def readlink(self, path: str) -> str:
        return self._do(lambda: self.client.readlink(self._at(path)))

    def _change(self, path: str, changed: Changed) -> None:
        caller = self.client.caller
        self._do(lambda: self.client.channel(self._at(path)).setattr(caller, changed))

    def chmod(self, path: str, mode: int) -> None:
        self._change(path, Changed(mode=mode))

    def chown(self, path: str, uid: int, gid: int) -> None:
        self._change(path, Changed(uid=None if uid < 0 else uid, gid=None if gid < 0 else gid))

    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        self._change(path, Changed(atime_ns=atime_ns, mtime_ns=mtime_ns))

    def truncate(self, path: str, size: int) -> None:
        self._change(path, Changed(size=size))

    def getxattr(self, path: str, name: str) -> bytes:
        caller = self.client.caller
        return self._do(lambda: self.client.channel(self._at(path)).getxattr(caller, name))

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        caller = self.client.caller
        self._do(lambda: self.client.channel(self._at(path)).setxattr(caller, name, value))

    def listxattr(self, path: str) -> list[str]:
        caller = self.client.caller
        return self._do(lambda: self.client.channel(self._at(path)).listxattr(caller))

    def removexattr(self, path: str, name: str) -> None:
        caller = self.client.caller
        self._do(lambda: self.client.channel(self._at(path)).removexattr(caller, name))

    def statvfs(self, path: str) -> tuple[int, int, int]:
        caller = self.client.caller
        found = self._do(lambda: self.client.channel(self._at(path)).statfs(caller))
        return found.frsize, found.blocks, found.bfree

    def settle(self) -> None:
        for fd in list(self._files):
            self.close(fd)
