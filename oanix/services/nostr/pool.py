"""Pool: the relays that are in use, and questions to several of them at once."""

import errno
import itertools
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import trio
from attrs import frozen

from oanix.bell import Bell
from oanix.errors import fault
from oanix.lib.nostr import Event, Filter, Signer
from oanix.services.nostr.asking import Asking
from oanix.services.nostr.link import Link, LinkTimes, LinkTools
from oanix.services.nostr.relay_link import RelayLink

OWN: Final = "own"
"""What our own relay, in the same process, is called in place of a URL."""

LINKS_MAX: Final = 128
"""Relays that are in use at a time."""

GATHERED_MAX: Final = 20_000
GATHERED_BYTES: Final = 32 << 20
"""Events of one answer, all relays together."""


@frozen(kw_only=True)
class PoolTools:
    """What a pool is given: the way to relays, and what tests choose."""

    connect: Callable[[str], Awaitable[Link]]
    address: Callable[[str], str]
    signer: Callable[[], Awaitable[Signer]]
    may_auth: Callable[[str], bool]
    start: Callable[[Callable[[], Awaitable[object]]], None]
    now: Callable[[], int]
    random: Callable[[], float]
    times: LinkTimes


class Pool:
    """The relays in use, by their URLs."""

    def __init__(self, tools: PoolTools) -> None:
        self._tools = tools
        self._links: OrderedDict[str, RelayLink] = OrderedDict()
        self._scopes: dict[str, trio.CancelScope] = {}
        self._threads = trio.CapacityLimiter(2)
        self._names = itertools.count(1)

    @property
    def links(self) -> list[RelayLink]:
        """Those that were used lately."""
        return list(self._links.values())

    def link(self, url: str) -> RelayLink:
        """Give a relay. Raises OSError EMFILE when too many others are in use, ESHUTDOWN."""
        link = self._links.get(url)
        if link is not None:
            self._links.move_to_end(url)
            return link
        if len(self._links) >= LINKS_MAX:
            self._make_room()
        tools = self._tools
        made = RelayLink(
            url,
            LinkTools(
                connect=lambda: tools.connect(url), address=tools.address(url),
                signer=tools.signer, may_auth=lambda: tools.may_auth(url),
                threads=self._threads, now=tools.now, random=tools.random, times=tools.times,
            ),
        )  # fmt: skip
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await made.run()

        tools.start(run)
        self._links[url], self._scopes[url] = made, scope
        return made

    def _make_room(self) -> None:
        for url, link in self._links.items():
            if not link.wanted:
                self.forget(url)
                return
        raise fault(errno.EMFILE, f"{LINKS_MAX} relays are in use; close subscriptions first")

    def forget(self, url: str) -> None:
        """Leave a relay, whatever is under way."""
        if self._links.pop(url, None) is not None:
            self._scopes.pop(url).cancel()

    def name(self) -> str:
        """Make a name for a subscription, which no other has."""
        return f"o{next(self._names)}"

    async def gather(
        self, asked: Iterable[tuple[str, tuple[Filter, ...]]], within: float,
        *, wanted: frozenset[str] = frozenset(),
    ) -> list[Event]:  # fmt: skip
        """Ask relays for what they have stored: newest first, each event once.

        wanted: ids, where nothing else is asked for. Gives what came when all have answered, all
        that is wanted is there, or time is up. Raises OSError: ENOTCONN or why no
        relay could be asked, ETIMEDOUT when none answered, EMSGSIZE.
        """
        gathering = _Gathering()
        name = self.name()
        links: list[RelayLink] = []
        try:
            for url, filters in asked:
                link = self.link(url)
                gathering.waiting.add(url)
                links.append(link)
                link.ask(name, filters, gathering, live=False)
            with trio.move_on_after(within):
                while gathering.goes_on(wanted):
                    await gathering.bell.wait()
        finally:
            for link in links:
                link.drop(name)
        return gathering.result(within)


class _Gathering(Asking):
    """What relays say to one question."""

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self.bell = Bell()
        self.error: OSError | None = None
        self._events: dict[str, Event] = {}
        self._size = 0
        self._answered = 0
        self._failed: list[OSError] = []

    def knows(self, event_id: str) -> bool:
        return event_id in self._events

    def deliver(self, event: Event, url: str) -> None:
        self._size += len(event.content) + 100 * len(event.tags) + 400
        if len(self._events) >= GATHERED_MAX or self._size > GATHERED_BYTES:
            self.error = fault(errno.EMSGSIZE, "these are too many events; add limit, or since")
            self.bell.ring()
            return
        self._events[event.id] = event
        self.bell.ring()

    def stored(self, url: str, hint: str) -> None:
        self._answered += 1
        self._done(url)

    def refused(self, url: str, reason: str) -> None:
        self._failed.append(refusal(url, reason))
        self._done(url)

    def lost(self, url: str, error: OSError) -> None:
        self._failed.append(error)
        self._done(url)

    def _done(self, url: str) -> None:
        self.waiting.discard(url)
        self.bell.ring()

    def goes_on(self, wanted: frozenset[str]) -> bool:
        """Tell whether there is anything to wait for."""
        complete = bool(wanted) and wanted <= self._events.keys()
        return bool(self.waiting) and self.error is None and not complete

    def result(self, within: float) -> list[Event]:
        """Give what came. Raises OSError when nobody answered."""
        if self.error is not None:
            raise self.error
        if self._answered or self._events:
            return newest_first(self._events.values())
        if self.waiting:
            raise fault(errno.ETIMEDOUT, f"no relay answered in {within:g} s")
        if self._failed:
            raise self._failed[0].with_traceback(None)
        raise no_relay()


def newest_first(events: Iterable[Event]) -> list[Event]:
    """Sort as relays do: of one time the lowest id first (NIP-01)."""
    return sorted(events, key=lambda event: (-event.created_at, event.id))


def no_relay() -> OSError:
    """Make the error of having nobody to ask."""
    return fault(
        errno.ENOTCONN, "there is no relay here; write to ctl: relay add wss://relay.example.com"
    )


_NUMBERS: Final = {
    "invalid": errno.EINVAL, "pow": errno.EINVAL, "unsupported": errno.EOPNOTSUPP,
    "blocked": errno.EACCES, "restricted": errno.EACCES, "auth-required": errno.EACCES,
    "rate-limited": errno.EAGAIN, "error": errno.EIO,
}  # fmt: skip


def refusal(url: str, message: str) -> OSError:
    """Make the error of what a relay says, in its own words."""
    return fault(_NUMBERS.get(message.partition(":")[0], errno.EACCES), f"{url}: {message}")
