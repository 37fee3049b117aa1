"""NostrFs where relays hang or refuse, where a signer is slow, and where a reader does not wait.

What is published goes out all the same, and whoever asks hears why something does not come.
"""

import errno
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from oanix.channel import OpenFile
from oanix.lib.nostr import Event, LocalSigner, Template
from oanix.lib.nostr.nip19 import encode as nip19
from oanix.lib.websocket import WebSocket
from oanix.node import READABLE, WOULD_BLOCK
from oanix.services.nostr.letters import HELD
from oanix.services.relay import RelayFs
from oanix.services.relay.policy import Guest
from tests.nostr.bunker import Answer, Bunker
from tests.reach import ROOT, refused
from tests.service.nostr_help import (
    SIGNERS,
    Clock,
    Served,
    User,
    hear,
    put,
    relay,
    until,
    user,
)

ANN, BOB, EVE = (SIGNERS[name].pubkey for name in ("ann", "bob", "eve"))
TO_BOB = json.dumps({"kind": 1, "content": "hi", "tags": [["p", BOB]]})

Says = Callable[[list[object]], list[object] | None]


@asynccontextmanager
async def speaking(says: Says | None = None) -> AsyncIterator[str]:
    """Serve a relay that gives one answer to each message; without any it does not even greet."""

    async def serve(stream: trio.SocketStream) -> None:
        if says is None:
            await trio.sleep_forever()
            return
        socket = await WebSocket.accept(stream)
        async for message in socket:
            answer = says(json.loads(message))
            if answer is not None:
                await socket.send(json.dumps(answer))

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield f"ws://127.0.0.1:{port}/"
        nursery.cancel_scope.cancel()


# Who does not wait --------------------------------------------------------------------------------


async def test_a_reader_that_does_not_wait_is_told_what_became_of_an_event(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock, policy="deny write kind=4 -- use NIP-17") as one,
        user(tmp_path / "n", clock) as it,
    ):
        await it.ctl(f"relay add {one.url}")
        opened = await it.reach.open("/publish", os.O_RDWR)
        for line in (b"hello\n", b'{"kind":4}\n'):
            await put(opened, line)
            woken = trio.Event()
            while not opened.ready(woken.set) & READABLE:
                with trio.fail_after(20):
                    await woken.wait()
                woken = trio.Event()
            if line == b"hello\n":
                said = opened.try_read(ROOT, 4096, 0)
                assert said is not WOULD_BLOCK
                assert json.loads(said)["ok"] is True
                assert opened.try_read(ROOT, 4096, 0) == b""
        with refused(errno.EACCES, "use NIP-17"):
            opened.try_read(ROOT, 4096, 0)
        said = opened.try_read(ROOT, 4096, 0)
        assert said is not WOULD_BLOCK
        assert json.loads(said)["ok"] is False
        opened.close(ROOT)


# Relays that hang ---------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_relay_that_hangs_holds_up_no_answer_to_somebody(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock) as one,
        speaking() as hung,
        user(tmp_path / "n", clock) as it,
    ):
        await it.ctl(f"relay add {one.url}", f"relay add {hung}", "timeout 600")
        many = [["p", LocalSigner(bytes([n]) * 32, now=clock).pubkey] for n in range(9, 15)]
        with trio.fail_after(4):
            [said] = [
                one
                for one in await it.ask("/publish", json.dumps({"kind": 1, "tags": many}))
                if one["relay"] != hung
            ]
        assert (said["relay"], said["ok"]) == (one.url, True)


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("error: out of order", errno.EIO), ("rate-limited: slow down", errno.EAGAIN),
        ("mute: nobody listens", errno.EACCES), ("restricted: members", errno.EACCES),
        ("pow: 20 bits", errno.EINVAL), ("invalid: no", errno.EINVAL), ("no colon", errno.EACCES),
    ],
)  # fmt: skip
async def test_each_refusal_has_its_errno_and_the_words_of_the_relay(
    words: str, number: int, tmp_path: Path
) -> None:
    def says(said: list[object]) -> list[object] | None:
        if said[0] != "EVENT" or not isinstance(said[1], dict):
            return None
        return ["OK", said[1]["id"], False, words]

    clock = Clock()
    async with speaking(says) as url, user(tmp_path / "n", clock) as it:
        await it.ctl(f"relay add {url}")
        with refused(number, f"{url}: {words}"):
            await it.ask("/publish", "hello")


