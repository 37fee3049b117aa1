"""Job: work for others to do (NIP-90), as one open file: write the request, read what comes of it.

The NIP is not recommended any more; this is all that there is of it on this side.
"""

import errno
from collections.abc import Callable
from typing import Final

from attrs import evolve

from oanix.errors import fault
from oanix.kit import Opening, Ring, StreamHandle
from oanix.kit.awaited import AwaitedLines
from oanix.lib.nostr import Event, Filter, Template
from oanix.node import READABLE, WOULD_BLOCK, WRITABLE, WouldBlock
from oanix.services.nostr.asking import Asking, Seen
from oanix.services.nostr.narrow import Access
from oanix.services.nostr.nostr import Nostr
from oanix.services.nostr.outbox import Delivery
from oanix.services.nostr.pool import refusal
from oanix.services.nostr.publish import LINE_MAX, reached, shortfall, signed, template_of

NOTE: Final = 1
JOB_KINDS: Final = range(5_000, 6_000)
RESULT: Final = 1_000
FEEDBACK: Final = 7_000


class Job(AwaitedLines, Asking):
    """One job: the feedback of who works on it, its result, then the end."""

    def __init__(self, nostr: Nostr, access: Access, opening: Opening, kind: int) -> None:
        super().__init__(opening, nostr.start, LINE_MAX)
        self.write_wait_s = nostr.patience_s
        self._nostr = nostr
        self._access = access
        self._kind = kind
        self._ring = Ring()
        self._reader = StreamHandle(self._ring, 0)
        self._seen = Seen()
        self._name = nostr.pool.name()
        self._urls: list[str] = []
        self._silent: set[str] = set()
        """The relays that have ended the subscription."""
        self._failed: OSError | None = None

    async def take(self, line: bytes) -> None:
        if self._urls:
            raise fault(errno.EBUSY, "this job was given already; open the file again for another")
        access = self._access
        event = await signed(self._nostr, access, self._request(self.text(line)))
        self._urls = self._nostr.readers(access)
        asked = Filter(
            kinds=frozenset((FEEDBACK, self._kind + RESULT)), tags={"e": frozenset((event.id,))}
        )
        try:
            for url in self._urls:
                self._nostr.pool.link(url).ask(self._name, (asked,), self)
            deliveries = await self._nostr.publish(event, access)
        except BaseException:
            self._drop()
            raise
        self._nostr.start(lambda: self._follow(deliveries))

    async def _follow(self, deliveries: list[Delivery]) -> None:
        """Tell the reader when no relay takes the request: nobody would ever answer it."""
        await reached(deliveries, 1, self._nostr.timeout_s)
        failed = shortfall(deliveries, 1, self._nostr.timeout_s)
        if failed is not None and not self._ring.closed:
            refused = all(one.outcome is not None and not one.outcome.ok for one in deliveries)
            self._fail(failed, for_good=refused)

    def _fail(self, error: OSError, *, for_good: bool) -> None:
        self._failed = error
        if for_good and not self._ring.closed:
            self._ring.close()
        self._ring.bell.ring()

    def _drop(self) -> None:
        for link in self._nostr.pool.links:
            if link.url in self._urls:
                link.drop(self._name)
        self._urls = []

    def _request(self, text: str) -> Template | Event:
        if not text.startswith("{"):
            return Template(self._kind, "", (("i", text, "text"),))
        found = template_of(text)
        # A template that names no kind is one of a note.
        unnamed = isinstance(found, Template) and found.kind == NOTE
        if found.kind != self._kind and not unnamed:
            raise fault(errno.EINVAL, f"a job here has the kind {self._kind}")
        if isinstance(found, Template):
            return evolve(found, kind=self._kind)
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
        self._silent.add(url)
        if self._silent >= set(self._urls):
            self._fail(refusal(url, reason), for_good=True)

    def lost(self, url: str, error: OSError) -> None:
        return None

    # As an open file -----------------------------------------------------------------------------

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if not self._urls:
            raise fault(errno.EINVAL, "write the job first")
        answer = self._reader.try_read(size, offset)
        if not isinstance(answer, bytes) or (answer == b"" and size > 0):
            failed, self._failed = self._failed, None
            if failed is not None:
                raise failed
        return answer

    async def read(self, size: int, offset: int) -> bytes:
        while (answer := self.try_read(size, offset)) is WOULD_BLOCK:
            await self._ring.bell.wait()
        return answer

    def ready(self, wake: Callable[[], None] | None) -> int:
        if not self._urls or self._failed is not None:
            return WRITABLE | READABLE
        return WRITABLE | self._reader.ready(wake)

    def close(self) -> None:
        self._drop()
        self._reader.close()
        super().close()
