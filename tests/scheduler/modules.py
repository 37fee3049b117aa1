"""Modules for tests, written as WebAssembly text."""

from functools import lru_cache

import wasmtime


@lru_cache
def wasm(text: str) -> bytes:
    """Translate a module; without `(module …)` around it, it gets that, and a memory of a page."""
    if not text.lstrip().startswith("(module"):
        text = f'(module {text} (memory (export "memory") 1))'
    return bytes(wasmtime.wat2wasm(text))


def leb(number: int) -> bytes:
    """Write a number as WebAssembly does."""
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def section(number: int, content: bytes) -> bytes:
    """Write a section of a module."""
    return bytes([number]) + leb(len(content)) + content


def slow_to_compile() -> bytes:
    """A module of which each function has 50,000 instructions."""
    step = b"\x20\x00\x41\x07\x6c\x6a"
    body = b"\x00\x20\x00" + step * 12_500 + b"\x0b"
    code = leb(len(body)) + body
    return (
        b"\0asm\1\0\0\0" + section(1, b"\x02\x60\x01\x7f\x01\x7f\x60\0\0")
        + section(3, leb(201) + bytes(200) + b"\x01") + section(7, b"\x01\x06_start\0" + leb(200))
        + section(10, leb(201) + code * 200 + b"\x02\x00\x0b")
    )  # fmt: skip
