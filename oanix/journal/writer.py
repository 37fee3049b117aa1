"""Writer: appends records to the segments, and from time to time syncs and anchors what it wrote.

It belongs to one thread at a time. A batch is written whole, or nothing of it is. The segment is
synced before each anchor, so that no anchor knows more than the disk.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice

from attrs import evolve

from oanix.errors import fault
from oanix.journal.anchor import Anchor, Authenticator, Head, sync_folder
from oanix.journal.chain import sealed
from oanix.journal.record import Entry, body, note, stamp
from oanix.journal.segments import End, Limits, end_of, numbers, segment

PIECE = 32
"""Records that are written out at once: other threads wait for no longer than that takes."""


class Writer:
    """The end of one journal. Raises OSError, as open(2) and write(2)."""

    def __init__(self, folder: str, anchor: str, limits: Limits, now: Callable[[], float]) -> None:
        self._folder = folder
        self._anchor = Anchor(anchor)
        self._limits = limits
        self._now = now
        self._head = Head()
        self._lock = self._file = -1
        self._number = 1
        self._size = 0
        self._dirty = False
        self._anchored_count = 0
        self.authenticated = False
        self.kept_bytes = 0

    @property
    def count(self) -> int:
        """How many records were written since the journal began."""
        return self._head.count

    @property
    def ahead(self) -> int:
        """How many of them the anchor does not know yet."""
        return self._head.count - self._anchored_count

    def use(self, authenticator: Authenticator | None) -> None:
        """Authenticate the anchors from now on with this key, or with none."""
        self._anchor = evolve(self._anchor, authenticator=authenticator)

    def open(self) -> list[Entry]:
        """Take the journal, mend what a crash has left, and say what was found.

        Raises OSError: EAGAIN when another process writes to it.
        """
        os.makedirs(self._folder, 0o700, exist_ok=True)
        self._lock = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return self._mended()
        except BlockingIOError:
            self.close()
            raise fault(
                errno.EAGAIN, f"another process writes to the journal {self._folder}"
            ) from None
        except BaseException:
            self.close()
            raise

    def _mended(self) -> list[Entry]:
        head, trouble = self._anchored()
        if head and not trouble:
            self._finish_pruning(head)
        segments = numbers(self._folder)
        end, self._number = self._end(head, segments)
        found = [trouble, end.trouble]
        if head and end.count < head.count:
            # Its numbers are not given again: the gap stays for `verify` to see.
            found.append(f"the anchor knows {head.count} records, the journal ends at {end.count}")
            end = evolve(end, count=head.count, hash=head.hash)
        elif head is None and segments and not trouble:
            found.append("the anchor is missing")
        self._head = evolve(head or Head(), count=end.count, hash=end.hash)
        self._anchored_count = head.count if head else 0
        self._open_segment(self._number, end.size)
        notes = [self._note("broken", what) for what in found if what]
        if end.cut:
            os.ftruncate(self._file, end.size)
            notes.append(self._note("recovered", f"a torn end of {end.cut} bytes was cut off"))
        if head is None:
            self._write_anchor()
            self._anchor.settle()
        self.kept_bytes = sum(os.path.getsize(segment(self._folder, n)) for n in segments)
        return notes

    def _finish_pruning(self, head: Head) -> None:
        # A crash may have come between the anchor and the removal.
        for number in numbers(self._folder)[:-1]:
            path = segment(self._folder, number)
            end = end_of(path, None)
            if end is None or end.count > head.pruned:
                return
            os.unlink(path)

    def _anchored(self) -> tuple[Head | None, str]:
        try:
            head = self._anchor.read()
        except OSError as error:
            if error.errno != errno.EBADMSG:
                raise
            return None, "the anchor could not be read"
        if head and head.tag and self._anchor.fits(head) is False:
            return head, "the tag of the anchor is not genuine"
        return head, ""

    def _end(self, head: Head | None, segments: list[int]) -> tuple[End, int]:
        cut = 0
        for number in reversed(segments):
            path = segment(self._folder, number)
            end = end_of(path, head)
            if end is not None and number == segments[-1]:
                return end, number
            if end is not None:
                # The last segment holds no record yet: it goes on there.
                return evolve(end, size=0, cut=cut, trouble=end.trouble), segments[-1]
            cut = cut or os.path.getsize(path)
        pruned = head or Head()
        return End(pruned.pruned, pruned.pruned_hash, 0, cut), segments[-1] if segments else 1

    def _open_segment(self, number: int, size: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(segment(self._folder, number), flags, 0o600)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._number, self._size = file, number, size
        sync_folder(self._folder)

    def _note(self, op: str, detail: str) -> Entry:
        return note(self._now(), op, detail)

    def write(self, entries: Sequence[Entry]) -> None:
        """Append records, for the next anchor to make durable; when it fails none is there."""
        self._undo()
        self._dirty = True
        try:
            self._append(entries)
            self._dirty = False
        finally:
            with suppress(OSError):  # it is tried again before the next write
                self._undo()

    def _undo(self) -> None:
        if self._dirty:
            os.ftruncate(self._file, self._size)
            self._dirty = False

    def _append(self, entries: Sequence[Entry]) -> None:
        count, previous = self._head.count, self._head.hash
        size = self._size
        todo = iter(entries)
        while piece := list(islice(todo, PIECE)):
            lines = []
            for entry in piece:
                count += 1
                line, previous = sealed(previous, body(count, entry))
                lines.append(line)
            data = "".join(lines).encode("ascii")
            _write_all(self._file, data)
            size += len(data)
        self.kept_bytes += size - self._size
        self._size = size
        self._head = evolve(self._head, count=count, hash=previous)

    def anchor(self) -> list[Entry]:
        """Make what was written durable, then write down where it ends; a full segment is left.

        Gives what is to be recorded about the journal itself next.
        """
        os.fsync(self._file)
        self._write_anchor()
        return self._rotated() if self._size >= self._limits.segment_bytes else []

    def _write_anchor(self) -> None:
        self._head = evolve(self._head, time=stamp(self._now()))
        self.authenticated = self._anchor.write(self._head)
        self._anchored_count = self._head.count

    def _rotated(self) -> list[Entry]:
        self._open_segment(self._number + 1, 0)
        notes = []
        for number in numbers(self._folder)[:-1]:
            if self.kept_bytes <= self._limits.kept_bytes:
                break
            path = segment(self._folder, number)
            end = end_of(path, None)
            if end is None or end.cut or end.count <= self._head.pruned:
                notes.append(self._note("broken", f"segment {number} ends with no sound record"))
                break
            notes.append(
                self._note("pruned", f"records {self._head.pruned + 1} to {end.count} were removed")
            )
            # First the anchor: were the file gone before, its records would seem to be missing.
            self._head = evolve(self._head, pruned=end.count, pruned_hash=end.hash)
            self._write_anchor()
            self._anchor.settle()
            self.kept_bytes -= os.path.getsize(path)
            os.unlink(path)
        return notes

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
