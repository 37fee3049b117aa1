"""What public testers of relays look at, through the port, as far as no other test shows it."""

import json
from pathlib import Path
from typing import Any

import pytest

from oanix.lib.nostr import Event
from oanix.services.relay.rules import RelayLimits
from tests.service.relay_help import doors, fields, nothing_fails
from tests.service.test_relay_core import ANN, BOB, EVE, NOW, URL, note
from tests.service.test_relay_session import Client

__all__ = ["nothing_fails"]

DAY = 24 * 3600


async def keep(client: Client, *events: Event) -> None:
    for event in events:
        heard = await client.put(event)
        assert heard[:3] == ["OK", event.id, True], heard


async def hears(client: Client, name: str, event: Event) -> None:
    """Expect that an event is the next thing that somebody is told."""
    said = await client.hear()
    assert said[:2] == ["EVENT", name], said
    assert Event.of(said[2]) == event


# Events -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "at",
    [
        pytest.param(NOW - 2 * DAY, id="two days old, as gift wraps are"),
        pytest.param(NOW - 7 * DAY, id="a week old"), pytest.param(NOW - 31 * DAY, id="a month"),
        pytest.param(NOW - 366 * DAY, id="a year"), pytest.param(1_420_070_461, id="of 2015"),
        pytest.param(915_148_861, id="of 1999"), pytest.param(0, id="of 1970"),
    ],
)  # fmt: skip
async def test_an_old_event_is_taken_and_found_by_its_time(at: int, tmp_path: Path) -> None:
    event = note("old", ANN, 1, at)
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await keep(client, event, note("of now"))
        assert await client.stored("s", {"since": at, "until": at}) == ([event.id], "finish")


@pytest.mark.parametrize("at", [2**31 + 1, 2**32 + 1])
async def test_times_have_more_than_32_bits(at: int, tmp_path: Path) -> None:
    event = note("late", ANN, 1, at)
    async with doors(tmp_path, now=at) as it:
        client = await it.on_port()
        await keep(client, event)
        assert await client.stored("s", {"since": at, "until": at}) == ([event.id], "finish")
        assert await client.stored("t", {"until": at - 1}) == ([], "finish")


async def test_a_time_in_scientific_notation_is_none(tmp_path: Path) -> None:
    event = note("odd")
    text = event.json().decode().replace(f"{NOW}", "1.7e9")
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await client.link.send(f'["EVENT",{text}]')
        assert (await client.hear())[:3] == ["OK", event.id, False]
        await keep(client, event)


async def test_code_points_that_are_no_characters_are_kept(tmp_path: Path) -> None:
    event = note("\ufdd1 \ufffe \uffff \U0001ffff \U0010fffe", ANN, 1, NOW, ("t", "\ufdd0"))
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await keep(client, event)
        await client.say("REQ", "s", {"#t": ["\ufdd0"]})
        await hears(client, "s", event)


async def test_a_long_list_of_follows_is_kept(tmp_path: Path) -> None:
    names = (f"{number:064x}" for number in range(2_000))
    follows = note("", ANN, 3, NOW, *(("p", name, "wss://relay.example") for name in names))
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await keep(client, follows)
        assert (await client.stored("s", {"kinds": [3], "#p": [f"{1_999:064x}"]}))[0] == [
            follows.id
        ]


async def test_an_expiration_that_is_none_is_none(tmp_path: Path) -> None:
    odd = note("odd", ANN, 1, NOW, ("expiration", "soon"))
    fresh = note("fresh", ANN, 1, NOW, ("expiration", str(NOW + 1)))
    async with doors(tmp_path) as it:
        client, other = await it.on_port(), await it.on_port()
        assert await other.stored("s", {"kinds": [1]}) == ([], "finish")
        for event in (odd, fresh):
            await keep(client, event)
            await hears(other, "s", event)


# Kinds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "left"),
    [
        pytest.param((1, 2, 4, 44, 1_000, 9_999, 40_000, 65_535), ["d1", "d2", "new"], id="all"),
        pytest.param((0, 3, 10_000, 10_002, 10_050, 19_999), ["new"], id="the newest"),
        pytest.param((20_000, 25_000, 29_999), [], id="none"),
        pytest.param((30_000, 30_023, 39_999), ["d1", "new"], id="the newest of a d tag"),
    ],
)
async def test_the_kind_says_which_events_stay(
    kinds: tuple[int, ...], left: list[str], tmp_path: Path
) -> None:
    async with doors(tmp_path) as it:
        client = await it.on_port()
        for kind in kinds:
            one, two = (note(d, ANN, kind, NOW - 2, ("d", d)) for d in ("d1", "d2"))
            older, newer = sorted((one, two), key=lambda event: event.id, reverse=True)
            newest = note("new", ANN, kind, NOW - 1, ("d", "d2"), ("d", "d1"))
            await keep(client, older, newer, newest)
            found, _ = await client.stored("s", {"kinds": [kind], "authors": [ANN.pubkey]})
            known = {one.id: "d1", two.id: "d2", newest.id: "new"}
            assert sorted(known[name] for name in found) == left
            assert await client.ask("COUNT", "c", {"kinds": [kind]}) == [
                "COUNT", "c", {"count": len(left)},
            ]  # fmt: skip
            await client.say("CLOSE", "s")


