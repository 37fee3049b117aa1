"""HttpFs under abuse: nothing goes where the policy does not lead, and memory stays flat."""

import errno
import json
import resource

import pytest
import trio.testing

from oanix.errors import Denied
from oanix.lib.url import to_tree
from oanix.services.http.upload import BUFFER, Upload
from tests.reach import refused
from tests.service.http_help import Http, http
from tests.web.asking import OPEN, Names

HOSTS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "[::1]", "[::ffff:127.0.0.1]",
    "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "169.254.169.254", "[fe80::1]", "[fd00:ec2::254]",
    "100.64.0.1", "10.0.0.1", "192.168.0.1", "172.16.0.1", "224.0.0.1", "255.255.255.255",
    "100.100.100.200", "localhost", "LOCALHOST.", "127.0.0.1.", "①②⑦.⓪.⓪.①",
]  # fmt: skip


async def doors(web: Http, url: str) -> None:
    """Ask for a URL through each file that can ask: all refuse it."""
    with pytest.raises(Denied):
        await web.open("/" + to_tree(url))
    call = await web.call()
    await call.write(json.dumps({"url": url}) + "\n")
    with pytest.raises(Denied):
        await call.read()
    call.close()
    talk = await web.new()
    await talk.write("url", url)
    with pytest.raises(Denied):
        await talk.open("response")
    await talk.ctl("start")
    await talk.until("failed")
    talk.close()


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("rules", ["", "allow *\n"])
async def test_no_spelling_of_an_address_that_is_not_public_passes(host: str, rules: str) -> None:
    resolver = Names(localhost=[["127.0.0.1"]])
    async with http(rules, resolver=resolver) as web:
        await doors(web, f"http://{host}:{web.server.port}/echo")
        assert not web.server.accepted


async def test_a_name_that_has_a_private_address_too_does_not_lead_there() -> None:
    resolver = Names(rebind_test=[["127.0.0.1"]], both_test=[["127.0.0.1", "::1"]])
    async with http("", resolver=resolver) as web:
        for host in ("rebind.test", "both.test"):
            await doors(web, f"http://{host}:{web.server.port}/echo")
        assert not web.server.accepted


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data", "http://[::1]:{port}/echo", "file:///etc/passwd",
        "http://localhost:{port}/echo", "http://user@127.0.0.1:{port}/echo", "gopher://h/",
        "//0/", "http://2130706433:{port}/bytes/1",
    ],
)  # fmt: skip
async def test_a_redirect_leads_nowhere_that_a_request_may_not_go(target: str) -> None:
    async with http() as web:
        rule = f"allow GET http://127.0.0.1:{web.server.port}/to**\n"
        await web.write("/policy", rule)
        url = target.replace("{port}", str(web.server.port))
        with pytest.raises(OSError, match="Errno"):
            await web.get(f"/to?url={url}")
        assert {asked.path for asked in web.server.asked} == {"/to"}


@pytest.mark.parametrize(
    "path",
    [
        "/public/../private", "/public/%2e%2e/private", "/public/..%2fprivate",
        "/public/%252e%252e/private", "/public/..;/private", "/public/..\\private",
        "/public/%c0%ae%c0%ae/private", "//private", "/./private", "/private;x",
    ],
)  # fmt: skip
async def test_no_spelling_of_a_path_leaves_what_is_allowed(path: str) -> None:
    async with http(OPEN) as web:
        rule = f"allow GET http://127.0.0.1:{web.server.port}/public/**\n"
        await web.write("/policy", rule)
        with pytest.raises((PermissionError, FileNotFoundError)):
            await web.get(path)
        # What was sent at all is a literal name below the one that is allowed.
        assert all(asked.target.startswith("/public/") for asked in web.server.asked)
        assert not any(asked.path.strip("/") == "private" for asked in web.server.asked)


@pytest.mark.parametrize("text", ["a\rb", "a\nb: c", "a\0b", "a\x0bb", "a\x7fb", "a\x85b"])
async def test_no_line_end_reaches_a_header_or_a_request_line(text: str) -> None:
    async with http() as web:
        call, talk = await web.call(), await web.new()
        for request in (
            {"headers": {"X-A": text}}, {"headers": {text: "b"}}, {"method": text},
            {"headers": [["X-A", text]]}, {"url": web.url("/" + text)},
        ):  # fmt: skip
            with refused(errno.EINVAL):
                await call.write(json.dumps({"url": web.url("/echo"), **request}) + "\n")
        for line in (f"header X-A: {text}", f"method {text}", f"url {web.url('/' + text)}"):
            if "\n" not in text:
                with refused(errno.EINVAL):
                    await talk.ctl(line)
        with refused(errno.ENOENT):
            web.reach.stat(f"/get/http/127.0.0.1:{web.server.port}/{text}".replace("\0", "\x01"))
        assert not web.server.asked
        call.close()
        talk.close()


@pytest.mark.slow
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_a_bomb_stops_at_the_bound_of_its_rule(coding: str) -> None:
    async with http("allow *://*:* size=1M addresses=127.0.0.0/8\n") as web:
        with refused(errno.EMSGSIZE):
            await web.get(f"/bomb/{coding}/64")
        call = await web.call()
        await call.write(json.dumps({"url": web.url(f"/bomb/{coding}/64")}) + "\n")
        with refused(errno.EMSGSIZE):
            await call.read()
        call.close()
        await web.quiet()


@pytest.mark.slow
async def test_new_that_is_opened_without_end_is_emfile_and_others_go_on() -> None:
    async with http() as web:
        files = []
        with refused(errno.EMFILE):
            for _ in range(100_000):
                files.append(await web.open("/new"))
        assert await web.get("/status/200") == b"200"
        for file in files:
            file.close()


async def test_a_ctl_line_without_end_a_nul_and_two_commands_in_one_write() -> None:
    async with http() as web:
        talk = await web.new()
        with refused(errno.EINVAL, "65536"):
            await talk.write("ctl", "x" * (1 << 20))
        with refused(errno.EINVAL, "NUL"):
            await talk.write("ctl", "start\0\n")
        await talk.write("ctl", f"url {web.url('/status/200')}\nstart\n")
        assert await talk.text("response") == "200"
        talk.close()


@pytest.mark.slow
async def test_a_reader_who_never_reads_holds_a_little_and_no_more() -> None:
    async with http() as web:
        talks = []
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(6):
            talk = await web.new()
            await talk.write("url", web.url("/endless"))
            talks.append(await talk.open("response"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000
        for file in talks:
            file.close()
        await web.server.until(lambda: not web.server.open)


async def test_a_body_written_byte_by_byte_holds_no_more_than_its_bytes() -> None:
    upload = Upload()
    for _ in range(20_000):
        assert upload.take(b"x") == 1
    assert upload.room == BUFFER - 20_000
    assert upload.take(bytes(2 * BUFFER)) == BUFFER - 20_000
    assert upload.take(b"x") == 0


@pytest.mark.slow
async def test_policies_of_any_size_or_content_leave_the_rules_as_they_were() -> None:
    async with http("deny *\n") as web:
        for text in ("allow *\n" * 10_001, "allow " + "x" * 9000 + "\n", "allow \xff\n", "a\0\n"):
            with pytest.raises(OSError, match=r"Errno 22|Errno 7|Errno 90"):
                await web.write("/policy", text)
            assert web.service.policy.base.rules.format() == "deny *\n"


@pytest.mark.parametrize("port", [22, 25, 6379])
async def test_ports_of_other_protocols_are_refused(port: int) -> None:
    async with http("allow *\n") as web:
        await doors(web, f"http://example.com:{port}/")
