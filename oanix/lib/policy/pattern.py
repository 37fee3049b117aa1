"""Pattern: which addresses a rule is about.

*                                    every address
SCHEME://HOST[:PORT][/PATH]          SCHEME: http https ws wss *    HOST: name, *.name, address, *
"""

import re
from functools import cached_property
from typing import Final

from attrs import field, frozen

from oanix.lib.policy import paths
from oanix.lib.policy.addresses import (
    Network,
    is_localhost,
    is_loopback,
    known_addresses,
    own_networks,
    same_host,
)
from oanix.lib.policy.glob import Glob
from oanix.lib.url import PORTS, Url

PATTERN_MAX: Final = 4096
"""Longest pattern in characters."""

_FORM: Final = re.compile(
    r"(?P<scheme>[^:/]*)://(?P<host>(?:\*\.)?\[[^]/]*\]|[^/:]*)(?::(?P<port>[^/]*))?(?P<path>/.*)?"
)
_NEVER: Final = {
    "?": "a rule is about the path, not the query; leave out the ? and what follows",
    "#": "an address that is asked has no fragment; leave out the # and what follows",
    "\\": "a path has no backslash; write /",
    "***": "three stars mean no more than two; write **",
}
_BEGINS_AS: Final = {"ws": "http", "wss": "https"}
_PREFIX: Final = re.compile(r"/[0-9]{1,3}")
_ENCODED: Final = re.compile(r"[^\x21-\x7e]|[\"<>^`{}]")

# https://fetch.spec.whatwg.org/#port-blocking, with Redis and memcached: servers that may take
# the lines of a request for commands of theirs.
BAD_PORTS: Final = frozenset(
    (
        1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
        102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389,
        427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636,
        989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6379, 6566,
        6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080, 11211,
    )
)  # fmt: skip
"""Ports of other protocols: a rule must name such a port."""


class PatternError(ValueError):
    """A text that is no pattern: what is wrong and what to write, and at which character."""

    def __init__(self, sentence: str, at: int = 0) -> None:
        super().__init__(sentence)
        self.at = at


@frozen
class Destination:
    """Where a request goes, as rules look at it."""

    url: Url

    @cached_property
    def sent(self) -> str:
        """The path as it is sent."""
        return paths.sent(self.url.path)

    @cached_property
    def read(self) -> str:
        """The path as the most obliging server reads it."""
        return paths.resolved(paths.decoded(self.url.path))

    @cached_property
    def bare(self) -> str:
        """The same without the parameters of its segments."""
        return paths.resolved(paths.without_parameters(self.read))

    @cached_property
    def known(self) -> tuple[str, ...]:
        """The addresses of the host when they need no resolver."""
        return known_addresses(self.url.host)