async def test_what_was_replaced_is_gone_by_its_id_too(tmp_path: Path) -> None:
    old, new = (note(text, ANN, 0, at) for text, at in (("old", NOW - 1), ("new", NOW)))
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await keep(client, old, new)
        assert (await client.stored("s", {"ids": [old.id, new.id]}))[0] == [new.id]


async def test_what_changes_nothing_is_told_to_nobody(tmp_path: Path) -> None:
    new, old = note("new", ANN, 0), note("old", ANN, 0, NOW - 1)
    deleted, deletion = note("gone"), note("", ANN, 5, NOW, ("e", note("gone").id))
    last = note("last")
    async with doors(tmp_path) as it:
        client, other = await it.on_port(), await it.on_port()
        await keep(client, new, deletion)
        assert await other.stored("s", {"limit": 0}) == ([], "finish")
        assert (await client.put(old))[2] is False
        assert (await client.put(new))[2] is True
        assert (await client.put(deleted))[2] is False
        await keep(client, last)
        await hears(other, "s", last)


async def test_what_is_ephemeral_reaches_other_connections(tmp_path: Path) -> None:
    event, last = note("now", ANN, 25_000), note("last")
    async with doors(tmp_path) as it:
        client, other = await it.on_port(), await it.on_port()
        assert await other.stored("s", {"authors": [ANN.pubkey]}) == ([], "finish")
        await keep(client, event, last)
        await hears(other, "s", event)
        await hears(other, "s", last)
        assert (await other.stored("t", {"authors": [ANN.pubkey]}))[0] == [last.id]


# Deletions ----------------------------------------------------------------------------------------


async def test_a_deletion_by_address_is_bound_by_each_of_its_parts(tmp_path: Path) -> None:
    gone = note("", ANN, 30_023, NOW - 1, ("d", "x"))
    others = [
        note("", BOB, 30_023, NOW - 1, ("d", "x")), note("", ANN, 30_024, NOW - 1, ("d", "x")),
        note("", ANN, 30_023, NOW - 1, ("d", "x:")), note("", ANN, 30_023, NOW - 1, ("d", "")),
    ]  # fmt: skip
    deletion = note("", ANN, 5, NOW, ("a", f"30023:{ANN.pubkey}:x"), ("a", f"30024:{BOB.pubkey}:x"))
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await keep(client, gone, *others, deletion)
        found, _ = await client.stored("s", {"kinds": [30_023, 30_024]})
        assert sorted(found) == sorted(event.id for event in others)


async def test_a_replaceable_event_is_deleted_by_its_address(tmp_path: Path) -> None:
    listed = note("", ANN, 10_002, NOW - 1)
    deletion = note("", ANN, 5, NOW, ("a", f"10002:{ANN.pubkey}:"))
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await keep(client, listed, deletion)
        assert await client.ask("COUNT", "c", {"kinds": [10_002]}) == ["COUNT", "c", {"count": 0}]
        assert (await client.put(listed))[2] is False
        await keep(client, note("", ANN, 10_002, NOW + 1))


async def test_a_deletion_is_told_and_stays_and_is_found_by_what_it_deletes(tmp_path: Path) -> None:
    gone = note("gone")
    deletion = note("a mistake", ANN, 5, NOW, ("e", gone.id), ("k", "1"))
    async with doors(tmp_path) as it:
        client, other = await it.on_port(), await it.on_port()
        await keep(client, gone)
        assert await other.stored("s", {"limit": 0}) == ([], "finish")
        await keep(client, deletion)
        await hears(other, "s", deletion)
        assert (await other.stored("t", {"#e": [gone.id], "kinds": [5]}))[0] == [deletion.id]


async def test_who_asks_all_relays_to_forget_him_is_forgotten(tmp_path: Path) -> None:
    mine = note("mine", ANN, 1, NOW - 1)
    vanish = note("", ANN, 62, NOW, ("relay", "ALL_RELAYS"))
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await keep(client, mine, vanish)
        assert (await client.stored("s", {"ids": [mine.id]}))[0] == []
        assert (await client.put(mine))[2] is False


