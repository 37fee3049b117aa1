"""What a hostile client says to the relay, at every door: in memory, on the port, by a file.

Each is told what was wrong with it in the form that its sender understands, nothing of it is kept,
and the same conversation goes on.
"""

import errno
import json
from pathlib import Path

import pytest
from attrs import frozen

from oanix.lib.nostr import Event
from oanix.lib.nostr.auth import AUTH
from tests.service.relay_help import Doors, PortLink, doors, ending, fields, nothing_fails
from tests.service.test_relay_core import ANN, BOB, NOW, note
from tests.service.test_relay_session import Client

__all__ = ["nothing_fails"]

GOOD = note("good", ANN, 1, NOW, ("t", "x"))
OTHER = note("another", BOB)
ID = GOOD.id
DIGITS = "64 digits of lower-case hex"


# Events -------------------------------------------------------------------------------------------


@frozen
class Bad:
    """An event as it is sent, and the refusal; `whole`: the message cannot be read at all."""

    text: str
    says: str
    whole: bool = False
    number: int = errno.EINVAL


def but(says: str, *, whole: bool = False, **changed: object) -> Bad:
    """Change a good event."""
    return Bad(json.dumps({**fields(GOOD), **changed}), says, whole)


def written(part: str, instead: str, says: str, *, whole: bool = False) -> Bad:
    """Change the JSON of a good event."""
    text = GOOD.json().decode()
    assert text.count(part) == 1
    return Bad(text.replace(part, instead), says, whole)


def signed(event: Event, says: str, number: int = errno.EINVAL) -> Bad:
    """Take an event that was signed as it is."""
    return Bad(event.json().decode(), says, number=number)


