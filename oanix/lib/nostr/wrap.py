"""Wrap: private messages that show neither author nor subject (NIP-59, and NIP-17 on top of it).

A rumor is an event without a signature. It is sealed for its reader by its author (kind 13), and
the seal is wrapped by a key that is used once (kind 1059), with times up to two days in the past.
"""

from collections.abc import Callable
from typing import Final

from attrs import frozen

from oanix.lib.nostr.codec import Invalid, convert, decode, encode
from oanix.lib.nostr.event import Event, Unsigned
from oanix.lib.nostr.keys import LocalSigner, Signer, Template, check, make_secret

SEAL: Final = 13
WRAP: Final = 1_059
MESSAGE: Final = 14
PAST_S: Final = 2 * 24 * 3600


@frozen
class Rumor:
    """What was sealed, by whom: its id is the hash, and nobody signed it."""

    id: str
    event: Unsigned


def rumor(pubkey: str, template: Template, now: int) -> Rumor:
    """Make a rumor."""
    at = now if template.created_at is None else template.created_at
    event = Unsigned(
        pubkey=pubkey, created_at=at, kind=template.kind, tags=template.tags,
        content=template.content,
    )  # fmt: skip
    return Rumor(event.hashed(), event)


def message(text: str, *readers: str) -> Template:
    """Make a private message (NIP-17)."""
    return Template(MESSAGE, text, tuple(("p", reader) for reader in readers))


async def wrap(
    one: Rumor, reader: str, author: Signer, *, now: int, randomness: Callable[[int], bytes]
) -> Event:
    """Seal a rumor for a reader, and wrap it. The author must be the rumor's. Raises Invalid."""
    if author.pubkey != one.event.pubkey:
        raise Invalid("a rumor is sealed by its author")
    written = encode(
        {
            "id": one.id, "pubkey": one.event.pubkey, "created_at": one.event.created_at,
            "kind": one.event.kind, "tags": one.event.tags, "content": one.event.content,
        }
    )  # fmt: skip
    sealed = await author.encrypt(reader, written.decode())
    seal = await author.sign(Template(SEAL, sealed, created_at=_past(now, randomness)))
    once = LocalSigner(make_secret(randomness), now=lambda: now, randomness=randomness)
    content = await once.encrypt(reader, seal.json().decode())
    return once.sign_now(
        Template(WRAP, content, (("p", reader),), created_at=_past(now, randomness))
    )


async def unwrap(event: Event, reader: Signer) -> Rumor:
    """Take out what was wrapped for this reader. Raises Invalid for what is no genuine wrap."""
    if event.kind != WRAP:
        raise Invalid(f"a wrap has the kind {WRAP}")
    seal = Event.parse(await reader.decrypt(event.pubkey, event.content))
    if seal.kind != SEAL or seal.tags:
        raise Invalid(f"a seal has the kind {SEAL} and no tags")
    check(seal)
    found = convert(decode(await reader.decrypt(seal.pubkey, seal.content)), _Sealed)
    event_ = Unsigned(
        pubkey=found.pubkey, created_at=found.created_at, kind=found.kind, tags=found.tags,
        content=found.content,
    )  # fmt: skip
    # Else anybody could put words into another's mouth.
    if found.pubkey != seal.pubkey:
        raise Invalid("the rumor is not of who sealed it")
    if found.id not in ("", event_.hashed()):
        raise Invalid("the id of the rumor does not match")
    return Rumor(event_.hashed(), event_)


class _Sealed(Unsigned, frozen=True, kw_only=True):
    id: str = ""


def _past(now: int, randomness: Callable[[int], bytes]) -> int:
    return now - int.from_bytes(randomness(4), "big") % PAST_S
