"""Keys: what is sealed opens with its texts alone, and a data key with its own key alone."""

import errno

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.vault import Cost, Passphrase, RingKey
from oanix.lib.vault.keys import NO_COST, DataKey
from tests.reach import refused
from tests.service.vaults import CHEAP, PHRASE, Ring

TEXTS = st.lists(st.text(max_size=5), max_size=3).map(tuple)


@given(st.binary(max_size=100), TEXTS, TEXTS)
def test_what_is_sealed_opens_with_the_same_texts_alone(
    plain: bytes, bound: tuple[str, ...], other: tuple[str, ...]
) -> None:
    key = DataKey(b"k" * 32)
    try:
        sealed = key.seal(plain, *bound)
    except UnicodeEncodeError:
        return  # a lone surrogate that stands for no byte, which names and rules never hold
    assert plain not in sealed or len(plain) < 4
    assert key.open(sealed, *bound) == plain
    if other != bound:
        try:
            with refused(errno.EIO):
                key.open(sealed, *other)
        except UnicodeEncodeError:
            return


@pytest.mark.parametrize("at", [0, 11, 12, 20, -1])
def test_a_changed_byte_is_found(at: int) -> None:
    key = DataKey.make()
    sealed = bytearray(key.seal(b"a value", "name"))
    sealed[at] ^= 1
    with refused(errno.EIO):
        key.open(bytes(sealed), "name")
    for cut in (b"", bytes(sealed[:5]), bytes(sealed[:12])):
        with refused(errno.EIO):
            key.open(cut, "name")


def test_two_seals_of_one_value_differ() -> None:
    key = DataKey.make()
    assert key.seal(b"a value", "name") != key.seal(b"a value", "name")


def test_a_passphrase_unwraps_what_it_wrapped_and_another_does_not() -> None:
    key = DataKey.make()
    kept = PHRASE.wrap(key, "v")
    tag = key.authenticator("x")(b"data")
    assert PHRASE.unwrap(kept).authenticator("x")(b"data") == tag
    with refused(errno.EACCES, "not the passphrase"):
        Passphrase("correct hors", CHEAP).unwrap(kept)


def test_the_parameters_that_are_stored_count() -> None:
    kept = Passphrase("correct horse", Cost(n=32)).wrap(DataKey.make(), "v")
    assert kept.cost.n == 32
    PHRASE.unwrap(kept)


def test_a_passphrase_is_one_text_however_its_accents_are_spelled() -> None:
    kept = Passphrase("caf\u00e9 au lait", CHEAP).wrap(DataKey.make(), "v")
    Passphrase("cafe\u0301 au lait", CHEAP).unwrap(kept)


def test_what_stands_beside_the_wrapped_key_cannot_be_changed() -> None:
    kept = PHRASE.wrap(DataKey.make(), "v")
    with refused(errno.EACCES):
        PHRASE.unwrap(evolve(kept, vault="w"))
    with refused(errno.EACCES):
        PHRASE.unwrap(evolve(kept, cost=Cost(n=32)))
    with refused(errno.EIO, "salt"):
        PHRASE.unwrap(evolve(kept, item="no hex"))


@pytest.mark.parametrize(
    "cost", [NO_COST, Cost(n=1 << 40), Cost(n=100), Cost(r=10**6), Cost(p=10**6), Cost(n=-2)]
)
def test_parameters_that_would_fill_the_memory_are_refused(cost: Cost) -> None:
    kept = evolve(PHRASE.wrap(DataKey.make(), "v"), cost=cost)
    with refused(errno.EIO, "parameters"):
        PHRASE.unwrap(kept)


def test_a_new_passphrase_has_eight_characters() -> None:
    with refused(errno.EINVAL, "at least 8"):
        Passphrase("1234567").check()
    Passphrase("12345678").check()


def test_the_keyring_holds_one_item_that_unwraps() -> None:
    ring, key = Ring(), DataKey.make()
    kept = RingKey(ring).wrap(key, "v")
    assert len(ring.items) == 1
    again = RingKey(ring).unwrap(kept)
    assert again.authenticator("x")(b"") == key.authenticator("x")(b"")
    RingKey(ring).forget(kept)
    assert ring.items == {}
    with refused(errno.EACCES, "has no item"):
        RingKey(ring).unwrap(kept)


@pytest.mark.parametrize("item", ["", "no hex", "00" * 32, "00" * 31])
def test_an_item_that_is_not_the_key_is_refused(item: str) -> None:
    ring = Ring()
    kept = RingKey(ring).wrap(DataKey.make(), "v")
    ring.items[next(iter(ring.items))] = item
    with refused(errno.EACCES, "is not the key"):
        RingKey(ring).unwrap(kept)


def test_a_key_of_another_kind_is_told_so() -> None:
    ring = Ring()
    with refused(errno.EINVAL, "kept by a keyring, not by a passphrase"):
        PHRASE.unwrap(RingKey(ring).wrap(DataKey.make(), "v"))
    with refused(errno.EINVAL, "kept by a passphrase, not by a keyring"):
        RingKey(ring).unwrap(PHRASE.wrap(DataKey.make(), "v"))


def test_labels_have_keys_of_their_own() -> None:
    key = DataKey.make()
    one, two = key.authenticator("journal"), key.authenticator("journal2")
    assert len(one(b"")) == 32
    assert one(b"x") == one(b"x") != two(b"x")
    assert DataKey.make().authenticator("journal")(b"x") != one(b"x")


def test_no_repr_tells_a_key() -> None:
    raw = b"K" * 32
    phrase = Passphrase("correct horse", CHEAP)
    kept = phrase.wrap(DataKey(raw), "v")
    told = repr((DataKey(raw), phrase, kept, RingKey(Ring({("a", "b"): "secret"}))))
    assert "KKKK" not in told
    assert "correct" not in told
    assert "secret" not in told