async def test_a_relay_that_says_nothing_of_an_event_is_a_time_out(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock) as one,
        speaking(lambda said: None) as silent,
        user(tmp_path / "n", clock) as it,
    ):
        await it.ctl(f"relay add {one.url}", f"relay add {silent}", "quorum 2", "timeout 1")
        opened = await it.reach.open("/publish", os.O_RDWR)
        await put(opened, b"hello\n")
        with refused(errno.ETIMEDOUT, "1 of 2 relays have answered in 1 s"):
            await hear(opened)
        said = {line["relay"]: line["ok"] for line in await hear(opened)}
        assert said == {one.url: True, silent: None}
        opened.close(ROOT)


# Lists of relays ----------------------------------------------------------------------------------


async def test_who_tells_a_relay_for_letters_can_be_written_to_soon(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock) as one,
        user(tmp_path / "a", clock, "ann") as ann,
        user(tmp_path / "b", clock, "bob") as bob,
    ):
        for each in (ann, bob):
            await each.ctl(f"relay add {one.url}")
        send = f"/dm/{nip19('npub', BOB)}/send"
        with refused(errno.EHOSTUNREACH, "kind 10050"):
            await ann.write(send, "are you there?")
        listed = {"kind": 10_050, "tags": [["relay", one.url]]}
        await bob.ask("/publish", json.dumps(listed))
        clock.now += 10
        await ann.ask(send, "and now?")
        inbox = await bob.reach.open(f"/dm/{nip19('npub', ANN)}/inbox")
        assert [one["text"] for one in await hear(inbox, 1)] == ["and now?"]
        inbox.close(ROOT)


async def test_what_one_publishes_of_oneself_counts_at_once(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock) as one,
        relay(tmp_path / "2", clock) as two,
        user(tmp_path / "a", clock, "ann") as ann,
    ):
        await ann.ctl(f"relay add {one.url}")
        myself = f"/dm/{nip19('npub', ANN)}/send"
        await ann.ask(myself, "to the one")
        for listed in (one.url, two.url):
            clock.now += 1
            await ann.ask("/publish", json.dumps({"kind": 10_050, "tags": [["relay", listed]]}))
            assert (await ann.ask(myself, "to where it says"))[0]["relay"] == listed


# Letters ------------------------------------------------------------------------------------------


async def test_an_inbox_goes_on_where_one_of_its_relays_refuses(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock, policy="deny read -- closed today") as closed,
        relay(tmp_path / "2", clock) as one,
        user(tmp_path / "a", clock, "ann") as ann,
    ):
        await ann.ctl(f"relay add {closed.url}")
        path = f"/dm/{nip19('npub', ANN)}"
        inbox = await ann.reach.open(f"{path}/inbox")
        with refused(errno.EACCES, "closed today"):
            await hear(inbox, 1)
        inbox.close(ROOT)
        await ann.ctl(f"relay add {one.url}")
        inbox = await ann.reach.open(f"{path}/inbox")
        await until(lambda: any(link.url == closed.url for link in ann.fs.nostr.pool.links))
        await ann.write(f"{path}/send", "to myself")
        assert [one["text"] for one in await hear(inbox, 1)] == ["to myself"]
        inbox.close(ROOT)


