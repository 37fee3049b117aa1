"""Serves what the tests of the FUSE door need: real services, and one that misbehaves.

    python server.py MOUNTPOINT HOST_FOLDER [OPTION ...]

Prints "mounted" when it is. SIGTERM, SIGINT and SIGHUP end it.
"""

import errno
import signal
import stat as modes
import sys
from contextlib import AsyncExitStack

import trio

from mounts.fuse import serve
from mounts.options import FuseOptions
from oanix.bell import Bell
from oanix.caller import Caller
from oanix.errors import Missing, fault
from oanix.namespace import Namespace
from oanix.node import (
    READABLE,
    WOULD_BLOCK,
    WRITABLE,
    CanXattr,
    Directory,
    Handle,
    Node,
    WouldBlock,
)
from oanix.service import Service
from oanix.services.devfs import DevFs
from oanix.services.memfs import MemFs
from oanix.services.procfs import ProcFs
from oanix.services.workspace import WorkspaceFs
from oanix.stat import Stat

ERRORS = {
    "value": lambda: ValueError("a defect"),
    "memory": lambda: MemoryError(),
    "group": lambda: ExceptionGroup("several", [KeyError("a"), OSError(errno.EPERM, "b")]),
    "recursion": lambda: RecursionError("too deep"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    "told": lambda: fault(errno.EADDRINUSE, "the sentence of an error"),
}


class File(Node):
    """A file with fixed attributes."""

    def __init__(self, service: Service, mode: int = 0o666) -> None:
        self.qid = service.next_qid()
        self._stat = Stat(modes.S_IFREG | mode)

    def stat(self) -> Stat:
        return self._stat


class Failing(File):
    """Raises when it is opened."""

    def __init__(self, service: Service, kind: str) -> None:
        super().__init__(service)
        self.kind = kind

    async def open(self, flags: int, caller: Caller) -> Handle:
        raise ERRORS[self.kind]()


class FailingHandle(Handle):
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        raise ERRORS[self.kind]()

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        raise ERRORS[self.kind]()

    def flush(self) -> None:
        raise ERRORS[self.kind]()

    def close(self) -> None:
        raise ERRORS[self.kind]()


class FailingLater(Failing):
    """Raises when it is read, written, flushed and released."""

    async def open(self, flags: int, caller: Caller) -> Handle:
        return FailingHandle(self.kind)


class Stream(File):
    """Says what `say` was given; `waiting` counts those who listen."""

    endless = True

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.bell = Bell()
        self.said: list[bytes] = []

    async def open(self, flags: int, caller: Caller) -> Handle:
        return StreamHandle(self)

    def say(self, data: bytes) -> None:
        self.said.append(data)
        self.bell.ring()


class StreamHandle(Handle):
    stream = True

    def __init__(self, node: Stream) -> None:
        self.node = node
        self.at = len(node.said)

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if self.at == len(self.node.said):
            return WOULD_BLOCK
        self.at += 1
        return self.node.said[self.at - 1][:size]

    async def read(self, size: int, offset: int) -> bytes:
        while (answer := self.try_read(size, offset)) is WOULD_BLOCK:
            await self.node.bell.wait()
        return answer

    def ready(self, wake):  # type: ignore[no-untyped-def]
        if self.at < len(self.node.said):
            return READABLE | WRITABLE
        if wake is not None:
            self.node.bell.listen(wake)
        return WRITABLE


class Say(File):
    """What is written here is said by the stream."""

    def __init__(self, service: Service, stream: Stream) -> None:
        super().__init__(service)
        self.stream = stream

    async def open(self, flags: int, caller: Caller) -> Handle:
        return SayHandle(self.stream)


class SayHandle(Handle):
    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        self.stream.say(data)
        return len(data)


class Full(File):
    """Takes nothing, and lets each writer wait."""

    async def open(self, flags: int, caller: Caller) -> Handle:
        return FullHandle()


class FullHandle(Handle):
    stream = True

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        return WOULD_BLOCK

    async def write(self, data: bytes, offset: int) -> int:
        await trio.sleep_forever()
        raise AssertionError


class Snapshot(File):
    """Each open sees a text of another length, known from then on."""

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self.opens = 0

    async def open(self, flags: int, caller: Caller) -> Handle:
        self.opens += 1
        return SnapshotHandle(b"line of a snapshot\n" * self.opens)


class SnapshotHandle(Handle):
    def __init__(self, text: bytes) -> None:
        self.text = text
        self.size = len(text)

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        return self.text[offset : offset + size]


class Unsynced(File):
    """Its first sync through each open fails; reading it gives how many syncs were asked for."""

    syncs = 0

    async def open(self, flags: int, caller: Caller) -> Handle:
        return UnsyncedHandle(self)


class UnsyncedHandle(Handle):
    def __init__(self, node: Unsynced) -> None:
        self.node = node
        self.failed = False
        self.size = 2

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        return b"%d\n" % self.node.syncs if not offset else b""

    async def fsync(self, datasync: bool) -> None:
        self.node.syncs += 1
        if not self.failed:
            self.failed = True
            raise fault(errno.EIO, "the disk refused the write-back")


class FailingXattr(File, CanXattr):
    """Its extended attributes raise what is no OSError."""

    def getxattr(self, name: str) -> bytes:
        raise ValueError(name)

    def listxattr(self) -> list[str]:
        raise ValueError


class Folder(Directory):
    def __init__(self, service: Service, nodes: dict[str, Node], broken: bool = False) -> None:
        self.qid = service.next_qid()
        self.nodes = nodes
        self.broken = broken

    def stat(self) -> Stat:
        return Stat(modes.S_IFDIR | 0o755, 2)

    def walk(self, name: str) -> Node:
        if self.broken:
            raise ValueError("a defect in walk")
        if name not in self.nodes:
            raise Missing(name)
        return self.nodes[name]

    def readdir(self) -> list[str]:
        if self.broken:
            raise ValueError("a defect in readdir")
        return list(self.nodes)


class Trouble(Service):
    name = "trouble"

    def __init__(self) -> None:
        super().__init__()
        stream = Stream(self)
        self.root = Folder(
            self,
            {
                **{f"open-{kind}": Failing(self, kind) for kind in ERRORS},
                **{f"read-{kind}": FailingLater(self, kind) for kind in ERRORS},
                "folder": Folder(self, {}, broken=True),
                "xattr": FailingXattr(self),
                "unsynced": Unsynced(self),
                "silent": Stream(self),
                "stream": stream,
                "say": Say(self, stream),
                "full": Full(self),
                "snapshot": Snapshot(self),
            },
        )


async def main(mountpoint: str, folder: str, words: list[str]) -> None:
    namespace = Namespace()
    workspace = WorkspaceFs(folder)
    namespace.mount(workspace, "/workspace")
    namespace.mount(MemFs(), "/mem")
    namespace.mount(DevFs(), "/dev")
    namespace.mount(ProcFs(), "/proc")
    namespace.mount(Trouble(), "/trouble")
    namespace.bind("/workspace", "/again")
    options = FuseOptions.parse(words)
    async with AsyncExitStack() as stack:
        for service in namespace.services():
            await stack.enter_async_context(service.running())
        async with trio.open_nursery() as nursery:

            async def mount(task_status: trio.TaskStatus[object]) -> None:
                await serve(namespace, mountpoint, options, task_status=task_status)
                nursery.cancel_scope.cancel()

            await nursery.start(signals, nursery)
            await nursery.start(mount)
            print("mounted", flush=True)


async def signals(nursery: trio.Nursery, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        task_status.started()
        async for _ in received:
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], sys.argv[3:])
