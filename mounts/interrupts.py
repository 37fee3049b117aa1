"""Let a signalled reader go.

A process that waits in a read of a FUSE file cannot be killed while the server holds its request,
and a binding that drops FUSE_INTERRUPT never hears of the signal. So, while a request waits, its
process is looked at ten times a second in /proc: a signal that stays pending and is not blocked
means that the process waits for us, and the request ends with EINTR (proc_pid_status(5)).

The reader need not be the opener: a shell opens, its child reads. Whoever holds the file is found
through /proc/*/fd, once for each wait; fdinfo names the inode, so that our own mount is not
touched.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import trio
from attrs import define, field

from oanix import path as paths

EVERY_S = 0.1
"""How often waiting processes are looked at."""

PROC = Path("/proc")


@define(eq=False)
class Wait:
    """One request that the server holds: who asked, for which inode, and how to end it."""

    pid: int
    inode: int
    uid: int
    scope: trio.CancelScope = field(factory=trio.CancelScope)
    holders: set[int] | None = None


class Waits:
    """The requests that wait."""

    def __init__(self, mountpoint: str) -> None:
        self._mountpoint = mountpoint
        self._waits: set[Wait] = set()
        self._begun = trio.Event()

    def __len__(self) -> int:
        return len(self._waits)

    def of_user(self, uid: int) -> int:
        """Count the waits of one user."""
        return sum(1 for wait in self._waits if wait.uid == uid)

    def begin(self, wait: Wait) -> None:
        """Look after a wait from now on."""
        self._waits.add(wait)
        self._begun.set()

    def end(self, wait: Wait) -> None:
        """Look after it no more."""
        self._waits.discard(wait)

    def cancel_all(self) -> None:
        """End every wait: the mount goes away."""
        for wait in list(self._waits):
            wait.scope.cancel()

    async def watch(self) -> None:
        """End the waits of signalled processes, for ever."""
        while True:
            if not self._waits:
                self._begun = trio.Event()
                await self._begun.wait()
            await trio.sleep(EVERY_S)
            self._look()

    def _look(self) -> None:
        new = [wait for wait in self._waits if wait.holders is None]
        if new:
            held = holders({wait.inode for wait in new}, self._mountpoint)
            for wait in new:
                wait.holders = held.get(wait.inode, set()) | ({wait.pid} if wait.pid else set())
        seen: dict[int, bool] = {}
        for wait in list(self._waits):
            for pid in wait.holders or ():
                if pid not in seen:
                    seen[pid] = signalled(pid)
                if seen[pid]:
                    wait.scope.cancel()


def signalled(pid: int) -> bool:
    """Tell whether a thread of the process has a signal pending that it does not block."""
    # A thread id opens in /proc like a process id, and its task folder holds the whole process.
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    return any(_pending(f"/proc/{pid}/task/{thread}/status") for thread in threads)


def _pending(status: str) -> bool:
    try:
        text = Path(status).read_bytes()
    except OSError:
        return False
    masks = {b"SigPnd:": 0, b"ShdPnd:": 0, b"SigBlk:": 0}
    for line in text.splitlines():
        name, _, value = line.partition(b"\t")
        if name in masks:
            masks[name] = int(value, 16)
    return bool((masks[b"SigPnd:"] | masks[b"ShdPnd:"]) & ~masks[b"SigBlk:"])


def holders(inodes: set[int], mountpoint: str) -> dict[int, set[int]]:
    """Find which processes hold which of these inodes of our mount open."""
    found: dict[int, set[int]] = {}
    prefix = paths.encode(mountpoint)
    own_mounts = _link(b"/proc/self/ns/mnt")
    for pid in _processes():
        folder = b"/proc/%d" % pid
        try:
            descriptors = os.listdir(folder + b"/fd")
        except OSError:
            continue
        # In another mount namespace our mount has another path: there the number has to do.
        same_mounts = _link(folder + b"/ns/mnt") == own_mounts
        for descriptor in descriptors:
            target = _link(folder + b"/fd/" + descriptor)
            if not target.startswith(prefix if same_mounts else b"/"):
                continue
            inode = _inode(folder + b"/fdinfo/" + descriptor)
            if inode in inodes:
                found.setdefault(inode, set()).add(pid)
    return found


def _processes() -> Iterator[int]:
    own = os.getpid()
    for name in os.listdir(PROC):
        if name.isdecimal() and int(name) != own:
            yield int(name)


def _link(path: bytes) -> bytes:
    try:
        return os.readlink(path)
    except OSError:
        return b""


def _inode(fdinfo: bytes) -> int:
    try:
        with open(fdinfo, "rb") as file:
            text = file.read()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith(b"ino:"):
            return int(line[4:])
    return 0