@pytest.mark.slow
async def test_letters_that_come_faster_than_a_signer_opens_them_are_told(tmp_path: Path) -> None:
    clock = Clock()
    bob = LocalSigner(bytes([2]) * 32, now=lambda: clock.now)
    own = RelayFs(tmp_path / "relay", clock=clock)
    slow = trio.Event()

    async def later(event: Event, answer: Answer) -> None:
        if bunker.asked[-1] == "nip44_decrypt":
            await slow.wait()

    async with (
        own.running(),
        relay(tmp_path / "1", clock) as one,
        trio.open_nursery() as nursery,
        user(tmp_path / "a", clock, "ann", own=own) as ann,
        user(tmp_path / "b", clock, "", own=own) as it,
    ):
        bunker = Bunker(one.fs.relay.connect(), SIGNERS["eve"], bob, "hush", extra=later)
        await nursery.start(bunker.run)
        where = quote(one.url, safe="")
        await it.ctl(f"signer bunker://{EVE}?relay={where}&secret=hush")
        inbox = await it.reach.open(f"/dm/{nip19('npub', ANN)}/inbox")
        await until(lambda: own.relay.core.stats()["subscriptions"])
        # Anybody can send what cannot be opened, and nobody else may miss a letter for it.
        sent = HELD + 20
        async with trio.open_nursery() as senders:
            for number in range(sent):
                spam = SIGNERS["eve"].sign_now(
                    Template(1059, f"{number}", (("p", BOB),), clock.now)
                )
                senders.start_soon(own.relay.core.submit, spam, Guest())
        await until(lambda: own.relay.core.stats()["accepted"] == sent)
        await until(lambda: any(link.events >= sent for link in it.fs.nostr.pool.links))
        slow.set()
        [lost] = await hear(inbox, 1)
        assert 0 < lost["lagged"] <= 20
        await ann.ask(f"/dm/{nip19('npub', BOB)}/send", "a real one")
        assert (await hear(inbox, 1))[0]["text"] == "a real one"
        inbox.close(ROOT)
        nursery.cancel_scope.cancel()


# Subscriptions ------------------------------------------------------------------------------------


async def test_a_subscription_that_every_relay_refuses_ends_with_its_words(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock) as one,
        user(tmp_path / "n", clock) as it,
    ):
        await it.ctl(f"relay add {one.url}")
        await it.ask("/publish", "hello")
        one.fs.relay.book.replace("deny read -- closed today")
        new = await it.reach.open("/sub/new")
        number = (await new.read(ROOT, 10, 0)).decode().strip()
        events = await it.reach.open(f"/sub/{number}/events")
        await it.write(f"/sub/{number}/filter", "kinds=1")
        with refused(errno.EACCES, f"{one.url}: blocked: closed today"):
            await hear(events)
        assert await hear(events) == []
        assert await it.reach.text(f"/sub/{number}/eose") == (
            f"{one.url} closed blocked: closed today\n"
        )
        with refused(errno.ESHUTDOWN, "begin another"):
            await it.write(f"/sub/{number}/filter", "kinds=1")
        for opened in (new, events):
            opened.close(ROOT)


async def notes(one: Served, *texts: str, at: int) -> None:
    for text in texts:
        event = SIGNERS["eve"].sign_now(Template(1, text, (), at))
        assert (await one.fs.relay.core.submit(event, Guest())).ok


@asynccontextmanager
async def following(it: User, query: str) -> AsyncIterator[OpenFile]:
    """Subscribe, and give the open file of what comes once what is stored has come."""
    new = await it.reach.open("/sub/new")
    number = (await new.read(ROOT, 10, 0)).decode().strip()
    await it.write(f"/sub/{number}/filter", query)
    events = await it.reach.open(f"/sub/{number}/events")
    eose = await it.reach.open(f"/sub/{number}/eose")
    while await eose.read(ROOT, 1000, 0):
        pass
    yield events
    for opened in (new, events, eose):
        opened.close(ROOT)


