"""The files of a conversation."""

import errno
from typing import TYPE_CHECKING

import trio

from oanix.errors import fault
from oanix.kit import Conversation, Ctl, Handler, Opening, Rows, Text, Value, facts, no_argument
from oanix.kit.file import check_truncate
from oanix.kit.lines import integer
from oanix.lib.url import Url
from oanix.lib.websocket import check_code, check_header, check_subprotocol
from oanix.node import READABLE, WOULD_BLOCK, WRITABLE, Handle, WouldBlock
from oanix.services.ws.lines import from_line
from oanix.services.ws.talk import Parcel, State, Talk

if TYPE_CHECKING:
    from collections.abc import Callable

    from oanix.services.ws.service import WsView

LINE_MAX = 2 << 20
"""Bytes of a line of `in`."""

BRIEF_S = 0.5
"""How long a write waits for the peer: less than a door's own patience."""


def rows(view: "WsView", conversation: Conversation) -> Rows:
    """Begin a conversation."""
    talk = Talk(view, conversation)
    return (
        ("ctl", 0o200, _ctl(talk)),
        ("url", 0o600, Value(lambda _: _line(talk.url), lambda text, by: _url(talk, text, by))),
        ("in", 0o200, _In(talk)),
        ("out", 0o400, _Out(talk)),
        ("status", 0o400, Text(lambda _: facts(talk.facts()))),
        ("error", 0o400, Text(lambda _: _line(talk.error and talk.error.strerror))),
    )


def _line(value: object) -> str:
    return "" if value is None else f"{value}\n"


# Commands -----------------------------------------------------------------------------------------


def _ctl(talk: Talk) -> Ctl:
    def header(text: str, opening: Opening) -> None:
        name, colon, value = text.partition(":")
        if not colon:
            raise fault(errno.EINVAL, "write it as: header NAME: VALUE")
        talk.change(opening)
        talk.add_header(*check_header(name, value))

    def subprotocol(text: str, opening: Opening) -> None:
        talk.change(opening)
        talk.subprotocols = (*talk.subprotocols[:31], check_subprotocol(text))

    def form(text: str, opening: Opening) -> None:
        if text not in ("lines", "json"):
            raise fault(errno.EINVAL, f"{text[:40]!r} is no format; write lines or json")
        talk.change(opening)
        talk.envelopes = text == "json"

    def connect(text: str, opening: Opening) -> None:
        if text:
            raise fault(errno.EINVAL, "connect stands alone; write the url to `url`")
        talk.connect(opening)

    def close(text: str, opening: Opening) -> None:
        code, _, reason = text.partition(" ")
        number = check_code(integer(code, 0, 65_535)) if code else 1000
        talk.close(number, reason.strip())

    return Ctl({
        "url": lambda text, opening: _url(talk, text, opening), "header": header,
        "subprotocol": subprotocol, "format": form, "connect": connect,
        "ping": no_argument(lambda: talk.post(Parcel(None))), "close": close,
    })  # fmt: skip


def _url(talk: Talk, text: str, opening: Opening) -> None:
    url = Url.parse(text.strip())
    if url.scheme not in ("ws", "wss"):
        raise fault(errno.EINVAL, f"a WebSocket is at ws:// or wss://, not {url.scheme}://")
    talk.change(opening)
    talk.url = url


# out ----------------------------------------------------------------------------------------------


class _Out(Handler):
    """The messages that come."""

    reads = True
    endless = True

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    async def open(self, opening: Opening) -> Handle:
        self._talk.check_narrow(opening)
        if self._talk.state is not State.CLOSED:
            await self._talk.connected(opening)
        return _OutHandle(self._talk)


