"""The listening port of a namespace: what it serves at which path, and how it is opened."""

import errno
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click
import trio
from attrs import frozen

from mounts.web import (
    Answer,
    Asked,
    Proxies,
    Request,
    Route,
    WebDoor,
    listen,
    sentence,
    tls_context,
)
from oanix.cli.failures import Failure
from oanix.cli.failures import sentence as told
from oanix.lib.websocket import Limits, WebSocket

if TYPE_CHECKING:
    from oanix.namespace import Namespace
    from oanix.services.relay.relay import Relay

NOSTR = "application/nostr+json"
MANAGE = "application/nostr+json+rpc"
POLICY = 1008
WRONG = click.UsageError.exit_code

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

F = TypeVar("F", bound=Callable[..., Any])


@frozen
class PortPlan:
    """What to listen on, and how clients call it."""

    where: tuple[str, ...]
    url: str = ""
    certificate: str = ""
    key: str = ""
    proxies: tuple[str, ...] = ()


def takes_tls(command: F) -> F:
    """Give a command the options of a port, but for where it listens."""
    command = click.option(
        "--proxy", "proxies", metavar="NETWORK", multiple=True,
        help="Believe who asks by X-Forwarded-For from there.",
    )(command)  # fmt: skip
    command = click.option(
        "--tls-key", metavar="FILE", default="", help="Serve TLS with this key (PEM)."
    )(command)
    command = click.option(
        "--tls-cert", metavar="FILE", default="", help="Serve TLS with this certificate (PEM)."
    )(command)
    return click.option(
        "--url", metavar="URL", default="", help="How clients call the relay: wss://…"
    )(command)


def port_plan(
    where: Sequence[str], url: str, certificate: str, key: str, proxies: Sequence[str]
) -> PortPlan:
    """Check what was given for a port. Raises UsageError."""
    if bool(certificate) != bool(key):
        raise click.UsageError("--tls-cert and --tls-key go together")
    try:
        Proxies(proxies)
    except ValueError as error:
        raise click.UsageError(f"--proxy is an address or a network: {error}") from None
    return PortPlan(tuple(where), url, _absolute(certificate), _absolute(key), tuple(proxies))


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""


@asynccontextmanager
async def web_port(namespace: "Namespace", plan: PortPlan) -> AsyncIterator[list[str]]:
    """Serve a namespace's relay on a port for as long as the block; gives its URLs.

    Raises Failure: there is no relay, or the port cannot be had.
    """
    from oanix.services.relay import RelayFs

    services = (entry.service for _, entry in namespace.entries())
    found = next((service for service in services if isinstance(service, RelayFs)), None)
    if found is None:
        raise Failure(
            "this namespace has no relay to serve",
            "add a line to its recipe: mount relay:DIR /relay",
            os.EX_CONFIG,
        )
    relay = found.relay
    listeners: list[trio.SocketListener] = []
    try:
        if plan.url:
            relay.call(plan.url)
        tls = tls_context(plan.certificate, plan.key) if plan.certificate else None
        for where in plan.where:
            listeners += await listen(where)
    except OSError as error:
        for listener in listeners:
            await listener.aclose()
        code = WRONG if error.errno == errno.EINVAL else os.EX_UNAVAILABLE
        raise Failure(told(error), _advice(error), code) from error
    hosts = _hosts(listeners)
    scheme = "wss" if tls is not None else "ws"
    door = WebDoor(relay_routes(relay, hosts), tls=tls, proxies=Proxies(plan.proxies))
    async with door.serving(listeners):
        yield [f"{scheme}://{host}/" for host in _shown(listeners)]


def _advice(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "choose another port, or 0 for any that is free"
    if error.errno == errno.EACCES:
        return "ports below 1024 need a right; choose a higher one"
    return ""


def _shown(listeners: Sequence[trio.SocketListener]) -> list[str]:
    return [_host(*listener.socket.getsockname()[:2]) for listener in listeners]


def _hosts(listeners: Sequence[trio.SocketListener]) -> frozenset[str]:
    """Give the names by which this machine itself may call the port.

    Any other name has to be said with --url: else somebody who has our challenge signed for a
    relay of theirs could log in here with it.
    """
    ports = {listener.socket.getsockname()[1] for listener in listeners}
    own = {f"{host}:{port}" for host in LOOPBACK for port in ports}
    return frozenset(own | set(_shown(listeners)))


def _host(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def relay_routes(relay: "Relay", hosts: frozenset[str]) -> list[Route]:
    """Make the routes of a relay: WebSocket, document (NIP-11), management (NIP-86), and a page."""

    def names(asked: Asked) -> list[str]:
        host = asked.header("host").lower()
        scheme = "wss" if asked.secure else "ws"
        return [relay.url or (f"{scheme}://{host}/" if host in hosts else "")]

    async def talk(socket: WebSocket, asked: Asked) -> None:
        reason = relay.refuses(asked.peer)
        if reason is not None:
            await socket.close(POLICY, reason[:100])
            return
        await relay.talk(socket, asked.peer, names(asked))

    async def document(request: Request) -> Answer:
        return Answer(200, relay.document(), (("Content-Type", NOSTR),))

    async def manage(request: Request) -> Answer:
        urls = [form for name in names(request.asked) for form in _forms(name)]
        header = request.asked.header("authorization")
        status, body = await relay.management.answer(header, urls, request.body)
        return Answer(status, body, (("Content-Type", "application/json"),))

    async def hello(request: Request) -> Answer:
        url = names(request.asked)[0] or "its wss:// URL"
        return sentence(200, f"This is a Nostr relay: add {url} to your client.")

    limits = Limits(message=relay.core.limits.message)
    return [
        Route(path="/", talk=talk, methods=("GET",), cors=True, limits=limits,
              leave=relay.dismiss_all),
        Route(path="/", page=document, takes=lambda asked: asked.accepts(NOSTR), cors=True),
        Route(path="/", page=manage, methods=("POST",), cors=True,
              takes=lambda asked: asked.content_type == MANAGE),
        Route(path="/", page=hello, takes=lambda asked: asked.accepts("text/html")),
    ]  # fmt: skip


def _forms(url: str) -> list[str]:
    """Write a relay's URL as HTTP clients may do, too."""
    bare = url.rstrip("/")
    found = [bare, f"{bare}/"] if url else []
    return [*found, *(f"http{one.removeprefix('ws')}" for one in found if one.startswith("ws"))]