async def test_the_reader_of_a_gift_wrap_deletes_it_and_nobody_else(tmp_path: Path) -> None:
    wrap = note("sealed", EVE, 1059, NOW - 1, ("p", ANN.pubkey))
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await client.login(ANN)
        await keep(client, wrap, note("", BOB, 5, NOW, ("e", wrap.id)))
        asked = {"kinds": [1059]}
        assert await client.ask("COUNT", "c", asked) == ["COUNT", "c", {"count": 1}]
        await keep(client, note("", ANN, 5, NOW, ("e", wrap.id)))
        assert await client.ask("COUNT", "c", asked) == ["COUNT", "c", {"count": 0}]
        assert (await client.put(wrap))[2] is False


async def test_what_was_wrapped_for_who_vanished_does_not_come_back(tmp_path: Path) -> None:
    wrap, later = (note("sealed", EVE, 1059, at, ("p", ANN.pubkey)) for at in (NOW - 1, NOW + 1))
    vanish = note("", ANN, 62, NOW, ("relay", "ALL_RELAYS"))
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await keep(client, wrap, vanish)
        assert (await client.put(wrap))[2] is False
        await keep(client, later)


async def test_a_request_to_vanish_is_not_deleted(tmp_path: Path) -> None:
    vanish = note("", ANN, 62, NOW, ("relay", "ALL_RELAYS"))
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await keep(client, vanish, note("", ANN, 5, NOW + 1, ("e", vanish.id)))
        assert (await client.stored("s", {"kinds": [62]}))[0] == [vanish.id]
        assert (await client.put(note("", ANN, 1, NOW - 1)))[2] is False


# Questions ----------------------------------------------------------------------------------------

TAGGED = (("e", "ab" * 32), ("p", BOB.pubkey), ("t", "sea"), ("t", "sun"), ("k", "3036"))
WANTED = note("wanted", ANN, 1111, NOW, *TAGGED, ("a", f"30023:{BOB.pubkey}:x", "wss://r.example"))
OTHERS = (
    note("same kind", ANN, 1111), note("same author", ANN, 1, NOW, ("t", "sea", "sun")),
    note("same tags", BOB, 1, NOW - 1, ("T", "sun"), ("p", EVE.pubkey), ("k", "1111")),
)  # fmt: skip
FOUND = {
    "id": {"ids": [WANTED.id, "00" * 32]},
    "author, kind and tag": {"authors": [ANN.pubkey], "kinds": [1111], "#k": ["3036"]},
    "author and tag": {"authors": [ANN.pubkey], "#p": [BOB.pubkey, ANN.pubkey]},
    "kind and tag": {"kinds": [1111, 7], "#t": ["sun", "moon"]},
    "tag of an event": {"#e": ["ab" * 32]},
    "tag of an address": {"#a": [f"30023:{BOB.pubkey}:x"]},
    "several tags": {"#t": ["sea"], "#k": ["3036"], "#p": [BOB.pubkey]},
    "the first value of a tag alone": {"#t": ["sun"]},
    "id and time": {"ids": [WANTED.id], "since": NOW, "until": NOW},
    "author, kind, tag and time": {
        "authors": [ANN.pubkey, BOB.pubkey], "kinds": [1111], "#t": ["sea"], "since": NOW},
}  # fmt: skip


