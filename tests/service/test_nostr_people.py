"""NostrFs between people: where they are written to, their letters, and the jobs they give.

Whoever asks hears why something does not come.
"""

import errno
import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from oanix.lib.nostr import Event, LocalSigner, Template
from oanix.lib.nostr.nip19 import encode as nip19
from oanix.node import READABLE
from oanix.services.nostr.letters import HELD
from oanix.services.relay import RelayFs
from oanix.services.relay.policy import Guest
from tests.nostr.bunker import Answer, Bunker
from tests.reach import ROOT, refused
from tests.service.nostr_help import (
    SIGNERS,
    Clock,
    hear,
    put,
    relay,
    until,
    user,
)

ANN, BOB, EVE = (SIGNERS[name].pubkey for name in ("ann", "bob", "eve"))


# Lists of relays ----------------------------------------------------------------------------------


@pytest.mark.slow
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


@pytest.mark.slow
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
@pytest.mark.timeout(180)
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


@pytest.mark.slow
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
