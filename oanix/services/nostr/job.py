"""Job: work for others to do (NIP-90), as one open file: write the request, read what comes of it.

The NIP is not recommended any more; this is all that there is of it on this side.
"""

import errno
from collections.abc import Callable
from typing import Final

from oanix.errors import fault
from oanix.kit import Opening, Ring, StreamHandle
from oanix.kit.awaited import AwaitedLines
from oanix.lib.nostr import Event, Filter, Template
from oanix.node import READABLE, WRITABLE, WouldBlock
from oanix.services.nostr.asking import Asking, Seen
from oanix.services.nostr.narrow import Access
from oanix.services.nostr.nostr import Nostr
from oanix.services.nostr.publish import LINE_MAX, signed, template_of

JOB_KINDS: Final = range(5_000, 6_000)
RESULT: Final = 1_000
FEEDBACK: Final = 7_000


class Job(AwaitedLines, Asking):
    """One job: the feedback of who works on it, its result, then the end."""

    def __init__(self, nostr: Nostr, access: Access, opening: Opening, kind: int) -> None:
        super().__init__(opening, nostr.start, LINE_MAX)
        self._nostr = nostr
        self._access = access
        self._kind = kind
        self._ring = Ring()
        self._reader = StreamHandle(self._ring, 0)
        self._seen = Seen()
        self._name = nostr.pool.name()
        self._urls: list[str] = []

    async def take(self, line: bytes) -> None:
        if self._urls:
            raise fault(errno.EBUSY, "this job was given already; open the file again for another")
        access = self._access
        event = await signed(self._nostr, access, self._request(self.text(line)))
        self._urls = self._nostr.readers(access)
        asked = Filter(
            kinds=frozenset((FEEDBACK, self._kind + RESULT)), tags={"e": frozenset((event.id,))}
        )
        for url in self._urls:
            self._nostr.pool.link(url).ask(self._name, (asked,), self)
        await self._nostr.publish(event, access)

    def _request(self, text: str) -> Template | Event:
        found = template_of(text)
        if not text.startswith("{"):
            return Template(self._kind, "", (("i", text, "text"),))
        if found.kind not in (self._kind, 1):
            raise fault(errno.EINVAL, f"a job here has the kind {self._kind}")
        if isinstance(found, Template):
            return Template(self._kind, found.content, found.tags, found.created_at)
        return found

    # Asking --------------------------------------------------------------------------------------

    def knows(self, event_id: str) -> bool:
        return event_id in self._seen

    def deliver(self, event: Event, url: str) -> None:
        if self._ring.closed or not self._seen.add(event.id):
            return
        self._ring.put(event.json() + b"\n")
        if event.kind == self._kind + RESULT:
            self._ring.close()

    def stored(self, url: str, hint: str) -> None:
        return None

    def refused(self, url: str, reason: str) -> None:
        return None

    def lost(self, url: str, error: OSError) -> None:
        return None

    # As an open file -----------------------------------------------------------------------------

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if not self._urls:
            raise fault(errno.EINVAL, "write the job first")
        return self._reader.try_read(size, offset)

    async def read(self, size: int, offset: int) -> bytes:
        return await self._reader.read(size, offset)

    def ready(self, wake: Callable[[], None] | None) -> int:
        return WRITABLE | (self._reader.ready(wake) if self._urls else READABLE)

    def close(self) -> None:
        for link in self._nostr.pool.links:
            if link.url in self._urls:
                link.drop(self._name)
        self._reader.close()
        super().close()
