"""What a relay and a client say to each other, in memory and over a WebSocket."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import nostr_sdk
import pytest
import trio
from attrs import define

from oanix.lib.nostr import Event, Template
from oanix.lib.nostr.auth import auth_template
from oanix.lib.nostr.negentropy import Items, Reconciliation
from oanix.lib.websocket import WebSocket
from oanix.services.relay.core import Core
from oanix.services.relay.link import Link, SocketWire, memory_link
from oanix.services.relay.outbox import Flusher
from oanix.services.relay.rules import RelayLimits
from oanix.services.relay.session import FAULTS, Session, Shared
from tests.service.test_relay_core import ANN, BOB, EVE, NOW, URL, note

PATIENCE_S = 40


@define
class Client:
    """A client's end, which speaks in lists."""

    link: Link
    challenge: str = ""

    async def say(self, *words: object) -> None:
        await self.link.send(json.dumps(words))

    async def hear(self) -> list[Any]:
        with trio.fail_after(PATIENCE_S):
            heard = json.loads(await self.link.receive())
        assert isinstance(heard, list)
        return heard

    async def ask(self, *words: object) -> list[Any]:
        await self.say(*words)
        return await self.hear()

    async def put(self, event: Event) -> list[Any]:
        return await self.ask("EVENT", json.loads(event.json()))

    async def stored(self, name: str, *filters: object) -> tuple[list[str], str]:
        """Ask for what is stored: the ids, and what the EOSE said."""
        await self.say("REQ", name, *filters)
        found = []
        while (heard := await self.hear())[0] == "EVENT":
            assert heard[1] == name
            found.append(heard[2]["id"])
        assert heard[:2] == ["EOSE", name], heard
        return found, heard[2]

    async def login(self, signer: Any, relay: str = URL) -> list[Any]:
        event = signer.sign_now(auth_template(relay, self.challenge))
        return await self.ask("AUTH", json.loads(event.json()))


@define
class Relay:
    """A relay whose sessions live in a nursery."""

    shared: Shared
    nursery: trio.Nursery
    sessions: list[Session]

    async def client(self) -> Client:
        link, wire = memory_link()
        session = Session(self.shared, wire, "memory", urls=(URL,))
        self.sessions.append(session)
        self.nursery.start_soon(session.run)
        client = Client(link)
        word, client.challenge = await client.hear()
        assert word == "AUTH"
        return client

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            socket = await WebSocket.accept(stream)
            await Session(self.shared, SocketWire(socket), "127.0.0.1", urls=(URL,)).run()


@asynccontextmanager
async def relay(
    path: Path, limits: RelayLimits | None = None, **shared: int
) -> AsyncIterator[Relay]:
    core = Core.create(str(path / "r.db"), now=lambda: NOW, limits=limits, url=URL)
    flusher = Flusher()
    async with core.running(), trio.open_nursery() as nursery:
        nursery.start_soon(flusher.run)
        yield Relay(Shared(core, flusher, lambda: NOW, **shared), nursery, [])
        nursery.cancel_scope.cancel()


