"""Hop: one request to one server. Judged, in its turn, with its secrets, and again when that helps.

A redirect is a new hop, so everything here is done for each.
"""

import errno
import itertools
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

import httpcore2
import trio
from attrs import define, evolve

from oanix.errors import Denied, fault
from oanix.kit import Ring
from oanix.lib.policy import Ask, Buckets, Grant, Policy, Verdict
from oanix.lib.url import Url
from oanix.lib.vault import Mask, Vault
from oanix.lib.web.answer import Answer
from oanix.lib.web.connect import Refused
from oanix.lib.web.decode import can_decode
from oanix.lib.web.failures import TRANSPORT, failure, may_repeat, took_too_long
from oanix.lib.web.headers import on_the_wire, outgoing
from oanix.lib.web.log import Entry, who
from oanix.lib.web.model import Asker, Body, Connected, Headers, Request, WebLimits
from oanix.lib.web.pools import Pools
from oanix.lib.web.retry import Patience
from oanix.lib.web.slots import Slot, Slots
from oanix.lib.web.trip import Arrival, Sending, Trip
from oanix.lib.web.unconnected import Unconnected

if TYPE_CHECKING:
    from oanix.lib.web.cache import Cache, Visit

Secure = Callable[[Url, Grant], Awaitable[trio.abc.Stream]]
"""Makes a connection for a URL, with TLS where its scheme has it."""


