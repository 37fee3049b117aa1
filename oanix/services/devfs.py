"""DevFs: the small files that programs expect in /dev, and the errors of a session.

null  zero  full  random   as Linux has them (null(4), full(4), random(4))
time                       the time of the open, RFC 3339 in UTC with microseconds
errstr                     the last sentences of the reader's session; a line written is added
why                        the last refusal by a rule: what was asked, which rule, what would allow
"""

import errno
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import trio

from oanix.errors import fault
from oanix.kit import Handler, Opening, TableService, Text, Value, facts
from oanix.kit.file import check_truncate
from oanix.node import WOULD_BLOCK, Handle, WouldBlock

READ_MAX = 1 << 20
"""One read of an endless file gives at most this much: the kernel asks for no more at once."""

INLINE = 1 << 16
"""Random bytes that are made without letting others go on: about 0.2 ms."""

SENTENCE_MAX = 1024
"""Longest sentence in bytes that can be written to errstr."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DevFs(TableService):
    """The small files that programs expect in /dev.

    null    reads nothing, swallows everything
    zero    reads zeros without end, swallows everything
    full    reads zeros without end, is always full: ENOSPC
    random  reads random bytes without end, swallows everything
    time    the time now, in UTC: 2026-01-02T03:04:05.678901Z
    errstr  why your last calls failed: ten sentences, newest last; write a line to add one
    why     the last refusal by a rule, and the rule that would allow what was asked

        cat errstr
        head -c 16 random | od -An -tx1
    """

    name = "dev"

    def __init__(
        self,
        *,
        now: Callable[[], int] = time.time_ns,
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Make it. The clock gives nanoseconds since the epoch."""
        super().__init__(now=now)
        self.grow(
            (
                ("null", 0o666, _Device(lambda size: b"", endless=False)),
                ("zero", 0o666, _Device(bytes, endless=True)),
                ("full", 0o666, _Device(bytes, endless=True, full=True)),
                ("random", 0o666, _Device(randomness, endless=True)),
                ("time", 0o444, Text(lambda opening: format_time(self.now()))),
                ("errstr", 0o666, Value(_sentences, _add, SENTENCE_MAX)),
                ("why", 0o444, Text(_why)),
            )
        )


def format_time(now: int) -> str:
    """Write a time in nanoseconds as a line of RFC 3339, in UTC, with microseconds."""
    moment = _EPOCH + timedelta(microseconds=now // 1000)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ\n")


def _sentences(opening: Opening) -> str:
    kept = opening.namespace.sentences.of(opening.caller)
    return "".join(f"{sentence}\n" for sentence in kept)


def _why(opening: Opening) -> str:
    denied = opening.namespace.sentences.why(opening.caller)
    if denied is None:
        return "no rule has refused anything to you\n"
    return facts(
        {
            "asked": denied.what,
            "refused-by": denied.rule,
            "because": denied.strerror,
            "allow-with": denied.remedy,
        }
    )


def _add(sentence: str, opening: Opening) -> None:
    opening.namespace.sentences.add(opening.caller, sentence)


class _Device(Handler):
    """A file without content of its own: what it reads, and whether it swallows what is written."""

    reads = True
    writes = True

    def __init__(self, read: Callable[[int], bytes], *, endless: bool, full: bool = False) -> None:
        self.endless = endless
        self.read = read
        self.full = full

    async def open(self, opening: Opening) -> Handle:
        return _DeviceHandle(self, opening)


class _DeviceHandle(Handle):
    """An open device."""

    stream = True

    def __init__(self, device: _Device, opening: Opening) -> None:
        self._device = device
        self._opening = opening

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if not self._opening.reads:
            raise fault(errno.EBADF, "this file was not opened for reading")
        return WOULD_BLOCK if size > INLINE else self._device.read(max(size, 0))

    async def read(self, size: int, offset: int) -> bytes:
        """Read in pieces, so that others go on in between."""
        pieces = []
        left = min(size, READ_MAX)
        while left > 0:
            piece = self.try_read(min(left, INLINE), offset)
            assert piece is not WOULD_BLOCK
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
            await trio.lowlevel.checkpoint()
        return b"".join(pieces)

    def try_write(self, data: bytes, offset: int) -> int:
        if not self._opening.writes:
            raise fault(errno.EBADF, "this file was not opened for writing")
        if self._device.full and data:
            raise fault(errno.ENOSPC, "this file is always full")
        return len(data)

    def truncate(self, size: int) -> None:
        check_truncate(size)
