"""For tests of the WASI door: a guest whose every import is called from the test."""

import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from oanix.caller import Caller
from oanix.client import Client
from oanix.namespace import Namespace
from oanix.scheduler.engine import Engine, Guest, GuestLimits, Linker
from oanix.scheduler.wasi import Bounds, Process, functions
from oanix.scheduler.wasi.abi import ALL
from oanix.services.memfs import MemFs
from tests.scheduler.modules import wasm

CALLER = Caller(door="wasi", job="1")

SUCCESS, BADF, EXIST, FAULT, INVAL, ISDIR, LOOP = 0, 8, 20, 21, 28, 31, 32
AGAIN, MFILE, NOENT, NOTDIR, NOTEMPTY = 6, 33, 44, 54, 55
PERM, ROFS, SPIPE, NOTCAPABLE = 63, 69, 70, 76
READ, WRITE = 1 << 1, 1 << 6


def probe() -> bytes:
    """Make a module that exports everything that it imports, and a memory of 16 pages."""
    kinds = {"i": "i32", "I": "i64"}
    imports = [
        f'(import "{one.module}" "{one.name}" (func ${one.name} (param '
        f"{' '.join(kinds[letter] for letter in one.params)})"
        f"{' (result i32)' if one.result else ''}))"
        for one in functions()
    ]
    exports = [f'(export "{one.name}" (func ${one.name}))' for one in functions()]
    memory = '(memory (export "memory") 16)'
    return wasm(f"(module {' '.join(imports)} {memory} {' '.join(exports)})")


class Hands:
    """What a test does as a guest. Strings and buffers are put where nothing else is."""

    def __init__(self, guest: Guest, process: Process) -> None:
        self.guest = guest
        self.memory = guest.memory
        self.process = process
        self._free = 1_024

    async def __call__(self, name: str, *numbers: int) -> int:
        return await self.guest.call(name, *numbers)

    def room(self, size: int) -> int:
        """Find room in the memory."""
        at, self._free = self._free, self._free + (size + 15) // 16 * 16
        return at

    def text(self, text: str | bytes) -> tuple[int, int]:
        """Put a text into the memory."""
        raw = text.encode() if isinstance(text, str) else text
        at = self.room(len(raw))
        self.memory.write(at, raw)
        return at, len(raw)

    async def open(
        self, path: str | bytes, how: int = 0, rights: int = READ, *, fd: int = 3,
        flags: int = 0, follow: int = 1, inheriting: int = ALL,
    ) -> tuple[int, int]:  # fmt: skip
        """Open a path; gives the errno and the descriptor."""
        out = self.room(4)
        at, size = self.text(path)
        answer = await self("path_open", fd, follow, at, size, how, rights, inheriting, flags, out)
        return answer, self.memory.u32(out)

    async def opened(self, path: str, how: int = 0, rights: int = READ, **more: int) -> int:
        """Open a path, and give the descriptor."""
        answer, fd = await self.open(path, how, rights, **more)
        assert answer == 0, (path, answer)
        return fd

    def vec(self, *pieces: tuple[int, int]) -> tuple[int, int]:
        """Put a list of buffers into the memory."""
        raw = b"".join(struct.pack("<II", *piece) for piece in pieces)
        return self.text(raw)[0], len(pieces)

    async def read(self, fd: int, size: int = 4_096) -> tuple[int, bytes]:
        """Read; gives the errno and the bytes."""
        at, out = self.room(size), self.room(4)
        answer = await self("fd_read", fd, *self.vec((at, size)), out)
        return answer, self.memory.read(at, self.memory.u32(out)) if not answer else b""

    async def write(self, fd: int, data: bytes) -> tuple[int, int]:
        """Write; gives the errno and how much was taken."""
        out = self.room(4)
        answer = await self("fd_write", fd, *self.vec(self.text(data)), out)
        return answer, self.memory.u32(out)

    async def path(self, name: str, path: str | bytes, *, fd: int = 3) -> int:
        """Make a call that takes a directory and a path."""
        return await self(name, fd, *self.text(path))

    async def stat(self, path: str, *, follow: int = 1) -> tuple[int, tuple[Any, ...]]:
        """Give the errno, and device, inode, type, links, size and times of a path."""
        out = self.room(64)
        answer = await self("path_filestat_get", 3, follow, *self.text(path), out)
        return answer, struct.unpack("<QQB7xQQQQQ", self.memory.read(out, 64))

    async def names(self, fd: int, size: int = 4_096) -> list[str]:
        """List a directory, in pieces of so many bytes."""
        found, cookie = [], 0
        out, used = self.room(size), self.room(4)
        while True:
            assert await self("fd_readdir", fd, out, size, cookie, used) == 0
            filled = self.memory.u32(used)
            data, at = self.memory.read(out, filled), 0
            while at + 24 <= filled:
                following, _, length, _ = struct.unpack_from("<QQIB3x", data, at)
                if at + 24 + length > filled:
                    break
                found.append(data[at + 24 : at + 24 + length].decode())
                at, cookie = at + 24 + length, following
            if filled < size:
                return found
            assert at, "the buffer is too small for a name"


Body = Callable[[Hands], Awaitable[None]]


class World:
    """A namespace with files in memory, and guests in it."""

    def __init__(self, namespace: Namespace | None = None) -> None:
        self.namespace = namespace or Namespace()
        if namespace is None:
            self.namespace.mount(MemFs.from_argument(None), "/")
        self.client = Client(self.namespace, CALLER)
        self.engine = Engine()
        self._linker = Linker(self.engine, functions())

    def process(self, **more: Any) -> Process:
        """Make a process whose root is that of the namespace, as descriptor 3."""
        more = {"args": ["probe"], "env": {}, **more}
        process = Process(self.namespace, CALLER, **more)
        process.give([None, None, None])
        for _ in range(3):
            process.preopen(self.namespace.root, "/")
        process.preopen(self.namespace.root, "/")
        return process

    async def run(self, body: Body, **more: Any) -> Process:
        """Be a guest."""
        process = self.process(**more)
        module = await self.engine.compile(probe())
        with Guest(self._linker, module, process, GuestLimits()) as guest:
            with trio.fail_after(10):
                ended = await guest.run(partial(_body, body, process))
            process.close()
        assert ended.code == 0, ended
        return process


async def _body(body: Body, process: Process, guest: Guest) -> int:
    await body(Hands(guest, process))
    return 0


__all__ = ["Bounds", "Hands", "World"]
