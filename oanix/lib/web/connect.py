"""Connections: resolved here, checked here, and made to the very address that was checked."""

import errno
import os
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, Final

import httpcore2
import trio
from attrs import frozen

from oanix.lib.policy import Grant, refuse_address
from oanix.lib.policy.addresses import known_addresses
from oanix.lib.web.resolve import Resolver, forever, interleave
from oanix.lib.web.tls import TlsStream, tls_fault
from oanix.lib.web.unconnected import Unconnected

STAGGER_S: Final = 0.25
"""How long one address has before the next is tried beside it (RFC 8305, section 5)."""

ADDRESSES_MAX: Final = 16
"""How many addresses of one name are looked at."""

ROOM: Final = 64 << 10
ROOM_MAX: Final = 1 << 20


class Refused(PermissionError):
    """EACCES: none of the addresses of a host may be connected to."""

    def __init__(self, host: str, address: str, reason: str) -> None:
        super().__init__(errno.EACCES, f"{host}: {reason}")
        self.host = host
        self.address = address
        self.reason = reason


class HandedOver(Exception):
    """Whoever took the rest of a body for itself is the one to read it."""


@frozen
class Dialer:
    """Connects to hosts by name.

    A name may have public and other addresses at once, and others the next time (DNS rebinding). So
    a name is resolved once for a connection, each of its addresses is checked by itself, those that
    are refused are never tried, and the connection goes to one of the rest and is not made by name.
    Only when none is left the host is refused.
    """

    resolver: Resolver
    timeout_s: float = 15.0
    stagger_s: float = STAGGER_S

    async def dial(self, host: str, port: int, grant: Grant) -> trio.SocketStream:
        """Connect. Raises Refused, or Unconnected with the errno of the last attempt."""
        try:
            with trio.fail_after(self.timeout_s):
                return await self._connect(host, port, await self.addresses(host, port, grant))
        except trio.TooSlowError:
            sentence = f"no connection to {host}:{port} within {self.timeout_s:g} s"
            raise Unconnected(errno.ETIMEDOUT, sentence) from None

    async def addresses(self, host: str, port: int, grant: Grant) -> list[str]:
        """Give the addresses that may be connected to. Raises Refused, Unconnected."""
        found: Sequence[str] = known_addresses(host)
        if not found:
            try:
                found = interleave(await self.resolver(host, port))[:ADDRESSES_MAX]
            except OSError as error:
                number = error.errno or errno.EHOSTUNREACH
                raise Unconnected(number, error.strerror or f"{host} is not known") from error
        if not found:
            raise Unconnected(errno.EHOSTUNREACH, f"the name {host} has no address")
        reasons = {address: refuse_address(address, grant) for address in found}
        if allowed := [address for address, reason in reasons.items() if reason is None]:
            return allowed
        address, reason = next(iter(reasons.items()))
        raise Refused(host, address, reason or "")

    async def _connect(self, host: str, port: int, addresses: Sequence[str]) -> trio.SocketStream:
        """Try the addresses, each a little after the one before; the first to connect wins."""
        won: list[trio.SocketStream] = []
        errors: list[OSError] = []
        try:
            await self._race(addresses, port, won, errors)
        except BaseException:
            # Cancelled just when one had won.
            for stream in won:
                stream.socket.close()
            raise
        if won:
            for late in won[1:]:
                late.socket.close()
            return won[0]
        error = errors[-1]
        number = error.errno or errno.EHOSTUNREACH
        if number == errno.ENETUNREACH:
            number = errno.EHOSTUNREACH
        raise Unconnected(
            number, f"no connection to {host}:{port}: {os.strerror(number)}"
        ) from error

    async def _race(
        self,
        addresses: Sequence[str],
        port: int,
        won: list[trio.SocketStream],
        errors: list[OSError],
    ) -> None:
        async with trio.open_nursery() as nursery:

            async def attempt(address: str, failed: trio.Event) -> None:
                try:
                    won.append(await _connect_to(address, port))
                    nursery.cancel_scope.cancel()
                except OSError as error:
                    errors.append(error)
                    failed.set()

            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                with trio.move_on_after(self.stagger_s):
                    await failed.wait()


