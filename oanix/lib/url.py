"""Url: an address of the web as it goes over the wire, and its name in the tree of HttpFs.

Parsed as the WHATWG URL Standard has it (https://url.spec.whatwg.org/), which is what browsers and
servers agree on: one canonical form for every spelling, so that what a policy judges is what is
asked. What the standard only repairs (tabs and line ends, blanks, credentials, a missing host) is
refused.

In the tree an address is `get/SCHEME/HOST[:PORT]/REST`. REST is one name: what follows the first
slash of the path, with `/` as `%2F` and `%` as `%25`. Where that would be empty or begin with a
slash, the first slash is written too.
"""

import errno
import re
from typing import Final

from ada_url import URL, HostType
from attrs import frozen

from oanix.errors import fault

PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
"""The schemes that there are, with the port that each has by default."""

LENGTH_MAX: Final = 65_536
"""Longest address in characters, as it is given and as it goes over the wire."""

NAME_MAX: Final = 255
"""Longest name of a file in bytes."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_ESCAPE = re.compile(r"%(2F|25)", re.IGNORECASE)


@frozen
class Url:
    """An absolute address in its canonical form.

    The host is in lower case and punycode, without brackets and without a dot at its end; path and
    query are percent-encoded as on the wire. There are no credentials and no fragment. Make it with
    `parse`: the constructor checks nothing.
    """

    scheme: str
    host: str
    port: int
    path: str = "/"
    query: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Url":
        """Read an absolute address. Raises EINVAL with what is wrong and what to write."""
        _check_text(text)
        scheme = _SCHEME.match(text)
        if scheme is None:
            raise _wrong("an address begins with its scheme: write https://HOST/PATH")
        _check_scheme(scheme[1].lower())
        if not text.startswith("//", scheme.end()) or text[scheme.end() + 2 :][:1] in "/\\?#":
            raise _wrong(f"the address has no host: write {scheme[1].lower()}://HOST/PATH")
        _check_credentials(text[scheme.end() :])
        return _parsed(text, None)

    def join(self, location: str) -> "Url":
        """Give where a redirect leads that was answered to this address. Raises as `parse`."""
        _check_text(location)
        if _SCHEME.match(location):
            return Url.parse(location)
        _check_credentials(location)
        return _parsed(location, str(self))

    @property
    def default_port(self) -> bool:
        """Tell whether the port is the one that the scheme has by default."""
        return PORTS.get(self.scheme) == self.port

    @property
    def authority(self) -> str:
        """The host as in a Host header: IPv6 in brackets, the port unless it is the default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.default_port else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.authority}"

    @property
    def target(self) -> str:
        """Path and query, as a request line has them."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    def __str__(self) -> str:
        return f"{self.origin}{self.target}"

    def masked(self) -> str:
        """Write it for a log: the names of the query stay, its values are `***`."""
        if not self.query:
            return str(self)
        parts = (part.partition("=") for part in self.query.split("&"))
        shown = "&".join(f"{name}=***" if equals else "***" for name, equals, _ in parts)
        return f"{self.origin}{self.path}?{shown}"


def to_tree(url: str) -> str:
    """Give the path of an address below the mount of HttpFs.

    Raises EINVAL as `Url.parse`, and for a scheme that has no `get`; ENAMETOOLONG when the last
    name would be over 255 bytes.
    """
    found = Url.parse(url)
    _check_get(found.scheme)
    rest = found.target[1:]
    if not rest or rest.startswith("/"):
        rest = found.target
    name = rest.replace("%", "%25").replace("/", "%2F")
    if len(name) > NAME_MAX:
        raise fault(
            errno.ENAMETOOLONG,
            f"the address takes a name of {len(name)} bytes, over {NAME_MAX}: write it as a"
            " request to `call`, or into the `url` of a `new`",
        )
    return f"get/{found.scheme}/{found.authority}/{name}"


def from_tree(scheme: str, host: str, rest: str) -> Url:
    """Give the address of `get/SCHEME/HOST/REST`. Raises EINVAL."""
    _check_get(scheme)
    if not host or any(character in "/\\?#@" for character in host):
        raise _wrong("the name after the scheme is HOST or HOST:PORT")
    if "#" in rest:
        raise _wrong("an address in the tree has no fragment: write %23 for a #")
    target = _ESCAPE.sub(lambda found: "/" if found[1] in ("2F", "2f") else "%", rest)
    return Url.parse(f"{scheme}://{host}{'' if target.startswith('/') else '/'}{target}")


def _wrong(sentence: str) -> OSError:
    return fault(errno.EINVAL, sentence)


def _check_text(text: str) -> None:
    if len(text) > LENGTH_MAX:
        raise _wrong(f"the address is longer than {LENGTH_MAX} characters")
    found = _CONTROL.search(text)
    if found and found[0] == " ":
        raise _wrong(f"a blank at character {found.start() + 1} of the address: write %20")
    if found:
        # The standard strips some of these, and so shows a filter another address than it uses.
        raise _wrong(
            f"a control character (U+{ord(found[0]):04X}) at character {found.start() + 1} of the"
            " address: leave it out, or write it percent-encoded"
        )
    found = _SURROGATE.search(text)
    if found:
        raise _wrong(
            f"character {found.start() + 1} of the address is no UTF-8: write it percent-encoded"
        )


def _check_scheme(scheme: str) -> None:
    if scheme not in PORTS:
        raise _wrong(f"the scheme {scheme[:20]!r} is none of {', '.join(PORTS)}")


def _check_get(scheme: str) -> None:
    if scheme not in ("http", "https"):
        raise _wrong(f"below get there are http and https, not {scheme[:20]!r}")


def _check_credentials(text: str) -> None:
    """Refuse an `@` before the path: `https://allowed@evil/` leads to evil.

    text: an address from behind its scheme, or a relative one, which has credentials only after
    two slashes. The parser would not tell an empty user name.
    """
    if len(text) < 2 or text[0] not in "/\\" or text[1] not in "/\\":
        return
    authority = re.split(r"[/\\?#]", text.lstrip("/\\"), maxsplit=1)[0]
    if "@" in authority:
        raise _wrong(
            "an address holds no user and password (what stands before the @): leave them out and"
            " keep them as a secret"
        )


def _parsed(text: str, base: str | None) -> Url:
    try:
        found = URL(text, base)
    except ValueError:
        raise _wrong(
            "the address cannot be read: write https://HOST[:PORT]/PATH, with a port of 1 to 65535"
        ) from None
    scheme = found.protocol.removesuffix(":")
    _check_scheme(scheme)
    if found.username or found.password:
        raise _wrong("an address holds no user and password: keep them as a secret")
    port = int(found.port or PORTS[scheme])
    if not port:
        raise _wrong("port 0 is none: write a port of 1 to 65535")
    found.hash = ""
    if len(found.href) > LENGTH_MAX:
        raise _wrong(f"the address is longer than {LENGTH_MAX} characters when it is encoded")
    # `search` is empty for "no query" and for "an empty query" alike.
    _, mark, query = found.href.partition("?")
    return Url(scheme, _host(found), port, found.pathname, query if mark else None)


def _host(found: URL) -> str:
    host = found.hostname
    if found.host_type == HostType.IPV6:
        return host.strip("[]")
    host = host.removesuffix(".")
    # The standard lets through what no name in the DNS has, among it the "*" of a pattern.
    if len(host) > 253 or not _HOST.fullmatch(host):
        raise _wrong(
            "the host is no name of the DNS: labels of 1 to 63 letters, digits, - and _ with dots"
            " between them, 253 characters in all"
        )
    return host
