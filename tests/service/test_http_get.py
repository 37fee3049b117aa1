"""HttpFs, `get`: a file for every address; sizes, offsets, streams, and what a status becomes."""

import errno
import os
import stat as modes
from contextlib import suppress

import pytest
import trio

from oanix.errors import Denied
from oanix.lib.url import to_tree
from oanix.lib.web import WebLimits
from oanix.node import READABLE, WOULD_BLOCK
from tests.reach import ALICE, ROOT, refused
from tests.service.http_help import http

DIGITS = b"0123456789" * 1_000_000


async def test_the_tree_has_the_files_of_its_page() -> None:
    async with http() as web:
        assert web.reach.names("/") == ["README", "call", "new", "policy", "log", "get"]
        listed = [name for name in web.reach.names("/") if web.reach.at(f"/{name}").listed]
        assert listed == ["README", "call", "policy", "get"]
        assert len((await web.text("/README")).splitlines()) < 25


async def test_a_body_of_known_length_has_its_size_from_the_open_on() -> None:
    async with http() as web:
        file = await web.open(web.tree("/bytes/100"))
        assert (file.size, file.file.stream, file.file.direct) == (100, False, True)
        assert file.file.stat().st_size == 100
        assert await file.rest() == bytes(100)
        file.close()


async def test_stat_and_walk_never_ask_the_network() -> None:
    async with http() as web:
        told = web.reach.stat(web.tree("/bytes/100"))
        assert (told.st_size, modes.S_IMODE(told.st_mode)) == (0, 0o444)
        assert modes.S_ISDIR(web.reach.stat("/get/https/no.such.name.invalid").st_mode)
        assert web.reach.names("/get/https/no.such.name.invalid") == []
        assert web.reach.names("/get/http") == []
        assert web.reach.names("/get") == ["http", "https"]
        assert not web.server.asked


async def test_a_name_has_one_number_for_as_long_as_somebody_has_it() -> None:
    async with http() as web:
        path = web.tree("/echo")
        assert web.reach.at(path).node.qid == web.reach.at(path).node.qid


@pytest.mark.parametrize(
    "path",
    [
        "/get/ftp", "/get/HTTP", "/get/file", "/get/http/a b", "/get/http/user@host",
        "/get/http/host:99999", "/get/http/host:0", "/get/http/a..b", "/get/http/[::1",
        "/get/http/%2e%2e", "/get/http/h?x", "/get/http/h#x", "/get/http/a\\b", "/get/http/*.b",
        "/get/http/host/a b", "/get/http/host/a#b", "/get/http/host/a\r\nX: y", "/nothing",
    ],
)  # fmt: skip
async def test_a_name_that_is_no_address_is_not_there(path: str) -> None:
    async with http() as web:
        with refused(errno.ENOENT):
            web.reach.stat(path)


async def test_the_names_of_the_kernel_keep_their_rules() -> None:
    async with http() as web:
        with refused(errno.ENAMETOOLONG):
            web.reach.stat("/get/http/host/" + "x" * 256)
        assert web.reach.stat("/get/http/host/" + "x" * 255)
        with refused(errno.ENOTDIR):
            web.reach.stat("/get/http/host/file/below")


@pytest.mark.parametrize(
    ("rest", "target"),
    [
        ("/", "/"), ("/a/b", "/a/b"), ("/a%2Fb", "/a%2Fb"), ("//x", "//x"), ("/%25", "/%25"),
        ("/?q=1&r=/", "/?q=1&r=/"), ("/é", "/%C3%A9"), ("/a/../b", "/b"), ("/a/%2e%2e/b", "/b"),
        ("/a;x/..;/b", "/a;x/..;/b"),
    ],
)  # fmt: skip
async def test_what_is_asked_is_the_url_that_the_name_was_made_of(rest: str, target: str) -> None:
    async with http() as web:
        with suppress(FileNotFoundError):
            await web.get(rest)
        assert web.server.asked[-1].target == target


async def test_each_open_is_a_request_and_all_of_it_is_logged() -> None:
    async with http() as web:
        for _ in range(3):
            await web.get("/bytes/5")
        assert [asked.target for asked in web.server.asked] == ["/bytes/5"] * 3
        await web.quiet()
        log = await web.open("/log")
        assert (await log.read()).count(b'"status": 200') == 3
        log.close()


