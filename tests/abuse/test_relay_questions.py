"""What a hostile client asks of the relay, in memory and on the port, and whom it claims to be.

Each question that is none is answered to whom it can be told, and the next one as well.
"""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.nostr import Event, Template
from oanix.lib.nostr.auth import AUTH, auth_template, http_header, http_template
from oanix.services.relay.messages import Refusal, parse
from tests.service.relay_help import doors, fields, nothing_fails
from tests.service.test_relay_core import ANN, BOB, NOW, URL, note
from tests.service.test_web_door import answer

__all__ = ["nothing_fails"]

GOOD = note("good", ANN, 1, NOW, ("t", "x"))
OTHER = note("another", BOB)
DIGITS = "64 digits of lower-case hex"


# Questions ----------------------------------------------------------------------------------------

MANY = [f"{number:03}" for number in range(10_001)]
WORDS = " ".join(f"w{number}" for number in range(33))
NAME = "x" * 64


def ask(*said: object) -> str:
    return json.dumps(said)


def req(**asked: object) -> str:
    """Ask for what a filter has; a tag is named `_t`."""
    return ask("REQ", "s", {name.replace("_", "#"): value for name, value in asked.items()})


QUESTIONS: dict[str, tuple[str, str, str]] = {
    "1,000 filters": (ask("REQ", "s", *[{}] * 1000), "CLOSED", "at most 20 filters, these are"),
    "no filter": (ask("REQ", "s"), "CLOSED", "there is no filter"),
    "a filter that is a list": (ask("REQ", "s", []), "CLOSED", "a filter is an object"),
    "a filter that is null": (ask("REQ", "s", None), "CLOSED", "a filter is an object"),
    "a good filter, and a bad one": (ask("REQ", "s", {}, {"ids": 1}), "CLOSED", "ids is a list"),
    "limit -1": (req(limit=-1), "CLOSED", "limit is a whole number, not negative"),
    "limit 1.5": (req(limit=1.5), "CLOSED", "limit is a whole number"),
    "limit 2^64": (req(limit=2**64), "CLOSED", "limit is a whole number"),
    "limit true": (req(limit=True), "CLOSED", "limit is a whole number"),
    "limit in words": (req(limit="all"), "CLOSED", "limit is a whole number"),
    "since -1": (req(since=-1), "CLOSED", "since is a whole number"),
    "until 10^30": (req(until=10**30), "CLOSED", "until is a whole number"),
    "an empty list": (req(ids=[]), "CLOSED", "ids is a list of one value or more"),
    "a list that is null": (req(authors=None), "CLOSED", "authors is a list of one value"),
    "an id of 63 digits": (req(ids=["a" * 63]), "CLOSED", f"ids holds {DIGITS}"),
    "the beginning of an id": (req(ids=["abc"]), "CLOSED", f"ids holds {DIGITS}"),
    "an upper-case author": (req(authors=["A" * 64]), "CLOSED", f"authors holds {DIGITS}"),
    "a number for an author": (req(authors=[1]), "CLOSED", "authors is a list of texts"),
    "a name for a key": (req(_p=["ann"]), "CLOSED", f"#p holds {DIGITS}"),
    "kind -1": (req(kinds=[-1]), "CLOSED", "kinds is a list of numbers"),
    "kind 65,536": (req(kinds=[65_536]), "CLOSED", "kinds is a list of numbers"),
    "kind 1.0": (req(kinds=[1.0]), "CLOSED", "kinds is a list of numbers"),
    "10,001 kinds": (req(kinds=list(range(10_001))), "CLOSED", "more than 10000 values"),
    "10,001 values of a tag": (req(_t=MANY), "CLOSED", "more than 10000 values"),
    "40,000 values in all": (
        req(**{f"_{letter}": MANY[:-1] for letter in "abcd"}), "CLOSED", "more than 10000 values"),
    "lists in lists without end": (
        '["REQ","s",{"ids":' + "[" * 9_000 + "]" * 9_000 + "}]", "NOTICE", "nested too deeply"),
    "a search that is a list": (req(search=["x"]), "CLOSED", "search is no text"),
    "a search of 33 words": (req(search=WORDS), "CLOSED", "at most 32 words"),
    "one whose answer is not wanted": (req(search=WORDS, limit=0), "CLOSED", "at most 32 words"),
    "33 words to count": (ask("COUNT", "s", {"search": WORDS}), "CLOSED", "at most 32 words"),
    "33 words to agree upon": (
        ask("NEG-OPEN", "s", {"search": WORDS}, "61"), "NEG-ERR", "at most 32 words"),
    "half a character": ('["REQ","s",{"search":"\\ud800"}]', "NOTICE", "no JSON"),
    "no name": (ask("REQ"), "NOTICE", "REQ is followed by the name"),
    "a name that is a number": (ask("REQ", 1, {}), "NOTICE", "REQ is followed by the name"),
    "an empty name": (ask("REQ", "", {}), "CLOSED", "has 1 to 64 characters"),
    "a name of 65 characters": (ask("REQ", f"{NAME}x", {}), "CLOSED", "has 1 to 64 characters"),
    "a name of 100,000": (ask("REQ", "x" * 100_000, {}), "CLOSED", "has 1 to 64 characters"),
    "a count of nothing": (ask("COUNT", "s"), "CLOSED", "there is no filter"),
    "the end of what has no name": (ask("CLOSE"), "NOTICE", "CLOSE is followed by the name"),
    "no first message": (ask("NEG-OPEN", "s", {}), "NEG-ERR", "NEG-OPEN has a name, a filter"),
    "a first message that is no hex": (ask("NEG-OPEN", "s", {}, "6g"), "NEG-ERR", "is no hex"),
    "half a byte": (ask("NEG-OPEN", "s", {}, "610"), "NEG-ERR", "is no hex"),
    "a first message of nonsense": (
        ask("NEG-OPEN", "s", {}, "61" + "ff" * 9_000), "NEG-ERR", "has over 64 bits"),
    "an id to agree upon that is none": (
        ask("NEG-OPEN", "s", {"ids": ["x"]}, "61"), "NEG-ERR", f"ids holds {DIGITS}"),
    "more of what was not begun": (ask("NEG-MSG", "s", "61"), "NEG-ERR", "no such negotiation"),
    "an unknown message": (ask("HELLO"), "NOTICE", "'HELLO' is no message"),
    "one in lower case": (ask("req", "s", {}), "NOTICE", "'req' is no message"),
    "one of 100,000 characters": (ask("x" * 100_000), "NOTICE", f"'{'x' * 64}' is no message"),
    "one that only a relay says": (ask("EOSE", "s"), "NOTICE", "'EOSE' is no message"),
    "no list": ("{}", "NOTICE", "a message is a list"),
    "an empty list without a word": ("[]", "NOTICE", "a message is a list"),
    "an empty message": ("", "NOTICE", "this is no JSON"),
    "blanks": (" \t\r\n", "NOTICE", "this is no JSON"),
    "two messages in one": ('["CLOSE","a"]["CLOSE","b"]', "NOTICE", "this is no JSON"),
    "a byte order mark": ('\ufeff["CLOSE","a"]', "NOTICE", "this is no JSON"),
    "a number without end": (f'["CLOSE",{"9" * 5000}]', "NOTICE", "Integer value out of range"),
    "two events": (ask("EVENT", fields(GOOD), fields(OTHER)), "NOTICE", "Expected `object`"),
}  # fmt: skip


