"""Rights in the web: what a child, another user or a server may try to get more than it has."""

import base64
import errno
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from oanix.caller import Caller
from oanix.errors import Denied
from oanix.lib.policy import Layer, Policy, Rules
from oanix.lib.vault import SecretRule
from oanix.lib.web import Asker, WebLimits
from oanix.services.http.call import AHEAD, UNREAD
from oanix.services.http.policy_file import LAYERS_MAX
from oanix.services.ws.talk import PARCELS_BYTES, PARCELS_MAX
from tests.reach import ALICE, BOB, Reach, refused
from tests.service.http_help import http
from tests.service.vaults import made
from tests.service.ws_help import Talk, Ws, websockets
from tests.web.asking import ANN, OPEN, Asking, Keys, Names, asking, rest
from tests.web.server import serve

SECRET = "sesame-canary-0123456789abcdef"
PATIENCE_S = 20


@asynccontextmanager
async def raw_server(answer: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """Answer each request's head with bytes, whatever they are; gives the port."""

    async def speak(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        await stream.send_all(answer(head))

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, speak, 0)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def told(text: str) -> bool:
    """Tell whether a text holds more of the secret than chance would."""
    return any(SECRET[at : at + 6] in text for at in range(len(SECRET) - 5))


# Secrets -----------------------------------------------------------------------------------------


def _moved(head: bytes) -> bytes:
    target = head.split(b" ")[1]
    return b"HTTP/1.1 301 Moved\r\nLocation: https://h" + target + b"\r\n\r\n"


@pytest.mark.parametrize("before", [*range(150, 200, 7), 380, 390])
async def test_a_redirect_of_a_handshake_shows_no_part_of_a_secret(
    tmp_path: Path, before: int
) -> None:
    vault = made(tmp_path)
    async with raw_server(_moved) as port, websockets(vault=vault) as ws:
        rule = SecretRule.parse(f"* http://127.0.0.1:{port}/** query key={{}}")
        vault.set("key", SECRET.encode(), rule)
        talk = await ws.talk()
        await talk.ctl(f"url ws://127.0.0.1:{port}/{'x' * (before - 14)}")
        with pytest.raises(OSError, match="answered 301") as caught:
            await talk.open("out")
        assert not told(str(caught.value))
        assert not told(await talk.text("error"))
    vault.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX-%s \x00\r\n\r\n", b"%s\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%s\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [0, 100, 140, 150, 160, 170, 180])
async def test_an_answer_that_is_no_http_shows_no_part_of_a_secret(
    answer: bytes, before: int
) -> None:
    said = answer.replace(b"%s", b"x" * before + SECRET.encode() + b"\\")
    keys = Keys(**{"127.0.0.1": f"{SECRET}\\"})
    async with raw_server(lambda head: said) as port, asking(vault=keys) as web:
        with pytest.raises(OSError, match="does not speak HTTP") as caught:
            await rest(await web.send(f"http://127.0.0.1:{port}/"))
        assert not told(str(caught.value))
    async with raw_server(lambda head: said) as port, websockets(vault=keys) as ws:
        talk = await ws.talk()
        await talk.ctl(f"url ws://127.0.0.1:{port}/")
        with pytest.raises(OSError, match="Errno") as caught:
            await talk.open("out")
        assert not told(str(caught.value))


@pytest.mark.parametrize("name", ["Range", "Request-Range", "X-Ms-Range"])
async def test_a_part_of_an_answer_is_not_given_where_a_secret_may_be_in_it(name: str) -> None:
    """Apache's server takes Request-Range for Range, others have names of their own."""
    body = f"key={SECRET}".encode()

    def part(head: bytes) -> bytes:
        ranged = f"\r\n{name.lower()}: bytes=".encode() in head.lower()
        size = 12 if ranged else len(body)
        status = b"206 Partial Content" if ranged else b"200 OK"
        return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, size, body[:size])

    keys = Keys(**{"127.0.0.1": SECRET})
    async with raw_server(part) as port, asking(vault=keys) as web:
        url = f"http://127.0.0.1:{port}/"
        if name == "X-Ms-Range":
            with refused(errno.EPROTO, "could not be masked"):
                await web.send(url, headers=((name, "bytes=0-11"),))
        else:
            answer = await web.get(url, headers=((name, "bytes=0-11"),))
            assert answer == (200, b"key=" + b"*" * len(SECRET))


