"""RelayFs: a Nostr relay as files."""

import errno
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio
from attrs import frozen

from oanix.errors import fault
from oanix.kit import (
    Ctl,
    Folder,
    Opening,
    Stream,
    TableService,
    Text,
    facts,
    integer,
    no_argument,
)
from oanix.kit.lines import Verb
from oanix.lib.nostr import Invalid, encode
from oanix.lib.nostr.nip19 import encode as nip19
from oanix.lib.nostr.nip19 import pubkey_of
from oanix.lib.websocket import WebSocket
from oanix.services.relay.core import Core
from oanix.services.relay.files import Asked, Kept, PolicyFile
from oanix.services.relay.info import TEXTS, check_setting, document
from oanix.services.relay.link import MemoryLink, SocketWire, Wire, memory_link
from oanix.services.relay.management import ADMINS, Management, admins
from oanix.services.relay.outbox import Flusher
from oanix.services.relay.policy import LOCAL, RelayPolicy
from oanix.services.relay.publishing import Publish, Task
from oanix.services.relay.rule_book import RuleBook
from oanix.services.relay.rules import RelayLimits
from oanix.services.relay.session import POLICY, Session, Shared

DATABASE: Final = "events.db"


@frozen
class _Local:
    """Who uses the files: nobody who has proven a key."""

    authed: frozenset[str] = frozenset()
    address: str = LOCAL


class RelayFs(TableService):
    """A Nostr relay.

    cat /relay/info.json            what it says of itself (NIP-11)
    cat /relay/req/kinds=1          stored events, newest first, a JSON line each
    cat /relay/events/ID            one event
    tail -f /relay/live             events as they are taken
    cat event.json > /relay/publish
    cat /relay/policy               who may write and read what; > and >> change it
    """

    name = "relay"
    capability = True

    def __init__(
        self,
        folder: Path | None,
        *,
        url: str = "",
        limits: RelayLimits | None = None,
        version: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the relay that is kept in a folder, or one that ends with this. Raises OSError.

        url: how clients call it, where that is known. The clock gives seconds since the epoch.
        """
        super().__init__()
        self._temporary = tempfile.mkdtemp(prefix="oanix-relay-") if folder is None else ""
        where = Path(self._temporary) if folder is None else folder
        try:
            where.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.core = Core.create(str(where / DATABASE), now=clock, limits=limits, url=url)
        except BaseException:
            self._remove()
            raise
        self.book = RuleBook(folder, self._put_policy)
        self.management = Management(self.core, self.book, clock)
        self._version = version
        self._clock = clock
        self._urls = (url,) if url else ()
        self._shared = Shared(self.core, Flusher(), clock)
        self._sessions: dict[int, Session] = {}
        self._count = 0
        self._nursery: trio.Nursery | None = None
        self.spawn(self._shared.flusher.run)
        self._grow()

    def _put_policy(self, policy: RelayPolicy) -> None:
        self.core.policy = policy

    def _start(self, task: Task) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(task)

    def _grow(self) -> None:
        peer = _Local()
        self.grow(
            (
                ("info.json", 0o444, Text(lambda _: self.document() + b"\n")),
                ("stats", 0o444, Text(lambda _: facts(self.stats()))),
                ("connections", 0o444, Text(lambda _: self._connections())),
                ("ctl", 0o200, Ctl(self._verbs())),
                ("policy", 0o644, PolicyFile(self.book)),
                ("events", 0o555, Folder((), Kept(self.core, peer))),
                ("req", 0o555, Folder((), Asked(self.core, peer))),
                ("live", 0o444, Stream(self.core.accepted, whole=False)),
                ("publish", 0o644, Publish(self.core, peer, self._start)),
            )
        )

    def _verbs(self) -> dict[str, Verb]:
        return {
            **{name: partial(self._set, name) for name in (*TEXTS, "pubkey")},
            "admin": self._admin, "disconnect": self._disconnect,
            "sweep": no_argument(lambda: self._start(self.core.sweep)),
        }  # fmt: skip

    def _set(self, name: str, argument: str, opening: Opening) -> None:
        try:
            self.core.set(name, check_setting(name, argument))
        except ValueError as error:
            raise fault(errno.EINVAL, str(error)) from None

    def _admin(self, argument: str, opening: Opening) -> None:
        verb, _, key = argument.partition(" ")
        if verb not in ("add", "remove"):
            raise fault(errno.EINVAL, "write: admin add npub1… or admin remove npub1…")
        try:
            named = pubkey_of(key.strip())
        except Invalid as error:
            raise fault(errno.EINVAL, error.reason) from None
        kept = [one for one in admins(self.core) if one != named]
        if verb == "add":
            kept.append(named)
        elif len(kept) == len(admins(self.core)):
            raise fault(errno.ENOENT, "this key is no admin")
        self.core.set(ADMINS, " ".join(kept))

    def _disconnect(self, argument: str, opening: Opening) -> None:
        session = self._sessions.get(integer(argument, 1, self._count + 1))
        if session is None:
            raise fault(errno.ENOENT, f"there is no connection {argument}; see connections")
        session.dismiss(POLICY, "the owner of the relay ended this connection")

    # Life ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take events and clients for as long as the block."""
        try:
            async with self.core.running(), super().running(), trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    yield
                finally:
                    self._nursery = None
                    for session in list(self._sessions.values()):
                        session.dismiss()
                    nursery.cancel_scope.deadline = trio.current_time() + 2
        finally:
            self._remove()

    def _remove(self) -> None:
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def status(self) -> dict[str, str]:
        """Tell what `oanix ps` shows."""
        return {name: str(value) for name, value in self.stats().items()}

    def stats(self) -> dict[str, object]:
        """Count what there is and what happened."""
        found: dict[str, object] = {"connections": len(self._sessions), **self.core.stats()}
        if self.book.warning:
            found["warning"] = self.book.warning
        return found

    # Clients -------------------------------------------------------------------------------------

    def document(self) -> bytes:
        """Write what the relay says of itself (NIP-11). Raises OSError."""
        return document(self.core, self._version)

    def connect(self) -> MemoryLink:
        """Connect within this process. Raises OSError ESHUTDOWN."""
        if self._nursery is None:
            raise fault(errno.ESHUTDOWN, "the relay is not running")
        link, wire = memory_link()
        self._nursery.start_soon(self._serve, wire, LOCAL, self._urls or (f"ws://{LOCAL}",))
        return link

    async def talk(self, socket: WebSocket, address: str, urls: Sequence[str]) -> None:
        """Serve a client over a WebSocket until it leaves.

        urls: by what names it may know this relay, beside the one that is set.
        """
        await self._serve(SocketWire(socket), address, (*self._urls, *urls))

    def refuses(self, address: str) -> str | None:
        """Give why nobody may connect from an address, or None."""
        return self.core.policy.connecting(_Local(address=address))

    async def _serve(self, wire: Wire, address: str, urls: Sequence[str]) -> None:
        session = Session(self._shared, wire, address, urls=urls)
        self._count += 1
        number = self._count
        self._sessions[number] = session
        try:
            await session.run()
        finally:
            del self._sessions[number]

    def _connections(self) -> str:
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
