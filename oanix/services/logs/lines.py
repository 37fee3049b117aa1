"""Split what a writer writes into lines, so that lines of several writers never mix."""

from typing import Final

from attrs import define, field, frozen

LINE_MAX: Final = 1_048_576
"""Longest line in bytes; a longer one is stored in pieces, so that memory stays flat."""

_CONTINUATION: Final = 0x80
_CONTINUATION_MASK: Final = 0xC0
_CHARACTER_MAX: Final = 4


@frozen
class Line:
    """A whole line without its newline, or a piece of a long one.

    piece counts from 1 and is 0 for a whole line; more: further pieces of the line follow.
    """

    raw: bytes
    piece: int = 0
    more: bool = False


Mark = tuple[bytearray, int, int]


@define
class Lines:
    """What one open file has written behind its last newline."""

    bound: int = LINE_MAX
    _held: bytearray = field(factory=bytearray, init=False)
    _pieces: int = field(default=0, init=False)

    @property
    def held(self) -> int:
        """How many bytes wait for their newline."""
        return len(self._held)

    def feed(self, data: bytes) -> list[Line]:
        """Take what was written and give the lines that it completes."""
        lines: list[Line] = []
        *ends, rest = data.split(b"\n")
        for part in ends:
            self._add(part, lines)
            lines.append(self._take())
        self._add(rest, lines)
        return lines

    def end(self) -> Line | None:
        """End the half line that is held, or give None when there is none."""
        return self._take() if self._held or self._pieces else None

    def mark(self) -> Mark:
        """Give what `back` needs to take back what is fed from here on."""
        return self._held, len(self._held), self._pieces

    def back(self, mark: Mark) -> None:
        """Forget what was fed since the mark. A mark serves once."""
        self._held, length, self._pieces = mark
        del self._held[length:]

    def _add(self, part: bytes, lines: list[Line]) -> None:
        # A marked buffer only grows; whatever takes from it makes a new one.
        self._held += part
        while len(self._held) > self.bound:
            cut = _boundary(self._held, self.bound)
            self._pieces += 1
            lines.append(Line(bytes(self._held[:cut]), self._pieces, more=True))
            self._held = self._held[cut:]

    def _take(self) -> Line:
        line = Line(bytes(self._held), self._pieces + 1 if self._pieces else 0)
        self._held, self._pieces = bytearray(), 0
        return line


def _boundary(data: bytearray, at: int) -> int:
    # The last place up to `at` where no UTF-8 character is cut, or `at` where there is no text.
    for cut in range(at, max(at - _CHARACTER_MAX, 0), -1):
        if data[cut] & _CONTINUATION_MASK != _CONTINUATION:
            return cut
    return at
