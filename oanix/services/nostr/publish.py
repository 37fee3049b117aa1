"""Publishing and signing: files that take events, templates and notes, a line each."""

import errno
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from oanix.errors import fault
from oanix.kit import Opening
from oanix.kit.awaited import AwaitedLines
from oanix.lib.nostr import Event, Invalid, Template, decode, encode
from oanix.lib.nostr.event import KIND_MAX, TIME_MAX
from oanix.node import READABLE, WOULD_BLOCK, WRITABLE, WouldBlock
from oanix.operation import Deed, did
from oanix.services.nostr.narrow import Access
from oanix.services.nostr.nostr import Nostr
from oanix.services.nostr.outbox import Delivery
from oanix.services.nostr.pool import refusal

LINE_MAX: Final = 1 << 20
SHOWN: Final = 280
"""Characters of an event that a record of its publishing shows."""
WAITING_MAX: Final = 1_000
"""Events of one open file whose results nobody has read; the oldest are forgotten."""


def template_of(line: str) -> Event | Template:
    """Read a line: an event, a template, or the text of a note. Raises OSError EINVAL."""
    if not line.startswith("{"):
        return Template(1, line)
    try:
        said = decode(line)
        if isinstance(said, dict) and "sig" in said:
            return Event.of(said)
        return _template(said)
    except Invalid as error:
        raise fault(errno.EINVAL, f"invalid: {error.reason}") from None


def _template(said: object) -> Template:
    if not isinstance(said, dict):
        raise Invalid("a template is an object")
    unknown = set(said) - {"kind", "content", "tags", "created_at", "pubkey", "id"}
    if unknown:
        raise Invalid(
            f"a template has kind, content, tags, created_at, and no {min(unknown)[:40]!r}"
        )
    kind, content, at = said.get("kind", 1), said.get("content", ""), said.get("created_at")
    if type(kind) is not int or not 0 <= kind <= KIND_MAX:
        raise Invalid(f"the kind is not a number from 0 to {KIND_MAX}")
    if not isinstance(content, str):
        raise Invalid("the content is no text")
    if at is not None and (type(at) is not int or not 0 <= at <= TIME_MAX):
        raise Invalid("created_at is no time in seconds since the epoch")
    tags = said.get("tags", [])
    if not isinstance(tags, list) or not all(
        isinstance(tag, list) and tag and all(isinstance(part, str) for part in tag) for tag in tags
    ):
        raise Invalid("tags is a list of lists of texts")
    pubkey = said.get("pubkey")
    if pubkey is not None and not isinstance(pubkey, str):
        raise Invalid("the pubkey is no text")
    return Template(kind, content, tuple(map(tuple, tags)), at, pubkey)


async def signed(nostr: Nostr, access: Access, what: Event | Template) -> Event:
    """Sign a template; an event is signed already. Raises OSError EINVAL, EPERM, EACCES."""
    if isinstance(what, Event):
        return what
    access.check_kind(what.kind)
    signer = await nostr.signer()
    if what.pubkey not in (None, signer.pubkey):
        # Who says one thing as somebody else must not say it as himself by mistake.
        raise fault(errno.EINVAL, "invalid: the pubkey is not that of who signs here; leave it out")
    try:
        return await signer.sign(what)
    except Invalid as error:
        raise fault(errno.EINVAL, f"invalid: {error.reason}") from None


class Signing(AwaitedLines):
    """An open file that gives each template back as a signed event."""

    def __init__(self, nostr: Nostr, access: Access, opening: Opening) -> None:
        super().__init__(opening, nostr.start, LINE_MAX)
        self.write_wait_s = nostr.patience_s
        self._nostr = nostr
        self._access = access
        self._said = bytearray()

    async def take(self, line: bytes) -> None:
        what = template_of(self.text(line))
        if isinstance(what, Event):
            raise fault(errno.EINVAL, "this is signed already")
        event = await signed(self._nostr, self._access, what)
        if len(self._said) > LINE_MAX:
            raise fault(errno.ENOBUFS, "read what was signed first")
        self._said += event.json() + b"\n"

    def try_read(self, size: int, offset: int) -> bytes:
        if size < 0:
            raise fault(errno.EINVAL, "sizes are not negative")
        taken = bytes(self._said[:size])
        del self._said[:size]
        return taken

    def ready(self, wake: Callable[[], None] | None) -> int:
        return READABLE | WRITABLE


