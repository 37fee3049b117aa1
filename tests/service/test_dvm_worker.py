"""A worker (NIP-90): jobs come through a relay on loopback, and what becomes of them goes back."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import nostr_sdk
import pytest
import trio
from attrs import define, field

from oanix.client import Client
from oanix.dvm import Command, Failed, Handler, Jobs, Offer, Request, Worker
from oanix.lib.nostr import Event, LocalSigner, Template, check
from tests.reach import ROOT
from tests.service.nostr_help import (
    SECRETS,
    SIGNERS,
    Clock,
    Keys,
    Served,
    User,
    put,
    relay,
    until,
    user,
)

ANN, BOB, EVE = (SIGNERS[name].pubkey for name in ("ann", "bob", "eve"))
SH = Command(("sh", "-c", "tr a-z A-Z"), environment={"PATH": os.environ["PATH"]})


@define
class Gate:
    """A handler that waits until it is let go."""

    texts: list[str] = field(factory=list)
    ended: list[str] = field(factory=list)
    most: int = 0
    now: int = 0
    open: trio.Event = field(factory=trio.Event)

    async def run(self, request: Request, text: str, folder: Path) -> str:
        self.texts.append(text)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.open.wait()
        finally:
            self.now -= 1
            self.ended.append(text)
        if text == "bad":
            raise Failed("this is bad")
        return text.upper()

    def end_leftover(self, folder: Path) -> None:
        return None


@define
class World:
    """A relay, a worker of Bob's, and Ann who asks."""

    path: Path
    relay: Served
    bob: User
    clock: Clock
    nursery: trio.Nursery
    reported: list[tuple[str, str]] = field(factory=list)

    @asynccontextmanager
    async def worker(
        self, handler: Handler = SH, folder: str = "dvm", **offer: Any
    ) -> AsyncIterator[Jobs]:
        jobs = Jobs.open(self.path / folder)
        worker = Worker(
            Client(self.bob.namespace), jobs, handler,
            Offer(kinds=frozenset({5001, 5050}), **offer), folder=self.path / folder / "work",
            now=lambda: int(self.clock()), tree="", again_s=0.05,
            report=lambda request, state: self.reported.append((request.id, state)),
        )  # fmt: skip
        async with trio.open_nursery() as nursery:
            with trio.fail_after(20):
                assert await nursery.start(worker.run) == BOB
            yield jobs
            nursery.cancel_scope.cancel()
        jobs.close()

    async def ask(
        self, *tags: tuple[str, ...], kind: int = 5050, name: str = "ann", at: int | None = None
    ) -> Event:
        signer = LocalSigner(SECRETS[name], now=lambda: int(self.clock()))
        event = signer.sign_now(Template(kind, "", tags, at))
        await self.put(event)
        return event

    async def put(self, event: Event) -> None:
        file = await self.relay.reach.open("/publish", os.O_RDWR)
        try:
            await put(file, event.json() + b"\n")
        finally:
            file.close(ROOT)

    async def answers(self, job: Event, kind: int) -> list[Event]:
        return await self.relay.events(f"kinds={kind}&#e={job.id}")

    async def answer(self, job: Event, kind: int = 6050) -> Event:
        with trio.fail_after(20):
            while not (found := await self.answers(job, kind)):  # noqa: ASYNC110
                await trio.sleep(0.01)
        return found[0]

    async def statuses(self, job: Event, count: int) -> list[str]:
        with trio.fail_after(20):
            while len(found := await self.answers(job, 7000)) < count:  # noqa: ASYNC110
                await trio.sleep(0.01)
        return sorted(one.first("status") or "" for one in found)

    async def becomes(self, job: Event, state: str) -> None:
        await until(lambda: (job.id, state) in self.reported)


