"""Journal: the observer that records, and the task that writes in batches."""

import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from oanix.channel import Channel
from oanix.errors import Denied, errno_of
from oanix.journal.anchor import Anchor
from oanix.journal.record import CANCELLED, Entry
from oanix.journal.segments import Limits
from oanix.journal.writer import Writer
from oanix.opened import OpenFile
from oanix.operation import Kind, Operation
from oanix.stat import Changed

if TYPE_CHECKING:
    from oanix.namespace import Namespace

log = logging.getLogger(__name__)

BATCH_S = 0.2
"""How long a record waits for others to be written with it, and what a crash may cost."""

BATCH = 1_000
"""How many records make a batch before that time is over."""

QUEUE_MAX = 100_000
"""How many records wait at most, when the disk is full or slow; what is more is counted."""

MOUNTS_MAX = 10_000
"""Of how many mounts the path is remembered."""

T = TypeVar("T")

_NAMED = (Kind.CREATE, Kind.MKDIR, Kind.MKNOD, Kind.SYMLINK, Kind.UNLINK, Kind.RMDIR)
_MOVED = (Kind.RENAME, Kind.LINK)
_CHANGED = (Kind.SETATTR, Kind.SETXATTR, Kind.REMOVEXATTR)
_WRITING = os.O_ACCMODE | os.O_TRUNC


