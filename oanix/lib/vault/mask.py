"""Mask: takes the values of secrets out of answers, at their length."""

from collections.abc import Iterable
from contextlib import suppress
from typing import AnyStr, Final

STAR: Final = b"*"
HEAD: Final = 16
"""How much of a form is looked for first, where a beginning of it may stand at an end."""


class Mask:
    """Replaces each occurrence of some literals by as many `*`. It may be used by many at once."""

    __slots__ = ("_literals", "_texts")

    def __init__(self, literals: Iterable[bytes] = ()) -> None:
        # One may begin within another and end after it, so all are kept.
        self._literals = tuple(sorted(set(literals) - {b""}))
        self._texts = tuple(form.decode() for form in self._literals)

    def __repr__(self) -> str:
        return f"<Mask of {len(self._literals)} forms>"

    @property
    def active(self) -> bool:
        """Whether there is anything that it would replace."""
        return bool(self._literals)

    def data(self, data: bytes) -> bytes:
        """Mask bytes that are whole."""
        spans = self.spans(data)
        return covered(data, spans) if spans else data

    def text(self, text: str) -> str:
        """Mask a text, at its length in characters.

        One that was read as Latin-1, as headers are, is searched for the bytes that it was too.
        """
        spans = _spans(text, self._texts)
        if not text.isascii():
            with suppress(UnicodeEncodeError):
                spans += _spans(text.encode("latin-1"), self._literals)
        if not spans:
            return text
        characters = list(text)
        for start, end in spans:
            characters[start:end] = "*" * (end - start)
        return "".join(characters)

    def stream(self) -> "MaskStream":
        """Begin to mask bytes that come in pieces."""
        return MaskStream(self)

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Find every occurrence, those that overlap too: where it begins and ends."""
        return _spans(data, self._literals)

    def beginning(self, data: bytes) -> int:
        """Find the longest end of the data with which an occurrence may begin: where it starts."""
        least = len(data)
        for form in self._literals:
            least = min(least, _beginning(data, form))
        return least


class MaskStream:
    """One stream of bytes that is masked as it comes: as much comes out as went in."""

    __slots__ = ("_covered", "_held", "_mask")

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._held = b""
        self._covered = 0
        """How much of what is held belongs to an occurrence that began before it."""

    @property
    def held(self) -> int:
        """How many bytes are held back: the possible beginning of a value."""
        return len(self._held)

    def feed(self, data: bytes) -> bytes:
        """Take a piece, and give what is sure of it."""
        data = self._held + data if self._held else data
        keep = self._mask.beginning(data)
        return self._give(data, keep)

    def finish(self) -> bytes:
        """Give the rest: what was held back was no value."""
        return self._give(self._held, len(self._held))

    def _give(self, data: bytes, keep: int) -> bytes:
        # Those that begin in what is kept are found again with the next piece.
        spans = [span for span in self._mask.spans(data) if span[0] < keep]
        if self._covered:
            spans.append((0, self._covered))
        self._held = data[keep:]
        self._covered = max((end - keep for _, end in spans if end > keep), default=0)
        return (covered(data, spans) if spans else data)[:keep]


def _spans(data: AnyStr, forms: Iterable[AnyStr]) -> list[tuple[int, int]]:
    found = []
    for form in forms:
        at = data.find(form)
        while at >= 0:
            found.append((at, at + len(form)))
            at = data.find(form, at + 1)
    return found


def covered(data: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    """Replace these parts."""
    out = bytearray(data)
    for start, end in spans:
        out[start:end] = STAR * (end - start)
    return bytes(out)


def _beginning(data: bytes, form: bytes) -> int:
    # The first place from which on all of the data is a beginning of the form, but not all of it.
    size = len(data)
    head = form[:HEAD]
    at = data.find(head, max(0, size - len(form) + 1))
    while at >= 0:
        if form.startswith(data[at:]):
            return at
        at = data.find(head, at + 1)
    # From here on less than a head is left.
    for start in range(max(0, size - len(head) + 1), size):
        if head.startswith(data[start:]):
            return start
    return size