@define(eq=False)
class Hops:
    """Makes hops. One for each engine."""

    policy: Policy
    vault: Vault | None
    pools: Pools
    slots: Slots
    buckets: Buckets
    patience: Patience
    limits: WebLimits
    ring: Ring
    now: Callable[[], float]
    cache: "Cache | None" = None

    def judge(
        self, method: str, url: Url, asker: Asker, *, downgraded: bool = False
    ) -> tuple[Verdict, Entry, Mask]:
        """Ask the policy, and begin the log line. Raises Denied, which is logged.

        downgraded: a redirect leads from https to http.
        """
        ask = Ask(method, url)
        verdict = self.policy.judge(ask, asker.layers)
        mask = self.vault.mask_for(url) if self.vault is not None else Mask()
        denied = None if verdict.allowed else self.policy.denied(ask, verdict)
        if denied is None and downgraded:
            denied = _downgrade(verdict)
        word = "deny" if denied else "allow"
        entry = Entry(self.ring, self.now, method, url, asker.caller, word, verdict.rule, mask)
        if denied is not None:
            entry.write("EACCES")
            raise _masked(denied, mask)
        return verdict, entry, mask

    async def arrive(self, trip: Trip) -> Arrival:
        """Make one hop. Raises OSError; cancelled or failed, it leaves nothing open."""
        request = trip.request
        verdict, entry, mask = self.judge(
            request.method, request.url, trip.asker, downgraded=trip.downgraded
        )
        trip.narrow(verdict)
        trip.entry = entry
        try:
            await self.turn(verdict, trip.headers_by)
            slot = await self.slots.take(who(trip.asker.caller), request.url.origin)
            try:
                verdict = self._still(verdict, trip.asker, entry, downgraded=trip.downgraded)
                trip.narrow(verdict)
                sending = self._attach(request, mask)
                entry.mask = mask = sending.mask
                return await self._attempts(trip, verdict, sending, slot, entry)
            except BaseException:
                slot.release()
                raise
        except OSError as error:
            raise self._told(error, verdict, trip.entry) from error
        except BaseException:
            trip.entry.write("cancelled")
            raise

    async def turn(self, verdict: Verdict, deadline: float) -> None:
        """Wait as the rate of the rules has it. Raises OSError EAGAIN when that takes too long."""
        if not verdict.buckets:
            return
        patience_s = min(self.limits.queue_s, deadline - trio.current_time())
        wait = self.buckets.take(verdict.buckets, patience_s=patience_s)
        if wait > patience_s:
            raise fault(
                errno.EAGAIN,
                f"the rate of {verdict.rule} is used up; try again in {math.ceil(wait)} s",
            )
        await trio.sleep(wait)

    def _still(
        self, verdict: Verdict, asker: Asker, entry: Entry, *, downgraded: bool = False
    ) -> Verdict:
        """Judge again after a wait, as the rules may be others by now. Raises Denied."""
        now = self.policy.judge(verdict.ask, asker.layers)
        denied = None if now.allowed else self.policy.denied(now.ask, now)
        if denied is None and downgraded:
            denied = _downgrade(now)
        if denied is not None:
            entry.verdict, entry.rule = "deny", now.rule
            raise denied
        return now

    def _told(self, error: OSError, verdict: Verdict, entry: Entry) -> OSError:
        """Log a failure, and give the error that the asker gets."""
        told: OSError = error
        if isinstance(error, Unconnected):
            # Of the class that Python has for the number, as ConnectionRefusedError.
            told = fault(error.errno or errno.EIO, error.strerror or "")
        elif isinstance(error, Refused):
            told = self.policy.refuse_address(error.address, verdict) or error
            entry.verdict = "deny"
        entry.write(errno.errorcode.get(error.errno or 0, "EIO"))
        return _masked(told, entry.mask)

    async def connect(self, url: Url, asker: Asker, headers: Headers, secure: Secure) -> Connected:
        """Connect for a WebSocket. Raises OSError; cancelled or failed, nothing stays open."""
        request = Request("GET", url, headers)
        verdict, entry, mask = self.judge("GET", url, asker)
        try:
            await self.turn(verdict, math.inf)
            verdict = self._still(verdict, asker, entry)
            sending = self._attach(request, mask)
            entry.mask = mask = sending.mask
            with trio.fail_after(self.limits.header_s):
                stream = await secure(url, verdict.grant)
        except trio.TooSlowError:
            entry.write("ETIMEDOUT")
            raise fault(errno.ETIMEDOUT, f"{url.host} did not answer in time") from None
        except OSError as error:
            raise self._told(error, verdict, entry) from error
        except BaseException:
            entry.write("cancelled")
            raise
        entry.write()
        return Connected(stream, sending.url, sending.headers, mask, verdict.limits)

    def _attach(self, request: Request, mask: Mask) -> Sending:
        headers, url = outgoing(request, masked=mask.active), request.url
        secret = False
        if self.vault is not None:
            attached = self.vault.attach(request.method, url, headers)
            headers, url = attached.headers, attached.url
            if url.origin != request.url.origin:
                raise fault(errno.EIO, "a secret may not lead a request elsewhere")
            secret = bool(attached.used)
            if secret:
                mask = self.vault.mask_for(request.url)
        return Sending(request.method, url, headers, request.body, mask, secret)

    async def _attempts(
        self, trip: Trip, verdict: Verdict, sending: Sending, slot: Slot, entry: Entry
    ) -> Arrival:
        visit = self._visit(trip.asker, verdict, sending)
        if visit is not None and visit.answer is not None:
            entry.status = visit.answer.status
            return await self._checked(Arrival(visit.answer, slot, entry, sending.mask))
        for attempt in itertools.count():
            again = self.patience.allows(sending.method, sending.body, attempt)
            try:
                answer = await self._ask(trip, verdict, sending)
            except TRANSPORT as error:
                told = failure(error, sending.url.host)
                wait = self.patience.after_failure(attempt)
                if not (again and may_repeat(error)) or self._too_late(trip, wait):
                    raise told from error
                entry.write(errno.errorcode.get(told.errno or 0, "EIO"))
            else:
                entry.status = answer.status
                if visit is not None:
                    answer = await visit.settle(answer)
                arrival = Arrival(answer, slot, entry, sending.mask)
                asked = self.patience.after_answer(answer.status, answer.headers, attempt)
                if asked is None or not again or self._too_late(trip, asked):
                    return await self._checked(arrival)
                wait = asked
                await answer.drain()
                entry.write()
            # The next attempt is a request of its own for the log and for the rules.
            trip.entry = entry = evolve(entry, status=None, size=0)
            await trio.sleep(wait)
            await self.turn(verdict, trip.headers_by)
            verdict = self._still(verdict, trip.asker, entry, downgraded=trip.downgraded)
            trip.narrow(verdict)
        raise AssertionError("attempts have no end")

    def _visit(self, asker: Asker, verdict: Verdict, sending: Sending) -> "Visit | None":
        """Ask the cache, unless a secret is on the way: what is asked with one is kept nowhere.

        Under other addresses or in a narrower namespace an answer is another one: neither is given
        what the other got, or has put there by headers that its server answers to.
        """
        if self.cache is None or sending.secret:
            return None
        visit = self.cache.visit(
            (who(asker.caller), asker.layers, verdict.grant),
            sending.method,
            str(sending.url),
            sending.headers,
        )
        if visit is not None:
            sending.headers = visit.headers
        return visit

    def _too_late(self, trip: Trip, wait: float) -> bool:
        return trio.current_time() + wait >= trip.headers_by

    async def _checked(self, arrival: Arrival) -> Arrival:
        """Refuse an answer that cannot be searched for the secrets that it may hold."""
        answer = arrival.answer
        if not arrival.mask.active:
            return arrival
        if answer.status == 206:
            # Not asked for with Range, but servers know other ways (Request-Range, x-ms-range).
            await arrival.refuse("EPROTO")
            raise fault(
                errno.EPROTO,
                f"{answer.host} answers with a part of its body, so that a secret cut in two could"
                " not be masked",
            )
        if not can_decode(answer.codings):
            await arrival.refuse("EPROTO")
            raise fault(
                errno.EPROTO,
                f"{answer.host} answers in a coding that is not decoded, so that a secret in it"
                " could not be masked",
            )
        return arrival

    async def _ask(self, trip: Trip, verdict: Verdict, sending: Sending) -> Answer:
        timeouts: dict[str, float | None] = {}
        header_s = self.limits.header_s if trip.deadline == math.inf else math.inf
        pool = self.pools.of(verdict.grant)
        pool.busy += 1
        try:
            with trio.CancelScope() as scope:

                def count_from(now: float) -> None:
                    scope.deadline = min(now + header_s, trip.headers_by)

                count_from(trio.current_time())
                request = _request(sending, timeouts, count_from)
                response = await pool.handle_async_request(request)
                return await self._answer(response, sending, timeouts)
        finally:
            pool.busy -= 1
        if trip.ends_at <= min(trip.deadline, trio.current_time()):
            raise took_too_long(sending.url.host, trip.ends_by)
        raise fault(errno.ETIMEDOUT, f"{sending.url.host} did not answer in time")

    async def _answer(
        self, response: httpcore2.Response, sending: Sending, timeouts: dict[str, float | None]
    ) -> Answer:
        try:
            return Answer(response, sending.method, sending.url.host, self.limits, timeouts)
        except OSError:
            response.extensions["network_stream"].end()
            with trio.CancelScope(shield=True):
                await response.aclose()
            raise