@pytest.mark.parametrize("what", QUESTIONS)
async def test_a_question_that_is_none_is_answered_and_the_next_one_as_well(
    what: str, tmp_path: Path
) -> None:
    text, kind, says = QUESTIONS[what]
    async with doors(tmp_path) as it:
        assert (await it.publish(OTHER.json() + b"\n"))["ok"]
        for client in (await it.in_memory(), await it.on_port()):
            await client.link.send(text)
            heard = await client.hear()
            assert heard[0] == kind
            assert says in heard[-1]
            assert heard[-1].partition(":")[0] in ("invalid", "unsupported", "closed")
            if kind != "NOTICE":
                assert heard[1] == json.loads(text)[1][:64]
            assert it.fs.relay.core.stats()["subscriptions"] == 0
            assert await client.stored("s", {"kinds": [1]}) == ([OTHER.id], "finish")
            await client.say("CLOSE", "s")
            assert await client.stored("end", {"limit": 0}) == ([], "finish")
            await client.say("CLOSE", "end")
            # A question that nobody could read must not wait for the next event either.
            assert await client.put(OTHER) == [
                "OK", OTHER.id, True, "duplicate: this event is here already",
            ]  # fmt: skip


@pytest.mark.slow
async def test_questions_at_the_edge_are_answered(tmp_path: Path) -> None:
    asked: list[tuple[dict[str, object], list[str]]] = [
        ({"limit": 10**9}, [GOOD.id]), ({"limit": 0}, []), ({"limit": 2**53 - 1}, [GOOD.id]),
        ({"since": NOW + 1, "until": NOW - 1}, []), ({"until": 2**53 - 1}, [GOOD.id]),
        ({"search": "a\0b"}, []), ({"search": '\0"\0'}, [GOOD.id]), ({"search": ""}, [GOOD.id]),
        ({"search": "good\0"}, [GOOD.id]), ({"search": "NEAR(good) OR NOT ^*"}, []),
        ({"search": "x" * 100_000}, []), ({"search": "' OR 1=1 --"}, []), ({"#t": MANY[:-1]}, []),
        ({"#t": ["'; DROP TABLE events; --", "x"]}, [GOOD.id]), ({"#é": ["x"]}, [GOOD.id]),
        ({"#tt": 1, "colour": "red", "": None}, [GOOD.id]), ({"kinds": list(range(10_000))},
                                                             [GOOD.id]),
        ({f"#{letter}": ["x"] for letter in "abcdefghijklmnopqrsuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
          if letter not in "ep"}, []),
    ]  # fmt: skip
    async with doors(tmp_path) as it:
        client = await it.on_port()
        assert (await client.put(GOOD))[2]
        for one, found in asked:
            assert (await client.stored(NAME, one))[0] == found, str(one)[:80]
            counted = await client.ask("COUNT", "c", {**one, "limit": 1})
            assert counted == ["COUNT", "c", {"count": len(found) or one == {"limit": 0}}]
            assert (await client.ask("NEG-OPEN", "n", one, "61"))[0] == "NEG-MSG"
            await client.say("NEG-CLOSE", "n")
        await client.say("CLOSE", "unknown")
        await client.say("CLOSE", NAME)
        await client.say("NEG-CLOSE", "unknown")
        assert it.kept() == [GOOD.json()]


