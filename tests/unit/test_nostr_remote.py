"""A signer that is elsewhere (NIP-46): asked, checked, and not believed without reason."""

import errno
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import nostr_sdk
import pytest
import trio
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.nostr import Event, Invalid, LocalSigner, Signer, Template, check
from oanix.lib.nostr.remote import Bunker as Address
from oanix.lib.nostr.remote import RemoteSigner, parse_bunker
from oanix.lib.websocket import WebSocket
from oanix.services.relay.core import Core
from oanix.services.relay.link import SocketWire, memory_link
from oanix.services.relay.outbox import Flusher
from oanix.services.relay.session import Session, Shared
from tests.nostr.bunker import Answer, Bunker, LinkExchange

NOW = 1_700_000_000
SERVICE, USER, OTHER, EVE = (LocalSigner(bytes([n]) * 32, now=lambda: NOW) for n in (4, 5, 6, 7))
CLIENT = bytes([8]) * 32
RELAY = "wss://relay.example/"
URL = f"bunker://{SERVICE.pubkey}?relay={RELAY}&secret=s3cret"


@define
class World:
    """A relay with a bunker, and a client of it."""

    shared: Shared
    nursery: trio.Nursery
    bunker: Bunker
    exchange: LinkExchange
    signer: RemoteSigner

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            socket = await WebSocket.accept(stream)
            await Session(self.shared, SocketWire(socket), "127.0.0.1").run()


@asynccontextmanager
async def world(
    path: Path, url: str = URL, within: float = 10, clock: Callable[[], float] = lambda: NOW
) -> AsyncIterator[World]:
    core = Core.create(str(path / "r.db"), now=clock)
    shared = Shared(core, Flusher(), clock)
    async with core.running(), trio.open_nursery() as nursery:
        nursery.start_soon(shared.flusher.run)
        ours, theirs = memory_link(), memory_link()
        for _, wire in (ours, theirs):
            nursery.start_soon(Session(shared, wire, "memory").run)
        bunker = Bunker(theirs[0], SERVICE, USER, "s3cret")
        await nursery.start(bunker.run)
        exchange = LinkExchange(ours[0])
        nursery.start_soon(exchange.run)
        signer = RemoteSigner(
            parse_bunker(url), exchange, secret=CLIENT, now=lambda: NOW, within=within
        )
        yield World(shared, nursery, bunker, exchange, signer)
        nursery.cancel_scope.cancel()


