"""Inbound: what a peer sends, put together to messages within limits. No waiting, no stream."""

import io
from typing import cast

import trio
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from oanix.lib.websocket.frames import BINARY, TEXT, head_at, xored
from oanix.lib.websocket.limits import CONTROLS_S, POLICY, TOO_BIG, Limits, Message

DEFLATED_CHUNK = 1024
"""Bytes that are unpacked at once: deflate makes at most 1,032 bytes of one."""


NO_TEXT = 1007
"""The code for a text that is no UTF-8."""


class Violation(Exception):
    """The peer broke a rule: the code to close with, and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Inbound:
    """Takes bytes, gives messages, and notes control frames for whoever acts on them.

    A message that is one frame is read here, straight from what came. The frames of all others are
    given to the protocol, each alone, so that it never holds more than the one it is at.
    """

    def __init__(self, frames: FrameProtocol, limits: Limits) -> None:
        """Read with this protocol. A peer's extensions are those of the protocol."""
        self.ping: bytes | None = None
        """The payload of a ping that is not answered. Of several only the last is (5.5.3)."""
        self.close: tuple[int, str] | None = None
        """The code and the reason of the peer's close."""
        self.pong_at: float | None = None
        """When the last pong came."""
        self._frames = frames
        self._limits = limits
        self._deflated = bool(frames.extensions)
        self._packed = b""
        self._masked = not frames.client
        self._raw = bytearray()
        self._at = 0
        self._owed = 0
        """How much of the frame that the protocol reads is still to come."""
        self._broken: Violation | None = None
        self._part: io.StringIO | io.BytesIO | None = None
        self._size = 0
        self._fragments = 0
        self._controls = 0
        self._controls_since = 0.0

    def feed(self, data: bytes) -> None:
        """Take bytes, after all that was fed before has been taken out."""
        if self._deflated:
            self._packed += data
            return
        if self._at:
            del self._raw[: self._at]
            self._at = 0
        self._raw += data

    def take(self) -> Message | None:
        """Give the next message, or None where more bytes are needed or the peer has closed.

        Raises Violation.
        """
        if self._broken is not None:
            raise self._broken
        try:
            return self._inflated() if self._deflated else self._plain()
        except ParseFailed as error:
            raise Violation(int(error.code), str(error)) from error

    def rest(self, most: int) -> list[Message]:
        """Give what else has come whole, so many messages at most; `take` tells what ends it."""
        found: list[Message] = []
        try:
            while len(found) < most and (message := self.take()) is not None:
                found.append(message)
        except Violation as violation:
            self._broken = violation
        return found

    def _inflated(self) -> Message | None:
        message = self._take()
        while message is None and self._packed and self.close is None:
            piece, self._packed = self._packed[:DEFLATED_CHUNK], self._packed[DEFLATED_CHUNK:]
            self._frames.receive_bytes(piece)
            message = self._take()
        return message

    def _plain(self) -> Message | None:
        while self.close is None:
            if self._owed:
                if self._at == len(self._raw):
                    return None
                message = self._others()
                if message is not None:
                    return message
                continue
            head = head_at(self._raw, self._at)
            if head is None:
                return None
            whole = head.first == TEXT or head.first == BINARY
            if not (whole and head.minimal and head.masked is self._masked and self._part is None):
                self._owed = head.size + head.payload
                continue
            if head.payload > self._limits.message:
                # Its head says so: what nobody would keep is not waited for.
                raise self._too_long()
            start = self._at + head.size
            if len(self._raw) - start < head.payload:
                return None
            return self._read(head.first, start, start + head.payload)
        return None

    def _read(self, first: int, start: int, end: int) -> Message:
        raw = self._raw
        payload: bytes | bytearray = raw[start:end]
        if self._masked:
            payload = xored(payload, raw[start - 4 : start])
        self._at = end
        if first == BINARY:
            return bytes(payload)
        try:
            return payload.decode()
        except UnicodeDecodeError as error:
            raise Violation(NO_TEXT, f"a text message is UTF-8: {error.reason}") from error

    def _others(self) -> Message | None:
        piece = bytes(self._raw[self._at : self._at + self._owed])
        self._at += len(piece)
        self._owed -= len(piece)
        self._frames.receive_bytes(piece)
        return self._take()

    def _take(self) -> Message | None:
        for frame in self._frames.received_frames():
            opcode = frame.opcode
            if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
                message = self._whole(frame)
                if message is not None:
                    return message
            elif opcode is Opcode.CLOSE:
                self.close = cast("tuple[int, str]", frame.payload)
                return None
            else:
                self._control(frame)
        return None

    def _whole(self, frame: Frame) -> Message | None:
        payload = cast("Message", frame.payload)
        size = len(payload)
        if isinstance(payload, str) and not payload.isascii():
            size = len(payload.encode())
        self._size += size
        if self._size > self._limits.message:
            raise self._too_long()
        if self._part is None:
            if frame.message_finished:
                self._size = 0
                return payload
            # Not a list of pieces: many small ones would take fifty times their size.
            self._part = io.StringIO(newline="") if isinstance(payload, str) else io.BytesIO()
        self._part.write(payload)  # type: ignore[arg-type]
        if frame.message_finished:
            message: Message = self._part.getvalue()
            self._part = None
            self._size = self._fragments = 0
            return message
        if frame.frame_finished:
            self._fragments += 1
            if self._fragments >= self._limits.fragments:
                raise Violation(POLICY, f"a message has at most {self._limits.fragments} frames")
        return None

    def _too_long(self) -> Violation:
        return Violation(TOO_BIG, f"a message has at most {self._limits.message} bytes")

    def _control(self, frame: Frame) -> None:
        now = trio.current_time()
        if now - self._controls_since > CONTROLS_S:
            self._controls, self._controls_since = 0, now
        self._controls += 1
        if self._controls > self._limits.controls:
            raise Violation(
                POLICY, f"at most {self._limits.controls} control frames in {CONTROLS_S:g} s"
            )
        if frame.opcode is Opcode.PING:
            self.ping = cast("bytes", frame.payload)
        else:
            self.pong_at = now
