"""Keep two habits of the host from showing up as differences between the targets."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import struct
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602
TOP_DIRECTORY = 0x00020000
SLOW_CREATION = 100e-6
ATTEMPTS = 20


def spread(folder: Path) -> None:
    """Have ext4 put each new directory in this folder into a part of the disk of its own.

    ext4 does not give out an inode number again for five minutes after its removal, and each
    creation searches through all such numbers nearby: after an `rm -rf` of 10,000 files, files
    are created up to thirty times more slowly. This keeps what others remove at a distance.
    Other file systems refuse the flag and do not need it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            (flags,) = struct.unpack("l", fcntl.ioctl(descriptor, GET_FLAGS, struct.pack("l", 0)))
            fcntl.ioctl(descriptor, SET_FLAGS, struct.pack("l", flags | TOP_DIRECTORY))
    finally:
        os.close(descriptor)


def fresh(parent: Path, name: str) -> Path:
    """Make a directory with a name never used before, where files can be created at full speed.

    ext4 chooses its place by its name, and now and then one near which much was just removed.
    """
    for _ in range(ATTEMPTS):
        folder = parent / f"{name}-{secrets.token_hex(4)}"
        folder.mkdir()
        if min(_creation(folder / f"probe-{number}") for number in range(3)) < SLOW_CREATION:
            break
    return folder


def _creation(path: Path) -> float:
    start = perf_counter()
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    seconds = perf_counter() - start
    path.unlink()
    return seconds


def touch_memory(mebibytes: int) -> None:
    """Use some memory and give it back, so that a virtual machine really has it.

    A hypervisor provides a page when it is first touched, which costs ten times as much as
    writing to it. Whoever fills the page cache first would pay that for all the others.
    """
    with mmap.mmap(-1, mebibytes << 20) as memory:
        for offset in range(0, len(memory), mmap.PAGESIZE):
            memory[offset] = 1
