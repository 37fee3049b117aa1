"""The cache of RFC 9111, as an option."""

import gzip

from oanix.caller import Caller
from oanix.lib.web import Asker, WebLimits
from tests.web.asking import Keys, asking
from tests.web.server import serve

BOB = Asker(Caller(uid=1001))
SIZE = 100_000


async def test_a_fresh_answer_is_not_asked_for_again_but_judged() -> None:
    async with serve() as server, asking(cache_bytes=SIZE) as web:
        url = server.url("/cache/a")
        for _ in range(3):
            assert (await web.get(url))[1] == b"answer 1"
            await web.quiet()
        assert len(server.asked) == 1
        assert [line["status"] for line in web.lines()] == [200] * 3
        exchange = await web.send(url)
        assert "age" in {name.lower() for name, _ in exchange.headers}
        assert exchange.length == 8
        exchange.close()


async def test_without_the_option_nothing_is_kept() -> None:
    async with serve() as server, asking() as web:
        for number in (1, 2):
            assert (await web.get(server.url("/cache/a")))[1] == f"answer {number}".encode()


async def test_a_stale_answer_is_revalidated() -> None:
    async with serve() as server, asking(cache_bytes=SIZE) as web:
        url = server.url("/cache/a?control=no-cache")
        for _ in range(2):
            assert await web.get(url) == (200, b"answer 1")
            await web.quiet()
        assert server.asked[1].header("if-none-match") == '"one"'
        assert [line["status"] for line in web.lines()] == [200, 304]


async def test_one_asker_does_not_get_what_another_got() -> None:
    async with serve() as server, asking(cache_bytes=SIZE) as web:
        url = server.url("/cache/a?control=private,max-age=60")
        for asker in (None, BOB, None):
            await web.get(url, **({"asker": asker} if asker else {}))
            await web.quiet()
        assert len(server.asked) == 2


async def test_nothing_is_kept_of_what_must_not_be() -> None:
    keys = Keys(a_test="sesame-canary")
    async with serve() as server, asking(cache_bytes=SIZE, vault=keys) as web:
        for url, more in (
            (server.url("/cache/a?control=no-store"), {}),
            (server.url("/cache/b", host="a.test"), {}),
            (server.url("/cache/c"), {"headers": (("Authorization", "x"),)}),
            (server.url("/cache/d"), {"headers": (("Cookie", "x"),)}),
            (server.url("/cache/e"), {"method": "POST", "body": b""}),
        ):
            server.asked.clear()
            for _ in range(2):
                await web.get(url, **more)
                await web.quiet()
            assert len(server.asked) == 2, url


async def test_a_body_that_did_not_come_whole_is_not_kept() -> None:
    limits = WebLimits(buffer_bytes=10_000)
    async with serve() as server, asking(cache_bytes=64 << 20, limits=limits) as web:
        url = server.url("/file/a")
        server.files["a"] = ((("Cache-Control", "max-age=60"),), bytes(2_000_000))
        exchange = await web.send(url)
        await exchange.read(10)
        exchange.close()
        await web.quiet()
        for _ in range(2):
            assert len((await web.get(url))[1]) == 2_000_000
            await web.quiet()
        assert len(server.asked) == 2


async def test_the_bound_holds_and_the_oldest_give_way() -> None:
    async with serve() as server, asking(cache_bytes=SIZE) as web:
        for number in range(40):
            server.files[str(number)] = ((("Cache-Control", "max-age=60"),), bytes(9_000))
            await web.get(server.url(f"/file/{number}"))
            await web.quiet()
        size = web.web.status()["cached"]
        assert isinstance(size, int)
        assert 50_000 < size <= SIZE
        await web.get(server.url("/file/39"))
        assert len(server.asked) == 40
        await web.get(server.url("/file/0"))
        assert len(server.asked) == 41


async def test_vary_keeps_answers_apart_and_a_post_drops_them() -> None:
    async with serve() as server, asking(cache_bytes=SIZE) as web:
        url = server.url("/cache/a?vary=X-Kind")
        for kind in ("one", "two", "one", "two"):
            await web.get(url, headers=(("X-Kind", kind),))
            await web.quiet()
        kinds = [one.header("x-kind") for one in server.asked]
        assert kinds[:2] == ["one", "two"]
        count = len(server.asked)
        await web.get(url, method="POST", body=b"x")
        await web.quiet()
        await web.get(url, headers=(("X-Kind", "one"),))
        assert len(server.asked) == count + 2


async def test_a_coded_body_is_decoded_out_of_the_cache_too() -> None:
    async with serve() as server, asking(cache_bytes=SIZE) as web:
        headers = (("Cache-Control", "max-age=60"), ("Content-Encoding", "gzip"))
        server.files["a"] = (headers, gzip.compress(b"text"))
        for _ in range(2):
            assert (await web.get(server.url("/file/a")))[1] == b"text"
            await web.quiet()
        assert len(server.asked) == 1
