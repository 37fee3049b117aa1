"""A relay that is not ours, nostr-sdk's: NostrFs speaks to it; and we reconcile with it."""

import asyncio
import errno
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nostr_sdk
import pytest
import trio
from attrs import frozen

from oanix.channel import OpenFile
from oanix.lib.nostr import Event, LocalSigner, Template, check
from oanix.lib.nostr.negentropy import Items, Reconciliation
from oanix.lib.nostr.nip19 import encode as nip19
from oanix.services.relay import RelayFs
from tests.foreign.local_relay import local_relay
from tests.reach import ROOT, refused
from tests.service.nostr_help import PATIENCE_S, SIGNERS, Clock, User, hear, relay, until, user

pytestmark = pytest.mark.slow

ANN, BOB = SIGNERS["ann"].pubkey, SIGNERS["bob"].pubkey


def today() -> Clock:
    """Make a clock that shows about the time of the machine, as the other relay takes no other."""
    clock = Clock()
    clock.now = int(time.time())
    return clock


def notes(by: LocalSigner, count: int, *, at: int, text: str = "") -> list[Event]:
    """Make notes of one author, a second apart, from a time on."""
    return [by.sign_now(Template(1, f"{text} {n}", (), at + n)) for n in range(count)]


@asynccontextmanager
async def following(it: User, query: str) -> AsyncIterator[OpenFile]:
    """Subscribe, and give the open file of what comes once what is stored has come."""
    new = await it.reach.open("/sub/new")
    number = (await new.read(ROOT, 10, 0)).decode().strip()
    await it.write(f"/sub/{number}/filter", query)
    events = await it.reach.open(f"/sub/{number}/events")
    eose = await it.reach.open(f"/sub/{number}/eose")
    try:
        while await eose.read(ROOT, 1000, 0):
            pass
        yield events
    finally:
        for opened in (new, events, eose):
            opened.close(ROOT)


async def test_what_is_published_is_found_and_followed_there(tmp_path: Path) -> None:
    clock = today()
    profile = {"kind": 0, "content": json.dumps({"name": "Ann", "about": "a\nb"})}
    page = {"kind": 30_023, "content": "long", "tags": [["d", "x"], ["t", "oanix"]]}
    async with local_relay() as it, user(tmp_path / "a", clock) as ann:
        await ann.ctl(f"relay add {it.url}")
        async with following(ann, "kinds=1") as events:
            [said] = await ann.ask("/publish", "hello, émoji 🦆\u2028")
            assert (said["relay"], said["ok"]) == (it.url, True)
            [event] = await hear(events, 1)
            check(Event.of(event))
            assert (event["id"], event["content"]) == (said["id"], "hello, émoji 🦆\u2028")
        await ann.ask("/publish", json.dumps(profile), json.dumps(page))
        assert await ann.json(f"/event/{nip19('note', said['id'])}") == [event]
        assert await ann.json(f"/req/kinds=1&authors={ANN}") == [event]
        assert [e["content"] for e in await ann.json("/req/t=oanix")] == ["long"]
        assert [e["content"] for e in await ann.json(f"/addr/30023:{ANN}:x")] == ["long"]
        assert await ann.reach.text(f"/profile/{nip19('npub', ANN)}/name") == "Ann\n"
        with refused(errno.ENOENT, "no relay has this event"):
            await ann.reach.read(f"/event/{'0' * 64}")
        deletion = {"kind": 5, "tags": [["e", said["id"]]]}
        assert (await ann.ask("/publish", json.dumps(deletion)))[0]["ok"] is True
        assert await ann.json("/req/kinds=1") == []
        # Deleted events do not come back: the other relay's words are ours.
        with refused(errno.EACCES, "blocked: "):
            await ann.ask("/publish", json.dumps(event))


async def test_letters_go_through_it(tmp_path: Path) -> None:
    clock = today()
    async with (
        local_relay() as it,
        user(tmp_path / "a", clock) as ann,
        user(tmp_path / "b", clock, "bob") as bob,
    ):
        for one in (ann, bob):
            await one.ctl(f"relay add {it.url}")
            listed = {"kind": 10_050, "tags": [["relay", it.url]]}
            await one.ask("/publish", json.dumps(listed))
        inbox = await bob.reach.open(f"/dm/{nip19('npub', ANN)}/inbox")
        assert (await ann.ask(f"/dm/{nip19('npub', BOB)}/send", "for you"))[0]["ok"] is True
        [heard] = await hear(inbox, 1)
        assert (heard["text"], heard["from"]) == ("for you", nip19("npub", ANN))
        inbox.close(ROOT)


async def test_a_key_is_proven_to_it_when_it_asks(tmp_path: Path) -> None:
    clock = today()
    async with (
        local_relay(proof=True) as it,
        user(tmp_path / "a", clock) as ann,
        user(tmp_path / "e", clock, "") as nobody,
    ):
        for one in (ann, nobody):
            await one.ctl(f"relay add {it.url}")
        assert (await ann.ask("/publish", "it is me"))[0]["ok"] is True
        assert [e["content"] for e in await ann.json("/req/kinds=1")] == ["it is me"]
        with refused(errno.EACCES, "auth-required: "):
            await nobody.json("/req/kinds=1")


