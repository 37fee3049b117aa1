"""Bad servers and bad addresses at the files that a user opens: each is a clear error, no more."""

import errno
import json
import os
from pathlib import Path

import pytest

from oanix.errors import Denied
from oanix.lib.policy import Ask, Layer, Policy, Rules
from oanix.lib.url import Url
from oanix.lib.web import WebLimits
from oanix.services.secrets import SecretsFs
from tests.reach import Reach, refused
from tests.service.http_help import Http, http
from tests.service.vaults import made
from tests.web.asking import Names
from tests.web.server import serve


async def through_call(web: Http, url: str, timeout_s: float = 60) -> None:
    """Ask through `call`; raises what the answer is."""
    call = await web.call()
    try:
        await call.write(json.dumps({"url": url, "timeout": timeout_s}) + "\n")
        await call.read()
    finally:
        call.close()


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/headers/2000", errno.EMSGSIZE), ("/header/1000000", errno.EMSGSIZE),
        ("/both", errno.EPROTO), ("/hugechunk", errno.EPROTO), ("/badchunk", errno.EPROTO),
        ("/loop", errno.ELOOP), ("/to?url=file:///etc/passwd", errno.EPROTO),
    ],
)  # fmt: skip
async def test_an_answer_that_is_wrong_fails_through_every_file(path: str, number: int) -> None:
    async with http() as web:
        with refused(number):
            await web.get(path)
        with refused(number):
            await through_call(web, web.url(path))
        talk = await web.new()
        await talk.write("url", web.url(path))
        with refused(number):
            await (await talk.open("response")).rest()
        talk.close()
        await web.quiet()


@pytest.mark.slow
async def test_a_header_that_drips_and_no_answer_run_into_their_time() -> None:
    async with http(limits=WebLimits(header_s=0.1)) as web:
        for path in ("/drip/0.03", "/hang"):
            with refused(errno.ETIMEDOUT):
                await web.get(path)
            with refused(errno.ETIMEDOUT):
                await through_call(web, web.url(path), 0.1)


@pytest.mark.parametrize(
    "url",
    [
        "http://allowed.test@evil.test/", "http://allowed.test:80@evil.test/",
        "http://evil.test#@allowed.test/", "http://evil.test\\@allowed.test/",
        "http://allowed.test.evil.test/", "http://\u0430llowed.test/", "http://evil.test/allowed.test",
        "http://allowed.test%2eevil.test/", "//allowed.test/", "http:allowed.test",
    ],
)  # fmt: skip
async def test_a_host_that_only_looks_allowed_is_not_asked(url: str) -> None:
    resolver = Names()
    async with http("allow http://allowed.test:* addresses=127.0.0.1\n", resolver=resolver) as web:
        with pytest.raises((Denied, OSError), match="Errno"):
            await through_call(web, url)
        assert not resolver.asked
        port = web.server.port
        for spelling in ("ALLOWED.test.", "allowed.test", "\uff41llowed.test"):
            await through_call(web, f"http://{spelling}:{port}/echo")
        assert {asked.header("host") for asked in web.server.asked} == {f"allowed.test:{port}"}


async def test_names_that_lead_to_metadata_or_only_partly_to_where_one_may_go() -> None:
    resolver = Names(
        metadata_google_internal=[["169.254.169.254"]],
        # The server listens on the first alone; only the second is granted.
        mixed_test=[["127.0.0.1", "127.0.0.2"]],
    )
    async with http("allow *://*:* addresses=127.0.0.2\n", resolver=resolver) as web:
        with pytest.raises(Denied, match="metadata"):
            await through_call(web, "http://metadata.google.internal/computeMetadata/v1/")
        with refused(errno.ECONNREFUSED):
            await through_call(web, web.server.url("/echo", host="mixed.test"))
        assert not web.server.accepted


async def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    async with serve(tls=True) as server, http() as web:
        for ask in (through_call(web, server.url("/echo")), web.read("/" + _tree(server.url("/")))):
            with refused(errno.EPROTO, "certificate"):
                await ask
        assert not server.asked


def _tree(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"get/{scheme}/{rest.rstrip('/')}/%2F"


@pytest.mark.slow
async def test_a_nested_bomb_stops_at_the_bound_through_call() -> None:
    async with http("allow *://*:* size=1M addresses=127.0.0.0/8\n") as web:
        with refused(errno.EMSGSIZE):
            await through_call(web, web.url("/coded/gzip+br+zstd/67108864"))


@pytest.mark.parametrize("pattern", ["*", "https://*/**", "https://*.com/**", "https://../x"])
async def test_a_secret_is_not_bound_to_every_host(tmp_path: Path, pattern: str) -> None:
    vault = made(tmp_path)
    reach = Reach.of(SecretsFs(vault))
    await _write(reach, "/ctl", "new key")
    with refused(errno.EINVAL):
        await _write(reach, "/key/ctl", f"rule * {pattern} header A: {{}}")
    assert vault.info("key").rule == ""
    vault.close()


async def _write(reach: Reach, path: str, line: str) -> None:
    file = await reach.open(path, os.O_WRONLY)
    try:
        file.try_write(reach.caller, f"{line}\n".encode(), 0)
    finally:
        file.close(reach.caller)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_deny_of_requests_is_one_of_the_websockets_that_begin_so(scheme: str) -> None:
    policy = Policy(Layer(Rules.parse(f"deny {scheme}://h.test/admin/**\nallow *\n")))
    begun = {"http": "ws", "https": "wss"}[scheme]
    for one in (scheme, begun):
        ask = Ask("GET", Url.parse(f"{one}://h.test/admin/x"))
        assert not policy.judge(ask).allowed
    assert policy.judge(Ask("GET", Url.parse(f"{begun}://h.test/open"))).allowed
