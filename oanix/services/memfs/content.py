"""Content: the bytes of a sparse file, kept in chunks so that holes cost nothing.

A chunk that was never written is not there, and a chunk ends where its last written byte is: what
lies beyond reads as zeros. Memory is counted in pages, for st_blocks and quotas.
"""

CHUNK = 65_536
PAGE = 4096
READ_MAX = 1 << 26
"""One read gives at most this much: a hole costs nothing until it is read."""

_SHIFT = CHUNK.bit_length() - 1
_MASK = CHUNK - 1


def _pages(length: int) -> int:
    return -(-length // PAGE)


class Content:
    """The bytes of one file. `pages` is the memory they take, in pages of 4 KiB."""

    __slots__ = ("_chunks", "pages", "size")

    def __init__(self) -> None:
        self.size = 0
        self.pages = 0
        self._chunks: dict[int, bytearray] = {}

    def read(self, size: int, offset: int) -> bytes:
        """Read up to size bytes, READ_MAX at most; b"" at the end."""
        end = min(offset + min(size, READ_MAX), self.size)
        if offset >= end:
            return b""
        first, last = offset >> _SHIFT, (end - 1) >> _SHIFT
        stop = ((end - 1) & _MASK) + 1
        if first == last:
            return self._piece(first, offset & _MASK, stop)
        pieces = [self._piece(first, offset & _MASK, CHUNK)]
        pieces += [self._piece(index, 0, CHUNK) for index in range(first + 1, last)]
        pieces.append(self._piece(last, 0, stop))
        return b"".join(pieces)

    def _piece(self, index: int, start: int, stop: int) -> bytes:
        chunk = self._chunks.get(index)
        if chunk is None:
            return bytes(stop - start)
        with memoryview(chunk) as view:
            return bytes(view[start:stop]).ljust(stop - start, b"\0")

    def write(self, data: bytes, offset: int, room: int) -> int:
        """Write, taking at most `room` more pages; gives how many bytes found a place."""
        written = 0
        while written < len(data):
            at = offset + written
            start = at & _MASK
            count = min(len(data) - written, CHUNK - start)
            taken = self._write_chunk(at >> _SHIFT, start, data[written : written + count], room)
            if taken:
                written += len(taken[0])
                room -= taken[1]
            if not taken or len(taken[0]) < count:
                break
        if written:
            self.size = max(self.size, offset + written)
        return written

    def _write_chunk(
        self, index: int, start: int, piece: bytes, room: int
    ) -> tuple[bytes, int] | None:
        # Gives what was written of the piece and the pages that took, None when there is no room.
        chunk = self._chunks.get(index)
        old = len(chunk) if chunk is not None else 0
        growth = _pages(max(old, start + len(piece))) - _pages(old)
        if growth > room:
            limit = (_pages(old) + room) * PAGE
            if limit <= start:
                return None
            piece, growth = piece[: limit - start], room
        if chunk is None:
            chunk = self._chunks[index] = bytearray(start)
        elif start > old:
            chunk.extend(bytes(start - old))
        chunk[start : start + len(piece)] = piece
        self.pages += growth
        return piece, growth

    def truncate(self, size: int) -> None:
        """Set the size: what lies beyond is gone for good, what is added is a hole."""
        if size < self.size:
            last, keep = size >> _SHIFT, size & _MASK
            for index in [index for index in self._chunks if index >= last]:
                if index > last or not keep:
                    self.pages -= _pages(len(self._chunks.pop(index)))
                else:
                    chunk = self._chunks[index]
                    self.pages -= _pages(len(chunk))
                    del chunk[keep:]
                    self.pages += _pages(len(chunk))
        self.size = size
