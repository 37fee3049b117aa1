"""Signatures and encryption, by the official vectors, and with a foreign implementation."""

import csv
import hashlib
import json
from typing import Any

import nostr_sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.nostr import Invalid, LocalSigner
from oanix.lib.nostr import nip44 as own
from oanix.lib.nostr.keys import conversation_key, sign, verify
from tests.vectors import vectors


def test_bip_340() -> None:
    with vectors("bip340-vectors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 15
    for row in rows:
        key, message, sig = row["public key"], row["message"], row["signature"]
        good = row["verification result"] == "TRUE"
        assert verify(key.lower(), message, sig) is good, row
        if row["secret key"] and row["aux_rand"]:
            secret, aux = bytes.fromhex(row["secret key"]), bytes.fromhex(row["aux_rand"])
            assert sign(secret, bytes.fromhex(message), aux).hex() == sig.lower(), row


def cases(kind: str, name: str) -> Any:
    found = json.loads(vectors("nip44.vectors.json").read_text())["v2"][kind][name]
    assert found
    return found


def test_nip_44_conversation_keys() -> None:
    for case in cases("valid", "get_conversation_key"):
        key = conversation_key(bytes.fromhex(case["sec1"]), case["pub2"])
        assert key.hex() == case["conversation_key"]
    for case in cases("invalid", "get_conversation_key"):
        with pytest.raises(Invalid):
            conversation_key(bytes.fromhex(case["sec1"]), case["pub2"])


def test_nip_44_message_keys_and_lengths() -> None:
    case = cases("valid", "get_message_keys")
    for keys in case["keys"]:
        nonce = bytes.fromhex(keys["nonce"])
        found = own.message_keys(bytes.fromhex(case["conversation_key"]), nonce)
        assert [one.hex() for one in found] == [
            keys["chacha_key"], keys["chacha_nonce"], keys["hmac_key"],
        ]  # fmt: skip
    for size, padded in cases("valid", "calc_padded_len"):
        assert own.padded_size(size) == padded


def test_nip_44_payloads() -> None:
    for case in cases("valid", "encrypt_decrypt"):
        key = bytes.fromhex(case["conversation_key"])
        other = LocalSigner(bytes.fromhex(case["sec2"]), now=lambda: 0)
        assert conversation_key(bytes.fromhex(case["sec1"]), other.pubkey) == key
        payload = own.encrypt(case["plaintext"], key, bytes.fromhex(case["nonce"]))
        assert payload == case["payload"]
        assert own.decrypt(payload, key) == case["plaintext"]
    for case in cases("valid", "encrypt_decrypt_long_msg"):
        key, text = bytes.fromhex(case["conversation_key"]), case["pattern"] * case["repeat"]
        assert hashlib.sha256(text.encode()).hexdigest() == case["plaintext_sha256"]
        payload = own.encrypt(text, key, bytes.fromhex(case["nonce"]))
        assert hashlib.sha256(payload.encode()).hexdigest() == case["payload_sha256"]
        assert own.decrypt(payload, key) == text


def test_nip_44_what_is_wrong_is_refused() -> None:
    for case in cases("invalid", "decrypt"):
        with pytest.raises(Invalid):
            own.decrypt(case["payload"], bytes.fromhex(case["conversation_key"]))
    # The file still lists 65,536 and more, which the NIP allows since.
    for size in cases("invalid", "encrypt_msg_lengths"):
        if size == 0:
            with pytest.raises(Invalid):
                own.pad(b"")


def test_the_examples_that_the_bip_and_the_nip_begin_with_hold_everywhere() -> None:
    # The files of all vectors are not on every machine.
    signed = (
        "6896bd60eeae296db48a229ff71dfe071bde413e6d43f917dc8dcf8c78de3341"
        "8906d11ac976abccb20b091292bff4ea897efcb639ea871cfa95f6de339e4b0a"
    )
    key = "dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659"
    text = "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89"
    secret = bytes.fromhex("b7e151628aed2a6abf7158809cf4f3c762e7160f38b4da56a784d9045190cfef")
    assert verify(key, text, signed)
    assert not verify(key, text[::-1], signed)
    assert sign(secret, bytes.fromhex(text), bytes(31) + b"\x01").hex() == signed
    shared = "c41c775356fd92eadc63ff5a0dc1da211b268cbea22316767095b2871ea1412d"
    payload = (
        "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABee0G5VSK0/9YypIObAtDKf"
        "YEAjD35uVkHyB0F4DwrcNaCXlCWZKaArsGrY6M9wnuTMxWfp1RTN9Xga8no+kF5Vsb"
    )
    one, other = (bytes(31) + bytes([number]) for number in (1, 2))
    conversation = conversation_key(one, LocalSigner(other, now=lambda: 0).pubkey)
    assert conversation.hex() == shared
    assert own.encrypt("a", conversation, one) == payload
    assert own.decrypt(payload, conversation) == "a"


KEY = bytes(range(32))


@pytest.mark.parametrize("size", [1, 32, 33, 65_535, 65_536, 65_537, 200_000])
def test_texts_of_every_length_come_back_with_the_prefix_that_the_nip_says(size: int) -> None:
    text = "x" * size
    padded = own.pad(text.encode())
    assert padded[:2] == (size.to_bytes(2, "big") if size < 65_536 else b"\0\0")
    if size >= 65_536:
        assert padded[2:6] == size.to_bytes(4, "big")
    assert own.unpad(padded) == text.encode()
    assert own.decrypt(own.encrypt(text, KEY, bytes(32)), KEY) == text


@pytest.mark.parametrize(
    "padded",
    [
        b"\0\0" + bytes(32), b"\0\0\0\0\0\x01" + b"x" + bytes(31), b"\0\x02" + bytes(31),
        b"\0\x21" + bytes(32), b"\0\x01" + bytes(64), b"\0\0", b"\0\x01",
    ],
)  # fmt: skip
def test_wrong_padding_is_refused(padded: bytes) -> None:
    with pytest.raises(Invalid, match="padding"):
        own.unpad(padded)


@given(st.text(min_size=1, max_size=400), st.binary(min_size=32, max_size=32))
def test_what_is_encrypted_is_what_comes_back(text: str, nonce: bytes) -> None:
    payload = own.encrypt(text, KEY, nonce)
    assert own.decrypt(payload, KEY) == text
    with pytest.raises(Invalid):
        own.decrypt(payload, bytes(32))


@given(st.text(min_size=1, max_size=100))
def test_others_decrypt_what_we_encrypt_and_we_what_they_do(text: str) -> None:
    theirs = nostr_sdk.Keys.parse("02" * 32)
    mine = LocalSigner(b"\x01" * 32, now=lambda: 0)
    key = conversation_key(b"\x01" * 32, theirs.public_key().to_hex())
    me = nostr_sdk.PublicKey.parse(mine.pubkey)
    payload = own.encrypt(text, key, bytes(32))
    assert nostr_sdk.nip44_decrypt(theirs.secret_key(), me, payload) == text
    sent = nostr_sdk.nip44_encrypt(theirs.secret_key(), me, text, nostr_sdk.Nip44Version.V2)
    assert own.decrypt(sent, key) == text


def test_a_lone_surrogate_cannot_be_encrypted() -> None:
    with pytest.raises(Invalid, match="surrogate"):
        own.encrypt("\ud800", KEY, bytes(32))