async def test_an_event_is_answered_found_and_passed_on(tmp_path: Path) -> None:
    first, second = note("one"), note("two", BOB, 1, NOW + 1)
    async with relay(tmp_path) as it:
        ann, bob = await it.client(), await it.client()
        assert await ann.put(first) == ["OK", first.id, True, ""]
        assert await bob.stored("s", {"kinds": [1]}) == ([first.id], "finish")
        assert (await ann.put(second))[2]
        heard = await bob.hear()
        assert heard[:2] == ["EVENT", "s"]
        assert Event.of(heard[2]) == second
        assert (await ann.put(second))[2:] == [True, "duplicate: this event is here already"]
        await bob.say("CLOSE", "s")
        assert await bob.stored("t", {"limit": 0}) == ([], "finish")
        assert await bob.stored("t", {"limit": 1}) == ([second.id], "more")
        assert await bob.ask("COUNT", "c", {"kinds": [1]}) == ["COUNT", "c", {"count": 2}]


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("nothing", "NOTICE"), ("[]", "NOTICE"), ("{}", "NOTICE"), ("[1]", "NOTICE"),
        ('["NEW"]', "NOTICE"), ('["REQ"]', "NOTICE"), ('["REQ",1,{}]', "NOTICE"),
        ('["REQ","",{}]', "CLOSED"), (f'["REQ","{"x" * 65}",{{}}]', "CLOSED"),
        ('["REQ","s"]', "CLOSED"), ('["REQ","s",{"ids":["x"]}]', "CLOSED"),
        ('["REQ","s",{"kinds":[1.0]}]', "CLOSED"), ('["REQ","s",{"limit":-1}]', "CLOSED"),
        ('["REQ","s"' + ",{}" * 21 + "]", "CLOSED"), ('["COUNT","s",{"since":"x"}]', "CLOSED"),
        ('["EVENT"]', "NOTICE"), ('["EVENT",{}]', "NOTICE"), ('["EVENT",{"id":"x"}]', "OK"),
        ('["EVENT",1,2]', "NOTICE"), ('["AUTH",{"id":"y"}]', "OK"), ('["CLOSE"]', "NOTICE"),
        ("[" * 1000, "NOTICE"), ('["EVENT",{"id":"\\ud800"}]', "NOTICE"), (b"\xff\xfe", "NOTICE"),
        ('["NEG-OPEN","n",{}]', "NEG-ERR"), ('["NEG-MSG","n","61"]', "NEG-ERR"),
        ('["NEG-OPEN","n",{},"6"]', "NEG-ERR"), ('["NEG-OTHER","n"]', "NOTICE"),
    ],
)  # fmt: skip
async def test_what_is_no_message_is_told_to_whom_it_can_be_told(
    said: str | bytes, answer: str, tmp_path: Path
) -> None:
    async with relay(tmp_path) as it:
        client = await it.client()
        await client.link.send(said)
        heard = await client.hear()
        assert heard[0] == answer
        if answer == "OK":
            assert heard[2] is False
        assert heard[-1].split(":")[0] in ("invalid", "unsupported", "closed")
        assert await client.stored("after", {}) == ([], "finish")


async def test_a_client_learns_what_it_lacks_and_what_the_relay_lacks(tmp_path: Path) -> None:
    kept = [note(str(n), ANN, 1, NOW - n) for n in range(120)]
    extra = note("not there")
    hidden = ANN.sign_now(Template(1059, "", (("p", BOB.pubkey),), NOW))
    async with relay(tmp_path) as it:
        client = await it.client()
        for event in (*kept, hidden):
            assert (await client.put(event))[2]
        mine = Items((e.created_at, bytes.fromhex(e.id)) for e in (*kept[:100], extra))
        asking = Reconciliation(mine)
        answer = await client.ask("NEG-OPEN", "n", {"kinds": [1, 1059]}, asking.initiate().hex())
        while (following := asking.step(bytes.fromhex(answer[2]))) is not None:
            assert answer[:2] == ["NEG-MSG", "n"]
            answer = await client.ask("NEG-MSG", "n", following.hex())
        assert asking.have == {bytes.fromhex(extra.id)}
        assert asking.need == {bytes.fromhex(e.id) for e in kept[100:]}
        assert await client.ask("NEG-MSG", "n", "ff") == [
            "NEG-ERR", "n", "invalid: this is no negentropy message",
        ]  # fmt: skip
        assert (await client.ask("NEG-OPEN", "m", {}, "62")) == ["NEG-MSG", "m", "61"]
        await client.say("NEG-CLOSE", "m")
        assert (await client.ask("NEG-MSG", "m", "61"))[2].startswith("closed: ")


async def test_negotiations_have_bounds(tmp_path: Path) -> None:
    limits = RelayLimits(negotiations=1, negotiated=2)
    async with relay(tmp_path, limits) as it:
        client = await it.client()
        for n in range(3):
            assert (await client.put(note(str(n))))[2]
        assert (await client.ask("NEG-OPEN", "n", {}, "61"))[2].startswith("blocked: this query")
        assert (await client.ask("NEG-OPEN", "n", {"limit": 2}, "61"))[0] == "NEG-MSG"
        assert (await client.ask("NEG-OPEN", "n", {"limit": 1}, "61"))[0] == "NEG-MSG"
        assert (await client.ask("NEG-OPEN", "o", {"limit": 1}, "61"))[2].startswith("blocked: at")


async def test_a_question_that_takes_long_is_answered_from_a_thread_and_nothing_is_missed(
    tmp_path: Path,
) -> None:
    async with relay(tmp_path) as it:
        client, other = await it.client(), await it.client()
        kept = [note(str(n), ANN, 1, NOW - n) for n in range(40)]
        for event in kept:
            assert (await client.put(event))[2]
        it.shared.core.quick_s = 0.0
        late = note("late", ANN, 1, NOW + 5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.say, "REQ", "s", {"kinds": [1]})
            nursery.start_soon(other.put, late)
        seen: list[str] = []
        while len(seen) < 41:
            heard = await client.hear()
            if heard[0] == "EVENT":
                seen.append(heard[2]["id"])
        assert sorted(seen) == sorted(event.id for event in (*kept, late))


