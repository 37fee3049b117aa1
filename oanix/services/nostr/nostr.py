"""Nostr: who the user is, his relays, and what is asked of them. Loaded when it is first used."""

import errno
import logging
import os
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from attrs import field, frozen

from oanix.caller import Caller
from oanix.errors import fault
from oanix.kit.awaited import Start
from oanix.lib.nostr import Event, Filter, Invalid, LocalSigner, Signer, check, make_secret
from oanix.lib.nostr.remote import RemoteSigner
from oanix.lib.web import Asker, Web
from oanix.services.nostr.asking import Seen
from oanix.services.nostr.bunker import Kept, PoolExchange, written
from oanix.services.nostr.keeping import Choice, addresses
from oanix.services.nostr.link import Link, LinkTimes, SocketLink
from oanix.services.nostr.narrow import Access
from oanix.services.nostr.outbox import Delivery, Outbox
from oanix.services.nostr.pool import OWN, Pool, PoolTools, newest_first, no_relay
from oanix.services.nostr.relay_link import RelayLink
from oanix.services.nostr.schema import DATABASE, MIGRATIONS
from oanix.store import Store

if TYPE_CHECKING:
    from oanix.lib.vault import Vault

log = logging.getLogger(__name__)

PROFILE: Final = 0
RELAY_LIST: Final = 10_002
DM_RELAYS: Final = 10_050

OTHERS_MAX: Final = 6
"""Relays that somebody else names, of one event or question (NIP-65)."""

REMEMBERED: Final = 2_048
LISTS_S: Final = 600
MISSED_S: Final = 10
"""For how long a list of relays is believed, and for how long that there is none."""

SENT_S: Final = 2.0
"""How long a question waits for what was published before it."""

SIGNER_S: Final = 5
"""For how long a signer is used before the vault is asked again."""

OWN_ADDRESS: Final = "ws://own"
"""What our own relay calls itself within this process."""


@frozen(kw_only=True)
class Tools:
    """What NostrFs is given, and what tests choose. now: seconds since the epoch."""

    web: Web | None
    relay: Callable[[], Link] | None
    vault: "Vault | None"
    key: str
    now: Callable[[], int]
    random: Callable[[], float] = random.random
    randomness: Callable[[int], bytes] = os.urandom
    times: LinkTimes = field(factory=LinkTimes)


