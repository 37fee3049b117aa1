"""What is asked of the web, by whom, and within which bounds."""

from collections.abc import AsyncGenerator
from typing import NamedTuple, Protocol

import trio
from attrs import field, frozen

from oanix.caller import Caller
from oanix.lib.policy import Layer, Limits
from oanix.lib.url import Url
from oanix.lib.vault import Mask

Headers = tuple[tuple[str, str], ...]
"""Names and values, in order, with duplicates."""


class Body(Protocol):
    """What is uploaded.

    length: in bytes; None for one that is sent in chunks. replayable: `chunks` may be called again,
    for a redirect or a second attempt.
    """

    @property
    def length(self) -> int | None: ...
    @property
    def replayable(self) -> bool: ...
    def chunks(self) -> AsyncGenerator[bytes, None]: ...


@frozen(eq=False)
class BytesBody:
    """A body that is known already."""

    data: bytes = field(repr=False)
    replayable: bool = True

    @property
    def length(self) -> int:
        """Its length in bytes."""
        return len(self.data)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Give it in one piece."""
        yield self.data


@frozen(eq=False)
class Request:
    """One request.

    timeout_s: for everything until the headers of the answer, and then between two pieces of its
    body; None: the bounds of `WebLimits`. follow: whether, or how many, redirects are followed.
    """

    method: str
    url: Url
    headers: Headers = ()
    body: Body | None = None
    timeout_s: float | None = None
    follow: bool | int = True


@frozen
class Asker:
    """On whose behalf, and what narrows the policy for it."""

    caller: Caller
    layers: tuple[Layer, ...] = ()


@frozen(kw_only=True)
class WebLimits:
    """Bounds of the engine; a rule of the policy narrows them further.

    connect_s: resolving and connecting. header_s: from there, and from the last piece of an upload,
    until the headers of the answer have come. idle_s: between two pieces of a body, except that of
    an event stream. queue_s: waiting for a turn, be it for a rate or for a free connection.
    per_origin: exchanges of one asker with one origin; per_asker: of one with all; in_all: of all.
    """

    connect_s: float = 15.0
    header_s: float = 30.0
    idle_s: float = 60.0
    queue_s: float = 30.0
    retry_after_s: float = 10.0
    keepalive_s: float = 30.0
    retries: int = 2
    hops: int = 10
    per_origin: int = 8
    per_asker: int = 32
    in_all: int = 64
    request_headers: int = 256
    request_header_bytes: int = 64 << 10
    answer_headers: int = 1000
    answer_header_bytes: int = 100 << 10
    expanded_bytes: int = 1 << 30
    buffer_bytes: int = 1 << 20


class Connected(NamedTuple):
    """A connection for a WebSocket: who speaks on it sends these headers, and masks what comes.

    url is the address with what a secret added to its query: for the request line and for nothing
    else. limits: those of the rules that allowed it, for who speaks on it to keep.
    """

    stream: trio.abc.Stream
    url: Url
    headers: Headers
    mask: Mask
    limits: Limits
