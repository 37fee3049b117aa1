"""Letters: private messages with one person (NIP-17)."""

import errno
import logging
from typing import Final

import trio

from oanix.errors import fault
from oanix.kit import Opening, Ring, StreamHandle
from oanix.lib.nostr import Event, Filter, Invalid, Signer, encode
from oanix.lib.nostr.nip19 import encode as nip19
from oanix.lib.nostr.wrap import MESSAGE, WRAP, Rumor, message, rumor, unwrap, wrap
from oanix.node import WouldBlock
from oanix.services.nostr.asking import Asking, Seen
from oanix.services.nostr.keeping import addresses
from oanix.services.nostr.narrow import Access
from oanix.services.nostr.nostr import DM_RELAYS, Nostr
from oanix.services.nostr.pool import OWN, refusal
from oanix.services.nostr.publish import Publishing
from oanix.services.nostr.sub import lagged

log = logging.getLogger(__name__)

FILE: Final = 15
HELD: Final = 1_000
"""Wraps that wait to be opened."""


async def inboxes(nostr: Nostr, access: Access, reader: str, *, mine: bool) -> list[str]:
    """List where somebody takes private messages (kind 10050). Raises OSError EHOSTUNREACH."""
    found = await nostr.replaceable(DM_RELAYS, reader, access)
    if found is not None:
        return access.allowed(addresses(found.values("relay")), required=True)
    if mine:
        return nostr.readers(access)
    if not len(nostr.choice):
        # Nobody but those of this relay can be meant.
        return access.allowed([OWN], required=True)
    raise fault(
        errno.EHOSTUNREACH,
        f"{nip19('npub', reader)} has told no relay for private messages (kind 10050)",
    )


class Inbox(StreamHandle, Asking):
    """The messages of one person, and those sent to him: as they are opened."""

    def __init__(self, nostr: Nostr, access: Access, peer: str) -> None:
        ring = Ring(dropped=lagged)
        super().__init__(ring, 0)
        self._nostr = nostr
        self._access = access
        self._peer = peer
        self._events, self._wraps = trio.open_memory_channel[Event](HELD)
        self._seen, self._rumors = Seen(), Seen()
        self._name = nostr.pool.name()
        self._urls: list[str] = []
        self._silent: set[str] = set()
        """The relays that have ended the subscription."""
        self._lost = 0
        self._scope = trio.CancelScope()
        self._failed: OSError | None = None
        nostr.start(self._run)

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        answer = super().try_read(size, offset)
        if answer == b"" and size > 0 and self._failed is not None:
            raise self._failed.with_traceback(None)
        return answer

    # Asking --------------------------------------------------------------------------------------

    def knows(self, event_id: str) -> bool:
        return event_id in self._seen

    def deliver(self, event: Event, url: str) -> None:
        if self._seen.add(event.id):
            try:
                self._events.send_nowait(event)
            except trio.WouldBlock:
                self._lost += 1

    def stored(self, url: str, hint: str) -> None:
        return None

    def refused(self, url: str, reason: str) -> None:
        log.debug("%s refuses the inbox: %s", url, reason)
        self._silent.add(url)
        if self._silent >= set(self._urls):
            self._end(refusal(url, reason))

    def lost(self, url: str, error: OSError) -> None:
        log.debug("%s: %s", url, error.strerror)

    async def _run(self) -> None:
        with self._scope:
            try:
                await self._listen()
            except OSError as error:
                self._end(error)

    async def _listen(self) -> None:
        nostr = self._nostr
        signer = await nostr.signer()
        asked = Filter(kinds=frozenset((WRAP,)), tags={"p": frozenset((signer.pubkey,))})
        self._urls = await inboxes(nostr, self._access, signer.pubkey, mine=True)
        for url in self._urls:
            nostr.pool.link(url).ask(self._name, (asked,), self)
        async for event in self._wraps:
            found = await _opened(event, signer)
            self._tell_lost()
            if found is not None:
                self._tell(found, signer.pubkey)

    def _tell_lost(self) -> None:
        """Say how many came faster than they could be opened, in their place."""
        lost, self._lost = self._lost, 0
        if lost and not self._ring.closed:
            self._ring.put(lagged(lost))

    def _tell(self, found: Rumor, me: str) -> None:
        event = found.event
        author, readers = (
            event.pubkey,
            [tag[1] for tag in event.tags if tag[0] == "p" and len(tag) > 1],
        )
        among = {author, *readers} - {me} or {me}
        if among != {self._peer} or event.kind not in (MESSAGE, FILE):
            return
        if self._ring.closed or not self._rumors.add(found.id):
            return
        said = {
            "id": found.id, "from": nip19("npub", author), "at": event.created_at,
            "text": event.content,
        }  # fmt: skip
        self._ring.put(encode(said) + b"\n")

    def _end(self, error: OSError | None) -> None:
        self._failed = self._failed or error
        if not self._ring.closed:
            self._ring.close()

    def close(self) -> None:
        self._scope.cancel()
        for link in self._nostr.pool.links:
            if link.url in self._urls:
                link.drop(self._name)
        self._end(None)
        super().close()


async def _opened(event: Event, signer: Signer) -> Rumor | None:
    """Open a wrap; None for what is none. Raises OSError when the signer cannot be asked."""
    try:
        return await unwrap(event, signer)
    except Invalid as error:
        log.debug("event=%s is no genuine wrap: %s", event.id, error.reason)
    except PermissionError as error:
        # A signer elsewhere says this of what it cannot decrypt: anybody can send such a thing.
        log.warning("event=%s is not opened: %s", event.id, error.strerror)
    return None


class Sending(Publishing):
    """An open file whose lines are sent to one person; reading waits as at `publish`."""

    told = False

    def __init__(self, nostr: Nostr, access: Access, opening: Opening, peer: str) -> None:
        super().__init__(nostr, access, opening)
        self._peer = peer

    async def take(self, line: bytes) -> None:
        nostr, access = self._nostr, self._access
        access.check_kind(MESSAGE)
        signer = await nostr.signer()
        urls = await inboxes(nostr, access, self._peer, mine=self._peer == signer.pubkey)
        now = nostr.tools.now()
        one = rumor(signer.pubkey, message(self.text(line), self._peer), now)
        randomness = nostr.tools.randomness
        for reader in dict.fromkeys((self._peer, signer.pubkey)):
            event = await wrap(one, reader, signer, now=now, randomness=randomness)
            if reader == self._peer:
                self._waiting.append(await nostr.publish(event, access, urls))
            else:
                # One's own copy, so that other programs show what was sent.
                mine = await inboxes(nostr, access, reader, mine=True)
                await nostr.publish(event, access, mine)
