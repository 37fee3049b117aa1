"""WsFs: conversations over a real WebSocket server, under a policy."""

import errno
import json
import os
import ssl

import pytest
import trio
import trio.testing
import trustme

from oanix.namespace import Namespace
from oanix.node import READABLE, WRITABLE
from oanix.services.ws.files import BRIEF_S
from tests.reach import ALICE, BOB, ROOT, Reach, refused
from tests.service.ws_help import PATIENCE_S, websockets
from tests.web.asking import OPEN, Keys


async def test_messages_go_out_by_in_and_come_by_out() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        out = await talk.open("out")
        await talk.send('one\ntwo\n{"base64":"AAEC"}\n{"text":"a\\nb"}\n\n{"x": 1}\n')
        got = b""
        while got.count(b"\n") < 6:
            got += await talk.read(out)
        assert got == b'one\ntwo\n{"base64":"AAEC"}\n{"text":"a\\nb"}\n\n{"x": 1}\n'
        facts = await talk.facts()
        assert facts["state"] == "open"
        assert (facts["messages-in"], facts["messages-out"]) == ("6", "6")
        assert facts["bytes-in"] == facts["bytes-out"] == str(3 + 3 + 3 + 3 + 0 + 8)
        talk.close(out)


async def test_with_json_every_line_is_an_envelope() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        await talk.ctl("format json")
        out = await talk.open("out")
        await talk.send('{"text":"one"}\n')
        assert await talk.read(out) == b'{"text":"one"}\n'
        with refused(errno.EINVAL, "no envelope"):
            await talk.send("one\n")
        talk.close(out)


async def test_a_last_line_without_its_newline_is_sent_at_the_close() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        out = await talk.open("out")
        await talk.send("hel")
        assert await talk.read(out) == b"hel\n"
        talk.close(out)


async def test_a_line_may_come_in_pieces_and_be_read_in_pieces() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        out = await talk.open("out")
        to = await talk.open("in", os.O_WRONLY)
        for piece in ("hel", "lo\nwor", "ld\n"):
            assert await talk.write(to, piece) == len(piece)
        await talk.until("messages-in", "2")
        assert [await talk.read(out, 4) for _ in range(3)] == [b"hell", b"o\n", b"worl"]
        # Who leaves in the middle of a message leaves it to the next reader, whole.
        talk.close(out)
        again = await talk.open("out")
        assert await talk.read(again) == b"world\n"
        talk.close(again)
        talk.close(to)


async def test_poll_tells_when_there_is_something_to_read() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        out = await talk.open("out")
        to = await talk.open("in", os.O_WRONLY)
        woken = trio.Event()
        assert not out.ready(woken.set) & READABLE
        assert to.ready(None) & WRITABLE
        await talk.write(to, "x\n")
        with trio.fail_after(PATIENCE_S):
            while not out.ready(None) & READABLE:
                await trio.lowlevel.checkpoint()
        assert woken.is_set()
        talk.close(out)
        talk.close(to)


async def test_a_read_that_is_interrupted_takes_nothing() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        out = await talk.open("out")
        with trio.move_on_after(0.01) as scope:
            await talk.read(out)
        assert scope.cancelled_caught
        await talk.send("x\n")
        assert await talk.read(out) == b"x\n"
        talk.close(out)


@pytest.mark.parametrize(
    ("code", "number"), [(1000, 0), (1001, 0), (4001, 0), (1011, errno.EPROTO)]
)
async def test_out_ends_when_the_peer_closes(code: int, number: int) -> None:
    async with websockets() as ws:
        talk = await ws.talk(f"/close/{code}")
        out = await talk.open("out")
        if number:
            with refused(number, "as you wish"):
                await talk.read(out)
            assert f"closed with {code}: as you wish" in await talk.text("error")
        else:
            assert await talk.read(out) == b""
            assert await talk.text("error") == ""
        facts = await talk.until("state", "closed")
        assert (facts["close-code"], facts["close-reason"]) == (str(code), "as you wish")
        assert facts["closed-by"] == "peer"
        with refused(errno.EPIPE):
            await talk.send("late\n")
        talk.close(out)


