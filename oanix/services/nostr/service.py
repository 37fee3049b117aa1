"""NostrFs: Nostr as files, for one user whose key is never shown."""

import errno
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import trio
from attrs import evolve

from oanix.errors import fault
from oanix.kit import ViewedService
from oanix.node import Node
from oanix.services.nostr.narrow import OPTIONS, Narrow
from oanix.services.nostr.schema import DATABASE, has_pending
from oanix.services.nostr.view import NostrView

if TYPE_CHECKING:
    from oanix.lib.policy import Policy
    from oanix.lib.vault import Vault
    from oanix.lib.web import Web
    from oanix.services.nostr.link import Link, LinkTimes
    from oanix.services.nostr.nostr import Nostr


log = logging.getLogger(__name__)

FLUSH_S = 2.0
"""How long a command that ends waits for relays to take what it published."""


class NostrFs(ViewedService[Narrow]):
    """Nostr. The key is a secret (oanix nostr key new), and is never shown.

    npub pubkey    who you are
    relays ctl     where: echo 'relay add wss://relay.example.com' > ctl
                   Without one, the relay at /relay is spoken to.
    publish        echo 'hello' > publish: a note; or an event or a template as JSON, a line each.
                   Read the same open file for what each relay says.
    sign           write a template, read the signed event; nothing is published
    req/QUERY      cat 'req/kinds=1&#t=oanix&limit=20': stored events, a JSON line each
    event/ID  addr/KIND:PUBKEY:D  profile/NPUB/{name,about,picture,relays,json,…}
    sub/new        read it for the number N of a subscription; then sub/N/ has
      filter       write a filter (JSON or a query), or a JSON list of them: it begins
      events       read events as they come, a JSON line each
      eose         waits until what is stored has come
      ctl status   relays URL…, close
    dm/NPUB/inbox  private messages as they come; echo 'hi' > dm/NPUB/send (NIP-17)
    dvm/KIND/new   write a job's input, read its feedback and its result (NIP-90)
    """

    name = "nostr"
    capability = True
    options: ClassVar[Mapping[str, str]] = OPTIONS

    def __init__(
        self,
        folder: Path | None,
        *,
        web: "Web | None" = None,
        policy: "Policy | None" = None,
        relay: "Callable[[], Link] | None" = None,
        vault: "Vault | None" = None,
        key: str = "nostr",
        clock: Callable[[], float] = time.time,
        times: "LinkTimes | None" = None,
    ) -> None:
        """Describe what is kept in a folder, or ends with this; it is opened when first used.

        relay: connects to our own relay, in this process. key: the secret that holds the key. The
        clock gives seconds since the epoch.
        """
        super().__init__()
        self.policy = policy
        self._folder = folder
        self._temporary = ""
        self._given = (web, relay, vault, key, clock, times)
        self._opened: Nostr | None = None
        self.root = self.view(()).root

    def make_view(self, layers: tuple[Narrow, ...]) -> NostrView:
        """Make a view."""
        return NostrView(self, layers)

    def layer_of(self, options: Mapping[str, str]) -> Narrow:
        """Read the options of a bind."""
        return Narrow.of(options)

    def mounted(self, options: Mapping[str, str]) -> Node:
        """Give the root as its owner mounts it: kinds= may name those with which one logs in."""
        if not options:
            return self.root
        super().narrow(self.root, {o: v for o, v in options.items() if o not in self.options})
        return self.view((evolve(Narrow.of(options), by_owner=True),)).root

    @property
    def nostr(self) -> "Nostr":
        """What does the work, opened by its first user. Raises OSError; ESHUTDOWN at the end."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> "Nostr":
        if not self.started:
            raise fault(errno.ESHUTDOWN, "nostr is not running")
        # Its libraries take longer to load than most commands run.
        from oanix.services.nostr.link import LinkTimes
        from oanix.services.nostr.nostr import Nostr, Tools

        folder = self._folder
        if folder is None:
            self._temporary = self._temporary or tempfile.mkdtemp(prefix="oanix-nostr-")
            folder = Path(self._temporary)
        web, relay, vault, key, clock, times = self._given
        tools = Tools(
            web=web, relay=relay, vault=vault, key=key, now=lambda: int(clock()),
            times=times or LinkTimes(),
        )  # fmt: skip
        return Nostr(folder, tools, self._start)

    def _start(self, task: Callable[[], Awaitable[object]]) -> None:
        self.start(lambda: self._guarded(task))

    async def _guarded(self, task: Callable[[], Awaitable[object]]) -> None:
        try:
            await task()
        except Exception:
            # A defect of one task is no end of the whole namespace.
            log.exception("a task of nostr failed")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve for as long as the block; what an earlier run has left in the outbox goes on."""
        try:
            async with super().running():
                self._take_up()
                yield
                if self._opened is not None:
                    with trio.move_on_after(FLUSH_S):
                        await self._opened.outbox.emptied()
        finally:
            if self._opened is not None:
                self._opened.close()
                self._opened = None
            if self._temporary:
                shutil.rmtree(self._temporary, ignore_errors=True)

    def _take_up(self) -> None:
        """Go on with what an earlier run could not deliver."""
        path = self._folder and self._folder / DATABASE
        try:
            if path and path.exists() and has_pending(str(path)):
                _ = self.nostr
        except OSError as error:
            # What is broken is told to who uses it; the rest of the namespace works.
            log.warning("the outbox cannot be read: %s", error.strerror)

    def status(self) -> dict[str, str]:
        """Tell how it is."""
        if self._opened is None:
            return {}
        return {name: str(value) for name, value in self._opened.facts().items()}
