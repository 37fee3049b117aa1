"""RelayFs: a Nostr relay as files."""

import errno
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from attrs import frozen

from oanix.errors import fault
from oanix.kit import (
    Ctl,
    Folder,
    Opening,
    Ring,
    Stream,
    TableService,
    Text,
    facts,
    integer,
    no_argument,
)
from oanix.kit.lines import Verb
from oanix.node import Handle
from oanix.services.relay.files import SETTINGS, Asked, Kept, PolicyFile, Publish

if TYPE_CHECKING:
    from oanix.services.relay.relay import Relay
    from oanix.services.relay.rules import RelayLimits


@frozen
class _Options:
    url: str
    limits: "RelayLimits | None"
    version: Callable[[], str]
    clock: Callable[[], float]


class RelayFs(TableService):
    """A Nostr relay.

    cat /relay/info.json            what it says of itself (NIP-11)
    cat /relay/req/kinds=1          stored events, newest first, a JSON line each
    cat /relay/events/ID            one event
    cat /relay/live                 events as they are taken, without end
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
        limits: "RelayLimits | None" = None,
        version: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Describe the relay that is kept in a folder, or one that ends with this.

        It is opened when it is first used. url: how clients call it, else as the owner has set it.
        The clock gives seconds since the epoch.
        """
        super().__init__()
        self._folder = folder
        self._temporary = ""
        self._opened: Relay | None = None
        self._nursery: trio.Nursery | None = None
        self._accepted = Ring()
        self._options = _Options(url, limits, version, clock)
        self.grow(
            (
                ("info.json", 0o444, Text(lambda _: self.relay.document() + b"\n")),
                ("stats", 0o444, Text(lambda _: facts(self.relay.stats()))),
                ("connections", 0o444, Text(lambda _: self.relay.connections())),
                ("ctl", 0o200, Ctl(self._verbs())),
                ("policy", 0o644, PolicyFile(self)),
                ("events", 0o555, Folder((), Kept(self))),
                ("req", 0o555, Folder((), Asked(self))),
                ("live", 0o444, _Live(self, self._accepted)),
                ("publish", 0o644, Publish(self)),
            )
        )

    @property
    def relay(self) -> "Relay":
        """The relay, which is opened by its first user. Raises OSError; ESHUTDOWN at the end."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> "Relay":
        if self._nursery is None:
            raise fault(errno.ESHUTDOWN, "the relay is not running")
        # Its libraries take longer to load than most commands run.
        from oanix.services.relay.relay import Relay

        folder = self._folder
        if folder is None:
            self._temporary = self._temporary or tempfile.mkdtemp(prefix="oanix-relay-")
            folder = Path(self._temporary)
        options = self._options
        return Relay(
            folder, self._accepted, url=options.url, limits=options.limits, clock=options.clock,
            start=self.start, version=options.version,
        )  # fmt: skip

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve for as long as the block."""
        try:
            async with super().running(), trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    yield
                finally:
                    self._nursery = None
                    nursery.cancel_scope.cancel()
        finally:
            self._opened = None
            if self._temporary:
                shutil.rmtree(self._temporary, ignore_errors=True)

    def start(self, task: Callable[[], Awaitable[object]]) -> None:
        """Have a task run for as long as the service does. Raises OSError ESHUTDOWN."""
        if self._nursery is None:
            raise fault(errno.ESHUTDOWN, "the relay is not running")
        self._nursery.start_soon(task)

    def status(self) -> dict[str, str]:
        """Tell what `oanix ps` shows."""
        if self._opened is None:
            return {}
        return {name: str(value) for name, value in self._opened.stats().items()}

    def _verbs(self) -> dict[str, Verb]:
        return {
            **{name: partial(self._set, name) for name in SETTINGS},
            "url": self._call,
            "admin": lambda argument, _: self.relay.admin(argument),
            "disconnect": lambda argument, _: self.relay.disconnect(integer(argument, 1, 1 << 62)),
            "sweep": no_argument(lambda: self.relay.sweep()),
        }

    def _set(self, name: str, argument: str, opening: Opening) -> None:
        self.relay.set(name, argument)

    def _call(self, argument: str, opening: Opening) -> None:
        self.relay.call(argument)
        self.relay.core.set("url", argument)


class _Live(Stream):
    """What is taken from now on; listening opens the relay."""

    def __init__(self, of: RelayFs, ring: Ring) -> None:
        super().__init__(ring, whole=False)
        self._of = of

    async def open(self, opening: Opening) -> Handle:
        _ = self._of.relay
        return await super().open(opening)
