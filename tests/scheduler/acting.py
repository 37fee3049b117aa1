"""For tests of what jobs do: modules that are lists of calls, written down in their order."""

import struct
from collections.abc import Callable

from tests.scheduler.modules import wasm

READ, WRITE, READDIR = 1 << 1, 1 << 6, 1 << 14
CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
APPEND = 1
ROOT, OUT, ERR = 3, 1, 2
BUFFER = 65_536
"""Where what is read goes: the second page of the memory, and three more."""

_IMPORTS = {
    "fd_close": "i32", "fd_read": "i32 i32 i32 i32", "fd_write": "i32 i32 i32 i32",
    "fd_readdir": "i32 i32 i32 i64 i32", "path_create_directory": "i32 i32 i32",
    "path_filestat_get": "i32 i32 i32 i32 i32", "path_open": "i32 i32 i32 i32 i32 i64 i64 i32 i32",
    "path_remove_directory": "i32 i32 i32", "path_rename": "i32 i32 i32 i32 i32 i32",
    "path_unlink_file": "i32 i32 i32", "poll_oneoff": "i32 i32 i32 i32", "fd_pread":
    "i32 i32 i32 i64 i32",
}  # fmt: skip


class Acts:
    """A module that is put together call by call; what a call answers is let go."""

    def __init__(self) -> None:
        self._code: list[str] = []
        self._data: list[tuple[int, bytes]] = []
        self._free = 4_096
        self._loops = 0

    def _text(self, text: str | bytes) -> tuple[int, int]:
        raw = text.encode() if isinstance(text, str) else text
        at = self._free
        self._data.append((at, raw))
        self._free += len(raw)
        return at, len(raw)

    def _call(self, name: str, *arguments: int | str) -> "Acts":
        kinds = _IMPORTS[name].split()
        words = " ".join(
            one if isinstance(one, str) else f"({kind}.const {one})"
            for kind, one in zip(kinds, arguments, strict=True)
        )
        self._code.append(f"(drop (call ${name} {words}))")
        return self

    def _vec(self, at: int, size: int) -> None:
        self._code.append(f"(i32.store (i32.const 16) (i32.const {at}))")
        self._code.append(f"(i32.store (i32.const 20) (i32.const {size}))")

    def open(self, path: str, how: int = 0, rights: int = READ, flags: int = 0) -> "Acts":
        """Open a path; the calls that follow use what was opened."""
        # What could not be opened has no number.
        self._code.append("(i32.store (i32.const 0) (i32.const 9999))")
        return self._call("path_open", ROOT, 1, *self._text(path), how, rights, -1, flags, 0)

    def read(self, size: int = 4_096) -> "Acts":
        """Read once."""
        self._vec(BUFFER, size)
        return self._call("fd_read", "(i32.load (i32.const 0))", 16, 1, 24)

    def write(self, text: str | bytes) -> "Acts":
        """Write once."""
        self._vec(*self._text(text))
        return self._call("fd_write", "(i32.load (i32.const 0))", 16, 1, 24)

    def copy(self) -> "Acts":
        """Write to the standard output what was read last."""
        self._vec(BUFFER, 0)
        self._code.append("(i32.store (i32.const 20) (i32.load (i32.const 24)))")
        return self._call("fd_write", OUT, 16, 1, 28)

    def say(self, text: str | bytes, to: int = OUT) -> "Acts":
        """Write to the standard output or error."""
        self._vec(*self._text(text))
        return self._call("fd_write", to, 16, 1, 24)

    def hear(self) -> "Acts":
        """Read from the standard input."""
        self._vec(BUFFER, 4_096)
        return self._call("fd_read", 0, 16, 1, 24)

    def close(self) -> "Acts":
        """Close what was opened last."""
        return self._call("fd_close", "(i32.load (i32.const 0))")

    def list(self) -> "Acts":
        """List what was opened."""
        return self._call("fd_readdir", "(i32.load (i32.const 0))", BUFFER, 8_192, 0, 24)

    def stat(self, path: str) -> "Acts":
        """Ask for attributes."""
        return self._call("path_filestat_get", ROOT, 1, *self._text(path), BUFFER)

    def mkdir(self, path: str) -> "Acts":
        """Make a directory."""
        return self._call("path_create_directory", ROOT, *self._text(path))

    def rmdir(self, path: str) -> "Acts":
        """Remove a directory."""
        return self._call("path_remove_directory", ROOT, *self._text(path))

    def unlink(self, path: str) -> "Acts":
        """Remove a file."""
        return self._call("path_unlink_file", ROOT, *self._text(path))

    def rename(self, path: str, to: str) -> "Acts":
        """Rename a file."""
        return self._call("path_rename", ROOT, *self._text(path), ROOT, *self._text(to))

    def sleep(self, seconds: float) -> "Acts":
        """Wait."""
        # One subscription (48 bytes): a relative clock.
        self._free += -self._free % 8
        at, _ = self._text(struct.pack("<QB7xI4xQQH6x", 0, 0, 1, int(seconds * 1e9), 0, 0))
        return self._call("poll_oneoff", at, BUFFER, 1, 24)

    def times(self, count: int, body: Callable[["Acts"], object]) -> "Acts":
        """Do something again and again."""
        code, self._code = self._code, []
        body(self)
        inner, self._code = self._code, code
        at = 32 + 4 * self._loops
        name = f"$l{self._loops}"
        self._loops += 1
        self._code.append(
            f"(i32.store (i32.const {at}) (i32.const {count})) (loop {name} {' '.join(inner)}"
            f" (i32.store (i32.const {at}) (i32.sub (i32.load (i32.const {at})) (i32.const 1)))"
            f" (br_if {name} (i32.load (i32.const {at}))))"
        )
        return self

    def module(self) -> bytes:
        """Make the module."""
        imports = " ".join(
            f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {kinds})'
            " (result i32)))"
            for name, kinds in _IMPORTS.items()
        )
        data = " ".join(f'(data (i32.const {at}) "{_escaped(raw)}")' for at, raw in self._data)
        return wasm(
            f'(module {imports} (memory (export "memory") 4) {data}'
            f' (func (export "_start") {" ".join(self._code)}))'
        )


def _escaped(raw: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in raw)
