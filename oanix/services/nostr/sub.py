"""Sub: a subscription as files."""

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from oanix.bell import Bell
from oanix.errors import fault
from oanix.kit import (
    Conversation,
    Ctl,
    Handler,
    Opening,
    Ring,
    Rows,
    Stream,
    StreamHandle,
    Text,
    Value,
    facts,
)
from oanix.lib.nostr import Event, Filter, Invalid, decode, encode
from oanix.lib.nostr.query import parse_query, unknown_name
from oanix.node import READABLE, WOULD_BLOCK, Handle, WouldBlock
from oanix.services.nostr.asking import Asking, Seen
from oanix.services.nostr.keeping import address
from oanix.services.nostr.narrow import Access
from oanix.services.nostr.nostr import Nostr
from oanix.services.nostr.pool import refusal

if TYPE_CHECKING:
    from oanix.services.nostr.view import NostrView

FILTERS_MAX: Final = 20
FILTER_LINE: Final = 1 << 18
RECORDS: Final = 4_096
BYTES: Final = 4 << 20
"""What is kept of what comes."""

STORED_RECORDS: Final = 16_384
STORED_BYTES: Final = 32 << 20
"""What is kept of what is stored until somebody has read it: relays give it faster than one reads.
"""


def lagged(count: int) -> bytes:
    """Write what stands for events that a reader missed."""
    return encode({"lagged": count}) + b"\n"


class Sub(Asking):
    """What one subscription hears."""

    def __init__(self, nostr: Nostr) -> None:
        self.ring = Ring(STORED_RECORDS, STORED_BYTES, lagged)
        self.filters: tuple[Filter, ...] = ()
        self.bell = Bell()
        self.received = 0
        self.failed: OSError | None = None
        """Why it has ended, where all relays have refused it."""
        self._nostr = nostr
        self._chosen: tuple[str, ...] = ()
        self._seen = Seen()
        self._name = nostr.pool.name()
        self._relays: dict[str, str] = {}
        """What each relay said last: nothing yet, `finish`, `more`, `-`, or its refusal."""
        self._live_from: int | None = None
        """The number of the record before which all that is stored has come."""

    # Asking --------------------------------------------------------------------------------------

    def knows(self, event_id: str) -> bool:
        return event_id in self._seen

    def deliver(self, event: Event, url: str) -> None:
        if not self.ring.closed and self._seen.add(event.id):
            self.received += 1
            self.ring.put(event.json() + b"\n")

    def stored(self, url: str, hint: str) -> None:
        self._say(url, hint or "-")

    def refused(self, url: str, reason: str) -> None:
        self._say(url, f"closed {reason}")
        if all(said.startswith("closed ") for said in self._relays.values()):
            self.failed = refusal(url, reason)
            self.ring.close()

    def lost(self, url: str, error: OSError) -> None:
        if not self._relays.get(url):
            self._say(url, f"lost {error.strerror}")

    def _say(self, url: str, text: str) -> None:
        if url in self._relays:
            self._relays[url] = text
            if self._live_from is None and self.settled:
                self._live_from = self.ring.next
            self.bell.ring()

    def passed(self, number: int) -> None:
        """Note up to which record somebody has read; beyond what was stored, less is kept."""
        if self._live_from is not None and number >= self._live_from:
            self.ring.max_records, self.ring.max_bytes = RECORDS, BYTES

    def _await_stored(self) -> None:
        self._live_from = None
        self.ring.max_records, self.ring.max_bytes = STORED_RECORDS, STORED_BYTES

    # What its files do ---------------------------------------------------------------------------

    def choose(self, text: str) -> None:
        """Ask these relays from the next filter on. Raises OSError EINVAL."""
        self._chosen = tuple(map(address, text.split()))

    def begin(self, filters: Sequence[Filter], access: Access) -> None:
        """Ask, instead of what was asked before. Raises OSError: no relay, or none is allowed."""
        if self.ring.closed:
            raise fault(errno.ESHUTDOWN, "this subscription has ended; begin another with sub/new")
        if self._chosen:
            urls = access.allowed(self._chosen, required=True)
        else:
            urls = self._nostr.readers(access)
        links = [self._nostr.pool.link(url) for url in urls]
        self._drop()
        self.filters = tuple(filters)
        self._relays = dict.fromkeys(urls, "")
        self._await_stored()
        for link in links:
            link.ask(self._name, self.filters, self)
        self.bell.ring()
        if not self._chosen and self._nostr.follows_lists and len(self._nostr.choice):
            self._nostr.start(lambda: self._widen(access, self.filters))

    async def _widen(self, access: Access, filters: tuple[Filter, ...]) -> None:
        """Ask where else the authors write, once that is known (NIP-65)."""
        homes = await self._nostr.homes(filters, access)
        if self.filters is not filters or self.ring.closed:
            return
        for url, wanted in homes.items():
            if url not in self._relays:
                try:
                    link = self._nostr.pool.link(url)
                except OSError as error:
                    self._relays[url] = f"lost {error.strerror}"
                    continue
                self._relays[url] = ""
                self._await_stored()
                link.ask(self._name, wanted, self)

    def end(self) -> None:
        """Ask no more; what has come can still be read."""
        self._drop()
        if not self.ring.closed:
            self.ring.close()
        self.bell.ring()

    def _drop(self) -> None:
        for link in self._nostr.pool.links:
            if link.url in self._relays:
                link.drop(self._name)

    @property
    def settled(self) -> bool:
        """Whether every relay has given what it has stored, or cannot."""
        return self.ring.closed or (bool(self._relays) and all(self._relays.values()))

    def said(self) -> bytes:
        """Tell what each relay said of what is stored."""
        return "".join(f"{url} {text}\n" for url, text in self._relays.items()).encode()

    def facts(self) -> dict[str, object]:
        """Tell how it goes."""
        state = "ended" if self.ring.closed else ("live" if self.settled else "asking")
        return {
            "state": state if self.filters else "waits for a filter",
            "received": self.received,
            "kept": self.ring.next - self.ring.first,
            **{f"relay {url}": text or "asked" for url, text in self._relays.items()},
        }


