"""Secrets on their way out, and out of every answer."""

import errno
import json
from pathlib import Path

import pytest

from oanix.errors import Denied
from oanix.lib.policy import Layer, Policy, Rules
from oanix.lib.vault import SecretRule
from tests.service.vaults import made
from tests.web.asking import OPEN, Keys, Names, asking, rest
from tests.web.server import serve

KEY = "sesame-canary-value"


async def test_a_secret_is_attached_to_its_host_over_what_the_guest_sent() -> None:
    keys = Keys(a_test=KEY)
    async with serve() as server, asking(vault=keys) as web:
        mine = (("Authorization", "Bearer guess"),)
        await web.get(server.url("/echo", host="a.test"), headers=mine)
        await web.get(server.url("/echo", host="b.test"), headers=mine)
        assert [one.header("authorization") for one in server.asked] == [
            f"Bearer {KEY}",
            "Bearer guess",
        ]


async def test_at_each_hop_it_is_the_guests_headers_that_are_added_to() -> None:
    keys = Keys(a_test=KEY)
    async with serve() as server, asking(vault=keys) as web:
        elsewhere = server.url("/echo", host="b.test")
        await web.get(server.url(f"/to?url={elsewhere}", host="a.test"))
        assert server.asked[0].header("authorization") == f"Bearer {KEY}"
        assert server.asked[1].header("authorization") == ""
        assert all(KEY not in str(headers) for _, _, headers in keys.attached)


async def test_an_echoing_answer_is_masked_everywhere() -> None:
    keys = Keys(a_test=KEY)
    async with serve() as server, asking(vault=keys) as web:
        exchange = await web.send(server.url(f"/set?X-Echo={KEY}&Location=/{KEY}", host="a.test"))
        assert KEY not in str(exchange.headers)
        assert KEY not in exchange.url
        await rest(exchange)
        body = (await web.get(server.url("/echo", host="a.test")))[1]
        assert KEY.encode() not in body
        assert b"Bearer " + b"*" * len(KEY) in body
        assert (await web.get(server.url(f"/text/gzip+br/x{KEY}y", host="a.test")))[1] == (
            b"x" + b"*" * len(KEY) + b"y"
        )
        assert KEY not in json.dumps(web.lines())


async def test_errors_do_not_tell_it_either() -> None:
    keys = Keys(a_test=KEY)
    rules = "deny *://*:*/no/**\nallow *://*:* addresses=127.0.0.0/8\n"
    async with serve() as server, asking(vault=keys, policy=_policy(rules)) as web:
        for path in (f"/to?url=file:///{KEY}", f"/to?url=/no/{KEY}", f"/to?url=http://{KEY}.test"):
            with pytest.raises(OSError, match=r".") as caught:
                await web.send(server.url(path, host="a.test"))
            assert KEY not in str(caught.value)
            if isinstance(caught.value, Denied):
                assert KEY not in caught.value.remedy + caught.value.what


def _policy(rules: str) -> Policy:
    return Policy(Layer(Rules.parse(rules)))


async def test_while_there_is_something_to_mask_nothing_partial_is_asked_for() -> None:
    keys = Keys(a_test=KEY)
    guests = (("Range", "bytes=0-3"), ("Accept-Encoding", "unknown"))
    async with serve() as server, asking(vault=keys) as web:
        await web.get(server.url("/echo", host="a.test"), headers=guests)
        assert server.asked[0].header("range") == ""
        assert server.asked[0].header("accept-encoding") == "gzip, deflate, br, zstd"
        with pytest.raises(OSError, match="could not be masked") as caught:
            await web.send(server.url("/text/unknown/abc", host="a.test"))
        assert caught.value.errno == errno.EPROTO
        await web.quiet()
    async with serve() as server, asking(OPEN, resolver=Names()) as web:
        await web.get(server.url("/echo"), headers=guests)
        assert server.asked[0].header("range") == "bytes=0-3"


async def test_the_real_vault_attaches_and_masks(tmp_path: Path) -> None:
    vault = made(tmp_path)
    async with serve() as server, asking(vault=vault) as web:
        rule = f"* http://a.test:{server.port}/** query key={{}}"
        vault.set("key", KEY.encode(), SecretRule.parse(rule))
        url = server.url("/echo?a=1", host="a.test")
        exchange = await web.send(url, headers=(("Range", "bytes=0-1"),))
        assert KEY.encode() not in await rest(exchange)
        assert exchange.url == url
        assert server.asked[0].query == {"a": "1", "key": KEY}
        assert server.asked[0].header("range") == ""
        await web.get(server.url(f"/to?url={server.url('/echo', host='b.test')}", host="a.test"))
        assert KEY not in server.asked[-1].target
        await web.quiet()
        assert KEY not in json.dumps(web.lines())
        vault.lock()
        with pytest.raises(PermissionError, match="locked"):
            await web.send(url)
        assert web.lines()[-1]["error"] == "EACCES"
    vault.close()
