"""Pools: connections that are kept, those of one grant apart from those of another."""

import errno
import math
import ssl
from collections import OrderedDict
from typing import Final

import httpcore2
import trio
from attrs import define, field

from oanix.errors import fault
from oanix.lib.policy import Grant
from oanix.lib.web.connect import Backend, Dialer

POOLS_MAX: Final = 64


class _Connection(httpcore2.AsyncHTTPConnection):
    """A connection that carries one exchange at a time, over HTTP/2 too.

    httpcore2 gives the streams of an HTTP/2 connection one flow-control window between them and
    does not reset a stream that is closed early: a reader who pauses, or goes away, would stall
    all others.
    """

    def __init__(
        self,
        origin: httpcore2.Origin,
        context: ssl.SSLContext,
        keepalive_s: float,
        backend: Backend,
    ) -> None:
        self._backend = backend
        self._failed = False
        super().__init__(
            origin, context, keepalive_expiry=keepalive_s, http2=True, network_backend=backend
        )

    async def handle_async_request(self, request: httpcore2.Request) -> httpcore2.Response:
        try:
            return await super().handle_async_request(request)
        except httpcore2.ConnectionNotAvailable:
            raise
        except BaseException:
            # httpcore2 would keep it: over HTTP/2 with its stream still open, and when cancelled
            # before its first step as one that is forever new.
            self._failed = True
            self._backend.end()
            raise

    def is_closed(self) -> bool:
        return self._failed or super().is_closed()

    def has_expired(self) -> bool:
        # httpcore2 looks at the socket for HTTP/1.1 alone. What an idle peer says is "I am going".
        return super().has_expired() or (self.is_idle() and self._backend.spoken_to)

    def is_available(self) -> bool:
        return super().is_available() and self.is_idle()

    def can_multiplex(self) -> bool:
        return False


class _Pool(httpcore2.AsyncConnectionPool):
    """The connections made under one grant."""

    def __init__(
        self, grant: Grant, dialer: Dialer, context: ssl.SSLContext, keepalive_s: float, in_all: int
    ) -> None:
        self._made_by = (dialer, grant, context, keepalive_s)
        self.busy = 0
        self.used_at = -math.inf
        super().__init__(
            ssl_context=context,
            max_connections=in_all,
            max_keepalive_connections=in_all // 2,
            keepalive_expiry=keepalive_s,
            http2=True,
        )

    def create_connection(self, origin: httpcore2.Origin) -> httpcore2.AsyncConnectionInterface:
        dialer, grant, context, keepalive_s = self._made_by
        return _Connection(origin, context, keepalive_s, Backend(dialer, grant))


@define(eq=False)
class Pools:
    """One pool for each grant, so that a connection made under one is never used under another."""

    dialer: Dialer
    context: ssl.SSLContext
    keepalive_s: float
    in_all: int
    _closed: bool = field(default=False, init=False)
    _pools: OrderedDict[Grant, _Pool] = field(factory=OrderedDict, init=False)

    def of(self, grant: Grant) -> _Pool:
        """Give the pool of a grant; whoever uses it counts itself in `busy`.

        Raises OSError ESHUTDOWN.
        """
        pool = self._pools.get(grant)
        if self._closed:
            raise fault(errno.ESHUTDOWN, "the web stopped running")
        if pool is None:
            pool = _Pool(grant, self.dialer, self.context, self.keepalive_s, self.in_all)
            self._pools[grant] = pool
        self._pools.move_to_end(grant)
        pool.used_at = trio.current_time()
        return pool

    async def sweep(self) -> None:
        """Close the pools that nobody used for as long as a connection is kept."""
        latest = trio.current_time() - self.keepalive_s
        idle = [grant for grant, pool in self._pools.items() if not pool.busy]
        surplus = len(self._pools) - POOLS_MAX
        for number, grant in enumerate(idle):
            if number < surplus or self._pools[grant].used_at <= latest:
                await self._pools.pop(grant).aclose()

    async def close(self) -> None:
        """Close every connection, and make no more."""
        self._closed = True
        while self._pools:
            await self._pools.popitem()[1].aclose()

    @property
    def connections(self) -> list[str]:
        """Tell of each connection what it is doing."""
        return [one.info() for pool in self._pools.values() for one in pool.connections]