async def test_it_is_killed_and_comes_back_and_nothing_is_lost_and_nothing_comes_twice(
    tmp_path: Path,
) -> None:
    clock = today()
    async with (
        user(tmp_path / "a", clock) as ann,
        user(tmp_path / "b", clock, "bob") as bob,
        AsyncExitStack() as opened,
    ):
        async with local_relay(tmp_path / "kept") as it:
            for one in (ann, bob):
                await one.ctl(f"relay add {it.url}")
            events = await opened.enter_async_context(following(ann, "kinds=1"))
            for n in range(10):
                await bob.write("/publish", f"before {n}")
            heard = await hear(events, 10)
            await until(lambda: not bob.fs.nostr.outbox.pending)
        for n in range(10):
            await bob.write("/publish", f"while {n}")
        async with local_relay(tmp_path / "kept", port=it.port) as it:
            heard += await hear(events, 10)
            for n in range(10):
                await bob.write("/publish", f"after {n}")
            heard += await hear(events, 10)
            await until(lambda: not bob.fs.nostr.outbox.pending)
            kept = await it.stored(kinds=[1])
        texts = [one["content"] for one in heard]
        assert len(texts) == len(set(texts)) == 30
        assert sorted(event.content for event in kept) == sorted(texts)
        assert events.ready() == 0


async def test_it_is_killed_again_and_again_in_the_middle_of_what_is_sent(tmp_path: Path) -> None:
    clock = today()
    said = [f"note {n}" for n in range(150)]
    async with (
        user(tmp_path / "a", clock) as ann,
        user(tmp_path / "b", clock, "bob") as bob,
        AsyncExitStack() as opened,
        trio.open_nursery() as nursery,
    ):

        async def write() -> None:
            for text in said:
                await bob.write("/publish", text)

        async with local_relay(tmp_path / "kept") as it:
            for one in (ann, bob):
                await one.ctl(f"relay add {it.url}")
            events = await opened.enter_async_context(following(ann, "kinds=1"))
            nursery.start_soon(write)
            heard = await hear(events, 10)
        for count in (60, 110, len(said)):
            async with local_relay(tmp_path / "kept", port=it.port):
                heard += await hear(events, count - len(heard))
        async with local_relay(tmp_path / "kept", port=it.port):
            await until(lambda: not bob.fs.nostr.outbox.pending)
        assert sorted(one["content"] for one in heard) == sorted(said)
        assert events.ready() == 0


async def test_it_comes_back_with_more_than_it_gives_at_once(tmp_path: Path) -> None:
    clock = today()
    began = clock.now - 600
    before, meanwhile = (notes(SIGNERS["eve"], 5, at=began, text="before"),
                         notes(SIGNERS["eve"], 330, at=began + 5, text="meanwhile"))  # fmt: skip
    clock.now = began + 5
    async with user(tmp_path / "a", clock) as ann, AsyncExitStack() as opened:
        async with local_relay(tmp_path / "kept", limit=50) as it:
            await ann.ctl(f"relay add {it.url}")
            await it.feed(before)
            events = await opened.enter_async_context(following(ann, "kinds=1"))
            heard = await hear(events, 5)
        async with local_relay(tmp_path / "kept") as other:
            await other.feed(meanwhile)
        clock.now += 340
        async with local_relay(tmp_path / "kept", port=it.port, limit=50):
            heard += await hear(events, 330)
        assert sorted(one["id"] for one in heard) == sorted(e.id for e in (*before, *meanwhile))
        assert events.ready() == 0


async def test_it_comes_back_with_nothing_and_is_told_again_and_nothing_comes_twice(
    tmp_path: Path,
) -> None:
    clock = today()
    before = notes(SIGNERS["eve"], 20, at=clock.now - 60)
    after = notes(SIGNERS["bob"], 5, at=clock.now - 30)
    async with user(tmp_path / "a", clock) as ann, AsyncExitStack() as opened:
        async with local_relay() as it:
            await ann.ctl(f"relay add {it.url}")
            await it.feed(before)
            events = await opened.enter_async_context(following(ann, "kinds=1"))
            heard = await hear(events, 20)
        async with local_relay(port=it.port) as it:
            await it.feed([*before, *after])
            heard += await hear(events, 5)
        assert sorted(one["id"] for one in heard) == sorted(e.id for e in (*before, *after))
        assert events.ready() == 0


