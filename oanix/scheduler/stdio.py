"""Standard files of a job: what it reads as its input, and where its output goes."""

import errno
from collections.abc import Callable

from oanix.caller import Caller
from oanix.channel import OpenFile
from oanix.errors import fault
from oanix.node import READABLE, WOULD_BLOCK, Handle, WouldBlock
from oanix.stat import StatLike


class Given(Handle):
    """An input that is known from the start."""

    stream = True

    def __init__(self, data: bytes) -> None:
        self._left = data

    def try_read(self, size: int, offset: int) -> bytes:
        given, self._left = self._left[:size], self._left[size:]
        return given

    def ready(self, wake: Callable[[], None] | None) -> int:
        return READABLE


class Heard(Handle):
    """An input that somebody else hears of, too, as it is read."""

    stream = True

    def __init__(self, source: Handle, told: Callable[[bytes], None]) -> None:
        self._source = source
        self._told = told

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        data = self._source.try_read(size, offset)
        if data is not WOULD_BLOCK and data:
            self._told(data)
        return data

    async def read(self, size: int, offset: int) -> bytes:
        data = await self._source.read(size, offset)
        if data:
            self._told(data)
        return data

    def ready(self, wake: Callable[[], None] | None) -> int:
        return self._source.ready(wake)

    def close(self) -> None:
        self._source.close()


class Kept(Handle):
    """An output that is kept in a log, byte by byte; told is called after each write."""

    stream = True

    def __init__(self, log: OpenFile, caller: Caller, told: Callable[[bytes], None]) -> None:
        self._log = log
        self._caller = caller
        self._told = told

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        answer = self._log.try_write(self._caller, data, 0)
        if isinstance(answer, int):
            self._told(data[:answer])
        return answer

    async def write(self, data: bytes, offset: int) -> int:
        written = await self._log.write(self._caller, data, 0)
        self._told(data[:written])
        return written

    def truncate(self, size: int) -> None:
        raise fault(errno.EINVAL, "an output has no size to set")

    def stat(self) -> StatLike | None:
        return None

    def flush(self) -> None:
        self._log.flush()

    def close(self) -> None:
        self._log.close(self._caller)
