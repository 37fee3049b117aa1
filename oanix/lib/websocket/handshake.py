"""The opening handshake (RFC 6455, 4): a request over HTTP/1.1, and the answer 101 to it.

Heads are cut off the stream here and only then parsed, so that what follows a head, which may be
frames already, is never read as HTTP.
"""

import base64
import binascii
import errno
import http
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import trio
from attrs import frozen
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.handshake import H11Handshake
from wsproto.utilities import ProtocolError

from oanix.errors import fault
from oanix.lib.websocket.limits import Limits, Refused

Headers = tuple[tuple[str, str], ...]

HEAD_MAX = 16_384
"""Bytes of a request's or an answer's head."""

LINGER_BYTES = 1 << 20
"""How much of what a peer still sends is read and dropped, so that it can read why."""

BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What a stream raises that has ended."""

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_TARGET = re.compile(r"/[\x21-\x7e]*")
_QUOTED = re.compile(r"\W*\b(?:bytearray\()?b['\"].*", re.DOTALL)
_OWN = {"host", "connection", "upgrade", "content-length", "transfer-encoding"}
_ONCE = ("host", "sec-websocket-key", "sec-websocket-version", "upgrade", "origin")


@frozen
class Upgrade:
    """A client's request to open a WebSocket, as a server sees it."""

    target: str
    host: str
    headers: Headers
    subprotocols: tuple[str, ...]

    def header(self, name: str) -> str | None:
        """Give the first header of that name, in lower case."""
        return next((value for known, value in self.headers if known == name), None)

    @property
    def origin(self) -> str | None:
        """The page that asks, where a browser does."""
        return self.header("origin")


@frozen
class Refusal:
    """The HTTP status and the sentence with which a server refuses."""

    status: int
    sentence: str


Admit = Callable[[Upgrade], Refusal | None]
"""Decides on a request; None admits it."""


@frozen
class Opened:
    """What a handshake has led to."""

    extensions: list[Extension]
    subprotocol: str | None
    headers: Headers
    rest: bytes
    """What came after the head."""


def any_origin(upgrade: Upgrade) -> Refusal | None:
    """Admit every request: for a server that knows nobody by a cookie or an address."""
    return None


def same_origin(upgrade: Upgrade) -> Refusal | None:
    """Admit pages of this host, and programs, which send no Origin (RFC 6455, 10.2)."""
    origin = upgrade.origin
    if origin is None or origin.partition("://")[2].lower() == upgrade.host.lower():
        return None
    return Refusal(403, "pages of another origin may not connect")


def check_header(name: str, value: str) -> tuple[str, str]:
    """Accept a header to send along. Raises OSError EINVAL for one that is none, or not yours."""
    if not _TOKEN.fullmatch(name):
        raise fault(errno.EINVAL, f"{name[:40]!r} is no name of a header")
    if name.lower() in _OWN or name.lower().startswith("sec-websocket-"):
        raise fault(errno.EINVAL, f"{name} is written by the handshake itself")
    if not _VALUE.fullmatch(value):
        raise fault(errno.EINVAL, f"the value of {name} holds what no header may hold")
    return name, value.strip()


def check_subprotocol(name: str) -> str:
    """Accept the name of a subprotocol. Raises OSError EINVAL."""
    if not _TOKEN.fullmatch(name) or len(name) > 255:
        raise fault(errno.EINVAL, f"{name[:40]!r} is no name of a subprotocol")
    return name


def _extensions(compress: bool) -> list[Extension]:
    # Without takeover neither side keeps a window between messages.
    deflate = PerMessageDeflate(client_no_context_takeover=True, server_no_context_takeover=True)
    return [deflate] if compress else []


async def ask(
    stream: trio.abc.Stream, *, host: str, target: str, headers: Headers,
    subprotocols: Sequence[str], compress: bool,
) -> Opened:  # fmt: skip
    """Open as a client. Raises OSError: EINVAL, Refused, EPROTO, ECONNRESET."""
    if not _TARGET.fullmatch(target):
        raise fault(errno.EINVAL, "the target of a WebSocket begins with / and holds no blanks")
    extra = [
        (name.encode("ascii"), value.encode("latin-1"))
        for name, value in (check_header(*header) for header in headers)
    ]
    offered = [check_subprotocol(name) for name in subprotocols]
    handshake = H11Handshake(ConnectionType.CLIENT)
    try:
        asked = handshake.send(
            Request(host, target, _extensions(compress), extra, subprotocols=offered)
        )
    except UnicodeError as error:
        raise fault(errno.EINVAL, f"{host[:80]!r} is no host") from error
    await stream.send_all(asked)
    head, rest = await _head(stream, b"")
    if not head:
        raise fault(errno.EPROTO, f"the answer's head has over {HEAD_MAX} bytes")
    try:
        handshake.receive_data(head)
        event = next(handshake.events(), None)
    except (ProtocolError, ValueError) as error:
        raise fault(errno.EPROTO, f"the server answered no WebSocket: {_said(error)}") from error
    if isinstance(event, RejectConnection):
        raise Refused(event.status_code, _refused(event))
    if not isinstance(event, AcceptConnection):
        raise fault(errno.EPROTO, "the server answered no WebSocket")
    answered = _decoded(event.extra_headers)
    return Opened(event.extensions, event.subprotocol, answered, rest)


def _said(error: Exception) -> str:
    # Not the bytes of the answer, which the library repeats in a spelling that nobody could mask.
    return _QUOTED.sub("", str(error))