async def test_what_is_written_is_found_by_its_words(tmp_path: Path) -> None:
    cafe = note("Un café, s'il vous plaît, in the old harbour")
    tea = note("A tea in the harbour; no coffee", BOB)
    page = ANN.sign_now(
        Template(
            30_023,
            "long",
            (
                ("d", "x"),
                ("title", "Harbours"),
            ),
            NOW,
        )
    )
    secret = note("harbour", ANN, 4)
    async with relay(tmp_path) as it:
        client = await it.client()
        for event in (cafe, tea, page, secret):
            assert (await client.put(event))[2]
        await it.shared.core.indexed()

        async def found(search: str, **more: object) -> set[str]:
            return set((await client.stored("s", {"search": search, **more}))[0])

        assert await found("HARBOUR") == {cafe.id, tea.id}
        assert await found("cafe harbour language:fr") == {cafe.id}
        assert await found('"old harbour"') == {cafe.id}
        assert await found('"harbour old"') == set()
        assert await found("harbours") == {page.id}
        assert await found("harbour", authors=[BOB.pubkey]) == {tea.id}
        assert await found('OR NEAR( * "') == set()
        assert await client.ask("COUNT", "c", {"search": "harbour"}) == ["COUNT", "c", {"count": 2}]
        newer = note("another Harbour", BOB, 1, NOW + 1)
        assert await client.stored("live", {"search": "harbour", "limit": 0}) == ([], "finish")
        await client.say("EVENT", json.loads(note("nothing", BOB).json()))
        await client.say("EVENT", json.loads(newer.json()))
        while (heard := await client.hear())[:2] != ["EVENT", "live"]:
            assert heard[0] == "OK"
        assert heard[2]["id"] == newer.id
        deletion = ANN.sign_now(Template(5, "", (("e", cafe.id),), NOW))
        await client.say("EVENT", json.loads(deletion.json()))
        while (await client.hear())[:2] != ["OK", deletion.id]:
            pass
        assert cafe.id not in await found("harbour")


async def test_what_fits_best_comes_first_and_a_limit_is_for_the_best(tmp_path: Path) -> None:
    best = note("ferry ferry ferry", ANN, 1, NOW - 9)
    good = note(f"the ferry {'and much else ' * 5}", ANN, 1, NOW - 5)
    poor = note(f"a ferry {'among a great many other words ' * 50}", ANN, 1, NOW)
    async with relay(tmp_path) as it:
        client = await it.client()
        for event in (poor, best, good, note("no boat")):
            assert (await client.put(event))[2]
        await it.shared.core.indexed()
        ranked = [best.id, good.id, poor.id]
        assert await client.stored("a", {"search": "ferry"}) == (ranked, "finish")
        assert await client.stored("b", {"search": "ferry", "limit": 2}) == (ranked[:2], "more")
        since = {"search": "ferry", "since": NOW - 5, "limit": 1}
        assert (await client.stored("c", since))[0] == [good.id]


async def test_who_says_nothing_sensible_for_long_is_sent_away(tmp_path: Path) -> None:
    async with relay(tmp_path) as it:
        client = await it.client()
        for _ in range(FAULTS):
            await client.link.send("?")
        for _ in range(FAULTS):
            assert (await client.hear())[0] == "NOTICE"
        assert "in a row" in (await client.hear())[1]
        with pytest.raises(trio.EndOfChannel), trio.fail_after(PATIENCE_S):
            await client.link.receive()


async def test_subscriptions_are_bounded_and_one_of_a_name_replaces_another(tmp_path: Path) -> None:
    async with relay(tmp_path, RelayLimits(subscriptions=2)) as it:
        client = await it.client()
        for name in ("a", "b", "a"):
            assert await client.stored(name, {}) == ([], "finish")
        assert (await client.ask("REQ", "c", {}))[0] == "CLOSED"
        assert it.shared.core.stats()["subscriptions"] == 2
        await client.say("CLOSE", "unknown")
        await client.say("CLOSE", "a")
        assert await client.stored("c", {}) == ([], "finish")
        await client.link.aclose()
        with trio.fail_after(PATIENCE_S):
            while it.shared.core.stats()["subscriptions"]:
                await trio.lowlevel.checkpoint()


