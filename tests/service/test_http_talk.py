"""HttpFs, conversations: what `new` makes, sent and answered."""

import errno
import hashlib
import json
import os

import pytest
import trio
import trio.testing

from oanix.lib.web import WebLimits
from oanix.node import READABLE, WOULD_BLOCK
from oanix.services.http.upload import BUFFER
from tests.reach import ALICE, BOB, ROOT, refused
from tests.service.http_help import Http, Talk, http


async def talk_to(web: Http, path: str, **settings: str) -> Talk:
    """Make a conversation about a URL of the server."""
    talk = await web.new()
    await talk.write("url", web.url(path))
    for name, value in settings.items():
        await talk.write(name, value + "\n")
    return talk


async def test_a_conversation_has_the_files_of_its_page() -> None:
    async with http() as web:
        talk = await web.new()
        names = ["ctl", "url", "method", "headers", "body", "response", "response_headers"]
        assert web.reach.names(talk.path) == [*names, "status", "error"]
        listed = [n for n in web.reach.names(talk.path) if web.reach.at(f"{talk.path}/{n}").listed]
        assert "response" not in listed
        assert (await talk.facts())["state"] == "idle"
        assert await talk.text("error") == ""
        assert await talk.text("response_headers") == ""
        talk.close()


async def test_opening_the_response_sends_the_request() -> None:
    async with http() as web:
        talk = await talk_to(web, "/echo", method="PUT", headers="X-A: 1\nX-B: 2")
        echo = json.loads(await talk.text("response"))
        assert (echo["method"], echo["target"]) == ("PUT", "/echo")
        assert ["x-a", "1"] in echo["headers"]
        assert ["x-b", "2"] in echo["headers"]
        facts = await talk.facts()
        assert (facts["state"], facts["status"]) == ("done", "200")
        assert facts["received"] == facts["length"] == str(len(await talk.text("response")))
        assert "Content-Type: application/json\n" in await talk.text("response_headers")
        assert len(web.server.asked) == 1
        talk.close()


async def test_commands_do_what_the_files_do() -> None:
    async with http() as web:
        talk = await web.new()
        commands = ["url " + web.url("/redirect/1"), "method HEAD", "header X-A:  b ", "timeout 5"]
        await talk.write("ctl", "\n".join([*commands, "follow off", "start"]) + "\n")
        facts = await talk.until("done")
        assert (facts["status"], facts["timeout"], facts["length"]) == ("302", "5.0", "0")
        assert await talk.text("headers") == "X-A: b\n"
        assert await talk.text("method") == "HEAD\n"
        assert await talk.text("url") == web.url("/redirect/1") + "\n"
        talk.close()


async def test_headers_are_replaced_or_added() -> None:
    async with http() as web:
        talk = await web.new()
        await talk.write("headers", "A: 1\nB: 2\n")
        await web.append(f"{talk.path}/headers", "C: 3\n")
        assert await talk.text("headers") == "A: 1\nB: 2\nC: 3\n"
        await talk.write("headers", "D: 4\n")
        assert await talk.text("headers") == "D: 4\n"
        talk.close()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("url", "begins with its scheme"), ("url ftp://h/", "scheme"), ("url ws://h/", "not asked"),
        ("url http://u@h/", "user"), ("url http://h/\x01", "control"), ("method", "no method"),
        ("method CONNECT", "not sent"), ("method G\tT", "no method"), ("header", "NAME: VALUE"),
        ("header A", "NAME: VALUE"), ("header A\x01: b", "no name"), ("header A: b\rC: d", "print"),
        ("header Host: x", "server alone"), ("header Transfer-Encoding: chunked", "server alone"),
        ("timeout", "number"), ("timeout 0", "above 0"), ("timeout nan", "above 0"),
        ("timeout 1e9", "at most"), ("follow", "follow on"), ("length -1", "number"),
        ("length x", "number"), ("start now", "stands alone"), ("close 1", "stands alone"),
        ("start", "address to url first"), ("send", "address"), ("jump", "start, send, close, url"),
    ],
)  # fmt: skip
async def test_a_command_that_cannot_be_done_says_what_to_write(line: str, sentence: str) -> None:
    async with http() as web:
        talk = await web.new()
        with refused(errno.EINVAL, sentence):
            await talk.ctl(line)
        assert (await talk.facts())["state"] == "idle"
        talk.close()


