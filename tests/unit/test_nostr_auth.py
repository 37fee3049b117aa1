"""Who asks: NIP-42, NIP-98; and messages that do not show it: NIP-59, NIP-17."""

import json
import os

import nostr_sdk
import pytest

from oanix.lib.nostr import Event, Invalid, LocalSigner, Template, decode
from oanix.lib.nostr.auth import (
    auth_template,
    check_auth,
    check_http,
    http_header,
    http_template,
)
from oanix.lib.nostr.wrap import PAST_S, Rumor, message, rumor, unwrap, wrap

NOW = 1_700_000_000
ANN = LocalSigner(b"\x01" * 32, now=lambda: NOW)
BOB = LocalSigner(b"\x02" * 32, now=lambda: NOW)
EVE = LocalSigner(b"\x03" * 32, now=lambda: NOW)
RELAYS = frozenset({"wss://relay.example/"})
URL, BODY = "https://relay.example/", b'{"method":"ban"}'


def test_an_auth_is_for_one_relay_and_one_challenge() -> None:
    for said in ("wss://relay.example", "wss://relay.example/", "wss://RELAY.example:443/x"):
        check_auth(ANN.sign_now(auth_template(said, "abc")), RELAYS, "abc", NOW + 599)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (auth_template("wss://other.example", "abc"), "another relay"),
        (auth_template("wss://relay.example.evil", "abc"), "another relay"),
        (auth_template("wss://relay.example:1", "abc"), "another relay"),
        (auth_template("wss://[", "abc"), "another relay"),
        (auth_template("wss://relay.example", "abd"), "another challenge"),
        (Template(22_242, tags=(("challenge", "abc"),)), "another relay"),
        (Template(22_242, tags=(("relay", "wss://relay.example"),)), "another challenge"),
        (Template(1, tags=auth_template("wss://relay.example", "abc").tags), "kind"),
        (Template(22_242, "", auth_template("wss://relay.example", "abc").tags, NOW - 601), "old"),
        (Template(22_242, "", auth_template("wss://relay.example", "abc").tags, NOW + 601), "old"),
    ],
)
def test_another_auth_is_refused(template: Template, says: str) -> None:
    with pytest.raises(Invalid, match=says):
        check_auth(ANN.sign_now(template), RELAYS, "abc", NOW)


def test_an_auth_without_a_challenge_and_one_that_was_changed_are_refused() -> None:
    with pytest.raises(Invalid, match="challenge"):
        check_auth(ANN.sign_now(auth_template("wss://relay.example", "")), RELAYS, "", NOW)
    genuine = ANN.sign_now(auth_template("wss://relay.example", "abc"))
    forged = Event.of({**decode(genuine.json()), "pubkey": BOB.pubkey})
    with pytest.raises(Invalid, match="id"):
        check_auth(forged, RELAYS, "abc", NOW)


def test_a_request_is_authorized_by_an_event() -> None:
    for method, body in (("POST", BODY), ("GET", b"")):
        header = http_header(ANN.sign_now(http_template(method, URL, body)))
        assert check_http(header, method, URL, body, NOW + 60).pubkey == ANN.pubkey


@pytest.mark.parametrize(
    ("template", "body", "says"),
    [
        (http_template("GET", URL, BODY), BODY, "method"),
        (http_template("POST", URL + "x", BODY), BODY, "URL"),
        (http_template("POST", URL), BODY, "payload"),
        (http_template("POST", URL, b"other"), BODY, "payload"),
        (http_template("POST", URL, BODY), b"", "payload"),
        (Template(27_235, "", http_template("POST", URL, BODY).tags, NOW - 61), BODY, "minute"),
        (Template(1, "", http_template("POST", URL, BODY).tags), BODY, "kind"),
        (Template(27_235, "", (("u", URL), *http_template("POST", URL, BODY).tags)), BODY, "URL"),
    ],
)
def test_another_authorization_is_refused(template: Template, body: bytes, says: str) -> None:
    header = http_header(ANN.sign_now(template))
    with pytest.raises(Invalid, match=says):
        check_http(header, "POST", URL, body, NOW)


@pytest.mark.parametrize("header", ["", "Bearer x", "Nostr", "Nostr !", "Nostr e30=", "Nostr 4pyT"])
def test_what_is_no_authorization_is_refused(header: str) -> None:
    with pytest.raises(Invalid):
        check_http(header, "GET", URL, b"", NOW)


# Wraps -------------------------------------------------------------------------------------------


async def test_a_message_comes_to_its_reader_alone_and_shows_nothing_outside() -> None:
    one = rumor(ANN.pubkey, message("hello, Bob", BOB.pubkey), NOW)
    event = await wrap(one, BOB.pubkey, ANN, now=NOW, randomness=os.urandom)
    assert event.values("p") == [BOB.pubkey]
    assert ANN.pubkey not in event.json().decode()
    assert NOW - PAST_S < event.created_at <= NOW
    assert await unwrap(event, BOB) == one
    with pytest.raises(Invalid):
        await unwrap(event, EVE)


async def test_nobody_puts_words_into_anothers_mouth() -> None:
    one = rumor(ANN.pubkey, message("I owe Eve", BOB.pubkey), NOW)
    with pytest.raises(Invalid, match="author"):
        await wrap(one, BOB.pubkey, EVE, now=NOW, randomness=os.urandom)
    written = json.dumps({"id": one.id, "pubkey": ANN.pubkey, "created_at": NOW, "kind": 14,
                          "tags": [], "content": "I owe Eve"})  # fmt: skip
    seal = EVE.sign_now(Template(13, await EVE.encrypt(BOB.pubkey, written)))
    event = EVE.sign_now(Template(1059, await EVE.encrypt(BOB.pubkey, seal.json().decode())))
    with pytest.raises(Invalid, match="sealed it"):
        await unwrap(event, BOB)


@pytest.mark.parametrize(
    ("seal", "says"),
    [(Template(14, "x"), "seal"), (Template(13, "x", (("p", "y"),)), "seal"),
     (Template(13, "x"), "payload")],
)  # fmt: skip
async def test_what_is_no_seal_is_refused(seal: Template, says: str) -> None:
    inner = ANN.sign_now(seal).json().decode()
    event = EVE.sign_now(Template(1059, await EVE.encrypt(BOB.pubkey, inner)))
    with pytest.raises(Invalid, match=says):
        await unwrap(event, BOB)
    with pytest.raises(Invalid, match="kind"):
        await unwrap(EVE.sign_now(Template(1, "x")), BOB)


async def test_others_unwrap_what_we_wrap() -> None:
    one = rumor(ANN.pubkey, message("hello", BOB.pubkey), NOW)
    event = await wrap(one, BOB.pubkey, ANN, now=NOW, randomness=os.urandom)
    theirs = nostr_sdk.UnwrappedGift.from_gift_wrap(
        nostr_sdk.Keys.parse("02" * 32),
        nostr_sdk.Event.from_json(event.json().decode()),
    )
    assert theirs.sender().to_hex() == ANN.pubkey
    assert theirs.rumor().content() == "hello"
    assert isinstance(one, Rumor)
