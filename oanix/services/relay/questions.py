"""Questions: what a client asks of a relay, and what is open between them for it."""

import logging
from typing import TYPE_CHECKING, Final

import trio

from oanix.lib.nostr import Event, Invalid
from oanix.lib.nostr.negentropy import Items, respond
from oanix.services.relay import messages as say
from oanix.services.relay.core import Core
from oanix.services.relay.messages import Abandon, Ask, Close, Continue, Count, Negotiate, Refusal
from oanix.services.relay.outbox import Outbox
from oanix.services.relay.reading import TimeUp
from oanix.services.relay.rules import Peer, failed

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

HELD_MAX: Final = 10_000
"""Events that come while an answer is looked for; what comes after it is told them first."""

FRAME_MAX: Final = 128 * 1024
"""Bytes of one message of a negotiation."""

ROUNDS_MAX: Final = 200
"""Messages of one negotiation: an honest one has fewer than ten."""

TIME_UP: Final = "error: this takes too long; ask for less at a time"


class Questions:
    """The subscriptions and negotiations of one client."""

    def __init__(self, core: Core, peer: Peer, out: Outbox) -> None:
        self._core = core
        self._peer = peer
        self._out = out
        self._limits = core.limits
        self._subscriptions: dict[str, Callable[[], None]] = {}
        self._negotiations: dict[str, tuple[Items, int]] = {}

    def __len__(self) -> int:
        return len(self._subscriptions)

    def end_all(self) -> None:
        """End everything that is open."""
        for end in self._subscriptions.values():
            end()
        self._subscriptions.clear()
        self._negotiations.clear()

    async def act(self, said: Ask | Count | Close | Negotiate | Continue | Abandon) -> None:
        """Do what a client said. Raises Refusal."""
        if isinstance(said, Ask):
            await self._ask(said)
        elif isinstance(said, Count):
            await self._count(said)
        elif isinstance(said, Close):
            self._end(said.name)
        elif isinstance(said, Negotiate):
            await self._negotiate(said)
        elif isinstance(said, Continue):
            self._go_on(said)
        else:
            self._negotiations.pop(said.name, None)

    # Subscriptions -------------------------------------------------------------------------------

    async def _ask(self, asked: Ask) -> None:
        name = asked.name
        self._end(name)
        most = self._limits.subscriptions
        if len(self._subscriptions) >= most:
            sentence = f"rate-limited: at most {most} subscriptions; close one first"
            raise Refusal(say.closed(name, sentence))
        if refused := self._core.refused_question(asked.filters, self._peer):
            raise Refusal(say.closed(name, refused))
        prefix = say.event_prefix(name)
        listener = _Listener(prefix, self._out)
        try:
            # What comes while the answer is looked for is held, and told after it.
            end = self._core.subscribe(asked.filters, self._peer, listener.deliver)
            try:
                found, more = await self._core.query(asked.filters, self._peer)
            except BaseException:
                end()
                raise
        except (Invalid, OSError, TimeUp) as error:
            raise Refusal(say.closed(name, _told(error))) from error
        self._subscriptions[name] = end
        texts = [prefix + data + b"]" for data in found]
        self._out.answer([*texts, say.eose(name, more=more)])
        # What was stored a moment ago is found, and told to listeners a moment later.
        known = self._core.untold | frozenset(listener.held or ())
        if known:
            known &= frozenset(Event.parse(data).id for data in found)
        if not listener.begin(known):
            self._end(name)
            raise Refusal(say.closed(name, "error: too much came meanwhile; ask again"))

    def _end(self, name: str) -> None:
        end = self._subscriptions.pop(name, None)
        if end is not None:
            end()

    async def _count(self, asked: Count) -> None:
        if refused := self._core.refused_question(asked.filters, self._peer):
            raise Refusal(say.closed(asked.name, refused))
        try:
            count = await self._core.count(asked.filters, self._peer)
        except (Invalid, OSError, TimeUp) as error:
            raise Refusal(say.closed(asked.name, _told(error))) from error
        self._out.put(say.counted(asked.name, count))

    # Negotiations (NIP-77) -----------------------------------------------------------------------

    async def _negotiate(self, asked: Negotiate) -> None:
        name = asked.name
        self._negotiations.pop(name, None)
        if len(self._negotiations) >= self._limits.negotiations:
            sentence = f"blocked: at most {self._limits.negotiations} negotiations; close one"
            raise Refusal(say.unnegotiated(name, sentence))
        if refused := self._core.refused_question((asked.filter,), self._peer):
            raise Refusal(say.unnegotiated(name, refused))
        most = self._limits.negotiated
        if asked.filter.limit is not None:
            most = min(most, asked.filter.limit)
        try:
            found = await self._core.names(asked.filter, self._peer, most + 1)
        except (Invalid, OSError, TimeUp) as error:
            raise Refusal(say.unnegotiated(name, _told(error))) from error
        if len(found) > most and asked.filter.limit is None:
            sentence = f"blocked: this query matches over {most} events; narrow it"
            raise Refusal(say.unnegotiated(name, sentence))
        items = await trio.to_thread.run_sync(Items, found[:most])
        self._negotiations[name] = items, 0
        self._respond(name, asked.message)

    def _go_on(self, said: Continue) -> None:
        if said.name not in self._negotiations:
            raise Refusal(say.unnegotiated(said.name, "closed: no such negotiation is open"))
        self._respond(said.name, said.message)

    def _respond(self, name: str, message: bytes) -> None:
        items, rounds = self._negotiations[name]
        self._negotiations[name] = items, rounds + 1
        try:
            if rounds >= ROUNDS_MAX:
                raise Invalid("this negotiation does not end")
            answer = respond(items, message, FRAME_MAX)
        except Invalid as error:
            del self._negotiations[name]
            raise Refusal(say.unnegotiated(name, f"invalid: {error.reason}")) from None
        self._out.put(say.negotiated(name, answer))


class _Listener:
    """What a subscription hears: held until its stored events are told, then said at once."""

    def __init__(self, prefix: bytes, out: Outbox) -> None:
        self.held: dict[str, bytes] | None = {}
        self._prefix = prefix
        self._out = out
        self._known: set[str] = set()
        self._lost = False

    def deliver(self, event: Event, data: bytes) -> None:
        if self.held is not None:
            self._hold(event, data)
        elif event.id in self._known:
            self._known.discard(event.id)
        else:
            self._out.put(self._prefix + data + b"]")

    def _hold(self, event: Event, data: bytes) -> None:
        assert self.held is not None
        if len(self.held) >= HELD_MAX:
            self._lost = True
        else:
            self.held[event.id] = data

    def begin(self, known: frozenset[str]) -> bool:
        """Say what was held, but for what is known; tells whether nothing was lost."""
        held, self.held = self.held or {}, None
        for name, data in held.items():
            if name not in known:
                self._out.put(self._prefix + data + b"]")
        self._known = set(known) - held.keys()
        return not self._lost


def _told(error: Invalid | OSError | TimeUp) -> str:
    if isinstance(error, Invalid):
        return f"invalid: {error.reason}"
    if isinstance(error, TimeUp):
        return TIME_UP
    log.warning("what is stored could not be read: %s", error.strerror)
    return failed(error)
