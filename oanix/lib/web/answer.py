"""Answer: what came over one connection, with the body still to come."""

import errno
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, Protocol

import httpcore2
import trio

from oanix.errors import fault
from oanix.lib.web import headers as names
from oanix.lib.web.connect import HandedOver, Wire
from oanix.lib.web.decode import codings_of
from oanix.lib.web.failures import TRANSPORT
from oanix.lib.web.model import Headers, WebLimits

log = logging.getLogger(__name__)

LARGE: Final = 4 << 20
"""From this length on a body is read past httpcore2, and its connection is not used again."""

_DRAINED_MAX: Final = 64 << 10
_DRAIN_S: Final = 1.0


class Keeping(Protocol):
    """Keeps a body that comes whole (`oanix.lib.web.cache`)."""

    def add(self, piece: bytes) -> None: ...
    def done(self) -> None: ...


class Answer:
    """The headers of an answer, and its body as it goes over the wire.

    Exactly one of `release` and `abort` ends it; both may be called after the other in vain.
    """

    def __init__(
        self,
        response: httpcore2.Response,
        method: str,
        host: str,
        limits: WebLimits,
        timeouts: dict[str, float | None],
    ) -> None:
        self._response = response
        self._timeouts = timeouts
        self.wire: Wire = response.extensions["network_stream"]
        self.host = host
        self.status = response.status
        self.version = response.extensions["http_version"].decode("ascii")
        self.reason = response.extensions.get("reason_phrase", b"").decode("latin-1")
        self.headers: Headers = names.read(response.headers, host, limits)
        self.bodiless = method == "HEAD" or self.status in (204, 304)
        self.length = self._length()
        self._over = False
        self.keep: Keeping | None = None

    def _length(self) -> int | None:
        if self.bodiless:
            return 0
        value = names.find(self.headers, "content-length")
        if value is None:
            return None
        # Several that say the same are one; h11 has checked that they do.
        value = value.split(",")[0].strip()
        if not (value.isascii() and value.isdigit() and len(value) < 20):
            raise fault(errno.EPROTO, f"the Content-Length of {self.host} is no number")
        return int(value)

    @property
    def codings(self) -> list[str]:
        """The codings that the body is under; none for a part of a coded body."""
        if self.bodiless or self.status == 206:
            return []
        return codings_of(names.find(self.headers, "content-encoding") or "")

    async def pieces(self, idle_s: float | None) -> AsyncGenerator[bytes, None]:
        """Give the body as it comes. Raises what httpcore2 and h2 raise.

        idle_s: how long one piece may take to come.
        """
        self._timeouts["read"] = idle_s
        large = (self.length or 0) >= LARGE and self.version == "HTTP/1.1"
        if large:
            self.wire.hand_over()
        left = self.length or 0
        try:
            async with aclosing(self._response.aiter_stream()) as stream:
                async for piece in stream:
                    left -= len(piece)
                    if self.keep is not None:
                        self.keep.add(piece)
                    yield piece
        except HandedOver:
            # What httpcore2 had received is read; the rest is the next so many bytes of the stream.
            async with aclosing(self._rest(left, idle_s)) as rest:
                async for piece in rest:
                    if self.keep is not None:
                        self.keep.add(piece)
                    yield piece

    async def _rest(self, left: int, idle_s: float | None) -> AsyncGenerator[bytes, None]:
        await self._response.aclose()
        while left:
            piece = await self.wire.receive(idle_s)
            if not piece:
                raise fault(
                    errno.EPROTO, f"{self.host} ended the connection {left} bytes before the end"
                )
            if len(piece) > left:
                piece = piece[:left]
            left -= len(piece)
            yield piece
        self.wire.end()

    async def release(self) -> None:
        """Give the connection back; the body has come whole. Not cancelled by a cancellation."""
        if not self._over:
            self._over = True
            if self.keep is not None:
                self.keep.done()
            with trio.CancelScope(shield=True):
                await self._response.aclose()

    async def abort(self) -> None:
        """Close the connection. Not cancelled by a cancellation."""
        if not self._over:
            self._over = True
            self.wire.end()
            with trio.CancelScope(shield=True):
                await self._response.aclose()

    async def drain(self) -> None:
        """Read a short body for nothing, as its connection is then of use; else abort."""
        try:
            with trio.move_on_after(_DRAIN_S):
                size = 0
                async with aclosing(self.pieces(_DRAIN_S)) as pieces:
                    async for piece in pieces:
                        size += len(piece)
                        if size > _DRAINED_MAX:
                            return
                await self.release()
        except TRANSPORT as error:
            # Nobody wants this body, whatever became of it.
            log.debug("a body that nobody reads failed: %r", error)
        finally:
            await self.abort()
