"""Rules: what a policy says, one rule a line, the first that matches wins.

allow|deny [METHODS] PATTERN [rate=10/s] [size=10M] [time=30s] [addresses=NETWORK,…]
# comment
"""

import errno
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from attrs import field, frozen

from oanix.errors import fault
from oanix.lib.policy.addresses import Grant, Network, parse_network, refuse_address, written
from oanix.lib.policy.limits import Limits, parse_size, parse_time
from oanix.lib.policy.pattern import BAD_PORTS, Destination, Pattern, PatternError
from oanix.lib.policy.rate import Rate
from oanix.lib.url import Url

RULES_MAX: Final = 10_000
TEXT_MAX: Final = 2**20
LINE_MAX: Final = 8192
WORK_MAX: Final = 2**20
"""How many characters of a path may be compared with wildcards of one policy for one request."""

_KNOWN: Final = ""
"""Stands among hosts for those whose addresses are known, which may be those of another one."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_OPTION: Final = re.compile(r"([a-z_-]+)=(.*)")
_FORM: Final = "allow|deny [METHODS] PATTERN [rate=] [size=] [time=] [addresses=]"


class PolicyError(OSError):
    """A line that is no rule (EINVAL), with its place in the text and what to write instead."""

    def __init__(self, sentence: str, *, source: str, line: int, column: int) -> None:
        super().__init__(errno.EINVAL, f"{source}:{line}:{column}: {sentence}")
        self.sentence = sentence
        self.source = source
        self.line = line
        self.column = column


def _check_method(_: object, __: object, method: str) -> None:
    if not _TOKEN.fullmatch(method):
        raise fault(
            errno.EINVAL,
            f"{method[:40]!r} is no method: write GET, HEAD, POST, PUT, PATCH, DELETE or another"
            " token of RFC 9110",
        )


@frozen
class Ask:
    """What somebody asks for. Raises EINVAL for a method that is none."""

    method: str = field(validator=_check_method)
    url: Url

    @cached_property
    def to(self) -> Destination:
        """Where it goes, as patterns look at it."""
        return Destination(self.url)


@frozen
class Rule:
    """One rule. Two are equal when they say the same, wherever they stand."""

    allow: bool
    methods: frozenset[str] | None
    pattern: Pattern
    limits: Limits = field(factory=Limits)
    networks: frozenset[Network] = frozenset()
    line: int = field(default=0, eq=False)

    @cached_property
    def grant(self) -> Grant:
        """The addresses that it names: by addresses= and by the host of its pattern."""
        return Grant(self.networks | self.pattern.networks)

    @cached_property
    def text(self) -> str:
        """The rule as a line."""
        words = [
            "allow" if self.allow else "deny",
            *([",".join(sorted(self.methods))] if self.methods is not None else ()),
            str(self.pattern),
            *self.limits.words(),
            *([f"addresses={written(self.networks)}"] if self.networks else ()),
        ]
        return " ".join(words)

    def matches(self, ask: Ask, *, narrowing: bool = False) -> bool:
        """Tell whether it decides about this.

        An allow does not match a port of another protocol, or an address that is not public, that
        it does not name; narrowing: unless it only narrows what another rule has allowed.
        """
        if not self.allow:
            return self._has_method(ask.method.upper()) and self.pattern.touches(ask.to)
        if not self._has_method(ask.method) or not self.pattern.covers(ask.to):
            return False
        if narrowing:
            return True
        port = ask.url.port
        return (port not in BAD_PORTS or self.pattern.names_port(port)) and may_know(
            ask, self.grant
        )

    def _has_method(self, method: str) -> bool:
        return self.methods is None or method in self.methods


def may_know(ask: Ask, grant: Grant) -> bool:
    """Tell whether a host whose address is known without a resolver has one that is granted."""
    known = ask.to.known
    return not known or any(refuse_address(one, grant) is None for one in known)


class TooCostly(Exception):
    """The path is too long for so many rules with wildcards."""


@frozen
class Rules:
    """The rules of one writer, in their order."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, text: str, source: str = "policy") -> "Rules":
        """Read rules. Raises EINVAL (PolicyError) for the first line that is none."""
        return cls(_parse(text, source))

    def format(self) -> str:
        """Write rules as text that `parse` reads back as the same."""
        return "".join(f"{rule.text}\n" for rule in self.rules)

    def first(self, ask: Ask, *, narrowing: bool = False) -> Rule | None:
        """Give the rule that decides. Raises TooCostly."""
        work = 0
        for number in self._about(ask.to):
            rule = self.rules[number]
            work += rule.pattern.work(ask.to)
            if work > WORK_MAX:
                raise TooCostly
            if rule.matches(ask, narrowing=narrowing):
                return rule
        return None

    def _about(self, to: Destination) -> list[int]:
        """Give the places of the rules whose hosts may be this one, in order."""
        labels = to.url.host.split(".")
        below = (f"*.{'.'.join(labels[count:])}" for count in range(1, len(labels)))
        hosts = [to.url.host, "*", *below, *([_KNOWN] if to.known else ())]
        return sorted({number for host in hosts for number in self._by_host.get(host, ())})

    @cached_property
    def _by_host(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, rule in enumerate(self.rules):
            found.setdefault(rule.pattern.host, []).append(number)
            if rule.pattern.networks:
                found.setdefault(_KNOWN, []).append(number)
        return found


# Reading -----------------------------------------------------------------------------------------


def _parse(text: str, source: str) -> tuple[Rule, ...]:
    def error(sentence: str, line: int, at: int = 0) -> PolicyError:
        return PolicyError(sentence, source=source, line=line, column=at + 1)

    if text.startswith("\ufeff"):
        raise error("begins with a byte order mark; save it as UTF-8 without one", 1)
    if len(text) > TEXT_MAX:
        raise error(f"a policy has at most {TEXT_MAX} characters", 1)
    found: list[Rule] = []
    for number, content in enumerate(text.split("\n"), 1):
        try:
            _check_line(content)
            rule = _rule(content, number)
        except _LineError as wrong:
            raise error(wrong.sentence, number, wrong.at) from None
        if rule is None:
            continue
        if len(found) == RULES_MAX:
            raise error(f"a policy has at most {RULES_MAX} rules", number)
        found.append(rule)
    return tuple(found)


class _LineError(Exception):
    def __init__(self, sentence: str, at: int) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.at = at


def _check_line(content: str) -> None:
    if len(content) > LINE_MAX:
        raise _LineError(f"a line has at most {LINE_MAX} characters", LINE_MAX)
    for at, character in enumerate(content):
        if character == "\r":
            raise _LineError("holds a carriage return; end lines with LF alone", at)
        if character != "\t" and (character < " " or "\x7f" <= character <= "\x9f"):
            raise _LineError(f"holds a control character (U+{ord(character):04X}); write text", at)
        if "\ud800" <= character <= "\udfff":
            raise _LineError("holds bytes that are no UTF-8; write text", at)


def _rule(content: str, line: int) -> Rule | None:
    words = []
    for word in re.finditer(r"[^ \t]+", content):
        if word[0].startswith("#"):
            break
        words.append((word[0], word.start()))
    if not words:
        return None
    verb, at = words[0]
    if verb not in ("allow", "deny"):
        raise _LineError(f"{verb[:40]!r} is neither allow nor deny; write: {_FORM}", at)
    plain = [word for word in words[1:] if not _OPTION.fullmatch(word[0])]
    options = words[1 + len(plain) :]
    if words[1:] != [*plain, *options]:
        raise _LineError(f"{plain[-1][0][:40]!r} follows an option; write: {_FORM}", plain[-1][1])
    if len(plain) > 2:
        raise _LineError(f"one word too many; write: {_FORM}", plain[2][1])
    if not plain:
        raise _LineError(f"the pattern is missing; write: {verb} *", at + len(verb))
    methods = _methods(*plain[0]) if len(plain) == 2 else None
    pattern = _pattern(*plain[-1], verb)
    given = _options(options, verb)
    return Rule(
        allow=verb == "allow",
        methods=methods,
        pattern=pattern,
        limits=Limits(given.get("rate"), given.get("size"), given.get("time")),
        networks=given.get("addresses", frozenset()),
        line=line,
    )


def _methods(word: str, at: int) -> frozenset[str] | None:
    if word == "*":
        return None
    for method in word.split(","):
        if not _TOKEN.fullmatch(method):
            raise _LineError(f"{method[:40]!r} is no method; write as GET,HEAD or *", at)
    return frozenset(word.upper().split(","))


def _pattern(word: str, at: int, verb: str) -> Pattern:
    try:
        return Pattern.parse(word)
    except PatternError as wrong:
        if "://" not in word and _TOKEN.fullmatch(word.replace(",", "")) and word.isupper():
            raise _LineError(
                f"the pattern is missing behind the methods; write: {verb} {word} *",
                at + len(word),
            ) from None
        raise _LineError(str(wrong), at + wrong.at) from None


def _networks(text: str) -> frozenset[Network]:
    return frozenset(map(parse_network, text.split(",")))


_OPTIONS: Final[Mapping[str, Callable[[str], Any]]] = {
    "rate": Rate.parse,
    "size": parse_size,
    "time": parse_time,
    "addresses": _networks,
}


def _options(words: Sequence[tuple[str, int]], verb: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for word, at in words:
        name, _, value = word.partition("=")
        if name not in _OPTIONS:
            raise _LineError(f"{name}= is no option; write one of {', '.join(_OPTIONS)}", at)
        if verb == "deny":
            raise _LineError(f"a deny has no {name}=; leave it out", at)
        if name in given:
            raise _LineError(f"{name}= is given twice; write it once", at)
        try:
            given[name] = _OPTIONS[name](value)
        except ValueError as wrong:
            raise _LineError(str(wrong), at + len(name) + 1) from None
    return given