async def test_several_keys_are_proven_on_a_connection_and_gift_wraps_follow(
    tmp_path: Path,
) -> None:
    wrap = note("sealed", EVE, 1059, NOW, ("p", ANN.pubkey))
    protected = note("mine", BOB, 1, NOW, ("-",))
    async with relay(tmp_path) as it:
        client, other = await it.client(), await it.client()
        assert (await other.put(wrap))[2]
        refused = await client.ask("REQ", "s", {"kinds": [1059]})
        assert refused[2] == "auth-required: a gift wrap is for who it names (NIP-59)"
        assert await client.stored("s", {"kinds": [1, 1059]}) == ([], "finish")
        await client.say("CLOSE", "s")
        assert (await client.put(protected))[3].startswith("auth-required:")
        assert (await client.login(BOB))[2:] == [True, ""]
        assert (await client.put(protected))[2]
        assert (await client.login(ANN))[2]
        assert await client.stored("s", {"kinds": [1059]}) == ([wrap.id], "finish")
        # A proof for another connection, and one for another relay.
        replayed = ANN.sign_now(auth_template(URL, client.challenge))
        assert not (await other.ask("AUTH", json.loads(replayed.json())))[2]
        assert not (await other.login(ANN, "wss://other.example"))[2]
        as_event = await client.put(replayed)
        assert (as_event[2], as_event[3].split(":")[0]) == (False, "invalid")


async def test_a_listener_that_does_not_read_is_sent_away_and_memory_stays(tmp_path: Path) -> None:
    async with relay(tmp_path, out_bytes=1 << 16) as it:
        slow, author = await it.client(), await it.client()
        assert await slow.stored("s", {"kinds": [1]}) == ([], "finish")
        for number in range(60):
            assert (await author.put(note("x" * 50_000 + str(number))))[2]
        with trio.fail_after(PATIENCE_S):
            while it.shared.core.stats()["subscriptions"]:
                await trio.lowlevel.checkpoint()
        assert (await author.put(note("still here")))[2]


async def test_every_event_is_heard_once_though_asked_for_while_it_is_stored(
    tmp_path: Path,
) -> None:
    events = [note(str(number)) for number in range(200)]
    async with relay(tmp_path, RelayLimits(subscriptions=500)) as it:
        author, listener = await it.client(), await it.client()
        async with trio.open_nursery() as nursery:

            async def publish() -> None:
                for event in events:
                    await author.say("EVENT", json.loads(event.json()))

            nursery.start_soon(publish)
            for number in range(50):
                await listener.say("REQ", str(number), {"kinds": [1]})
                await trio.lowlevel.checkpoint()
        heard: dict[str, list[str]] = {str(number): [] for number in range(50)}
        with trio.fail_after(PATIENCE_S):
            while any(len(ids) < len(events) for ids in heard.values()):
                said = await listener.hear()
                if said[0] == "EVENT":
                    heard[said[1]].append(said[2]["id"])
        assert all(sorted(ids) == sorted(e.id for e in events) for ids in heard.values())


async def test_a_foreign_client_publishes_and_finds(tmp_path: Path) -> None:
    keys = nostr_sdk.Keys.generate()
    builder = nostr_sdk.EventBuilder(nostr_sdk.Kind(1), "hello")
    event = builder.custom_created_at(nostr_sdk.Timestamp.from_secs(NOW)).finalize(keys)
    async with relay(tmp_path) as it:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        it.nursery.start_soon(partial(trio.serve_listeners, it.serve, [listener]))
        found = await trio.to_thread.run_sync(_foreign, f"ws://127.0.0.1:{port}", event)
    assert found == [event.id().to_hex()]


def _foreign(url: str, event: nostr_sdk.Event) -> list[str]:
    # Its interface is asyncio's.
    import asyncio

    async def talk() -> list[str]:
        client = nostr_sdk.Client()
        await client.add_relay(nostr_sdk.RelayUrl.parse(url))
        await client.connect()
        sent = await client.send_event(event)
        assert len(sent.success) == 1
        wanted = nostr_sdk.Filter().author(event.author())
        got = await client.fetch_events(nostr_sdk.ReqTarget.auto([wanted]), timedelta(seconds=20))
        await client.shutdown()
        return [one.id().to_hex() for one in got]

    return asyncio.run(talk())
