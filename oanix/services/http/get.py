"""The tree `get/SCHEME/HOST[:PORT]/REST`: a file for every address, made when it is asked for.

No name of it is listed, and no attribute is asked of the network: only `open` sends a request.
"""

import errno
import os
import stat as modes
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

import trio

from oanix import path as paths
from oanix.caller import Caller
from oanix.errors import Missing, fault
from oanix.lib.url import Url, from_tree
from oanix.lib.web import Asker, Exchange, Request
from oanix.node import FOREVER, Directory, Handle, Node, SeesNamespace
from oanix.services.http.body import Body, BodyHandle
from oanix.services.http.fields import Headers, find
from oanix.services.http.telling import answered
from oanix.stat import Stat

if TYPE_CHECKING:
    from oanix.namespace import Namespace
    from oanix.services.http.view import HttpView

SCHEMES: Final = ("http", "https")

STATUSES: Final = {
    401: errno.EACCES,
    403: errno.EACCES,
    404: errno.ENOENT,
    407: errno.EACCES,
    410: errno.ENOENT,
}
"""The errno of a status; of the others from 400 on it is EIO."""

IDENTITY: Final[Headers] = (("Accept-Encoding", "identity"),)
"""Without compression the length of a body is known before it is read."""


class Place(Directory):
    """A directory of the tree: names are made when they are walked to."""

    caching = FOREVER

    def __init__(self, view: "HttpView", names: tuple[str, ...]) -> None:
        self.qid = view.service.next_qid()
        self.view = view
        self.names = names
        # A name keeps its number for as long as anybody has it: cp compares them.
        self._found: WeakValueDictionary[str, Node] = WeakValueDictionary()

    def walk(self, name: str) -> Node:
        """Find a name. Raises Missing for one that cannot be, as `paths.check_name`."""
        node = self._found.get(name)
        if node is None:
            paths.check_name(name)
            node = self._found[name] = self._made(name)
        return node

    def _made(self, name: str) -> Node:
        raise NotImplementedError

    def readdir(self) -> list[str]:
        return []

    def stat(self) -> Stat:
        return self.view.stat_of(modes.S_IFDIR | 0o555)


class GetDirectory(Place):
    """`get` itself: the schemes."""

    def _made(self, name: str) -> Node:
        if name not in SCHEMES:
            raise Missing(name)
        return SchemeDirectory(self.view, (*self.names, name))

    def readdir(self) -> list[str]:
        return list(SCHEMES)


class SchemeDirectory(Place):
    """A scheme: every well-formed HOST[:PORT]."""

    def _made(self, name: str) -> Node:
        try:
            from_tree(self.names[-1], name, "%2F")
        except OSError:
            raise Missing(name) from None
        return HostDirectory(self.view, (*self.names, name))


class HostDirectory(Place):
    """A host: the rest of every address."""

    def _made(self, name: str) -> Node:
        try:
            url = from_tree(self.names[-2], self.names[-1], name)
        except OSError:
            raise Missing(name) from None
        return GetFile(self.view, (*self.names, name), url)


class GetFile(SeesNamespace):
    """One address: each open is a request."""

    waits = True

    def __init__(self, view: "HttpView", names: tuple[str, ...], url: Url) -> None:
        self.qid = view.service.next_qid()
        self.view = view
        self.names = names
        self.url = url

    def stat(self) -> Stat:
        return self.view.stat_of(modes.S_IFREG | 0o444)

    async def open(self, flags: int, caller: Caller) -> Handle:
        raise fault(errno.EIO, "this file is opened as seen from a namespace, through a channel")

    async def open_in(self, namespace: "Namespace", flags: int, caller: Caller) -> Handle:
        """Send the request; gives back when the headers are there. A cancelled open ends it.

        Raises OSError: Denied, what the connection fails with, and by the status of the answer.
        """
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            raise fault(errno.EACCES, "a file under get is read; write through `call` or `new`")
        if flags & os.O_DIRECTORY:
            raise fault(errno.ENOTDIR, "this is no directory")
        leave = self.view.service.enter(caller)
        try:
            asked = _Asked(self.url, self.view, partial(self.view.asker, namespace, caller))
            exchange = await asked.send()
            try:
                check_status(exchange, self.url)
            except OSError:
                exchange.close()
                raise
        except BaseException:
            leave()
            raise
        body = Body(exchange, asked.of(exchange), let_go=self.view.service.let_go)
        began = trio.current_time()

        def close() -> None:
            body.close()
            leave()
            seconds = trio.current_time() - began + exchange.elapsed_ms / 1e3
            answered(namespace, caller, ("GET", self.url), exchange, body.position, seconds)

        return _GetHandle(body, close, self)


class _GetHandle(BodyHandle):
    told = True

    def __init__(self, body: Body, at_close: Callable[[], object], file: GetFile) -> None:
        super().__init__(body, at_close)
        self._file = file

    def stat(self) -> Stat:
        return self._file.view.stat_of(modes.S_IFREG | 0o444, self.size or 0)


def check_status(exchange: Exchange, url: Url) -> None:
    """Turn a status that tells of a failure into the nearest errno. Raises OSError."""
    if exchange.status < 400:
        return
    after = find(exchange.headers, "retry-after")
    later = f"; it says to come again after {after}" if after else ""
    raise fault(
        STATUSES.get(exchange.status, errno.EIO),
        f"{url.masked()} answered {exchange.status} {exchange.reason}".rstrip() + later,
    )


class _Asked:
    """A GET that can be sent again, for a part of its body (RFC 9110 section 14)."""

    parts = False

    def __init__(self, url: Url, view: "HttpView", asker: Callable[[], Asker]) -> None:
        self._url = url
        self._view = view
        self._asker = asker
        self._length: int | None = None
        self._validator: tuple[str | None, str | None] = (None, None)

    async def send(self, extra: Headers = ()) -> Exchange:
        request = Request("GET", self._url, (*IDENTITY, *extra))
        return await self._view.service.web.send(request, self._asker())

    def of(self, exchange: Exchange) -> "_Asked | None":
        """Learn from the first answer; a body of unknown length is not asked for again."""
        if exchange.length is None:
            return None
        self._length = exchange.length
        self._validator = _validator(exchange)
        self.parts = find(exchange.headers, "accept-ranges") == "bytes"
        return self

    async def __call__(self, offset: int) -> tuple[Exchange, int]:
        """Ask from an offset. Raises OSError ESTALE when the answer is of another version."""
        wanted = offset if self.parts else 0
        exchange = await self.send((("Range", f"bytes={wanted}-"),) if wanted else ())
        try:
            check_status(exchange, self._url)
            begins = self._begins(exchange, wanted)
        except OSError:
            exchange.close()
            raise
        return exchange, begins

    def _begins(self, exchange: Exchange, wanted: int) -> int:
        part = exchange.status == 206
        whole = (find(exchange.headers, "content-range") or "") if part else ""
        expected = f"bytes {wanted}-{(self._length or 0) - 1}/{self._length}"
        if _validator(exchange) != self._validator or (
            whole != expected if part else exchange.length != self._length
        ):
            raise fault(
                errno.ESTALE, f"{self._url.masked()} is another one than when it was opened"
            )
        if not part:
            self.parts = False
        return wanted if part else 0


def _validator(exchange: Exchange) -> tuple[str | None, str | None]:
    return find(exchange.headers, "etag"), find(exchange.headers, "last-modified")