class _OutHandle(Handle):
    stream = True

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._line = b""
        self._at = 0

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if size <= 0:
            return b""
        talk = self._talk
        pieces: list[bytes] = []
        room = size
        while room:
            if not self._line:
                if not talk.kept or (pieces and len(talk.kept[0]) > room):
                    break
                self._line, self._at = talk.take(), 0
            piece = self._line[self._at : self._at + room]
            self._at += len(piece)
            if self._at == len(self._line):
                self._line = b""
            pieces.append(piece)
            room -= len(piece)
        if pieces:
            return b"".join(pieces)
        if not talk.ended:
            return WOULD_BLOCK
        if talk.error is not None:
            raise talk.error.with_traceback(None)
        return b""

    async def read(self, size: int, offset: int) -> bytes:
        while (answer := self.try_read(size, offset)) is WOULD_BLOCK:
            await self._talk.bell.wait()
        return answer

    def ready(self, wake: "Callable[[], None] | None") -> int:
        if self._line or self._talk.kept or self._talk.ended:
            return READABLE
        if wake is not None:
            self._talk.bell.listen(wake, self)
        return 0

    def close(self) -> None:
        self._talk.bell.forget(self)
        if self._line:
            self._talk.give_back(self._line)


# in -----------------------------------------------------------------------------------------------


class _In(Handler):
    """The messages to send."""

    writes = True

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    async def open(self, opening: Opening) -> Handle:
        await self._talk.connected(opening)
        return _InHandle(self._talk, opening)


class _InHandle(Handle):
    """Sends whole lines; half a line waits for the rest of it, or for the close."""

    stream = True

    def __init__(self, talk: Talk, opening: Opening) -> None:
        self._talk = talk
        self._opening = opening
        self._half = bytearray()

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        if self._talk.state is not State.OPEN:
            raise self._talk.gone()
        if b"\n" in data:
            return WOULD_BLOCK
        self._grow(data)
        return len(data)

    async def write(self, data: bytes, offset: int) -> int:
        deadline = trio.current_time() + BRIEF_S
        done = 0
        while done < len(data):
            newline = data.find(b"\n", done)
            end = newline + 1 or len(data)
            try:
                if newline < 0:
                    self._grow(data[done:])
                elif not await self._send(data[done:newline], deadline):
                    break
            except OSError:
                if not done:
                    raise
                # What was sent is told; the rest comes again, and gets its error then.
                break
            done = end
        if not done and data:
            raise fault(errno.EAGAIN, "the peer takes no more just now; try again")
        return done

    async def _send(self, rest: bytes, deadline: float) -> bool:
        """Send a line; tells whether there was time. Raises OSError EINVAL, EPIPE."""
        try:
            self._check(len(self._half) + len(rest))
            message = from_line(bytes(self._half) + rest, envelopes=self._talk.envelopes)
        except OSError:
            self._drop()
            raise
        parcel = Parcel(message)
        self._talk.post(parcel)
        try:
            with trio.move_on_at(deadline):
                while not parcel.done:
                    await self._talk.bell.wait()
        except trio.Cancelled:
            if not self._talk.withdraw(parcel):
                self._drop()
            raise
        if not parcel.done and self._talk.withdraw(parcel):
            return False
        self._drop()
        if parcel.error is not None:
            raise parcel.error
        self._opening.file.written()
        return True

    def _check(self, size: int) -> None:
        if size > LINE_MAX:
            raise fault(errno.EINVAL, f"a line has at most {LINE_MAX} bytes")

    def _grow(self, data: bytes) -> None:
        try:
            self._check(len(self._half) + len(data))
            self._talk.view.service.halves.change(len(data))
        except OSError:
            self._drop()
            raise
        self._half += data

    def _drop(self) -> None:
        self._talk.view.service.halves.change(-len(self._half))
        self._half.clear()

    def truncate(self, size: int) -> None:
        check_truncate(size)

    def ready(self, wake: "Callable[[], None] | None") -> int:
        if self._talk.idle_sender or self._talk.ended:
            return WRITABLE
        if wake is not None:
            self._talk.bell.listen(wake, self)
        return 0

    def close(self) -> None:
        self._talk.bell.forget(self)
        half = bytes(self._half)
        self._drop()
        if not half:
            return
        try:
            self._talk.post(Parcel(from_line(half, envelopes=self._talk.envelopes)))
        except OSError as error:
            self._opening.complain(f"the last line was not sent: {error.strerror}")