async def test_what_had_come_is_read_before_a_loss_is_told() -> None:
    async with websockets() as ws:
        talk = await ws.talk("/drop")
        out = await talk.open("out")
        with refused(errno.ECONNRESET, "lost"):
            await talk.read(out)
        assert "lost" in await talk.text("error")
        talk.close(out)


async def test_ctl_closes_after_what_was_sent() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        out = await talk.open("out")
        await talk.send("x\n")
        assert await talk.read(out) == b"x\n"
        await talk.ctl("close 3999 that is it")
        assert await talk.read(out) == b""
        facts = await talk.until("state", "closed")
        assert (facts["close-code"], facts["close-reason"]) == ("3999", "that is it")
        assert facts["closed-by"] == "here"
        with refused(errno.EPIPE):
            await talk.ctl("close")
        with refused(errno.EPIPE, "ended"):
            await talk.ctl("connect")
        talk.close(out)


async def test_headers_and_subprotocols_go_with_the_handshake() -> None:
    async with websockets() as ws:
        talk = await ws.talk("/headers?a=b")
        await talk.ctl("header X-One: 1")
        await talk.ctl("subprotocol chat.v1")
        out = await talk.open("out")
        shown = json.loads(await talk.read(out))
        assert shown["x-one"] == "1"
        assert shown["path"] == "/headers?a=b"
        assert "sec-websocket-extensions" not in shown
        assert (await talk.facts())["subprotocol"] == "chat.v1"
        with refused(errno.EBUSY, "open"):
            await talk.ctl("header X: y")
        talk.close(out)


async def test_ctl_connects_in_the_background_and_pings() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        await talk.ctl("connect")
        await talk.until("state", "open")
        await talk.ctl("ping")
        with trio.fail_after(PATIENCE_S):
            while "latency-ms" not in await talk.facts():
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("url http://x/", errno.EINVAL), ("url ws://a:b@x/", errno.EINVAL), ("url x", errno.EINVAL),
        ("header X", errno.EINVAL), ("header Host: x", errno.EINVAL), ("format x", errno.EINVAL),
        ("header Sec-WebSocket-Key: x", errno.EINVAL), ("subprotocol a b", errno.EINVAL),
        ("close 1005", errno.EINVAL), ("close 99", errno.EINVAL), ("close x", errno.EINVAL),
        ("close", errno.EPIPE), ("ping", errno.EPIPE), ("connect x", errno.EINVAL),
        ("open", errno.EINVAL), ("header X: " + "x" * 20_000, errno.EMSGSIZE),
    ],
)  # fmt: skip
async def test_a_bad_command_is_refused(line: str, number: int) -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        with refused(number):
            await talk.ctl(line)


@pytest.mark.parametrize(
    "line",
    [
        b'{"text":1}', b'{"text":"a","b":1}', b'{"base64":"!"}', b'{"base64":"A"}', b'{"text":',
        b'{"text":"\\ud800"}', b"\xff", b'{"text":"a"} ' + b"x",
        b'{"text":' + b"[" * 100_000,
    ],
)  # fmt: skip
async def test_a_line_that_is_no_message_is_refused_and_the_next_is_sent(line: bytes) -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        to = await talk.open("in", os.O_WRONLY)
        with refused(errno.EINVAL):
            await talk.write(to, line + b"\n")
        assert await talk.write(to, b"good\n" + line + b"\n") == 5
        with refused(errno.EINVAL):
            await talk.write(to, line + b"\n")
        await talk.until("messages-out", "1")
        talk.close(to)


async def test_a_line_that_is_too_long_is_refused() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        to = await talk.open("in", os.O_WRONLY)
        with refused(errno.EINVAL, "at most"):
            for _ in range(3):
                await talk.write(to, b"x" * 1_000_000)
        talk.close(to)
        assert ws.service.halves._held == 0


# Connecting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/401", errno.EACCES), ("/403", errno.EACCES), ("/404", errno.ENOENT),
        ("/302", errno.EPROTO), ("/500", errno.EPROTO), ("/200", errno.EPROTO),
    ],
)  # fmt: skip
async def test_an_http_answer_is_the_error_of_the_open(path: str, number: int) -> None:
    async with websockets() as ws:
        talk = await ws.talk(path)
        with refused(number, path[1:]):
            await talk.open("out")
        assert path[1:] in await talk.text("error")
        assert (await talk.facts())["state"] == "failed"
        await talk.ctl(f"url {ws.server.url('/echo')}")
        talk.close(await talk.open("out"))


