"""A module for measuring WASI: each call of a table in a loop, as an export of its own."""

from __future__ import annotations

import wasmtime
from attrs import frozen

FILE, BYTES, FOLDER, ENTRIES = "data", 1 << 20, "folder", 100

PAGE = 4_096
LARGE = 65_536

# Where things lie in the memory of the module.
_NAME, _FOLDER, _NONE, _VEC, _LARGE, _OUT, _STAT, _BUFFER = 0, 16, 32, 64, 72, 96, 128, 4_096
_READ, _WRITE, _READDIR = 1 << 1, 1 << 6, 1 << 14


@frozen
class Call:
    """One row: what is done each time round, as WebAssembly text, and how often for a figure."""

    name: str
    body: str
    times: int = 2_000


def _i(number: int) -> str:
    return f"(i32.const {number})"


def _opening(name: int, size: int, how: int, rights: int) -> str:
    return (
        f"(call $path_open {_i(3)} {_i(1)} {_i(name)} {_i(size)} {_i(how)}"
        f" (i64.const {rights}) (i64.const {rights}) {_i(0)} {_i(_OUT)})"
    )


def _paged(name: str, vec: int) -> str:
    # Another page each time, in the first 64 pages.
    at = "(i64.shl (i64.extend_i32_u (i32.and (local.get $n) (i32.const 63))) (i64.const 12))"
    return f"(drop (call ${name} (global.get $file) {_i(vec)} {_i(1)} {at} {_i(_OUT)}))"


_FILE_OPEN = _opening(_NAME, len(FILE), 0, _READ | _WRITE | 1 << 2 | 1 << 5 | 1 << 21)
_FOLDER_OPEN = _opening(_FOLDER, len(FOLDER), 2, _READDIR)

CALLS = (
    Call("clock_time_get", f"(drop (call $clock_time_get {_i(1)} (i64.const 0) {_i(_OUT)}))",
         20_000),
    Call("args_sizes_get", f"(drop (call $args_sizes_get {_i(_OUT)} {_i(_OUT + 4)}))", 20_000),
    Call("random_get, 16 bytes", f"(drop (call $random_get {_i(_BUFFER)} {_i(16)}))", 10_000),
    Call("sched_yield", "(drop (call $sched_yield))", 10_000),
    Call("fd_seek", f"(drop (call $fd_seek (global.get $file) (i64.const 0) {_i(1)} {_i(_OUT)}))",
         20_000),
    Call("fd_fdstat_get", f"(drop (call $fd_fdstat_get (global.get $file) {_i(_STAT)}))", 20_000),
    Call("fd_filestat_get", f"(drop (call $fd_filestat_get (global.get $file) {_i(_STAT)}))"),
    Call("path_filestat_get", f"(drop (call $path_filestat_get {_i(3)} {_i(1)} {_i(_NAME)}"
         f" {_i(len(FILE))} {_i(_STAT)}))"),
    Call("fd_pread, 4 KiB", _paged("fd_pread", _VEC)),
    Call("fd_pread, 64 KiB", _paged("fd_pread", _LARGE)),
    Call("fd_pwrite, 4 KiB", _paged("fd_pwrite", _VEC)),
    Call("path_open, fd_close", f"(drop {_FILE_OPEN})"
         f" (drop (call $fd_close (i32.load {_i(_OUT)})))"),
    Call("path_open, no such file", f"(drop {_opening(_NONE, 4, 0, _READ)})"),
    Call(f"list {ENTRIES} entries", f"(drop {_FOLDER_OPEN}) (drop (call $fd_readdir"
         f" (i32.load {_i(_OUT)}) {_i(_BUFFER)} {_i(16_384)} (i64.const 0) {_i(_STAT)}))"
         f" (drop (call $fd_close (i32.load {_i(_OUT)})))", 200),
)  # fmt: skip
"""The rows of the table."""

_IMPORTS = {
    "clock_time_get": "i32 i64 i32", "args_sizes_get": "i32 i32", "random_get": "i32 i32",
    "sched_yield": "", "fd_seek": "i32 i64 i32 i32", "fd_fdstat_get": "i32 i32",
    "fd_filestat_get": "i32 i32", "path_filestat_get": "i32 i32 i32 i32 i32",
    "fd_pread": "i32 i32 i32 i64 i32", "fd_pwrite": "i32 i32 i32 i64 i32", "fd_close": "i32",
    "path_open": "i32 i32 i32 i32 i32 i64 i64 i32 i32", "fd_readdir": "i32 i32 i32 i64 i32",
    "fd_read": "i32 i32 i32 i32",
}  # fmt: skip


def _module(*parts: str) -> bytes:
    imports = "".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {params}) (result i32)))'
        for name, params in _IMPORTS.items()
    )
    return bytes(wasmtime.wat2wasm(f"(module {imports} {''.join(parts)})"))


def hello() -> bytes:
    """Make a module that asks for the time and ends."""
    return _module(
        '(memory (export "memory") 2) (func (export "_start")',
        f" (drop (call $clock_time_get {_i(1)} (i64.const 0) {_i(_OUT)})))",
    )


def waiting() -> bytes:
    """Make a module that waits for its standard input."""
    return _module(
        f'(memory (export "memory") 2) (data {_i(_VEC)} "{_words(_BUFFER, PAGE)}")'
        f' (func (export "_start") (drop (call $fd_read {_i(0)} {_i(_VEC)} {_i(1)} {_i(_OUT)})))'
    )


def calls() -> bytes:
    """Make a module with exports `setup`, and `0`, `1` … for the rows: how often each is done."""
    loops = (
        f'(func (export "{number}") (param $n i32) (loop $l {call.body} (br_if $l'
        " (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))"
        for number, call in enumerate(CALLS)
    )
    return _module(
        '(memory (export "memory") 4) (global $file (mut i32) (i32.const 0))',
        f'(data {_i(_NAME)} "{FILE}") (data {_i(_FOLDER)} "{FOLDER}") (data {_i(_NONE)} "none")',
        f'(data {_i(_VEC)} "{_words(_BUFFER, PAGE, _BUFFER, LARGE)}")',
        f'(func (export "setup") (if {_FILE_OPEN} (then unreachable))',
        f" (global.set $file (i32.load {_i(_OUT)})))",
        *loops,
    )


def _words(*numbers: int) -> str:
    raw = b"".join(number.to_bytes(4, "little") for number in numbers)
    return "".join(f"\\{byte:02x}" for byte in raw)
