"""The relay's tables: groups of events, what names them, and what indexes cannot tell apart."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oanix.lib.nostr import Event, Filter, LocalSigner, Template
from oanix.lib.nostr.event import TIME_MAX
from oanix.services.relay.planning import BRANCHES, PROBED
from oanix.services.relay.policy import RelayPolicy
from oanix.services.relay.reading import Reader
from oanix.services.relay.rules import Outcome, may_see
from oanix.services.relay.schema import MIGRATIONS
from oanix.services.relay.terms import Terms, place
from oanix.services.relay.writing import Writer
from oanix.store import Store
from tests.service.test_relay_core import Guest

NOW = 1_700_000_000
ANN, BOB = (LocalSigner(bytes([n]) * 32, now=lambda: NOW) for n in (1, 2))
URL = "wss://relay.example"


# Groups -------------------------------------------------------------------------------------------


def _pool() -> list[Event]:
    made = []
    for n, by in enumerate((ANN, BOB)):
        other = (BOB, ANN)[n].pubkey
        for kind in (0, 1, 5_000, 10_002, 20_001, 30_023):
            for at in (0, 1, 2):
                tags = ((("d", "x"),), (("d", "y"),))[at % 2] if kind == 30_023 else (("t", "x"),)
                made.append(by.sign_now(Template(kind, f"{at}", tags, NOW + at)))
        made += [
            by.sign_now(Template(1_059, f"{at}", (("p", other), ("p", "no key")), NOW + at))
            for at in (0, 2)
        ]
    named = [event.id for event in made]
    for by in (ANN, BOB):
        made += [
            by.sign_now(Template(5, "", tuple(("e", name) for name in named[n::4]), NOW + n))
            for n in range(4)
        ]
        made += [
            by.sign_now(Template(5, "", (("a", f"{kind}:{by.pubkey}:{d}"), ("e", "none")), NOW + 1))
            for kind, d in ((0, ""), (10_002, ""), (30_023, "x"), (30_023, "y"))
        ]
        made += [
            by.sign_now(Template(62, "", (("relay", url),), NOW + at))
            for at, url in ((0, "ALL_RELAYS"), (1, URL + "/"), (1, "wss://another.example"))
        ]
    deletions = [event.id for event in made if event.kind in (5, 62)]
    made.append(ANN.sign_now(Template(5, "", tuple(("e", name) for name in deletions), NOW)))
    return made


POOL = _pool()
few = st.lists(st.sampled_from(POOL), min_size=1, max_size=9)


def _tables(store: Store) -> tuple[list[object], ...]:
    """Read what the tables hold, with all that names an event; it must be what there is to name."""
    terms = Terms(store)
    held = store.execute("SELECT json, place, seq, id FROM events")
    named: list[object] = []
    for raw, at, seq, _ in held:
        named += terms.stored(raw, int(str(at)), int(str(seq)))
    assert sorted(store.execute("SELECT term, place, seq FROM tags"), key=str) == sorted(
        named, key=str
    )
    assert store.execute("PRAGMA integrity_check") == [("ok",)]
    [(last,)] = store.execute("SELECT seq FROM numbered")
    assert all(int(str(seq)) <= int(str(last)) for _, _, seq, _ in held)
    return (
        sorted(str(name) for *_, name in held),
        *(
            store.execute(f"SELECT * FROM {table} ORDER BY 1, 2")
            for table in ("deleted", "deleted_addresses", "vanished")
        ),
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(few.flatmap(lambda some: st.lists(st.sampled_from(some), max_size=40)), st.data())
def test_a_group_that_is_written_together_is_what_it_is_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("group")
    found = []
    for number, size in enumerate((1, data.draw(st.integers(2, 40)))):
        with Store.open(str(folder / f"{number}.db"), MIGRATIONS, durable=False) as store:
            writer = Writer(store, URL)
            outcomes: list[Outcome] = []
            for at in range(0, len(events), size):
                outcomes += writer.commit(events[at : at + size])
            found.append((outcomes, _tables(store)))
    assert found[0] == found[1]


def test_what_a_newer_one_has_replaced_is_no_duplicate(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    old, new = (ANN.sign_now(Template(0, "", (), NOW + n)) for n in range(2))
    blocked = Outcome(False, "blocked: a newer version of this event is here")
    kept = Outcome(True, fresh=True)
    with Store.open(str(tmp_path_factory.mktemp("newer") / "relay.db"), MIGRATIONS) as store:
        writer = Writer(store)
        assert writer.commit([old, new, old]) == [kept, kept, blocked]
        assert writer.commit([old]) == [blocked]
        assert [outcome.message[:10] for outcome in writer.commit([new, new])] == ["duplicate:"] * 2


@pytest.mark.slow
def test_many_events_are_removed_with_all_that_names_them(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    events = [ANN.sign_now(Template(1, str(n), (("t", str(n)),), NOW)) for n in range(2_100)]
    expiring = [
        BOB.sign_now(Template(1, str(n), (("t", "x"), ("expiration", str(NOW + 1))), NOW))
        for n in range(3)
    ]
    vanish = ANN.sign_now(Template(62, "", (("relay", "ALL_RELAYS"),), NOW))
    with Store.open(str(tmp_path_factory.mktemp("many") / "relay.db"), MIGRATIONS) as store:
        writer = Writer(store, URL)
        writer.commit([*events, *expiring])
        writer.commit([vanish])
        assert len(_tables(store)[0]) == 4
        assert writer.sweep(NOW + 1) == 3
        assert len(_tables(store)[0]) == 1
        assert store.execute("SELECT seq FROM numbered") == [(2_104,)]


def test_an_event_that_the_disk_has_damaged_is_removed(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    event = ANN.sign_now(Template(0, "", (("t", "x"),), NOW))
    newer = ANN.sign_now(Template(0, "", (("t", "y"),), NOW + 1))
    guest = Guest()
    with Store.open(str(tmp_path_factory.mktemp("damaged") / "relay.db"), MIGRATIONS) as store:
        writer, reader = Writer(store), Reader(store)
        writer.commit([event])
        store.execute("UPDATE events SET json = ?", b"\xff")
        assert writer.commit([newer]) == [Outcome(True, fresh=True)]
        assert "a stored event cannot be read" in caplog.text
        caplog.clear()
        for tag, expected in (("x", []), ("y", [newer.json()])):
            found, _ = reader.find([Filter(tags={"t": frozenset({tag})})], guest, NOW, 10)
            assert found == expected


# What indexes cannot tell apart -------------------------------------------------------------------

TIMES = (NOW, NOW + 1, (1 << 33) - 2, (1 << 33) - 1, 1 << 33, TIME_MAX)
AUTHORS = [f"{'ab' * 8}{n:048x}" for n in range(3)] + ["cd" * 32]


def _alike(number: int) -> Event:
    # Ids of one beginning, of one half of it, and others: of keys that begin alike.
    begin = ("12345678" * 2, "12345678" + "0" * 8, "1234567b" + "0" * 8, f"{number:016x}")
    return Event(
        id=f"{begin[number % 4]}{number * 7_919 % 1_009:048x}",
        pubkey=AUTHORS[number % len(AUTHORS)],
        created_at=TIMES[number // 3 % len(TIMES)],
        kind=(1, 0, 7, 1, 10_002)[number % 5],
        tags=(("t", "abc"[number % 3]), ("t", f"only{number}"), ("p", AUTHORS[number // 4 % 4])),
        content="",
        sig="0" * 128,
    )  # fmt: skip


ALIKE = [_alike(number) for number in range(240)]
MANY = [f"other{n}" for n in range(BRANCHES + 10)]
times = (
    st.integers(NOW - 1, NOW + 2) | st.sampled_from(TIMES) | st.integers((1 << 33) - 3, TIME_MAX)
)


def _lists(values: Sequence[str], others: Sequence[str]) -> st.SearchStrategy[list[str]]:
    """Draw short lists, and some that are too long to be asked for one by one."""
    short = st.lists(st.sampled_from(values), min_size=1, max_size=5)
    more = st.sampled_from((0, 0, PROBED, BRANCHES))
    return st.builds(lambda some, most: some + list(others[:most]), short, more)


filters = st.fixed_dictionaries(
    {},
    optional={
        "ids": st.lists(st.sampled_from([event.id for event in ALIKE]), min_size=1, max_size=9),
        "authors": _lists(AUTHORS, [f"{n:064x}" for n in range(len(MANY))]),
        "kinds": st.lists(st.sampled_from([0, 1, 7, 9, 10_002]), min_size=1),
        "since": times, "until": times, "limit": st.integers(0, 300),
        "#t": _lists(["a", "b", "only7", "none"], MANY),
        "#p": _lists(AUTHORS, [f"{n:064x}" for n in range(len(MANY))]),
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reader, list[Event]]:
    store = Store.open(str(tmp_path_factory.mktemp("alike") / "relay.db"), MIGRATIONS)
    Writer(store).commit(ALIKE)
    stored = {name for (name,) in store.execute("SELECT id FROM events")}
    return Reader(store), [event for event in ALIKE if bytes.fromhex(event.id) in stored]


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(filters)
def test_what_indexes_hold_alike_is_told_apart(
    kept: tuple[Reader, list[Event]], asked: dict[str, object]
) -> None:
    reader, stored = kept
    one, guest = Filter.parse(asked), Guest()
    ordered = sorted(stored, key=lambda event: (-event.created_at, event.id))
    matching = [event for event in ordered if one.matches(event) and may_see(event, guest)]
    limit = len(matching) if one.limit is None else one.limit
    found, more = reader.find([one], guest, NOW, 500)
    assert found == [event.json() for event in matching[:limit]]
    assert more == (len(matching) > limit > 0)
    assert sorted(name.hex() for _, name in reader.names(one, guest, NOW, 1_000)) == sorted(
        event.id for event in matching
    )


def test_the_pool_has_what_indexes_hold_alike() -> None:
    places = [place(event.created_at, bytes.fromhex(event.id)) for event in ALIKE]
    assert len(set(places)) < len(ALIKE) / 2
    assert max(places) < 1 << 63


# What is read for an answer -----------------------------------------------------------------------

STORED = 12_000
LOOKS = 4
"""Looks at the clock, one every 2,000 steps of SQLite's machine: an event that is found takes some
20 of these, so that this is far from enough to read all that is stored."""


def _id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


WRITERS = [_id(-n) for n in range(1, 101)]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    store = Store.open(str(tmp_path_factory.mktemp("large") / "relay.db"), MIGRATIONS)
    Writer(store).commit(
        [
            Event(
                id=_id(n), pubkey=WRITERS[n % 100], created_at=NOW + n // 3,
                kind=(1, 7, 30_023)[n % 3], tags=(("t", str(n % 100)), ("d", str(n))), content="",
                sig="0" * 128,
            )
            for n in range(STORED)
        ]
    )  # fmt: skip
    return Reader(store)


@pytest.mark.parametrize(
    ("asked", "questions"),
    [
        pytest.param({}, 1, id="everything"),
        pytest.param({"since": NOW}, 1, id="since"),
        pytest.param({"until": NOW + 100}, 1, id="until"),
        pytest.param({"kinds": [7]}, 1, id="kind"),
        pytest.param({"kinds": [1, 7], "until": NOW + 100}, 2, id="kinds"),
        pytest.param({"authors": WRITERS[:1]}, 1, id="author"),
        pytest.param({"authors": WRITERS[:10]}, 10, id="authors"),
        pytest.param({"authors": WRITERS[:10], "kinds": [0, 7, 10_002]}, 11, id="of kinds"),
        pytest.param({"#t": ["7"]}, 1, id="tag"),
        pytest.param({"#t": [str(n) for n in range(10)], "kinds": [1]}, 10, id="tags"),
        pytest.param({"ids": [_id(n) for n in range(100)]}, 1, id="ids"),
    ],
)
def test_a_few_events_are_found_without_reading_all(
    large: Reader, asked: dict[str, object], questions: int
) -> None:
    looks = 0

    def over() -> bool:
        nonlocal looks
        looks += 1
        return looks > LOOKS + questions

    guest = Guest()
    with large.asked(RelayPolicy(), guest, over):
        found, more = large.find([Filter.parse({**asked, "limit": 20})], guest, NOW, 500)
    assert len(found) == 20
    assert more
