"""Modules for tests, written as WebAssembly text."""

from functools import lru_cache

import wasmtime


@lru_cache
def wasm(text: str) -> bytes:
    """Translate a module; without `(module …)` around it, it gets that, and a memory of a page."""
    if not text.lstrip().startswith("(module"):
        text = f'(module {text} (memory (export "memory") 1))'
    return bytes(wasmtime.wat2wasm(text))
