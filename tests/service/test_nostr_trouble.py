"""NostrFs where relays hang, refuse or lie, and where a reader does not wait.

What is published goes out all the same, and whoever asks hears why something does not come.
"""

import errno
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from oanix.channel import OpenFile
from oanix.lib.nostr import LocalSigner, Template
from oanix.lib.websocket import WebSocket
from oanix.node import READABLE, WOULD_BLOCK
from oanix.services.relay.policy import Guest
from tests.reach import ROOT, refused
from tests.service.nostr_help import (
    QUICK,
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

BOB = SIGNERS["bob"].pubkey

Says = Callable[[list[Any]], Iterable[str | bytes]]


@asynccontextmanager
async def speaking(says: Says | None = None) -> AsyncIterator[str]:
    """Serve a relay that answers as it likes; without any answers it does not even greet."""

    async def serve(stream: trio.SocketStream) -> None:
        if says is None:
            await trio.sleep_forever()
            return
        socket = await WebSocket.accept(stream)
        async for message in socket:
            await socket.send(*says(json.loads(message)))

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield f"ws://127.0.0.1:{port}/"
        nursery.cancel_scope.cancel()


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
        user(tmp_path / "n", clock, times=evolve(QUICK, connect=600, lists=0.4)) as it,
    ):
        await it.ctl(f"relay add {one.url}", f"relay add {hung}", "timeout 600")
        many = [["p", LocalSigner(bytes([n]) * 32, now=clock).pubkey] for n in range(9, 15)]
        with trio.fail_after(40):
            [said] = [
                one
                for one in await it.ask("/publish", json.dumps({"kind": 1, "tags": many}))
                if one["relay"] != hung
            ]
        assert (said["relay"], said["ok"]) == (one.url, True)
        # There is one event of an id, whoever gives it.
        with trio.fail_after(40):
            assert len(await it.json(f"/event/{said['id']}")) == 1
            assert len(await it.json(f"/req/ids={said['id']}")) == 1


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
    def says(said: list[Any]) -> list[str]:
        return [json.dumps(["OK", said[1]["id"], False, words])] if said[0] == "EVENT" else []

    clock = Clock()
    async with speaking(says) as url, user(tmp_path / "n", clock) as it:
        await it.ctl(f"relay add {url}")
        with refused(number, f"{url}: {words}"):
            await it.ask("/publish", "hello")


async def test_what_a_relay_makes_up_is_shown_to_nobody(tmp_path: Path) -> None:
    clock = Clock()
    eve = SIGNERS["eve"]
    good, other = (eve.sign_now(Template(kind, "x", (), clock.now)) for kind in (1, 7))
    fields = json.loads(good.json())
    made_up = [
        fields | {"content": "changed"}, fields | {"pubkey": BOB}, fields | {"sig": other.sig},
        fields | {"kind": "1"}, fields | {"tags": [[]]}, json.loads(other.json()), {}, [], None, 1,
    ]  # fmt: skip
    noise: list[str | bytes] = [
        "", "[", "{}", "[]", "[1]", b"\xff", "[" * 10_000, '["EVENT"]', '["EVENT",1,{}]',
        '["EOSE"]', '["EOSE","nobody"]', '["CLOSED","nobody"]', '["OK"]', '["OK",1,2,3]',
        '["OK","' + "0" * 64 + '",true,""]', '["AUTH"]', '["AUTH",1]', f'["AUTH","{"x" * 5_000}"]',
        '["NOTICE","\\u001b[2J"]', '["COUNT","x",{"count":1}]', '["NEG-ERR","x",""]',
    ]  # fmt: skip

    def says(said: list[Any]) -> list[str | bytes]:
        if said[0] == "EVENT":
            # An answer to another event, then one that is no answer, then the true one.
            words = "blocked: \x1b[2J\n" + "x" * 999
            return [f'["OK","{other.id}",true,""]', f'["OK","{said[1]["id"]}","yes",""]',
                    json.dumps(["OK", said[1]["id"], False, words])]  # fmt: skip
        if said[0] != "REQ":
            return []
        lies = [json.dumps(["EVENT", said[1], one]) for one in made_up]
        again = [json.dumps(["EVENT", said[1], fields])] * 3
        return [*noise, *lies, *again, json.dumps(["EOSE", said[1], {"more": 1}])]

    async with speaking(says) as url, user(tmp_path / "n", clock) as it:
        await it.ctl(f"relay add {url}")
        async with following(it, "kinds=1") as events:
            assert await hear(events, 1) == [fields]
            assert events.ready() == 0
        assert await it.json("/req/kinds=1") == [fields]
        assert await it.json(f"/event/{good.id}") == [fields]
        with refused(errno.ENOENT, "no relay has this event"):
            await it.reach.read(f"/event/{'1' * 64}")
        with pytest.raises(PermissionError, match="blocked:  ") as told:
            await it.ask("/publish", "hello")
        assert str(told.value.strerror).isprintable()
        assert len(str(told.value.strerror)) < 400
        rejected = next(one for one in (await it.reach.text("/status")).splitlines()
                        if one.startswith("rejected "))  # fmt: skip
        assert int(rejected.split()[1]) >= len(made_up)


