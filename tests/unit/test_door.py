"""The kernel door, without a binding: how many reads of a user may wait, and how long a write."""

import errno
import math
import os
import stat as modes

import pytest
import trio
import trio.testing

from mounts.door import WAITS_PER_USER, Door
from mounts.inodes import Inode
from mounts.options import FuseOptions
from oanix.caller import Caller
from oanix.namespace import Namespace
from oanix.node import WOULD_BLOCK, Handle, Node, WouldBlock
from oanix.service import Service
from oanix.stat import Stat, StatLike
from tests.reach import refused

ME = Caller(uid=1000)


class _Waiting(Handle):
    def __init__(self, direct: bool, data: trio.Event) -> None:
        self.direct = direct
        self._data = data

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        return WOULD_BLOCK

    async def read(self, size: int, offset: int) -> bytes:
        await self._data.wait()
        return b"data"


class _File(Node):
    def __init__(self, qid: int, direct: bool) -> None:
        self.qid = qid
        self.direct = direct
        self.data = trio.Event()

    def stat(self) -> Stat:
        return Stat(modes.S_IFREG | 0o644)

    async def open(self, flags: int, caller: Caller) -> Handle:
        return _Waiting(self.direct, self.data)


class _Nowhere:
    def inode(self, number: int) -> None: ...

    def entry(self, parent: int, name: bytes) -> None: ...


def _attributes(inode: Inode, stat: StatLike) -> object:
    return stat


@pytest.mark.parametrize("direct", [True, False])
async def test_waiting_readers_of_streams_have_a_cap_and_reads_from_a_disk_have_none(
    direct: bool,
) -> None:
    service = Service()
    file = _File(service.next_qid(), direct)
    service.root = file
    namespace = Namespace()
    namespace.mount(service, "/file")
    door = Door(namespace, "/nowhere", FuseOptions(), _Nowhere(), _attributes)
    inode, _ = door.lookup(ME, 1, b"file")
    handle = (await door.open(ME, inode.number, os.O_RDONLY)).number
    answers: list[bytes] = []
    told: list[int | None] = []

    async def read() -> None:
        try:
            answers.append(await door.read(handle, 10, 0))
        except OSError as error:
            told.append(error.errno)

    async with trio.open_nursery() as nursery:
        for _ in range(WAITS_PER_USER + 1):
            nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert told == ([errno.EAGAIN] if direct else [])
        file.data.set()
    assert len(answers) == WAITS_PER_USER + (not direct)
    door.close()


class _Slow(Handle):
    """Takes a write once there is a go; lets it wait for so long."""

    def __init__(self, go: trio.Event, wait_s: float) -> None:
        self.write_wait_s = wait_s
        self._go = go

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        return WOULD_BLOCK

    async def write(self, data: bytes, offset: int) -> int:
        await self._go.wait()
        return len(data)


class _SlowFile(_File):
    def __init__(self, qid: int, wait_s: float) -> None:
        super().__init__(qid, True)
        self._wait_s = wait_s

    async def open(self, flags: int, caller: Caller) -> Handle:
        return _Slow(self.data, self._wait_s)


async def test_a_write_waits_as_long_as_its_file_says_and_can_be_tried_again(
    autojump_clock: trio.abc.Clock,
) -> None:
    service = Service()
    file = _SlowFile(service.next_qid(), 20)
    service.root = file
    namespace = Namespace()
    namespace.mount(service, "/file")
    door = Door(namespace, "/nowhere", FuseOptions(), _Nowhere(), _attributes)
    inode, _ = door.lookup(ME, 1, b"file")
    handle = (await door.open(ME, inode.number, os.O_WRONLY)).number
    began = trio.current_time()
    with refused(errno.EAGAIN, "takes no more"):
        await door.write(handle, b"data", 0)
    assert trio.current_time() - began == pytest.approx(20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_after, 15, file.data)
        assert await door.write(handle, b"data", 0) == 4
    file.data = trio.Event()
    handle = (await door.open(ME, inode.number, os.O_WRONLY)).number
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_signalled, door, handle)
        with refused(errno.EINTR, "interrupted"):
            await door.write(handle, b"data", 0)


async def test_a_write_may_wait_without_end_unless_it_was_opened_not_to(
    autojump_clock: trio.abc.Clock,
) -> None:
    service = Service()
    file = _SlowFile(service.next_qid(), math.inf)
    service.root = file
    namespace = Namespace()
    namespace.mount(service, "/file")
    door = Door(namespace, "/nowhere", FuseOptions(), _Nowhere(), _attributes)
    inode, _ = door.lookup(ME, 1, b"file")
    handle = (await door.open(ME, inode.number, os.O_WRONLY)).number
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_after, 86_400, file.data)
        assert await door.write(handle, b"data", 0) == 4
    handle = (await door.open(ME, inode.number, os.O_WRONLY | os.O_NONBLOCK)).number
    began = trio.current_time()
    with refused(errno.EAGAIN, "takes no more"):
        await door.write(handle, b"data", 0)
    assert trio.current_time() == began


async def _after(seconds: float, go: trio.Event) -> None:
    await trio.sleep(seconds)
    go.set()


async def _signalled(door: Door, handle: int) -> None:
    await trio.sleep(1)
    for wait in door.files[handle].waits:
        wait.scope.cancel()
