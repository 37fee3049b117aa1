"""Window: the last bytes of a body, so that a place can be read again."""

from collections import deque
from typing import Final

SIZE: Final = 1 << 20
"""How many of the last bytes are kept; the kernel asks for no more in one read."""

_SMALL: Final = 16_384
_JOINED: Final = 65_536
"""Small pieces are joined to ones of this length: a stream may come byte by byte."""


class Window:
    """The last `SIZE` bytes at least, and what else came with the oldest of them."""

    def __init__(self) -> None:
        self.end = 0
        self._size = 0
        self._pieces: deque[bytes | bytearray] = deque()

    @property
    def start(self) -> int:
        """The offset of the oldest byte that is kept."""
        return self.end - self._size

    def add(self, piece: bytes) -> None:
        """Add what comes next."""
        last = self._pieces[-1] if self._pieces else b""
        if len(piece) >= _SMALL:
            self._pieces.append(piece)
        elif isinstance(last, bytearray) and len(last) < _JOINED:
            last += piece
        else:
            self._pieces.append(bytearray(piece))
        self._size += len(piece)
        self.end += len(piece)
        while self._size - len(self._pieces[0]) >= SIZE:
            self._size -= len(self._pieces.popleft())

    def get(self, offset: int, end: int) -> bytes:
        """Give the bytes of a range, as far as they are kept."""
        # From the newest on: that is where a reader in order is.
        found: list[bytes] = []
        at = self.end
        for piece in reversed(self._pieces):
            at -= len(piece)
            if at < end:
                found.append(bytes(piece[max(offset - at, 0) : end - at]))
            if at <= offset:
                break
        return found[0] if len(found) == 1 else b"".join(reversed(found))

    def begin(self, offset: int) -> None:
        """Forget everything, and go on from another offset."""
        self._pieces.clear()
        self._size = 0
        self.end = offset
