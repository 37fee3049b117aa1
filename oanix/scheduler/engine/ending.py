"""Ending: what a guest may use, what it used, and how it ended."""

import math
from typing import Final

import wasmtime
from attrs import field, frozen

FRAMES: Final = 20
"""Of a trap's backtrace, so many lines are kept."""


@frozen(kw_only=True)
class GuestLimits:
    """What a guest may use. Times in seconds, sizes in bytes."""

    wall: float = math.inf
    cpu: float = math.inf
    fuel: int | None = None
    memory: int = 256 << 20
    table: int = 1 << 20


@frozen(kw_only=True)
class Used:
    """What a guest has used. met: limits that it met and lived on, as far as a host learns."""

    wall: float
    cpu: float
    memory: int
    fuel: int | None
    met: frozenset[str] = frozenset()


@frozen(kw_only=True)
class Ended:
    """How a guest ended: with a code, with a trap, or at a limit; one of the three is set."""

    code: int | None = None
    trap: str = ""
    limit: str = ""
    backtrace: str = ""
    used: Used = field(kw_only=True)


def told_of(error: wasmtime.Trap) -> tuple[str, str, str]:
    """Give the name of a trap or of a limit, and its backtrace."""
    code = error.trap_code
    name = code.name.lower().replace("_", " ") if code is not None else "trap"
    lines = [line.rstrip() for line in error.message.splitlines()]
    backtrace = "\n".join(lines[:FRAMES])
    if code is wasmtime.TrapCode.OUT_OF_FUEL:
        return "", "fuel", backtrace
    if code is wasmtime.TrapCode.STACK_OVERFLOW:
        return "", "stack", backtrace
    return name, "", backtrace


def refused_of(error: wasmtime.WasmtimeError) -> tuple[str, str]:
    """Give the name of a trap or of a limit for what kept a module from starting."""
    text = ": ".join(line.strip() for line in str(error).splitlines() if line.strip())
    for limit in ("memory", "table"):
        if f"{limit} minimum size" in text:
            return "", limit
    return text[:300], ""
