"""HttpFs, `call`: requests and answers as lines of JSON, through one open file."""

import base64
import errno
import json
import os

import pytest
import trio

from oanix.node import READABLE, WOULD_BLOCK, WRITABLE
from oanix.services.http.call import ANSWER_MAX, Budget
from tests.reach import ROOT, refused
from tests.service.http_help import http


async def test_one_open_file_asks_again_and_again_over_one_connection() -> None:
    async with http() as web:
        call = await web.call()
        for number in range(20):
            answer = await call.ask(url=web.url(f"/echo?n={number}"))
            assert json.loads(answer["body"])["target"] == f"/echo?n={number}"
        assert web.server.accepted == 1
        assert await call.read() == b""
        call.close()


async def test_an_answer_has_the_keys_of_the_page() -> None:
    async with http() as web:
        call = await web.call()
        answer = await call.ask(url=web.url("/redirect/1"))
        assert list(answer) == ["status", "headers", "body", "url", "elapsed_ms"]
        assert answer["status"] == 200
        assert answer["headers"]["content-type"] == "application/json"
        assert answer["url"] == web.url("/echo")
        assert isinstance(answer["elapsed_ms"], int)
        call.close()


async def test_a_status_of_400_and_more_is_an_answer() -> None:
    async with http() as web:
        call = await web.call()
        for status in (404, 401, 500):
            assert (await call.ask(url=web.url(f"/status/{status}")))["status"] == status
        call.close()


async def test_a_body_goes_out_as_text_as_bytes_and_as_json() -> None:
    async with http() as web:
        call = await web.call()

        async def sent(**request: object) -> tuple[str, str, str]:
            answer = await call.ask(url=web.url("/echo"), **request)
            echo = json.loads(answer["body"])
            kinds = [value for name, value in echo["headers"] if name.lower() == "content-type"]
            return echo["method"], echo["body"].encode("latin-1").decode(), "".join(kinds)

        assert await sent(body="é") == ("POST", "é", "")
        assert await sent(body_base64="aGk=", method="put") == ("PUT", "hi", "")
        assert await sent(json={"a": [1, None]}) == ("POST", '{"a":[1,null]}', "application/json")
        assert await sent(json=None) == ("POST", "null", "application/json")
        own = {"content-type": "application/ld+json"}
        assert await sent(json={}, headers=own) == ("POST", "{}", "application/ld+json")
        assert await sent(body=None) == ("GET", "", "")
        call.close()


async def test_headers_go_out_in_each_form() -> None:
    async with http() as web:
        call = await web.call()
        for headers in ({"X-A": "1", "X-B": ["2", 3]}, [["X-A", "1"], ["X-B", "2"], ["X-B", "3"]]):
            answer = await call.ask(url=web.url("/echo"), headers=headers)
            got = [tuple(pair) for pair in json.loads(answer["body"])["headers"]]
            assert [pair for pair in got if pair[0].lower().startswith("x-")] == [
                ("x-a", "1"), ("x-b", "2"), ("x-b", "3"),
            ]  # fmt: skip
        call.close()


async def test_an_answer_that_is_no_text_is_base64() -> None:
    async with http() as web:
        call = await web.call()
        answer = await call.ask(url=web.url("/text/gzip+unknown/x"))
        assert "body" not in answer
        assert base64.b64decode(answer["body_base64"]).endswith(b"\x8b\x1f")
        call.close()


async def test_follow_false_leaves_the_redirect_as_the_answer() -> None:
    async with http() as web:
        call = await web.call()
        answer = await call.ask(url=web.url("/redirect/1"), follow=False)
        assert (answer["status"], answer["headers"]["location"]) == (302, "/echo")
        call.close()


async def test_several_lines_in_one_write_are_answered_in_their_order() -> None:
    async with http() as web:
        call = await web.call()
        lines = [json.dumps({"url": web.url(f"/status/{200 + n}")}) for n in range(10)]
        await call.write("\n".join(lines) + "\n\n")
        assert [(await call.answer())["status"] for _ in lines] == list(range(200, 210))
        assert await call.read() == b""
        call.close()


async def test_a_read_ends_the_line() -> None:
    async with http() as web:
        call = await web.call()
        text = json.dumps({"url": web.url("/status/201")})
        await call.write(text[:10])
        await call.write(text[10:])
        assert (await call.answer())["status"] == 201
        await call.write("{")
        with refused(errno.EINVAL, "no JSON"):
            await call.read()
        assert await call.read() == b""
        call.close()


async def test_a_small_buffer_gets_an_answer_in_pieces_and_never_two_at_once() -> None:
    async with http() as web:
        call = await web.call()
        line = json.dumps({"url": web.url("/status/200")}) + "\n"
        await call.write(line * 2)
        first = b""
        while not first.endswith(b"\n"):
            first += await call.read(7)
        assert json.loads(first)["status"] == 200
        assert (await call.read(1 << 20)).count(b"\n") == 1
        call.close()


async def test_what_failed_fails_one_read_in_its_place() -> None:
    async with http() as web:
        call = await web.call()
        paths = ["/status/200", "/reset", "/status/201"]
        await call.write("".join(json.dumps({"url": web.url(p)}) + "\n" for p in paths))
        assert (await call.answer())["status"] == 200
        with refused(errno.ECONNRESET):
            await call.read()
        assert (await call.answer())["status"] == 201
        call.close()