async def fails(number: int, ask: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(OSError, match=rf"\[Errno {number}\]") as caught:
        await ask()
    return caught.value.strerror or ""


async def test_a_remote_signer_signs_as_its_user(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        signer: Signer = it.signer
        await it.signer.connect()
        assert signer.pubkey == USER.pubkey
        await it.signer.ping()
        event = await signer.sign(Template(1, 'a "word" \U0001f980 \x01', (("t", "x"), ("p",))))
        check(event)
        assert (event.pubkey, event.created_at, event.tags) == (
            USER.pubkey, NOW, (("t", "x"), ("p",)),
        )  # fmt: skip
        assert (await signer.sign(Template(1, created_at=5))).created_at == 5
        payload = await signer.encrypt(OTHER.pubkey, "hush")
        assert await OTHER.decrypt(USER.pubkey, payload) == "hush"
        assert await signer.decrypt(OTHER.pubkey, payload) == "hush"
        assert it.bunker.asked[:3] == ["connect", "get_public_key", "ping"]


async def test_a_signer_that_knows_us_needs_no_secret_again(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.signer.connect()
        address = Address(SERVICE.pubkey, (RELAY,))
        again = RemoteSigner(address, it.exchange, secret=CLIENT, now=lambda: NOW, within=10)
        await again.resume()
        assert again.pubkey == USER.pubkey
        stranger = RemoteSigner(address, it.exchange, secret=bytes([9]) * 32, now=lambda: NOW)
        assert "not connected" in await fails(errno.EACCES, stranger.resume)


async def test_before_it_is_connected_it_has_no_key(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        with pytest.raises(OSError, match="not been connected") as caught:
            _ = it.signer.pubkey
        assert caught.value.errno == errno.ENOTCONN
        await fails(errno.ENOTCONN, partial(it.signer.sign, Template(1)))
        assert it.bunker.asked == []


async def test_a_wrong_secret_is_told_and_not_shown(tmp_path: Path) -> None:
    async with world(tmp_path, URL.replace("s3cret", "guess")) as it:
        said = await fails(errno.EACCES, it.signer.connect)
        assert said == "the signer refused: the secret is another"
        assert "guess" not in repr(it.signer) + repr(parse_bunker(URL.replace("s3cret", "guess")))


async def test_the_url_that_a_person_has_to_open_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.bunker.twist = lambda method, answer: {
            "id": answer["id"], "result": "auth_url", "error": "https://sign.example/ok?\x1b[2J",
        }  # fmt: skip
        said = await fails(errno.EACCES, it.signer.connect)
        assert said == "the signer wants you to open https://sign.example/ok? [2J first"


@pytest.mark.parametrize(
    "twist",
    [
        lambda answer: {**answer, "result": None},
        lambda answer: {"id": answer["id"]},
        lambda answer: {**answer, "result": ["pong"]},
        lambda answer: {**answer, "result": "peng"},
        lambda answer: {**answer, "error": 5, "result": 7},
    ],
)
async def test_an_answer_that_is_none_is_an_error_at_once(
    tmp_path: Path, twist: Callable[[Answer], Answer]
) -> None:
    async with world(tmp_path) as it:
        await it.signer.connect()
        it.bunker.twist = lambda method, answer: twist(answer)
        assert "is none" in await fails(errno.EPROTO, it.signer.ping)
        await fails(errno.EPROTO, it.signer.get_public_key)


def _others(event: Event) -> Event:
    return OTHER.sign_now(Template(event.kind, event.content, event.tags, event.created_at))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda event: _others(event), "something else"),
        (
            lambda event: USER.sign_now(Template(1, "I owe you 100", (), event.created_at)),
            "something else",
        ),
        (lambda event: USER.sign_now(Template(1, event.content, (), 5)), "something else"),
        (
            lambda event: USER.sign_now(Template(7, event.content, (), event.created_at)),
            "something else",
        ),
    ],
)
async def test_what_was_not_asked_for_is_not_taken_signed(
    tmp_path: Path, made: Callable[[Event], Event], said: str
) -> None:
    def twist(method: str, answer: Answer) -> Answer:
        event = Event.parse(answer["result"])
        return {**answer, "result": made(event).json().decode()}

    async with world(tmp_path) as it:
        await it.signer.connect()
        it.bunker.twist = twist
        assert said in await fails(errno.EPROTO, partial(it.signer.sign, Template(1, "hello")))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: {**found, "sig": "0" * 128},
        lambda found: {**found, "id": "0" * 64},
        lambda found: {**found, "content": "other"},
        lambda found: {k: v for k, v in found.items() if k != "sig"},
        lambda found: "no event",
    ],
)
async def test_a_signature_is_checked(tmp_path: Path, spoil: Callable[[Answer], object]) -> None:
    def twist(method: str, answer: Answer) -> Answer:
        return {**answer, "result": json.dumps(spoil(json.loads(answer["result"])))}

    async with world(tmp_path) as it:
        await it.signer.connect()
        it.bunker.twist = twist
        await fails(errno.EPROTO, partial(it.signer.sign, Template(1, "hello")))