class Journal:
    """Records what is done through the namespaces that it observes, while it is running."""

    kinds = frozenset({*_NAMED, *_MOVED, *_CHANGED, Kind.OPEN, Kind.CLOSE, Kind.NAMESPACE})

    def __init__(
        self,
        folder: str,
        anchor: Anchor,
        *,
        limits: Limits | None = None,
        now: Callable[[], float] = time.time,
        queue_max: int = QUEUE_MAX,
    ) -> None:
        self._writer = Writer(folder, anchor, limits or Limits(), now)
        self._now = now
        self._queue_max = queue_max
        self._queue: list[Entry] = []
        self._lost = 0
        self._trouble = ""
        self._wake = trio.Event()
        self._many = trio.Event()
        self._turn = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)
        self._mounts: dict[int, str] = {}

    # Life ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write for as long as the block; when it ends, what is still to be written is.

        Raises OSError: EAGAIN when another process writes to this journal, and as open(2).
        """
        self._queue += await self._do(self._writer.open)
        self._note("start")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                yield
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                self._note("stop")
                await self.flush()
                self._writer.close()
            unwritten = len(self._queue) + self._lost
            if unwritten:
                log.warning("the journal ends without %d records: %s", unwritten, self._trouble)

    def observe(self, namespace: "Namespace") -> None:
        """Record from now on what is done through a namespace, and through what is forked of it."""
        self._note("namespace", namespace.recipe())
        namespace.observers = (*namespace.observers, self)

    def status(self) -> dict[str, str]:
        """Tell how far it is; a key `warning` is what a person should look at."""
        said = {
            "records": str(self._writer.count),
            "waiting": str(len(self._queue)),
            "bytes": str(self._writer.kept_bytes),
            "authenticated": "yes" if self._writer.authenticated else "no",
        }
        if self._lost:
            said["lost"] = str(self._lost)
        return {**said, "warning": f"journal: {self._trouble}"} if self._trouble else said

    async def flush(self) -> None:
        """Write what was recorded so far. A failure is logged and kept for the next time."""
        async with self._turn:
            while self._queue or self._lost:
                batch = self._queue[: 4 * BATCH]
                lost = self._lost if len(batch) == len(self._queue) else 0
                said = [self._loss(lost)] if lost else []
                try:
                    notes = await self._do(partial(self._writer.write, [*batch, *said]))
                except OSError as error:
                    self._failed(error, "cannot write to the journal")
                    return
                self._lost -= lost
                del self._queue[: len(batch)]
                self._queue += notes
                try:
                    await self._do(self._writer.anchor)
                except OSError as error:
                    self._failed(error, "cannot write the anchor of the journal")
                    return
                self._trouble = ""

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            with trio.move_on_after(BATCH_S):
                await self._many.wait()
            self._wake, self._many = trio.Event(), trio.Event()
            await self.flush()
            if self._queue or self._lost:
                # The disk is full or slow: try again in a while, though nothing new may come.
                self._wake.set()
                await trio.sleep(BATCH_S)

    def _loss(self, count: int) -> Entry:
        said = f"{count} records could not be kept: {self._trouble or 'too many at once'}"
        return Entry(self._now(), None, "", "", "lost", "", detail=said)

    def _failed(self, error: OSError, what: str) -> None:
        if not self._trouble:
            log.warning("%s: %s", what, error.strerror or error)
        self._trouble = f"{what}: {error.strerror or error}"

    async def _do(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    # Observing -----------------------------------------------------------------------------------

    def before(self, operation: Operation) -> None:
        """Refuse nothing."""

    def after(self, operation: Operation) -> None:
        """Keep what is to be recorded; it is written out in another thread."""
        entry = _RECORDED[operation.kind](self, operation)
        if entry is None:
            return
        queue = self._queue
        if len(queue) >= self._queue_max:
            self._lost += 1
            return
        queue.append(entry)
        if len(queue) == 1:
            self._wake.set()
        elif len(queue) >= BATCH:
            self._many.set()

    def _note(self, op: str, detail: str = "") -> None:
        self._queue.append(Entry(self._now(), None, "", "", op, "", detail=detail))
        self._wake.set()

    def _named(self, operation: Operation) -> Entry:
        channel, arguments = _channel(operation), operation.arguments
        result = operation.result
        # In a union the new file tells which member it was made in.
        made = result[0] if isinstance(result, tuple) else channel
        target = str(arguments[1]) if operation.kind is Kind.SYMLINK else ""
        path = _below(channel.path, arguments[0])
        return self._entry(operation, made if isinstance(made, Channel) else channel, path, target)

    def _moved(self, operation: Operation) -> Entry:
        channel, arguments = _channel(operation), operation.arguments
        if operation.kind is Kind.LINK:
            source, name = arguments
            assert isinstance(source, Channel)
            return self._entry(operation, channel, _below(channel.path, name), source.path)
        name, to, new_name = arguments[:3]
        assert isinstance(to, Channel)
        target = _below(to.path, new_name)
        return self._entry(operation, channel, _below(channel.path, name), target)

    def _changed(self, operation: Operation) -> Entry:
        channel, [what, *_] = _channel(operation), operation.arguments
        detail = what if isinstance(what, Changed) else str(what)
        return self._entry(operation, channel, channel.path, detail=detail)

    def _opened(self, operation: Operation) -> Entry | None:
        channel, flags = _channel(operation), operation.arguments[0]
        assert isinstance(flags, int)
        if (
            operation.error is None
            and not flags & os.O_TRUNC
            and not channel.entry.service.capability
        ):
            return None
        detail = _MODES[flags & os.O_ACCMODE] + (" truncate" if flags & os.O_TRUNC else "")
        return self._entry(operation, channel, channel.path, detail=detail)

    def _closed(self, operation: Operation) -> Entry | None:
        file = operation.subject
        assert isinstance(file, OpenFile)
        channel = file.channel
        if not file.flags & _WRITING and not channel.entry.service.capability:
            return None
        entry = self._entry(operation, channel, channel.path, since=file.since)
        return entry._replace(
            result=entry.result or file.error,
            read=file.bytes_read,
            written=file.bytes_written,
            errors=file.errors,
        )

    def _bound(self, operation: Operation) -> Entry:
        path, line = operation.arguments
        return Entry(self._now(), None, "", "", "namespace", str(path), "", line)  # type: ignore[arg-type]

    def _entry(
        self,
        operation: Operation,
        channel: Channel,
        path: str,
        target: str = "",
        detail: "str | Changed" = "",
        since: float = 0.0,
    ) -> Entry:
        entry, error = channel.entry, operation.error
        service = entry.service
        if service.capability:
            path = service.journal_name(path)
            target = service.journal_name(target) if target else ""
        mount = self._mounts.get(entry.number)
        if mount is None:
            mount = self._find_mount(channel)
        return Entry(
            self._now(), operation.caller, mount, service.name, operation.kind.value,
            path, target, detail,
            0 if error is None else _number(error),
            error.rule if isinstance(error, Denied) else "",
            seconds=time.perf_counter() - (since or operation.started),
        )  # fmt: skip

    def _find_mount(self, channel: Channel) -> str:
        # An entry never comes to another path, so what was found once holds.
        if len(self._mounts) > MOUNTS_MAX:
            self._mounts.clear()
        for path, entry in channel.namespace.entries():
            self._mounts[entry.number] = path
        return self._mounts.setdefault(channel.entry.number, "")


_MODES = {os.O_RDONLY: "read", os.O_WRONLY: "write", os.O_RDWR: "read write", 3: "read write"}

_RECORDED: dict[Kind, Callable[[Journal, Operation], Entry | None]] = {
    **dict.fromkeys(_NAMED, Journal._named),
    **dict.fromkeys(_MOVED, Journal._moved),
    **dict.fromkeys(_CHANGED, Journal._changed),
    Kind.OPEN: Journal._opened,
    Kind.CLOSE: Journal._closed,
    Kind.NAMESPACE: Journal._bound,
}


def _channel(operation: Operation) -> Channel:
    assert isinstance(operation.subject, Channel)
    return operation.subject


def _below(path: str, name: object) -> str:
    return f"{path}{name}" if path == "/" else f"{path}/{name}"


def _number(error: BaseException) -> int:
    return CANCELLED if isinstance(error, trio.Cancelled) else errno_of(error)