async def test_headers_and_url_are_bounded() -> None:
    async with http() as web:
        talk = await web.new()
        await talk.write("headers", "".join(f"X-{n}: {'v' * 1000}\n" for n in range(64)))
        with refused(errno.EMSGSIZE):
            await web.append(f"{talk.path}/headers", "Y: " + "v" * 2000 + "\n")
        with refused(errno.EINVAL):
            await talk.write("url", "http://h/" + "x" * 70_000 + "\n")
        talk.close()


async def test_nothing_is_changed_while_it_is_under_way() -> None:
    async with http() as web:
        talk = await talk_to(web, "/hang")
        await talk.ctl("start")
        await web.server.until(lambda: web.server.asked)
        assert (await talk.facts())["state"] == "waiting"
        for name, text in (("url", "http://h/\n"), ("method", "PUT\n"), ("ctl", "follow off\n")):
            with refused(errno.EBUSY, "under way"):
                await talk.write(name, text)
        for name in ("headers", "body"):
            with refused(errno.EBUSY):
                await talk.open(name, os.O_WRONLY | os.O_TRUNC)
        with refused(errno.EBUSY):
            await talk.ctl("start")
        await talk.ctl("close")
        await web.server.until(lambda: not web.server.open)
        talk.close()


async def test_start_alone_repeats_a_request_and_a_change_makes_it_idle() -> None:
    async with http() as web:
        talk = await talk_to(web, "/echo")
        await talk.write("body", "again")
        for _ in range(2):
            await talk.text("response")
            await talk.ctl("start")
            await talk.until("receiving")
            assert json.loads(await talk.text("response"))["body"] == "again"
        await talk.ctl("method PATCH")
        assert (await talk.facts())["state"] == "idle"
        assert json.loads(await talk.text("response"))["method"] == "PATCH"
        talk.close()


async def test_a_failure_is_in_error_and_fails_the_open() -> None:
    async with http() as web:
        talk = await talk_to(web, "/reset", method="POST")
        for _ in range(2):
            with refused(errno.ECONNRESET):
                await talk.text("response")
        assert (await talk.facts())["state"] == "failed"
        assert len((await talk.text("error")).splitlines()) == 1
        await talk.write("url", web.url("/status/500"))
        assert await talk.text("error") == ""
        assert await talk.text("response") == "500"
        talk.close()


async def test_a_refusal_is_in_error_too() -> None:
    async with http("") as web:
        talk = await talk_to(web, "/echo")
        with refused(errno.EACCES):
            await talk.text("response")
        assert "refused" in await talk.text("error")
        with refused(errno.EACCES):
            await talk.text("response_headers")
        talk.close()


# The body -------------------------------------------------------------------------------------


async def test_a_body_that_was_written_before_has_its_length() -> None:
    async with http() as web:
        talk = await talk_to(web, "/echo")
        await talk.write("body", "one ")
        await web.append(f"{talk.path}/body", "two")
        echo = json.loads(await talk.text("response"))
        assert (echo["method"], echo["body"]) == ("POST", "one two")
        assert ["content-length", "7"] in echo["headers"]
        talk.close()


async def test_writing_a_body_again_replaces_it() -> None:
    async with http() as web:
        talk = await talk_to(web, "/echo")
        await talk.write("body", "first")
        await talk.write("body", "second")
        assert json.loads(await talk.text("response"))["body"] == "second"
        await talk.write("body", "third")
        assert json.loads(await talk.text("response"))["body"] == "third"
        talk.close()


async def test_a_body_that_is_still_open_ends_where_the_response_is_opened() -> None:
    async with http() as web:
        talk = await talk_to(web, "/echo")
        body = await talk.open("body", os.O_WRONLY)
        await body.write(b"all of it")
        assert json.loads(await talk.text("response"))["body"] == "all of it"
        with refused(errno.EPIPE, "ended there"):
            await body.write(b"too late")
        body.close()
        talk.close()


