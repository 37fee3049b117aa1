"""Relay: the core, its rules and its clients together. What loads slowly is loaded with it."""

import errno
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from oanix.errors import fault
from oanix.kit import Ring
from oanix.lib.nostr import Invalid, encode
from oanix.lib.nostr.nip19 import encode as nip19
from oanix.lib.nostr.nip19 import pubkey_of
from oanix.lib.websocket import WebSocket
from oanix.services.relay.core import Core
from oanix.services.relay.info import check_setting, document
from oanix.services.relay.link import MemoryLink, SocketWire, Wire, memory_link
from oanix.services.relay.management import ADMINS, Management, admins
from oanix.services.relay.outbox import Flusher
from oanix.services.relay.policy import LOCAL, Guest, RelayPolicy
from oanix.services.relay.rule_book import RuleBook
from oanix.services.relay.rules import RelayLimits
from oanix.services.relay.schema import MIGRATIONS
from oanix.services.relay.session import GOING, POLICY, Session, Shared
from oanix.store import Store

log = logging.getLogger(__name__)

DATABASE: Final = "events.db"

OWN: Final = "ws://own"
"""How this relay is called within its process."""

FAREWELL_S: Final = 1.0

_URL: Final = re.compile(r"wss?://[^\s/?#]+(/[^\s?#]*)?")

Start = Callable[[Callable[[], Awaitable[object]]], None]
"""Has a task run for as long as the service does."""


class Relay:
    """A relay that is kept in a folder."""

    def __init__(
        self, folder: Path, accepted: Ring, *, url: str, limits: RelayLimits | None,
        clock: Callable[[], float], start: Start, version: Callable[[], str],
    ) -> None:  # fmt: skip
        """Open it, and have it run. Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = str(folder / DATABASE)
        _require_known(database)
        self.core = Core.create(database, now=clock, limits=limits, accepted=accepted)
        self.url = url or self.core.settings().get("url", "")
        self.core.url = self.url
        self.book = RuleBook(folder, self._put_policy)
        self.management = Management(self.core, self.book, clock)
        self._version = version
        self._clock = clock
        self._start = start
        self._shared = Shared(self.core, Flusher(), clock)
        self._sessions: dict[int, Session] = {}
        self._count = 0
        start(self._run)

    async def _run(self) -> None:
        async with self.core.running():
            await self._shared.flusher.run()

    def _put_policy(self, policy: RelayPolicy) -> None:
        self.core.policy = policy

    # Clients -------------------------------------------------------------------------------------

    def connect(self) -> MemoryLink:
        """Connect within this process."""
        link, wire = memory_link()

        async def serve() -> None:
            try:
                async with self._serving(wire, LOCAL, (self.url, OWN)) as session:
                    await session.run()
            except Exception:
                # One conversation that fails ends no other, as on the port.
                log.exception("a conversation within this process failed")

        self._start(serve)
        return link

    async def talk(self, socket: WebSocket, address: str, urls: Sequence[str]) -> None:
        """Serve a client over a WebSocket until it leaves.

        urls: by what names it may know this relay, beside the one that is set.
        """
        async with self._serving(SocketWire(socket), address, (self.url, *urls)) as session:
            await session.run()

    def refuses(self, address: str) -> str | None:
        """Give why nobody may connect from an address, or None."""
        return self.core.policy.connecting(Guest(address))

    def dismiss_all(self) -> None:
        """Send every client away: the relay closes."""
        for session in list(self._sessions.values()):
            session.dismiss()

    @asynccontextmanager
    async def _serving(
        self, wire: Wire, address: str, urls: Sequence[str]
    ) -> AsyncIterator[Session]:
        named = [url for url in urls if url]
        session = Session(self._shared, wire, address, urls=named)
        self._count += 1
        number = self._count
        self._sessions[number] = session
        try:
            yield session
        finally:
            del self._sessions[number]
            # Cancelled, it has told nobody yet; the other end must not wait for ever.
            with trio.CancelScope(deadline=trio.current_time() + FAREWELL_S, shield=True):
                await wire.close(GOING, "the relay closes")

    # What it tells -------------------------------------------------------------------------------

    def document(self) -> bytes:
        """Write what the relay says of itself (NIP-11). Raises OSError."""
        return document(self.core, self._version())

    def stats(self) -> dict[str, object]:
        """Count what there is and what happened."""
        found: dict[str, object] = {"connections": len(self._sessions), **self.core.stats()}
        if self.book.warning:
            found["warning"] = self.book.warning
        return found

    def connections(self) -> str:
        """Describe each client as a JSON line."""
        return "".join(
            encode(
                {
                    "number": number, "address": session.address,
                    "seconds": int(self._clock() - session.since), "heard": session.heard,
                    "said": session.said, "subscriptions": session.subscriptions,
                    "keys": [nip19("npub", key) for key in sorted(session.authed)],
                }
            ).decode() + "\n"
            for number, session in self._sessions.items()
        )  # fmt: skip

    # What its owner does -------------------------------------------------------------------------

    def set(self, name: str, value: str) -> None:
        """Keep a setting. Raises OSError EINVAL."""
        try:
            checked = check_setting(name, value)
        except ValueError as error:
            raise fault(errno.EINVAL, str(error)) from None
        self.core.set(name, checked)

    def call(self, url: str) -> None:
        """Say how clients call this relay, until it ends. Raises OSError EINVAL."""
        if url and not _URL.fullmatch(url):
            raise fault(errno.EINVAL, f"{url[:60]!r} is no relay; write wss://relay.example.com/")
        self.url = self.core.url = url

    def admin(self, argument: str) -> None:
        """Let a key manage the relay, or no more. Raises OSError EINVAL, ENOENT."""
        verb, _, key = argument.partition(" ")
        if verb not in ("add", "remove"):
            raise fault(errno.EINVAL, "write: admin add npub1… or admin remove npub1…")
        try:
            named = pubkey_of(key.strip())
        except Invalid as error:
            raise fault(errno.EINVAL, error.reason) from None
        before = admins(self.core)
        kept = [one for one in before if one != named]
        if verb == "add":
            kept.append(named)
        elif kept == before:
            raise fault(errno.ENOENT, "this key is no admin")
        self.core.set(ADMINS, " ".join(kept))

    def disconnect(self, number: int) -> None:
        """Send one client away. Raises OSError ENOENT."""
        session = self._sessions.get(number)
        if session is None:
            raise fault(errno.ENOENT, f"there is no connection {number}; see connections")
        session.dismiss(POLICY, "the owner of the relay ended this connection")

    def sweep(self) -> None:
        """Remove what has expired now, and not within the next minute."""
        self._start(self.core.sweep)


def _require_known(database: str) -> None:
    """Refuse tables of the same number that are not these. Raises OSError EOPNOTSUPP."""
    with Store.open(database, MIGRATIONS) as store:
        if not store.execute("SELECT 1 FROM sqlite_schema WHERE name = 'numbered'"):
            raise fault(
                errno.EOPNOTSUPP,
                f"{database} has tables of before the first release, which cannot be read any "
                "more: move it away, and a new one is made",
            )
