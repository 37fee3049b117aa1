"""Rules: what a secret is bound to. `METHODS URL TEMPLATE`, on one line."""

import errno
import re
from functools import cached_property
from typing import Final

from attrs import evolve, frozen

from oanix.errors import fault
from oanix.lib.policy.glob import Glob
from oanix.lib.policy.pattern import Destination, Pattern, PatternError
from oanix.lib.url import Url
from oanix.lib.vault.template import Template

LABELS: Final = 2
"""How many labels stand at least behind `*.`: a secret for all of `.com` is bound to nothing."""

RULE_LONGEST: Final = 8192

_METHOD: Final = re.compile(r"[A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]{0,31}")
_AS_HTTP: Final = {"wss": "https", "ws": "http"}


@frozen
class SecretRule:
    """Which requests carry a secret, and how. Make it with `parse` or `of`."""

    methods: frozenset[str] | None
    pattern: Pattern
    template: Template

    @classmethod
    def parse(cls, text: str) -> "SecretRule":
        """Read `METHODS URL TEMPLATE`. Raises OSError EINVAL with what to write instead."""
        words = text.split(None, 2)
        if len(words) < 3:
            raise fault(
                errno.EINVAL,
                "a rule is written as METHODS URL TEMPLATE, as in: GET,POST "
                "https://api.example.com/** header Authorization: Bearer {}",
            )
        return cls.of(words[0], words[1], Template.parse(words[2]))

    @classmethod
    def of(cls, methods: str, url: str, template: Template) -> "SecretRule":
        """Make it of a comma list of methods (`*`: any), a pattern and a template; as `parse`."""
        rule = cls(_methods(methods), _pattern(url), template)
        if len(rule.format()) > RULE_LONGEST or not rule.format().isprintable():
            raise fault(errno.EINVAL, f"a rule is one line of at most {RULE_LONGEST} characters")
        return rule

    def format(self) -> str:
        """Write it so that `parse` reads the same."""
        methods = "*" if self.methods is None else ",".join(sorted(self.methods))
        return f"{methods} {self.pattern} {self.template.format()}"

    def matches(self, method: str, to: Destination) -> bool:
        """Tell whether a request carries the secret."""
        if self.methods is not None and method not in self.methods:
            return False
        return self.pattern.covers(to)

    def binds(self, to: Destination) -> bool:
        """Tell whether the host is one to which it is bound, at any path and port."""
        return self._host.covers(to)

    @cached_property
    def _host(self) -> Pattern:
        return evolve(self.pattern, scheme="*", port=None, any_port=True, path=Glob("/**"))

    @cached_property
    def weight(self) -> int:
        """How specific it is: the length of its pattern without wildcards."""
        return len(str(self.pattern).replace("*", ""))


def destination(url: Url) -> Destination:
    """Give where a request goes; a WebSocket begins as a request of HTTP (RFC 6455, section 4)."""
    scheme = _AS_HTTP.get(url.scheme)
    return Destination(url if scheme is None else evolve(url, scheme=scheme))


def _methods(text: str) -> frozenset[str] | None:
    if text == "*":
        return None
    methods = text.upper().split(",")
    if not all(_METHOD.fullmatch(method) for method in methods):
        raise fault(errno.EINVAL, f"{text[:60]!r} is no list of methods; write GET,POST or *")
    return frozenset(methods)


def _pattern(text: str) -> Pattern:
    scheme, mark, rest = text.rpartition("://")
    scheme = scheme.lower() if mark else "https"
    if scheme == "*":
        raise _bad_url("a secret is bound to one scheme; write https://HOST/**")
    try:
        pattern = Pattern.parse(f"{_AS_HTTP.get(scheme, scheme)}://{rest}")
    except PatternError as error:
        raise _bad_url(str(error)) from None
    host = pattern.host
    if host == "*":
        raise _bad_url("a secret is bound to a host, never to every one; write https://HOST/**")
    if host.startswith("*.") and len(host[2:].split(".")) < LABELS:
        raise _bad_url(
            f"{host} is too wide for a secret; write the host, or *. and at least {LABELS} labels, "
            "as *.example.com"
        )
    return pattern


def _bad_url(sentence: str) -> OSError:
    return fault(errno.EINVAL, f"the secret's URL: {sentence}")
