"""Two sides find out what the other lacks (NIP-77)."""

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oanix.lib.nostr import Invalid
from oanix.lib.nostr.negentropy import FRAME_LEAST, Item, Items, Reconciliation, respond

ids = st.integers(0, 300).map(lambda n: hashlib.sha256(b"%d" % n).digest())
sets = st.sets(st.tuples(st.integers(0, 20), ids), max_size=200)


def settle(mine: set[Item], theirs: set[Item], frame: int = 0) -> tuple[Reconciliation, int]:
    asking = Reconciliation(Items(mine), frame)
    there = Items(theirs)
    message: bytes | None = asking.initiate()
    rounds = 0
    while message is not None:
        rounds += 1
        assert rounds < 200
        message = asking.step(respond(there, message, frame))
    return asking, rounds


@settings(deadline=None)
@given(sets, sets)
def test_both_sides_learn_exactly_the_difference(mine: set[Item], theirs: set[Item]) -> None:
    # One id has one time, as an event has.
    time = {name: at for at, name in [*mine, *theirs]}
    mine = {(time[name], name) for _, name in mine}
    theirs = {(time[name], name) for _, name in theirs}
    asking, _ = settle(mine, theirs)
    assert asking.have == {name for _, name in mine - theirs}
    assert asking.need == {name for _, name in theirs - mine}


@pytest.mark.parametrize("frame", [0, FRAME_LEAST, 8_192])
def test_large_sets_are_settled_in_few_rounds_and_small_messages(frame: int) -> None:
    chance = random.Random(7)
    both = {(chance.randrange(1_000), chance.randbytes(32)) for _ in range(5_000)}
    mine = both | {(500, chance.randbytes(32)) for _ in range(40)}
    theirs = both | {(chance.randrange(1_000), chance.randbytes(32)) for _ in range(700)}
    asking, rounds = settle(mine, theirs, frame)
    assert asking.have == {name for _, name in mine - theirs}
    assert asking.need == {name for _, name in theirs - mine}
    assert rounds < (10 if not frame else 100)


def test_a_message_keeps_within_its_frame() -> None:
    chance = random.Random(3)
    theirs = Items((chance.randrange(9), chance.randbytes(32)) for _ in range(3_000))
    asking = Reconciliation(Items(()), FRAME_LEAST)
    message: bytes | None = asking.initiate()
    while message is not None:
        answer = respond(theirs, message, FRAME_LEAST)
        assert len(answer) <= FRAME_LEAST
        message = asking.step(answer)
    assert len(asking.need) == 3_000


def test_another_version_is_answered_with_ours() -> None:
    assert respond(Items(()), b"\x62anything", 0) == b"\x61"
    with pytest.raises(Invalid, match="another version"):
        Reconciliation(Items(())).step(b"\x62")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x00",
        b"\x61\x00",  # no length of the prefix
        b"\x61\x00\x21" + bytes(33),  # a prefix of 33 bytes
        b"\x61\x00\x00\x01" + bytes(15),  # a fingerprint of 15 bytes
        b"\x61\x00\x00\x02\x02" + bytes(63),  # two ids, and one byte less
        b"\x61\x00\x00\x02\xff\xff\xff\xff\x7f",  # more ids than there is message
        b"\x61\x00\x00\x03",  # a mode that there is not
        b"\x61\x00\x00\x00\x05\x00\x00",  # a range after the last
        b"\x61\x05\x01\xff\x00\x01\x01\x01\x00",  # ranges that go back
        b"\x61" + b"\xff" * 11,  # a number without an end
    ],
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    with pytest.raises(Invalid):
        respond(Items([(1, bytes(32))]), message, 0)


@given(st.binary(max_size=80))
def test_any_bytes_are_answered_or_refused(data: bytes) -> None:
    items = Items([(n, bytes([n]) * 32) for n in range(40)])
    for message in (data, b"\x61" + data):
        try:
            respond(items, message, FRAME_LEAST)
            Reconciliation(items).step(message)
        except Invalid:
            pass
