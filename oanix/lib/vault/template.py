"""Template: how a value is put into a request: a header, a query parameter, or basic auth."""

import base64
import errno
import re
from typing import Final
from urllib.parse import quote, unquote_plus

from attrs import evolve, frozen

from oanix.errors import fault
from oanix.lib.url import Url

Headers = tuple[tuple[str, str], ...]

HEADER: Final = "header"
QUERY: Final = "query"
BASIC: Final = "basic"
HOLE: Final = "{}"

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2
_NOT_SECRET: Final = frozenset(
    (
        "accept-encoding", "connection", "content-length", "expect", "host", "if-range",
        "keep-alive", "proxy-connection", "range", "sec-websocket-accept",
        "sec-websocket-extensions", "sec-websocket-key", "sec-websocket-version", "te", "trailer",
        "transfer-encoding", "upgrade",
    )
)  # fmt: skip
"""Headers that say how the connection or its body is to be read."""


@frozen
class Template:
    """Where a value goes: kind, the name of the header, parameter or user, and the text with `{}`.

    Make it with `parse`, `header`, `query` or `basic`: the constructor checks nothing.
    """

    kind: str
    name: str
    text: str = HOLE

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Read `header NAME: TEXT`, `query NAME=TEXT` or `basic USER`. Raises OSError EINVAL."""
        kind, _, rest = text.strip().partition(" ")
        makers = {HEADER: cls.header, QUERY: cls.query, BASIC: cls.basic}
        if kind not in makers:
            raise fault(
                errno.EINVAL,
                "how the value is sent is written as: header NAME: TEXT, query NAME=TEXT or "
                "basic USER, with {} for the value",
            )
        return makers[kind](rest.strip())

    @classmethod
    def header(cls, text: str) -> "Template":
        """Read `NAME: TEXT`. Raises OSError EINVAL."""
        name, colon, rest = text.partition(":")
        name, rest = name.strip(), rest.strip()
        if not colon or not _TOKEN.fullmatch(name):
            raise fault(
                errno.EINVAL, "a header is written as NAME: TEXT, as Authorization: Bearer {}"
            )
        if name.lower() in _NOT_SECRET:
            raise fault(
                errno.EINVAL, f"the header {name} belongs to the connection; choose another"
            )
        if not rest.isascii() or not rest.isprintable():
            raise fault(errno.EINVAL, "the text of a header is printable ASCII")
        return cls(HEADER, name, _holed(rest))

    @classmethod
    def query(cls, text: str) -> "Template":
        """Read `NAME=TEXT`. Raises OSError EINVAL."""
        name, equals, rest = text.partition("=")
        if not equals or not name.strip() or HOLE in name or not name.isprintable():
            raise fault(errno.EINVAL, "a query parameter is written as NAME=TEXT, as api_key={}")
        if not rest.isprintable():
            raise fault(errno.EINVAL, "the text of a query parameter is printable")
        return cls(QUERY, name.strip(), _holed(rest.strip()))

    @classmethod
    def basic(cls, user: str) -> "Template":
        """Read the name of a user (RFC 7617). Raises OSError EINVAL."""
        if not user.isprintable() or ":" in user:
            raise fault(errno.EINVAL, "a user of basic auth is printable text without ':'")
        return cls(BASIC, user)

    def format(self) -> str:
        """Write it so that `parse` reads the same."""
        if self.kind == HEADER:
            return f"{HEADER} {self.name}: {self.text}"
        if self.kind == QUERY:
            return f"{QUERY} {self.name}={self.text}"
        return f"{BASIC} {self.name}".rstrip()

    @property
    def target(self) -> tuple[str, str]:
        """What it sets: two templates with the same target exclude each other in one request."""
        if self.kind == QUERY:
            return QUERY, self.name
        return HEADER, self.name.lower() if self.kind == HEADER else "authorization"

    def check(self, value: str) -> None:
        """Refuse a value that cannot be sent so. Raises OSError EINVAL."""
        if self.kind == HEADER and not value.isascii():
            raise fault(
                errno.EINVAL,
                "the value is not ASCII, and a header carries no more for certain; send it by "
                "query or basic",
            )

    def around(self, value: str) -> tuple[str, ...]:
        """Give the longer texts whose base64 goes over the wire."""
        return (f"{self.name}:{value}",) if self.kind == BASIC else ()

    def apply(self, value: str, url: Url, headers: Headers) -> tuple[Url, Headers]:
        """Put the value into a request, in place of everything of that name."""
        if self.kind == QUERY:
            return evolve(url, query=self._queried(value, url.query)), headers
        name, text = self.name, self.text.replace(HOLE, value)
        if self.kind == BASIC:
            coded = base64.b64encode(f"{self.name}:{value}".encode()).decode()
            name, text = "Authorization", f"Basic {coded}"
        kept = tuple(pair for pair in headers if pair[0].lower() != name.lower())
        return url, (*kept, (name, text))

    def _queried(self, value: str, query: str | None) -> str:
        kept = [
            part
            for part in (query or "").split("&")
            if part and unquote_plus(part.partition("=")[0]) != self.name
        ]
        text = quote(self.text.replace(HOLE, value), safe="")
        return "&".join([*kept, f"{quote(self.name, safe='')}={text}"])


def _holed(text: str) -> str:
    if text.count(HOLE) != 1:
        raise fault(errno.EINVAL, "the text has {} exactly once, where the value goes")
    return text
