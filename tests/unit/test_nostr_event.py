"""Events: their form, their ids for every text, and what their tags say."""

import json

import nostr_sdk
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.nostr import Event, Invalid, LocalSigner, Template, Unsigned, check, check_many
from oanix.lib.nostr.codec import decode, encode
from oanix.lib.nostr.pow import committed, difficulty, mine

A, B, SIG = "a" * 64, "b" * 64, "c" * 128
FIELDS: dict[str, object] = {
    "id": A, "pubkey": B, "created_at": 1, "kind": 1, "tags": [], "content": "", "sig": SIG,
}  # fmt: skip
ANN = LocalSigner(bytes(31) + b"\x07", now=lambda: 1_700_000_000)


def event(**fields: object) -> Event:
    return Event.of({**FIELDS, **fields})


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"id": A.upper()}, "id"), ({"id": A[1:]}, "id"), ({"id": A + "a"}, "id"),
        ({"id": A[1:] + "g"}, "id"), ({"id": A + "\n"}, "id"), ({"pubkey": B.upper()}, "pubkey"),
        ({"pubkey": "npub1"}, "pubkey"), ({"sig": SIG[2:]}, "sig"), ({"sig": SIG + "cc"}, "sig"),
        ({"kind": -1}, "kind"), ({"kind": 65_536}, "kind"), ({"kind": 1.0}, "float"),
        ({"kind": True}, "bool"), ({"kind": "1"}, "str"), ({"kind": None}, "null"),
        ({"created_at": -1}, "created_at"), ({"created_at": 2**53}, "created_at"),
        ({"created_at": 1.5}, "float"), ({"created_at": 10**30}, "created_at"),
        ({"tags": None}, "tags"), ({"tags": {}}, "tags"), ({"tags": ["e"]}, "tags"),
        ({"tags": [["e", None]]}, "tags"), ({"tags": [["e", 1]]}, "tags"),
        ({"tags": [[["e"]]]}, "tags"), ({"tags": [[]]}, "tag is empty"),
        ({"content": 1}, "content"), ({"content": None}, "content"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused(fields: dict[str, object], says: str) -> None:
    text = json.dumps({**FIELDS, **fields})
    with pytest.raises(Invalid, match=says):
        Event.parse(text)
    with pytest.raises(Invalid, match=says):
        Event.of(json.loads(text))


@pytest.mark.parametrize("missing", list(FIELDS))
def test_an_event_has_all_its_fields(missing: str) -> None:
    with pytest.raises(Invalid, match=missing):
        Event.of({name: value for name, value in FIELDS.items() if name != missing})


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"[]", b"1", b"{", b'{"id":', b"\xff", b'{"id":"\xff"}', b"NaN",
        b'{"id":"\\ud800"}', b"[" * 100_000, b'{"id":' * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_json_of_an_event_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        Event.parse(data)


def test_unknown_fields_orders_and_unusual_escapes_are_gone_from_what_is_written() -> None:
    text = (
        f'{{"sig":"{SIG}","content":"\\u0041\\/","x":[1],"id":"{A}","tags":[["t","\\u00e9"]],'
        f'"kind":1,"created_at":1,"pubkey":"{B}"}}'
    )
    written = Event.parse(text).json().decode()
    assert written == (
        f'{{"id":"{A}","pubkey":"{B}","created_at":1,"kind":1,"tags":[["t","é"]],'
        f'"content":"A/","sig":"{SIG}"}}'
    )


texts = st.text(max_size=60)
tags = st.lists(st.lists(texts, min_size=1, max_size=4).map(tuple), max_size=5).map(tuple)


@given(texts, tags, st.integers(0, 65_535), st.integers(0, 2**53 - 1))
def test_the_canonical_form_is_exact_for_every_text(
    content: str, tags: tuple[tuple[str, ...], ...], kind: int, at: int
) -> None:
    unsigned = Unsigned(pubkey=B, created_at=at, kind=kind, tags=tags, content=content)
    plain = [0, B, at, kind, tags, content]
    expected = json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()
    assert unsigned.serialized() == expected


@given(texts, tags, st.integers(0, 65_535))
def test_what_is_signed_is_genuine_for_others_too(
    content: str, tags: tuple[tuple[str, ...], ...], kind: int
) -> None:
    signed = ANN.sign_now(Template(kind, content, tags))
    check(signed)
    assert Event.parse(signed.json()) == signed
    assert nostr_sdk.Event.from_json(signed.json().decode()).verify()


@given(texts)
def test_what_others_sign_is_genuine_for_us(content: str) -> None:
    theirs = nostr_sdk.EventBuilder(nostr_sdk.Kind(1), content).finalize(nostr_sdk.Keys.generate())
    check(Event.parse(theirs.as_json()))


def test_a_lone_surrogate_cannot_be_written() -> None:
    with pytest.raises(Invalid, match="surrogate"):
        Unsigned(pubkey=B, created_at=1, kind=1, content="\ud800").hashed()
    with pytest.raises(Invalid, match="surrogate"):
        encode(["\udc80"])


def test_a_changed_event_is_not_genuine() -> None:
    mine_, other = ANN.sign_now(Template(1, "one")), ANN.sign_now(Template(1, "two"))
    bad = [
        Event.of({**decode(mine_.json()), "content": "two"}),
        Event.of({**decode(mine_.json()), "sig": other.sig}),
        Event.of({**decode(mine_.json()), "sig": "00" * 64}),
        Event.of({**decode(mine_.json()), "pubkey": "f" * 64}),
    ]
    found = check_many([mine_, *bad, other])
    assert [error is None for error in found] == [True, False, False, False, False, True]
    assert "id does not match" in str(found[1])
    assert "signature" in str(found[2])


def test_a_signer_shows_its_public_key_alone() -> None:
    secret = b"\x11" * 32
    signer = LocalSigner(secret, now=lambda: 1)
    assert signer.pubkey in repr(signer)
    assert secret.hex() not in repr(signer)
    with pytest.raises(TypeError, match="secret"):
        signer.__reduce__()
    for bad in (bytes(32), b"\xff" * 32, b"\x01" * 31, b""):
        with pytest.raises(Invalid, match="secret key") as caught:
            LocalSigner(bad, now=lambda: 1)
        assert bad.hex() not in str(caught.value) or not bad


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (0, "replaceable"), (3, "replaceable"), (10_000, "replaceable"), (19_999, "replaceable"),
        (20_000, "ephemeral"), (29_999, "ephemeral"), (30_000, "addressable"),
        (39_999, "addressable"), (1, ""), (9_999, ""), (40_000, ""), (65_535, ""),
    ],
)  # fmt: skip
def test_kinds_say_what_is_kept(kind: int, what: str) -> None:
    one = event(kind=kind, tags=[["d", "x"]])
    found = {
        "replaceable": one.is_replaceable,
        "ephemeral": one.is_ephemeral,
        "addressable": one.is_addressable,
    }
    assert {name for name, yes in found.items() if yes} == ({what} if what else set())
    expected = {"replaceable": f"{kind}:{B}:", "addressable": f"{kind}:{B}:x"}.get(what)
    assert one.address == expected
    if what == "addressable":
        assert event(kind=kind).address == f"{kind}:{B}:"


