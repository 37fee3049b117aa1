"""WebSocket: a connection that is open, and how it ends."""

import errno
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import trio
from wsproto.frame_protocol import FrameProtocol

from oanix.errors import fault
from oanix.lib.websocket import handshake
from oanix.lib.websocket.frames import BINARY, TEXT, framed
from oanix.lib.websocket.handshake import (
    BROKEN,
    Admit,
    Headers,
    Opened,
    Upgrade,
    cause,
    same_origin,
    streaming,
)
from oanix.lib.websocket.inbound import Inbound, Violation
from oanix.lib.websocket.limits import (
    FAILED,
    LOST,
    NO_CODE,
    NORMAL,
    Closed,
    Ending,
    Limits,
    Message,
    Refused,
    check_code,
    cut,
)

CHUNK = 65_536
"""Bytes that are read or sent at once."""

FAIR = 32
"""Calls that need not wait, in a row, before other tasks have their turn."""


class WebSocket:
    """One connection, in either role. It owns its stream: closing it closes that.

    One task may receive while others send. Sends are in the order of their calls, and one that is
    under way has the others wait: nothing is queued. Nobody else may use the stream.
    """

    def __init__(
        self, stream: trio.abc.Stream, opened: Opened, *, client: bool, limits: Limits,
        upgrade: Upgrade | None = None,
    ) -> None:  # fmt: skip
        """Made by `connect` and `accept`."""
        self.subprotocol = opened.subprotocol
        self.headers = opened.headers
        """The headers of the server's answer (a client has them)."""
        self.upgrade = upgrade
        """The request that was admitted (a server has it)."""
        self.limits = limits
        self.closed: Ending | None = None
        """How it ended, once it has."""
        self._stream = stream
        self._descriptor = stream.socket.fileno if isinstance(stream, trio.SocketStream) else None
        self._frames = FrameProtocol(client, opened.extensions)
        self._plain = not opened.extensions
        self._unsent = b""
        """What a socket did not take of frames that `send_now` has begun."""
        self._inbound = Inbound(self._frames, limits)
        self._inbound.feed(opened.rest)
        self._sending = trio.Lock()
        self._receiving = False
        self._closing: Ending | None = None
        self._over = trio.Event()
        self._pinged_at = math.inf
        self._probed = False
        self._in_a_row = 0

    # Opening -------------------------------------------------------------------------------------

    @classmethod
    async def connect(
        cls, stream: trio.abc.Stream, *, host: str, target: str = "/", headers: Headers = (),
        subprotocols: Sequence[str] = (), limits: Limits | None = None, compress: bool = False,
    ) -> Self:  # fmt: skip
        """Open as a client; host is what the Host header says.

        The stream is closed on any failure. Raises OSError: Refused for an HTTP status, EPROTO for
        an answer that is none, ETIMEDOUT, ECONNRESET, EINVAL for what cannot be asked.
        """
        limits = limits or Limits()
        try:
            with streaming(), trio.fail_after(limits.handshake_s):
                opened = await handshake.ask(
                    stream, host=host, target=target, headers=headers,
                    subprotocols=subprotocols, compress=compress,
                )  # fmt: skip
        except trio.TooSlowError:
            await trio.aclose_forcefully(stream)
            raise fault(
                errno.ETIMEDOUT, f"no answer to the handshake within {limits.handshake_s:g} s"
            ) from None
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return cls(stream, opened, client=True, limits=limits)

    @classmethod
    async def accept(
        cls, stream: trio.abc.Stream, *, leading: bytes = b"", admit: Admit = same_origin,
        subprotocols: Sequence[str] = (), headers: Headers = (), limits: Limits | None = None,
        compress: bool = False,
    ) -> Self:  # fmt: skip
        """Open as a server: read the request, of which `leading` was read before, and answer it.

        Of our subprotocols the first that the client offers is chosen. The stream is closed on any
        failure, after an HTTP answer where there is something to answer. Raises OSError: Refused,
        ECONNRESET.
        """
        limits = limits or Limits()
        try:
            with streaming(), trio.fail_after(limits.handshake_s):
                opened, upgrade = await handshake.answer(
                    stream, leading=leading, admit=admit, subprotocols=subprotocols,
                    headers=headers, compress=compress,
                )  # fmt: skip
        except trio.TooSlowError:
            slow = Refused(408, f"no request within {limits.handshake_s:g} s")
            await handshake.turn_away(stream, slow, limits)
            raise slow from None
        except Refused as refused:
            await handshake.turn_away(stream, refused, limits)
            raise
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return cls(stream, opened, client=False, limits=limits, upgrade=upgrade)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if error is None:
            await self.close()
        elif isinstance(error, Exception):
            await self.close(FAILED)
        else:
            await self.abort("the task was cancelled")

    @property
    def latency_s(self) -> float | None:
        """How long the answer to the last ping took, None while there is none."""
        answered = self._inbound.pong_at
        return None if answered is None else max(answered - self._pinged_at, 0.0)

    # Receiving -----------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """Wait for the next message. A cancelled wait has taken nothing.

        Raises OSError: Closed once the connection has ended (what came before was given first),
        EBUSY when another task receives.
        """
        if self._receiving:
            raise fault(errno.EBUSY, "another task receives from this WebSocket")
        self._receiving = True
        try:
            await self._pause()
            while True:
                # Whoever sends just now answers a ping too: a reader never waits for a writer.
                if self._inbound.ping is not None and not self._sending.locked():
                    await self._transmit(b"")
                message = await self._next()
                if message is not None and self._closing is None:
                    return message
                if self.closed is not None:
                    raise Closed(self.closed)
                if message is None and (self._inbound.ping is None or self._sending.locked()):
                    await self._read()
        finally:
            self._receiving = False

    async def receive_all(self, most: int = 1000) -> list[Message]:
        """Wait for the next message, and give it with those that have come whole behind it.

        As `receive`; so many at most.
        """
        first = await self.receive()
        return [first, *self._inbound.rest(most - 1)]

    def __aiter__(self) -> Self:
        """Give messages until the end, whatever it is: `closed` tells."""
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except Closed:
            raise StopAsyncIteration from None

    async def _pause(self) -> None:
        # What never has to wait must not keep other tasks from running.
        self._in_a_row += 1
        if self._in_a_row < FAIR:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            self._in_a_row = 0
            await trio.lowlevel.checkpoint()

    async def _next(self) -> Message | None:
        """Take the next message of what was read; end the connection where that says so."""
        if self.closed is not None and self.closed.code != LOST:
            return None
        try:
            message = self._inbound.take()
        except Violation as violation:
            if self.closed is None:
                await self._fail(violation.code, str(violation))
            return None
        if self._inbound.close is not None and self.closed is None:
            self._inbound.ping = None
            await self._close_back(*self._inbound.close)
        return message

    async def _read(self) -> None:
        """Read more from the stream; ask for a sign of life when nothing comes."""
        wait = self.limits.pong_s if self._probed else self.limits.ping_s
        try:
            if wait == math.inf:
                data = await self._stream.receive_some(CHUNK)
            else:
                with trio.move_on_after(wait) as waiting:
                    data = await self._stream.receive_some(CHUNK)
                if waiting.cancelled_caught:
                    await self._probe()
                    return
        except BROKEN as error:
            await self._lose(cause(error))
            return
        if data:
            self._probed = False
            self._inbound.feed(bytes(data))
        else:
            await self._lose("the peer left without closing")

    async def _probe(self) -> None:
        if self._probed:
            await self._lose(f"no answer to a ping within {self.limits.pong_s:g} s")
            return
        self._probed = True
        if self._open and not self._sending.locked():
            with suppress(Closed):
                await self.ping()

    # Sending -------------------------------------------------------------------------------------

    async def send(self, *messages: Message) -> None:
        """Send messages; several go out together. Returns when the stream took them.

        One that is cancelled before its turn has sent nothing. One that is cancelled while it waits
        for the peer to read ends the connection, as half a frame cannot be taken back. Raises
        OSError: Closed, EINVAL for a text that is no Unicode.
        """
        self._require_open()
        try:
            frames = [self._framed(message) for message in messages]
        except UnicodeEncodeError as error:
            raise fault(errno.EINVAL, "half a surrogate pair is no text") from error
        await self._transmit(frames[0] if len(frames) == 1 else b"".join(frames))

    async def send_texts(self, texts: Sequence[bytes]) -> None:
        """Send text messages that are UTF-8 already, together; as `send`."""
        self._require_open()
        await self._transmit(b"".join(map(self._framed_text, texts)))

    def send_now(self, texts: Sequence[bytes]) -> bool:
        """Send text messages without waiting; tells whether it took them.

        It takes them when nobody else sends and a socket is below. What that had no room for goes
        with the next `send_texts`, for which `unsent` asks.
        """
        if not self._open or self._sending.locked() or self._unsent or self._descriptor is None:
            return False
        data = b"".join(map(self._framed_text, texts))
        self._unsent = data[self._put_now(data) :]
        return True

    @property
    def unsent(self) -> bool:
        """Whether `send_now` left something, which a call of `send_texts` has to send."""
        return bool(self._unsent)

    def _framed(self, message: Message) -> bytes:
        if not self._plain:
            return bytes(self._frames.send_data(message))
        if isinstance(message, str):
            return framed(TEXT, message.encode(), mask=self._frames.client)
        return framed(BINARY, bytes(message), mask=self._frames.client)

    def _framed_text(self, text: bytes) -> bytes:
        if self._plain:
            return framed(TEXT, text, mask=self._frames.client)
        return bytes(self._frames.send_data(text.decode()))

    async def ping(self) -> None:
        """Send a ping; its answer, once received, sets `latency_s`. Raises OSError Closed."""
        self._require_open()
        self._inbound.pong_at = None
        self._pinged_at = trio.current_time()
        await self._transmit(self._frames.ping())

    @property
    def _open(self) -> bool:
        return self.closed is None and self._closing is None

    def _require_open(self) -> None:
        ending = self.closed or self._closing
        if ending is not None:
            raise Closed(ending)

    async def _transmit(self, data: bytes | bytearray) -> None:
        """Send bytes when it is their turn, then a pong that is due. Raises OSError Closed."""
        await self._pause()
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            await self._put(data)
            # Until the peer has closed its pings are answered, also after our close (5.5.2).
            while (ping := self._inbound.ping) is not None:
                self._inbound.ping = None
                await self._put(self._frames.pong(ping))
        finally:
            self._sending.release()

    async def _put(self, data: bytes | bytearray) -> None:
        if self.closed is not None:
            raise Closed(self.closed)
        if self._unsent:
            data, self._unsent = self._unsent + data, b""
        done = self._put_now(data)
        wait = self.limits.send_s
        try:
            while done < len(data):
                with trio.move_on_after(wait) as waiting:
                    await self._stream.send_all(data[done : done + CHUNK])
                if waiting.cancelled_caught:
                    await self._lose(f"the peer took nothing for {wait:g} s")
                    break
                done += CHUNK
        except BROKEN as error:
            await self._lose(cause(error))
        except trio.Cancelled:
            await self._lose("a send was cancelled")
            raise
        # Another task may have ended it meanwhile.
        if self.closed is not None:
            raise Closed(self.closed)

    def _put_now(self, data: bytes | bytearray) -> int:
        """Give a socket what it takes at once, which is mostly all; tells how much.

        A deadline and a turn of the scheduler would cost more than all else of a small message.
        """
        if self._descriptor is None or not data:
            return 0
        try:
            return os.write(self._descriptor(), data)
        except OSError:
            return 0  # it is full, or broken: the stream will say so

    # Ending --------------------------------------------------------------------------------------

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Close, waiting for the peer's answer for `close_s`; what it still sends is dropped.

        Does nothing to what has ended. Raises OSError EINVAL for a code that may not be sent. A
        cancelled close ends the connection at once.
        """
        check_code(code)
        try:
            with trio.move_on_after(self.limits.close_s):
                if self._open:
                    await self._say_close(code, cut(reason))
                while self.closed is None:
                    await self._await_close()
        finally:
            self._end(self._closing or Ending(code, cut(reason), by_peer=False))
            await trio.aclose_forcefully(self._stream)

    async def abort(self, reason: str = "given up") -> None:
        """End it at once, without a word to the peer."""
        await self._lose(reason)

    async def _say_close(self, code: int, reason: str) -> None:
        self._closing = Ending(code, reason, by_peer=False)
        with suppress(Closed):
            await self._transmit(self._frames.close(code, reason))

    async def _await_close(self) -> None:
        if self._receiving:
            await self._over.wait()
            return
        with suppress(Closed):
            await self.receive()

    async def _close_back(self, code: int, reason: str) -> None:
        """Answer the peer's close, or take note of its answer to ours; a reader does it."""
        ending = self._closing
        if ending is None:
            ending = self._closing = Ending(code, reason, by_peer=True)
            with suppress(Closed):
                await self._transmit(self._frames.close(None if code == NO_CODE else code))
        self._end(ending)
        # Over TLS a close is a message too.
        with trio.move_on_after(self.limits.close_s), suppress(*BROKEN):
            await self._stream.aclose()

    async def _fail(self, code: int, reason: str) -> None:
        """Close as the peer broke a rule, with time for it to read why (RFC 6455, 7.1.7)."""
        if self._closing is not None:
            await self._lose(reason)
            return
        self._inbound.ping = None
        with trio.move_on_after(self.limits.close_s), suppress(*BROKEN):
            await self._say_close(code, cut(reason))
            await handshake.linger(self._stream)
        self._end(Ending(code, cut(reason), by_peer=False))
        await trio.aclose_forcefully(self._stream)

    async def _lose(self, reason: str) -> None:
        self._end(Ending(LOST, reason, by_peer=False))
        await trio.aclose_forcefully(self._stream)

    def _end(self, ending: Ending) -> None:
        if self.closed is None:
            self.closed = ending
            self._over.set()
