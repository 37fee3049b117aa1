"""Rules: what a relay takes from whom, as far as the event and its bearer tell it."""

import errno
from itertools import chain
from typing import Final, Protocol

from attrs import frozen

from oanix.lib.nostr import Event, Invalid
from oanix.lib.nostr.auth import AUTH
from oanix.lib.nostr.codec import decode
from oanix.lib.nostr.pow import committed, difficulty

GIFT_WRAPS: Final = frozenset((1_059, 21_059))
"""Kinds that their reader alone may see (NIP-59)."""

SEARCHED: Final = frozenset(
    (
        0, 1, 11, 20, 21, 22, 40, 41, 42, 1063, 1111, 1311, 1617, 1621, 1622, 9802, 30017, 30018,
        30023, 30041, 30311, 30402, 30617, 30818, 31922, 31923, 31990, 34235, 34236, 34550,
    )
)  # fmt: skip
"""Kinds whose content people read, and look for (NIP-50)."""

EXPIRATION: Final = "expiration"
PROTECTED: Final = "-"
REPOSTS: Final = frozenset((6, 16))
DELETION: Final = 5
GIFT_WRAP: Final = 1_059
VANISH: Final = 62


class Peer(Protocol):
    """Who asks: the public keys that were proven on the connection (NIP-42), and the address."""

    @property
    def authed(self) -> frozenset[str]: ...
    @property
    def address(self) -> str: ...


@frozen
class Outcome:
    """The answer to an event: whether it is taken, and the text of the OK."""

    ok: bool
    message: str = ""
    fresh: bool = False
    """Whether it was not here before, so that listeners are told."""


@frozen
class RelayLimits:
    """What is taken; the NIP-11 document says the same. Lengths are in characters."""

    message: int = 512 * 1024
    content: int = 64 * 1024
    tags: int = 2_000
    tag_bytes: int = 256 * 1024
    """So many that a list of 2,000 follows, each with its relay, is taken (NIP-02)."""
    future_s: int = 900
    results: int = 500
    filters: int = 20
    subscriptions: int = 50
    negotiations: int = 8
    negotiated: int = 500_000
    """Events that one NIP-77 negotiation is about."""


def failed(error: OSError) -> str:
    """Say to a client that the store failed; the log has the rest, with names of this machine."""
    if error.errno == errno.ENOSPC:
        return "error: the disk of this relay is full"
    return "error: the store of this relay failed"


def refused(event: Event, peer: Peer, limits: RelayLimits, now: int) -> Outcome | None:
    """Give the refusal of an event before its signature is looked at, or None."""
    if event.kind == AUTH:
        return Outcome(False, "invalid: an AUTH is for one connection, and is not published")
    if event.created_at > now + limits.future_s:
        return Outcome(False, f"invalid: created_at is over {limits.future_s} s in the future")
    names = {tag[0] for tag in event.tags}
    if EXPIRATION in names and (until := event.expiration) is not None and until <= now:
        return Outcome(False, "invalid: the event has expired")
    if len(event.content) > limits.content:
        return Outcome(False, f"invalid: the content has more than {limits.content} characters")
    if len(event.tags) > limits.tags:
        return Outcome(False, f"invalid: more than {limits.tags} tags")
    if sum(map(len, chain.from_iterable(event.tags))) > limits.tag_bytes:
        return Outcome(False, f"invalid: the tags have more than {limits.tag_bytes} characters")
    if PROTECTED in names or event.kind in REPOSTS:
        return _protected(event, peer)
    return None


def too_easy(event: Event, least: int) -> str:
    """Say what an event lacks of a proof of work (NIP-13), or nothing."""
    found, target = difficulty(event.id), committed(event)
    if found < least:
        return f"difficulty {found} is less than {least}"
    if target is None or target < least:
        # Without it, a spammer aims low and keeps what is hard by luck.
        return f"the nonce commits to {target or 0}, less than {least}"
    return ""


def _protected(event: Event, peer: Peer) -> Outcome | None:
    if event.is_protected and event.pubkey not in peer.authed:
        return Outcome(False, "auth-required: its author alone may publish a protected event")
    if event.kind in REPOSTS and event.content:
        try:
            inner = Event.of(decode(event.content))
        except Invalid:
            return None
        if inner.is_protected:
            return Outcome(False, "blocked: a protected event is not reposted")
    return None


def may_see(event: Event, peer: Peer) -> bool:
    """Tell whether somebody may see an event: a gift wrap is for who it names (NIP-59)."""
    return event.kind not in GIFT_WRAPS or not peer.authed.isdisjoint(event.values("p"))