class _Events(Stream):
    """What has come and comes; the end of what every relay refuses is an error."""

    def __init__(self, sub: Sub) -> None:
        super().__init__(sub.ring)
        self._sub = sub

    async def open(self, opening: Opening) -> Handle:
        return _EventsHandle(self._sub)


class _EventsHandle(StreamHandle):
    def __init__(self, sub: Sub) -> None:
        super().__init__(sub.ring, sub.ring.first)
        self._sub = sub
        self._told = False

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        answer = super().try_read(size, offset)
        self._sub.passed(self._cursor)
        if answer == b"" and size > 0 and self._sub.failed is not None and not self._told:
            self._told = True
            raise self._sub.failed.with_traceback(None)
        return answer


class _Eose(Handler):
    """Waits until what is stored has come; then a line for each relay."""

    reads = True
    endless = True

    def __init__(self, sub: Sub) -> None:
        self._sub = sub

    async def open(self, opening: Opening) -> Handle:
        return _EoseHandle(self._sub)


class _EoseHandle(Handle):
    stream = True

    def __init__(self, sub: Sub) -> None:
        self._sub = sub
        self._left: bytes | None = None

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if self._left is None:
            if not self._sub.settled:
                return WOULD_BLOCK
            self._left = self._sub.said()
        taken, self._left = self._left[:size], self._left[size:]
        return taken

    async def read(self, size: int, offset: int) -> bytes:
        while (answer := self.try_read(size, offset)) is WOULD_BLOCK:
            await self._sub.bell.wait()
        return answer

    def ready(self, wake: Callable[[], None] | None) -> int:
        if self._left is not None or self._sub.settled:
            return READABLE
        if wake is not None:
            self._sub.bell.listen(wake, self)
        return 0

    def close(self) -> None:
        self._sub.bell.forget(self)


def parse_filters(text: str) -> list[Filter]:
    """Read a line: one filter or a list of them as JSON, or a query. Raises OSError EINVAL."""
    try:
        if not text.startswith(("{", "[")):
            return [parse_query(text)]
        said = decode(text)
        found = [_known(one) for one in (said if isinstance(said, list) else [said])]
    except Invalid as error:
        raise fault(errno.EINVAL, f"this is no filter: {error.reason}") from None
    if not 1 <= len(found) <= FILTERS_MAX:
        raise fault(errno.EINVAL, f"a subscription has 1 to {FILTERS_MAX} filters")
    return found


def _known(said: object) -> Filter:
    """Take a filter whose names are all known: one that is misspelt would ask for everything."""
    found = Filter.parse(said)
    assert isinstance(said, dict)
    unknown = {name for name, value in said.items() if value is not None} - found.decoded().keys()
    if unknown:
        raise unknown_name(min(unknown))
    return found


def rows(view: "NostrView", talk: Conversation) -> Rows:
    """Make the files of a subscription."""
    sub = Sub(view.nostr)
    talk.at_end.append(sub.end)

    def take(text: str, opening: Opening) -> None:
        sub.begin(parse_filters(text.strip()), view.access(opening))

    def show(opening: Opening) -> str:
        said = [one.decoded() for one in sub.filters]
        return encode(said if len(said) != 1 else said[0]).decode() + "\n" if said else ""

    return (
        ("ctl", 0o200, Ctl({
            "filter": take,
            "relays": lambda text, _: sub.choose(text),
            "close": lambda text, _: talk.end(),
        })),
        ("filter", 0o600, Value(show, take, FILTER_LINE)),
        ("events", 0o400, _Events(sub)),
        ("eose", 0o400, _Eose(sub)),
        ("status", 0o400, Text(lambda _: facts({**talk.facts(), **sub.facts()}))),
    )  # fmt: skip
