"""The relay's core: what it takes, what it keeps, what it finds, and who hears of it."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from oanix.lib.nostr import Event, Filter, Invalid, LocalSigner, Template
from oanix.services.relay import intake
from oanix.services.relay.core import Core
from oanix.services.relay.live import Live, Subscription
from oanix.services.relay.policy_lines import parse_policy
from oanix.services.relay.reading import Reader
from oanix.services.relay.rules import Outcome, RelayLimits, may_see
from oanix.services.relay.schema import MIGRATIONS
from oanix.services.relay.writing import Writer
from oanix.store import Store

NOW = 1_700_000_000
ANN, BOB, EVE = (LocalSigner(bytes([n]) * 32, now=lambda: NOW) for n in (1, 2, 3))
URL = "wss://relay.example"


@define
class Guest:
    """Somebody who asks."""

    authed: frozenset[str] = frozenset()
    address: str = "127.0.0.1"


@define
class Relay:
    """A running core, and a clock that a test sets."""

    core: Core
    clock: list[int]
    guest: Guest = field(factory=Guest)

    async def put(self, event: Event, guest: Guest | None = None) -> Outcome:
        return await self.core.submit(event, guest or self.guest)

    async def keep(self, *events: Event) -> None:
        for event in events:
            assert (await self.put(event)).ok

    async def ids(self, *filters: dict[str, object], guest: Guest | None = None) -> list[str]:
        found, _ = await self.core.query(
            [Filter.parse(one) for one in filters], guest or self.guest
        )
        return [Event.parse(raw).id for raw in found]


@asynccontextmanager
async def relay(path: Path, limits: RelayLimits | None = None) -> AsyncIterator[Relay]:
    clock = [NOW]
    core = Core.create(str(path / "relay.db"), now=lambda: clock[0], limits=limits, url=URL)
    async with core.running():
        yield Relay(core, clock)


def note(
    text: str = "", by: LocalSigner = ANN, kind: int = 1, at: int = NOW, *tags: tuple[str, ...]
) -> Event:
    return by.sign_now(Template(kind, text, tags, at))


async def test_an_event_is_kept_found_and_known_again(tmp_path: Path) -> None:
    event = note("hello")
    async with relay(tmp_path) as it:
        assert await it.put(event) == Outcome(True, "", fresh=True)
        again = await it.put(event)
        assert (again.ok, again.fresh) == (True, False)
        assert again.message.startswith("duplicate:")
        assert await it.core.get(event.id, it.guest) == event.json()
    async with relay(tmp_path) as it:
        assert await it.ids({"ids": [event.id]}) == [event.id]


async def test_what_is_not_genuine_is_refused(tmp_path: Path) -> None:
    good = note("one")
    forged = Event.of({**_fields(good), "content": "two"})
    async with relay(tmp_path) as it:
        outcome = await it.put(forged)
        assert not outcome.ok
        assert outcome.message.startswith("invalid: the id")
        assert await it.ids({"kinds": [1]}) == []


def _fields(event: Event) -> dict[str, object]:
    names = ("id", "pubkey", "created_at", "kind", "tags", "content", "sig")
    return {name: getattr(event, name) for name in names}


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (note("", ANN, 22_242), "invalid"),
        (note(at=NOW + 901), "invalid: created_at"),
        (note("x" * 65_537), "invalid: the content"),
        (note("", ANN, 1, NOW, ("expiration", str(NOW))), "invalid: the event has expired"),
        (note("", ANN, 1, NOW, ("-",)), "auth-required:"),
        (note(note("", BOB, 1, NOW, ("-",)).json().decode(), ANN, 6), "blocked:"),
        (note("", ANN, 1, NOW, *[("t", str(n)) for n in range(2_001)]), "invalid: more than 2000"),
        (note("", ANN, 1, NOW, ("t", "x" * 270_000)), "invalid: the tags"),
    ],
)
async def test_what_no_relay_should_take_is_refused(
    event: Event, says: str, tmp_path: Path
) -> None:
    async with relay(tmp_path) as it:
        outcome = await it.put(event)
        assert not outcome.ok
        assert outcome.message.startswith(says)
        assert await it.core.get(event.id, it.guest) is None


async def test_the_author_may_publish_what_is_protected(tmp_path: Path) -> None:
    event = note("", ANN, 1, NOW, ("-",))
    async with relay(tmp_path) as it:
        assert not (await it.put(event, Guest(frozenset({BOB.pubkey})))).ok
        assert (await it.put(event, Guest(frozenset({BOB.pubkey, ANN.pubkey})))).ok


async def test_work_is_asked_for(tmp_path: Path) -> None:
    async with relay(tmp_path) as it:
        it.core.policy = parse_policy("pow 250")
        outcome = await it.put(note())
        assert outcome.message.startswith("pow: difficulty")
        assert "less than 250" in outcome.message


async def test_the_newest_of_what_is_replaceable_stays_and_of_one_time_the_lowest_id(
    tmp_path: Path,
) -> None:
    same = sorted((note(str(n), ANN, 0, NOW) for n in range(4)), key=lambda event: event.id)
    async with relay(tmp_path) as it:
        await it.keep(note("old", ANN, 0, NOW - 1))
        assert (await it.put(same[2])).ok
        refused = await it.put(same[3])
        assert not refused.ok
        assert refused.message.startswith("blocked: a newer version")
        assert (await it.put(same[0])).ok
        assert not (await it.put(note("old too", ANN, 0, NOW - 2))).ok
        await it.keep(note("Bob", BOB, 0, NOW - 9))
        assert await it.ids({"kinds": [0], "authors": [ANN.pubkey]}) == [same[0].id]


async def test_what_is_addressable_is_replaced_by_its_d_tag(tmp_path: Path) -> None:
    one, two = (note(d, ANN, 30_000, NOW, ("d", d)) for d in ("one", "two"))
    newer = note("newer", ANN, 30_000, NOW + 1, ("d", "one"))
    bare, empty = note("", ANN, 30_001, NOW), note("", ANN, 30_001, NOW + 1, ("d", ""))
    async with relay(tmp_path) as it:
        await it.keep(one, two, newer, bare, empty)
        assert await it.ids({"kinds": [30_000]}) == [newer.id, two.id]
        assert await it.ids({"kinds": [30_001]}) == [empty.id]
        assert await it.ids({"#d": ["one"]}) == [newer.id]


async def test_what_is_ephemeral_is_told_and_not_kept(tmp_path: Path) -> None:
    heard: list[str] = []
    event = note("now", ANN, 20_000)
    async with relay(tmp_path) as it:
        end = it.core.subscribe([Filter()], it.guest, lambda one, raw: heard.append(one.id))
        assert await it.put(event) == Outcome(True, "", fresh=True)
        assert heard == [event.id]
        assert await it.ids({"kinds": [20_000]}) == []
        end()
        await it.put(note("later", ANN, 20_000))
        assert heard == [event.id]
        assert it.core.stats()["subscriptions"] == 0


async def test_an_author_deletes_his_own_and_it_does_not_come_back(tmp_path: Path) -> None:
    mine, theirs = note("mine"), note("theirs", BOB)
    gone = note("", ANN, 5, NOW + 1, ("e", mine.id), ("e", theirs.id), ("e", "zz"), ("e", "q" * 64))
    async with relay(tmp_path) as it:
        await it.keep(mine, theirs, gone)
        assert await it.ids({"kinds": [1]}) == [theirs.id]
        again = await it.put(mine)
        assert (again.ok, again.message.startswith("blocked:")) == (False, True)
        # A deletion of a deletion does nothing.
        await it.keep(note("", ANN, 5, NOW + 2, ("e", gone.id)))
        assert await it.core.get(gone.id, it.guest) is not None


async def test_a_deletion_that_comes_first_holds_too(tmp_path: Path) -> None:
    event = note("late")
    async with relay(tmp_path) as it:
        await it.keep(note("", ANN, 5, NOW, ("e", event.id)))
        assert not (await it.put(event)).ok


async def test_an_address_is_deleted_up_to_the_time_of_the_deletion(tmp_path: Path) -> None:
    address = f"30000:{ANN.pubkey}:x"
    old, new = (note(t, ANN, 30_000, at, ("d", "x")) for t, at in (("old", NOW), ("new", NOW + 2)))
    async with relay(tmp_path) as it:
        await it.keep(old)
        await it.keep(note("", BOB, 5, NOW + 1, ("a", address)))
        assert await it.ids({"kinds": [30_000]}) == [old.id]
        await it.keep(note("", ANN, 5, NOW + 1, ("a", address)))
        assert await it.ids({"kinds": [30_000]}) == []
        assert not (await it.put(old)).ok
        await it.keep(new)
        assert await it.ids({"kinds": [30_000]}) == [new.id]


async def test_who_vanishes_is_gone_and_stays_gone(tmp_path: Path) -> None:
    mine = [note("one", ANN, 1, NOW - 5), note("", ANN, 5, NOW - 4, ("e", "a" * 64))]
    wrap = note("sealed", EVE, 1059, NOW - 3, ("p", ANN.pubkey))
    later = note("later", ANN, 1, NOW + 2)
    async with relay(tmp_path) as it:
        await it.keep(*mine, wrap, note("stays", BOB))
        await it.keep(note("", ANN, 62, NOW, ("relay", "wss://other.example")))
        assert await it.core.get(mine[0].id, it.guest) is not None
        vanish = note("", ANN, 62, NOW + 1, ("relay", f"{URL}/"))
        await it.keep(vanish)
        assert await it.ids({"authors": [ANN.pubkey]}) == [vanish.id]
        assert await it.core.get(wrap.id, it.guest) is None
        assert not (await it.put(mine[0])).ok
        await it.keep(later)


async def test_what_has_expired_is_not_found_before_it_is_swept(tmp_path: Path) -> None:
    event = note("soon gone", ANN, 1, NOW, ("expiration", str(NOW + 10)))
    async with relay(tmp_path) as it:
        await it.keep(event)
        assert await it.ids({"ids": [event.id]}) == await it.ids({"kinds": [1]}) == [event.id]
        it.clock[0] = NOW + 10
        assert await it.ids({"ids": [event.id]}) == await it.ids({"kinds": [1]}) == []
        assert await it.core.get(event.id, it.guest) is None
        assert await it.core.count([Filter()], it.guest) == 0
    with Store.open(str(tmp_path / "relay.db"), MIGRATIONS) as store:
        assert Writer(store).sweep(NOW + 10) == 1
        assert store.execute("SELECT count(*) FROM tags") == [(0,)]


async def test_a_gift_wrap_is_for_whom_it_names_in_every_way_of_asking(tmp_path: Path) -> None:
    wrap = note("sealed", EVE, 1059, NOW, ("p", ANN.pubkey), ("t", "x"))
    ann, bob = Guest(frozenset({BOB.pubkey, ANN.pubkey})), Guest(frozenset({BOB.pubkey}))
    heard: dict[str, int] = {"ann": 0, "bob": 0, "nobody": 0}

    def hear(name: str) -> Callable[[Event, bytes], None]:
        def deliver(event: Event, raw: bytes) -> None:
            heard[name] += 1

        return deliver

    async with relay(tmp_path) as it:
        for name, guest in (("ann", ann), ("bob", bob), ("nobody", it.guest)):
            it.core.subscribe([Filter()], guest, hear(name))
        await it.keep(wrap)
        assert heard == {"ann": 1, "bob": 0, "nobody": 0}
        asks: list[dict[str, object]] = [
            {}, {"ids": [wrap.id]}, {"kinds": [1059]}, {"authors": [EVE.pubkey]}, {"#t": ["x"]},
            {"#p": [ANN.pubkey]}, {"authors": [EVE.pubkey], "kinds": [1059]},
        ]  # fmt: skip
        for ask in asks:
            assert await it.ids(ask, guest=ann) == [wrap.id]
            assert await it.ids(ask, guest=bob) == await it.ids(ask) == []
            assert await it.core.count([Filter.parse(ask)], ann) == 1
            assert await it.core.count([Filter.parse(ask)], bob) == 0


async def test_limits_order_and_what_is_left(tmp_path: Path) -> None:
    events = [note(str(n), ANN, 1, NOW - n // 2) for n in range(10)]
    ordered = [e.id for e in sorted(events, key=lambda e: (-e.created_at, e.id))]
    async with relay(tmp_path, RelayLimits(results=8)) as it:
        await it.keep(*events)
        everything = Filter.parse({"kinds": [1]})
        found, more = await it.core.query([everything], it.guest)
        assert ([Event.parse(raw).id for raw in found], more) == (ordered[:8], True)
        assert await it.ids({"limit": 3}) == ordered[:3]
        assert await it.ids({"limit": 0}) == []
        assert await it.core.query([Filter.parse({"limit": 0})], it.guest) == ([], False)
        _, more = await it.core.query([Filter.parse({"since": NOW - 1})], it.guest)
        assert not more
        assert await it.core.count([everything], it.guest) == 10
        with pytest.raises(Invalid, match="1 to 20 filters"):
            await it.core.query([], it.guest)
        with pytest.raises(Invalid, match="1 to 20 filters"):
            await it.core.query([everything] * 21, it.guest)


# Against a naive reader ---------------------------------------------------------------------------

SIGNERS = [ANN, BOB, EVE]
KEYS = [one.pubkey for one in SIGNERS]
POOL = [
    by.sign_now(Template(kind, f"{n}", tags, NOW - n % 3))
    for n, (by, kind, tags) in enumerate(
        (by, kind, tags)
        for _ in range(4)
        for by in SIGNERS
        for kind in (1, 2, 7, 1059)
        for tags in ((), (("t", "a"),), (("t", "b"), ("p", ANN.pubkey)), (("t", "a"), ("t", "b")))
    )
]
values = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1)
filters = st.fixed_dictionaries(
    {},
    optional={
        "ids": st.lists(st.sampled_from([e.id for e in POOL]), min_size=1, max_size=5),
        "authors": st.lists(st.sampled_from(KEYS), min_size=1),
        "kinds": st.lists(st.sampled_from([1, 2, 7, 1059, 8]), min_size=1),
        "since": st.integers(NOW - 3, NOW + 1), "until": st.integers(NOW - 3, NOW + 1),
        "limit": st.integers(0, 40), "#t": values,
        "#p": st.lists(st.sampled_from(KEYS), min_size=1),
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    store = Store.open(str(tmp_path_factory.mktemp("relay") / "pool.db"), MIGRATIONS)
    assert all(outcome.ok for outcome in Writer(store).commit(POOL))
    return Reader(store)


@settings(deadline=None)
@given(st.lists(filters, min_size=1, max_size=3), st.sets(st.sampled_from(KEYS)))
def test_what_is_found_is_what_a_naive_reader_finds(
    reader: Reader, asked: list[dict[str, object]], authed: set[str]
) -> None:
    guest = Guest(frozenset(authed))
    parsed = [Filter.parse(one) for one in asked]
    expected: dict[str, Event] = {}
    more = False
    ordered = sorted(POOL, key=lambda event: (-event.created_at, event.id))
    for one in parsed:
        matching = [e for e in ordered if one.matches(e) and may_see(e, guest)]
        limit = len(POOL) if one.limit is None else one.limit
        expected.update((event.id, event) for event in matching[:limit])
        more = more or (len(matching) > limit and limit > 0)
    wanted = [event.json() for event in ordered if event.id in expected]
    assert reader.find(parsed, guest, NOW, 500) == (wanted, more)
    unlimited = {e.id for one in parsed for e in POOL if one.matches(e) and may_see(e, guest)}
    assert reader.count(parsed, guest, NOW) == len(unlimited)


@given(st.lists(st.lists(filters, min_size=1, max_size=3), max_size=8), st.sampled_from(POOL))
def test_who_hears_of_an_event_is_who_a_naive_relay_tells(
    asked: list[list[dict[str, object]]], event: Event
) -> None:
    live, heard = Live(), []
    ends = []
    for number, one in enumerate(asked):
        parsed = tuple(Filter.parse(each) for each in one)

        def deliver(told: Event, raw: bytes, number: int = number) -> None:
            heard.append(number)

        ends.append(live.add(Subscription(parsed, lambda told: True, deliver)))
    live.tell(event, b"")
    expected = [
        number
        for number, one in enumerate(asked)
        if any(Filter.parse(each).matches(event) for each in one)
    ]
    assert sorted(heard) == expected
    for end in ends:
        end()
    assert len(live) == live.tell(event, b"") == 0


# Under load, and killed ---------------------------------------------------------------------------


async def test_many_submit_at_once_and_each_gets_his_answer(tmp_path: Path) -> None:
    events = [note(str(n)) for n in range(300)]
    outcomes: list[Outcome] = []
    async with relay(tmp_path) as it:

        async def put(event: Event) -> None:
            outcomes.append(await it.put(event))

        async with trio.open_nursery() as nursery:
            for event in (*events, *events[:50]):
                nursery.start_soon(put, event)
        assert sum(outcome.fresh for outcome in outcomes) == 300
        assert all(outcome.ok for outcome in outcomes)
        assert await it.core.count([Filter()], it.guest) == 300


async def test_a_relay_that_closes_says_so_to_who_waits(tmp_path: Path) -> None:
    async with relay(tmp_path) as it:
        pass
    assert (await it.put(note())).message == "error: the relay is closing"


async def test_a_relay_that_closes_answers_all_who_wait_for_room(tmp_path: Path) -> None:
    event, outcomes = note(), []
    count = intake.WAITING + 2 * intake.GROUP

    async def put(it: Relay) -> None:
        outcomes.append(await it.put(event))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, relay(tmp_path) as it:
            for _ in range(count):
                nursery.start_soon(put, it)
            while it.core.stats()["waiting"] < intake.WAITING:
                await trio.lowlevel.checkpoint()
    assert len(outcomes) == count
    assert Outcome(False, "error: the relay is closing") in outcomes


KILLED = """
import sys, time, trio
from oanix.lib.nostr import LocalSigner, Template
from oanix.services.relay.core import Core
from tests.service.test_relay_core import Guest

async def main():
    core = Core.create(sys.argv[1], now=time.time)
    ann = LocalSigner(bytes([9]) * 32, now=lambda: int(time.time()))
    async with core.running(), trio.open_nursery() as nursery:
        async def client(name):
            n = 0
            while True:
                event = ann.sign_now(Template(1, f"{name} {n}"))
                if (await core.submit(event, Guest())).ok:
                    print(event.id, flush=True)
                n += 1
        for name in range(8):
            nursery.start_soon(client, name)

trio.run(main)
"""


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    path = str(tmp_path / "relay.db")
    said: list[str] = []
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            said += [process.stdout.readline().strip() for _ in range(40)]
            process.send_signal(signal.SIGKILL)
            said += [line.strip() for line in process.stdout.read().splitlines() if len(line) == 64]
    with Store.open(path, MIGRATIONS) as store:
        kept = {row[0] for row in store.execute("SELECT id FROM events")}
        assert store.execute("PRAGMA integrity_check") == [("ok",)]
    assert len(said) >= 120
    assert {bytes.fromhex(one) for one in said} <= kept