class Publishing(AwaitedLines):
    """An open file whose lines are published. Reading waits for the quorum, event by event."""

    told = True

    def __init__(self, nostr: Nostr, access: Access, opening: Opening) -> None:
        super().__init__(opening, nostr.start, LINE_MAX)
        self.write_wait_s = nostr.patience_s
        self._nostr = nostr
        self._access = access
        self._waiting: deque[list[Delivery]] = deque(maxlen=WAITING_MAX)
        self._rest = b""

    async def take(self, line: bytes) -> None:
        event = await signed(self._nostr, self._access, template_of(self.text(line)))
        deliveries = await self._nostr.publish(event, self._access)
        self._waiting.append(deliveries)
        opening, content = self._opening, event.content
        shown = content if len(content) <= SHOWN else f"{content[:SHOWN]}…"
        did(opening.namespace, opening.caller, Deed(
            "publish_event", {"kind": event.kind, "content": shown},
            f"{event.id}, given to {len(deliveries)} relays",
        ))  # fmt: skip

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if size <= 0:
            return b""
        if not self._rest and self._waiting:
            if not _settled(self._waiting[0], self._nostr.quorum):
                return WOULD_BLOCK
            self._conclude()
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    async def read(self, size: int, offset: int) -> bytes:
        while (answer := self.try_read(size, offset)) is WOULD_BLOCK:
            deliveries = self._waiting[0]
            await reached(deliveries, self._nostr.quorum, self._nostr.timeout_s)
            if self._waiting and self._waiting[0] is deliveries:
                self._conclude()
        return answer

    def _conclude(self) -> None:
        """Have the first event's results read next. Raises OSError when too few relays took it."""
        deliveries = self._waiting.popleft()
        self._rest += b"".join(map(result_line, deliveries))
        failed = shortfall(deliveries, self._nostr.quorum, self._nostr.timeout_s)
        if failed is not None:
            raise failed

    def ready(self, wake: Callable[[], None] | None) -> int:
        if self._rest or not self._waiting:
            return READABLE | WRITABLE
        deliveries = self._waiting[0]
        if _settled(deliveries, self._nostr.quorum):
            return READABLE | WRITABLE
        if wake is not None:
            for one in deliveries:
                one.bell.listen(wake, self)
        return WRITABLE

    def close(self) -> None:
        for deliveries in self._waiting:
            for one in deliveries:
                one.bell.forget(self)
        super().close()


def _taken(deliveries: list[Delivery]) -> int:
    return sum(one.outcome is not None and one.outcome.ok for one in deliveries)


def _settled(deliveries: list[Delivery], quorum: int) -> bool:
    if _taken(deliveries) >= min(quorum, len(deliveries)):
        return True
    return all(one.outcome is not None or one.error is not None for one in deliveries)


async def reached(deliveries: list[Delivery], quorum: int, within: float) -> None:
    """Wait until so many relays have taken an event, or all have said something, or time is up."""
    with trio.move_on_after(within):
        async with trio.open_nursery() as nursery:
            changed = trio.Event()

            async def hear(one: Delivery) -> None:
                while True:
                    await one.bell.wait()
                    changed.set()

            for one in deliveries:
                nursery.start_soon(hear, one)
            while not _settled(deliveries, quorum):
                await changed.wait()
                changed = trio.Event()
            nursery.cancel_scope.cancel()


def shortfall(deliveries: list[Delivery], quorum: int, within: float) -> OSError | None:
    """Give the error of an event that too few relays have taken, in a relay's own words."""
    wanted = min(quorum, len(deliveries))
    if _taken(deliveries) >= wanted:
        return None
    for one in deliveries:
        if one.outcome is not None and not one.outcome.ok:
            return refusal(one.url, one.outcome.message)
    for one in deliveries:
        if one.error is not None:
            return one.error.with_traceback(None)
    said = f"{_taken(deliveries)} of {wanted} relays have answered in {within:g} s; it goes on"
    return fault(errno.ETIMEDOUT, said)


def result_line(one: Delivery) -> bytes:
    """Tell what became of an event at one relay."""
    outcome = one.outcome
    said: dict[str, object] = {"id": one.event.id, "relay": one.url}
    if outcome is not None:
        said |= {"ok": outcome.ok, "message": outcome.message}
    else:
        words = ((one.error and one.error.strerror) or "").removeprefix(f"{one.url}: ")
        said |= {"ok": None, "message": words or "on its way"}
    return encode(said) + b"\n"
