"""Headers: which ones a guest may send, and which answers are accepted."""

import errno
import re
from collections.abc import Iterable
from typing import Final

from oanix.errors import fault
from oanix.lib.url import Url
from oanix.lib.web.decode import ACCEPTED
from oanix.lib.web.model import Body, Headers, Request, WebLimits

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

OURS: Final = frozenset(
    ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te",
     "trailer", "http2-settings")
)  # fmt: skip
"""Headers of one connection and of its framing (RFC 9110, section 7.6.1): never a guest's."""

PRIVATE: Final = frozenset(("authorization", "cookie", "proxy-authorization"))
"""Headers that a redirect to another origin must not carry on."""

OF_THE_BODY: Final = frozenset(
    ("content-encoding", "content-language", "content-location", "content-type", "content-length",
     "digest", "last-modified")
)  # fmt: skip
"""Headers that go with a body that is dropped (RFC 9110, section 15.4)."""

OVERRIDES: Final = frozenset(
    ("x-http-method-override", "x-http-method", "x-method-override", "x-original-url",
     "x-rewrite-url")
)  # fmt: skip
"""Headers with which some servers do another request than the one that the rules have judged."""

REFUSED_METHODS: Final = frozenset(("CONNECT", "TRACE", "TRACK"))


def check_method(method: str) -> str:
    """Give the method in upper case, so that no server reads it as another. Raises EINVAL."""
    if not _TOKEN.fullmatch(method):
        raise fault(errno.EINVAL, f"{method[:40]!r} is no method; write GET, POST or another word")
    method = method.upper()
    if method in REFUSED_METHODS:
        raise fault(errno.EINVAL, f"{method} is not sent for anyone")
    return method


def check_headers(headers: Headers, url: Url, body: Body | None, limits: WebLimits) -> Headers:
    """Give the headers that go out as the guest's. Raises OSError EINVAL, EMSGSIZE.

    Host and Content-Length are accepted when they say what is sent anyway, and left out.
    """
    if len(headers) > limits.request_headers:
        raise fault(errno.EMSGSIZE, f"more than {limits.request_headers} headers")
    if sum(len(name) + len(value) for name, value in headers) > limits.request_header_bytes:
        raise fault(errno.EMSGSIZE, f"more than {limits.request_header_bytes} bytes of headers")
    kept = []
    for name, value in headers:
        value = value.strip(" \t")
        if not _TOKEN.fullmatch(name):
            raise fault(errno.EINVAL, f"{name[:40]!r} is no name of a header")
        if _CONTROL.search(value):
            raise fault(errno.EINVAL, f"the header {name} has a line end or a control character")
        lower = name.lower()
        if lower in OURS:
            raise fault(errno.EINVAL, f"the header {name} belongs to the connection: leave it out")
        if lower in OVERRIDES:
            raise fault(
                errno.EINVAL,
                f"the header {name} would ask for something else than the rules see; write that"
                " method, or that url",
            )
        if lower == "host":
            _check_host(value, url)
        elif lower == "content-length":
            _check_length(value, body)
        else:
            kept.append((name, value))
    return tuple(kept)


def _check_host(value: str, url: Url) -> None:
    if value.lower() not in (url.authority, f"{url.authority}:{url.port}"):
        raise fault(
            errno.EINVAL, f"the header Host says {value[:80]!r} and the URL {url.authority}"
        )


def _check_length(value: str, body: Body | None) -> None:
    length = body.length if body is not None else 0
    if value != str(length):
        raise fault(
            errno.EINVAL,
            f"the header Content-Length says {value[:20]!r}; leave it out, the body's own counts",
        )


def without(headers: Headers, names: Iterable[str]) -> Headers:
    """Leave out some headers, named in lower case."""
    dropped = frozenset(names)
    return tuple(header for header in headers if header[0].lower() not in dropped)


def find(headers: Headers, name: str) -> str | None:
    """Give the value of a header, the values of several joined, or None."""
    values = [value for key, value in headers if key.lower() == name]
    return ", ".join(values) if values else None


def outgoing(request: Request, *, masked: bool) -> Headers:
    """Add what every request has, before a secret is attached.

    masked: the answer must be one that can be searched for secrets, so nothing partial is asked
    for and no coding that cannot be decoded.
    """
    headers = request.headers
    if masked:
        headers = without(headers, ("range", "request-range", "if-range", "accept-encoding"))
    added = []
    if find(headers, "user-agent") is None:
        added.append(("User-Agent", "oanix"))
    if find(headers, "accept") is None:
        added.append(("Accept", "*/*"))
    if find(headers, "accept-encoding") is None and find(headers, "range") is None:
        added.append(("Accept-Encoding", ACCEPTED))
    return (*headers, *added)


def on_the_wire(
    headers: Headers, url: Url, method: str, body: Body | None
) -> list[tuple[bytes, bytes]]:
    """Encode the headers of a request, with those that frame it."""
    framing: list[tuple[str, str]] = []
    if body is not None and body.length is None:
        framing.append(("Transfer-Encoding", "chunked"))
    elif body is not None or method in ("POST", "PUT", "PATCH"):
        length = body.length if body is not None else 0
        framing.append(("Content-Length", str(length)))
    whole = (("Host", url.authority), *headers, *framing)
    return [
        (name.encode("ascii"), value.encode("utf-8", "surrogateescape")) for name, value in whole
    ]


def read(raw: Iterable[tuple[bytes, bytes]], host: str, limits: WebLimits) -> Headers:
    """Decode and check the headers of an answer. Raises OSError EMSGSIZE, EPROTO."""
    headers, size = [], 0
    for name, value in raw:
        size += len(name) + len(value)
        headers.append((name.decode("latin-1"), _text(value)))
    if len(headers) > limits.answer_headers or size > limits.answer_header_bytes:
        raise fault(
            errno.EMSGSIZE,
            f"the answer of {host} has {len(headers)} headers of {size} bytes; at most"
            f" {limits.answer_headers} of {limits.answer_header_bytes} are read",
        )
    found = tuple(headers)
    lengths = {value for name, value in found if name.lower() == "content-length"}
    if len(lengths) > 1 or (lengths and find(found, "transfer-encoding") is not None):
        # RFC 9112, section 6.3: two ends of one body are how answers are smuggled.
        raise fault(errno.EPROTO, f"the answer of {host} has two lengths")
    if any(_CONTROL.search(value) or not _TOKEN.fullmatch(name) for name, value in found):
        raise fault(errno.EPROTO, f"the answer of {host} has a header that is none")
    return found


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
