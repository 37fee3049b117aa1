"""What is asked of the port, who answers it, and within which bounds."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from attrs import field, frozen

from oanix.lib.websocket import Limits, WebSocket

Headers = tuple[tuple[str, str], ...]

TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")


@frozen
class Asked:
    """The head of a request. Names of headers are in lower case; peer: the address it is from."""

    method: str
    path: str
    query: str
    headers: Headers
    peer: str
    secure: bool

    def header(self, name: str) -> str:
        """Give a header, or nothing; one that came several times is joined (RFC 9110, 5.3)."""
        return ", ".join(value for known, value in self.headers if known == name)

    @property
    def upgrades(self) -> bool:
        """Whether it asks for a WebSocket (RFC 6455, 4.2.1)."""
        return self.method == "GET" and _has(self.header("upgrade"), "websocket")

    def accepts(self, kind: str) -> bool:
        """Tell whether it names a media type in its Accept header."""
        named = (part.partition(";")[0] for part in self.header("accept").split(","))
        return kind in (one.strip().lower() for one in named)

    @property
    def content_type(self) -> str:
        """The media type of its body, in lower case."""
        return self.header("content-type").partition(";")[0].strip().lower()


@frozen
class Request:
    """A request with its body."""

    asked: Asked
    body: bytes


@frozen
class Answer:
    """What is answered."""

    status: int
    body: bytes = b""
    headers: Headers = ()


Page = Callable[[Request], Awaitable[Answer]]
Talk = Callable[[WebSocket, Asked], Awaitable[None]]


def _everything(asked: Asked) -> bool:
    return True


@frozen(kw_only=True)
class Route:
    """Requests of one path, exactly, that somebody answers: with a page, or with a conversation.

    takes: which of them, beside their method. cors: pages of other origins may ask (Fetch, 3.2).
    limits: of the conversation. leave: ends the conversations that are under way.
    """

    path: str
    methods: tuple[str, ...] = ("GET", "HEAD")
    takes: Callable[[Asked], bool] = _everything
    page: Page | None = None
    talk: Talk | None = None
    cors: bool = False
    limits: Limits = field(factory=Limits)
    leave: Callable[[], None] | None = None


@frozen(kw_only=True)
class Bounds:
    """What the port spends on whom. Times are in seconds."""

    head_bytes: int = 16_384
    body_bytes: int = 1 << 20
    head_s: float = 10.0
    """Until a head is there, TLS included."""
    body_s: float = 30.0
    answer_s: float = 60.0
    """Until an answer is taken."""
    idle_s: float = 30.0
    """Until the next request of a connection begins."""
    connections: int = 1_024
    per_address: int = 64
    """Connections of one address; of IPv6, of one network of 64 bits."""
    openings: int = 256
    """Connections whose head is not there; with one more, the oldest of them ends."""
    grace_s: float = 2.0
    """What is under way has so long to end when the port closes."""


def sentence(status: int, text: str = "", headers: Headers = ()) -> Answer:
    """Answer with a sentence for a person."""
    said = text or HTTPStatus(status).phrase
    return Answer(status, f"{said}\n".encode(), (TEXT, *headers))


def _has(listed: str, wanted: str) -> bool:
    return wanted in (part.strip().lower() for part in listed.split(","))
