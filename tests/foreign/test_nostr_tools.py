"""nostr-tools, the library of most web clients, speaks to our relay and reads what we write."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from oanix.lib.nostr import Event, Filter, Template
from oanix.lib.nostr.nip19 import Pointer, decode, decode_pointer, encode, encode_pointer
from oanix.lib.nostr.pow import committed, difficulty
from oanix.lib.nostr.wrap import message, rumor, unwrap, wrap
from oanix.services.relay.info import NIPS
from tests.foreign.node import needs_node, nostr_tools
from tests.service.nostr_help import SECRETS, SIGNERS, Clock, Served, relay

pytestmark = [pytest.mark.slow, needs_node]

ANN, BOB = SIGNERS["ann"], SIGNERS["bob"]
SECRET, OTHER = (SECRETS[name].hex() for name in ("ann", "bob"))
TEXTS = [
    "plain", "", "émoji 🦆👩‍👩‍👧", 'quote " and \\ and /', "\n\r\t\b\f", "\x00\x01\x1f\x7f",
    "\u2028\u2029\ufeff\uffff\U0010ffff", "x" * 60_000,
]  # fmt: skip


@frozen
class Peer:
    """Somebody in this process."""

    authed: frozenset[str] = frozenset()
    address: str = "local"


@asynccontextmanager
async def served(folder: Path, policy: str = "") -> AsyncIterator[Served]:
    """Serve a relay by the clock of the machine, as nostr-tools takes no other."""
    clock = Clock()
    clock.now = int(time.time())
    async with relay(folder, clock, policy=policy) as it:
        yield it


async def scene(it: Served, name: str, **given: object) -> dict[str, Any]:
    return await nostr_tools(name, **{"url": it.url, "secret": SECRET, **given})


async def test_it_publishes_any_text_and_hears_it_live(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        seen = await scene(it, "notes", texts=TEXTS)
        kept = await it.events("kinds=1")
    assert seen["answers"] == [[True, ""]] * len(TEXTS)
    assert seen["again"] == [True, "duplicate: this event is here already"]
    assert (seen["forged"][0], seen["forged"][1].split(":")[0]) == (False, "invalid")
    assert seen["none"] == []
    assert seen["heard"]["before"] == TEXTS[:1]
    assert seen["heard"]["after"] == TEXTS[1:]
    assert sorted(seen["found"]) == sorted(TEXTS) == sorted(event.content for event in kept)


async def test_it_finds_the_newest_version(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        seen = await scene(it, "versions")
    assert [ok for ok, _ in seen["answers"]] == [True] * 5
    assert seen["late"][0] is False
    assert seen["found"] == ["a, new", "b", "new"]


async def test_it_deletes_by_id_and_by_address(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        seen = await scene(it, "deletion")
    assert seen["answer"][0] is True
    assert seen["found"] == [seen["stays"]]
    assert seen["again"][0] is False


async def test_it_proves_its_key_when_it_is_asked_to(tmp_path: Path) -> None:
    policy = "allow any auth=any\ndeny any"
    async with served(tmp_path, policy) as it:
        seen = await scene(it, "proof", other=OTHER)
    assert (seen["refused"][0], seen["refused"][1].split(":")[0]) == (False, "auth-required")
    assert seen["asked"].startswith("auth-required:")
    assert seen["answer"] == [True, ""]
    assert seen["found"] == [seen["id"]]
    assert seen["foreign"][0] is False


async def test_letters_go_both_ways(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        now = int(time.time())
        ours = rumor(BOB.pubkey, message("from us", ANN.pubkey), now)
        event = await wrap(ours, ANN.pubkey, BOB, now=now, randomness=os.urandom)
        assert (await it.fs.relay.core.submit(event, Peer())).ok
        seen = await scene(it, "letters", reader=BOB.pubkey, text="from them")
        assert seen["answers"] == [[True, ""]] * 2  # one for the reader, one for oneself
        assert seen["hidden"] == []
        [letter] = seen["letters"]
        assert (letter["kind"], letter["content"]) == (14, "from us")
        assert (letter["id"], letter["tags"]) == (ours.id, [["p", ANN.pubkey]])
        bob = Peer(frozenset({BOB.pubkey}))
        [raw], _ = await it.fs.relay.core.query([Filter()], bob)
        found = (await unwrap(Event.parse(raw), BOB)).event
        assert (found.pubkey, found.kind, found.content) == (ANN.pubkey, 14, "from them")
        assert ("subject", "Subject") in found.tags


async def test_what_one_encrypts_the_other_reads() -> None:
    texts = [text for text in TEXTS if text]  # NIP-44 has no payload of nothing
    payloads = [await BOB.encrypt(ANN.pubkey, text) for text in texts]
    seen = await nostr_tools(
        "secrets", secret=SECRET, peer=BOB.pubkey, payloads=payloads, texts=texts
    )
    assert seen["read"] == texts
    assert [await BOB.decrypt(ANN.pubkey, one) for one in seen["written"]] == texts


async def test_what_one_names_the_other_finds() -> None:
    event_id, relays = "ab" * 32, ("wss://relay.example/", "ws://127.0.0.1:7")
    profile = Pointer("nprofile", ANN.pubkey, relays)
    event = Pointer("nevent", event_id, relays, ANN.pubkey, 1)
    address = Pointer("naddr", "a:b ü", relays, ANN.pubkey, 30_023)
    ours = [
        encode("npub", ANN.pubkey), encode("nsec", event_id), encode("note", event_id),
        *map(encode_pointer, (profile, event, address)),
    ]  # fmt: skip
    pointer = {
        "id": event_id, "author": ANN.pubkey, "relays": relays, "kind": 30_023,
        "identifier": "a:b ü",
    }  # fmt: skip
    seen = await nostr_tools("names", secret=SECRET, texts=ours, pointer=pointer)
    listed = list(relays)
    assert seen["read"] == [
        ["npub", ANN.pubkey], ["nsec", event_id], ["note", event_id],
        ["nprofile", {"pubkey": ANN.pubkey, "relays": listed}],
        ["nevent", {"id": event_id, "relays": listed, "author": ANN.pubkey, "kind": 1}],
        ["naddr", {"identifier": "a:b ü", "pubkey": ANN.pubkey, "kind": 30_023, "relays": listed}],
    ]  # fmt: skip
    words, pointers = seen["written"][:3], seen["written"][3:]
    assert words == ours[:3]
    assert [decode(one, one.split("1")[0]) for one in words] == [ANN.pubkey, event_id, event_id]
    assert [decode_pointer(one) for one in pointers] == [profile, event, address]


async def test_its_tokens_manage_the_relay(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        refused = await scene(it, "management", banned=BOB.pubkey, secret=OTHER)
        assert {status for status, _ in refused.values()} == {401, 403}
        it.fs.relay.admin(f"add {ANN.pubkey}")
        seen = await scene(it, "management", banned=BOB.pubkey)
        assert seen["methods"][0] == 200
        assert "banpubkey" in seen["methods"][1]["result"]
        assert seen["banned"] == [200, {"result": True}]
        assert seen["listed"][1]["result"] == [{"pubkey": BOB.pubkey, "reason": "spam"}]
        # A token for one body is none for another.
        assert seen["other"][0] == 401
        spam = BOB.sign_now(Template(1, "spam", (), int(time.time())))
        assert not (await it.fs.relay.core.submit(spam, Peer())).ok


async def test_it_counts(tmp_path: Path) -> None:
    async with served(tmp_path) as it:
        assert (await scene(it, "count"))["counted"] == [12, 4, 0]


async def test_it_reads_the_document(tmp_path: Path) -> None:
    async with served(tmp_path, "pow 3") as it:
        document = (await scene(it, "document"))["document"]
    assert document["supported_nips"] == list(NIPS)
    assert document["limitation"]["min_pow_difficulty"] == 3


async def test_its_work_is_taken(tmp_path: Path) -> None:
    async with served(tmp_path, "pow 9") as it:
        seen = await scene(it, "work", bits=9)
        [event] = await it.events()
    assert (seen["easy"][0], seen["easy"][1].split(":")[0]) == (False, "pow")
    assert seen["answer"] == [True, ""]
    assert event.id == seen["id"]
    assert difficulty(event.id) == seen["bits"] >= 9
    assert committed(event) == 9