# What the rules judge ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["X-HTTP-Method-Override", "X-HTTP-Method", "x-method-override", "X-Original-URL",
     "X-Rewrite-URL"],
)  # fmt: skip
async def test_no_header_asks_for_something_else_than_the_rules_see(name: str) -> None:
    async with http() as web:
        call = await web.call()
        with refused(errno.EINVAL, "rules see"):
            await call.write(json.dumps({"url": web.url("/echo"), "headers": {name: "x"}}) + "\n")
        talk = await web.new()
        with refused(errno.EINVAL, "rules see"):
            await talk.ctl(f"header {name}: x")
        assert not web.server.asked
    async with websockets() as ws:
        talk_ws = await ws.talk()
        await talk_ws.ctl(f"header {name}: x")
        with refused(errno.EINVAL, "rules see"):
            await talk_ws.open("out")


async def _denied(web: Asking, url: str, rules: list[str]) -> None:
    with pytest.raises(Denied) as caught:
        await web.send(url)
    rules.append(caught.value.rule)


async def test_rules_that_are_replaced_count_for_whoever_waits() -> None:
    policy = Policy(Layer(Rules.parse(OPEN)))
    rules: list[str] = []
    async with serve() as server, asking(policy=policy, limits=WebLimits(per_origin=1)) as web:
        first = await web.send(server.url("/sse/0"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_denied, web, server.url("/echo"), rules)
            await trio.testing.wait_all_tasks_blocked()
            policy.replace(Rules.parse("deny *\n"))
            first.close()
        assert rules == ["policy line 1: deny *"]
        assert [asked.path for asked in server.asked] == ["/sse/0"]
        assert [line["rule"] for line in web.lines() if line["verdict"] == "deny"] == rules


async def test_rules_that_are_replaced_count_for_the_next_attempt() -> None:
    policy = Policy(Layer(Rules.parse(OPEN)))
    rules: list[str] = []
    async with serve() as server, asking(policy=policy) as web:
        async with trio.open_nursery() as nursery:
            url = server.url("/flaky/a?fail=1&status=503&after=0")
            nursery.start_soon(_denied, web, url, rules)
            await server.until(lambda: server.asked)
            policy.replace(Rules.parse("deny *\n"))
        assert rules == ["policy line 1: deny *"]
        assert len(server.asked) == 1


async def test_a_kept_answer_is_for_the_rules_under_which_it_came() -> None:
    policy = Policy(Layer(Rules.parse(OPEN)))
    narrow = Asker(ANN.caller, (Layer(Rules.parse("allow *\n"), "a child's"),))
    async with serve() as server, asking(policy=policy, cache_bytes=100_000) as web:
        url = server.url("/cache/a", host="a.test")
        assert await web.get(url) == (200, b"answer 1")
        await web.quiet()
        # What a child asks, with headers of its own, is kept for the child alone.
        assert await web.get(url, asker=narrow) == (200, b"answer 2")
        await web.quiet()
        assert await web.get(url) == (200, b"answer 1")
        policy.replace(Rules.parse("allow *://*:*\n"))
        with pytest.raises(Denied):
            await web.get(url)


# Conversations -----------------------------------------------------------------------------------


async def test_a_narrower_namespace_does_not_read_the_answers_of_a_wider_one() -> None:
    async with http() as web:
        child = web.fork()
        await child.write("/policy", f"allow GET http://127.0.0.1:{web.server.port}/echo\n")
        talk = await web.new()
        await talk.write("url", web.url("/text/identity/private"))
        await talk.ctl("header Authorization: mine")
        response = await talk.open("response")
        for name in ("response", "response_headers", "headers"):
            with refused(errno.EACCES, "wider rules"):
                await child.open(f"{talk.path}/{name}")
        assert await response.rest() == b"private"
        with refused(errno.EACCES, "wider rules"):
            await child.open(f"{talk.path}/response")
        # What it changes is asked under its own rules, and is its to read.
        await child.write(f"{talk.path}/url", web.url("/text/identity/private"))
        with pytest.raises(Denied):
            await child.open(f"{talk.path}/response")
        talk.close()


async def test_a_narrower_namespace_does_not_use_the_connection_of_a_wider_one() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        out = await talk.open("out")
        child = Reach(ws.reach.namespace.fork(), ws.reach.caller)
        child.namespace.layers[ws.service.policy] = (Layer(Rules.parse("deny *\n"), "a child's"),)
        theirs = Talk(Ws(ws.service, ws.server, child), talk.path[1:], talk.new)
        for name, flags in (("out", os.O_RDONLY), ("in", os.O_WRONLY)):
            with refused(errno.EACCES, "wider rules"):
                await theirs.open(name, flags)
        talk.close(out)


# Narrowing ---------------------------------------------------------------------------------------


async def test_what_a_child_has_narrowed_is_not_taken_back_by_the_same_open_file() -> None:
    async with http() as web:
        child = web.fork()
        file = await child.open("/policy", os.O_WRONLY | os.O_TRUNC)
        await file.write(f"deny http://127.0.0.1:{web.server.port}/echo\n")
        file.file.flush()
        grandchild = child.fork()
        file.file.truncate(child.reach.caller, 0)
        await file.write("allow *\n")
        file.close()
        for one in (child, grandchild):
            with pytest.raises(Denied):
                await one.get("/echo")


async def test_a_namespace_is_narrowed_so_often_and_no_more() -> None:
    async with http() as web:
        child = web.fork()
        for _ in range(LAYERS_MAX):
            await child.write("/policy", "allow *\n")
        with refused(errno.ENOSPC, "at most"):
            await child.write("/policy", "allow *\n")


async def test_rules_that_are_collected_without_end_are_refused_as_they_come() -> None:
    async with http() as web:
        file = await web.fork().open("/policy", os.O_WRONLY | os.O_TRUNC)
        line = "#" + "x" * 8000 + "\n"
        with refused(errno.EINVAL, "at most"):
            for _ in range(200):
                assert await file.write(line) == len(line)
        file.file.close(file.caller)


# Bounds ------------------------------------------------------------------------------------------


async def test_answers_that_nobody_reads_end_the_asking_be_they_errors() -> None:
    async with http("deny *\n") as web:
        call = await web.call()
        line = '{"url":"http://h.test/"}\n'
        with refused(errno.EAGAIN, "read"):
            for _ in range(UNREAD // AHEAD + 2):
                await call.write(line * AHEAD)
                with trio.fail_after(PATIENCE_S):
                    while web.service.requests.held:
                        await trio.lowlevel.checkpoint()
        call.close()


async def test_a_hundred_thousand_lines_in_one_write_are_refused_before_they_are_read() -> None:
    async with http() as web:
        call = await web.call()
        with refused(errno.EAGAIN, "64 requests"):
            await call.write('{"url":"http://h.test/"}\n' * 100_000)
        assert web.service.requests.held == 0
        call.close()


async def test_requests_that_wait_have_a_bound_together() -> None:
    async with http() as web:
        web.service.requests._limit = 1 << 20
        call, other = await web.call(), await web.call()
        await call.write(b" " * 700_000)
        with refused(errno.ENOBUFS, "too many"):
            await other.write(b" " * 700_000)
        call.close()
        assert web.service.requests.held == 0
        await other.write(b" " * 700_000)
        stuck = {"url": web.url("/hang"), "body_base64": base64.b64encode(bytes(150_000)).decode()}
        other.close()
        other = await web.call()
        with refused(errno.ENOBUFS, "too many"):
            for _ in range(8):
                await other.write(json.dumps(stuck) + "\n")
        other.close()
        assert web.service.requests.held == 0


async def test_call_is_open_so_often_and_others_go_on() -> None:
    async with http(caller=ALICE) as web:
        files = [await web.call() for _ in range(256)]
        with refused(errno.EMFILE, "256"):
            await web.call()
        (await web.by(BOB).call()).close()
        for file in files:
            file.close()
        (await web.call()).close()


async def test_one_who_reads_nothing_leaves_turns_for_others() -> None:
    limits = WebLimits(per_origin=2, per_asker=3, in_all=6, queue_s=0.05)
    async with serve() as server, serve() as other, asking(limits=limits) as web:
        held = [await web.send(server.url("/endless")) for _ in range(2)]
        with refused(errno.ETIMEDOUT, "your 2"):
            await web.send(server.url("/echo"))
        held.append(await web.send(other.url("/endless")))
        with refused(errno.ETIMEDOUT, "your 3"):
            await web.send(other.url("/echo"))
        bob = Asker(Caller(uid=1001))
        for there in (server, other):
            assert (await web.get(there.url("/echo"), asker=bob))[0] == 200
        for exchange in held:
            exchange.close()


async def test_what_waits_for_a_peer_that_reads_nothing_is_bounded() -> None:
    async with websockets() as ws:
        talk = await ws.talk("/deaf")
        out = await talk.open("out")
        half = b"x" * (1 << 20)
        for _ in range(16 + PARCELS_BYTES // len(half)):
            writer = await talk.open("in", os.O_WRONLY)
            await talk.write(writer, half)
            talk.close(writer)
        with refused(errno.EAGAIN, "takes no more"):
            for _ in range(PARCELS_MAX + 1):
                await talk.ctl("ping")
        talk.close(out)


async def test_a_name_for_a_secret_never_leads_elsewhere(tmp_path: Path) -> None:
    vault = made(tmp_path)
    for name in ("..", "../x", "a..b", ".", "a/b", "", "x\n", "ctl"):
        with pytest.raises(OSError, match="Errno"):
            vault.set(name, SECRET.encode())
    for rule in (
        "* * header A: {}",
        "* https://*/** header A: {}",
        "* https://*.com/** query a={}",
    ):
        with refused(errno.EINVAL):
            SecretRule.parse(rule)
    for value in (b"", b"a\nb\nc\n", b"abcd\r\nX: y"):
        with refused(errno.EINVAL):
            vault.set("key", value)
    vault.close()


async def test_a_name_that_rebinds_is_refused_at_the_door() -> None:
    resolver = Names(rebind_test=[["93.184.216.34"], ["127.0.0.1"]])
    async with http("allow *\n", resolver=resolver) as web:
        await resolver("rebind.test", 80)
        call = await web.call()
        await call.write(json.dumps({"url": web.server.url("/echo", host="rebind.test")}) + "\n")
        with pytest.raises(Denied, match="loopback"):
            await call.read()
        call.close()
        assert not web.server.accepted


def _sent_on(head: bytes) -> bytes:
    target = head.split(b" ")[1]
    query = target.partition(b"?")[2]
    place = b"http://b.test:%d/?" % 80 + query
    return b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + place + b"\r\n\r\n"


async def test_a_redirect_takes_no_secret_to_another_origin(tmp_path: Path) -> None:
    """A server that redirects with the query it got would give the secret to whoever is there."""
    vault = made(tmp_path)
    async with serve() as server, asking(vault=vault) as web:

        def sent_on(head: bytes) -> bytes:
            there = server.url("/echo?", host="b.test").encode()
            return _sent_on(head).replace(b"http://b.test:80/?", there)

        async with raw_server(sent_on) as port:
            rule = SecretRule.parse(f"* http://a.test:{port}/** query key={{}}")
            vault.set("key", f"{SECRET}/+é".encode(), rule)
            with refused(errno.EPROTO, "not taken there") as caught:
                await web.send(f"http://a.test:{port}/?a=1")
            assert not told(str(caught))
            assert not server.asked
    vault.close()


async def test_a_part_that_is_asked_for_later_is_under_the_rules_of_then() -> None:
    async with http() as web:
        child = web.fork()
        file = await child.open(web.tree("/parts/9000000"))
        await file.read(10)
        await child.write("/policy", "deny *\n")
        with pytest.raises(Denied):
            await file.read(10, 8_900_000)
        file.close()
