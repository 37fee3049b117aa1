"""Trip: a request on its way through its hops, and what one of them brought."""

import math

import trio
from attrs import define, field

from oanix.lib.policy import Verdict
from oanix.lib.url import Url
from oanix.lib.vault import Mask
from oanix.lib.web.answer import Answer
from oanix.lib.web.log import Entry
from oanix.lib.web.model import Asker, Body, Headers, Request
from oanix.lib.web.slots import Slot


@define(eq=False)
class Trip:
    """A request on its way through its hops.

    request: what is asked next. deadline: until when headers must have come. ends_at, size: what
    the rules passed so far allow, and ends_by, sized_by: which of them. downgraded: redirected from
    https to http. entry: the log line of what is under way.
    """

    request: Request
    asker: Asker
    left: int
    deadline: float = math.inf
    ends_at: float = math.inf
    ends_by: str = ""
    size: int | None = None
    sized_by: str = ""
    entry: Entry = field(init=False)
    downgraded: bool = False
    began: float = field(factory=trio.current_time)

    @property
    def elapsed_ms(self) -> int:
        """How long it has taken so far."""
        return round((trio.current_time() - self.began) * 1000)

    def narrow(self, verdict: Verdict) -> None:
        """Take on the bounds of a hop's rules; the strictest of all hops count."""
        limits = verdict.limits
        if limits.time_s is not None and self.began + limits.time_s < self.ends_at:
            self.ends_at = self.began + limits.time_s
            self.ends_by = verdict.bounded_by("time_s")
        if limits.size is not None and (self.size is None or limits.size < self.size):
            self.size = limits.size
            self.sized_by = verdict.bounded_by("size")

    @property
    def headers_by(self) -> float:
        """Until when the headers must have come, whatever the engine's own bound."""
        return min(self.deadline, self.ends_at)


@define(eq=False)
class Arrival:
    """An answer whose body is still to come, with all that must be given back after it."""

    answer: Answer
    slot: Slot
    entry: Entry
    mask: Mask

    async def leave(self) -> None:
        """Go on without the body; its connection is kept when that costs little."""
        try:
            await self.answer.drain()
        finally:
            self.slot.release()
            self.entry.write()

    async def refuse(self, error: str) -> None:
        """Close the connection, as the answer is not one to be read."""
        self.slot.release()
        self.entry.write(error)
        await self.answer.abort()


@define(eq=False)
class Sending:
    """What goes over the wire, and who asked."""

    method: str
    url: Url
    headers: Headers
    body: Body | None
    mask: Mask
    secret: bool = False
