"""Searching: the words of events, and what is looked for in them (NIP-50)."""

import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Final

from oanix.lib.nostr import Event, Filter, Invalid
from oanix.services.relay.rules import SEARCHED

WORDS_MAX: Final = 32
"""Words and phrases of one search."""

TITLES: Final = frozenset(("title", "subject", "summary", "name", "alt", "description", "t"))
"""Tags whose value is read as text."""

_PART: Final = re.compile(r'"([^"]*)"|(\S+)')
_EXTENSION: Final = re.compile(r"[a-z][a-z0-9_-]*:[^/]\S*")
_WORD: Final = re.compile(r"\w+")
_FOREIGN: Final = re.compile(r"[^\x00-\x7f]")
_UNQUOTED: Final = str.maketrans({'"': " ", "\0": " "})
"""What no phrase of FTS5 can hold: its quotes, and the NUL that ends its text."""


def words_of(event: Event) -> str:
    """Give what an event is found by."""
    if event.kind not in SEARCHED:
        return ""
    titles = [tag[1] for tag in event.tags if len(tag) > 1 and tag[0] in TITLES]
    return "\n".join((*titles, event.content))


def phrases(search: str) -> list[str]:
    """Split a search into words and "quoted phrases"; extensions (`key:value`) are left out.

    Raises Invalid for too many.
    """
    found = []
    for quoted, word in _PART.findall(search):
        text = quoted or ("" if _EXTENSION.fullmatch(word) else word)
        if _WORD.search(text):
            found.append(text)
    if len(found) > WORDS_MAX:
        raise Invalid(f"a search has at most {WORDS_MAX} words")
    return found


def expression(search: str) -> str:
    """Write a search as a question to FTS5: every phrase, in any order; "" for one without words.

    sqlite.org/fts5.html, section 3. Raises Invalid.
    """
    return " ".join(f'"{phrase.translate(_UNQUOTED)}"' for phrase in phrases(search))


def wanted(one: Filter) -> tuple[str, ...]:
    """Give what an event has to say that a filter is to hear of: all of these. Raises Invalid."""
    return tuple(map(_tokens, phrases(one.search or "")))


class Said:
    """What an event says to those who listen for words: taken apart once, when the first asks."""

    def __init__(self, event: Event) -> None:
        self._event = event

    def has(self, wanted: Sequence[str]) -> bool:
        """Tell whether it says all that `wanted` gave."""
        return all(f" {phrase} " in self._words for phrase in wanted)

    @cached_property
    def _words(self) -> str:
        return f" {_tokens(words_of(self._event))} "


def _tokens(text: str) -> str:
    # As unicode61 without diacritics takes a text apart.
    bare = _FOREIGN.sub(lambda found: _bare(found[0]), text)
    return " ".join(_WORD.findall(bare.lower()))


@lru_cache(maxsize=4096)
def _bare(character: str) -> str:
    # One at a time: to put thousands of diacritics in order would take seconds.
    plain = unicodedata.normalize("NFKD", character)
    return "".join(c for c in plain if not unicodedata.combining(c))