class Nostr:
    """One user's Nostr."""

    def __init__(self, folder: Path, tools: Tools, start: Start) -> None:
        """Open what is kept in a folder. Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.tools = tools
        self.start = start
        self._stores = [Store.open(str(folder / DATABASE), MIGRATIONS) for _ in range(2)]
        self.choice = Choice(self._stores[0])
        self.pool = Pool(
            PoolTools(
                connect=self._connect, address=_named, signer=self.signer,
                may_auth=self._may_auth, start=start, now=tools.now, random=tools.random,
                times=tools.times,
            )
        )  # fmt: skip
        self.outbox = Outbox(
            self._stores[1], self.pool,
            now=tools.now, start=start, limiter=trio.CapacityLimiter(1),
            later=tools.times.later,
        )  # fmt: skip
        self.published = 0
        self._signer: tuple[int, Signer] | None = None
        self._remote: tuple[Kept, RemoteSigner] | None = None
        self._signing = trio.Lock()
        self._lists: OrderedDict[tuple[int, str], tuple[int, Event | None]] = OrderedDict()

    def close(self) -> None:
        """Let go of what is kept."""
        for store in self._stores:
            store.close()

    @property
    def quorum(self) -> int:
        """How many relays have to take an event before its publisher is told that it is there."""
        return int(self.choice.setting("quorum", "1"))

    @property
    def timeout_s(self) -> float:
        """How long is waited for relays."""
        return float(self.choice.setting("timeout", "10"))

    @property
    def patience_s(self) -> float:
        """How long a write may wait: for who signs elsewhere, then for lists of relays."""
        return 2 * self.timeout_s + self.tools.times.lists + 2

    @property
    def follows_lists(self) -> bool:
        """Whether relays that others name are used (NIP-65)."""
        return self.choice.setting("outbox-model", "on") == "on"

    # Who the user is -----------------------------------------------------------------------------

    async def signer(self) -> Signer:
        """Give who signs. Raises OSError EPERM, with the remedy; as the vault does."""
        async with self._signing:
            now = self.tools.now()
            if self._signer is None or not 0 <= now - self._signer[0] < SIGNER_S:
                lent = self._lent()
                signer = await self._remote_signer(lent) if isinstance(lent, Kept) else lent
                self._signer = now, signer
            return self._signer[1]

    async def _remote_signer(self, kept: Kept) -> Signer:
        """Give the signer elsewhere, which is greeted once (NIP-46). Raises OSError."""
        if self._remote is not None and self._remote[0] == kept:
            return self._remote[1]
        tools = self.tools
        signer = RemoteSigner(
            kept.bunker, PoolExchange(self.pool), secret=kept.client, now=tools.now,
            within=self.timeout_s, randomness=tools.randomness,
        )  # fmt: skip
        try:
            # A secret works one time: whoever knows us is not told it again.
            await signer.resume()
        except PermissionError:
            await signer.connect()
        self._remote = kept, signer
        return signer

    def use_bunker(self, url: str) -> None:
        """Have a signer elsewhere sign, and keep that in the vault. Raises EINVAL, EEXIST."""
        vault, key = self.tools.vault, self.tools.key
        if vault is None:
            raise fault(errno.EPERM, "there is no vault to keep it in")
        if key in vault.names():
            raise fault(
                errno.EEXIST, "there is a key already; take it away first: oanix nostr key remove"
            )
        try:
            value = written(url, make_secret(self.tools.randomness))
        except Invalid as error:
            raise fault(errno.EINVAL, error.reason) from None
        try:
            vault.set(key, value)
        except FileNotFoundError:
            remedy = "`oanix nostr key import` makes one and takes the signer"
            raise fault(errno.ENOENT, f"there is no vault to keep it in: {remedy}") from None
        self._signer = None

    def _lent(self) -> LocalSigner | Kept:
        vault, key = self.tools.vault, self.tools.key
        if vault is None:
            raise fault(errno.EPERM, "there is no vault, and so no key to sign with")

        def make(value: bytes) -> LocalSigner | Kept:
            try:
                if value.startswith(b"{"):
                    return Kept.read(value.decode())
                return LocalSigner(
                    bytes.fromhex(value.decode()), now=self.tools.now,
                    randomness=self.tools.randomness,
                )  # fmt: skip
            except ValueError:
                raise fault(errno.EPERM, f"the secret {key!r} is no Nostr key") from None

        try:
            return vault.lend(key, make)
        except FileNotFoundError:
            raise fault(
                errno.EPERM, "there is no key to sign with; make one: oanix nostr key new"
            ) from None

    # Relays --------------------------------------------------------------------------------------

    async def _connect(self, url: str) -> Link:
        if url == OWN:
            if self.tools.relay is None:
                raise no_relay()
            return self.tools.relay()
        if self.tools.web is None:
            raise fault(errno.ENOTCONN, f"{url}: nothing here reaches the web; mount http first")
        return await SocketLink.connect(self.tools.web, url, Asker(Caller()))

    def _may_auth(self, url: str) -> bool:
        # A relay that nobody has chosen is not told who asks.
        chosen = self.choice.find(url)
        return url == OWN or (chosen is not None and chosen.auth)

    def readers(self, access: Access) -> list[str]:
        """List the relays to read from. Raises OSError ENOTCONN; EACCES when none is allowed."""
        return access.allowed(self.choice.urls(reads=True), required=True)

    def writers(self, access: Access) -> list[str]:
        """List the relays to write to. Raises OSError as `readers`."""
        return access.allowed(self.choice.urls(writes=True), required=True)

    async def relays_of(self, author: str, access: Access, *, reads: bool) -> list[str]:
        """List where somebody reads, or else writes (NIP-65); nothing when that is not known."""
        found = await self.replaceable(RELAY_LIST, author, access)
        if found is None:
            return []
        mark = "read" if reads else "write"
        tags = [tag for tag in found.tags if len(tag) > 1 and tag[0] == "r"]
        urls = addresses([tag[1] for tag in tags if len(tag) < 3 or tag[2] in ("", mark)])
        return access.allowed(urls[:OTHERS_MAX], required=False)

    async def replaceable(self, kind: int, author: str, access: Access) -> Event | None:
        """Find the newest event of a kind of which an author has one; remembered for a while."""
        key, now = (kind, author), self.tools.now()
        at, event = self._lists.get(key, (-LISTS_S, None))
        if not 0 <= now - at < (MISSED_S if event is None else LISTS_S):
            event = await self.fresh(kind, author, access)
            self._lists[key] = now, event
            self._lists.move_to_end(key)
            if len(self._lists) > REMEMBERED:
                self._lists.popitem(last=False)
        return event

    async def fresh(
        self, kind: int, author: str, access: Access, d: str | None = None
    ) -> Event | None:
        """Find the newest version of what an author replaces. Raises OSError."""
        tags = {"d": frozenset((d,))} if d else {}
        asked = Filter(
            kinds=frozenset((kind,)),
            authors=frozenset((author,)),
            tags=tags,
            limit=1 if d is None else 5,
        )
        is_list = kind in (RELAY_LIST, DM_RELAYS)
        within = min(self.timeout_s, self.tools.times.lists) if is_list else None
        found = await self.find([asked], access, follow=not is_list, within=within)
        if d is not None:
            found = [event for event in found if (event.first("d") or "") == d]
        return found[0] if found else None

    async def find(
        self, filters: Sequence[Filter], access: Access, *, hints: Iterable[str] = (),
        follow: bool = True, within: float | None = None,
    ) -> list[Event]:  # fmt: skip
        """Find what is stored, newest first. Raises OSError as `Pool.gather`, `readers`."""
        # Who has just published finds it.
        with trio.move_on_after(SENT_S):
            await self.outbox.heard()
        asked = tuple(filters)
        questions = dict.fromkeys(self.readers(access), asked)
        for url in access.allowed(addresses(list(hints))[:OTHERS_MAX], required=False):
            questions.setdefault(url, asked)
        if follow and self.follows_lists and len(self.choice):
            for url, wanted in (await self.homes(asked, access)).items():
                questions.setdefault(url, wanted)
        # There is but one event of an id, whoever gives it.
        ids = [one.ids for one in asked if one.ids and one == Filter(ids=one.ids)]
        named = frozenset[str]().union(*ids) if len(ids) == len(asked) else frozenset[str]()
        return await self.pool.gather(questions.items(), within or self.timeout_s, wanted=named)

    async def homes(
        self, filters: Sequence[Filter], access: Access
    ) -> dict[str, tuple[Filter, ...]]:
        """Say where else the authors of a question write, and what to ask there (NIP-65)."""
        authors = {author for one in filters for author in one.authors or ()}
        if not 0 < len(authors) <= OTHERS_MAX:
            return {}
        urls = await self._lists_of(sorted(authors), access, reads=False)
        return dict.fromkeys(urls, tuple(filters))

    async def _lists_of(self, authors: Sequence[str], access: Access, *, reads: bool) -> list[str]:
        """List where each of these reads, or else writes; nothing of whom that is not known."""
        found: dict[str, list[str]] = {author: [] for author in authors}

        async def look(author: str) -> None:
            try:
                found[author] = await self.relays_of(author, access, reads=reads)
            except OSError as error:
                log.debug("author=%s no list of relays: %s", author, error.strerror)

        async with trio.open_nursery() as nursery:
            for author in authors:
                nursery.start_soon(look, author)
        # The first of each, before the second of anybody.
        ranked = (url for urls in zip_longest(*found.values()) for url in urls if url)
        return list(dict.fromkeys(ranked))[:OTHERS_MAX]

    def leave(self, text: str) -> None:
        """Use a relay no more, and send it nothing that it has not taken. Raises OSError ENOENT."""
        self.outbox.leave(self.choice.drop(text))

    # Publishing ----------------------------------------------------------------------------------

    async def publish(
        self, event: Event, access: Access, urls: Sequence[str] | None = None
    ) -> list[Delivery]:
        """Put an event into the outbox, for the relays of the user and of who is named in it.

        Raises OSError: EINVAL for an event that is not genuine, ENOTCONN, ENOSPC.
        """
        try:
            check(event)
        except Invalid as error:
            raise fault(errno.EINVAL, f"invalid: {error.reason}") from None
        if urls is None:
            urls = self.writers(access)
            if self.follows_lists and len(self.choice):
                named = list(dict.fromkeys(event.values("p")))[:OTHERS_MAX]
                urls = [*urls, *await self._lists_of(named, access, reads=True)]
        self.published += 1
        self._note(event)
        return await self.outbox.send(event, list(dict.fromkeys(urls)))

    def _note(self, event: Event) -> None:
        """Believe what one has just published oneself rather than what relays said before."""
        if event.kind in (RELAY_LIST, DM_RELAYS):
            self._lists.pop((event.kind, event.pubkey), None)

    # What it tells -------------------------------------------------------------------------------

    def facts(self) -> dict[str, object]:
        """Tell how things are."""
        links = self.pool.links
        return {
            "relays": len(self.choice) or "own",
            "connected": sum(link.state == "open" for link in links),
            "pending": self.outbox.pending,
            "published": self.published,
            "refused": self.outbox.refused,
            **({"last-refusal": self.outbox.refusal} if self.outbox.refused else {}),
            "received": sum(link.events for link in links),
            "rejected": sum(link.rejected for link in links),
            "quorum": self.quorum,
            "timeout": f"{self.timeout_s:g}",
            "outbox-model": "on" if self.follows_lists else "off",
        }

    def relay_lines(self) -> str:
        """Describe the relays, those that were chosen first: a line each."""
        links = {link.url: link for link in self.pool.links}
        known = [one.url for one in self.choice] or [OWN]
        lines = []
        for url in [*known, *(url for url in links if url not in known)]:
            chosen, link = self.choice.find(url), links.get(url)
            use = chosen.use if chosen else ("rw" if url == OWN and not len(self.choice) else "-")
            state = link.state if link else "idle"
            if link and state == "idle" and link.error is not None:
                # Between two tries to deliver nobody else wants it; it is not there all the same.
                state = "waiting"
            error = _reason(link) if link else ""
            auth = " no-auth" if chosen and not chosen.auth else ""
            lines.append(f"{url} {use} {state}{auth}{f' {error}' if error else ''}\n")
        return "".join(lines)


def _reason(link: RelayLink) -> str:
    said = (link.error and link.error.strerror) or ""
    return said.removeprefix(f"{link.url}: ")


def _named(url: str) -> str:
    return OWN_ADDRESS if url == OWN else url


def first_seen(events: Iterable[Event]) -> list[Event]:
    """Give each event once, newest first."""
    seen = Seen()
    return newest_first(event for event in events if seen.add(event.id))