@asynccontextmanager
async def world(
    tmp_path: Path, clock: Clock | None = None, policy: str = ""
) -> AsyncIterator[World]:
    clock = clock or Clock()
    async with (
        relay(tmp_path / "relay", clock, policy=policy) as served,
        user(tmp_path / "bob", clock, "bob") as bob,
        trio.open_nursery() as nursery,
    ):
        await bob.ctl(f"relay add {served.url}")
        yield World(tmp_path, served, bob, clock, nursery)
        nursery.cancel_scope.cancel()


async def test_a_job_is_done_and_its_result_has_the_tags_of_the_nip(tmp_path: Path) -> None:
    async with world(tmp_path) as it, it.worker() as jobs:
        job = await it.ask(("i", "shout", "text"), ("i", "loud"), ("output", "text/plain"))
        result = await it.answer(job)
        check(result)
        assert (result.pubkey, result.content) == (BOB, "SHOUT\nLOUD")
        assert Event.parse(result.first("request") or "") == job
        assert result.tags[1:] == (
            ("e", job.id), ("p", ANN), ("i", "shout", "text"), ("i", "loud"),
        )  # fmt: skip
        [feedback] = await it.answers(job, 7000)
        assert feedback.tags == (("status", "processing"), ("e", job.id), ("p", ANN))
        await it.becomes(job, "done")
        assert jobs.counts() == {"done": 1}
        await until(lambda: list((tmp_path / "dvm" / "work").iterdir()) == [])
        assert [state for _, state in it.reported] == ["waiting", "running", "done"]


async def test_who_asks_through_a_tree_hears_everything(tmp_path: Path) -> None:
    async with world(tmp_path) as it, it.worker(), user(tmp_path / "ann", it.clock) as ann:
        await ann.ctl(f"relay add {it.relay.url}")
        said = await ann.ask("/dvm/5001/new", "be loud")
        assert [event["kind"] for event in said] == [7000, 6001]
        assert said[-1]["content"] == "BE LOUD"


