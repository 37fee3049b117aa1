"""Functions: what a guest imports, and how its host answers."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import field, frozen

Answer = int | Awaitable[int]

TYPES: Final = frozenset("iI")


class Exit(Exception):
    """Ends a guest with a code, when a function raises it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit {code}")
        self.code = code


def close_unawaited(answer: object) -> None:
    """Let go of an answer that was to be awaited, and is not: its guest has ended."""
    close = getattr(answer, "close", None)
    if close is not None:
        close()


@frozen(eq=False)
class Function:
    """A function of the host.

    params: a letter an argument, `i` for 32 and `I` for 64 bits; numbers are handed over unsigned.
    result: whether it answers a number of 32 bits. call: takes the guest and the numbers. A
    function that waits may answer with an awaitable in place of a number: the guest is suspended
    until that is done, and others go on.
    """

    module: str
    name: str
    params: str = field()
    result: bool = field(kw_only=True)
    call: Callable[..., Any] = field(kw_only=True)
    waits: bool = field(kw_only=True, default=False)

    @params.validator
    def _(self, attribute: object, value: str) -> None:
        if set(value) - TYPES:
            raise ValueError(f"parameters are written with i and I, not {value!r}")