class Broken:
    """A relay of ours with a defect."""

    @property
    def relay(self) -> Any:
        raise LookupError("a defect")


async def test_a_defect_is_an_error_and_not_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    broken: Any = Broken()
    async with (
        relay(tmp_path / "1", clock) as one,
        user(tmp_path / "n", clock, own=broken) as it,
    ):
        with refused(errno.EIO, "own: this failed here"):
            await it.reach.read("/req/kinds=1")
        with refused(errno.EIO, "own: this failed here"):
            await it.ask("/publish", "hello")
        # Nothing wants it until the event is delivered again.
        await until(lambda: it.fs.nostr.pool.links[0].state == "idle")
        said = await it.reach.text("/relays")
        assert re.match("own rw (waiting|connecting) this failed here", said)
        await it.ctl(f"relay add {one.url}")
        assert (await it.ask("/publish", "hello"))[0]["ok"] is True
    assert "a defect" in caplog.text


@pytest.mark.slow
async def test_a_relay_that_says_nothing_of_an_event_is_a_time_out(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock) as one,
        speaking(lambda said: []) as silent,
        user(tmp_path / "n", clock) as it,
    ):
        await it.ctl(f"relay add {one.url}", f"relay add {silent}")
        assert (await it.ask("/publish", "to who is connected"))[0]["ok"] is True
        await it.ctl("quorum 2", "timeout 1")
        opened = await it.reach.open("/publish", os.O_RDWR)
        await put(opened, b"hello\n")
        with refused(errno.ETIMEDOUT, "1 of 2 relays have answered in 1 s"):
            await hear(opened)
        said = {line["relay"]: line["ok"] for line in await hear(opened)}
        assert said == {one.url: True, silent: None}
        opened.close(ROOT)


@pytest.mark.slow
async def test_a_relay_that_was_left_is_sent_nothing_that_waited_for_it(tmp_path: Path) -> None:
    clock = Clock()
    async with relay(tmp_path / "1", clock) as gone:
        port, url = gone.port, gone.url
    async with user(tmp_path / "n", clock) as it:
        await it.ctl(f"relay add {url}")
        for number in range(40):
            await it.write("/publish", f"for nobody {number}")
        assert it.fs.nostr.outbox.pending == 40
        await it.ctl(f"relay del {url}")
        await until(lambda: it.fs.nostr.outbox.pending == 0)
        await until(lambda: it.fs.nostr.pool.links[0].state == "idle")
        async with relay(tmp_path / "1", clock, port=port) as back:
            await it.ctl(f"relay add {url}")
            assert (await it.ask("/publish", "after all"))[0]["ok"] is True
            assert [event.content for event in await back.events()] == ["after all"]


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


@pytest.mark.parametrize("words", ["rate-limited: too many questions", "error: closing for now"])
async def test_a_subscription_that_a_relay_ends_for_now_is_asked_for_again(
    words: str, tmp_path: Path
) -> None:
    clock = Clock()
    first, second = (SIGNERS["eve"].sign_now(Template(1, text, (), clock.now)) for text in "ab")
    asked: list[dict[str, Any]] = []

    def says(said: list[Any]) -> list[str]:
        if said[0] != "REQ":
            return []
        asked.append(said[2])
        name, found = said[1], (first, second)[len(asked) > 1]
        told = [json.dumps(["EVENT", name, json.loads(found.json())]), json.dumps(["EOSE", name])]
        return told if len(asked) > 1 else [*told, json.dumps(["CLOSED", name, words])]

    async with speaking(says) as url, user(tmp_path / "n", clock) as it:
        await it.ctl(f"relay add {url}")
        async with following(it, "kinds=1") as events:
            assert [event["content"] for event in await hear(events, 2)] == ["a", "b"]
        assert asked[0] == {"kinds": [1]}
        assert clock.now - 910 < asked[1].pop("since") <= clock.now - 900
        assert asked[1] == {"kinds": [1]}


async def notes(one: Served, *texts: str, at: int) -> None:
    for text in texts:
        event = SIGNERS["eve"].sign_now(Template(1, text, (), at))
        assert (await one.fs.relay.core.submit(event, Guest())).ok


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
