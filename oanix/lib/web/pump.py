"""Pump: receives the body of an answer, and keeps it within every bound."""

import errno
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import trio
from attrs import define, field

from oanix.errors import fault
from oanix.lib.vault import Mask
from oanix.lib.web.answer import Answer
from oanix.lib.web.decode import Decoding
from oanix.lib.web.exchange import Buffer
from oanix.lib.web.failures import failure, too_large, took_too_long
from oanix.lib.web.log import Entry
from oanix.lib.web.slots import Slot

log = logging.getLogger(__name__)

BREATH: Final = 8
"""After how many pieces other tasks get a turn: a piece may come without a checkpoint."""


@define(eq=False)
class Pump:
    """Moves one body into its buffer: decodes it, counts it, masks it, and writes its log line.

    limit: of the rules, on what is read. deadline: until when all of it must have come, as trio
    counts time. sized_by, ends_by: the rules that say so. It never waits for a reader who has the
    buffer's bound before him.
    """

    answer: Answer
    buffer: Buffer
    entry: Entry
    slot: Slot
    mask: Mask
    decoding: Decoding | None
    limit: int | None
    idle_s: float | None
    deadline: float
    sized_by: str = ""
    ends_by: str = ""
    scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)

    async def run(self) -> None:
        """Receive until the end, a failure, or a cancellation of `scope`. Raises nothing."""
        error: OSError | None = fault(errno.ECONNABORTED, "the exchange was cancelled")
        word: str | None = "cancelled"
        try:
            with self.scope:
                error = await self._receive()
                word = None if error is None else errno.errorcode.get(error.errno or 0, "EIO")
        finally:
            # Whoever sees the end finds the log line written and the turn given back.
            await self.answer.abort()
            self.slot.release()
            self.entry.write(word)
            self.buffer.end(error)

    async def _receive(self) -> OSError | None:
        """Receive all; give what it failed with, or None."""
        error: OSError | None = None
        try:
            with trio.CancelScope(deadline=self.deadline) as timed:
                await self._move()
                await self.answer.release()
            if timed.cancelled_caught:
                error = took_too_long(self.answer.host, self.ends_by)
        except Exception as raised:
            error = self._failure(raised)
        if error is not None and self.mask.active:
            error = fault(error.errno or errno.EIO, self.mask.text(error.strerror or ""))
        return error

    def _failure(self, error: Exception) -> OSError:
        try:
            return failure(error, self.answer.host, answered=True)
        except Exception as defect:
            log.exception("an answer of %s could not be received", self.answer.host)
            return fault(
                errno.EIO, f"internal error ({type(defect).__name__}); the log has the rest"
            )

    async def _move(self) -> None:
        masking = self.mask.stream() if self.mask.active else None
        count = 0
        async with aclosing(self._decoded()) as pieces:
            async for piece in pieces:
                self._count(len(piece))
                if masking is not None:
                    piece = masking.feed(piece)
                if piece:
                    self.buffer.put(piece)
                    await self.buffer.room()
                count += 1
                if count % BREATH == 0:
                    await trio.lowlevel.checkpoint()
        if masking is not None and (held := masking.finish()):
            self.buffer.put(held)

    async def _decoded(self) -> AsyncGenerator[bytes, None]:
        decoding = self.decoding
        async with aclosing(self.answer.pieces(self.idle_s)) as pieces:
            async for piece in pieces:
                if decoding is None:
                    yield piece
                    continue
                for decoded in decoding.feed(piece):
                    yield decoded
        if decoding is not None:
            decoding.finish()

    def _count(self, size: int) -> None:
        self.entry.size += size
        if self.limit is not None and self.entry.size > self.limit:
            raise too_large(self.limit, self.sized_by)