async def test_nobody_there_is_the_error_of_the_open() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        port = listener.socket.getsockname()[1]
        await listener.aclose()
        await talk.ctl(f"url ws://127.0.0.1:{port}/")
        with refused(errno.ECONNREFUSED):
            await talk.open("in", os.O_WRONLY)


async def test_without_a_url_there_is_nothing_to_connect_to() -> None:
    async with websockets() as ws:
        new = await ws.reach.open("/new")
        new.try_read(ROOT, 10, 0)
        with refused(errno.EINVAL, "url"):
            await ws.reach.open("/1/out")
        new.close(ROOT)


async def test_an_open_that_is_given_up_leaves_no_attempt() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener, websockets() as ws:
        talk = await ws.talk()
        await talk.ctl(f"url ws://127.0.0.1:{listener.socket.getsockname()[1]}/")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk.open, "out")
            silent = await listener.accept()
            await silent.receive_some()
            nursery.cancel_scope.cancel()
        await talk.until("state", "idle")
        with trio.fail_after(PATIENCE_S):
            assert await silent.receive_some() == b""
        await silent.aclose()


async def test_the_end_of_a_conversation_closes_the_connection() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        out = await talk.open("out")
        assert ws.server.open == 1
        ws.service.end_all()
        assert await talk.read(out) == b""
        with trio.fail_after(PATIENCE_S):
            while ws.server.open:
                await trio.lowlevel.checkpoint()
        talk.close(out)


async def test_the_end_of_the_service_ends_every_connection() -> None:
    async with websockets() as ws:
        for path in ("/echo", "/deaf", "/flood"):
            talk = await ws.talk(path)
            await talk.open("out")
        assert ws.server.open == 3


async def test_over_tls_the_name_is_checked() -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with websockets(server_context=server, client_context=trusting) as ws:
        talk = await ws.talk()
        out = await talk.open("out")
        await talk.send("hello\n")
        assert await talk.read(out) == b"hello\n"
        await talk.ctl("close")
        assert await talk.read(out) == b""
        other = await ws.talk()
        await other.ctl(f"url wss://localhost:{ws.server.port}/echo")
        with refused(errno.EPROTO):
            await other.open("out")
        talk.close(out)


# Backpressure -------------------------------------------------------------------------------------


async def test_a_reader_that_falls_behind_slows_the_peer_and_loses_nothing() -> None:
    async with websockets() as ws:
        talk = await ws.talk("/flood")
        out = await talk.open("out")
        with trio.fail_after(PATIENCE_S):
            while int((await talk.facts())["messages-in"]) < 7:
                await trio.lowlevel.checkpoint()
        await trio.testing.wait_all_tasks_blocked(0.05)
        kept = int((await talk.facts())["messages-in"])
        assert kept <= 7
        got = b""
        while len(got) < 500_000:
            got += await talk.read(out)
        assert set(got.split(b"\n")[:-1]) == {b"x" * 10_000}
        await talk.ctl("close")
        await talk.until("state", "closed")
        talk.close(out)


@pytest.mark.slow
async def test_a_write_to_a_peer_that_does_not_read_is_refused_in_time() -> None:
    async with websockets() as ws:
        talk = await ws.talk("/deaf")
        to = await talk.open("in", os.O_WRONLY)
        line = b"x" * 1_000_000 + b"\n"
        written = 0
        with refused(errno.EAGAIN, "no more"):
            while True:
                began = trio.current_time()
                written += await talk.write(to, line) // len(line)
                assert trio.current_time() - began < 10 * BRIEF_S
        assert not to.ready(None) & WRITABLE
        sent = int((await talk.facts())["messages-out"])
        assert written - 1 <= sent <= written
        talk.close(to)


# Policy and secrets -------------------------------------------------------------------------------


async def test_loopback_is_refused_unless_a_rule_names_it() -> None:
    async with websockets("") as ws:
        talk = await ws.talk()
        with refused(errno.EACCES, "loopback"):
            await talk.open("out")
        await talk.ctl("connect")
        await talk.until("state", "failed")
        why = ws.reach.namespace.sentences.why(ROOT)
        assert why is not None
        assert why.remedy.startswith("allow GET ws://127.0.0.1")


