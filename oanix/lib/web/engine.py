"""Engine: sends requests, follows redirects, and hands out answers while they stream."""

import errno
from typing import TYPE_CHECKING

import httpcore2
import trio
from attrs import evolve

from oanix.errors import fault
from oanix.lib.policy import Buckets, Grant
from oanix.lib.url import Url
from oanix.lib.vault import Mask
from oanix.lib.web import headers as names
from oanix.lib.web.connect import Dialer, shake_hands
from oanix.lib.web.decode import Decoding, can_decode
from oanix.lib.web.exchange import Buffer, Exchange, Head
from oanix.lib.web.failures import too_large
from oanix.lib.web.hop import Hops
from oanix.lib.web.model import Asker, Connected, Headers, Request
from oanix.lib.web.pools import Pools
from oanix.lib.web.pump import Pump
from oanix.lib.web.redirect import location, redirected
from oanix.lib.web.resolve import SystemResolver
from oanix.lib.web.retry import Patience
from oanix.lib.web.slots import Slots
from oanix.lib.web.trip import Arrival, Trip

if TYPE_CHECKING:
    from oanix.lib.web.cache import Cache
    from oanix.lib.web.web import Setup


class Engine:
    """What sends for a Web, for as long as that runs: pools, turns, and the tasks that receive."""

    def __init__(self, setup: "Setup", cache_bytes: int, nursery: trio.Nursery) -> None:
        limits = setup.limits
        self._limits = limits
        self._nursery = nursery
        self._context = setup.ssl_context or httpcore2.default_ssl_context()
        self._dialer = Dialer(setup.resolver or SystemResolver(), limits.connect_s)
        self._pools = Pools(self._dialer, self._context, limits.keepalive_s, limits.in_all)
        self._slots = Slots(limits.per_origin, limits.in_all, limits.queue_s, limits.per_asker)
        self._hops = Hops(
            policy=setup.policy,
            vault=setup.vault,
            pools=self._pools,
            slots=self._slots,
            buckets=Buckets(clock=trio.current_time),
            patience=Patience(limits.retries, limits.retry_after_s, setup.now, setup.random),
            limits=limits,
            ring=setup.log,
            now=setup.now,
            cache=_cache(cache_bytes),
        )
        self._stopped = False
        nursery.start_soon(self._sweep)

    def stop(self) -> None:
        """Begin to receive no more bodies: the nursery will be cancelled."""
        self._stopped = True

    async def close(self) -> None:
        """Close every connection; the tasks have been cancelled."""
        await self._pools.close()

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(self._limits.keepalive_s)
            await self._pools.sweep()

    def use_cache(self, size: int) -> None:
        """Keep answers in so many bytes of memory, from now on."""
        self._hops.cache = _cache(size)

    def status(self) -> dict[str, object]:
        """Tell what is under way, and how many bytes of answers are kept."""
        cache = self._hops.cache
        return {
            "open": self._slots.taken,
            "connections": self._pools.connections,
            "cached": cache.size if cache is not None else 0,
        }

    async def send(self, request: Request, asker: Asker) -> Exchange:
        """Do what `Web.send` says."""
        trip = self._trip(request, asker)
        while True:
            arrival = await self._hops.arrive(trip)
            try:
                target = self._target(trip, arrival)
                if target is None:
                    return self._begin(trip, arrival)
                trip.request = redirected(trip.request, arrival.answer.status, target)
                trip.left -= 1
            except OSError as error:
                await arrival.refuse(errno.errorcode.get(error.errno or 0, "EIO"))
                raise fault(
                    error.errno or errno.EIO, arrival.mask.text(error.strerror or "")
                ) from error
            await arrival.leave()

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

    def _begin(self, trip: Trip, arrival: Arrival) -> Exchange:
        """Start to receive the body. Raises OSError EMSGSIZE for one known to be too large."""
        if self._stopped:
            raise fault(errno.ESHUTDOWN, "the web stopped running")
        answer, mask = arrival.answer, arrival.mask
        codings = answer.codings
        decodes = bool(codings) and can_decode(codings)
        if not codings and trip.size is not None and (answer.length or 0) > trip.size:
            raise too_large(trip.size, trip.sized_by)
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
            sized_by=trip.sized_by,
            ends_by=trip.ends_by,
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
        self._nursery.start_soon(pump.run)
        return Exchange(head, buffer, pump.scope)

    def _idle(self, trip: Trip, headers: Headers) -> float | None:
        if (names.find(headers, "content-type") or "").lower().startswith("text/event-stream"):
            return None
        timeout_s = trip.request.timeout_s
        return self._limits.idle_s if timeout_s is None else timeout_s

    async def connect(self, url: Url, asker: Asker, headers: Headers = ()) -> Connected:
        """Do what `Web.connect` says."""
        if url.scheme not in ("ws", "wss"):
            raise fault(errno.EINVAL, f"a WebSocket is at ws:// or wss://, not {url.scheme}://")
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
