"""TLS as a large body needs it: many records are read at a time.

trio's own stream gives one record (16 KiB) a read, each with a turn of the scheduler.
"""

import errno
import ssl
from contextlib import suppress
from typing import Final

import trio

from oanix.errors import fault
from oanix.lib.web.unconnected import Unconnected

_FILL: Final = 256 << 10


class TlsStream:
    """A client's TLS over a socket, for one task at a time.

    The end of the stream may come without a close_notify, as it does with many servers (RFC 9112,
    section 9.8): that a body is whole is told by its framing.
    """

    def __init__(self, bottom: trio.SocketStream, context: ssl.SSLContext, host: str) -> None:
        self._bottom = bottom
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ended = False
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    async def shake_hands(self) -> None:
        """Make the connection. Raises ssl.SSLError, trio's BrokenResourceError."""
        try:
            while True:
                try:
                    self.tls.do_handshake()
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._fill()
                else:
                    break
        finally:
            # The peer is told of an alert too; a handshake that fails says why.
            gone = (trio.BrokenResourceError, trio.ClosedResourceError)
            with suppress(*gone), trio.move_on_after(1) as scope:
                scope.shield = True
                await self._flush()

    async def receive_some(self, room: int) -> bytes:
        """Read up to about room bytes; b"" is the end. Raises trio's BrokenResourceError."""
        while True:
            try:
                data = self._pull(room)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(str(error)) from error
            if self._outgoing.pending:
                await self._flush()
            if data or self._ended:
                return data
            await self._fill()

    def _pull(self, room: int) -> bytes:
        """Decrypt what has come."""
        pieces = []
        try:
            while room > 0 and not self._ended:
                piece = self.tls.read(room)
                self._ended = not piece
                pieces.append(piece)
                room -= len(piece)
        except ssl.SSLWantReadError:
            pass  # until more has come
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._ended = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def send_all(self, data: bytes) -> None:
        """Send. Raises trio's BrokenResourceError."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.tls.write(view) :]
            except ssl.SSLWantReadError:
                await self._fill()
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(str(error)) from error
            await self._flush()

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._bottom.send_all(data)

    async def _fill(self) -> None:
        data = await self._bottom.receive_some(_FILL)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()


def tls_fault(host: str, error: BaseException | None) -> OSError:
    """Tell why there is no TLS with a host."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return fault(
            errno.EPROTO, f"the certificate of {host} is not accepted: {error.verify_message}"
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return fault(errno.EPROTO, f"no TLS with {host}: {error.reason or error}")
    return Unconnected(errno.ECONNRESET, f"{host} ended the connection during the TLS handshake")
