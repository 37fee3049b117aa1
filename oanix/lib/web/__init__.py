"""Web: HTTP requests under a policy, with secrets that the asker never sees.

The transport is httpcore2's, not the httpx2 client: every hop of a redirect is judged here, its
address is checked after the name was resolved and is the very address connected to, no cookie is
kept for anyone, and what a body may expand to is bounded.

    web = Web(policy, vault=vault)
    async with web.running():
        exchange = await web.send(Request("GET", Url.parse("https://example.com/")), asker)
        while chunk := await exchange.read(65_536): ...
"""

from oanix.lib.web.exchange import Exchange
from oanix.lib.web.model import (
    Asker,
    Body,
    BytesBody,
    Connected,
    Headers,
    Request,
    WebLimits,
)
from oanix.lib.web.resolve import Resolver, SystemResolver
from oanix.lib.web.web import Web

__all__ = [
    "Asker",
    "Body",
    "BytesBody",
    "Connected",
    "Exchange",
    "Headers",
    "Request",
    "Resolver",
    "SystemResolver",
    "Web",
    "WebLimits",
]
