"""Modules that mean harm, written as WebAssembly text, and what they have to tell of it.

A `Guest` puts a module together: its texts lie in its memory, its body is a list of instructions,
and what it tells (`tell`) goes to its standard output as numbers of 32 bits, which `told` reads.
"""

import struct

from oanix.scheduler.wasi import functions
from tests.scheduler.modules import wasm

READ, WRITE = 1 << 1, 1 << 6
CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
BADF, FAULT, INVAL, LOOP, MFILE, NOENT, NOTCAPABLE = 8, 21, 28, 32, 33, 44, 76
DQUOT, ISDIR, NOMEM, NOTDIR, ROFS = 19, 31, 48, 54, 69

OUT, VEC, ROOM, TEXTS = 0, 16, 64, 8_192
"""Where a result goes, a list of one buffer, that buffer, and the texts."""


class Guest:
    """One module. Functions of WASI have their names, `$fd_read` for example."""

    def __init__(self, *, pages: int = 16, most: str = "") -> None:
        self._body: list[str] = []
        self._data = bytearray()
        self._memory = f'(memory (export "memory") {pages} {most})'

    def text(self, text: str | bytes) -> str:
        """Give the place and the size of a text, as two arguments."""
        raw = text.encode() if isinstance(text, str) else text
        at = TEXTS + len(self._data)
        self._data += raw
        return f"(i32.const {at}) (i32.const {len(raw)})"

    def do(self, *instructions: str) -> "Guest":
        """Add instructions."""
        self._body += instructions
        return self

    def tell(self, *expressions: str) -> "Guest":
        """Have it tell numbers of 32 bits."""
        return self.do(*(f"(call $tell {one})" for one in expressions))

    def loop(self, *instructions: str, times: int | None = None) -> "Guest":
        """Add a loop, endless if no number is given."""
        inner = " ".join(instructions)
        if times is None:
            return self.do(f"(loop $l {inner} (br $l))")
        return self.do(
            f"(local.set $n (i32.const {times})) (loop $l {inner}"
            " (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))"
        )

    def open(
        self, path: str | bytes, how: int = 0, rights: int = READ, *, fd: int = 3, follow: int = 1
    ) -> str:
        """Give the expression that opens a path; it is the errno, and OUT holds the descriptor."""
        return (
            f"(call $path_open (i32.const {fd}) (i32.const {follow}) {self.text(path)}"
            f" (i32.const {how}) (i64.const {rights}) (i64.const -1) (i32.const 0)"
            f" (i32.const {OUT}))"
        )

    def path(self, name: str, path: str | bytes, *, fd: int = 3) -> str:
        """Give the expression of a call that takes a directory and a path."""
        return f"(call ${name} (i32.const {fd}) {self.text(path)})"

    def read(self, fd: str = f"(i32.load (i32.const {OUT}))", size: int = 4_096) -> str:
        """Give the expression that reads into ROOM; VEC + 8 holds how much."""
        return self._moved("fd_read", fd, size)

    def write(self, fd: str, size: int) -> str:
        """Give the expression that writes from ROOM."""
        return self._moved("fd_write", fd, size)

    def _moved(self, name: str, fd: str, size: int) -> str:
        return (
            f"(block (result i32) (i32.store (i32.const {VEC}) (i32.const {ROOM}))"
            f" (i32.store (i32.const {VEC + 4}) (i32.const {size}))"
            f" (call ${name} {fd} (i32.const {VEC}) (i32.const 1) (i32.const {VEC + 8})))"
        )

    def made(self, *, start: bool = False) -> bytes:
        """Give the module; with `start` the body is its start function."""
        kinds = {"i": "i32", "I": "i64"}
        imports = [
            f'(import "{one.module}" "{one.name}" (func ${one.name} (param '
            f"{' '.join(kinds[letter] for letter in one.params)})"
            f"{' (result i32)' if one.result else ''}))"
            for one in functions()
        ]
        data = "".join(f"\\{byte:02x}" for byte in self._data)
        tell = (
            "(func $tell (param i32)"
            f" (i32.store (i32.const {ROOM - 4}) (local.get 0))"
            f" (i32.store (i32.const {VEC}) (i32.const {ROOM - 4}))"
            f" (i32.store (i32.const {VEC + 4}) (i32.const 4))"
            f" (drop (call $fd_write (i32.const 1) (i32.const {VEC}) (i32.const 1)"
            f" (i32.const {VEC + 8}))))"
        )
        main = f"(func $main (local $n i32) (local $m i32) {' '.join(self._body)})"
        begin = (
            '(start $main) (func (export "_start"))'
            if start
            else ('(export "_start" (func $main))')
        )
        return wasm(
            f"(module {' '.join(imports)} {self._memory} (table $table 10 funcref)"
            f' (data (i32.const {TEXTS}) "{data}") {tell} {main} {begin})'
        )


def told(output: bytes) -> list[int]:
    """Read what a guest told."""
    return [one for (one,) in struct.iter_unpack("<I", output)]
