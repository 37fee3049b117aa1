"""Names to addresses."""

import errno
import math
import socket
from collections.abc import Awaitable, Callable, Sequence

import trio

from oanix.errors import fault

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Gives the addresses of a name, the best first. Raises OSError EHOSTUNREACH, EAGAIN."""


class SystemResolver:
    """The system's resolver (getaddrinfo(3)), asked in threads of its own.

    A thread cannot be taken back: one that waits for a dead name server counts until it ends,
    whether or not anyone still waits for it, and none of another purpose waits for it.
    """

    def __init__(self, threads: int = 16) -> None:
        self._limiter = trio.CapacityLimiter(threads)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Resolve a name. Raises OSError EHOSTUNREACH for one without an address."""

        def ask() -> list[str]:
            found = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
            return [str(address[0]) for *_, address in found]

        try:
            return await trio.to_thread.run_sync(ask, limiter=self._limiter, abandon_on_cancel=True)
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                sentence = f"the name {host} cannot be resolved just now"
                raise fault(errno.EAGAIN, sentence) from error
            raise fault(errno.EHOSTUNREACH, f"the name {host} is not known") from error
        except UnicodeError as error:
            raise fault(errno.EHOSTUNREACH, f"{host} is no name of the DNS") from error


def interleave(addresses: Sequence[str]) -> list[str]:
    """Order addresses so that the families take turns, the first's first (RFC 8305, section 4)."""
    unique = list(dict.fromkeys(addresses))
    six = [address for address in unique if ":" in address]
    four = [address for address in unique if ":" not in address]
    first, second = (six, four) if unique and ":" in unique[0] else (four, six)
    turns = [
        (index + shift / 2, address)
        for shift, family in enumerate((first, second))
        for index, address in enumerate(family)
    ]
    return [address for _, address in sorted(turns, key=lambda turn: turn[0])]


def forever(seconds: float | None) -> float:
    """Write "no limit" as trio does."""
    return math.inf if seconds is None else seconds
