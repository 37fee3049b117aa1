"""Outbox: what a session has to say, said together, and never more than a bound.

Everything that is put in one turn of the scheduler (the answers to a batch of events, the
deliveries of a commit, EVENT to EOSE) goes out in one write. A peer that takes nothing while more
comes than the bound is given up, as what it does not read would fill the memory.
"""

from collections.abc import Callable, Sequence

import trio

from oanix.bell import Bell
from oanix.services.relay.link import Wire

TURN = 200
"""Outboxes that are emptied before other tasks have their turn."""


class Flusher:
    """Empties the outboxes that were put something, once a turn. A task of the service."""

    def __init__(self) -> None:
        self._due: list[Outbox] = []
        self._bell = Bell()

    def due(self, outbox: "Outbox") -> None:
        """Have an outbox emptied at the next turn."""
        self._due.append(outbox)
        if len(self._due) == 1:
            self._bell.ring()

    async def run(self) -> None:
        """Empty them, for ever."""
        while True:
            if not self._due:
                await self._bell.wait()
            due, self._due = self._due, []
            for number, outbox in enumerate(due, 1):
                outbox.flush()
                if not number % TURN:
                    await trio.lowlevel.checkpoint()


class Outbox:
    """What one session has to say."""

    def __init__(
        self, wire: Wire, flusher: Flusher, most: int, *, too_slow: Callable[[], None]
    ) -> None:
        """Make it. most: the bound in bytes; too_slow: called once when that is passed."""
        self.said = 0
        """How many messages there were."""
        self._wire = wire
        self._flusher = flusher
        self._most = most
        self._bound = most
        self._too_slow = too_slow
        self._texts: list[bytes] = []
        self._size = 0
        self._due = False
        self._sending = False
        self._stuck = False
        self._over = False
        self._bell = Bell()

    @property
    def size(self) -> int:
        """Bytes that the peer has not taken."""
        return self._size

    def put(self, text: bytes) -> None:
        """Say something; never waits. Over the bound the session ends."""
        if self._over:
            return
        self._texts.append(text)
        self._size += len(text)
        if self._size > self._bound:
            self._over = True
            self._texts.clear()
            self._bell.ring()
            self._too_slow()
        elif not self._due:
            self._due = True
            self._flusher.due(self)

    def answer(self, texts: Sequence[bytes]) -> None:
        """Say what was asked for, which does not count for the bound; call `room` before."""
        self._bound = self._most + sum(map(len, texts))
        for text in texts:
            self.put(text)

    async def room(self) -> None:
        """Wait until the peer has taken most of what was said; over the bound, the session ends."""
        while self._size > self._most // 2:
            await self._bell.wait()

    def flush(self) -> None:
        """Send what the wire takes at once; the task of `run` sees to the rest."""
        self._due = False
        self.said += len(self._texts)
        if self._sending or self._over or not self._texts:
            return
        if self._stuck or not self._wire.send_now(self._texts):
            self._wake()
            return
        self._texts = []
        if self._wire.unsent:
            self._wake()
        else:
            self._emptied(self._size)

    def _wake(self) -> None:
        self._stuck = True
        self._bell.ring()

    def _emptied(self, size: int) -> None:
        self._size -= size
        self._bell.ring()

    async def run(self) -> None:
        """Send what has to wait. Raises trio.BrokenResourceError."""
        while True:
            while not self._stuck:
                await self._bell.wait()
            await self._send()

    async def _send(self) -> None:
        self._sending = True
        try:
            # What is put meanwhile goes with the next turn of this loop.
            while self._texts or self._wire.unsent:
                texts, self._texts = self._texts, []
                size = self._size
                await self._wire.send(texts)
                self._emptied(size)
        finally:
            self._sending = False
        self._stuck = False
        self._bell.ring()

    async def settled(self) -> None:
        """Wait until nothing is left to be sent; `run` goes on meanwhile."""
        while self._texts or self._stuck:
            await self._bell.wait()