@pytest.mark.parametrize("shift", [86_400, -86_400])
async def test_a_clock_that_is_set_while_a_relay_is_away_loses_nothing(
    shift: int, tmp_path: Path
) -> None:
    right, wrong = Clock(), Clock()
    wrong.now += shift
    async with user(tmp_path / "n", wrong) as it, AsyncExitStack() as opened:
        async with relay(tmp_path / "1", right) as one:
            await it.ctl(f"relay add {one.url}")
            events = await opened.enter_async_context(following(it, "kinds=1"))
            await notes(one, "before", at=right.now)
            assert [event["content"] for event in await hear(events, 1)] == ["before"]
        wrong.now -= shift
        right.now += 5
        wrong.now += 5
        async with relay(tmp_path / "1", right, port=one.port) as one:
            await notes(one, "meanwhile", at=right.now - 3)
            assert [event["content"] for event in await hear(events, 1)] == ["meanwhile"]


@pytest.mark.parametrize(("query", "first"), [("kinds=1&limit=0", 0), ("kinds=1&limit=1", 1)])
async def test_what_a_limit_left_out_does_not_come_after_a_cut(
    query: str, first: int, tmp_path: Path
) -> None:
    clock = Clock()
    async with user(tmp_path / "n", clock) as it, AsyncExitStack() as opened:
        async with relay(tmp_path / "1", clock) as one:
            await notes(one, "long before", "long ago", at=clock.now - 60)
            await notes(one, "before", at=clock.now - 5)
            await it.ctl(f"relay add {one.url}")
            events = await opened.enter_async_context(following(it, query))
            heard = await hear(events, first) if first else []
            clock.now += 5
            await notes(one, "live", at=clock.now)
            heard += await hear(events, 1)
        async with relay(tmp_path / "1", clock, port=one.port) as one:
            clock.now += 5
            await notes(one, "meanwhile", at=clock.now)
            heard += await hear(events, 1)
            assert [event["content"] for event in heard] == [
                *["before"][:first], "live", "meanwhile",
            ]  # fmt: skip
            await until(lambda: one.fs.relay.core.stats()["subscriptions"])
            assert events.ready() == 0


# Jobs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "number", "words"),
    [
        ("deny write kind=5050 -- no jobs here", errno.EACCES, "no jobs here"),
        ("deny read kind=7000\ndeny read kind=6050 -- no answers", errno.EACCES, "blocked: "),
        ("pow 200 kind=5050", errno.EINVAL, "pow: "),
    ],
)  # fmt: skip
async def test_a_job_that_no_relay_takes_is_told_to_who_asks(
    policy: str, number: int, words: str, tmp_path: Path
) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock, policy=policy) as one,
        user(tmp_path / "n", clock) as it,
    ):
        await it.ctl(f"relay add {one.url}")
        job = await it.reach.open("/dvm/5050/new", os.O_RDWR)
        await put(job, b"write a poem\n")
        with refused(number, words):
            await hear(job)
        assert await hear(job) == []
        assert job.ready() & READABLE
        job.close(ROOT)


async def test_a_job_that_reaches_nobody_is_told_and_may_still_be_done(tmp_path: Path) -> None:
    clock = Clock()
    async with relay(tmp_path / "1", clock) as one:
        port = one.port
    async with user(tmp_path / "n", clock) as it, user(tmp_path / "w", clock, "bob") as bob:
        for each in (it, bob):
            await each.ctl(f"relay add ws://127.0.0.1:{port}/")
        job = await it.reach.open("/dvm/5050/new", os.O_RDWR)
        with refused(errno.EINVAL, "a job here has the kind 5050"):
            await put(job, b'{"kind":5001}\n')
        await put(job, b"write a poem\n")
        with refused(errno.ENOTCONN, "Connection refused"):
            await hear(job)
        async with relay(tmp_path / "1", clock, port=port) as one:
            await until(lambda: one.fs.relay.core.stats()["accepted"])
            [request] = await one.events("kinds=5050")
            done = {"kind": 6050, "content": "roses", "tags": [["e", request.id], ["p", ANN]]}
            await bob.ask("/publish", json.dumps(done))
            assert [line["content"] for line in await hear(job)] == ["roses"]
        job.close(ROOT)