async def test_a_long_body_starts_by_itself_and_streams() -> None:
    async with http() as web:
        talk = await talk_to(web, "/upload")
        data = os.urandom(3 * BUFFER + 17)
        await talk.write("body", data)
        told = json.loads(await talk.text("response"))
        assert told == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert web.server.asked[-1].header("transfer-encoding") == "chunked"
        assert (await talk.facts())["sent"] == str(len(data))
        with refused(errno.EINVAL, "write it again"):
            await talk.ctl("start")
        talk.close()


async def test_a_promised_length_streams_with_it() -> None:
    async with http() as web:
        talk = await talk_to(web, "/upload")
        data = bytes(2 * BUFFER)
        await talk.ctl(f"length {len(data)}")
        await talk.ctl("start")
        await talk.write("body", data)
        assert json.loads(await talk.text("response"))["bytes"] == len(data)
        assert web.server.asked[-1].header("content-length") == str(len(data))
        talk.close()


async def test_a_body_that_is_short_or_long_of_its_promise_is_not_taken_for_whole() -> None:
    async with http() as web:
        talk = await talk_to(web, "/upload")
        await talk.ctl("length 10")
        with refused(errno.EFBIG, "more than that"):
            await talk.write("body", bytes(11))
        await talk.write("body", bytes(5))
        with refused(errno.EINVAL, "5 bytes were written"):
            await talk.text("response")
        await talk.ctl("start")
        await talk.until("sending")
        await web.append(f"{talk.path}/body", bytes(2))
        with refused(errno.EPIPE, "7 bytes of 10"):
            await talk.text("response")
        await web.server.until(lambda: not web.server.open)
        talk.close()


async def test_a_body_goes_on_while_it_is_open_until_send() -> None:
    async with http() as web:
        talk = await talk_to(web, "/echo")
        body = await talk.open("body", os.O_WRONLY)
        await body.write(b"one ")
        await talk.ctl("start")
        assert (await talk.until("sending"))["method"] == "POST"
        await body.write(b"two")
        await talk.ctl("send")
        assert json.loads(await talk.text("response"))["body"] == "one two"
        body.close()
        talk.close()


async def test_a_writer_waits_for_a_server_that_does_not_read() -> None:
    async with http() as web:
        talk = await talk_to(web, "/hang")
        body = await talk.open("body", os.O_WRONLY)
        with trio.fail_after(20):
            # Until what is held and what the sockets hold is full.
            while body.file.try_write(ROOT, b"x", 0) is not WOULD_BLOCK:
                while body.file.try_write(ROOT, bytes(1 << 16), 0) is not WOULD_BLOCK:
                    await trio.lowlevel.checkpoint()
                await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.move_on_after(0.01) as scope:
            await body.file.write(ROOT, b"x", 0)
        assert scope.cancelled_caught
        await talk.ctl("close")
        with refused(errno.ECANCELED):
            await body.write(b"x")
        body.close()
        talk.close()


async def test_a_writer_learns_what_became_of_the_request() -> None:
    async with http() as web:
        talk = await web.new()
        await talk.write("url", "http://127.0.0.1:2/")
        with refused(errno.ECONNREFUSED):
            await talk.write("body", bytes(3 * BUFFER))
        with refused(errno.EINVAL, "write it again"):
            await talk.ctl("start")
        talk.close()


async def test_a_long_body_without_an_address_says_so() -> None:
    async with http() as web:
        talk = await web.new()
        with refused(errno.EINVAL, "address to url"):
            await talk.write("body", bytes(3 * BUFFER))
        talk.close()


async def test_a_redirect_repeats_a_body_that_is_whole() -> None:
    async with http() as web:
        talk = await talk_to(web, f"/to?status=307&url={web.url('/echo')}")
        await talk.write("body", "kept")
        assert json.loads(await talk.text("response"))["body"] == "kept"
        talk.close()


# The answer -----------------------------------------------------------------------------------


async def test_a_short_answer_can_be_read_again_and_by_several() -> None:
    async with http() as web:
        talk = await talk_to(web, "/parts/1000")
        one, two = await talk.open("response"), await talk.open("response")
        assert await one.read(600) == await two.read(600)
        assert len(await one.rest()) == len(await two.rest()) == 400
        one.close()
        two.close()
        assert len(await talk.text("response")) == 1000
        assert len(web.server.asked) == 1
        talk.close()


