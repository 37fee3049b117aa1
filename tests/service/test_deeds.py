"""Deeds: what services tell that they did for somebody, as those who watch a namespace see it."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import trio

from oanix.caller import Caller
from oanix.namespace import Namespace
from oanix.operation import Deed, Kind, Subject
from tests.service.http_help import Http, http
from tests.service.nostr_help import Clock, user
from tests.service.test_nostr_fs import alone
from tests.service.ws_help import websockets


class Deeds:
    """An onlooker that keeps the deeds."""

    kinds = frozenset({Kind.DEED})

    def __init__(self, namespace: Namespace) -> None:
        self.found: list[Deed] = []
        self.callers: set[str] = set()
        namespace.onlookers = (*namespace.onlookers, self)

    def seen(
        self, kind: Kind, subject: Subject, caller: Caller, arguments: tuple[object, ...],
        result: object, error: BaseException | None, started: float,
    ) -> None:  # fmt: skip
        [deed] = arguments
        assert isinstance(deed, Deed)
        self.found.append(deed)
        self.callers.add(caller.session_key)

    def told(self) -> list[tuple[str, dict[str, Any], str]]:
        found, self.found = self.found, []
        return [(one.name, dict(one.arguments), one.outcome) for one in found]


def asked(web: Http, path: str, method: str = "GET") -> dict[str, str]:
    return {"method": method, "url": web.url(path)}


async def test_a_get_is_told_when_it_is_closed_with_status_and_bytes() -> None:
    async with http() as web:
        deeds = Deeds(web.namespace)
        file = await web.open(web.tree("/bytes/5000"))
        await file.read(100)
        assert deeds.told() == []
        file.close()
        [(name, said, outcome)] = deeds.told()
        assert (name, said) == ("http_request", asked(web, "/bytes/5000"))
        assert outcome.startswith("200 Fine, ")
        assert deeds.callers == {web.reach.caller.session_key}


async def test_queries_are_masked_and_headers_and_bodies_are_not_told() -> None:
    async with http() as web:
        deeds = Deeds(web.namespace)
        call = await web.call()
        await call.ask(
            url=web.url("/echo?token=abc&x=1"), headers={"X-Key": "header-value"}, body="body-value"
        )
        call.close()
        [deed] = deeds.found
        assert dict(deed.arguments) == {
            "method": "POST", "url": web.url("/echo") + "?token=***&x=***"
        }  # fmt: skip
        assert deed.seconds > 0
        assert "value" not in repr(deed)


async def test_each_request_of_a_call_is_told_and_those_that_fail_with_why() -> None:
    async with http() as web:
        deeds = Deeds(web.namespace)
        call = await web.call()
        await call.ask(url=web.url("/status/404"))
        await call.write(json.dumps({"url": web.url("/hang"), "timeout": 0.05}) + "\n")
        with pytest.raises(TimeoutError):
            await call.read()
        call.close()
        first, second = deeds.found
        assert first.outcome.startswith("404 ")
        assert first.error is None
        assert second.error is not None
        assert second.error.errno == errno.ETIMEDOUT
        assert dict(second.arguments) == asked(web, "/hang")


async def test_what_was_asked_and_not_answered_is_told_at_the_close() -> None:
    async with http() as web:
        deeds = Deeds(web.namespace)
        call = await web.call()
        for path in ("/hang", "/echo"):
            await call.write(json.dumps({"url": web.url(path)}) + "\n")
        call.close()
        assert [(one.arguments["url"], one.error and one.error.errno) for one in deeds.found] == [
            (web.url("/hang"), errno.ECANCELED), (web.url("/echo"), errno.ECANCELED),
        ]  # fmt: skip


async def test_a_conversation_is_told_once_for_each_request() -> None:
    async with http() as web:
        deeds = Deeds(web.namespace)
        number = (await web.text("/new")).strip()
        await web.write(f"/{number}/url", web.url("/upload") + "\n")
        await web.write(f"/{number}/body", "x" * 100)
        await web.read(f"/{number}/response")
        [(name, said, outcome)] = deeds.told()
        assert (name, said) == ("http_request", asked(web, "/upload", "POST"))
        assert outcome.startswith("200 Fine, ")
        await web.write(f"/{number}/url", web.url("/stall/1000") + "\n")
        file = await web.open(f"/{number}/response")
        await file.read(10)
        file.close()
        [(_, said, outcome)] = deeds.told()
        assert said["url"] == web.url("/stall/1000")
        assert outcome.startswith("200 Fine, ")


async def test_a_connection_of_websockets_is_told_at_both_ends() -> None:
    async with websockets() as ws:
        deeds = Deeds(ws.reach.namespace)
        talk = await ws.talk("/echo?key=hush")
        out = await talk.open("out")
        await talk.send("one\ntwo\n")
        got = b""
        while got.count(b"\n") < 2:
            got += await talk.read(out)
        url = {"url": ws.server.url("/echo") + "?key=***"}
        assert deeds.told() == [("open_websocket", url, "connected")]
        await talk.ctl("close")
        with trio.fail_after(20):
            while not deeds.found:
                await trio.lowlevel.checkpoint()
        assert deeds.told() == [("close_websocket", url, "2 messages in, 2 out")]
        talk.close(out)
        refused = await ws.talk("/404")
        with pytest.raises(OSError, match="404"):
            await refused.open("out")
        [deed] = deeds.found
        assert (deed.name, deed.error is not None) == ("open_websocket", True)


async def test_what_is_published_is_told_and_letters_are_not(tmp_path: Path) -> None:
    async with alone(tmp_path) as it:
        deeds = Deeds(it.namespace)
        [said] = await it.ask("/publish", "hello " + "é" * 400)
        [(name, arguments, outcome)] = deeds.told()
        assert name == "publish_event"
        assert arguments["kind"] == 1
        assert arguments["content"] == f"hello {'é' * 274}…"
        assert outcome == f"{said['id']}, given to 1 relays"
        me = (await it.reach.read("/npub")).decode().strip()
        await it.ask(f"/dm/{me}/send", "a secret")
        assert deeds.told() == []


async def test_nothing_is_told_of_what_is_refused(tmp_path: Path) -> None:
    async with alone(tmp_path) as it, user(None, Clock()) as other:
        deeds = Deeds(it.namespace)
        with pytest.raises(OSError, match="invalid"):
            await it.ask("/publish", '{"kind": -1}')
        assert deeds.found == []
        # Who looks at one namespace sees nothing of another.
        with pytest.raises(OSError, match=r"."):
            await other.ask("/publish", "hello")
        assert deeds.found == []
