"""The relay as files, and its management over HTTP (NIP-11, NIP-86)."""

import base64
import errno
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from oanix.errors import Denied
from oanix.lib.nostr import Event, LocalSigner, Template
from oanix.lib.nostr.auth import http_header, http_template
from oanix.lib.nostr.nip19 import encode as nip19
from oanix.services.relay import RelayFs
from tests.reach import Reach, refused
from tests.service.test_relay_core import ANN, BOB, EVE, NOW, note

URL = "https://relay.example/"


@asynccontextmanager
async def relay(folder: Path | None) -> AsyncIterator[tuple[RelayFs, Reach]]:
    service = RelayFs(folder, url="wss://relay.example/", version=lambda: "1.2", clock=lambda: NOW)
    async with service.running():
        yield service, Reach.of(service)


async def say(reach: Reach, path: str, text: bytes) -> bytes:
    """Write lines, and read the answer on the same open file."""
    opened = await reach.open(path, os.O_RDWR)
    try:
        done = 0
        while done < len(text):
            done += await opened.write(reach.caller, text[done:], 0)
        return await opened.read(reach.caller, 65_536, 0)
    finally:
        opened.close(reach.caller)


async def test_events_are_published_found_and_heard(tmp_path: Path) -> None:
    async with relay(tmp_path) as (service, reach):
        live = await reach.open("/live")
        first, second = note("one", ANN, 1, NOW, ("t", "a b")), note("two", BOB, 7)
        said = await say(reach, "/publish", first.json() + b"\n" + second.json() + b"\n")
        assert [json.loads(line) for line in said.splitlines()] == [
            {"id": first.id, "ok": True, "message": ""},
            {"id": second.id, "ok": True, "message": ""},
        ]
        assert await live.read(reach.caller, 65_536, 0) == (
            first.json() + b"\n" + second.json() + b"\n"
        )
        live.close(reach.caller)
        for name in (first.id, nip19("note", first.id)):
            assert await reach.read(f"/events/{name}") == first.json() + b"\n"
        assert await reach.read("/req/kinds=1") == first.json() + b"\n"
        assert await reach.read("/req/#t=a%20b&limit=5") == first.json() + b"\n"
        assert await reach.read(f"/req/authors={nip19('npub', BOB.pubkey)}") == (
            second.json() + b"\n"
        )
        assert await reach.read("/req/kinds=9") == b""
        await service.relay.core.indexed()
        assert await reach.read("/req/search=one") == first.json() + b"\n"
        with refused(errno.ENOENT):
            reach.stat("/req/colour=red")
        with refused(errno.ENOENT):
            reach.stat("/events/abc")
        with refused(errno.ENOENT):
            await reach.read(f"/events/{'0' * 64}")
        assert b"accepted 2\n" in await reach.read("/stats")
        assert reach.names("/req") == reach.names("/events") == []


@pytest.mark.parametrize(
    ("line", "number", "words"),
    [
        (b"hello\n", errno.EINVAL, "this is no event: "),
        (note().json().replace(b'"kind":1', b'"kind":2') + b"\n", errno.EINVAL, "invalid: "),
        (note("", ANN, 1, NOW, ("-",)).json() + b"\n", errno.EACCES, "auth-required: "),
        (note(kind=4).json() + b"\n", errno.EACCES, "blocked: use NIP-17"),
        (note(kind=9).json() + b"\n", errno.EINVAL, "pow: "),
        (b"x" * 1_100_000, errno.EMSGSIZE, "a line has at most"),
    ],
)  # fmt: skip
async def test_a_refusal_is_the_error_of_the_write(
    line: bytes, number: int, words: str, tmp_path: Path
) -> None:
    async with relay(tmp_path) as (_, reach):
        await say(reach, "/policy", b"deny write kind=4 -- use NIP-17\npow 200 kind=9\n")
        with pytest.raises(OSError, match=words) as caught:
            await say(reach, "/publish", line)
        assert caught.value.errno == number


async def test_a_refused_read_says_which_rule_it_was(tmp_path: Path) -> None:
    async with relay(tmp_path) as (_, reach):
        await say(reach, "/policy", b"deny read kind=4 -- members only\n")
        with pytest.raises(Denied) as caught:
            await reach.read("/req/kinds=4")
        assert (caught.value.what, caught.value.rule) == (
            "read kinds=4", "blocked: members only"
        )  # fmt: skip
        assert "policy" in caught.value.remedy