@frozen
class Pattern:
    """Which addresses a rule is about; `covers` is asked for an allow, `touches` for a deny."""

    scheme: str = "*"
    host: str = "*"
    port: int | None = None
    any_port: bool = True
    path: Glob = field(factory=lambda: Glob("/**"))

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read a pattern. Raises PatternError."""
        if text == "*":
            return cls()
        if len(text) > PATTERN_MAX:
            raise PatternError(f"a pattern has at most {PATTERN_MAX} characters", PATTERN_MAX)
        for part, advice in _NEVER.items():
            if part in text:
                raise PatternError(advice, text.index(part))
        form = _FORM.fullmatch(text)
        if form is None or not form["host"]:
            example = "https://api.github.com/repos/**"
            if "://" not in text and "." in text:
                example = f"https://{text.lstrip('/')}"
            raise PatternError(
                f"{_short(text)} is no pattern; write * or SCHEME://HOST[:PORT][/PATH], as in"
                f" {example}"
            )
        if form["scheme"] != "*" and form["scheme"] not in PORTS:
            raise PatternError(
                f"the scheme {_short(form['scheme'])} is none; write one of {', '.join(PORTS)}, *"
            )
        host = _host(form["host"], form.start("host"))
        port = _port(form["port"], form.start("port"))
        path = _path(form["path"] or "/**", form.start("path"))
        if known_addresses(host) and _PREFIX.fullmatch(path):
            raise PatternError(
                f"a host is one address; write {form['scheme']}://* addresses={host}{path}",
                form.start("host"),
            )
        return cls(form["scheme"], host, port, form["port"] == "*", Glob(path))

    def __str__(self) -> str:
        if self == Pattern():
            return "*"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = ":*" if self.any_port else "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path.text}"

    @property
    def networks(self) -> frozenset[Network]:
        """The addresses that it names by its host."""
        return own_networks(self.host.removeprefix("*."))

    def covers(self, to: Destination) -> bool:
        """Tell whether the address is one of those, however its server may read it."""
        url = to.url
        return (
            self.scheme in ("*", url.scheme)
            and self._has_host(url.host)
            and (self.any_port or url.port == (self.port or PORTS[url.scheme]))
            and (self.path.everything or self._covers_path(to))
        )

    def touches(self, to: Destination) -> bool:
        """Tell whether the address may be one of those, if its server reads it so.

        Without a port it is about every port of the host; an address is told in every spelling; and
        a WebSocket begins as a request of HTTP (RFC 6455, section 4).
        """
        url = to.url
        return (
            self.scheme in ("*", url.scheme, _BEGINS_AS.get(url.scheme))
            and (self._has_host(url.host) or self._stands_for(to))
            and self.port in (None, url.port)
            and (self.path.everything or self._touches_path(to))
        )

    def work(self, to: Destination) -> int:
        """Give how many characters of paths `covers` or `touches` will compare with wildcards."""
        if not self.path.slow or not (self._has_host(to.url.host) or self._stands_for(to)):
            return 0
        read = self._read.work(to.read) + self._read.work(to.bare)
        return self._sent.work(to.sent) + read

    def names_port(self, port: int) -> bool:
        """Tell whether it spells the port out."""
        return self.port == port

    def _has_host(self, host: str) -> bool:
        if self.host.startswith("*."):
            return host.endswith(self.host[1:])
        return self.host in ("*", host)

    def _stands_for(self, to: Destination) -> bool:
        if not to.known:
            return False
        if is_localhost(self.host.removeprefix("*.")):
            return any(map(is_loopback, to.known))
        return any(same_host(one, other) for one in to.known for other in self._known)

    @cached_property
    def _known(self) -> tuple[str, ...]:
        return known_addresses(self.host)

    @cached_property
    def _sent(self) -> Glob:
        return Glob(paths.sent(self.path.text))

    @cached_property
    def _read(self) -> Glob:
        return Glob(paths.resolved(paths.decoded(self.path.text)))

    def _covers_path(self, to: Destination) -> bool:
        return self._sent.matches(to.sent) and self._read.matches(to.read)

    def _touches_path(self, to: Destination) -> bool:
        return (
            self._sent.matches(to.sent)
            or self._read.matches(to.read)
            or self._read.matches(to.bare)
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _host(text: str, at: int) -> str:
    if text == "*":
        return text
    star = "*." if text.startswith("*.") else ""
    name = text.removeprefix("*.")
    if "*" in name:
        raise PatternError(
            "a * stands for the whole host, or before its first dot; write * or *.example.com",
            at,
        )
    if "@" in name:
        raise PatternError("a pattern holds no user and password; leave out what ends with @", at)
    try:
        host = Url.parse(f"http://{name}/").host
    except OSError as error:
        raise PatternError(f"{_short(name)} is no host: {error.strerror}", at) from None
    if star and known_addresses(host) and not is_localhost(host):
        raise PatternError(f"*. goes before a name, and {host} is an address; write {host}", at)
    return star + host


def _port(text: str | None, at: int) -> int | None:
    if text is None or text == "*":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65_536):
        raise PatternError(f"{_short(text)} is no port; write 1 to 65535, or * for any", at)
    return int(text)


def _path(text: str, at: int) -> str:
    path = _ENCODED.sub(lambda found: _percent(found[0]), text)
    if paths.decoded(path).count("*") != path.count("*"):
        raise PatternError("an encoded * cannot be told from a wildcard; write *", at)
    for segment in re.split(r"[/\\]", paths.decoded(path)):
        if segment.partition(";")[0] in (".", ".."):
            raise PatternError(
                f"no path has the segment {_short(segment)}; write where it leads", at
            )
    return path


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
