"""Text: files whose content is known when they are opened, and one-line values."""

import errno
from collections.abc import Callable, Mapping

from oanix import path as paths
from oanix.errors import fault
from oanix.kit.file import File, Handler, Opening
from oanix.kit.lines import LINE_MAX, Act, MessageHandle
from oanix.node import FOREVER, READABLE, WRITABLE, Handle
from oanix.stat import Stat

Show = Callable[[Opening], str | bytes]
"""Makes the content of a file, each time it is opened."""

Take = Callable[[str, Opening], None]
"""Takes a line that was written, without its newline. Raises OSError EINVAL for what is none."""


class Snapshot(Handle):
    """An open file whose content stays what it was at the open; its size is exact."""

    def __init__(self, content: bytes, file: File) -> None:
        self._content = content
        self._file = file
        self.size = len(content)

    def try_read(self, size: int, offset: int) -> bytes:
        if size < 0 or offset < 0:
            raise fault(errno.EINVAL, "sizes and offsets are not negative")
        return self._content[offset : offset + size]

    def stat(self) -> Stat:
        return self._file.stat_of(len(self._content))


class Text(Handler):
    """A read-only file: a text, or a function that makes one at each open.

    `stat` tells the size at the last open (0 before), an open file its own exact size.
    """

    reads = True

    def __init__(self, show: str | bytes | Show) -> None:
        self._show = show
        self._size = 0
        if not callable(show):
            self._size = len(_bytes(show))
            self.caching = FOREVER

    def size(self) -> int:
        return self._size

    async def open(self, opening: Opening) -> Handle:
        return Snapshot(self.content(opening), opening.file)

    def content(self, opening: Opening) -> bytes:
        """Make the content as it is now."""
        content = _bytes(self._show(opening) if callable(self._show) else self._show)
        self._size = len(content)
        return content


class Value(Text):
    """A value that is read as a line and set by writing one.

    It is set at the newline, with the error from the write; half a line is set at the last close,
    with the error in `errstr`.
    """

    writes = True

    def __init__(self, show: Show, take: Take, longest: int = LINE_MAX) -> None:
        super().__init__(show)
        self._take = take
        self._longest = longest

    async def open(self, opening: Opening) -> Handle:
        if not opening.writes:
            return await super().open(opening)
        content = self.content(opening) if opening.reads else None
        return _ValueHandle(opening, self._act, self._longest, content)

    def _act(self, line: str, opening: Opening) -> bool:
        self._take(line, opening)
        return True


class _ValueHandle(MessageHandle):
    """A value open for writing, and maybe for reading what it was."""

    def __init__(self, opening: Opening, act: Act, longest: int, content: bytes | None) -> None:
        super().__init__(opening, act, longest)
        self._before = None if content is None else Snapshot(content, opening.file)

    def try_read(self, size: int, offset: int) -> bytes:
        if self._before is None:
            raise fault(errno.EBADF, "this file was not opened for reading")
        return self._before.try_read(size, offset)

    def ready(self, wake: Callable[[], None] | None) -> int:
        return READABLE | WRITABLE


def facts(of: Mapping[str, object]) -> str:
    """Write what a `status` tells: a key and its value a line, whatever the values hold."""
    return "".join(f"{key} {_one_line(str(value))}\n" for key, value in of.items())


def _one_line(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _bytes(text: str | bytes) -> bytes:
    return paths.encode(text) if isinstance(text, str) else text