async def test_a_timeout_counts_to_the_end_of_the_answer() -> None:
    async with http() as web:
        call = await web.call()
        for path in ("/hang", "/sse/0"):
            await call.write(json.dumps({"url": web.url(path), "timeout": 0.1}) + "\n")
            with refused(errno.ETIMEDOUT):
                await call.read()
        call.close()
        await web.server.until(lambda: web.server.open <= 0)


async def test_an_answer_that_is_too_long_is_refused_with_the_advice() -> None:
    async with http() as web:
        call = await web.call()
        for path in (f"/bytes/{ANSWER_MAX + 1}", "/endless"):
            await call.write(json.dumps({"url": web.url(path)}) + "\n")
            with refused(errno.EMSGSIZE, "get.*new"):
                await call.read()
        call.close()
        await web.quiet()


@pytest.mark.slow
async def test_large_requests_and_answers_pass() -> None:
    async with http() as web:
        call = await web.call()
        body = "x" * 3_000_000
        line = json.dumps({"url": web.url("/echo"), "body": body}).encode() + b"\n"
        await call.write_all(line)
        assert json.loads((await call.answer())["body"])["body"] == body
        call.close()
        assert web.service.budget.held == 0


async def test_a_request_that_is_too_long_is_refused() -> None:
    async with http() as web:
        call = await web.call()
        with refused(errno.EMSGSIZE, "new"):
            await call.write(b"x" * (17 << 20))
        assert (await call.ask(url=web.url("/status/200")))["status"] == 200
        call.close()


async def test_answers_that_nobody_reads_are_bounded() -> None:
    async with http() as web:
        web.service.budget = Budget(1000)
        call = await web.call()
        await call.write(json.dumps({"url": web.url("/bytes/2000")}) + "\n")
        with refused(errno.ENOBUFS, "read or close"):
            await call.read()
        call.close()
        assert web.service.budget.held == 0


async def test_requests_ahead_are_bounded_and_none_is_lost() -> None:
    async with http() as web:
        call = await web.call()
        line = json.dumps({"url": web.url("/status/200")}) + "\n"
        await call.write(line * 64)
        with refused(errno.EAGAIN, "read their answers"):
            await call.write(line * 64)
        assert [(await call.answer())["status"] for _ in range(64)] == [200] * 64
        assert await call.read() == b""
        call.close()


async def test_nothing_of_a_write_is_sent_when_one_line_is_no_request() -> None:
    async with http() as web:
        call = await web.call()
        with refused(errno.EINVAL, "no JSON"):
            await call.write(json.dumps({"url": web.url("/echo")}) + "\nnonsense\n")
        assert await call.read() == b""
        assert not web.server.asked
        assert (await call.ask(url=web.url("/status/200")))["status"] == 200
        call.close()


async def test_an_interrupted_reader_loses_nothing() -> None:
    async with http() as web:
        call = await web.call()
        await call.write(json.dumps({"url": web.url("/slow/0.2")}) + "\n")
        with trio.move_on_after(0.05) as scope:
            await call.read()
        assert scope.cancelled_caught
        assert (await call.answer())["body"] == "late"
        assert len(web.server.asked) == 1
        call.close()


async def test_poll_tells_when_the_answer_is_there() -> None:
    async with http() as web:
        call = await web.call()
        assert call.file.ready(None) & WRITABLE
        await call.write(json.dumps({"url": web.url("/slow/0.05")}) + "\n")
        woken = trio.Event()
        assert not call.file.ready(woken.set) & READABLE
        assert call.file.try_read(ROOT, 10, 0) is WOULD_BLOCK
        with trio.fail_after(20):
            await woken.wait()
        assert call.file.ready(None) & READABLE
        call.close()


async def test_closing_cancels_what_was_asked() -> None:
    async with http() as web:
        call = await web.call()
        await call.write((json.dumps({"url": web.url("/hang")}) + "\n") * 3)
        await web.server.until(lambda: web.server.asked)
        call.close()
        await web.server.until(lambda: not web.server.open)
        assert len(web.server.asked) == 1


async def test_a_file_opened_for_reading_alone_has_nothing_to_say() -> None:
    async with http() as web:
        assert await web.read("/call") == b""


async def test_who_only_writes_learns_of_a_bad_line() -> None:
    async with http() as web:
        with refused(errno.EINVAL, "known: method, url"):
            await web.write("/call", '{"uri": "http://x/"}\n')


async def test_a_refusal_comes_from_the_read_and_says_why() -> None:
    async with http("") as web:
        call = await web.call()
        await call.write(json.dumps({"url": web.url("/echo")}) + "\n")
        with refused(errno.EACCES, "loopback|no rule"):
            await call.read()
        call.close()


async def test_calls_of_several_open_files_go_on_side_by_side() -> None:
    async with http() as web:
        slow, quick = await web.call(), await web.call()
        await slow.write(json.dumps({"url": web.url("/hang")}) + "\n")
        assert (await quick.ask(url=web.url("/status/200")))["status"] == 200
        slow.close()
        quick.close()


async def test_without_a_running_service_a_write_says_so() -> None:
    async with http() as web:
        service, file = web.service, await web.open("/call", os.O_RDWR)
    assert service.budget.held == 0
    with refused(errno.ESHUTDOWN):
        file.file.try_write(ROOT, json.dumps({"url": "http://127.0.0.1/"}).encode() + b"\n", 0)
    file.close()