async def test_what_came_before_a_refused_line_is_kept(tmp_path: Path) -> None:
    good, bad = note("good"), note("bad", kind=4)
    async with relay(tmp_path) as (_, reach):
        await say(reach, "/policy", b"deny write kind=4\n")
        opened = await reach.open("/publish", os.O_RDWR)
        text = good.json() + b"\n" + bad.json() + b"\n"
        done = await opened.write(reach.caller, text, 0)
        assert done == len(good.json()) + 1
        with pytest.raises(PermissionError):
            await opened.write(reach.caller, text[done:], 0)
        said = [
            json.loads(line) for line in (await opened.read(reach.caller, 9999, 0)).splitlines()
        ]
        assert [one["ok"] for one in said] == [True, False]
        opened.close(reach.caller)


async def test_a_last_line_without_its_newline_is_published_at_the_close(tmp_path: Path) -> None:
    event = note("no newline")
    async with relay(tmp_path) as (service, reach):
        opened = await reach.open("/publish", os.O_WRONLY)
        await opened.write(reach.caller, event.json(), 0)
        opened.close(reach.caller)
        with trio.fail_after(20):
            while service.relay.core.stats()["accepted"] < 1:
                await service.relay.core.accepted.bell.wait()
        assert await reach.read(f"/events/{event.id}") == event.json() + b"\n"


async def test_the_document_tells_what_is_set_and_what_is_enforced(tmp_path: Path) -> None:
    async with relay(tmp_path) as (_, reach):
        await say_ctl(reach, b"name Ann's place\npubkey " + nip19("npub", ANN.pubkey).encode())
        await say(reach, "/policy", b"pow 8\nallow write auth=any\ndeny write\n")
        told = json.loads(await reach.read("/info.json"))
        assert told["name"] == "Ann's place"
        assert told["pubkey"] == ANN.pubkey
        assert told["version"] == "1.2"
        assert {1, 11, 42, 50, 77, 86} <= set(told["supported_nips"])
        limits = told["limitation"]
        assert limits["min_pow_difficulty"] == 8
        assert limits["restricted_writes"] is True
        assert limits["auth_required"] is False
        with refused(errno.EINVAL):
            await say_ctl(reach, b"pubkey me\n")
        with refused(errno.EINVAL):
            await say_ctl(reach, b"colour red\n")
    async with relay(tmp_path) as (_, reach):
        assert json.loads(await reach.read("/info.json"))["name"] == "Ann's place"
        assert await reach.read("/policy") == b"pow 8\nallow write auth=any\ndeny write\n"


async def say_ctl(reach: Reach, text: bytes) -> None:
    opened = await reach.open("/ctl", os.O_WRONLY)
    try:
        await opened.write(reach.caller, text if text.endswith(b"\n") else text + b"\n", 0)
    finally:
        opened.close(reach.caller)


async def test_a_client_within_the_process_is_seen_and_sent_away(tmp_path: Path) -> None:
    async with relay(None) as (service, reach):
        link = service.relay.connect()
        assert json.loads(await link.receive())[0] == "AUTH"
        await link.send(json.dumps(["EVENT", json.loads(note().json())]))
        assert json.loads(await link.receive())[2] is True
        seen = json.loads(await reach.read("/connections"))
        assert (seen["number"], seen["address"], seen["heard"]) == (1, "local", 1)
        with refused(errno.ENOENT):
            await say_ctl(reach, b"disconnect 2\n")
        await say_ctl(reach, b"disconnect 1\n")
        with pytest.raises(trio.EndOfChannel):
            await link.receive()
        assert await reach.read("/connections") == b""
    with refused(errno.ESHUTDOWN):
        service.relay.connect()


# Management (NIP-86) ------------------------------------------------------------------------------


class Admin:
    """Somebody who manages the relay."""

    def __init__(self, service: RelayFs, signer: LocalSigner) -> None:
        self.service = service
        self.signer = signer
        self.count = 0

    async def ask(self, method: str, *params: object) -> tuple[int, Any]:
        body = json.dumps({"method": method, "params": params}).encode()
        self.count += 1
        template = http_template("POST", URL, body)
        template = evolve(template, tags=(*template.tags, ("count", str(self.count))))
        header = http_header(self.signer.sign_now(template))
        status, answer = await self.service.relay.management.answer(header, [URL], body)
        return status, json.loads(answer)

    async def result(self, method: str, *params: object) -> Any:
        status, answer = await self.ask(method, *params)
        assert status == 200, answer
        return answer["result"]


