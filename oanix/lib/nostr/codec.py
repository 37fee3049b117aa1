"""Codec: JSON as fast as Nostr needs it, and as strict. The one importer of msgspec.

What it decodes is valid UTF-8 without lone surrogates, NaN or infinities. It writes what NIP-01
hashes: no blanks, the short escapes of quotes, backslash, newline, return, tab, backspace and form
feed, `u00xx` for other control characters, and the rest as it is.
"""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

__all__ = ["Invalid", "Struct", "decode", "decode_as", "encode"]

T = TypeVar("T")


class Invalid(ValueError):
    """What a peer sent is not what the NIPs allow; `reason` goes after `invalid: `."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def encode(value: object) -> bytes:
    """Write JSON on one line. Raises Invalid for a lone surrogate."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        raise Invalid("a text holds half of a character (a lone surrogate)") from None


def decode(data: bytes | str) -> Any:
    """Read JSON. Raises Invalid for what is none, and for what is nested too deeply."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Invalid(_said(error)) from None


def decode_as(data: bytes | str, decoder: "msgspec.json.Decoder[T]") -> T:
    """Read JSON of a known shape. Raises Invalid, saying where it is another."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Invalid(_said(error)) from None


def decoder_of(kind: type[T]) -> "msgspec.json.Decoder[T]":
    """Make what reads JSON of one shape."""
    return msgspec.json.Decoder(kind)


def convert(value: object, kind: type[T]) -> T:
    """Check that decoded JSON has a shape. Raises Invalid, saying where it has another."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Invalid(_said(error)) from None


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "JSON that is nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        return str(error)
    if isinstance(error, UnicodeError):
        return "this is no UTF-8"
    return f"this is no JSON: {error}"
