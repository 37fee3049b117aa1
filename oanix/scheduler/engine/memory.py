"""Memory: the linear memory of a guest, with every access inside its bounds."""

import errno
from collections.abc import Callable
from struct import Struct
from typing import Final

from oanix.errors import fault

_U16: Final = Struct("<H")
_U32: Final = Struct("<I")
_U64: Final = Struct("<Q")


class Memory:
    """The memory of a guest. Every method raises OSError EFAULT for what lies outside.

    fresh gives a view of the memory as it is now; it grows, and never shrinks.
    """

    __slots__ = ("_fresh", "_size", "_view")

    def __init__(self, fresh: Callable[[], memoryview]) -> None:
        self._fresh: Callable[[], memoryview] | None = fresh
        self._view = memoryview(b"")
        self._size = 0

    @property
    def size(self) -> int:
        """How large it is now, in bytes."""
        self._refresh()
        return self._size

    def close(self) -> None:
        """Let go of it: its store goes, and a view of it would crash."""
        self._fresh = None
        self._view = memoryview(b"")
        self._size = 0

    def _refresh(self) -> None:
        if self._fresh is not None:
            self._view = self._fresh()
            self._size = len(self._view)

    def _reach(self, end: int) -> None:
        if end > self._size:
            self._refresh()
            if end > self._size:
                raise fault(errno.EFAULT, "a pointer of the program leads out of its memory")

    def read(self, pointer: int, size: int) -> bytes:
        """Copy bytes out."""
        end = pointer + size
        if end > self._size:
            self._reach(end)
        return bytes(self._view[pointer:end])

    def view(self, pointer: int, size: int) -> memoryview:
        """Give a view, valid until the guest goes on."""
        end = pointer + size
        if end > self._size:
            self._reach(end)
        return self._view[pointer:end]

    def write(self, pointer: int, data: bytes) -> None:
        """Copy bytes in."""
        end = pointer + len(data)
        if end > self._size:
            self._reach(end)
        self._view[pointer:end] = data

    def u32(self, pointer: int) -> int:
        """Read a number of 32 bits."""
        self._reach(pointer + 4)
        return int(_U32.unpack_from(self._view, pointer)[0])

    def u64(self, pointer: int) -> int:
        """Read a number of 64 bits."""
        self._reach(pointer + 8)
        return int(_U64.unpack_from(self._view, pointer)[0])

    def put_u16(self, pointer: int, value: int) -> None:
        """Write a number of 16 bits."""
        self._reach(pointer + 2)
        _U16.pack_into(self._view, pointer, value)

    def put_u32(self, pointer: int, value: int) -> None:
        """Write a number of 32 bits."""
        self._reach(pointer + 4)
        _U32.pack_into(self._view, pointer, value)

    def put_u64(self, pointer: int, value: int) -> None:
        """Write a number of 64 bits."""
        self._reach(pointer + 8)
        _U64.pack_into(self._view, pointer, value)
