"""Terms: the numbers by which indexes hold events (see `schema`).

A place is the time of an event, then the beginning of its id turned round: events in descending
order of their places are newest first, and of one time the lowest id first. Two of one place are
told apart by time and id themselves.
"""

import logging
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from oanix.lib.nostr import Event, Invalid
from oanix.store import Store

log = logging.getLogger(__name__)

_TIMES: Final = 1 << 33
_LAST: Final = (1 << 30) - 1
END: Final = (_TIMES << 30) - 1
"""The last place: all times from the year 2242 on have it."""


def short(value: bytes) -> int:
    """Give the beginning of an id or of a key, as SQLite's integers are."""
    return int.from_bytes(value[:8], "big", signed=True)


def place(at: int, name: bytes) -> int:
    """Give the place of an event by its time and its id."""
    if at >= _TIMES - 1:
        return END
    return (at << 30) + _LAST - (int.from_bytes(name[:4], "big") >> 2)


def earliest(since: int) -> int:
    """Give the lowest place of a time."""
    return END if since >= _TIMES - 1 else since << 30


def latest(until: int) -> int:
    """Give the highest place of a time."""
    return END if until >= _TIMES - 1 else (until << 30) + _LAST


class Terms:
    """What `tags` holds for a tag, by the secret of one database."""

    def __init__(self, store: Store) -> None:
        """Read the secret. Raises OSError."""
        [(secret,)] = store.execute("SELECT value FROM secret")
        assert isinstance(secret, bytes)
        self._secret = secret
        self.of = lru_cache(maxsize=16_384)(self._of)
        """Give the number of a letter and a value."""

    def _of(self, letter: str, value: str) -> int:
        said = blake2b((letter + value).encode(), digest_size=8, key=self._secret).digest()
        return int.from_bytes(said, "big", signed=True)

    def each(self, letter: str, values: Iterable[str]) -> list[int]:
        """Give the numbers of several values."""
        return [self.of(letter, value) for value in sorted(values)]

    def rows(self, event: Event, at: int, seq: int) -> list[tuple[int, int, int]]:
        """Give what `tags` holds for an event of this place and number."""
        return [(self.of(letter, value), at, seq) for letter, value in event.indexed]

    def stored(self, raw: object, at: int, seq: int) -> list[tuple[int, int, int]]:
        """Give the same for an event by its JSON."""
        if not isinstance(raw, bytes):
            return []
        try:
            return self.rows(Event.parse(raw), at, seq)
        except Invalid as error:
            # The disk has lost it. What is left in `tags` names a number that nothing has again.
            log.warning("a stored event cannot be read, and leaves its tags: %s", error.reason)
            return []
