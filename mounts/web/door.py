"""WebDoor: listens, counts who is there, and hands each connection its turn."""

import errno
import ipaddress
import logging
import ssl
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from mounts.web.connection import Connection, turn_away
from mounts.web.model import Bounds, Route
from mounts.web.proxies import Proxies
from oanix.errors import fault

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

BACKLOG = 1_024


class WebDoor:
    """One port and its routes."""

    def __init__(
        self,
        routes: Sequence[Route],
        bounds: Bounds | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        """Make it. proxies: whose word for who asks is taken."""
        self._proxies = proxies or Proxies()
        self.bounds = bounds or Bounds()
        self._routes = tuple(routes)
        self._tls = tls
        self._scopes: set[trio.CancelScope] = set()
        self._openings: OrderedDict[trio.CancelScope, None] = OrderedDict()
        self._of_address: Counter[str] = Counter()
        self.turned_away = 0
        """Connections for which there was no room."""

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._scopes)

    @asynccontextmanager
    async def serving(self, listeners: Sequence[trio.SocketListener]) -> AsyncIterator[None]:
        """Serve for as long as the block; then what is under way has `grace_s` to end."""
        async with trio.open_nursery() as nursery:
            accepting = trio.CancelScope()

            async def accept() -> None:
                with accepting:
                    await trio.serve_listeners(
                        self._serve, list(listeners), handler_nursery=nursery
                    )

            nursery.start_soon(accept)
            try:
                yield
            finally:
                accepting.cancel()
                for route in self._routes:
                    if route.leave is not None:
                        route.leave()
                end = trio.current_time() + self.bounds.grace_s
                for scope in self._scopes:
                    scope.deadline = min(scope.deadline, end)
                for scope in self._openings:
                    scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        address = _address(stream)
        key = _key(address)
        full = self._full("" if self._proxies.trusts(address) else key)
        if full:
            self.turned_away += 1
            log.debug("peer=%s turned away: %s", address, full)
            await turn_away(stream, full, tls=self._tls is not None)
            return
        # Shielded: when the port closes, `serving` gives each its time.
        with trio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            try:
                with self._counted(key):
                    await self._converse(stream, address, scope)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                log.debug("peer=%s connection lost: %s", address, error)
            except Exception:
                log.exception("peer=%s: the connection failed", address)
            finally:
                self._scopes.discard(scope)
                await trio.aclose_forcefully(stream)

    async def _converse(
        self, stream: trio.SocketStream, address: str, scope: trio.CancelScope
    ) -> None:
        secured: trio.abc.Stream = stream
        if self._tls is not None:
            secure = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
            with self._opening(scope), trio.move_on_after(self.bounds.head_s) as handshake:
                await secure.do_handshake()
            if handshake.cancelled_caught:
                return
            secured = secure
        connection = Connection(
            secured, self._routes, self.bounds,
            peer=address, secure=self._tls is not None, opening=partial(self._opening, scope),
            client=partial(self._proxies.client, address), talking=partial(self._talking, address),
        )  # fmt: skip
        await connection.run()

    @contextmanager
    def _opening(self, scope: trio.CancelScope) -> "Iterator[None]":
        """Count a connection whose head is not there yet."""
        self._openings[scope] = None
        if len(self._openings) > self.bounds.openings:
            oldest, _ = self._openings.popitem(last=False)
            oldest.cancel()
        try:
            yield
        finally:
            self._openings.pop(scope, None)

    @contextmanager
    def _talking(self, address: str, client: str) -> "Iterator[str]":
        """Count a conversation of who asks through a proxy, or say why there is no room for it."""
        if client == address:
            yield ""  # he was counted when he came
            return
        key = _key(client)
        full = self._crowded(key)
        if full:
            yield full
            return
        with self._counted(key):
            yield ""

    @contextmanager
    def _counted(self, key: str) -> "Iterator[None]":
        self._of_address[key] += 1
        try:
            yield
        finally:
            self._of_address[key] -= 1
            if not self._of_address[key]:
                del self._of_address[key]

    def _full(self, key: str) -> str:
        if len(self._scopes) >= self.bounds.connections:
            return "too many connections; come back later"
        return self._crowded(key) if key else ""

    def _crowded(self, key: str) -> str:
        if self._of_address[key] >= self.bounds.per_address:
            return "too many connections from your address; close one first"
        return ""


def _address(stream: trio.SocketStream) -> str:
    try:
        host = str(stream.socket.getpeername()[0])
    except OSError:
        return "unknown"
    plain = host.partition("%")[0]
    # An IPv4 client of a socket that takes both is known by its own address.
    mapped = getattr(ipaddress.ip_address(plain), "ipv4_mapped", None)
    return str(mapped or plain)


def _key(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False))


async def listen(where: str) -> list[trio.SocketListener]:
    """Listen on HOST:PORT, [HOST]:PORT or a port (of this machine alone).

    Raises OSError: EINVAL for what is none of these, EADDRINUSE, EACCES as bind(2).
    """
    host, colon, port = where.rpartition(":")
    host = host.strip("[]") if colon else "127.0.0.1"
    if not (port.isascii() and port.isdigit() and int(port) < 65_536) or (colon and not host):
        raise fault(errno.EINVAL, f"{where!r} is no address; write 127.0.0.1:7777, or a port")
    try:
        return await trio.open_tcp_listeners(int(port), host=host, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise fault(errno.EADDRINUSE, f"another program listens on {where} already") from error
        raise fault(
            error.errno or errno.EINVAL, f"{where} cannot be listened on: {error.strerror or error}"
        ) from error


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """Make what TLS needs of a certificate and its key. Raises OSError, with the file's name."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for name in (certificate, key):
        # OpenSSL does not say which of them it could not read.
        with open(name, "rb"):
            pass
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise fault(
            errno.EINVAL,
            f"{certificate} and {key} are no certificate and its key in PEM"
            + (f": {error.reason}" if error.reason else ""),
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context