WORDS_SAID = """
    EVENT AUTH REQ COUNT CLOSE NEG-OPEN NEG-MSG NEG-CLOSE NEG- ids kinds #t limit search id tags 61
"""
words = st.sampled_from(WORDS_SAID.split())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@given(said=st.tuples(words, values) | st.tuples(words, words, values) | st.lists(values))
def test_whatever_is_said_is_a_message_or_is_told_why_not(said: list[object]) -> None:
    for text in (json.dumps(said), json.dumps(said, ensure_ascii=False)[:-1]):
        told = b'["OK"]'
        try:
            assert parse(text, max_filters=3) is not None
        except Refusal as refusal:
            told = refusal.answer
        assert json.loads(told)[0] in ("NOTICE", "OK", "CLOSED", "NEG-ERR")
        assert len(told) < 2_000


# Proofs of identity -------------------------------------------------------------------------------


async def test_a_proof_that_is_none_proves_nothing_at_any_door(tmp_path: Path) -> None:
    rule = "allow write auth=any\ndeny write -- members only\n"
    async with doors(tmp_path) as it:
        it.fs.relay.book.replace(rule)
        for client in (await it.in_memory(), await it.on_port()):
            template = auth_template(URL, client.challenge)
            proof = ANN.sign_now(template)
            relays = ("wss://other.example", "", "\0", "wss://[::1", "wss://relay.example:99999")
            bad = [ANN.sign_now(auth_template(relay, client.challenge)) for relay in relays]
            bad += [ANN.sign_now(auth_template(URL, text)) for text in ("", "x", "0" * 100_000)]
            bad += [
                ANN.sign_now(Template(AUTH, "", template.tags, at))
                for at in (0, NOW - 601, NOW + 601, 2**53 - 1)
            ]
            bad += [ANN.sign_now(Template(1, "", template.tags)), ANN.sign_now(Template(AUTH))]
            bad += [Event.of({**fields(proof), "sig": GOOD.sig})]
            bad += [Event.of({**fields(proof), "pubkey": BOB.pubkey})]
            for one in bad:
                told = await client.ask("AUTH", fields(one))
                assert (told[:3], told[3][:8]) == (["OK", one.id, False], "invalid:")
            for said in (proof.id, [proof.id], None):
                assert (await client.ask("AUTH", said))[0] == "NOTICE"
            told = await client.put(proof)
            assert (told[2], told[3][:8]) == (False, "invalid:")
            # It was an event all along, and is none of these.
            told = await client.put(GOOD)
            assert told == ["OK", GOOD.id, False, "auth-required: members only"]
            assert it.kept() == []
            other = await it.in_memory()
            assert not (await other.ask("AUTH", fields(proof)))[2]
            assert (await client.ask("AUTH", fields(proof)))[2:] == [True, ""]
            assert (await client.ask("AUTH", fields(proof)))[2:] == [True, ""]
        assert (await client.put(GOOD))[2]
        with pytest.raises(PermissionError, match="auth-required: members only"):
            await it.publish(OTHER.json() + b"\n")


