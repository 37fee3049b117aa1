"""Memory: keep what was freed for the next piece of a large file.

A server moves large files in pieces of half a megabyte. By default glibc gives a freed piece back
to the kernel at once, which then clears every page of the next one: a third of the time of a large
download through a mount (mallopt(3)).
"""

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3

KEPT: Final = 64 << 20
"""Free memory in bytes that a server keeps at most at the end of its heap."""

LARGEST: Final = 16 << 20
"""Bytes from which on a piece is a mapping of its own, and given back when it is freed."""


def keep_freed() -> None:
    """Keep freed memory of this process; does nothing where the C library has no mallopt."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, LARGEST)
        mallopt(_TRIM_THRESHOLD, KEPT)
