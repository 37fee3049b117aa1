"""Proof of work (NIP-13): leading zero bits of an id, and the target that was committed to."""

from collections.abc import Callable

from attrs import evolve

from oanix.lib.nostr.event import Event, Unsigned
from oanix.lib.nostr.keys import Template


def difficulty(digest: str) -> int:
    """Count the leading zero bits of an id."""
    number = int(digest, 16)
    return 4 * len(digest) - number.bit_length()


def committed(event: Event) -> int | None:
    """Give the target that an event committed to, or None: one without is luck, not work."""
    for tag in event.tags:
        if tag[0] == "nonce" and len(tag) > 2 and tag[2].isascii() and tag[2].isdecimal():
            return min(int(tag[2][:4]), 256)
    return None


def mine(
    template: Template, pubkey: str, target: int, now: int, go_on: Callable[[], bool]
) -> Template | None:
    """Find a nonce, in a thread: each bit doubles the work. None when `go_on` says no."""
    tags = tuple(tag for tag in template.tags if tag[:1] != ("nonce",))
    at = now if template.created_at is None else template.created_at
    nonce = 0
    while nonce % 1024 or go_on():
        tried = (*tags, ("nonce", str(nonce), str(target)))
        event = Unsigned(
            pubkey=pubkey, created_at=at, kind=template.kind, tags=tried, content=template.content
        )
        if difficulty(event.hashed()) >= target:
            return evolve(template, tags=tried, created_at=at)
        nonce += 1
    return None
