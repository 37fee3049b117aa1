"""Record: what the runtime writes down of a run, for others to read.

trajectory.jsonl   its lines, as they were appended: a header, then a step each
trajectory.json    the same as one document (ATIF v1.4), at any moment
"""

import errno
import os
import stat as modes
from pathlib import Path
from typing import Final

import trio

from oanix.caller import Caller
from oanix.errors import fault
from oanix.lib.atif import Lines
from oanix.node import READABLE, Handle, Node
from oanix.services.logs import host
from oanix.services.logs.files import HostHandle, TextHandle
from oanix.services.logs.host import HostFile, host_path
from oanix.services.logs.log import Shared
from oanix.stat import Stat, StatLike

LINES: Final = "trajectory.jsonl"
DOCUMENT: Final = "trajectory.json"
RECORDS: Final = (LINES, DOCUMENT)
"""Names that nobody but the runtime writes to."""

SMALL: Final = 65_536
"""Bytes of lines that are read at once."""


class Record:
    """The record of one run. Touched on the trio thread only."""

    def __init__(self, folder: Path, shared: Shared) -> None:
        self.folder = folder
        self.shared = shared
        self.file = HostFile(folder, LINES, append=True)
        self._lines = LinesNode(self, shared.next_qid())
        self._document = DocumentNode(self, shared.next_qid())
        self._torn = True
        self._read = Lines(folder.name)
        self._seen = 0
        """How many bytes of the file were read."""
        self._made: bytes | None = None

    @property
    def exists(self) -> bool:
        """Whether anything was written down."""
        mode = host.mode_of(host_path(self.folder, LINES))
        return mode is not None and modes.S_ISREG(mode)

    def names(self) -> list[str]:
        """List its files."""
        return [*RECORDS] if self.exists else []

    def find(self, name: str) -> Node | None:
        """Find one of its files."""
        if name not in RECORDS or not self.exists:
            return None
        return self._lines if name == LINES else self._document

    def append(self, data: bytes) -> None:
        """Append whole lines. Raises OSError, ENOSPC among them, and then nothing was stored."""
        fd = self.file.open(create=True)
        try:
            if self._torn:
                # What a crash has left of a line.
                start, rest = host.half_line(fd)
                if rest:
                    os.ftruncate(fd, start)
                self._torn = False
            host.append_whole(fd, data)
        except host.Torn:
            self._torn = True
            raise
        finally:
            self.file.close()
        self.shared.changed(self._lines.qid)
        self.shared.changed(self._document.qid)

    def read(self) -> Lines:
        """Give the lines, as far as there are any; only what is new is read. Raises OSError."""
        if not self.exists:
            return Lines(self.folder.name)
        size = self.file.stat().st_size
        if size < self._seen:
            # Somebody has put another file in its place.
            self._read, self._seen = Lines(self.folder.name), 0
        if size > self._seen:
            raw = self._content(self._seen)
            self._seen += len(raw)
            self._read.feed(raw)
            self._made = None
        return self._read

    def document(self) -> bytes:
        """Give the document as it is now. Raises OSError."""
        found = self.read()
        if self._made is None:
            self._made = found.document()
        return self._made

    async def made(self) -> bytes:
        """Give the same; where there is much to read, a thread does it."""
        size = self.file.stat().st_size
        if size - self._seen > SMALL:
            raw = self._content(0)
            read = await trio.to_thread.run_sync(
                Lines.of, raw, self.folder.name, limiter=self.shared.limiter
            )
            self._read, self._seen, self._made = read, len(raw), None
        return self.document()

    def _content(self, start: int) -> bytes:
        with open(self.file.path, "rb") as file:
            file.seek(start)
            raw = file.read()
        # Half a line is taken when it is whole, or goes with the next append.
        return raw[: raw.rfind(b"\n") + 1]


def _refuse_writing(flags: int, name: str) -> None:
    if flags & (os.O_ACCMODE | os.O_TRUNC):
        raise fault(
            errno.EPERM,
            f"{name} is written by the runtime alone; a job adds steps at /task/steps",
        )


class LinesNode(Node):
    """`trajectory.jsonl`."""

    def __init__(self, record: Record, qid: int) -> None:
        self.qid = qid
        self._record = record

    def stat(self) -> StatLike:
        return _read_only(self._record.file.stat())

    async def open(self, flags: int, caller: Caller) -> Handle:
        """Open the lines for reading. Raises EPERM for an open for writing."""
        _refuse_writing(flags, LINES)
        return HostHandle(self._record.file, self._record.shared.limiter, True)


class DocumentNode(Node):
    """`trajectory.json`: what is opened stays what it was then."""

    def __init__(self, record: Record, qid: int) -> None:
        self.qid = qid
        self._record = record

    def stat(self) -> StatLike:
        info = self._record.file.stat()
        return _read_only(info, len(self._record.document()))

    async def open(self, flags: int, caller: Caller) -> Handle:
        """Open the document for reading. Raises EPERM for an open for writing."""
        _refuse_writing(flags, DOCUMENT)
        return _DocumentHandle(await self._record.made(), self)


class _DocumentHandle(TextHandle):
    direct = True

    def __init__(self, text: bytes, node: DocumentNode) -> None:
        super().__init__(text)
        self._node = node

    def stat(self) -> StatLike:
        return _read_only(self._node.stat(), self.size)

    def ready(self, wake: object) -> int:
        return READABLE


def _read_only(info: StatLike, size: int | None = None) -> Stat:
    return Stat(
        modes.S_IFREG | 0o444, 1, info.st_uid, info.st_gid,
        st_size=info.st_size if size is None else size, st_blksize=info.st_blksize,
        st_atime_ns=info.st_atime_ns, st_mtime_ns=info.st_mtime_ns, st_ctime_ns=info.st_ctime_ns,
        st_blocks=info.st_blocks, st_ino=info.st_ino if size is None else 0,
    )  # fmt: skip