async def test_an_admin_bans_and_allows_and_lists(tmp_path: Path) -> None:
    async with relay(tmp_path) as (service, reach):
        await say_ctl(reach, b"admin add " + nip19("npub", ANN.pubkey).encode())
        admin = Admin(service, ANN)
        assert "banpubkey" in await admin.result("supportedmethods")
        event = note("here", BOB)
        await say(reach, "/publish", event.json() + b"\n")
        assert await admin.result("banpubkey", BOB.pubkey, "spam  and\nmore") is True
        assert await admin.result("listbannedpubkeys") == [
            {"pubkey": BOB.pubkey, "reason": "spam and more"}
        ]
        assert await reach.read("/req/kinds=1") == b""
        with pytest.raises(PermissionError, match="blocked: spam and more"):
            await say(reach, "/publish", note("again", BOB).json() + b"\n")
        assert await admin.result("unbanpubkey", BOB.pubkey) is True
        assert await admin.result("listbannedpubkeys") == []
        assert await reach.read("/req/kinds=1") == event.json() + b"\n"
        await admin.result("banevent", event.id)
        assert await reach.read("/req/kinds=1") == b""
        assert (await admin.result("listbannedevents"))[0]["id"] == event.id
        await admin.result("allowevent", event.id)
        await admin.result("disallowkind", 7)
        await admin.result("allowkind", 9)
        assert await admin.result("listallowedkinds") == [9]
        with pytest.raises(PermissionError, match="blocked: "):
            await say(reach, "/publish", note(kind=7).json() + b"\n")
        await admin.result("blockip", "192.0.2.0/24", "noise")
        assert service.relay.refuses("192.0.2.9") == "noise"
        assert await admin.result("listblockedips") == [{"ip": "192.0.2.0/24", "reason": "noise"}]
        await admin.result("unblockip", "192.0.2.0/24")
        assert service.relay.refuses("192.0.2.9") is None
        await admin.result("changerelayname", "New name")
        assert json.loads(await reach.read("/info.json"))["name"] == "New name"
        assert await reach.read("/policy") == b"allow write kind=9\ndeny write kind=7\n"


@pytest.mark.parametrize(
    ("method", "params", "status"),
    [
        ("banpubkey", ("zz",), 400), ("banpubkey", (), 400), ("blockip", ("nowhere",), 400),
        ("blockip", ("1.2.3.4 author=x",), 400), ("allowkind", (70_000,), 400), ("fly", (), 400),
        ("changerelayname", ("a\nb",), 400), ("changerelayname", (1,), 400),
        ("banevent", ("0" * 63,), 400),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_told(
    method: str, params: tuple[object, ...], status: int, tmp_path: Path
) -> None:
    async with relay(tmp_path) as (service, reach):
        await say_ctl(reach, b"admin add " + ANN.pubkey.encode())
        assert (await Admin(service, ANN).ask(method, *params))[0] == status
        assert await reach.read("/policy") == b"#: no rules: everybody may write and read\n"


async def test_only_admins_manage_and_each_authorization_counts_once(tmp_path: Path) -> None:
    body = b'{"method":"supportedmethods","params":[]}'
    template = http_template("POST", URL, body)
    header = http_header(ANN.sign_now(template))
    async with relay(tmp_path) as (service, reach):
        manage = service.relay.management.answer
        assert (await Admin(service, EVE).ask("supportedmethods"))[0] == 403
        await say_ctl(reach, b"admin add " + ANN.pubkey.encode())
        assert (await manage(header, [URL], body))[0] == 200
        assert (await manage(header, [URL], body))[0] == 401
        assert (await manage("", [URL], body))[0] == 401
        other = http_header(ANN.sign_now(http_template("POST", "https://other.example/", body)))
        assert (await manage(other, [URL], body))[0] == 401
        bare = Template(27_235, "", (("u", URL), ("method", "POST")))
        assert (await manage(http_header(ANN.sign_now(bare)), [URL], body))[0] == 401
        wrong = (("u", URL), ("method", "POST"), ("payload", hashlib.sha256(b"x").hexdigest()))
        event: Event = ANN.sign_now(Template(27_235, "", wrong))
        encoded = base64.b64encode(event.json()).decode()
        assert (await manage(f"Nostr {encoded}", [URL], body))[0] == 401
        await say_ctl(reach, b"admin remove " + ANN.pubkey.encode())
        assert (await Admin(service, ANN).ask("supportedmethods"))[0] == 403