@pytest.mark.parametrize(
    ("status", "number"),
    [
        (400, errno.EIO), (401, errno.EACCES), (403, errno.EACCES), (404, errno.ENOENT),
        (407, errno.EACCES), (410, errno.ENOENT), (429, errno.EIO), (500, errno.EIO),
        (501, errno.EIO), (599, errno.EIO),
    ],
)  # fmt: skip
async def test_a_status_of_400_or_more_fails_the_open(status: int, number: int) -> None:
    async with http() as web:
        with refused(number, f"answered {status}"):
            await web.open(web.tree(f"/status/{status}"))
        await web.quiet()


async def test_a_status_below_is_an_answer() -> None:
    async with http() as web:
        assert await web.get("/status/204") == b""
        assert await web.get("/status/299") == b"299"
        assert await web.get("/redirect/3") != b""
        assert (await web.open(web.tree("/status/204"))).size == 0


async def test_a_body_of_unknown_length_streams_as_it_comes() -> None:
    async with http() as web:
        file = await web.open(web.tree("/sse/0"))
        assert (file.size, file.file.stream) == (None, True)
        first = await file.read(offset=0)
        assert first.startswith(b"data: 1\n\n")
        assert (await file.read(offset=0)).startswith(b"data: ")
        file.close()
        await web.server.until(lambda: not web.server.open)


async def test_what_is_compressed_all_the_same_is_a_stream() -> None:
    async with http() as web:
        assert await web.get("/coded/gzip/100000") == bytes(100_000)
        assert web.server.asked[-1].header("accept-encoding") == "identity"
        file = await web.open(web.tree("/coded/br/10"))
        assert file.size is None
        file.close()


async def test_closing_before_the_end_closes_the_connection() -> None:
    async with http() as web:
        file = await web.open(web.tree("/endless"))
        assert await file.read()
        file.close()
        await web.server.until(lambda: not web.server.open)


@pytest.mark.slow
async def test_an_open_that_is_cancelled_closes_the_connection_and_counts_no_more() -> None:
    async with http() as web:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(web.open, web.tree("/hang"))
            await web.server.until(lambda: web.server.asked)
            nursery.cancel_scope.cancel()
        await web.server.until(lambda: not web.server.open)
        for _ in range(300):
            (await web.open(web.tree("/bytes/1"))).close()


async def test_poll_tells_of_a_stream() -> None:
    async with http() as web:
        file = await web.open(web.tree("/sse/0"))
        await file.read()
        woken = trio.Event()
        while file.file.ready(woken.set):
            await file.read()
        with trio.fail_after(20):
            await woken.wait()
        assert file.file.ready(None) & READABLE
        file.close()


# Offsets --------------------------------------------------------------------------------------


async def test_reads_in_order_and_a_little_out_of_order_are_one_request() -> None:
    async with http() as web:
        file = await web.open(web.tree("/parts/600000"))
        assert await file.read(131_072, 131_072) == DIGITS[131_072 : 2 * 131_072]
        assert await file.read(131_072, 0) == DIGITS[:131_072]
        assert await file.read(1 << 20, 2 * 131_072) == DIGITS[2 * 131_072 : 600_000]
        assert await file.read(10, 600_000) == b""
        assert await file.read(10, 1 << 40) == b""
        assert len(web.server.asked) == 1
        file.close()


async def test_several_readers_at_once_each_get_what_they_asked_for() -> None:
    async with http() as web:
        file = await web.open(web.tree("/parts/1000000"))
        got: dict[int, bytes] = {}

        async def read(offset: int) -> None:
            got[offset] = await file.file.read(ROOT, 100_000, offset)

        async with trio.open_nursery() as nursery:
            for offset in (300_000, 0, 100_000, 500_000, 200_000, 400_000):
                nursery.start_soon(read, offset)
        assert all(got[offset] == DIGITS[offset : offset + 100_000] for offset in got)
        file.close()


async def test_a_read_of_a_known_length_is_never_short() -> None:
    async with http() as web:
        file = await web.open(web.tree("/parts/5000000"))
        while file.at < 4_000_000:
            assert len(await file.read(1 << 20)) == 1 << 20
        file.close()


async def test_a_seek_far_ahead_asks_for_a_part() -> None:
    async with http() as web:
        file = await web.open(web.tree("/parts/9000000"))
        assert await file.read(100, 8_999_950) == DIGITS[8_999_950:9_000_000]
        assert await file.read(100, 8_999_000) == DIGITS[8_999_000:8_999_100]
        assert [asked.header("range") for asked in web.server.asked] == [
            "", "bytes=8999950-", "bytes=8999000-",
        ]  # fmt: skip
        file.close()
        await web.quiet()