async def test_who_proves_badly_for_long_is_not_listened_to(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        client = await it.on_port()
        for _ in range(32):
            assert not (await client.login(ANN, "wss://other.example"))[2]
        told = await client.login(ANN)
        assert told[2:] == [False, "rate-limited: too many authentications on this connection"]
        assert (await client.put(GOOD))[2]


# Management ---------------------------------------------------------------------------------------

BODY = '{"method":"supportedmethods","params":[]}'
DEEP = "[" * 9_000 + "]" * 9_000


@pytest.mark.parametrize(
    ("header", "body", "status"),
    [
        ("", BODY, 401), ("Nostr", BODY, 401), ("Nostr ", BODY, 401), ("Basic YTpi", BODY, 401),
        ("Nostr !!!", BODY, 401), ("Nostr e30=", BODY, 401), ("Nostr /////w==", BODY, 401),
        (f"Nostr {base64.b64encode(DEEP[:9000].encode()).decode()}", BODY, 401),
        (f"Nostr {base64.b64encode(GOOD.json()).decode()}", BODY, 401),
        ("signed", "", 401), ("signed", "{", 400), ("signed", "[]", 400), ("signed", "null", 400),
        ("signed", DEEP, 400), ("signed", '{"method":1}', 400), ("signed", '{"method":{}}', 400),
        ("signed", '{"method":"banpubkey","params":{}}', 400),
        ("signed", '{"method":"banpubkey","params":[[]]}', 400),
        ("signed", '{"method":"banpubkey","params":["\\u0000"]}', 400),
        ("signed", '{"method":"banpubkey","params":["' + "\u0660" * 64 + '"]}', 400),
        ("signed", '{"method":"allowkind","params":[1e400]}', 400),
        ("signed", '{"method":"allowkind","params":[1' + "0" * 300 + "]}", 400),
        ("signed", '{"method":"blockip","params":["0x7f.1"]}', 400),
        ("signed", '{"method":"blockip","params":["::/0 -- x\\nallow any"]}', 400),
        ("signed", '{"method":"changerelayname","params":["a\\u0000"]}', 400),
        ("signed", '{"method":"changerelayname","params":["' + "x" * 5_000 + '"]}', 400),
        ("signed", BODY, 200),
    ],
)  # fmt: skip
async def test_a_bad_request_of_management_changes_nothing(
    header: str, body: str, status: int, tmp_path: Path
) -> None:
    async with doors(tmp_path) as it:
        it.fs.relay.admin(f"add {ANN.pubkey}")
        if header == "signed":
            template = http_template("POST", URL, body.encode())
            header = http_header(ANN.sign_now(template))
        stream = await it.stream()
        head = [
            "POST / HTTP/1.1", f"Host: {it.host}", f"Authorization: {header}",
            "Content-Type: application/nostr+json+rpc", f"Content-Length: {len(body.encode())}",
        ]  # fmt: skip
        await stream.send_all("\r\n".join([*head, "", body]).encode())
        found, _, said = await answer(stream)
        assert found == status
        assert json.loads(said).keys() == {"result" if status == 200 else "error"}
        assert it.fs.relay.book.text == ""
        assert set(it.fs.relay.core.settings()) == {"admins"}
