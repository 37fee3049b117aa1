"""HttpFs, `policy` and `log`: who may change the rules, and what narrows them."""

import errno
import json
import os
from pathlib import Path

import pytest

from oanix.errors import Denied
from oanix.lib.web import Web
from oanix.namespace import Namespace
from oanix.services.http import HttpFs
from tests.reach import Reach, refused
from tests.service.http_help import Http, http
from tests.web.asking import OPEN, policy_of
from tests.web.server import serve


async def allowed(web: Http, path: str = "/echo", below: str = "/") -> bool:
    """Tell whether a GET of the server is allowed."""
    try:
        await web.get(path, below)
    except Denied:
        return False
    return True


def rule(web: Http, path: str = "/**", verb: str = "allow GET") -> str:
    return f"{verb} http://127.0.0.1:{web.server.port}{path}\n"


async def test_the_owner_reads_and_replaces_the_rules() -> None:
    async with http("") as web:
        assert await web.text("/policy") == "#: no rules: every public address is allowed\n"
        assert not await allowed(web)
        text = "# mine\n" + rule(web)
        await web.write("/policy", text)
        assert await web.text("/policy") == text
        assert await allowed(web)
        await web.write("/policy", "deny *\n")
        assert not await allowed(web)


async def test_a_line_that_is_added_acts_at_its_newline() -> None:
    async with http("deny http://127.0.0.1/none\n") as web:
        file = await web.open("/policy", os.O_WRONLY | os.O_APPEND)
        await file.write(rule(web)[:20])
        assert not await allowed(web)
        await file.write(rule(web)[20:])
        assert await allowed(web)
        with refused(errno.EINVAL, "policy:2:"):
            await file.write("permit everything\n")
        assert await allowed(web)
        file.close()
        assert len((await web.text("/policy")).splitlines()) == 2


async def test_what_is_collected_takes_effect_when_it_is_closed() -> None:
    async with http(OPEN) as web:
        file = await web.open("/policy", os.O_WRONLY | os.O_TRUNC)
        await file.write("deny http://127.0.0.1/**\n")
        assert await allowed(web)
        await file.write("deny *")
        file.file.flush()
        assert not await allowed(web)
        file.file.close(file.caller)
        assert (await web.text("/policy")).endswith("deny *\n")


async def test_an_editor_that_truncates_after_its_open_replaces_the_rules() -> None:
    async with http(OPEN) as web:
        file = await web.open("/policy", os.O_WRONLY)
        file.file.truncate(file.caller, 0)
        await file.write("# mine\n" + OPEN)
        file.close()
        assert await web.text("/policy") == "# mine\n" + OPEN
        file = await web.open("/policy", os.O_WRONLY)
        file.file.truncate(file.caller, 0)
        file.close()
        assert await web.text("/policy") == "# mine\n" + OPEN


async def test_what_was_added_cannot_be_truncated_away() -> None:
    async with http(OPEN) as web:
        file = await web.open("/policy", os.O_WRONLY)
        await file.write("deny *\n")
        with refused(errno.EINVAL, "open it with >"):
            file.file.truncate(file.caller, 0)
        file.close()
        assert (await web.text("/policy")).endswith("deny *\n")


async def test_a_bad_line_changes_nothing_at_all() -> None:
    async with http(OPEN) as web:
        before = await web.text("/policy")
        file = await web.open("/policy", os.O_WRONLY | os.O_TRUNC)
        await file.write("deny *\n")
        with refused(errno.EINVAL, "policy:2:1: "):
            await file.write("permit *\n")
        with refused(errno.EINVAL, "nothing is changed"):
            await file.write("deny *\n")
        file.close()
        assert await web.text("/policy") == before
        assert await allowed(web)


async def test_half_a_bad_line_is_told_after_the_close() -> None:
    async with http(OPEN) as web:
        await web.write("/policy", "permit *")
        assert await allowed(web)
        assert "permit" in web.namespace.sentences.of(web.reach.caller)[-1]


async def test_a_writer_that_wrote_nothing_takes_no_rules_away() -> None:
    async with http("deny *\n") as web:
        await web.write("/policy", "")
        assert await web.text("/policy") == "deny *\n"
        await web.write("/policy", "# none\n")
        assert not web.service.policy.base.rules.rules


async def test_comments_alone_wait_for_the_last_close() -> None:
    async with http("deny *\n") as web:
        file = await web.open("/policy", os.O_WRONLY | os.O_TRUNC)
        await file.write("# what follows is still to come\n")
        file.file.flush()
        assert web.service.policy.base.rules.rules
        await file.write("deny http://x/**\n")
        file.file.flush()
        assert len(web.service.policy.base.rules.rules) == 1
        file.close()