async def test_a_seek_back_asks_again_three_times_and_then_it_is_espipe() -> None:
    async with http() as web:
        file = await web.open(web.tree("/bytes/3000000"))
        await file.read(1 << 20, 1_500_000)
        for _ in range(3):
            assert await file.read(10, 0) == bytes(10)
            assert len(await file.read(1 << 20, 1_500_000)) == 1 << 20
        with refused(errno.ESPIPE, "too often"):
            await file.read(10, 0)
        assert len(web.server.asked) == 4
        assert await file.read(10, 1_500_000) == bytes(10)
        file.close()
        await web.quiet()


async def test_a_body_that_became_another_is_stale() -> None:
    async with http() as web:
        file = await web.open(web.tree("/parts/3000000?moves=1"))
        await file.read(1 << 20, 1_900_000)
        with refused(errno.ESTALE):
            await file.read(10, 0)
        file.close()
        await web.quiet()


async def test_a_read_that_is_cancelled_has_lost_nothing() -> None:
    async with http() as web:
        file = await web.open(web.tree("/stall/1000"))
        with trio.move_on_after(0.05) as scope:
            await file.file.read(ROOT, 2000, 0)
        assert scope.cancelled_caught
        assert await file.read(1000, 0) == bytes(1000)
        assert file.file.try_read(ROOT, 1001, 0) is WOULD_BLOCK
        file.close()


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/reset", errno.ECONNRESET), ("/junk", errno.EPROTO), ("/both", errno.EPROTO),
        ("/loop", errno.ELOOP), ("/headers/2000", errno.EMSGSIZE), ("/evil", errno.EPROTO),
    ],
)  # fmt: skip
async def test_what_a_server_does_wrong_fails_the_open(path: str, number: int) -> None:
    async with http() as web:
        with refused(number):
            await web.open(web.tree(path))
        await web.quiet()


async def test_what_comes_before_a_failure_can_be_read() -> None:
    async with http() as web:
        file = await web.open(web.tree("/reset-body"))
        got = await file.read(1 << 20)
        assert len(got) <= 1000
        with pytest.raises(OSError, match=r"\[Errno"):
            await file.read(1 << 20)
        file.close()


async def test_a_server_that_is_silent_times_out() -> None:
    async with http(limits=WebLimits(header_s=0.1)) as web:
        with refused(errno.ETIMEDOUT):
            await web.open(web.tree("/hang"))


@pytest.mark.slow
async def test_a_server_that_falls_silent_times_out_after_what_it_said() -> None:
    async with http(limits=WebLimits(idle_s=0.5)) as web:
        file = await web.open(web.tree("/stall/10"))
        assert await file.read(10) == bytes(10)
        with refused(errno.ETIMEDOUT):
            await file.read(10)
        file.close()


async def test_no_server_is_a_refused_connection() -> None:
    async with http() as web:
        with refused(errno.ECONNREFUSED):
            await web.open("/" + to_tree("http://127.0.0.1:2/"))


# Rights ---------------------------------------------------------------------------------------


async def test_a_refusal_is_kept_for_why() -> None:
    async with http("") as web:
        with pytest.raises(Denied) as caught:
            await web.open(web.tree("/echo"))
        assert caught.value.errno == errno.EACCES
        assert caught.value.remedy.startswith("allow GET http://127.0.0.1:")
        assert not web.server.asked


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_TRUNC])
async def test_a_file_is_read_and_never_written(flags: int) -> None:
    async with http() as web:
        with refused(errno.EACCES, "read"):
            await web.open(web.tree("/echo"), flags)
        assert not web.server.asked


async def test_open_files_are_counted_for_each_user() -> None:
    limits = WebLimits(per_origin=300, in_all=300)
    async with http(limits=limits) as web:
        files = [await web.open(web.tree("/bytes/1")) for _ in range(256)]
        with refused(errno.EMFILE, "close some"):
            await web.open(web.tree("/bytes/1"))
        (await web.by(ALICE).open(web.tree("/bytes/1"))).close()
        files.pop().close()
        (await web.open(web.tree("/bytes/1"))).close()
        for file in files:
            file.close()