async def test_a_job_is_done_once_however_often_it_comes(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        async with it.worker():
            job = await it.ask(("i", "x"))
            await it.answer(job)
            await it.becomes(job, "done")
        async with it.worker():
            other = await it.ask(("i", "y"))
            await it.becomes(other, "done")
        assert it.reported.count((job.id, "running")) == 1
        assert len(await it.answers(job, 6050)) == 1


async def test_a_program_that_fails_is_told_to_who_asked(tmp_path: Path) -> None:
    gate = Gate()
    gate.open.set()
    async with world(tmp_path) as it, it.worker(gate) as jobs:
        job = await it.ask(("i", "bad"))
        await it.becomes(job, "failed")
        assert await it.statuses(job, 2) == ["error", "processing"]
        assert await it.answers(job, 6050) == []
        assert jobs.counts() == {"failed": 1}


async def test_so_many_at_once_and_the_rest_wait(tmp_path: Path) -> None:
    gate = Gate()
    async with world(tmp_path) as it, it.worker(gate, at_once=2):
        asked = [await it.ask(("i", f"n{n}")) for n in range(5)]
        await until(lambda: len(gate.texts) == 2)
        gate.open.set()
        for job in asked:
            await it.becomes(job, "done")
        assert gate.most == 2


async def test_what_is_not_for_it_is_left_alone(tmp_path: Path) -> None:
    gate = Gate()
    gate.open.set()
    async with world(tmp_path) as it, it.worker(gate, max_age_s=60):
        now = int(it.clock())
        await it.ask(("i", "of another kind"), kind=5100)
        await it.ask(("i", "old"), at=now - 61)
        await it.ask(("i", "for eve"), ("p", EVE))
        await it.ask(("i", "for eve and bob"), ("p", EVE), ("p", BOB))
        last = await it.ask(("i", "for all"))
        await it.becomes(last, "done")
        await until(lambda: sorted(gate.texts) == ["for all", "for eve and bob"])
        await it.answer(last)
        assert {event.kind for event in await it.relay.events(f"authors={BOB}")} == {6050, 7000}


async def test_a_request_that_is_dated_ahead_is_left_alone(tmp_path: Path) -> None:
    gate = Gate()
    gate.open.set()
    async with world(tmp_path) as it:
        await it.ask(("i", "of later"))
        it.clock.now -= 1_000
        async with it.worker(gate):
            last = await it.ask(("i", "of now"))
            await it.becomes(last, "done")
        assert gate.texts == ["of now"]


async def test_an_encrypted_request_is_answered_with_an_error(tmp_path: Path) -> None:
    async with world(tmp_path) as it, it.worker() as jobs:
        job = await it.ask(("encrypted",), ("p", BOB))
        feedback = await it.answer(job, 7000)
        assert feedback.tags[0] == ("status", "error", "encrypted requests are not read here")
        await it.becomes(job, "refused")
        assert jobs.counts() == {"refused": 1}


async def test_a_price_is_asked_of_who_bids_less_and_written_on_the_result(tmp_path: Path) -> None:
    async with world(tmp_path) as it, it.worker(price=1_000):
        for bid in ((), (("bid", "999"),), (("bid", "x"),)):
            job = await it.ask(("i", f"{bid}"), *bid)
            feedback = await it.answer(job, 7000)
            assert feedback.first("status") == "payment-required"
            assert feedback.first("amount") == "1000"
            await it.becomes(job, "unpaid")
        job = await it.ask(("i", "x"), ("bid", "1000"))
        result = await it.answer(job)
        assert (result.content, result.tags[-1]) == ("X", ("amount", "1000"))


async def test_who_asked_can_cancel_and_nobody_else(tmp_path: Path) -> None:
    gate = Gate()
    async with world(tmp_path) as it, it.worker(gate, at_once=1):
        running, waiting = await it.ask(("i", "runs")), await it.ask(("i", "waits"))
        await it.becomes(waiting, "waiting")
        await until(lambda: gate.texts == ["runs"])
        for job in (running, waiting):
            await it.ask(("e", job.id), kind=5, name="eve")
        await it.ask(("e", waiting.id), ("e", running.id), kind=5)
        await it.becomes(running, "cancelled")
        await it.becomes(waiting, "cancelled")
        await until(lambda: gate.ended == ["runs"])
        gate.open.set()
        last = await it.ask(("i", "last"))
        await it.becomes(last, "done")
        assert gate.texts == ["runs", "last"]
        for job in (running, waiting):
            assert await it.answers(job, 6050) == []


async def test_after_a_restart_it_goes_on_where_it_was(tmp_path: Path) -> None:
    first, second = Gate(), Gate()
    second.open.set()
    async with world(tmp_path) as it:
        async with it.worker(first, at_once=1):
            running, waiting = await it.ask(("i", "one")), await it.ask(("i", "two"))
            await it.becomes(waiting, "waiting")
            await until(lambda: first.texts == ["one"])
        # Later than it would take a new request.
        it.clock.now += 10_000
        async with it.worker(second) as jobs:
            await it.becomes(running, "done")
            await it.becomes(waiting, "done")
            assert sorted(second.texts) == ["one", "two"]
            assert (await it.answer(running)).content == "ONE"
            assert jobs.counts() == {"done": 2}


async def test_a_job_that_was_cut_off_too_often_is_given_up(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = await it.ask(("i", "deadly"))
        jobs = Jobs.open(tmp_path / "dvm")
        jobs.add(Request.of(job), "waiting", int(it.clock()))
        for _ in range(3):
            jobs.release(job.id, tried=True)
            assert jobs.claim(job.id)
        jobs.close()
        async with it.worker():
            feedback = await it.answer(job, 7000)
            assert feedback.tags[0] == ("status", "error", "the job was cut off")
            await it.becomes(job, "failed")


async def test_an_answer_that_was_signed_is_published_as_it_is(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job = await it.ask(("i", "x"))
        signer = LocalSigner(SECRETS["bob"], now=lambda: int(it.clock()))
        result = signer.sign_now(Request.of(job).result("signed before", None))
        await it.put(result)
        jobs = Jobs.open(tmp_path / "dvm")
        jobs.add(Request.of(job), "waiting", int(it.clock()))
        jobs.claim(job.id)
        jobs.answer(job.id, "done", "{}")
        jobs.sign(job.id, result)
        jobs.close()
        it.clock.now += 5
        async with it.worker():
            await it.becomes(job, "done")
            await until(lambda: it.bob.fs.status()["pending"] == "0")
        assert await it.answers(job, 6050) == [result]


async def test_an_answer_waits_for_a_key_to_sign_it(tmp_path: Path) -> None:
    gate = Gate()
    async with world(tmp_path) as it, it.worker(gate) as jobs:
        job = await it.ask(("i", "x"))
        await until(lambda: gate.texts == ["x"])
        keys = it.bob.fs.nostr.tools.vault
        assert isinstance(keys, Keys)
        kept = keys.values.pop("nostr")
        it.clock.now += 10
        gate.open.set()
        await until(lambda: jobs.counts() == {"answered": 1})
        keys.values["nostr"] = kept
        it.clock.now += 10
        assert (await it.answer(job)).content == "X"


async def test_the_text_of_an_event_is_looked_up(tmp_path: Path) -> None:
    async with world(tmp_path) as it, it.worker(Command(("cat",))):
        note = await it.ask(kind=1)
        job = await it.ask(("i", note.id, "event"), ("i", "https://x.example/", "url"))
        assert Event.parse((await it.answer(job)).content) == note
        lost = await it.ask(("i", "0" * 64, "event"))
        await it.becomes(lost, "failed")
        bad = await it.ask(("i", "../pubkey", "event"))
        await it.becomes(bad, "failed")


@pytest.mark.slow
async def test_more_jobs_than_it_can_hold_are_refused(tmp_path: Path) -> None:
    gate = Gate()
    async with world(tmp_path) as it, it.worker(gate) as jobs:
        for number in range(205):
            await it.ask(("i", str(number)))
        await until(lambda: sum(jobs.counts().values()) == 205)
        assert jobs.counts()["refused"] == 5


@pytest.mark.slow
async def test_a_foreign_client_has_a_job_done(tmp_path: Path) -> None:
    clock = Clock()
    clock.now = int(time.time())
    async with world(tmp_path, clock) as it, it.worker():
        found = await trio.to_thread.run_sync(_foreign, it.relay.url)
    assert found == [(6050, BOB, "HELLO"), (7000, BOB, "")]


def _foreign(url: str) -> list[tuple[int, str, str]]:
    # Its interface is asyncio's.
    import asyncio

    async def talk() -> list[tuple[int, str, str]]:
        keys = nostr_sdk.Keys.generate()
        tag = nostr_sdk.Tag.parse(["i", "hello", "text"])
        event = nostr_sdk.EventBuilder(nostr_sdk.Kind(5050), "").tags([tag]).finalize(keys)
        client = nostr_sdk.Client()
        await client.add_relay(nostr_sdk.RelayUrl.parse(url))
        await client.connect()
        assert len((await client.send_event(event)).success) == 1
        kinds = [nostr_sdk.Kind(6050), nostr_sdk.Kind(7000)]
        wanted = nostr_sdk.Filter().kinds(kinds).event(event.id())
        for _ in range(200):
            got = await client.fetch_events(
                nostr_sdk.ReqTarget.auto([wanted]), timedelta(seconds=20)
            )
            if len(got) == 2:
                break
            await asyncio.sleep(0.05)
        await client.shutdown()
        assert all(one.verify() for one in got)
        return sorted((one.kind().as_u16(), one.author().to_hex(), one.content()) for one in got)

    return asyncio.run(talk())