async def test_what_has_passed_is_not_asked_for_again() -> None:
    async with http() as web:
        talk = await talk_to(web, "/parts/5000000")
        response = await talk.open("response")
        assert await response.read(10, 4_000_000)
        with refused(errno.ESPIPE, "not asked for again"):
            await response.read(10, 0)
        response.close()
        talk.close()


async def test_an_event_stream_arrives_as_it_comes_and_ends_with_its_reader() -> None:
    async with http() as web:
        talk = await talk_to(web, "/sse/0")
        response = await talk.open("response")
        assert (response.size, response.file.stream) == (None, True)
        assert (await response.read()).startswith(b"data: 1\n\n")
        assert (await talk.facts())["state"] == "receiving"
        woken = trio.Event()
        while response.file.ready(woken.set) & READABLE:
            await response.read()
        with trio.fail_after(20):
            await woken.wait()
        response.close()
        await web.server.until(lambda: not web.server.open)
        assert "before its end" in await talk.text("error")
        assert (await talk.facts())["state"] == "failed"
        talk.close()


async def test_an_interrupted_opener_leaves_the_request_under_way() -> None:
    async with http() as web:
        talk = await talk_to(web, "/slow/0.2")
        with trio.move_on_after(0.05) as scope:
            await talk.open("response")
        assert scope.cancelled_caught
        assert await talk.text("response") == "late"
        assert len(web.server.asked) == 1
        talk.close()


async def test_what_the_server_cuts_off_ends_in_its_error() -> None:
    async with http() as web:
        talk = await talk_to(web, "/reset-body")
        response = await talk.open("response")
        with pytest.raises(OSError, match="Errno"):
            await response.rest()
        response.close()
        assert (await talk.facts())["state"] == "failed"
        assert await talk.text("error")
        talk.close()


# Life -----------------------------------------------------------------------------------------


async def test_closing_it_ends_all_its_files() -> None:
    async with http() as web:
        talk = await talk_to(web, "/stall/100")
        response = await talk.open("response")
        await response.read(100)
        status = await talk.open("status")
        await talk.ctl("close")
        with refused(errno.ECANCELED, "closed"):
            await response.read()
        with refused(errno.ENOENT):
            web.reach.stat(talk.path)
        assert await status.read()
        for file in (response, status):
            file.close()
        talk.close()
        await web.server.until(lambda: not web.server.open)


async def test_it_is_private_to_its_maker_and_counted() -> None:
    async with http() as web:
        alice, bob = web.by(ALICE), web.by(BOB)
        talk = await alice.new()
        with refused(errno.EACCES, "another"):
            await bob.text(f"{talk.path}/status")
        files = [await bob.open("/new") for _ in range(256)]
        with refused(errno.EMFILE, "256 conversations"):
            await bob.open("/new")
        for file in files:
            file.close()
        (await bob.new()).close()
        talk.close()


async def test_an_idle_one_ends_and_its_connection_with_it() -> None:
    async with http() as web:
        talk = await talk_to(web, "/hang")
        view = next(iter(web.service._views))
        view.talks.idle_s = 0.05
        await talk.ctl("start")
        await web.server.until(lambda: web.server.asked)
        talk.close()
        await web.server.until(lambda: not web.server.open)
        with refused(errno.ENOENT):
            web.reach.stat(talk.path)
        assert not web.service.busy


async def test_a_timeout_is_an_error_of_the_open() -> None:
    async with http(limits=WebLimits(header_s=30)) as web:
        talk = await talk_to(web, "/hang")
        await talk.ctl("timeout 0.05")
        with refused(errno.ETIMEDOUT):
            await talk.text("response")
        talk.close()


async def test_the_end_of_the_service_ends_what_is_under_way() -> None:
    async with http() as web:
        talk = await talk_to(web, "/hang")
        await talk.ctl("start")
        await web.server.until(lambda: web.server.asked)
        file = await talk.open("error")
        file.close()
    with refused(errno.ENOENT):
        web.reach.stat(talk.path)
    talk.close()
