"""For tests of NostrFs: relays of ours on loopback, and short ways to use the files."""

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field

from mounts.web import Proxies, WebDoor, listen
from oanix.channel import OpenFile
from oanix.cli.web_port import relay_routes
from oanix.kit import Opening
from oanix.lib.nostr import Event, LocalSigner
from oanix.lib.policy import Layer, Policy, Rules
from oanix.lib.vault import Vault
from oanix.lib.web import Web
from oanix.namespace import Namespace
from oanix.node import WOULD_BLOCK
from oanix.services.nostr import NostrFs
from oanix.services.nostr.link import LinkTimes
from oanix.services.relay import RelayFs
from oanix.store import Store
from tests.reach import ROOT, Reach
from tests.web.asking import OPEN

PATIENCE_S = 40
QUICK = LinkTimes(
    connect=5, answer=5, first_retry=0.05, last_retry=0.2, refused_retry=0.2, leave=1,
    later=0.2, lists=5,
)  # fmt: skip
SECRETS = {name: bytes([n]) * 32 for n, name in enumerate(("ann", "bob", "eve"), 1)}
SIGNERS = {name: LocalSigner(value, now=lambda: 0) for name, value in SECRETS.items()}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_700_000_000

    def __call__(self) -> float:
        return self.now


class Keys:
    """What lends the key of somebody, as a vault does."""

    def __init__(self, name: str) -> None:
        self.values = {"nostr": SECRETS[name].hex().encode()} if name else {}

    def names(self) -> list[str]:
        return list(self.values)

    def set(self, name: str, value: bytes) -> None:
        self.values[name] = value

    def lend(self, name: str, make: Callable[[bytes], Any]) -> Any:
        if name not in self.values:
            raise FileNotFoundError(2, "there is no such secret")
        return make(self.values[name])


@define
class Served:
    """A relay on a port of loopback."""

    fs: RelayFs
    port: int
    reach: Reach

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    async def events(self, query: str = "all") -> list[Event]:
        lines = (await self.reach.read(f"/req/{query}")).splitlines()
        return [Event.parse(line) for line in lines]


@asynccontextmanager
async def relay(
    folder: Path, clock: Clock, *, port: int = 0, policy: str = "", proxies: tuple[str, ...] = ()
) -> AsyncIterator[Served]:
    """Serve a relay; its policy, and the proxies that it believes, may be given."""
    fs = RelayFs(folder, clock=clock)
    async with fs.running():
        if policy:
            fs.relay.book.replace(policy)
        listeners = await listen(f"127.0.0.1:{port}")
        number = listeners[0].socket.getsockname()[1]
        hosts = frozenset({f"127.0.0.1:{number}"})
        door = WebDoor(relay_routes(fs.relay, hosts), proxies=Proxies(proxies))
        async with door.serving(listeners):
            yield Served(fs, number, Reach.of(fs))


@define
class User:
    """Somebody's NostrFs, and how to use its files."""

    fs: NostrFs
    reach: Reach
    clock: Clock
    namespace: Namespace = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.namespace = self.reach.namespace

    async def ctl(self, *lines: str, path: str = "/ctl") -> None:
        for line in lines:
            await self.write(path, line)

    async def write(self, path: str, text: str) -> None:
        opened = await self.reach.open(path, os.O_WRONLY)
        try:
            await put(opened, f"{text}\n".encode())
        finally:
            opened.close(ROOT)

    async def ask(self, path: str, *lines: str) -> list[Any]:
        """Write lines to a file, and read JSON lines from the same open file until its end."""
        opened = await self.reach.open(path, os.O_RDWR)
        try:
            for line in lines:
                await put(opened, f"{line}\n".encode())
            return await hear(opened)
        finally:
            opened.close(ROOT)

    async def json(self, path: str) -> list[Any]:
        return [json.loads(line) for line in (await self.reach.read(path)).splitlines()]


async def put(opened: OpenFile, data: bytes) -> None:
    done = 0
    with trio.fail_after(PATIENCE_S):
        while done < len(data):
            answer = opened.try_write(ROOT, data[done:], 0)
            if answer is WOULD_BLOCK:
                answer = await opened.write(ROOT, data[done:], 0)
            done += answer


async def hear(opened: OpenFile, count: int | None = None) -> list[Any]:
    """Read so many JSON lines, or all until the end."""
    data = b""
    with trio.fail_after(PATIENCE_S):
        while count is None or data.count(b"\n") < count:
            piece = opened.try_read(ROOT, 65_536, 0)
            if piece is WOULD_BLOCK:
                piece = await opened.read(ROOT, 65_536, 0)
            if not piece:
                break
            data += piece
    return [json.loads(line) for line in data.splitlines()]


async def until(true: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.005)


@asynccontextmanager
async def user(
    folder: Path | None, clock: Clock, name: str = "ann", *, own: RelayFs | None = None,
    rules: str = OPEN, options: dict[str, str] | None = None, times: LinkTimes = QUICK,
) -> AsyncIterator[User]:  # fmt: skip
    """Run somebody's NostrFs; own: the relay that is used when no other is chosen."""
    web = Web(Policy(Layer(Rules.parse(rules))))
    fs = NostrFs(
        folder, web=web, policy=web.policy,
        relay=(lambda: own.relay.connect()) if own else None,
        vault=Keys(name),  # type: ignore[arg-type]
        clock=clock, times=times,
    )  # fmt: skip
    namespace = Namespace()
    namespace.mount(fs, "/", options=options or {})
    async with AsyncExitStack() as running:
        await running.enter_async_context(web.running())
        await running.enter_async_context(fs.running())
        yield User(fs, Reach(namespace), clock)


__all__ = [
    "Clock", "Keys", "Opening", "Served", "Store", "User", "Vault", "hear", "put", "relay", "until",
    "user",
]  # fmt: skip