EVENTS = {
    "the id of another event": but("the id does not match", id=OTHER.id),
    "the signature of another event": but("the signature is not of", sig=OTHER.sig),
    "the key of another": but("the id does not match", pubkey=BOB.pubkey),
    "a changed content": but("the id does not match", content="bad"),
    "a signature of zeros": but("the signature is not of", sig="0" * 128),
    "upper-case id": but(f"the id is not {DIGITS}", id=ID.upper()),
    "upper-case pubkey": but(f"the pubkey is not {DIGITS}", pubkey=GOOD.pubkey.upper()),
    "upper-case signature": but("the sig is not 128 digits", sig=GOOD.sig.upper()),
    "63 digits of id": but(f"the id is not {DIGITS}", id=ID[1:]),
    "65 digits of id": but(f"the id is not {DIGITS}", id=f"{ID}0"),
    "an id of a newline more": but(f"the id is not {DIGITS}", id=f"{ID}\n"),
    "an id of other digits": but(f"the id is not {DIGITS}", id="\u0660" * 64),
    "an empty id": but(f"the id is not {DIGITS}", id=""),
    "an id of 100,000 digits": but(f"the id is not {DIGITS}", id="0" * 100_000),
    "an id that is a number": but("Expected `str`, got `int`", whole=True, id=1),
    "no id": but("Expected `str`, got `null`", whole=True, id=None),
    "127 digits of signature": but("the sig is not 128 digits", sig=GOOD.sig[1:]),
    "kind -1": but("the kind is not a number from 0 to 65535", kind=-1),
    "kind 65,536": but("the kind is not a number from 0 to 65535", kind=65_536),
    "kind 1.0": but("Expected `int`, got `float`", kind=1.0),
    "kind true": but("Expected `int`, got `bool`", kind=True),
    "kind in quotes": but("Expected `int`, got `str`", kind="1"),
    "kind 10^30": but("the kind is not a number from 0 to 65535", kind=10**30),
    "kind 1e400": written('"kind":1', '"kind":1e400', "Number out of range", whole=True),
    "kind 10^5000": written('"kind":1', f'"kind":1{"0" * 5000}', "out of range", whole=True),
    "kind 01": written('"kind":1', '"kind":01', "JSON is malformed", whole=True),
    "kind NaN": written('"kind":1', '"kind":NaN', "JSON is malformed", whole=True),
    "a time before all": but("created_at is no time", created_at=-1),
    "a time of 2^53": but("created_at is no time", created_at=2**53),
    "a time of 2^63": but("created_at is no time", created_at=2**63),
    "half a second": but("Expected `int`, got `float`", created_at=NOW + 0.5),
    "a time in words": but("Expected `int`, got `str`", created_at="now"),
    "a year in the future": signed(
        note("soon", ANN, 1, NOW + 31_536_000), "created_at is over 900 s in the future"),
    "the last time of all": signed(
        note("last", ANN, 1, 2**53 - 1), "created_at is over 900 s in the future"),
    "what has expired": signed(
        note("old", ANN, 1, NOW, ("expiration", "1")), "the event has expired"),
    "100,000 tags": but("more than 2000 tags", tags=[["t"]] * 100_000),
    "2,001 tags": but("more than 2000 tags", tags=[["t"]] * 2_001),
    "tags of 270,000 characters": but("the tags have more than", tags=[["t", "x" * 270_000]]),
    "tags that are no list": but("Expected `array`, got `object`", tags={}),
    "no tags": but("Expected `array`, got `null`", tags=None),
    "a tag that is no list": but("Expected `array`, got `str`", tags=["t"]),
    "an empty tag": but("a tag is empty", tags=[["t", "x"], []]),
    "a number in a tag": but("Expected `str`, got `int`", tags=[["t", 1]]),
    "null in a tag": but("Expected `str`, got `null`", tags=[["t", None]]),
    "a list in a tag": but("Expected `str`, got `array`", tags=[["t", [["t"]]]]),
    "tags in tags without end": written(
        '[["t","x"]]', "[" * 100_000 + "]" * 100_000, "nested too deeply", whole=True),
    "an object in a tag without end": written(
        '"t"', '{"a":' * 50_000 + "1" + "}" * 50_000, "nested too deeply", whole=True),
    "a content of 1 MB": but("the content has more than", content="x" * 1_000_000),
    "a content of 65,537 characters": but("the content has more than", content="x" * 65_537),
    "no content": but("Expected `str`, got `null`", content=None),
    "a content that is a list": but("Expected `str`, got `array`", content=["x"]),
    "half a character": written('"good"', r'"\ud800"', "this is no JSON", whole=True),
    "the other half": written('"good"', r'"\udc00x"', "this is no JSON", whole=True),
    "two halves the wrong way": written('"good"', r'"\udc00\ud800"', "no JSON", whole=True),
    "a bare NUL": written('"good"', '"\0"', "JSON is malformed", whole=True),
    "a bare tab": written('"good"', '"\t"', "JSON is malformed", whole=True),
    "an escape that is none": written('"good"', r'"\x41"', "JSON is malformed", whole=True),
    "half an event": Bad(GOOD.json().decode()[:-9], "no JSON", whole=True),
    "a comma too many": written('"kind":1,', '"kind":1,,', "no JSON", whole=True),
    "a comment": written('"kind":1,', '"kind":1,/**/', "no JSON", whole=True),
    "a list": Bad(json.dumps(list(fields(GOOD).values())), "Expected `object`", whole=True),
    "a text": Bad(json.dumps(GOOD.json().decode()), "Expected `object`", whole=True),
    "nothing": Bad("{}", "missing required field", whole=True),
    "a protected event": signed(
        note("mine", ANN, 1, NOW, ("-",)), "its author alone may publish", errno.EACCES),
    "a repost of a protected event": signed(
        note(note("", BOB, 1, NOW, ("-",)).json().decode(), ANN, 6), "is not reposted",
        errno.EACCES),
    "an authentication": signed(note("", ANN, AUTH), "an "),
}  # fmt: skip


LONG = {what for what, bad in EVENTS.items() if len(bad.text) > 500_000}


