"""The relay on a port: one path for the document, management, clients, and people."""

import json
from pathlib import Path

import pytest
import trio

from oanix.lib.nostr import Template
from oanix.lib.nostr.auth import auth_template, http_header, http_template
from oanix.lib.websocket import Closed, WebSocket
from tests.service.nostr_help import SIGNERS, Clock, Served, relay
from tests.service.test_web_door import answer, get

ANN = SIGNERS["ann"]


async def test_one_path_serves_the_document_the_conversation_and_a_page(tmp_path: Path) -> None:
    async with relay(tmp_path, Clock()) as it:

        async def ask(text: str) -> tuple[int, dict[str, str], bytes]:
            async with await trio.open_tcp_stream("127.0.0.1", it.port) as stream:
                host = f"Host: 127.0.0.1:{it.port}"
                await stream.send_all(text.replace("Host: here", host).encode())
                return await answer(stream)

        status, headers, body = await ask(get("/", "Accept: application/nostr+json"))
        assert status == 200
        assert headers["content-type"] == "application/nostr+json"
        assert headers["access-control-allow-origin"] == "*"
        assert headers["access-control-allow-headers"] == "*"
        assert headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS, POST"
        assert 77 in json.loads(body)["supported_nips"]
        assert b"This is a Nostr relay" in (await ask(get("/", "Accept: text/html")))[2]
        assert (await ask(get("/relay", "Accept: application/nostr+json")))[0] == 404
        wanted = b'{"method":"supportedmethods","params":[]}'
        signed = ANN.sign_now(http_template("POST", it.url.replace("ws:", "http:"), wanted))
        kind = "Content-Type: application/nostr+json+rpc"
        text = get("/", kind, method="POST", body=wanted.decode())
        assert (await ask(text))[0] == 401
        assert (await ask(text.replace(kind, f"{kind}\r\nAuthorization: {http_header(signed)}")))[
            0
        ] == 401
        it.fs.relay.admin(f"add {ANN.pubkey}")
        fresh = http_template("POST", it.url.replace("ws:", "http:"), wanted)
        signer = type(ANN)(bytes([1]) * 32, now=lambda: 1_700_000_000)
        good = http_header(signer.sign_now(fresh))
        status, _, body = await ask(text.replace(kind, f"{kind}\r\nAuthorization: {good}"))
        assert status == 200
        assert "banpubkey" in json.loads(body)["result"]


async def test_a_client_that_calls_it_by_another_name_cannot_log_in(tmp_path: Path) -> None:
    clock = Clock()
    signer = type(ANN)(bytes([1]) * 32, now=lambda: clock.now)
    async with relay(tmp_path, clock) as it:
        for host, taken in ((f"127.0.0.1:{it.port}", True), ("evil.example", False)):
            stream = await trio.open_tcp_stream("127.0.0.1", it.port)
            socket = await WebSocket.connect(stream, host=host, target="/")
            async with socket:
                challenge = json.loads(await socket.receive())[1]
                proof = signer.sign_now(auth_template(f"ws://{host}/", challenge))
                await socket.send(json.dumps(["AUTH", json.loads(proof.json())]))
                assert json.loads(await socket.receive())[2] is taken


async def test_an_address_that_is_banned_is_sent_away_with_the_reason(tmp_path: Path) -> None:
    rule = "deny connect address=127.0.0.0/8 -- go away"
    async with relay(tmp_path, Clock(), policy=rule) as it:
        stream = await trio.open_tcp_stream("127.0.0.1", it.port)
        socket = await WebSocket.connect(stream, host="here", target="/")
        with pytest.raises(Closed) as closed:
            await socket.receive()
        assert (closed.value.ending.code, closed.value.ending.reason) == (1008, "go away")


async def test_rules_are_for_who_asks_through_a_proxy_and_nobody_else_is_believed(
    tmp_path: Path,
) -> None:
    rules = "deny connect address=203.0.113.0/24 -- go away\nrate write 1/min by=address\n"

    async def told(it: Served, address: str, text: str) -> list[object]:
        stream = await trio.open_tcp_stream("127.0.0.1", it.port)
        headers = (("X-Forwarded-For", address),)
        socket = await WebSocket.connect(stream, host="here", target="/", headers=headers)
        async with socket:
            assert json.loads(await socket.receive())[0] == "AUTH"
            event = ANN.sign_now(Template(1, text, (), 1_700_000_000))
            await socket.send(json.dumps(["EVENT", json.loads(event.json())]))
            answer: list[object] = json.loads(await socket.receive())
            return answer

    async with relay(tmp_path / "1", Clock(), policy=rules, proxies=("127.0.0.1",)) as it:
        with pytest.raises(Closed) as closed:
            await told(it, "203.0.113.9", "one")
        assert closed.value.ending.reason == "go away"
        assert (await told(it, "198.51.100.1", "one"))[2] is True
        assert (await told(it, "198.51.100.2", "two"))[2] is True
        assert str((await told(it, "198.51.100.1", "three"))[3]).startswith("rate-limited: ")
    async with relay(tmp_path / "2", Clock(), policy=rules) as it:
        assert (await told(it, "203.0.113.9", "one"))[2] is True
        assert str((await told(it, "198.51.100.2", "two"))[3]).startswith("rate-limited: ")
