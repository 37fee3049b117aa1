"""Cache: answers that need not be asked for again, as RFC 9111 says, in memory.

What may be stored, reused and revalidated is decided by hishel's state machine, which does no I/O;
here is where the answers are kept, each asker's apart from the others' (a private cache). Its clock
is the system's. Nothing is kept of a request with a secret, with an Authorization or with a Cookie.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Hashable
from email.utils import formatdate
from typing import Final
from uuid import UUID, uuid4

import hishel
import trio
from attrs import define, field

from oanix.lib.web.answer import Answer
from oanix.lib.web.headers import find
from oanix.lib.web.model import Headers

_OPTIONS: Final = hishel.CacheOptions(shared=False, supported_methods=["GET", "HEAD"])
_CONDITIONS: Final = ("if-none-match", "if-modified-since")
_BYPASS: Final = frozenset(
    ("authorization", "cookie", "range", "if-range", "if-match", "if-unmodified-since",
     *_CONDITIONS)
)  # fmt: skip

_PIECE: Final = 64 << 10
_OVERHEAD: Final = 1024
"""What an entry costs beside its body, about."""


@define(eq=False)
class _Stored:
    """One answer that is kept: the body as it came over the wire."""

    key: Hashable
    entry: hishel.Entry
    reason: str
    version: str
    host: str
    body: bytes

    @property
    def size(self) -> int:
        """What it counts against the bound."""
        headers = sum(len(name) + len(value) for name, value in self.entry.response.headers.items())
        return len(self.body) + headers + _OVERHEAD


class KeptAnswer(Answer):
    """An answer out of the cache, with the interface of one that came over a connection."""

    def __init__(self, stored: _Stored, method: str, response: hishel.Response) -> None:
        self.keep = None
        self.host = stored.host
        self.status = response.status_code
        self.version = stored.version
        self.reason = stored.reason
        self.headers = _plain(response.headers)
        self.bodiless = method == "HEAD" or self.status in (204, 304)
        self.length = 0 if self.bodiless else len(stored.body)
        self._body = stored.body

    async def pieces(self, idle_s: float | None) -> AsyncGenerator[bytes, None]:
        """Give the body."""
        for at in range(0, 0 if self.bodiless else len(self._body), _PIECE):
            await trio.lowlevel.checkpoint()
            yield self._body[at : at + _PIECE]

    async def release(self) -> None:
        """Do nothing: there is no connection."""

    async def abort(self) -> None:
        """Do nothing: there is no connection."""

    async def drain(self) -> None:
        """Do nothing: there is no connection."""


@define(eq=False)
class Keep:
    """Keeps a body that is on its way, and puts it into the cache when it has come whole."""

    cache: "Cache"
    stored: _Stored
    _pieces: list[bytes] | None = field(factory=list)
    _size: int = 0

    def add(self, piece: bytes) -> None:
        """Take a piece along; a body that is too large is not kept."""
        if self._pieces is not None:
            self._size += len(piece)
            self._pieces.append(piece)
            if self._size > self.cache.largest:
                self._pieces = None

    def done(self) -> None:
        """Store it."""
        if self._pieces is not None:
            self.stored.body = b"".join(self._pieces)
            self.cache.put(self.stored)
            self._pieces = None


@define(eq=False)
class Visit:
    """One request, as the cache sees it.

    answer: it is known already. headers: what to ask with otherwise.
    """

    cache: "Cache"
    key: Hashable
    method: str
    state: hishel.CacheMiss | hishel.NeedRevalidation | None
    headers: Headers
    answer: KeptAnswer | None = None

    async def settle(self, answer: Answer) -> Answer:
        """Take note of what came; give the answer to use, which may be the one that is kept."""
        response = hishel.Response(answer.status, _rich(_dated(answer.headers)))
        state: hishel.AnyState | None = self.state
        while True:
            if isinstance(state, hishel.CacheMiss | hishel.NeedRevalidation):
                state = state.next(response)
            elif isinstance(state, hishel.InvalidateEntries):
                self.cache.drop(self.key, state.entry_ids)
                state = state.next()
            elif isinstance(state, hishel.NeedToBeUpdated):
                self.cache.update(self.key, state.updating_entries)
                state = state.next()
            elif isinstance(state, hishel.FromCache):
                found = self.cache.find(self.key, state.entry.id)
                if found is None:
                    return answer
                await answer.drain()
                return KeptAnswer(found, self.method, state.entry.response)
            else:
                if isinstance(state, hishel.StoreAndUse):
                    self._keep(answer, state.response)
                return answer

    def _keep(self, answer: Answer, response: hishel.Response) -> None:
        assert self.state is not None
        request = (
            self.state.original_request
            if isinstance(self.state, hishel.NeedRevalidation)
            else self.state.request
        )
        entry = hishel.Entry(uuid4(), request, response)
        stored = _Stored(self.key, entry, answer.reason, answer.version, answer.host, b"")
        answer.keep = Keep(self.cache, stored)


class Cache:
    """The answers of one engine, the ones used last, up to a bound in bytes."""

    def __init__(self, bound: int) -> None:
        self.largest = bound // 4
        self._bound = bound
        self._size = 0
        self._stored: OrderedDict[UUID, _Stored] = OrderedDict()

    @property
    def size(self) -> int:
        """How many bytes are kept."""
        return self._size

    def visit(self, who: Hashable, method: str, url: str, headers: Headers) -> Visit | None:
        """Look up a request; None for one that the cache has nothing to do with.

        who: whose answers; two that differ share none.
        """
        if any(name.lower() in _BYPASS for name, _ in headers):
            return None
        key = (who, url)
        known = [stored for stored in self._stored.values() if stored.key == key]
        request = hishel.Request(method, url, _rich(headers))
        state = hishel.IdleClient(options=_OPTIONS).next(
            request, [stored.entry for stored in known]
        )
        if isinstance(state, hishel.FromCache):
            found = next(one for one in known if one.entry.id == state.entry.id)
            self._stored.move_to_end(found.entry.id)
            answer = KeptAnswer(found, method, state.entry.response)
            return Visit(self, key, method, None, headers, answer)
        conditions = tuple(
            (name, state.request.headers[name])
            for name in _CONDITIONS
            if name in state.request.headers
        )
        return Visit(self, key, method, state, (*headers, *conditions))

    def find(self, key: Hashable, identity: UUID) -> _Stored | None:
        """Give what is kept; it may be gone since it was looked up."""
        return self._stored.get(identity)

    def put(self, stored: _Stored) -> None:
        """Keep an answer in place of those to the same request; the oldest give way."""
        same = [
            one.entry.id
            for one in self._stored.values()
            if one.key == stored.key
            and one.entry.request.method == stored.entry.request.method
            and _varies_alike(one.entry, stored.entry)
        ]
        self.drop(stored.key, same)
        if stored.size > self._bound:
            return
        self._stored[stored.entry.id] = stored
        self._size += stored.size
        while self._size > self._bound:
            self._size -= self._stored.popitem(last=False)[1].size

    def update(self, key: Hashable, entries: list[hishel.Entry]) -> None:
        """Take over the headers of a revalidation."""
        for entry in entries:
            if (stored := self._stored.get(entry.id)) is not None:
                self._size -= stored.size
                stored.entry = entry
                self._size += stored.size

    def drop(self, key: Hashable, identities: list[UUID]) -> None:
        """Forget answers."""
        for identity in identities:
            if (stored := self._stored.pop(identity, None)) is not None:
                self._size -= stored.size


def _varies_alike(one: hishel.Entry, other: hishel.Entry) -> bool:
    vary = other.response.headers.get("vary", "")
    return all(
        one.request.headers.get(name.strip()) == other.request.headers.get(name.strip())
        for name in vary.split(",")
        if name.strip()
    )


def _rich(headers: Headers) -> hishel.Headers:
    lists: dict[str, str | list[str]] = {}
    for name, value in headers:
        kept = lists.setdefault(name.lower(), [])
        assert isinstance(kept, list)
        kept.append(value)
    return hishel.Headers(lists)


def _plain(headers: hishel.Headers) -> Headers:
    return tuple((name, value) for name in headers for value in headers.get_list(name) or ())


def _dated(headers: Headers) -> Headers:
    """Add the Date that an answer lacks (RFC 9110, section 6.6.1): its age counts from there."""
    if find(headers, "date") is not None:
        return headers
    return (*headers, ("Date", formatdate(usegmt=True)))
