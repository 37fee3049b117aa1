"""Engine: sends requests, follows redirects, and hands out answers while they stream."""

import errno
import random as chance
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpcore2
import trio
from attrs import evolve

from oanix.errors import fault
from oanix.kit import Ring
from oanix.lib.policy import Buckets, Grant, Policy
from oanix.lib.url import Url
from oanix.lib.vault import Mask, Vault
from oanix.lib.web import headers as names
from oanix.lib.web.connect import Dialer, shake_hands
from oanix.lib.web.decode import Decoding, can_decode
from oanix.lib.web.exchange import Buffer, Exchange, Head
from oanix.lib.web.hop import Arrival, Hops, Trip
from oanix.lib.web.model import Asker, Connected, Headers, Request, WebLimits
from oanix.lib.web.pools import Pools
from oanix.lib.web.pump import Pump, too_large
from oanix.lib.web.redirect import location, redirected
from oanix.lib.web.resolve import Resolver, SystemResolver
from oanix.lib.web.retry import Patience
from oanix.lib.web.slots import Slots

if TYPE_CHECKING:
    from oanix.lib.web.cache import Cache


class Web:
    """Requests under one policy, for any number of askers at once.

    Nothing of one request is left for the next but connections: no cookie, no credentials. No
    proxy and no variable of the environment is honoured, except SSL_CERT_FILE and SSL_CERT_DIR.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        vault: Vault | None = None,
        resolver: Resolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        limits: WebLimits | None = None,
        cache_bytes: int = 0,
        now: Callable[[], float] = time.time,
        random: Callable[[], float] = chance.random,
    ) -> None:
        limits = limits or WebLimits()
        self.policy = policy
        self.log = Ring()
        self._limits = limits
        self._context = ssl_context or httpcore2.default_ssl_context()
        self._dialer = Dialer(resolver or SystemResolver(), limits.connect_s)
        self._pools = Pools(self._dialer, self._context, limits.keepalive_s, limits.in_all)
        self._slots = Slots(limits.per_origin, limits.in_all, limits.queue_s, limits.per_asker)
        self._hops = Hops(
            policy=policy,
            vault=vault,
            pools=self._pools,
            slots=self._slots,
            buckets=Buckets(clock=trio.current_time),
            patience=Patience(limits.retries, limits.retry_after_s, now, random),
            limits=limits,
            ring=self.log,
            now=now,
            cache=_cache(cache_bytes),
        )
        self._nursery: trio.Nursery | None = None
        self._sent = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run for as long as the block; at its end what streams is cancelled and closed."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._sweep)
            try:
                yield
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await self._pools.close()

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(self._limits.keepalive_s)
            await self._pools.sweep()

    def use_cache(self, size: int) -> None:
        """Keep answers in so many bytes of memory, from now on."""
        self._hops.cache = _cache(size)

    def status(self) -> dict[str, object]:
        """Tell what is under way."""
        return {
            "sent": self._sent,
            "open": self._slots.taken,
            "connections": self._pools.connections,
        }

    async def send(self, request: Request, asker: Asker) -> Exchange:
        """Send a request and give the answer once its headers have come.

        Raises OSError: Denied (EACCES), EINVAL for what cannot be asked, ETIMEDOUT, ECONNREFUSED,
        EHOSTUNREACH, ECONNRESET, EMSGSIZE, EPROTO, ELOOP, and EAGAIN for a rate that is used up.
        Cancelled or failed, it leaves nothing open.
        """
        nursery = self._checked()
        trip = self._trip(request, asker)
        self._sent += 1
        while True:
            arrival = await self._hops.arrive(trip)
            try:
                target = self._target(trip, arrival)
                if target is None:
                    return self._begin(nursery, trip, arrival)
                trip.request = redirected(trip.request, arrival.answer.status, target)
                trip.left -= 1
            except OSError as error:
                await arrival.refuse(errno.errorcode.get(error.errno or 0, "EIO"))
                raise fault(
                    error.errno or errno.EIO, arrival.mask.text(error.strerror or "")
                ) from error
            await arrival.leave()

    def _checked(self) -> trio.Nursery:
        if self._nursery is None:
            raise fault(errno.ESHUTDOWN, "the web is not running")
        return self._nursery

    def _trip(self, request: Request, asker: Asker) -> Trip:
        method = names.check_method(request.method)
        if request.url.scheme not in ("http", "https"):
            raise fault(errno.EINVAL, f"a request goes to http or https, not {request.url.scheme}")
        headers = names.check_headers(request.headers, request.url, request.body, self._limits)
        hops = self._limits.hops if request.follow is True else int(request.follow)
        trip = Trip(evolve(request, method=method, headers=headers), asker, hops)
        if request.timeout_s is not None:
            trip.deadline = trip.began + request.timeout_s
        return trip

    def _target(self, trip: Trip, arrival: Arrival) -> Url | None:
        """Give where to go next; None when this is the answer. Raises OSError ELOOP, EPROTO."""
        if trip.request.follow is False or trip.request.follow == 0:
            return None
        url = trip.request.url
        target = location(arrival.answer.status, arrival.answer.headers, url)
        if target is None:
            return None
        if target.origin != url.origin and _holds_secret(arrival, target):
            raise fault(
                errno.EPROTO,
                f"{url.host} redirects to {target.origin} with a secret in the address, which is"
                " not taken there",
            )
        if not trip.left:
            raise fault(errno.ELOOP, f"too many redirects, the last to {target.masked()}")
        trip.downgraded = url.scheme == "https" and target.scheme == "http"
        return target

    def _begin(self, nursery: trio.Nursery, trip: Trip, arrival: Arrival) -> Exchange:
        """Start to receive the body. Raises OSError EMSGSIZE for one known to be too large."""
        if self._nursery is not nursery:
            raise fault(errno.ESHUTDOWN, "the web stopped running")
        answer, mask = arrival.answer, arrival.mask
        codings = answer.codings
        decodes = bool(codings) and can_decode(codings)
        if not codings and trip.size is not None and (answer.length or 0) > trip.size:
            raise too_large(trip.size)
        limit = self._limits.expanded_bytes if trip.size is None else trip.size
        buffer = Buffer(self._limits.buffer_bytes)
        pump = Pump(
            answer=answer,
            buffer=buffer,
            entry=arrival.entry,
            slot=arrival.slot,
            mask=mask,
            decoding=Decoding.of(codings, limit) if decodes else None,
            limit=trip.size,
            idle_s=self._idle(trip, answer.headers),
            deadline=trip.ends_at,
        )
        head = Head(
            status=answer.status,
            reason=mask.text(answer.reason),
            headers=_shown(answer.headers, mask, decoded=decodes),
            url=mask.text(str(trip.request.url)),
            http_version=answer.version,
            length=None if decodes else answer.length,
            elapsed_ms=trip.elapsed_ms,
        )
        nursery.start_soon(pump.run)
        return Exchange(head, buffer, pump.scope)

    def _idle(self, trip: Trip, headers: Headers) -> float | None:
        if (names.find(headers, "content-type") or "").lower().startswith("text/event-stream"):
            return None
        timeout_s = trip.request.timeout_s
        return self._limits.idle_s if timeout_s is None else timeout_s

    async def connect(self, url: Url, asker: Asker, headers: Headers = ()) -> Connected:
        """Connect for a WebSocket (ws, wss): judged as a GET, to a checked address, with TLS.

        The caller closes the stream. Raises OSError as `send`.
        """
        if url.scheme not in ("ws", "wss"):
            raise fault(errno.EINVAL, f"a WebSocket is at ws:// or wss://, not {url.scheme}://")
        self._checked()
        kept = names.check_headers(headers, url, None, self._limits)
        return await self._hops.connect(url, asker, kept, self._secured)

    async def _secured(self, url: Url, grant: Grant) -> trio.abc.Stream:
        stream = await self._dialer.dial(url.host, url.port, grant)
        if url.scheme == "ws":
            return stream
        # httpcore2 sets it anew for each of its own connections.
        self._context.set_alpn_protocols(["http/1.1"])
        return await shake_hands(stream, self._context, url.host)


def _cache(size: int) -> "Cache | None":
    if not size:
        return None
    # Its library takes longer to import than all of this package, and few use it.
    from oanix.lib.web.cache import Cache

    return Cache(size)


def _holds_secret(arrival: Arrival, target: Url) -> bool:
    # As it was sent and as it would be: a server may repeat what came in the query, or a header.
    written = (str(target), names.find(arrival.answer.headers, "location") or "")
    return any(arrival.mask.text(text) != text for text in written)


def _shown(headers: Headers, mask: Mask, *, decoded: bool) -> Headers:
    if decoded:
        headers = names.without(headers, ("content-encoding", "content-length"))
    if not mask.active:
        return headers
    return tuple((mask.text(name), mask.text(value)) for name, value in headers)
