"""Glob: a pattern for paths. `*` stands for anything within a segment, `**` for anything.

Matched by following every way at once (Thompson 1968), with a bit for each place in the pattern:
the time is that of the path's length, whatever the pattern. Most patterns need less than that.
"""

import re
from functools import cached_property

from attrs import frozen


@frozen
class Glob:
    """A pattern that a whole path must match."""

    text: str

    @property
    def everything(self) -> bool:
        """Tell whether it matches every path."""
        return self.text == "/**"

    @cached_property
    def slow(self) -> bool:
        """Tell whether a match may have to look at each character of the path."""
        return "*" in self.text and self.text != f"{self._head}**"

    def matches(self, path: str) -> bool:
        """Tell whether the path, which begins with a slash, is one of those."""
        if "*" not in self.text:
            return path == self.text
        if not self.slow:
            return path.startswith(self._head)
        return self._may_match(path) and self._follow(path)

    def work(self, path: str) -> int:
        """Give how many characters of the path `matches` will look at one by one."""
        return len(path) if self.slow and self._may_match(path) else 0

    def _may_match(self, path: str) -> bool:
        return path.startswith(self._head) and path.endswith(self._tail)

    @cached_property
    def _head(self) -> str:
        return self.text.partition("*")[0]

    @cached_property
    def _tail(self) -> str:
        return self.text.rpartition("*")[2]

    @cached_property
    def _places(self) -> "_Places":
        return _Places(self.text)

    def _follow(self, path: str) -> bool:
        places = self._places
        here = places.start
        for character in path:
            # A star keeps its place; what is at a star's place is behind it as well.
            here = here & (places.deep if character == "/" else places.stars) | (
                (here & places.of.get(character, 0)) << 1
            )
            if not here:
                return False
            here |= (here & places.stars) << 1
        return bool(here & places.end)


class _Places:
    """The places of a pattern as bits: place i stands before its i-th character or run of stars."""

    def __init__(self, text: str) -> None:
        self.of: dict[str, int] = {}
        self.stars = self.deep = 0
        bit = 1
        for part in re.findall(r"\*+|[^*]", text):
            if part[0] == "*":
                self.stars |= bit
                self.deep |= bit if len(part) > 1 else 0
            else:
                self.of[part] = self.of.get(part, 0) | bit
            bit <<= 1
        self.end = bit
        self.start = 1 | (self.stars & 1) << 1