async def test_what_was_read_can_be_written_back() -> None:
    async with http("") as web:
        web.namespace.bind("/", "/narrow", options={"methods": "HEAD"})
        await web.write("/policy", rule(web) + "# end\n")
        text = await web.text("/narrow/policy")
        assert "#: and narrowed by mount option methods=HEAD:\n" in text
        await web.write("/policy", text)
        assert web.service.book.text.strip() == (rule(web) + "# end").strip()


# In the state folder --------------------------------------------------------------------------


async def test_rules_are_kept_over_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "http"
    async with http("", folder=folder) as web:
        await web.write("/policy", "# mine\nallow GET https://example.com/**\n")
    kept = HttpFs(folder, web=Web(policy_of("")))
    text = await Reach.of(kept).text("/policy")
    assert text == "# mine\nallow GET https://example.com/**\n"
    assert [path.name for path in folder.iterdir()] == ["policy"]


@pytest.mark.parametrize("content", [b"permit *\n", b"\xff\xfe", b"allow\n", b"deny *\nx\n"])
async def test_a_broken_file_denies_everything(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "policy").write_bytes(content)
    async with http(OPEN, folder=tmp_path) as web:
        assert not await allowed(web)
        assert "everything is denied" in web.service.status()["warning"]
        assert "everything is denied" in await web.text("/policy")
        await web.write("/policy", rule(web))
        assert await allowed(web)
        assert "warning" not in web.service.status()
    assert (tmp_path / "policy.broken").read_bytes() == content


async def test_a_file_that_cannot_be_read_denies_everything(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    async with http(OPEN, folder=tmp_path) as web:
        assert not await allowed(web)


async def test_rules_that_cannot_be_kept_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "policy.new").mkdir()
    async with http(OPEN, folder=tmp_path) as web:
        file = await web.open("/policy", os.O_WRONLY | os.O_TRUNC)
        await file.write("deny *\n")
        with refused(errno.EISDIR):
            file.file.flush()
        file.file.close(file.caller)
        assert await allowed(web)


# Narrowing ------------------------------------------------------------------------------------


async def test_a_child_narrows_itself_and_nobody_else() -> None:
    async with http(OPEN) as web:
        child = web.fork()
        await child.write("/policy", rule(web, "/echo"))
        assert await allowed(child)
        assert not await allowed(child, "/bytes/1")
        assert not await allowed(child.fork(), "/bytes/1")
        assert await allowed(web, "/bytes/1")
        text = await child.text("/policy")
        assert text.startswith(web.service.book.text)
        assert "narrowed by this namespace's policy" in text
        assert "narrowed" not in await web.text("/policy")


async def test_a_child_never_allows_more() -> None:
    async with http(OPEN) as web:
        await web.write("/policy", rule(web, "/echo"))
        child = web.fork()
        for flags in (os.O_TRUNC, os.O_APPEND):
            await child.write("/policy", OPEN, flags)
            assert not await allowed(child, "/bytes/1")
        await child.write("/policy", "deny *\n")
        await child.write("/policy", OPEN)
        await child.append("/policy", OPEN)
        await child.write("/policy", "# nothing\n")
        assert not await allowed(child)
        assert web.service.book.text == rule(web, "/echo")


async def test_what_a_child_forbids_its_fork_cannot_take_back() -> None:
    async with http(OPEN) as web:
        child = web.fork()
        await child.write("/policy", rule(web, "/echo"))
        grandchild = child.fork()
        await grandchild.write("/policy", rule(web, "/bytes/**"))
        assert not await allowed(grandchild, "/bytes/1")
        assert not await allowed(grandchild, "/echo")
        assert await allowed(child, "/echo")


async def test_a_childs_rules_add_no_address() -> None:
    async with http("") as web:
        child = web.fork()
        await child.write("/policy", rule(web) + OPEN)
        assert not await allowed(child)


async def test_options_narrow_a_mount_and_a_bind_of_any_file() -> None:
    async with http(OPEN) as web:
        namespace = web.namespace
        namespace.bind("/", "/none", options={"hosts": "example.com"})
        namespace.bind("/call", "/mycall", options={"hosts": "example.com"})
        namespace.bind("/get/http", "/sites", options={"hosts": "127.0.0.1"})
        assert not await allowed(web, below="/none/")
        assert await allowed(web)
        call = await web.open("/mycall", os.O_RDWR)
        await call.write(json.dumps({"url": web.url("/echo")}) + "\n")
        with refused(errno.EACCES):
            await call.read()
        call.close()
        assert await web.read(f"/sites/127.0.0.1:{web.server.port}/echo")
        namespace.bind("/sites", "/fewer", options={"methods": "HEAD"})
        with refused(errno.EACCES):
            await web.read(f"/fewer/127.0.0.1:{web.server.port}/echo")


