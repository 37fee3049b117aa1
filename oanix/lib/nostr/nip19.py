"""NIP-19: keys, events and relays as people pass them on. The one importer of bech32.

npub nsec note         32 bytes
nprofile nevent naddr  a list of type, length, value: 0 the thing, 1 relay, 2 author, 3 kind
"""

from typing import Final

import bech32
from attrs import frozen

from oanix.lib.nostr.codec import Invalid
from oanix.lib.nostr.event import HEX32, KIND_MAX

LENGTH_MAX: Final = 5_000
"""Longest text in characters."""

RELAYS_MAX: Final = 100

_SPECIAL, _RELAY, _AUTHOR, _KIND = range(4)


@frozen
class Pointer:
    """What a text points to: an event (`nevent`), a profile (`nprofile`) or an address (`naddr`).

    what: 64 digits of hex, for an address its `d` tag.
    """

    kind_of: str
    what: str
    relays: tuple[str, ...] = ()
    author: str | None = None
    kind: int | None = None


def encode(prefix: str, hexed: str) -> str:
    """Write 32 bytes, given as hex: `npub`, `nsec` or `note`. Raises Invalid."""
    if prefix not in ("npub", "nsec", "note") or not HEX32.fullmatch(hexed):
        raise Invalid("npub, nsec and note stand for 64 digits of lower-case hex")
    return _written(prefix, bytes.fromhex(hexed))


def decode(text: str, prefix: str) -> str:
    """Read an `npub`, `nsec` or `note` as hex. Raises Invalid."""
    found, data = _read(text)
    if found != prefix:
        raise Invalid(f"this is no {prefix}, but begins with {found}")
    if len(data) != 32:
        raise Invalid(f"a {prefix} stands for 32 bytes, not {len(data)}")
    return data.hex()


def pubkey_of(text: str) -> str:
    """Read a public key as hex: an npub, an nprofile, or hex itself. Raises Invalid."""
    if HEX32.fullmatch(text):
        return text
    if text.startswith("nprofile1"):
        return decode_pointer(text).what
    # It is not said again: it may be a secret one.
    if not text.startswith("npub1"):
        raise Invalid("this is no public key; write npub1…, nprofile1…, or 64 digits of hex")
    return decode(text, "npub")


def event_id_of(text: str) -> str:
    """Read the id of an event as hex: a note, an nevent, or hex itself. Raises Invalid."""
    if HEX32.fullmatch(text):
        return text
    if text.startswith("nevent1"):
        return decode_pointer(text).what
    if not text.startswith("note1"):
        raise Invalid("this is no id of an event; write note1…, nevent1…, or 64 digits of hex")
    return decode(text, "note")


def encode_pointer(pointer: Pointer) -> str:
    """Write a pointer. Raises Invalid."""
    special = _special(pointer)
    values = [(_SPECIAL, special)]
    for relay in pointer.relays:
        if not relay.isascii() or len(relay) > 255:
            raise Invalid("a relay in a pointer has at most 255 ASCII characters")
        values.append((_RELAY, relay.encode()))
    if pointer.author is not None:
        values.append((_AUTHOR, bytes.fromhex(pointer.author)))
    if pointer.kind is not None:
        values.append((_KIND, pointer.kind.to_bytes(4, "big")))
    data = b"".join(bytes((kind, len(value))) + value for kind, value in values)
    return _written(pointer.kind_of, data)


def decode_pointer(text: str) -> Pointer:
    """Read an `nprofile`, `nevent` or `naddr`; what is unknown is left out. Raises Invalid."""
    prefix, data = _read(text)
    if prefix not in ("nprofile", "nevent", "naddr"):
        raise Invalid(f"{prefix} is no pointer")
    values = _values(data)
    special = next((value for kind, value in values if kind == _SPECIAL), None)
    if special is None:
        raise Invalid(f"this {prefix} points to nothing")
    pointer = Pointer(
        prefix,
        _text(special) if prefix == "naddr" else special.hex(),
        tuple(_text(value) for kind, value in values if kind == _RELAY)[:RELAYS_MAX],
        next((value.hex() for kind, value in values if kind == _AUTHOR), None),
        next((int.from_bytes(value, "big") for kind, value in values if kind == _KIND), None),
    )
    _special(pointer)
    return pointer


def _special(pointer: Pointer) -> bytes:
    if pointer.kind is not None and not 0 <= pointer.kind <= KIND_MAX:
        raise Invalid(f"a kind is a number from 0 to {KIND_MAX}")
    if pointer.author is not None and not HEX32.fullmatch(pointer.author):
        raise Invalid("an author is 64 digits of lower-case hex")
    if pointer.kind_of != "naddr":
        if not HEX32.fullmatch(pointer.what):
            raise Invalid(f"an {pointer.kind_of} points to 64 digits of lower-case hex")
        return bytes.fromhex(pointer.what)
    if pointer.author is None or pointer.kind is None:
        raise Invalid("an naddr has an author and a kind")
    special = pointer.what.encode("utf-8", "replace")
    if len(special) > 255:
        raise Invalid("the d tag of an naddr has at most 255 bytes")
    return special


def _values(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at < len(data):
        if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
            raise Invalid("the text ends in the middle of a value")
        size = data[at + 1]
        found.append((data[at], data[at + 2 : at + 2 + size]))
        at += 2 + size
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Invalid("a value of the text is no UTF-8") from None


def _written(prefix: str, data: bytes) -> str:
    words = bech32.convertbits(data, 8, 5) or ()
    text: str = bech32.bech32_encode(prefix, words)
    if len(text) > LENGTH_MAX:
        raise Invalid(f"such a text has at most {LENGTH_MAX} characters")
    return text


def _read(text: str) -> tuple[str, bytes]:
    if len(text) > LENGTH_MAX:
        raise Invalid(f"such a text has at most {LENGTH_MAX} characters")
    prefix, words = bech32.bech32_decode(text)
    data = bech32.convertbits(words, 5, 8, False) if words else None
    if prefix is None or data is None:
        raise Invalid("this is no bech32: a character is wrong, or missing")
    return prefix, bytes(data)
