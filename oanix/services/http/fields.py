"""Fields: what a request is made of, checked before any of it goes near a wire (RFC 9110)."""

import errno
import re
from collections.abc import Iterable
from typing import Final

from oanix.errors import fault
from oanix.lib.web.headers import OVERRIDES

Headers = tuple[tuple[str, str], ...]

URL_MAX: Final = 65_536
HEADERS_MAX: Final = 65_536
"""Bytes of all headers of a request together."""

TIMEOUT_S: Final = 60.0
TIMEOUT_MAX_S: Final = 3600.0

_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_OURS = frozenset({
    "host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade",
    "proxy-connection", "proxy-authorization", "te", "trailer", "expect",
})  # fmt: skip
"""What frames a message or says where it goes: a second opinion about it is an attack."""


def method_of(text: str) -> str:
    """Read a method, in any case. Raises OSError EINVAL."""
    method = text.strip(" \t").upper()
    if not _METHOD.fullmatch(method):
        raise fault(errno.EINVAL, f"{text[:40]!r} is no method: write GET, HEAD, POST, PUT, …")
    if method in ("CONNECT", "TRACE"):
        raise fault(errno.EINVAL, f"{method} is not sent from here: it is for proxies and tests")
    return method


def header_of(name: str, value: str) -> tuple[str, str]:
    """Check one header. Raises OSError EINVAL."""
    if not _NAME.fullmatch(name):
        raise fault(
            errno.EINVAL,
            f"{name[:40]!r} is no name of a header: write NAME: VALUE, the name in letters, digits"
            " and -",
        )
    if name.lower() in _OURS:
        raise fault(errno.EINVAL, f"{name} is set by the server alone; leave it out")
    if name.lower() in OVERRIDES:
        raise fault(
            errno.EINVAL,
            f"{name} would ask for something else than the rules see; write that method, or that"
            " url",
        )
    value = value.strip(" \t")
    if not _VALUE.fullmatch(value):
        raise fault(
            errno.EINVAL,
            f"the value of {name} holds what is no printable ASCII, such as a line end; encode it",
        )
    return name, value


def header_line(line: str) -> tuple[str, str]:
    """Read a header that is written as `Name: value`. Raises OSError EINVAL."""
    name, colon, value = line.partition(":")
    if not colon:
        raise fault(errno.EINVAL, f"{line[:40]!r} is no header: write NAME: VALUE")
    return header_of(name, value)


def check_size(headers: Iterable[tuple[str, str]]) -> None:
    """Bound the headers of one request. Raises OSError EMSGSIZE."""
    size = sum(len(name) + len(value) + 4 for name, value in headers)
    if size > HEADERS_MAX:
        raise fault(errno.EMSGSIZE, f"the headers of a request have at most {HEADERS_MAX} bytes")


def timeout_of(seconds: float) -> float:
    """Check a time-out. Raises OSError EINVAL."""
    if not 0 < seconds <= TIMEOUT_MAX_S:
        raise fault(
            errno.EINVAL, f"a timeout is a number of seconds above 0, at most {TIMEOUT_MAX_S:g}"
        )
    return float(seconds)


def find(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """Give the first value of a header, whatever the case of its name."""
    wanted = name.lower()
    return next((value for name, value in headers if name.lower() == wanted), None)