async def test_answers_of_others_and_to_other_questions_are_passed_over(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        client = LocalSigner(CLIENT, now=lambda: NOW).pubkey

        async def extra(event: Event, answer: Answer) -> None:
            lie = {**answer, "result": "0" * 64}
            await it.bunker.answer(EVE, client, lie)
            for name in ("", 5, None, "f" * 32, ["x"]):
                await it.bunker.answer(SERVICE, client, {**lie, "id": name})
            for text in ("no JSON", "[]", "{}"):
                content = await SERVICE.encrypt(client, text)
                made = SERVICE.sign_now(Template(24_133, content, (("p", client),)))
                await it.bunker.link.send(json.dumps(["EVENT", json.loads(made.json())]))
            made = SERVICE.sign_now(Template(24_133, "no payload", (("p", client),)))
            await it.bunker.link.send(json.dumps(["EVENT", json.loads(made.json())]))

        it.bunker.extra = extra
        await it.signer.connect()
        assert it.signer.pubkey == USER.pubkey


async def test_answers_may_come_in_any_order(tmp_path: Path) -> None:
    kept: list[tuple[str, Answer]] = []

    def keep(method: str, answer: Answer) -> Answer | None:
        kept.append((method, answer))
        return None

    async with world(tmp_path) as it:
        await it.signer.connect()
        it.bunker.twist = keep
        made: dict[str, Event] = {}

        async def sign(text: str) -> None:
            made[text] = await it.signer.sign(Template(1, text))

        client = LocalSigner(CLIENT, now=lambda: NOW).pubkey
        async with trio.open_nursery() as nursery:
            for text in ("one", "two", "three"):
                nursery.start_soon(sign, text)
            with trio.fail_after(20):
                while len(kept) < 3:
                    await trio.lowlevel.checkpoint()
            for _, answer in reversed(kept):
                await it.bunker.answer(SERVICE, client, answer)
        assert {text: event.content for text, event in made.items()} == {
            text: text for text in ("one", "two", "three")
        }
        assert len({answer["id"] for _, answer in kept}) == 3


async def test_a_signer_that_keeps_silent_is_given_up_on(tmp_path: Path) -> None:
    async with world(tmp_path, within=0.05) as it:
        it.bunker.twist = lambda method, answer: None
        said = await fails(errno.ETIMEDOUT, it.signer.connect)
        assert said == "the signer did not answer connect in 0.05 s"


async def test_what_the_relay_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    # To a clock that is years ahead, what is signed now comes from too far in the past.
    async with world(tmp_path) as it:
        late = RemoteSigner(
            parse_bunker(URL), it.exchange, secret=CLIENT, now=lambda: 2**40, within=10
        )
        assert "invalid:" in await fails(errno.EACCES, late.connect)


async def test_it_listens_once_and_until_it_is_closed(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        assert it.exchange.subscriptions == 0
        await it.signer.connect()
        await it.signer.ping()
        assert it.exchange.subscriptions == 1
        it.signer.close()
        it.signer.close()
        assert it.exchange.subscriptions == 0
        await it.signer.ping()


async def test_too_many_requests_at_a_time_are_told(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.signer.connect()
        it.bunker.twist = lambda method, answer: None
        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(it.signer.ping)
            with trio.fail_after(20):
                while it.bunker.asked.count("ping") < 64:
                    await trio.lowlevel.checkpoint()
            await fails(errno.EAGAIN, it.signer.ping)
            nursery.cancel_scope.cancel()
        it.bunker.twist = lambda method, answer: answer
        await it.signer.ping()


@pytest.mark.slow
async def test_a_foreign_client_takes_the_bunker_of_these_tests_for_one(tmp_path: Path) -> None:
    import time

    async with world(tmp_path, clock=time.time) as it:
        for name in ("signer", "user"):
            key = bytes([4 if name == "signer" else 5]) * 32
            setattr(it.bunker, name, LocalSigner(key, now=lambda: int(time.time())))
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        it.nursery.start_soon(partial(trio.serve_listeners, it.serve, [listener]))
        url = f"bunker://{SERVICE.pubkey}?relay=ws://127.0.0.1:{port}&secret=s3cret"
        found = await trio.to_thread.run_sync(_foreign, url)
    key, payload, text = found
    assert key == USER.pubkey
    assert await OTHER.decrypt(USER.pubkey, payload) == "hush"
    assert text == "hush"


def _foreign(url: str) -> tuple[str, str, str]:
    # Its interface is asyncio's.
    import asyncio

    async def talk() -> tuple[str, str, str]:
        signer = nostr_sdk.NostrConnect(
            nostr_sdk.NostrConnectUri.parse(url), nostr_sdk.Keys.generate(),
            timedelta(seconds=40), None,
        )  # fmt: skip
        key = await signer.get_public_key_async()
        assert key is not None
        other = nostr_sdk.PublicKey.parse(OTHER.pubkey)
        payload = await signer.nip44_encrypt_async(other, "hush")
        return key.to_hex(), payload, await signer.nip44_decrypt_async(other, payload)

    return asyncio.run(talk())


# The URL -----------------------------------------------------------------------------------------


def test_the_url_of_a_bunker_is_read() -> None:
    key = USER.pubkey
    assert parse_bunker(f"bunker://{key}?relay=wss://R.example") == Address(
        key, ("wss://r.example/",)
    )
    found = parse_bunker(
        f"bunker://{key}?relay=wss%3A%2F%2Fa.example%2Fx&secret=a%26b&relay=ws://b&relay=ws://b/"
        "&perms=sign_event%3A1"
    )
    assert found == Address(key, ("wss://a.example/x", "ws://b/"), "a&b")
    assert "a&b" not in repr(found)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "bunker://"),
        ("nostrconnect://" + "a" * 64 + "?relay=wss://r", "bunker://"),
        ("BUNKER://" + "a" * 64 + "?relay=wss://r", "bunker://"),
        ("bunker://" + "A" * 64 + "?relay=wss://r", "lower-case"),
        ("bunker://" + "a" * 63 + "?relay=wss://r", "64 digits"),
        ("bunker://" + "a" * 64 + "/?relay=wss://r", "64 digits"),
        ("bunker://u@" + "a" * 64 + "?relay=wss://r", "64 digits"),
        ("bunker://" + "a" * 64, "relay="),
        ("bunker://" + "a" * 64 + "?secret=x", "1 to 16 relays"),
        ("bunker://" + "a" * 64 + "?relay=https://r", "wss://"),
        ("bunker://" + "a" * 64 + "?relay=", "relay of a bunker"),
        ("bunker://" + "a" * 64 + "?relay=wss://u:p@r", "relay of a bunker"),
        ("bunker://" + "a" * 64 + "?relay=wss://r&secret=a&secret=b", "one secret"),
        ("bunker://" + "a" * 64 + "?relay=wss://r&secret=", "one secret"),
        ("bunker://" + "a" * 64 + "?relay=wss://r&&", "with & between"),
        ("bunker://" + "a" * 64 + "?relay=wss://r&secret=%ff", "with & between"),
        ("bunker://" + "a" * 64 + "?relay=wss://r&secret=a b", "blanks"),
        ("bunker://" + "a" * 64 + "?relay=wss://r&secret=\n", "blanks"),
        ("bunker://" + "a" * 64 + "?" + "&".join(f"relay=ws://r{n}" for n in range(17)), "16"),
        ("bunker://" + "a" * 64 + "?relay=wss://" + "r" * 5000, "5000"),
    ],
)
def test_what_is_no_url_of_a_bunker_is_told(url: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_bunker(url)
    assert said in caught.value.reason


@given(st.text(max_size=80) | st.text(max_size=40).map(lambda text: URL + text))
def test_any_text_is_a_bunker_or_invalid_and_the_secret_is_not_in_what_is_said(text: str) -> None:
    said = ""
    try:
        said = repr(parse_bunker(text))
    except Invalid as error:
        said = error.reason
    assert said
    assert "s3cret" not in said
