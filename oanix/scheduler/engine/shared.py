"""Shared memory: linear memories that a second process can map, so that it serves a guest's calls.

Each is a memfd: what it maps grows with the guest, and is sealed against shrinking, so that nobody
who has mapped it is ever cut off (memfd_create(2), F_SEAL_SHRINK).
"""

import ctypes
import fcntl
import mmap
import os
from collections.abc import Callable
from typing import Any, Final

import wasmtime

from oanix.scheduler.engine import bindings

PROT_NONE: Final = 0
READ_WRITE: Final = mmap.PROT_READ | mmap.PROT_WRITE
FIXED: Final = 0x10
NORESERVE: Final = 0x4000
"""MAP_FIXED and MAP_NORESERVE, which the standard library does not name everywhere."""

RESERVED: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
]  # fmt: skip
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def _map(
    at: int | None, size: int, protection: int, flags: int, descriptor: int = -1, offset: int = 0
) -> int:
    found = _LIBC.mmap(at, size, protection, flags, descriptor, offset)
    if found is None or found == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(found)


class SharedMemory:
    """One linear memory: its address space is reserved at once, and filled as it grows.

    refused: whether it was to become larger than it may.
    """

    def __init__(self, size: int, reserved: int, guard: int, most: int) -> None:
        """Make it. Raises OSError ENOMEM, MemoryError for more than it may have."""
        if size > most:
            raise MemoryError(f"memory minimum size of {size} bytes is over {most}")
        self.size = 0
        self.refused = False
        self.capacity = max(reserved, size)
        self._most = min(most, self.capacity)
        self.descriptor = os.memfd_create("guest", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._span = self.capacity + guard
        try:
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            self.base = _map(None, self._span, PROT_NONE, RESERVED)
        except OSError:
            os.close(self.descriptor)
            raise
        try:
            self.grow(size)
        except OSError:
            self.close()
            raise

    def grow(self, size: int) -> None:
        """Make it larger. Raises OSError ENOMEM, MemoryError."""
        if size > self._most:
            self.refused = True
            raise MemoryError(f"at most {self._most} bytes")
        if size > self.size:
            os.ftruncate(self.descriptor, size)
            _map(
                self.base + self.size, size - self.size, READ_WRITE, mmap.MAP_SHARED | FIXED,
                self.descriptor, self.size,
            )  # fmt: skip
            self.size = size

    def close(self) -> None:
        """Give it back; its guest is gone."""
        _LIBC.munmap(self.base, self._span)
        os.close(self.descriptor)


class SharedMemories:
    """The memories of the guests of one engine.

    made: called with each when it is there; most: gives how large the next may become.
    """

    def __init__(self, made: Callable[[SharedMemory], None], most: Callable[[], int]) -> None:
        self._made = made
        self._most = most
        self._living: dict[int, tuple[Any, ...]] = {}
        self._new = bindings.NEW_MEMORY(self._create)
        self._creator = bindings.MemoryCreator()
        self._creator.env = None
        self._creator.new_memory = self._new
        self._creator.finalizer = bindings.FINALIZER(0)

    def install(self, config: wasmtime.Config) -> None:
        """Have an engine take its memories from here. They live as long as this."""
        bindings.use_memory_creator(bindings.pointer(config), ctypes.addressof(self._creator))
        # Images that are mapped on first use belong to memories that wasmtime makes itself.
        bindings.use_copied_images(bindings.pointer(config), False)

    # Callbacks: nothing may be raised out of them ------------------------------------------------

    def _create(
        self, env: int, kind: object, minimum: int, maximum: int, reserved: int, guard: int,
        place: Any,
    ) -> int:  # fmt: skip
        try:
            memory = SharedMemory(minimum, reserved, guard, self._most())
            self._describe(memory, place.contents)
            self._made(memory)
        except BaseException as error:
            return _refusal(error)
        return 0

    def _describe(self, memory: SharedMemory, place: Any) -> None:
        def get(env: int, size: Any, capacity: Any) -> int:
            size[0], capacity[0] = memory.size, memory.capacity
            return memory.base

        def grow(env: int, size: int) -> int:
            try:
                memory.grow(size)
            except BaseException as error:
                return _refusal(error)
            return 0

        def end(env: int) -> None:
            memory.close()
            # What runs now must outlive this call; the next memory to end lets it go.
            self._ended = self._living.pop(memory.base, None)

        calls = (
            bindings.GET_MEMORY(get), bindings.GROW_MEMORY(grow), bindings.FINALIZER(end),
        )  # fmt: skip
        self._living[memory.base] = calls
        place.env = None
        place.get_memory, place.grow_memory, place.finalizer = calls


def _refusal(error: BaseException) -> int:
    return int(bindings.error_new(str(error).encode("utf-8", "replace")))