async def _connect_to(address: str, port: int) -> trio.SocketStream:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        # An address and not a name: this asks no resolver.
        infos = await trio.socket.getaddrinfo(
            address, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
        await sock.connect(infos[0][4])
        return trio.SocketStream(sock)
    except BaseException:
        sock.close()
        raise


class Wire(httpcore2.AsyncNetworkStream):
    """A connection as httpcore2 uses it.

    A read that fills its room makes the next one larger than httpcore2 asks for, which is what a
    large body needs. `hand_over` makes the next read raise HandedOver, and from then on the stream
    is the exchange's alone (`receive`, `end`): httpcore2 closes it in vain.
    """

    def __init__(self, stream: trio.SocketStream | TlsStream, bottom: trio.SocketStream) -> None:
        self._stream = stream
        self._bottom = bottom
        self._room = ROOM
        self._leaving = False

    def hand_over(self) -> None:
        """Give the stream to the caller at the next read."""
        self._leaving = True

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Read what there is; may give more than max_bytes."""
        if self._leaving:
            raise HandedOver
        return await self.receive(timeout)

    async def receive(self, idle_s: float | None) -> bytes:
        """Read what there is. Raises httpcore2's ReadTimeout, ReadError."""
        room = self._room
        try:
            with trio.fail_after(forever(idle_s)):
                data = bytes(await self._stream.receive_some(room))
        except trio.TooSlowError as error:
            raise httpcore2.ReadTimeout(str(error)) from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore2.ReadError(str(error)) from error
        if len(data) == room and room < ROOM_MAX:
            self._room = room * 2
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send all. Raises httpcore2's WriteTimeout, WriteError."""
        if not buffer:
            return
        try:
            with trio.fail_after(forever(timeout)):
                await self._stream.send_all(buffer)
        except trio.TooSlowError as error:
            raise httpcore2.WriteTimeout(str(error)) from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore2.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """Close, unless the stream was handed over."""
        if not self._leaving:
            self.end()

    def end(self) -> None:
        """Close at once; nothing is sent any more. Twice does no harm."""
        self._bottom.socket.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> "Wire":
        """Speak TLS from here on. Raises OSError EPROTO with what is wrong with the peer."""
        host = server_hostname or ""
        # Made before the first checkpoint: the context's ALPN was set for this connection.
        stream = TlsStream(self._bottom, ssl_context, host)
        try:
            await stream.shake_hands()
        except (ssl.SSLError, trio.BrokenResourceError) as error:
            self.end()
            raise tls_fault(host, error) from error
        except BaseException:
            self.end()
            raise
        return Wire(stream, self._bottom)

    def get_extra_info(self, info: str) -> Any:
        """Answer what httpcore2 asks: the TLS object, and whether an idle peer has spoken."""
        if info == "ssl_object" and isinstance(self._stream, TlsStream):
            return self._stream.tls
        if info == "is_readable":
            sock = self._bottom.socket
            return sock.fileno() < 0 or sock.is_readable()
        return None


async def shake_hands(
    bottom: trio.SocketStream, context: ssl.SSLContext, host: str
) -> "trio.SSLStream[trio.SocketStream]":
    """Make a TLS connection; the caller's deadline holds. Raises OSError EPROTO, Unconnected.

    The context's ALPN must be set right before: it is read before the first checkpoint.
    """
    stream = trio.SSLStream(bottom, context, server_hostname=host, https_compatible=True)
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as error:
        bottom.socket.close()
        raise tls_fault(host, error.__cause__) from error
    except BaseException:
        bottom.socket.close()
        raise
    return stream


class Backend(httpcore2.AsyncNetworkBackend):
    """The network as one grant allows it, for one connection."""

    def __init__(self, dialer: Dialer, grant: Grant) -> None:
        self._dialer = dialer
        self._grant = grant
        self._wire: Wire | None = None

    @property
    def spoken_to(self) -> bool:
        """Whether the peer has sent something that nobody has read, as its end of the stream."""
        return self._wire is not None and bool(self._wire.get_extra_info("is_readable"))

    def end(self) -> None:
        """Close the connection, if there is one."""
        if self._wire is not None:
            self._wire.end()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> Wire:
        """Connect; what Dialer.dial raises comes through."""
        stream = await self._dialer.dial(host.strip("[]"), port, self._grant)
        self._wire = Wire(stream, stream)
        return self._wire

    async def sleep(self, seconds: float) -> None:
        """Wait; httpcore2 does so between attempts, of which it makes one."""
        await trio.sleep(seconds)
