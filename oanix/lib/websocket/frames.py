"""Frames: the two that nearly every message is, read and written without the state machine.

A text or binary message in one frame, without extensions, is a head and its payload (RFC 6455,
5.2). Everything else is the library's; the tests hold this against it.
"""

import secrets
from typing import Final

TEXT: Final = 0x81
"""The first byte of a text message that is one frame."""

BINARY: Final = 0x82
MASKED: Final = 0x80

HEAD_MAX: Final = 14
"""Bytes of the longest head."""


class Head:
    """What a frame says of itself: how long its head and its payload are, and how it is masked."""

    __slots__ = ("first", "masked", "minimal", "payload", "size")

    def __init__(self, first: int, masked: bool, size: int, payload: int, minimal: bool) -> None:
        self.first = first
        self.masked = masked
        self.size = size
        """Bytes of the head."""
        self.payload = payload
        """Bytes of the payload."""
        self.minimal = minimal
        """Whether its length is written in as few bytes as it can be, and is below 2^63."""


def head_at(data: bytes | bytearray, at: int) -> Head | None:
    """Read the head of the frame that begins here, or None when it is not all there."""
    have = len(data) - at
    if have < 2:
        return None
    second = data[at + 1]
    payload = second & 0x7F
    size = 2
    minimal = True
    if payload == 126:
        size = 4
        payload = int.from_bytes(data[at + 2 : at + 4], "big")
        minimal = payload > 125
    elif payload == 127:
        size = 10
        payload = int.from_bytes(data[at + 2 : at + 10], "big")
        minimal = 0xFFFF < payload < 1 << 63
    masked = second >= MASKED
    size += 4 * masked
    return Head(data[at], masked, size, payload, minimal) if have >= size else None


def xored(payload: bytes | bytearray, mask: bytes | bytearray) -> bytes:
    """Mask a payload, or take its mask off (RFC 6455, 5.3).

    As one large number: the interpreter has no other loop over bytes that is as fast.
    """
    size = len(payload)
    pad = (mask * (size // 4 + 1))[:size]
    number = int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")
    return number.to_bytes(size, "little")


def framed(first: int, payload: bytes, *, mask: bool) -> bytes:
    """Write a frame; mask: as a client does, with a fresh key."""
    size = len(payload)
    mark = MASKED if mask else 0
    if size < 126:
        head = bytes((first, mark | size))
    elif size < 0x10000:
        head = bytes((first, mark | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, mark | 127)) + size.to_bytes(8, "big")
    if not mask:
        return head + payload
    key = secrets.token_bytes(4)
    return head + key + xored(payload, key)