def test_of_two_at_one_time_the_lowest_id_wins() -> None:
    low, high = event(id="0" * 64), event(id="f" * 64)
    newer = event(id="f" * 64, created_at=2)
    assert low.replaces(high.created_at, high.id)
    assert not high.replaces(low.created_at, low.id)
    assert newer.replaces(low.created_at, low.id)
    assert not low.replaces(low.created_at, low.id)


def test_tags_say() -> None:
    one = event(
        tags=[
            ["e"],
            ["e", "1", "x"],
            ["e", "2"],
            ["-"],
            ["expiration", "99"],
            ["ab", "c"],
            ["é", "c"],
        ]
    )
    assert one.values("e") == ["1", "2"]
    assert one.first("e") == "1"
    assert one.first("q") is None
    assert one.indexed == {("e", "1"), ("e", "2")}
    assert one.is_protected
    assert one.expiration == 99
    assert event(tags=[["expiration", "soon"]]).expiration is None
    assert event(tags=[["expiration", "1" * 30]]).expiration is None
    assert not event().is_protected


def test_a_hundred_thousand_tags_are_read_in_time() -> None:
    one = event(tags=[["t", str(number)] for number in range(100_000)])
    assert len(one.indexed) == 100_000


def test_work_is_counted_committed_and_done() -> None:
    assert difficulty("0" * 64) == 256
    assert difficulty("00f" + "0" * 61) == 8
    assert difficulty("f" * 64) == 0
    assert committed(event(tags=[["nonce", "1", "20"]])) == 20
    assert committed(event(tags=[["nonce", "1"]])) is None
    assert committed(event(tags=[["nonce", "1", "9" * 50]])) == 256
    done = mine(Template(1, "work"), ANN.pubkey, 8, 1_700_000_000, lambda: True)
    assert done is not None
    signed = ANN.sign_now(done)
    assert difficulty(signed.id) >= 8
    assert committed(signed) == 8
    assert mine(Template(1), ANN.pubkey, 250, 1, lambda: False) is None
