"""Exporting: has a module export functions that it has and keeps to itself.

WebAssembly core specification 1.0, 5.5: sections are a number, a size and a content; the seventh
lists what is exported, each with a name, its kind (0 for a function) and its index.
"""

import errno
from collections.abc import Mapping
from typing import Final

from oanix.errors import fault

_FIRST: Final = 8
"""Where the first section begins."""
_EXPORTS: Final = 7


def exporting(wasm: bytes, functions: Mapping[str, int]) -> bytes:
    """Add functions, by their index, to what a module exports. Raises OSError ENOEXEC."""
    at = _FIRST
    while at < len(wasm):
        number = wasm[at]
        size, begin = _read(wasm, at + 1)
        end = begin + size
        if number == _EXPORTS:
            count, first = _read(wasm, begin)
            more = b"".join(_export(name, index) for name, index in functions.items())
            content = _number(count + len(functions)) + wasm[first:end] + more
            return b"".join([wasm[: at + 1], _number(len(content)), content, wasm[end:]])
        at = end
    raise fault(errno.ENOEXEC, "this module exports nothing")


def _export(name: str, index: int) -> bytes:
    raw = name.encode()
    return _number(len(raw)) + raw + b"\0" + _number(index)


def _read(wasm: bytes, at: int) -> tuple[int, int]:
    """Read a number (LEB128), and say where what follows it begins."""
    value = shift = 0
    while True:
        byte = wasm[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
