"""Publishing: an open file to which signed events are written, a line each.

A write ends once they are kept, or fails with the refusal. Reading gives what became of each.
"""

import errno
from collections import deque
from collections.abc import Callable
from typing import Final

from oanix.errors import Denied, fault
from oanix.kit import Opening
from oanix.kit.awaited import AwaitedLines, Start
from oanix.lib.nostr import Event, Invalid, encode
from oanix.node import READABLE, WRITABLE
from oanix.services.relay.core import Core
from oanix.services.relay.files import REMEDY
from oanix.services.relay.policy import Guest
from oanix.services.relay.rules import Outcome

LINE_MAX: Final = 1 << 20
RESULTS_MAX: Final = 10_000

ERRNOS: Final = {
    "invalid": errno.EINVAL, "pow": errno.EINVAL, "rate-limited": errno.EAGAIN,
    "error": errno.EIO,
}  # fmt: skip
"""Of what a refusal begins with; any other is EACCES."""


class Publishing(AwaitedLines):
    """An open file that takes events."""

    def __init__(self, core: Core, opening: Opening, start: Start) -> None:
        super().__init__(opening, start, LINE_MAX)
        self._core = core
        self._peer = Guest()
        self._results: deque[bytes] = deque(maxlen=RESULTS_MAX)
        self._rest = b""

    async def take(self, line: bytes) -> None:
        try:
            event = Event.parse(line)
        except Invalid as error:
            raise fault(errno.EINVAL, f"this is no event: {error.reason}") from None
        outcome = await self._core.submit(event, self._peer)
        self._results.append(
            encode({"id": event.id, "ok": outcome.ok, "message": outcome.message}) + b"\n"
        )
        if not outcome.ok:
            raise refusal(outcome, event)

    def try_read(self, size: int, offset: int) -> bytes:
        if size < 0:
            raise fault(errno.EINVAL, "sizes are not negative")
        said = self._rest
        while self._results and len(said) < size:
            said += self._results.popleft()
        self._rest = said[size:]
        return said[:size]

    def ready(self, wake: Callable[[], None] | None) -> int:
        return READABLE | WRITABLE


def refusal(outcome: Outcome, event: Event) -> OSError:
    """Make the error of an event that was refused."""
    prefix = outcome.message.partition(":")[0]
    number = ERRNOS.get(prefix, errno.EACCES)
    if number == errno.EACCES:
        said = outcome.message
        return Denied(said, what=f"publish {event.id}", rule=said, remedy=REMEDY)
    return fault(number, outcome.message)
