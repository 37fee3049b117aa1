"""An engine under rules that name loopback, for tests that ask the test server."""

import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from oanix.caller import Caller
from oanix.lib.policy import Layer, Policy, Rules
from oanix.lib.url import Url
from oanix.lib.vault import Attached, Headers, Mask
from oanix.lib.web import Asker, Body, BytesBody, Exchange, Request, Web, WebLimits
from tests.web.server import Server

OPEN = "allow *://*:* addresses=127.0.0.0/8,::1/128\n"
ANN = Asker(Caller(principal="ann", uid=1000))
PATIENCE_S = 20


def policy_of(text: str = OPEN) -> Policy:
    """Make a policy of rules."""
    return Policy(Layer(Rules.parse(text)))


class Names:
    """A resolver that gives what a test says, and notes what it was asked.

    Several answers for a name are given one after the other; the last one stays.
    """

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        given = self.answers.get(host, [["127.0.0.1"]])
        return given.pop(0) if len(given) > 1 else given[0]


class Asking:
    """An engine, and short ways to ask it."""

    def __init__(self, web: Web) -> None:
        self.web = web

    async def send(
        self,
        url: str,
        method: str = "GET",
        *,
        headers: Headers = (),
        body: bytes | Body | None = None,
        timeout_s: float | None = None,
        follow: bool | int = True,
        asker: Asker = ANN,
    ) -> Exchange:
        if isinstance(body, bytes):
            body = BytesBody(body)
        request = Request(method, Url.parse(url), headers, body, timeout_s, follow)
        with trio.fail_after(PATIENCE_S):
            return await self.web.send(request, asker)

    async def get(self, url: str, **more: Any) -> tuple[int, bytes]:
        """Ask, and read to the end."""
        exchange = await self.send(url, **more)
        return exchange.status, await rest(exchange)

    async def echo(self, url: str, **more: Any) -> dict[str, Any]:
        """Ask an echoing route what it got; the headers are a dictionary, in lower case."""
        _, body = await self.get(url, **more)
        shown: dict[str, Any] = json.loads(body)
        shown["headers"] = {name.lower(): value for name, value in shown["headers"]}
        return shown

    def lines(self) -> list[dict[str, Any]]:
        """Give the lines of the log."""
        log = self.web.log
        return [json.loads(log.get(number)) for number in range(log.first, log.next)]

    async def quiet(self) -> None:
        """Wait until no exchange is under way."""
        with trio.fail_after(PATIENCE_S):
            while self.web.status()["open"]:
                await trio.lowlevel.checkpoint()


async def rest(exchange: Exchange) -> bytes:
    """Read an answer to its end."""
    pieces = []
    with trio.fail_after(PATIENCE_S):
        while piece := await exchange.read(1 << 20):
            pieces.append(piece)
    return b"".join(pieces)


@asynccontextmanager
async def asking(
    rules: str = OPEN,
    *,
    trusts: Server | None = None,
    context: ssl.SSLContext | None = None,
    limits: WebLimits | None = None,
    policy: Policy | None = None,
    resolver: Names | None = None,
    **more: Any,
) -> AsyncIterator[Asking]:
    """Run an engine; trusts: the server whose CA it trusts."""
    if trusts is not None and trusts.ca is not None:
        context = trusts.client_context()
    web = Web(
        policy or policy_of(rules),
        resolver=resolver or Names(),
        ssl_context=context,
        limits=limits,
        random=lambda: 0.0,
        **more,
    )
    async with web.running():
        yield Asking(web)


class Keys:
    """Secrets for hosts, with the interface of the vault."""

    def __init__(self, **values: str) -> None:
        self.values = {host.replace("_", "."): value for host, value in values.items()}
        self.attached: list[tuple[str, str, Headers]] = []

    def attach(self, method: str, url: Url, headers: Headers) -> Attached:
        self.attached.append((method, str(url), headers))
        value = self.values.get(url.host)
        if value is None:
            return Attached(url, headers, ())
        kept = tuple(header for header in headers if header[0].lower() != "authorization")
        return Attached(url, (*kept, ("Authorization", f"Bearer {value}")), ("key",))

    def mask_for(self, url: Url) -> Mask:
        return Mask(value.encode() for value in self.values.values())
