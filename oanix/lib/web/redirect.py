"""Redirects: where an answer leads, and what is asked there (RFC 9110, section 15.4)."""

import errno

from attrs import evolve

from oanix.errors import fault
from oanix.lib.url import Url
from oanix.lib.web.headers import OF_THE_BODY, PRIVATE, without
from oanix.lib.web.model import Headers, Request

FOUND = (301, 302, 303, 307, 308)


def location(status: int, headers: Headers, url: Url) -> Url | None:
    """Give where an answer redirects to, or None. Raises OSError EPROTO for what cannot be asked.

    url: what was asked, without what a secret added to it.
    """
    places = {value for name, value in headers if name.lower() == "location"}
    if status not in FOUND or not places:
        return None
    if len(places) > 1:
        raise fault(errno.EPROTO, f"{url.host} redirects to {len(places)} places at once")
    try:
        target = url.join(places.pop())
    except OSError as error:
        raise fault(
            errno.EPROTO, f"{url.host} redirects to where no request goes: {error.strerror}"
        ) from error
    if target.scheme not in ("http", "https"):
        raise fault(errno.EPROTO, f"{url.host} redirects to a URL of the scheme {target.scheme}")
    return target


def redirected(request: Request, status: int, target: Url) -> Request:
    """Give the request that is asked next. Raises OSError EPROTO when its body is gone.

    Once an Authorization or a Cookie was dropped, it stays so.
    """
    method, body, headers = request.method, request.body, request.headers
    to_get = (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST")
    if to_get:
        method, body, headers = "GET", None, without(headers, OF_THE_BODY)
    elif body is not None and not body.replayable:
        raise fault(
            errno.EPROTO,
            f"{request.url.host} redirects an upload ({status}) and its body is gone;"
            f" send it to {target.origin} yourself",
        )
    if target.origin != request.url.origin:
        headers = without(headers, PRIVATE)
    return evolve(request, method=method, body=body, headers=headers, url=target)
