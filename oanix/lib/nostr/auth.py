"""Auth: events that prove who asks, to a relay (NIP-42) and to an HTTP server (NIP-98)."""

import base64
import binascii
import hashlib
from typing import Final
from urllib.parse import urlsplit

from oanix.lib.nostr.codec import Invalid
from oanix.lib.nostr.event import Event
from oanix.lib.nostr.keys import Template, check

AUTH: Final = 22_242
HTTP_AUTH: Final = 27_235
AUTH_WINDOW_S: Final = 600
HTTP_WINDOW_S: Final = 60
LOGINS: Final = frozenset((AUTH, HTTP_AUTH))
"""Kinds with which whoever holds them can log in as their author."""


def auth_template(relay: str, challenge: str) -> Template:
    """Make what proves to a relay who this is (NIP-42)."""
    return Template(AUTH, tags=(("relay", relay), ("challenge", challenge)))


def check_auth(event: Event, relays: frozenset[str], challenge: str, now: int) -> None:
    """Check a proof that a relay got on the connection of this challenge. Raises Invalid.

    relays: the addresses of the relay; scheme, path and a slash at the end make no difference.
    """
    if event.kind != AUTH:
        raise Invalid(f"an AUTH has the kind {AUTH}")
    if abs(event.created_at - now) > AUTH_WINDOW_S:
        raise Invalid("the AUTH is too old, or of the future: its time is off by over 10 minutes")
    if not challenge or event.first("challenge") != challenge:
        raise Invalid("the AUTH answers another challenge")
    said = event.first("relay")
    if said is None or _host(said) not in {_host(relay) for relay in relays}:
        raise Invalid("the AUTH is for another relay")
    check(event)


def _host(url: str) -> str:
    try:
        found = urlsplit(url if "//" in url else f"//{url}")
        port = found.port
    except ValueError:
        return ""
    default = {"ws": 80, "wss": 443}.get(found.scheme)
    shown = "" if port in (None, default) else f":{port}"
    return f"{(found.hostname or '').rstrip('.')}{shown}"


def http_template(method: str, url: str, body: bytes = b"") -> Template:
    """Make what proves to an HTTP server who asks (NIP-98)."""
    tags = [("u", url), ("method", method)]
    if body:
        tags.append(("payload", hashlib.sha256(body).hexdigest()))
    return Template(HTTP_AUTH, tags=tuple(tags))


def http_header(event: Event) -> str:
    """Write the value of the Authorization header."""
    return f"Nostr {base64.b64encode(event.json()).decode()}"


def check_http(header: str, method: str, url: str, body: bytes, now: int) -> Event:
    """Check the Authorization of a request, and give its event. Raises Invalid.

    A body needs its hash in `payload`. That an event is used once is for the server to see to.
    """
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "nostr":
        raise Invalid("the Authorization is not of the form Nostr BASE64")
    try:
        event = Event.parse(base64.b64decode(encoded.strip(), validate=True))
    except (binascii.Error, ValueError) as error:
        raise error if isinstance(error, Invalid) else Invalid("it is no base64") from None
    if event.kind != HTTP_AUTH:
        raise Invalid(f"a request is authorized by an event of kind {HTTP_AUTH}")
    if abs(event.created_at - now) > HTTP_WINDOW_S:
        raise Invalid("its time is off by over a minute")
    if event.values("u") != [url]:
        raise Invalid("it is for another URL")
    if [one.upper() for one in event.values("method")] != [method.upper()]:
        raise Invalid("it is for another method")
    payload = event.values("payload")
    if (body or payload) and payload != [hashlib.sha256(body).hexdigest()]:
        raise Invalid("its payload is not the hash of the body")
    check(event)
    return event
