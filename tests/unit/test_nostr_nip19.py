"""NIP-19: what people pass on, read and written as others do."""

import nostr_sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.nostr import Invalid, LocalSigner
from oanix.lib.nostr.nip19 import (
    Pointer,
    decode,
    decode_pointer,
    encode,
    encode_pointer,
    event_id_of,
    pubkey_of,
)

# The examples of the NIP.
HEX = "3bf0c63fcb93463407af97a5e5ee64fa883d107ef9e558472c4eb9aaaefa459d"
NPUB = "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6"
NSEC_HEX = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa"
NSEC = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5"
PROFILE = (
    "nprofile1qqsrhuxx8l9ex335q7he0f09aej04zpazpl0ne2cgukyawd24mayt8gpp4mhxue69uhhytnc9e3k7mgpz4"
    "mhxue69uhkg6nzv9ejuumpv34kytnrdaksjlyr9p"
)

hexes = st.binary(min_size=32, max_size=32).map(bytes.hex)
relays = st.lists(st.text("abc:/.-123", max_size=255), max_size=4).map(tuple)


def test_the_examples_of_the_nip() -> None:
    assert encode("npub", HEX) == NPUB
    assert decode(NPUB, "npub") == pubkey_of(NPUB) == pubkey_of(HEX) == pubkey_of(PROFILE) == HEX
    assert encode("nsec", NSEC_HEX) == NSEC
    assert decode_pointer(PROFILE) == Pointer(
        "nprofile", HEX, ("wss://r.x.com", "wss://djbas.sadkb.com")
    )


@given(hexes, st.sampled_from(["npub", "nsec", "note"]))
def test_bare_things_are_read_as_they_were_written(hexed: str, prefix: str) -> None:
    assert decode(encode(prefix, hexed), prefix) == hexed
    assert decode(encode(prefix, hexed).upper(), prefix) == hexed


@given(hexes, relays, st.none() | hexes, st.none() | st.integers(0, 65_535))
def test_pointers_are_read_as_they_were_written(
    hexed: str, places: tuple[str, ...], author: str | None, kind: int | None
) -> None:
    for pointer in (
        Pointer("nevent", hexed, places, author, kind),
        Pointer("nprofile", hexed, places),
    ):
        assert decode_pointer(encode_pointer(pointer)) == pointer


@given(st.text(max_size=60), hexes, st.integers(0, 65_535), relays)
def test_addresses_are_read_as_they_were_written(
    name: str, author: str, kind: int, places: tuple[str, ...]
) -> None:
    pointer = Pointer("naddr", name, places, author, kind)
    assert decode_pointer(encode_pointer(pointer)) == pointer


def test_others_read_what_we_write() -> None:
    keys = nostr_sdk.Keys.generate()
    npub = keys.public_key().to_bech32()
    assert encode("npub", keys.public_key().to_hex()) == npub
    profile = encode_pointer(Pointer("nprofile", keys.public_key().to_hex(), ("wss://a.example",)))
    theirs = nostr_sdk.Nip19Profile.from_bech32(profile)
    assert theirs.public_key().to_hex() == keys.public_key().to_hex()
    assert LocalSigner(b"\x01" * 32, now=lambda: 0).pubkey == (
        nostr_sdk.Keys.parse("01" * 32).public_key().to_hex()
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "npub", NPUB[:-1], NPUB[:-1] + "q", NPUB.replace("npub", "note"), NPUB + "x", NSEC,
        "npub1" + "q" * 5000, "npub1é", NPUB[:20] + NPUB[20:].upper(), HEX.upper(), HEX[1:],
        "nprofile1qqqqqqqqq", "naddr1",
    ],
)  # fmt: skip
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        pubkey_of(text)
    assert NSEC not in caught.value.reason
    if not text.startswith(("npub1", "nprofile1")):
        assert "write npub1…, nprofile1…, or 64 digits of hex" in caught.value.reason


@pytest.mark.parametrize(
    "pointer",
    [
        Pointer("nevent", "zz"), Pointer("naddr", "x"), Pointer("naddr", "x", author=HEX),
        Pointer("naddr", "x" * 256, (), HEX, 1), Pointer("nevent", HEX, ("wss://é",)),
        Pointer("nevent", HEX, ("x" * 256,)), Pointer("nevent", HEX, (), HEX, 65_536),
        Pointer("nevent", HEX, (), "zz"), Pointer("nprofile", HEX, ("x" * 255,) * 20),
    ],
)  # fmt: skip
def test_what_cannot_be_a_pointer_is_refused(pointer: Pointer) -> None:
    with pytest.raises(Invalid):
        encode_pointer(pointer)


def test_an_event_is_named_in_three_ways() -> None:
    assert event_id_of(HEX) == HEX
    assert event_id_of(encode("note", HEX)) == HEX
    assert event_id_of(encode_pointer(Pointer("nevent", HEX))) == HEX
    with pytest.raises(Invalid):
        event_id_of(NPUB)