async def test_a_rule_of_another_scheme_allows_nothing() -> None:
    async with websockets("allow https://127.0.0.1:*/** addresses=127.0.0.0/8\n") as ws:
        talk = await ws.talk()
        with refused(errno.EACCES):
            await talk.open("out")


async def test_a_mount_and_a_bind_narrow_the_hosts() -> None:
    async with websockets() as ws:
        namespace = Namespace()
        namespace.mount(ws.service, "/ws", options={"hosts": "example.com"})
        namespace.mount(ws.service, "/wide")
        namespace.bind("/wide", "/bound", options={"hosts": "127.0.0.2"})
        for path in ("/ws", "/bound"):
            reach = Reach(namespace, ROOT)
            new = await reach.open(f"{path}/new")
            number = (new.try_read(ROOT, 10, 0)).decode().strip()  # type: ignore[union-attr]
            await reach.write(f"{path}/{number}/url", ws.server.url("/echo") + "\n")
            with refused(errno.EACCES, "mount option|no rule"):
                await reach.open(f"{path}/{number}/out")
            with refused(errno.ENOENT):
                reach.at(f"/wide/{number}")
            new.close(ROOT)
        with refused(errno.EINVAL, "no option 'kinds'"):
            namespace.mount(ws.service, "/x", options={"kinds": "1"})


async def test_views_share_the_quota() -> None:
    async with websockets() as ws:
        namespace = Namespace()
        namespace.mount(ws.service, "/a", options={"hosts": "x"})
        namespace.mount(ws.service, "/b", options={"hosts": "y"})
        reach = Reach(namespace, ALICE)
        opened = [await reach.open(f"/{'ab'[n % 2]}/new") for n in range(256)]
        with refused(errno.EMFILE):
            await reach.open("/a/new")
        (await reach.by(BOB).open("/a/new")).close(BOB)
        for one in opened:
            one.close(ALICE)
        (await reach.open("/b/new")).close(ALICE)


async def test_another_user_cannot_use_a_conversation() -> None:
    async with websockets() as ws:
        talk = await ws.talk()
        with refused(errno.EACCES, "another"):
            await ws.reach.by(ALICE).open(f"{talk.path}/out")


async def test_the_size_and_the_time_of_a_rule_bound_a_connection() -> None:
    async with websockets(OPEN.strip() + " size=25K\n") as ws:
        talk = await ws.talk("/flood")
        out = await talk.open("out")
        got = b""
        with refused(errno.EMSGSIZE, "25600 bytes"):
            while True:
                got += await talk.read(out)
        assert len(got) == 2 * 10_001
        talk.close(out)
    async with websockets(OPEN.strip() + " time=50ms\n") as ws:
        talk = await ws.talk("/echo")
        out = await talk.open("out")
        with refused(errno.ETIMEDOUT, "0.05 s"):
            await talk.read(out)
        talk.close(out)


async def test_a_secret_goes_with_the_handshake_and_is_masked_in_what_comes() -> None:
    keys = Keys(**{"127.0.0.1": "hush-hush-1234"})
    async with websockets(vault=keys) as ws:
        talk = await ws.talk("/headers")
        out = await talk.open("out")
        shown = json.loads(await talk.read(out))
        assert shown["authorization"] == "Bearer " + "*" * 14
        talk.close(out)
        talk = await ws.talk("/say/hush-hush-1234")
        out = await talk.open("out")
        got = b""
        while piece := await talk.read(out):
            got += piece
        assert got.splitlines()[0] == b"*" * 14
        assert b"hush" not in got
        facts = await talk.until("state", "closed")
        assert facts["close-reason"] == "*" * 14
        talk.close(out)
        assert keys.attached
        assert keys.attached[0][0] == "GET"


async def test_the_log_of_the_engine_has_a_line_for_each_connection() -> None:
    async with websockets() as ws:
        talk = await ws.talk("/echo?key=value")
        talk.close(await talk.open("out"))
        log = ws.service.web.log
        line = json.loads(log.get(log.first))
        assert line["host"].startswith("127.0.0.1")
        assert "value" not in json.dumps(line)