def _refused(event: RejectConnection) -> str:
    sentence = f"the server answered {event.status_code}{_phrase(event.status_code)}"
    place = dict(_decoded(event.headers)).get("location")
    if place is not None and 300 <= event.status_code < 400:
        # Whole: what is cut could not be searched for a secret any more.
        sentence += f" and names {place}; a WebSocket follows no redirect: write that url"
    return sentence


def _phrase(status: int) -> str:
    try:
        return f" {http.HTTPStatus(status).phrase}"
    except ValueError:
        return ""


async def answer(
    stream: trio.abc.Stream, *, leading: bytes, admit: Admit, subprotocols: Sequence[str],
    headers: Headers, compress: bool,
) -> tuple[Opened, Upgrade]:  # fmt: skip
    """Open as a server. Raises OSError: Refused after answering so, ECONNRESET."""
    head, rest = await _head(stream, leading)
    if not head:
        raise Refused(431, f"the request's head has over {HEAD_MAX} bytes")
    handshake = H11Handshake(ConnectionType.SERVER)
    upgrade = _upgrade(handshake, head)
    refusal = admit(upgrade)
    if refusal is not None:
        raise Refused(refusal.status, refusal.sentence)
    chosen = next((name for name in subprotocols if name in upgrade.subprotocols), None)
    extensions = _extensions(compress)
    extra = [
        (name.encode("ascii"), value.encode("latin-1"))
        for name, value in (check_header(*header) for header in headers)
    ]
    accepted = handshake.send(AcceptConnection(chosen, extensions, extra))
    await stream.send_all(accepted)
    enabled = [extension for extension in extensions if extension.enabled()]
    return Opened(enabled, chosen, (), rest), upgrade


def _upgrade(handshake: H11Handshake, head: bytes) -> Upgrade:
    try:
        handshake.receive_data(head)
        event = next(handshake.events(), None)
    except ProtocolError as error:
        hint = getattr(error, "event_hint", None)
        status = hint.status_code if isinstance(hint, RejectConnection) else 400
        raise Refused(status, f"this is no opening of a WebSocket: {error}") from error
    except ValueError as error:  # a header that is no ASCII where it must be
        raise Refused(400, "a header holds what it may not hold") from error
    if not isinstance(event, Request):
        raise Refused(400, "this is no opening of a WebSocket")
    headers = _decoded(event.extra_headers)
    upgrade = Upgrade(event.target, event.host, headers, tuple(event.subprotocols))
    _check_request(upgrade, head)
    return upgrade


def _check_request(upgrade: Upgrade, head: bytes) -> None:
    # What the library leaves to its user (RFC 6455, 4.2.1).
    names = [name for name, _ in upgrade.headers]
    if not head.partition(b"\n")[0].rstrip(b"\r").endswith(b" HTTP/1.1"):
        raise Refused(400, "a WebSocket is opened with HTTP/1.1")
    if "content-length" in names or "transfer-encoding" in names:
        raise Refused(400, "the request has a body")
    if any(names.count(name) > 1 for name in _ONCE):
        raise Refused(400, "a header is there twice")
    try:
        nonce = base64.b64decode(upgrade.header("sec-websocket-key") or "", validate=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != 16:
        raise Refused(400, "Sec-WebSocket-Key is not 16 bytes in base64")


async def refuse(stream: trio.abc.Stream, refused: Refused) -> None:
    """Answer with the HTTP status of a refusal. Raises what the stream raises."""
    body = f"{refused.strerror}\n".encode()
    version = "Sec-WebSocket-Version: 13\r\n" if refused.status == 426 else ""
    head = (
        f"HTTP/1.1 {refused.status}{_phrase(refused.status)}\r\n"
        f"Connection: close\r\n{version}Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    await stream.send_all(head.encode("ascii") + body)
    await linger(stream)


async def linger(stream: trio.abc.Stream) -> None:
    """Read and drop what still comes, as a TCP reset could overtake what was sent last."""
    if isinstance(stream, trio.abc.HalfCloseableStream):
        await stream.send_eof()
    dropped = 0
    while dropped < LINGER_BYTES and (data := await stream.receive_some()):
        dropped += len(data)


async def _head(stream: trio.abc.Stream, leading: bytes) -> tuple[bytes, bytes]:
    """Cut a head off the stream: it and what follows it, or b"" for one that is too long."""
    got = bytearray(leading)
    seen = 0
    while True:
        found = _BLANK_LINE.search(got, max(seen - 3, 0))
        end = found.end() if found else len(got)
        if end > HEAD_MAX:
            return b"", bytes(got)
        if found:
            return bytes(got[:end]), bytes(got[end:])
        data = await stream.receive_some(4096)
        if not data:
            raise fault(errno.ECONNRESET, "the peer left during the opening handshake")
        seen = len(got)
        got += data


def _decoded(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    return tuple((name.decode("ascii").lower(), value.decode("latin-1")) for name, value in headers)


def cause(error: BaseException) -> str:
    """Tell why a stream broke."""
    found = error.__cause__ or error
    said = found.strerror if isinstance(found, OSError) else ""
    return said or str(found) or "the stream broke"


@contextmanager
def streaming() -> Iterator[None]:
    """Have a stream that breaks during the handshake raise OSError ECONNRESET."""
    try:
        yield
    except BROKEN as error:
        raise fault(errno.ECONNRESET, f"no handshake: {cause(error)}") from error


async def turn_away(stream: trio.abc.Stream, refused: Refused, limits: Limits) -> None:
    """Answer with a refusal, if the peer listens, and close the stream."""
    try:
        with trio.move_on_after(limits.close_s), suppress(*BROKEN):
            await refuse(stream, refused)
    finally:
        await trio.aclose_forcefully(stream)
