"""Inbound: what a peer sends, put together to messages within limits. No waiting, no stream."""

import io
from typing import cast

import trio
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from oanix.lib.websocket.limits import CONTROLS_S, POLICY, TOO_BIG, Limits, Message

DEFLATED_CHUNK = 1024
"""Bytes that are unpacked at once: deflate makes at most 1,032 bytes of one."""


class Violation(Exception):
    """The peer broke a rule: the code to close with, and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Inbound:
    """Takes bytes, gives messages, and notes control frames for whoever acts on them."""

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
        self._part: io.StringIO | io.BytesIO | None = None
        self._size = 0
        self._fragments = 0
        self._controls = 0
        self._controls_since = 0.0

    def feed(self, data: bytes) -> None:
        """Take bytes, after all that was fed before has been taken out."""
        if self._deflated:
            self._packed += data
        elif data:
            self._frames.receive_bytes(data)

    def take(self) -> Message | None:
        """Give the next message, or None where more bytes are needed or the peer has closed.

        Raises Violation.
        """
        try:
            message = self._take()
            while message is None and self._packed and self.close is None:
                piece, self._packed = self._packed[:DEFLATED_CHUNK], self._packed[DEFLATED_CHUNK:]
                self._frames.receive_bytes(piece)
                message = self._take()
        except ParseFailed as error:
            raise Violation(int(error.code), str(error)) from error
        return message

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
            raise Violation(TOO_BIG, f"a message has at most {self._limits.message} bytes")
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
