"""One relay: connects when there is a reason to, and again when it was cut off.

idle → connecting → open → idle, or waiting after a failure. Nobody but the relay's own tasks speaks
on the connection. What was asked for goes on after a cut where it was; what was sent and not
answered is for its sender to send again, as relays take each event once.
"""

import errno
import logging
from collections import deque
from typing import Any, Final, Literal

import trio
from attrs import define

from oanix.bell import Bell
from oanix.errors import fault
from oanix.lib.nostr import Event, Filter, Invalid, check_many, decode, encode
from oanix.lib.nostr.auth import auth_template
from oanix.services.nostr.asking import Asking, Outcome, Wire
from oanix.services.nostr.link import LOST, Inbox, Link, LinkTools

log = logging.getLogger(__name__)

State = Literal["idle", "connecting", "open", "waiting"]

INLINE: Final = 4
"""Signatures that are checked at once; more go to a thread."""

PASSING: Final = ("rate-limited:", "error:")
"""Why a relay ends a subscription that may be asked for again later."""

WORDS_MAX: Final = 300
CHALLENGE_MAX: Final = 4_096


@define(eq=False)
class _Waiting:
    outcome: Outcome | None = None


class RelayLink:
    """One relay."""

    def __init__(self, url: str, tools: LinkTools) -> None:
        """Make it, not connected."""
        self.url = url
        self.state: State = "idle"
        self.error: OSError | None = None
        self.notice = ""
        self.bell = Bell()
        self.events = 0
        self.rejected = 0
        self.connections = 0
        self._tools = tools
        self._times = tools.times
        self._wires: dict[str, Wire] = {}
        self._answers: dict[str, list[_Waiting]] = {}
        self._out: deque[str] = deque()
        self._publishing = 0
        self._failures = 0
        self._tries = 0
        self._challenge = ""
        self._authed: bool | None = None
        self._proving = trio.Lock()
        self._alive = 0, 0.0
        self._tasks: trio.Nursery | None = None
        self._hurry = False

    # What others ask of it -----------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether there is a reason to be connected."""
        return bool(self._wires or self._publishing)

    def ask(
        self, name: str, filters: tuple[Filter, ...], asking: Asking, *, live: bool = True
    ) -> None:
        """Subscribe under a name; without `live` until what is stored has come."""
        wire = self._wires[name] = Wire(name, filters, asking, live)
        if self.state == "open":
            self._request(wire, wire.begin(self._tools.now(), trio.current_time()))
        elif self.state == "waiting" and self.error is not None:
            asking.lost(self.url, self.error)
        self.bell.ring()

    def drop(self, name: str) -> None:
        """End a subscription."""
        if self._wires.pop(name, None) is not None and self.state == "open":
            self._put(["CLOSE", name])
        self.bell.ring()

    async def publish(self, event: Event) -> Outcome:
        """Send an event and wait for what the relay says of it.

        Raises OSError: as the connection failed, ENOTCONN when it broke, ETIMEDOUT.
        """
        self._publishing += 1
        self.bell.ring()
        try:
            await self._opened()
            outcome = await self._submit(["EVENT", event], event.id)
            if not outcome.ok and outcome.prefix == "auth-required" and await self._proved():
                outcome = await self._submit(["EVENT", event], event.id)
            return outcome
        finally:
            self._publishing -= 1
            self.bell.ring()

    def retry(self) -> None:
        """Try to connect now rather than later."""
        self._failures = 0
        self._hurry = True
        self.bell.ring()

    async def _opened(self) -> None:
        tries = self._tries
        while self.state != "open":
            if self._tries > tries and self.error is not None:
                raise self.error.with_traceback(None)
            await self.bell.wait()

    async def _submit(self, message: list[object], event_id: str) -> Outcome:
        waiting = _Waiting()
        self._answers.setdefault(event_id, []).append(waiting)
        tasks = self._tasks
        self._put(message)
        try:
            with trio.move_on_after(self._times.answer):
                while waiting.outcome is None and self._tasks is tasks is not None:
                    await self.bell.wait()
            if waiting.outcome is not None:
                return waiting.outcome
            if self._tasks is not tasks or tasks is None:
                raise fault(errno.ENOTCONN, f"{self.url}: the connection was lost before an answer")
            raise fault(errno.ETIMEDOUT, f"{self.url} did not answer in {self._times.answer:g} s")
        finally:
            rest = self._answers[event_id]
            rest.remove(waiting)
            if not rest:
                del self._answers[event_id]

    # The connection ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Be connected while there is a reason to; a task of the pool."""
        while True:
            while not self.wanted:
                if self.state != "idle":
                    self._change("idle")
                await self.bell.wait()
            began = trio.current_time()
            if await self._attempt():
                continue
            if trio.current_time() - began > self._times.idle:
                self._failures = 0
            self._failures += 1
            self._tries += 1
            self._change("waiting")
            assert self.error is not None
            for wire in list(self._wires.values()):
                wire.asking.lost(self.url, self.error)
            self._hurry = False
            with trio.move_on_after(self._delay()):
                while not self._hurry:
                    await self.bell.wait()

    async def _attempt(self) -> bool:
        """Connect, and speak until the end; tells whether that was because nobody wants more."""
        self._change("connecting")
        try:
            with trio.fail_after(self._times.connect):
                link = await self._tools.connect()
        except trio.TooSlowError:
            self.error = fault(errno.ETIMEDOUT, f"{self.url}: no connection in time")
            return False
        except LOST as error:
            self.error = _told(self.url, error)
            return False
        except Exception:
            self.error = _defect(self.url)
            return False
        self.connections += 1
        try:
            return await self._converse(link)
        except Exception:
            # Whatever a relay has said to bring this about, it ends no more than its connection.
            self.error = _defect(self.url)
            return False
        finally:
            with trio.CancelScope(deadline=trio.current_time() + self._times.leave, shield=True):
                await _leave(link)

    def _delay(self) -> float:
        times = self._times
        delay = min(times.first_retry * 2.0 ** min(self._failures - 1, 16), times.last_retry)
        if self.error is not None and self.error.errno == errno.EACCES:
            delay = max(delay, times.refused_retry)
        # A relay that comes back must not be met by everybody at once.
        return delay * (0.5 + self._tools.random())

    async def _converse(self, link: Link) -> bool:
        inbox = Inbox()
        self._out.clear()
        self._challenge, self._authed = "", None
        self.error = None
        self._note_alive()
        async with trio.open_nursery() as nursery:
            self._tasks = nursery
            for task in (self._send_all, self._receive_all):
                nursery.start_soon(task, link, inbox)
            for wire in list(self._wires.values()):
                self._request(wire, wire.begin(self._tools.now(), trio.current_time()))
            self._change("open")
            nursery.start_soon(self._watch, inbox)
            try:
                while batch := await inbox.take():
                    await self._take(batch)
            finally:
                self._tasks = None
                for wire in self._wires.values():
                    wire.cut(*self._alive)
                nursery.cancel_scope.cancel()
        idle = self.error is None and not self.wanted
        if self.error is None and not idle:
            self.error = fault(errno.ENOTCONN, f"{self.url}: the connection ended")
        self._change("idle" if idle else "waiting")
        return idle

    async def _watch(self, inbox: Inbox) -> None:
        """Leave when nobody has wanted anything for a while."""
        while True:
            while self.wanted:
                await self.bell.wait()
            with trio.move_on_after(self._times.idle):
                while not self.wanted:
                    await self.bell.wait()
            if not self.wanted:
                inbox.close()
                return

    async def _send_all(self, link: Link, inbox: Inbox) -> None:
        try:
            while True:
                while not self._out:
                    await self.bell.wait()
                with trio.fail_after(self._times.send):
                    await link.send(self._out.popleft())
        except LOST as error:
            self._broke(error, inbox)

    async def _receive_all(self, link: Link, inbox: Inbox) -> None:
        try:
            while True:
                message = await link.receive()
                self._note_alive()
                await inbox.put(message)
        except LOST as error:
            self._broke(error, inbox)

    def _note_alive(self) -> None:
        self._alive = self._tools.now(), trio.current_time()

    def _broke(self, error: BaseException, inbox: Inbox) -> None:
        if self.error is None:
            self.error = _told(self.url, error)
        inbox.close()

    def _change(self, state: State) -> None:
        self.state = state
        self.bell.ring()

    def _put(self, message: list[object]) -> None:
        self._out.append(encode(message).decode())
        self.bell.ring()

    def _request(self, wire: Wire, filters: tuple[Filter, ...]) -> None:
        if filters:
            self._put(["REQ", wire.id, *(one.decoded() for one in filters)])
        else:
            self._settled(wire, "finish")

    # What comes ----------------------------------------------------------------------------------

    async def _take(self, batch: list[str | bytes]) -> None:
        events: list[tuple[Wire, Event]] = []
        for data in batch:
            try:
                message = decode(data)
            except Invalid:
                self.rejected += 1
                continue
            match message:
                case ["EVENT", str(name), dict(found)]:
                    self._sort(name, found, events)
                case [str(), *_]:
                    # Events before it come before it.
                    await self._deliver(events)
                    events = []
                    self._heed(message)
                case _:
                    self.rejected += 1
        await self._deliver(events)
        self.bell.ring()

    def _sort(self, name: str, found: object, events: list[tuple[Wire, Event]]) -> None:
        wire = self._wires.get(name)
        if wire is None:
            return
        try:
            event = Event.of(found)
        except Invalid:
            self.rejected += 1
            return
        if not wire.wants(event):
            self.rejected += 1
            return
        wire.heard(event)
        if not wire.asking.knows(event.id):
            events.append((wire, event))

    async def _deliver(self, events: list[tuple[Wire, Event]]) -> None:
        if not events:
            return
        only = [event for _, event in events]
        if len(only) <= INLINE:
            faults = check_many(only)
        else:
            faults = await trio.to_thread.run_sync(check_many, only, limiter=self._tools.threads)
        now = self._tools.now()
        for (wire, event), wrong in zip(events, faults, strict=True):
            if wrong is not None:
                self.rejected += 1
            elif (event.expiration is None or event.expiration > now) and (
                self._wires.get(wire.id) is wire
            ):
                self.events += 1
                wire.asking.deliver(event, self.url)

    def _heed(self, message: list[Any]) -> None:
        match message:
            case ["EOSE", str(name), *rest] if name in self._wires:
                hint = rest[0] if rest and isinstance(rest[0], str) else ""
                self._ended(self._wires[name], hint)
            case ["OK", str(event_id), bool(ok), *rest]:
                outcome = Outcome(ok, _words(rest[0]) if rest else "")
                for waiting in self._answers.get(event_id, ()):
                    waiting.outcome = outcome
                self.bell.ring()
            case ["CLOSED", str(name), *rest] if name in self._wires:
                self._closed(self._wires[name], _words(rest[0]) if rest else "")
            case ["AUTH", str(challenge)] if len(challenge) <= CHALLENGE_MAX:
                self._challenge, self._authed = challenge, None
            case ["NOTICE", str(text)]:
                self.notice = _words(text)
            case ["EOSE" | "CLOSED", str(), *_]:
                pass  # of a subscription that was ended meanwhile
            case _:
                self.rejected += 1

    def _ended(self, wire: Wire, hint: str) -> None:
        if not wire.current and (page := wire.next_page(hint)):
            self._request(wire, page)
        elif not wire.current and wire.until is not None:
            # A page has an end; what is live has none.
            wire.until = None
            wire.arrive(self._tools.now())
            self._request(wire, wire.again())
        else:
            self._settled(wire, hint)

    def _settled(self, wire: Wire, hint: str) -> None:
        wire.arrive(self._tools.now())
        if not wire.live:
            self.drop(wire.id)
        if not wire.done:
            wire.done = True
            wire.asking.stored(self.url, hint)

    def _closed(self, wire: Wire, reason: str) -> None:
        if reason.startswith("auth-required:") and not wire.authed and self._tasks is not None:
            wire.authed = True
            self._tasks.start_soon(self._prove_for, wire, reason)
            return
        if wire.live and reason.startswith(PASSING) and self._tasks is not None:
            wire.cut(*self._alive)
            wire.asking.lost(self.url, fault(errno.EAGAIN, f"{self.url}: {reason}"))
            self._tasks.start_soon(self._ask_again, wire)
            return
        del self._wires[wire.id]
        wire.asking.refused(self.url, reason or "closed")
        self.bell.ring()

    async def _ask_again(self, wire: Wire) -> None:
        """Go on later with what a relay has ended for a reason that passes."""
        await trio.sleep(self._times.refused_retry)
        if self._wires.get(wire.id) is wire:
            self._request(wire, wire.begin(self._tools.now(), trio.current_time()))

    # Who we are (NIP-42) -------------------------------------------------------------------------

    async def _prove_for(self, wire: Wire, reason: str) -> None:
        proved = await self._proved()
        if self._wires.get(wire.id) is not wire:
            return
        if proved:
            self._request(wire, wire.again())
        else:
            self._closed(wire, reason)

    async def _proved(self) -> bool:
        """Prove to the relay who we are, once a connection; tells whether it was accepted."""
        async with self._proving:
            if self._authed is not None or not self._challenge or not self._tools.may_auth():
                return bool(self._authed)
            try:
                signer = await self._tools.signer()
                event = await signer.sign(auth_template(self._tools.address, self._challenge))
                self._authed = (await self._submit(["AUTH", event], event.id)).ok
            except OSError as error:
                log.debug("relay=%s no proof: %s", self.url, error.strerror)
                self._authed = False
            return self._authed


async def _leave(link: Link) -> None:
    try:
        await link.aclose()
    except LOST as error:
        log.debug("a link that was left had gone: %s", error)


def _defect(url: str) -> OSError:
    """Log the exception that is being handled, and make the error of its relay."""
    log.exception("relay=%s: the connection failed", url)
    return fault(errno.EIO, f"{url}: this failed here; the server's log has more")


def _told(url: str, error: BaseException) -> OSError:
    """Make the error of having no connection, whatever the reason, but for a rule against it."""
    if isinstance(error, PermissionError):
        return error
    said = error.strerror if isinstance(error, OSError) else str(error)
    return fault(errno.ENOTCONN, f"{url}: {_words(said or 'the connection ended')}")


def _words(text: object) -> str:
    """Take what a relay says as one line of bounded length."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:WORDS_MAX])