def _request(
    sending: Sending, timeouts: dict[str, float | None], count_from: Callable[[float], None]
) -> httpcore2.Request:
    url = sending.url
    return httpcore2.Request(
        sending.method,
        httpcore2.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
        headers=on_the_wire(sending.headers, url, sending.method, sending.body),
        content=None if sending.body is None else _upload(sending.body, count_from),
        extensions={"timeout": timeouts},
    )


async def _upload(body: Body, count_from: Callable[[float], None]) -> AsyncGenerator[bytes, None]:
    """Send a body; its sender may take its time, the server may not.

    Raises OSError EINVAL for one of another length than it said.
    """
    size = 0
    async with aclosing(body.chunks()) as chunks:
        count_from(math.inf)
        async for chunk in chunks:
            count_from(trio.current_time())
            size += len(chunk)
            _check_sent(size, body.length, over=True)
            if chunk:
                yield chunk
            count_from(math.inf)
    _check_sent(size, body.length, over=False)
    count_from(trio.current_time())


def _check_sent(size: int, length: int | None, *, over: bool) -> None:
    if length is not None and (size > length if over else size != length):
        raise fault(errno.EINVAL, f"the body has not the length of {length} bytes that it said")


def _downgrade(verdict: Verdict) -> Denied | None:
    """Refuse to go on in the clear, unless a rule of the owner's names http for this."""
    rule = verdict.applied[0][1]
    if rule is not None and rule.pattern.scheme == "http":
        return None
    ask = verdict.ask
    what = f"{ask.method} {ask.url.masked()}"
    return Denied(
        f"{what} is refused: a redirect from https to http, and no rule names http",
        what=what,
        rule=verdict.rule,
        remedy=f"allow {ask.method} {ask.url.origin}/**",
    )


def _masked(error: OSError, mask: Mask) -> OSError:
    if not mask.active:
        return error
    text = mask.text(error.strerror or "")
    if isinstance(error, Denied):
        return Denied(
            text,
            what=mask.text(error.what),
            rule=mask.text(error.rule),
            remedy=mask.text(error.remedy),
        )
    return fault(error.errno or errno.EIO, text)