@pytest.mark.parametrize("by", FOUND)
async def test_an_event_is_found_and_heard_by(by: str, tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        client, other = await it.on_port(), await it.on_port()
        assert await other.stored("s", FOUND[by]) == ([], "finish")
        await keep(client, *OTHERS, WANTED)
        await hears(other, "s", WANTED)
        assert await client.stored("s", FOUND[by]) == ([WANTED.id], "finish")
        assert await client.ask("COUNT", "c", FOUND[by]) == ["COUNT", "c", {"count": 1}]


async def test_everything_is_found_by_a_filter_of_nothing(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await keep(client, *OTHERS, WANTED)
        found, ended = await client.stored("s", {})
        assert (sorted(found), ended) == (sorted(e.id for e in (*OTHERS, WANTED)), "finish")


async def test_the_name_of_a_tag_has_its_case(tmp_path: Path) -> None:
    upper, lower = (note("", ANN, 1, NOW, (name, "x")) for name in "Kk")
    async with doors(tmp_path) as it:
        client = await it.on_port()
        await keep(client, upper, lower)
        assert (await client.stored("s", {"#K": ["x"]}))[0] == [upper.id]
        assert (await client.stored("t", {"#k": ["x"]}))[0] == [lower.id]


async def test_what_several_filters_want_comes_once(tmp_path: Path) -> None:
    first, second, last = (note(str(n), ANN, 1, NOW + n, ("t", "x")) for n in range(3))
    asked: list[dict[str, Any]] = [{"kinds": [1]}, {"authors": [ANN.pubkey]}, {"#t": ["x"]}, {}]
    async with doors(tmp_path) as it:
        client, other = await it.on_port(), await it.on_port()
        await keep(client, first)
        assert await other.stored("s", *asked) == ([first.id], "finish")
        await keep(client, second, last)
        await hears(other, "s", second)
        await hears(other, "s", last)


async def test_nothing_found_is_an_answer_and_the_subscription_stays_open(tmp_path: Path) -> None:
    event = note("at last", EVE, 1, NOW - DAY)
    async with doors(tmp_path) as it:
        client, other = await it.on_port(), await it.on_port()
        asked = {"authors": [EVE.pubkey], "kinds": [1], "limit": 10, "until": NOW - DAY}
        assert await other.stored("s", asked) == ([], "finish")
        await keep(client, note("too new", EVE), event)
        await hears(other, "s", event)


async def test_a_limit_is_for_what_is_stored(tmp_path: Path) -> None:
    events = [note(str(n), ANN, 1, NOW + n) for n in range(4)]
    async with doors(tmp_path) as it:
        client, other = await it.on_port(), await it.on_port()
        await keep(client, *events[:2])
        assert await other.stored("s", {"kinds": [1], "limit": 1}) == ([events[1].id], "more")
        for event in events[2:]:
            await keep(client, event)
            await hears(other, "s", event)


async def test_each_subscription_is_told(tmp_path: Path) -> None:
    event = note()
    async with doors(tmp_path) as it:
        client = await it.on_port()
        for name in ("a", "b"):
            assert await client.stored(name, {"kinds": [1]}) == ([], "finish")
        await client.say("EVENT", fields(event))
        said = [await client.hear() for _ in range(3)]
        assert sorted(one[1] for one in said if one[0] == "EVENT") == ["a", "b"]


async def test_what_was_closed_or_asked_anew_is_silent(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        client, other = await it.on_port(), await it.on_port()
        for name in ("closed", "anew"):
            assert await other.stored(name, {"kinds": [1]}) == ([], "finish")
        await other.say("CLOSE", "closed")
        assert await other.stored("anew", {"kinds": [7]}) == ([], "finish")
        last = note("+", ANN, 7)
        await keep(client, note(), last)
        await hears(other, "anew", last)


async def test_a_name_is_of_its_connection(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        client, other = await it.on_port(), await it.on_port()
        for one, kind in ((client, 1), (other, 7)):
            assert await one.stored("s", {"kinds": [kind]}) == ([], "finish")
        await client.say("CLOSE", "s")
        event = note("+", ANN, 7)
        await keep(client, event)
        await hears(other, "s", event)


# Connections --------------------------------------------------------------------------------------


async def test_a_client_may_come_back_at_once(tmp_path: Path) -> None:
    event = note()
    async with doors(tmp_path) as it:
        challenges = set()
        for _ in range(20):
            client = await it.on_port()
            challenges.add(client.challenge)
            assert (await client.put(event))[2] is True
            await client.link.aclose()
        assert len(challenges) == 20


async def test_a_key_may_be_proven_unasked_and_again(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        client = await it.on_port()
        for relay in (URL, f"{URL}/", URL.upper().replace("WSS", "wss"), URL):
            assert (await client.login(EVE, relay))[2:] == [True, ""]


# The document (NIP-11) ----------------------------------------------------------------------------


async def test_the_limits_that_are_told_are_those_that_hold(tmp_path: Path) -> None:
    limits = RelayLimits(content=40, tags=5, results=3, subscriptions=2, future_s=60)
    async with doors(tmp_path, limits=limits) as it:
        told = json.loads(await it.reach.read("/info.json"))["limitation"]
        client = await it.on_port()

        async def put(text: str = "", tags: int = 0, at: int = NOW) -> str:
            event = note(text, ANN, 1, at, *(("t", str(n)) for n in range(tags)))
            _, _, ok, said = await client.put(event)
            return "" if ok else str(said).partition(":")[0]

        longest = told["max_content_length"]
        assert [await put("x" * longest), await put("x" * (longest + 1))] == ["", "invalid"]
        most = told["max_event_tags"]
        assert [await put(tags=most), await put(tags=most + 1)] == ["", "invalid"]
        last = NOW + told["created_at_upper_limit"]
        assert [await put(at=last), await put(at=last + 1), await put("a")] == ["", "invalid", ""]
        name = "s" * told["max_subid_length"]
        assert len((await client.stored(name, {"limit": 500}))[0]) == told["max_limit"] == 3
        assert (await client.ask("REQ", f"{name}s", {}))[0] == "CLOSED"
        for number in range(1, told["max_subscriptions"]):
            await client.stored(str(number), {"limit": 0})
        assert (await client.ask("REQ", "more", {}))[0] == "CLOSED"
