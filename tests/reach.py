"""For tests of services: a namespace as one caller sees it, through the kernel's own door."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from oanix.caller import Caller
from oanix.channel import Channel, OpenFile
from oanix.namespace import Namespace
from oanix.node import WOULD_BLOCK
from oanix.service import Service

ROOT = Caller(uid=0, gid=0, session="root")
ALICE = Caller(uid=1000, gid=1000, groups=(1000, 50), session="alice")
BOB = Caller(uid=1001, gid=1001, groups=(1001,), session="bob")


class Reach:
    """What one caller can do in a namespace, by path."""

    def __init__(self, namespace: Namespace, caller: Caller = ROOT) -> None:
        self.namespace = namespace
        self.caller = caller

    @classmethod
    def of(cls, service: Service, caller: Caller = ROOT, path: str = "/") -> "Reach":
        """Reach a service that is mounted alone."""
        namespace = Namespace()
        namespace.mount(service, path)
        return cls(namespace, caller)

    def by(self, caller: Caller) -> "Reach":
        """Reach the same as another caller."""
        return Reach(self.namespace, caller)

    def at(self, path: str) -> Channel:
        return self.namespace.resolve(self.caller, path, follow=False)

    def stat(self, path: str) -> os.stat_result:
        return self.at(path).stat(self.caller)  # type: ignore[return-value]

    def names(self, path: str) -> list[str]:
        return self.at(path).readdir(self.caller)

    async def open(self, path: str, flags: int = os.O_RDONLY) -> OpenFile:
        return await self.at(path).open(self.caller, flags)

    async def read(self, path: str) -> bytes:
        """Read what is there, as cat does; a file that waits is read until it would."""
        opened = await self.open(path)
        pieces = [b""]
        try:
            while piece := opened.try_read(self.caller, 65_536, sum(map(len, pieces))):
                if piece is WOULD_BLOCK:
                    break
                pieces.append(piece)
        finally:
            opened.close(self.caller)
        return b"".join(pieces)

    async def text(self, path: str) -> str:
        return (await self.read(path)).decode()

    async def write(self, path: str, data: bytes | str, flags: int = os.O_TRUNC) -> int:
        """Write once, as echo does."""
        opened = await self.open(path, os.O_WRONLY | flags)
        try:
            data = data.encode() if isinstance(data, str) else data
            written = opened.try_write(self.caller, data, 0)
            assert written is not WOULD_BLOCK
            opened.flush()
            return written
        finally:
            opened.close(self.caller)


@contextmanager
def refused(number: int, sentence: str = "") -> Iterator[None]:
    """Expect an OSError with this errno, and a sentence that matches."""
    with pytest.raises(OSError, match=sentence or None) as caught:
        yield
    found = errno.errorcode[caught.value.errno or 0]
    assert found == errno.errorcode[number], f"{found}: {caught.value}"
