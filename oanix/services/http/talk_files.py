"""The files of a conversation."""

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from oanix import path as paths
from oanix.errors import fault
from oanix.kit import Ctl, Handler, Opening, Rows, Snapshot, Text, Value, facts, integer
from oanix.kit.lines import MessageHandle, Verb
from oanix.lib.url import Url
from oanix.node import WOULD_BLOCK, Handle, WouldBlock
from oanix.services.http.body import BodyHandle
from oanix.services.http.fields import Headers, header_line, timeout_of
from oanix.services.http.talk import State, Talk
from oanix.services.http.upload import Upload

if TYPE_CHECKING:
    from oanix.kit import Conversation
    from oanix.services.http.view import HttpView

LENGTH_MAX = 1 << 62


def rows(view: "HttpView", conversation: "Conversation") -> Rows:
    """Begin a conversation."""
    talk = Talk(view, conversation)
    return (
        ("ctl", 0o200, Ctl(_verbs(talk))),
        ("url", 0o600, Value(lambda _: _line(talk.url), _changing(talk, _set_url))),
        ("method", 0o600, Value(lambda _: _line(talk.method), _changing(talk, _set_method))),
        ("headers", 0o600, _HeadersFile(talk)),
        ("body", 0o200, _BodyFile(talk)),
        ("response", 0o400, _Response(talk)),
        ("response_headers", 0o400, _ResponseHeaders(talk)),
        ("status", 0o400, Text(lambda _: facts(talk.facts()))),
        ("error", 0o400, Text(lambda _: _line(talk.error and talk.error.strerror))),
    )


def _line(value: object) -> str:
    return "" if value is None else f"{value}\n"


# Commands and values ------------------------------------------------------------------------------


def _verbs(talk: Talk) -> dict[str, Verb]:
    def plain(do: Callable[[Opening], None]) -> Verb:
        def verb(text: str, opening: Opening) -> None:
            if text:
                raise fault(errno.EINVAL, f"this command stands alone; leave out {text[:40]!r}")
            do(opening)

        return verb

    return {
        "start": plain(lambda opening: talk.start(opening, whole=False)),
        "send": plain(talk.send_body),
        "close": plain(lambda _: talk.conversation.end()),
        "url": _changing(talk, _set_url),
        "method": _changing(talk, _set_method),
        "header": _changing(talk, _add_header),
        "timeout": _changing(talk, _set_timeout),
        "follow": _changing(talk, _set_follow),
        "length": _changing(talk, _set_length),
    }


def _changing(talk: Talk, change: Callable[[Talk, str], None]) -> Verb:
    """Make what takes a text and changes the request, if that can be changed now."""

    def verb(text: str, opening: Opening) -> None:
        talk.check_idle()
        change(talk, text)
        talk.change(opening)

    return verb


def _set_url(talk: Talk, text: str) -> None:
    url = Url.parse(text)
    if url.scheme not in ("http", "https"):
        raise fault(errno.EINVAL, f"{url.scheme}: is not asked from here; write http: or https:")
    talk.url = url


def _set_method(talk: Talk, text: str) -> None:
    talk.set_method(text)


def _add_header(talk: Talk, text: str) -> None:
    talk.set_headers((*talk.headers, header_line(text)))


def _set_timeout(talk: Talk, text: str) -> None:
    try:
        talk.timeout_s = timeout_of(float(text))
    except ValueError:
        raise fault(errno.EINVAL, f"{text[:40]!r} is no number of seconds") from None


def _set_follow(talk: Talk, text: str) -> None:
    if text not in ("on", "off"):
        raise fault(errno.EINVAL, "write follow on, or follow off")
    talk.follow = text == "on"


def _set_length(talk: Talk, text: str) -> None:
    length = None if text == "unknown" else integer(text, 0, LENGTH_MAX)
    upload = talk.upload
    if upload is not None and length is not None and upload.written > length:
        raise fault(errno.EINVAL, f"{upload.written} bytes were written to body already")
    talk.length = length
    if upload is not None:
        upload.promise(length)


# Headers ------------------------------------------------------------------------------------------


class _HeadersFile(Handler):
    """The headers to send, one a line. Opening it with `>` takes them away first."""

    reads = writes = True

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._shown = Text(lambda _: _lines(talk.headers))

    def size(self) -> int:
        return len(_lines(self._talk.headers))

    async def open(self, opening: Opening) -> Handle:
        talk = self._talk
        if opening.reads:
            talk.check_narrow(opening)
        if not opening.writes:
            return await self._shown.open(opening)
        if opening.flags & os.O_TRUNC:
            talk.check_idle()
            talk.set_headers(())
            talk.change(opening)
        return MessageHandle(opening, self._add)

    def _add(self, line: str, opening: Opening) -> bool:
        if not line.strip():
            return False
        _changing(self._talk, _add_header)(line, opening)
        return True


def _lines(headers: Headers) -> str:
    return "".join(f"{name}: {value}\n" for name, value in headers)


# The body -----------------------------------------------------------------------------------------


class _BodyFile(Handler):
    """The body to send."""

    writes = True

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    async def open(self, opening: Opening) -> Handle:
        upload = self._talk.new_upload(opening, afresh=bool(opening.flags & os.O_TRUNC))
        return _BodyHandle(self._talk, upload, opening)


class _BodyHandle(Handle):
    """One writer. Past what is buffered the request starts by itself, and its errors come here."""

    def __init__(self, talk: Talk, upload: Upload, opening: Opening) -> None:
        self._talk = talk
        self._upload = upload
        self._opening = opening
        talk.writers += 1

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        taken = self._upload.take(data)
        if taken or not data:
            return taken
        if self._talk.state is State.IDLE and self._upload is self._talk.upload:
            self._talk.start(self._opening, whole=False)
        return WOULD_BLOCK

    async def write(self, data: bytes, offset: int) -> int:
        """Write what there is room for, waiting for the server to take some."""
        while (taken := self.try_write(data, offset)) is WOULD_BLOCK:
            await self._upload.bell.wait()
        return taken

    def truncate(self, size: int) -> None:
        if size or self._upload.written:
            raise fault(errno.EINVAL, "a body is written from its beginning to its end")

    def ready(self, wake: Callable[[], None] | None) -> int:
        return self._upload.ready(wake, self)

    def close(self) -> None:
        self._upload.bell.forget(self)
        self._talk.writers -= 1
        if not self._talk.writers and self._talk.under_way:
            self._upload.end()


# The answer ---------------------------------------------------------------------------------------


class _Response(Handler):
    """The body of the answer. Opening it sends a request that was not sent."""

    reads = True
    endless = True

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    async def open(self, opening: Opening) -> Handle:
        talk = self._talk
        if talk.state is State.IDLE:
            talk.start(opening, whole=True)
        talk.check_narrow(opening)
        _, body = await talk.answer()
        talk.readers += 1
        return _ResponseHandle(body, talk.left)


class _ResponseHandle(BodyHandle):
    told = True


class _ResponseHeaders(Handler):
    """The headers of the answer; empty before anything was asked."""

    reads = True

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    async def open(self, opening: Opening) -> Handle:
        if self._talk.state is State.IDLE:
            return Snapshot(b"", opening.file)
        self._talk.check_narrow(opening)
        exchange, _ = await self._talk.answer()
        return Snapshot(paths.encode(_lines(exchange.headers)), opening.file)
