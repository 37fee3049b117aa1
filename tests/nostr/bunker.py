"""A bunker as NIP-46 has it, which signs with one key, and an exchange over a link to a relay."""

import json
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any

import trio
from attrs import define, field

from oanix.errors import fault
from oanix.lib.nostr import Event, Filter, Invalid, LocalSigner, Template, check
from oanix.lib.nostr.remote import KIND
from oanix.services.relay.link import Link

Answer = dict[str, Any]


@define
class LinkExchange:
    """An `Exchange` that has one link for whatever relays are named."""

    link: Link
    _deliver: dict[str, tuple[Filter, Callable[[Event], None]]] = field(factory=dict)
    _unsent: list[str] = field(factory=list)
    _taken: dict[str, tuple[bool, str]] = field(factory=dict)
    _names: "count[int]" = field(factory=count)
    _news: trio.Condition = field(factory=trio.Condition)

    async def publish(self, event: Event, relays: Sequence[str]) -> None:
        """Send what waits, then the event; wait for its OK."""
        unsent, self._unsent = self._unsent, []
        for text in [*unsent, json.dumps(["EVENT", json.loads(event.json())])]:
            await self.link.send(text)
        async with self._news:
            while event.id not in self._taken:
                await self._news.wait()
        ok, words = self._taken.pop(event.id)
        if not ok:
            raise fault(13, words)

    def subscribe(
        self, wanted: Filter, relays: Sequence[str], deliver: Callable[[Event], None]
    ) -> Callable[[], None]:
        """Subscribe before the next event is sent."""
        name = f"x{next(self._names)}"
        self._deliver[name] = wanted, deliver
        self._unsent.append(json.dumps(["REQ", name, wanted.decoded()]))
        return lambda: self._end(name)

    def _end(self, name: str) -> None:
        del self._deliver[name]
        self._unsent.append(json.dumps(["CLOSE", name]))

    @property
    def subscriptions(self) -> int:
        """How many there are."""
        return len(self._deliver)

    async def run(self) -> None:
        """Take what the relay says."""
        while True:
            match json.loads(await self.link.receive()):
                case ["EVENT", str(name), found] if name in self._deliver:
                    wanted, deliver = self._deliver[name]
                    event = Event.of(found)
                    check(event)
                    if wanted.matches(event):
                        deliver(event)
                case ["OK", str(event_id), bool(ok), str(words)]:
                    async with self._news:
                        self._taken[event_id] = ok, words
                        self._news.notify_all()


@define
class Bunker:
    """A remote signer. `twist` changes an answer before it is sent: None keeps it back."""

    link: Link
    signer: LocalSigner
    """The key that it speaks with."""
    user: LocalSigner
    """The key that it signs with."""
    secret: str = ""
    twist: Callable[[str, Answer], Answer | None] = lambda method, answer: answer
    extra: Callable[[Event, Answer], Awaitable[None]] | None = None
    """Called before an answer, to say something else first."""
    known: set[str] = field(factory=set)
    asked: list[str] = field(factory=list)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer requests until cancelled."""
        wanted = {"kinds": [KIND], "#p": [self.signer.pubkey]}
        await self.link.send(json.dumps(["REQ", "b", wanted]))
        while True:
            match json.loads(await self.link.receive()):
                case ["EOSE", *_]:
                    task_status.started()
                case ["EVENT", "b", found]:
                    await self._take(Event.of(found))

    async def _take(self, event: Event) -> None:
        check(event)
        try:
            request = json.loads(await self.signer.decrypt(event.pubkey, event.content))
        except Invalid:
            return
        method, params = request["method"], request["params"]
        self.asked.append(method)
        try:
            answer = {"id": request["id"], "result": await self._do(event.pubkey, method, params)}
        except (Invalid, LookupError, PermissionError) as error:
            answer = {"id": request["id"], "result": "", "error": str(error)}
        if self.extra is not None:
            await self.extra(event, answer)
        twisted = self.twist(method, answer)
        if twisted is not None:
            await self.answer(self.signer, event.pubkey, twisted)

    async def answer(self, signer: LocalSigner, client: str, answer: Answer) -> None:
        """Send an answer, as whoever."""
        content = await signer.encrypt(client, json.dumps(answer))
        event = signer.sign_now(Template(KIND, content, (("p", client),)))
        await self.link.send(json.dumps(["EVENT", json.loads(event.json())]))

    async def _do(self, client: str, method: str, params: list[str]) -> str:
        if method == "connect":
            if params[0] != self.signer.pubkey or [*params, ""][1] != self.secret:
                raise PermissionError("the secret is another")
            self.known.add(client)
            return "ack"
        if client not in self.known:
            raise PermissionError("not connected")
        match method, params:
            case "ping", []:
                return "pong"
            case "get_public_key", []:
                return self.user.pubkey
            case "sign_event", [text]:
                return self._signed(json.loads(text))
            case "nip44_encrypt", [peer, text]:
                return await self.user.encrypt(peer, text)
            case "nip44_decrypt", [peer, payload]:
                return await self.user.decrypt(peer, payload)
        raise LookupError(f"no such method: {method}")

    def _signed(self, asked: dict[str, Any]) -> str:
        template = Template(
            asked["kind"], asked["content"], tuple(tuple(tag) for tag in asked["tags"]),
            asked["created_at"],
        )  # fmt: skip
        return self.user.sign_now(template).json().decode()
