"""Web: the one listening port. It knows HTTP/1.1 and WebSockets, and is handed its routes.

    async with WebDoor(routes).serving(await listen("127.0.0.1:7777")):
        ...

A route says which requests of a path it takes, and answers them with a page or a conversation.
"""

from mounts.web.door import WebDoor, listen, tls_context
from mounts.web.model import Answer, Asked, Bounds, Page, Request, Route, Talk, sentence
from mounts.web.proxies import Proxies

__all__ = [
    "Answer",
    "Asked",
    "Bounds",
    "Page",
    "Proxies",
    "Request",
    "Route",
    "Talk",
    "WebDoor",
    "listen",
    "sentence",
    "tls_context",
]
