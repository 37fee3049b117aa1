"""Session: what a relay and one client say to each other, over any link.

One task reads: a message is acted on before the next is looked at, so that a client that asks more
than it reads waits for itself. Events are the exception: they are handed over and answered when
they are committed, many at a time, up to a bound. Another task sends what the socket does not take
at once (`outbox`).
"""

import logging
import secrets
from collections.abc import Callable, Sequence
from typing import Final

import trio
from attrs import frozen

from oanix.bell import Bell
from oanix.lib.nostr import Event, Invalid
from oanix.lib.nostr.auth import AUTH, check_auth
from oanix.services.relay import messages as say
from oanix.services.relay.core import Core
from oanix.services.relay.link import Wire
from oanix.services.relay.messages import Login, Refusal, Say
from oanix.services.relay.outbox import Flusher, Outbox
from oanix.services.relay.questions import Questions
from oanix.services.relay.rules import Outcome

log = logging.getLogger(__name__)

OUT_BYTES: Final = 4 << 20
"""Bytes that a client may leave unread, beside the answer to its last question."""

PENDING: Final = 512
"""Events of one client that are not answered yet; more are not read."""

PENDING_BYTES: Final = 4 << 20

LOGINS: Final = 32
"""Keys that one connection may prove; and proofs that may fail."""

FAULTS: Final = 100
"""Messages in a row that are no messages, before a client is sent away."""

LAST_S: Final = 2.0
"""How long a client that is sent away may take to read what it was sent, before it is told why."""

POLICY: Final = 1008
GOING: Final = 1001


@frozen(eq=False)
class Shared:
    """What the sessions of one relay have in common."""

    core: Core
    flusher: Flusher
    now: Callable[[], float]
    out_bytes: int = OUT_BYTES


class Session:
    """One client. `authed` and `address` are what the rules see of it (see `core.Peer`)."""

    def __init__(
        self, shared: Shared, wire: Wire, address: str, *, urls: Sequence[str] = ()
    ) -> None:
        """Make it. urls: by what names this relay is known, for proofs of identity (NIP-42)."""
        self.authed: frozenset[str] = frozenset()
        self.address = address
        self.challenge = secrets.token_hex(16)
        self.since = shared.now()
        self.heard = 0
        self._shared = shared
        self._core = shared.core
        self._limits = shared.core.limits
        self._wire = wire
        self._urls = tuple(urls)
        self._scope = trio.CancelScope()
        self._hearing = trio.CancelScope()
        self._out = Outbox(wire, shared.flusher, shared.out_bytes, too_slow=self._too_slow)
        self._questions = Questions(shared.core, self, self._out)
        self._pending = 0
        self._pending_bytes = 0
        self._bell = Bell()
        self._faults = 0
        self._failed_logins = 0
        self._farewell: tuple[int, str] | None = None

    @property
    def said(self) -> int:
        """How many messages it was sent."""
        return self._out.said

    @property
    def subscriptions(self) -> int:
        """How many it has open."""
        return len(self._questions)

    # Life ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Speak until the client leaves, or is sent away."""
        self._out.put(say.challenge(self.challenge))
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send)
                    await self._hear()
                    nursery.cancel_scope.cancel()
        finally:
            self._questions.end_all()
        if self._farewell is not None:
            await self._wire.close(*self._farewell)

    def dismiss(self, code: int = GOING, reason: str = "the relay closes") -> None:
        """Send the client away."""
        self._farewell = code, reason
        self._hearing.cancel()

    def _too_slow(self) -> None:
        self.dismiss(POLICY, "you read slower than you listen to")

    async def _send(self) -> None:
        try:
            await self._out.run()
        except trio.BrokenResourceError:
            self._scope.cancel()

    async def _hear(self) -> None:
        with self._hearing:
            await self._read()
        self._questions.end_all()
        if self._farewell is not None:
            # Half a frame cannot be followed by the reason.
            with trio.move_on_after(LAST_S):
                await self._out.settled()

    async def _read(self) -> None:
        while True:
            try:
                batch = await self._wire.receive()
            except trio.EndOfChannel:
                return
            for text in batch:
                self.heard += 1
                await self._take(text)

    async def _take(self, text: str | bytes) -> None:
        try:
            said = say.parse(text, max_filters=self._limits.filters)
        except Refusal as refusal:
            await self._refused(refusal)
            return
        self._faults = 0
        if isinstance(said, Say):
            await self._publish(said.event, len(text))
            return
        await self._out.room()
        if isinstance(said, Login):
            self._login(said.event)
            return
        try:
            await self._questions.act(said)
        except Refusal as refusal:
            self._out.put(refusal.answer)

    async def _refused(self, refusal: Refusal) -> None:
        self._faults += 1
        self._out.put(refusal.answer)
        if self._faults >= FAULTS:
            self._out.put(say.notice(f"blocked: {FAULTS} messages in a row were none"))
            self.dismiss(POLICY, "too many messages that are none")
            await trio.lowlevel.checkpoint()
        await self._out.room()

    # Events --------------------------------------------------------------------------------------

    async def _publish(self, event: Event, size: int) -> None:
        while self._pending >= PENDING or self._pending_bytes >= PENDING_BYTES:
            await self._bell.wait()
        if event.kind == AUTH:
            self._out.put(say.ok(event.id, False, "invalid: an authentication is sent as AUTH"))
            return
        self._pending += 1
        self._pending_bytes += size

        def done(outcome: Outcome) -> None:
            self._pending -= 1
            self._pending_bytes -= size
            self._bell.ring()
            self._out.put(say.ok(event.id, outcome.ok, outcome.message))

        await self._core.post(event, self, done)

    # Who asks ------------------------------------------------------------------------------------

    def _login(self, event: Event) -> None:
        if self._failed_logins >= LOGINS or len(self.authed) >= LOGINS:
            sentence = "rate-limited: too many authentications on this connection"
            self._out.put(say.ok(event.id, False, sentence))
            return
        try:
            check_auth(event, frozenset(self._urls), self.challenge, int(self._shared.now()))
        except Invalid as error:
            self._failed_logins += 1
            self._out.put(say.ok(event.id, False, f"invalid: {error.reason}"))
            return
        self.authed |= {event.pubkey}
        self._out.put(say.ok(event.id, True, ""))