@pytest.mark.parametrize(
    "what", [pytest.param(one, marks=[pytest.mark.slow] * (one in LONG)) for one in EVENTS]
)
async def test_an_event_that_is_none_is_refused_at_every_door(what: str, tmp_path: Path) -> None:
    bad = EVENTS[what]
    async with doors(tmp_path) as it:
        await refused_by_file(it, bad)
        for client in (await it.in_memory(), await it.on_port()):
            await refused_by_message(it, client, bad)
            assert await client.put(OTHER) == ["OK", OTHER.id, True, again(it)]
        assert it.kept() == [OTHER.json()]
        assert it.fs.relay.core.stats()["accepted"] == 2


def again(it: Doors) -> str:
    """Give what a client is told of an event that the other has published before."""
    first = it.fs.relay.core.stats()["accepted"] == 1
    return "" if first else "duplicate: this event is here already"


async def refused_by_file(it: Doors, bad: Bad) -> None:
    with pytest.raises(OSError, match=r"\w") as caught:
        await it.publish(f"{bad.text}\n".encode())
    found = caught.value
    assert found.errno == bad.number
    # Of JSON that cannot be read, the two readers see different faults first.
    assert bad.says in str(found.strerror) or bad.whole
    assert it.kept() == []


async def refused_by_message(it: Doors, client: Client, bad: Bad) -> None:
    limit = it.fs.relay.core.limits.message
    text = f'["EVENT",{bad.text}]'
    if isinstance(client.link, PortLink) and len(text) > limit:
        await client.link.send(text)
        assert (await ending(client))[0] == 1009
        client.link = (await it.on_port()).link
        return
    await client.link.send(text)
    heard = await client.hear()
    if bad.whole:
        assert heard[0] == "NOTICE"
        assert heard[1].startswith("invalid: ")
    else:
        assert heard[:3] == ["OK", json.loads(bad.text)["id"][:64], False]
    assert bad.says in heard[-1]
    prefix = "invalid" if bad.number == errno.EINVAL else "auth-required blocked"
    assert heard[-1].partition(":")[0] in (prefix.split() if not bad.whole else ["invalid"])


ODD = note('a/b é\u2028 "q" \x00\x7f\b\f 😀', ANN, 1, 0, ("t", "\0"), ("t",), ("", ""), ("é", "x"))
FIELDS = fields(ODD)
LAST_WINS = '{"id":"x","kind":9,"tags":[["t"]],' + ODD.json().decode()[1:]
FORMS = {
    "as it is": ODD.json().decode(),
    "escaped wherever it can be": json.dumps(FIELDS),
    "in other escapes": json.dumps(FIELDS).replace("/", r"\/").replace("a", r"\u0061"),
    "with blanks": json.dumps(FIELDS, indent="\t ").replace("\n", " \r\n"),
    "in another order": json.dumps(dict(sorted(FIELDS.items(), reverse=True))),
    "with fields that nobody knows": json.dumps({**FIELDS, "relay": "x", "": [[{}]], "ID": 1}),
    "with fields that come twice": LAST_WINS,
}


@pytest.mark.parametrize("how", FORMS)
async def test_an_event_in_an_unusual_form_is_kept_in_the_usual_one(
    how: str, tmp_path: Path
) -> None:
    text = FORMS[how]
    async with doors(tmp_path) as it:
        client, other = await it.in_memory(), await it.on_port()
        await client.link.send(f'[ "EVENT" ,\t{text}\r\n]')
        assert await client.hear() == ["OK", ODD.id, True, ""]
        await other.link.send(f'["\\u0045VENT",{text}]')
        assert (await other.hear())[:3] == ["OK", ODD.id, True]
        line = text.replace("\r\n", "").encode()
        assert (await it.publish(line + b"\n"))["ok"] is True
        assert it.kept() == [ODD.json()]
        await other.link.send('["REQ","s",{"#t":["\\u0000"],"since":0,"until":0}]')
        assert Event.of((await other.hear())[2]) == ODD
