"""Asking: what somebody wants to hear from relays, and how each relay goes about it."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

from attrs import define, evolve, frozen

from oanix.lib.nostr import Event, Filter
from oanix.lib.nostr.wrap import PAST_S, WRAP

OVERLAP_S: Final = 900
"""How far before the last sign of life a relay is asked again: authors' clocks differ."""

SEEN_MAX: Final = 16_384


class Asking(Protocol):
    """Who asks. It is told of every relay that was asked; calls come on the trio thread."""

    def knows(self, event_id: str) -> bool:
        """Tell whether it had this event already: then it is not even checked."""

    def deliver(self, event: Event, url: str) -> None:
        """Take an event that is genuine and was asked for."""

    def stored(self, url: str, hint: str) -> None:
        """Learn that a relay gave what it had; hint: `finish`, `more` (NIP-67) or nothing."""

    def refused(self, url: str, reason: str) -> None:
        """Learn that a relay ended the subscription for good."""

    def lost(self, url: str, error: OSError) -> None:
        """Learn that a relay cannot be reached just now."""


class Seen:
    """The events that were given already: the last so many."""

    def __init__(self, most: int = SEEN_MAX) -> None:
        self._most = most
        self._ids: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, event_id: str) -> bool:
        return bytes.fromhex(event_id) in self._ids

    def add(self, event_id: str) -> bool:
        """Note an event; tells whether it is new."""
        key = bytes.fromhex(event_id)
        if key in self._ids:
            return False
        self._ids[key] = None
        if len(self._ids) > self._most:
            self._ids.popitem(last=False)
        return True


@define(eq=False)
class Wire:
    """A subscription at one relay.

    resume_at: from when on the relay may have what was not heard, once it was cut off; None while
    what was stored has not come. cut_at: the same by a clock that nobody sets. A relay that caps
    its answers is asked page by page after a cut: since and until are those of the page.
    """

    id: str
    filters: tuple[Filter, ...]
    asking: Asking
    live: bool = True
    resume_at: int | None = None
    cut_at: float = 0.0
    begun_at: int | None = None
    """When all that was stored had come for the first time."""
    current: bool = False
    """Whether all that was stored has come over this connection: from then on it is live."""
    done: bool = False
    """Whether the asking was told of what was stored."""
    authed: bool = False
    since: int | None = None
    until: int | None = None
    count: int = 0
    oldest: int = 0

    def begin(self, now: int, clock: float) -> tuple[Filter, ...]:
        """Give what to ask at the beginning of a connection; clock: one that nobody sets."""
        self.current, self.authed = False, False
        self.count, self.until = 0, None
        self.since = None
        if self.resume_at is not None:
            # The time of day may have been set back or forth meanwhile.
            last = min(self.resume_at, now - math.ceil(clock - self.cut_at))
            self.since = last - overlap(self.filters)
        return self.again()

    def again(self) -> tuple[Filter, ...]:
        """Give what to ask now."""
        self.count = 0
        return self.filters if self.since is None else self._page(self.since)

    def next_page(self, hint: str) -> tuple[Filter, ...]:
        """Give the next page to ask for at the end of one; nothing when there is none."""
        if self.since is None or hint == "finish" or not self.count:
            return ()
        if self.until is not None and self.oldest >= self.until:
            return ()
        self.until = self.oldest
        return self.again()

    def wants(self, event: Event) -> bool:
        """Tell whether this was asked for."""
        return any(one.matches(event) for one in self.filters)

    def heard(self, event: Event) -> None:
        """Note an event of a page."""
        self.oldest = event.created_at if not self.count else min(self.oldest, event.created_at)
        self.count += 1

    def arrive(self, now: int) -> None:
        """Note that all that was stored has come."""
        self.current = True
        if self.begun_at is None:
            self.begun_at = now

    def cut(self, alive_at: int, clock: float) -> None:
        """Note that the connection is gone; when it was last heard of, by both clocks."""
        if self.current:
            self.resume_at, self.cut_at = alive_at, clock
        self.current = False

    def _page(self, earliest: int) -> tuple[Filter, ...]:
        asked = []
        for one in self.filters:
            since = max(earliest, one.since or 0, 0)
            if one.limit is not None and self.begun_at is not None and not _wraps(one):
                # What a limit left out at the beginning does not come after a cut.
                since = max(since, min(self.begun_at, earliest + overlap(self.filters)))
            ends = [end for end in (self.until, one.until) if end is not None]
            until = min(ends, default=None)
            if until is None or since <= until:
                asked.append(evolve(one, since=since, until=until, limit=None))
        return tuple(asked)


def overlap(filters: Sequence[Filter]) -> int:
    """Tell how far back an event may be dated: wraps are by two days (NIP-59)."""
    return OVERLAP_S + (PAST_S if any(map(_wraps, filters)) else 0)


def _wraps(one: Filter) -> bool:
    return WRAP in one.kinds if one.kinds is not None else "p" in one.tags


@frozen
class Outcome:
    """What a relay says of an event that was sent to it."""

    ok: bool
    message: str

    @property
    def prefix(self) -> str:
        """The machine-readable part: `blocked`, `rate-limited`, …"""
        head, colon, _ = self.message.partition(":")
        return head if colon and head.replace("-", "").isalpha() else ""