async def test_a_mount_with_options_is_narrow_from_the_start() -> None:
    async with http(OPEN) as web:
        namespace = Namespace()
        namespace.mount(web.service, "/cap", options={"hosts": "127.0.0.1", "size": "10"})
        narrow = Http(web.service, web.server, Reach(namespace))
        assert await narrow.get("/bytes/10", "/cap/") == bytes(10)
        with refused(errno.EMSGSIZE):
            await narrow.get("/bytes/11", "/cap/")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kinds": "1"}, "no option 'kinds'; it has: hosts, methods, rate, size, time, cache"),
        ({"cache": "1M"}, "mount itself"),
        ({"rate": "often"}, "rate"), ({"hosts": ""}, "hosts"), ({"hosts": "http://x/"}, "hosts"),
        ({"methods": "G T"}, "methods"), ({"size": "-1"}, "size"), ({"time": "0s"}, "time"),
    ],
)  # fmt: skip
async def test_an_option_that_is_none_is_refused(options: dict[str, str], sentence: str) -> None:
    async with http() as web:
        with refused(errno.EINVAL, sentence):
            web.namespace.bind("/", "/narrow", options=options)


async def test_a_cache_is_an_option_of_the_mount() -> None:
    async with serve() as server:
        service = HttpFs(web=Web(policy_of(OPEN)))
        namespace = Namespace()
        with refused(errno.EINVAL, "cache= 'much' is no size"):
            namespace.mount(service, "/", options={"cache": "much"})
        namespace.mount(service, "/", options={"cache": "1M"})
        async with service.running():
            web = Http(service, server, Reach(namespace))
            assert await web.get("/cache/one") == await web.get("/cache/one")
            assert len(server.asked) == 1


async def test_a_conversation_is_not_narrowed_and_is_of_its_own_view() -> None:
    async with http(OPEN) as web:
        talk = await web.new()
        web.namespace.bind("/", "/narrow", options={"hosts": "example.com"})
        with refused(errno.EINVAL, "conversation"):
            web.namespace.bind(talk.path, "/mine", options={"hosts": "example.com"})
        with refused(errno.ENOENT):
            web.reach.stat(f"/narrow{talk.path}")
        narrow = await web.new("/narrow/")
        assert narrow.path == "/narrow/1"
        await narrow.write("url", web.url("/echo"))
        with refused(errno.EACCES):
            await narrow.text("response")
        narrow.close()
        talk.close()


async def test_a_conversation_is_narrowed_by_every_namespace_that_used_it() -> None:
    async with http(OPEN) as web:
        talk = await web.new()
        child = web.fork()
        await child.write("/policy", rule(web, "/bytes/**"))
        await child.write(f"{talk.path}/url", web.url("/echo"))
        with refused(errno.EACCES):
            await talk.text("response")
        talk.close()


async def test_a_view_that_nobody_sees_ends_with_its_conversations() -> None:
    async with http(OPEN) as web:
        web.namespace.bind("/", "/narrow", options={"hosts": "127.0.0.1"})
        talk = await web.new("/narrow/")
        await talk.write("url", web.url("/hang"))
        await talk.ctl("start")
        await web.server.until(lambda: web.server.asked)
        web.namespace.unmount("/narrow")
        view = next(iter(web.service.busy))
        view.talks.idle_s = 0
        talk.close()
        await web.server.until(lambda: not web.server.open)
        assert not web.service.busy


async def test_the_log_masks_queries_and_is_the_owners() -> None:
    async with http(OPEN) as web:
        await web.get("/echo?key=hidden")
        await web.quiet()
        log = await web.open("/log")
        line = json.loads(await log.read())
        log.close()
        assert line["path"] == "/echo?key=***"
        assert line["verdict"] == "allow"
        with refused(errno.EACCES, "everybody"):
            await web.fork().open("/log")


async def test_a_rate_is_one_for_all_views() -> None:
    async with http("allow *://*:* addresses=127.0.0.0/8 rate=2/day\n") as web:
        web.namespace.bind("/", "/narrow", options={"methods": "GET"})
        await web.get("/echo")
        await web.get("/echo", "/narrow/")
        with refused(errno.EAGAIN):
            await web.get("/echo", "/narrow/")