async def test_of_two_relays_one_is_cut_off_and_nothing_is_lost_and_nothing_comes_twice(
    tmp_path: Path,
) -> None:
    clock = today()
    async with (
        relay(tmp_path / "ours", clock) as ours,
        user(tmp_path / "a", clock) as ann,
        user(tmp_path / "b", clock, "bob") as bob,
        AsyncExitStack() as opened,
    ):
        async with local_relay(tmp_path / "theirs") as theirs:
            for one in (ann, bob):
                await one.ctl(f"relay add {ours.url}", f"relay add {theirs.url}", "quorum 1")
            events = await opened.enter_async_context(following(ann, "kinds=1"))
            for n in range(10):
                await bob.write("/publish", f"before {n}")
            heard = await hear(events, 10)
        for n in range(10):
            await bob.write("/publish", f"while {n}")
        heard += await hear(events, 10)
        async with local_relay(tmp_path / "theirs", port=theirs.port) as theirs:
            # What only the relay that was lost gets has to come from there.
            await theirs.feed(notes(SIGNERS["eve"], 3, at=clock.now - 3, text="only there"))
            for n in range(10):
                await bob.write("/publish", f"after {n}")
            heard += await hear(events, 13)
            await until(lambda: not bob.fs.nostr.outbox.pending)
            kept = await theirs.stored(kinds=[1])
        texts = [one["content"] for one in heard]
        assert len(texts) == len(set(texts)) == 33
        assert sorted(event.content for event in kept) == sorted(texts)
        assert sorted(event.content for event in await ours.events("kinds=1")) == sorted(
            text for text in texts if not text.startswith("only there")
        )
        assert events.ready() == 0


# Negentropy (NIP-77) ------------------------------------------------------------------------------


async def test_we_learn_from_it_exactly_what_differs() -> None:
    began = int(time.time()) - 5_000
    shared = notes(SIGNERS["ann"], 2_000, at=began)
    theirs = notes(SIGNERS["bob"], 300, at=began + 700)
    mine = notes(SIGNERS["eve"], 200, at=began + 1_900)
    async with local_relay() as it:
        await it.feed([*shared, *theirs])
        items = Items((one.created_at, bytes.fromhex(one.id)) for one in (*shared, *mine))
        asking = Reconciliation(items)
        async with await it.connect() as socket:
            said = await it.ask(socket, "NEG-OPEN", "n", {"kinds": [1]}, asking.initiate().hex())
            while (more := asking.step(bytes.fromhex(said[2]))) is not None:
                assert said[:2] == ["NEG-MSG", "n"]
                said = await it.ask(socket, "NEG-MSG", "n", more.hex())
    assert asking.need == {bytes.fromhex(one.id) for one in theirs}
    assert asking.have == {bytes.fromhex(one.id) for one in mine}


async def test_its_client_brings_our_relay_and_itself_to_the_same(tmp_path: Path) -> None:
    clock = today()
    began = clock.now - 5_000
    shared = notes(SIGNERS["ann"], 1_500, at=began)
    ours = notes(SIGNERS["bob"], 700, at=began + 700)
    theirs = notes(SIGNERS["eve"], 300, at=began + 1_400)
    async with relay(tmp_path, clock) as it:
        await _submit(it.fs, [*shared, *ours])
        has = [*shared, *theirs]
        received, sent, after = await trio.to_thread.run_sync(
            _synchronize, it.url, has, tmp_path / "theirs"
        )
        assert received == {one.id for one in ours}
        assert sent == {one.id for one in theirs}
        everything = {one.id for one in (*shared, *ours, *theirs)}
        assert after == everything
        assert it.fs.relay.core.stats()["accepted"] == len(everything)


@frozen
class _Guest:
    authed: frozenset[str] = frozenset()
    address: str = "local"


async def _submit(fs: RelayFs, events: Sequence[Event]) -> None:
    async with trio.open_nursery() as nursery:
        for event in events:
            nursery.start_soon(fs.relay.core.submit, event, _Guest())


def _synchronize(
    url: str, has: Sequence[Event], folder: Path
) -> tuple[set[str], set[str], set[str]]:
    """Have nostr-sdk's client, which has some events, synchronize with a relay, both ways.

    Gives what it received and sent, and what it has then.
    """

    async def talk() -> tuple[set[str], set[str], set[str]]:
        nostr_sdk.uniffi_set_event_loop(asyncio.get_running_loop())
        database = await nostr_sdk.NostrLmdb.open(str(folder))
        theirs = [nostr_sdk.Event.from_json(event.json().decode()) for event in has]
        await asyncio.gather(*map(database.save_event, theirs))
        client = nostr_sdk.ClientBuilder().database(database).build()
        await client.add_relay(nostr_sdk.RelayUrl.parse(url))
        await client.connect()
        wanted = nostr_sdk.Filter().kind(nostr_sdk.Kind(1))
        options = nostr_sdk.SyncOptions().direction(nostr_sdk.SyncDirection.BOTH)
        done = await client.sync(wanted, opts=options)
        after = await database.query(wanted)
        await client.shutdown()
        assert not done.failed
        report = done.report
        return (
            {one.to_hex() for one in report.received},
            {one.to_hex() for one in report.sent},
            {one.id().to_hex() for one in after},
        )

    try:
        return asyncio.run(asyncio.wait_for(talk(), PATIENCE_S))
    finally:
        nostr_sdk.uniffi_set_event_loop(None)
