"""NostrFs: who one is, what is published, what is asked, and what is heard."""

import errno
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trio

from oanix.lib.nostr import Event, LocalSigner, check
from oanix.lib.nostr.nip19 import encode as nip19
from oanix.services.relay import RelayFs
from tests.nostr.bunker import Bunker
from tests.reach import ROOT, Reach, refused
from tests.service.nostr_help import SIGNERS, Clock, User, hear, put, relay, until, user

ANN, BOB = SIGNERS["ann"].pubkey, SIGNERS["bob"].pubkey
NPUB = nip19("npub", ANN)


@asynccontextmanager
async def alone(tmp_path: Path, name: str = "ann", **more: Any) -> AsyncIterator[User]:
    """A user who speaks to our own relay, within the process."""
    clock = Clock()
    own = RelayFs(tmp_path / "relay", clock=clock)
    async with own.running(), user(tmp_path / "nostr", clock, name, own=own, **more) as it:
        yield it


async def test_without_any_network_a_note_is_published_and_found(tmp_path: Path) -> None:
    async with alone(tmp_path) as it:
        assert await it.reach.text("/npub") == f"{NPUB}\n"
        assert await it.reach.text("/pubkey") == f"{ANN}\n"
        [said] = await it.ask("/publish", "hello, world")
        assert (said["relay"], said["ok"]) == ("own", True)
        [event] = await it.json("/req/kinds=1")
        assert (event["content"], event["pubkey"], event["id"]) == ("hello, world", ANN, said["id"])
        check(Event.of(event))
        assert await it.json(f"/event/{event['id']}") == [event]
        assert await it.json(f"/event/{nip19('note', event['id'])}") == [event]
        with refused(errno.ENOENT, "no relay has this event"):
            await it.reach.read(f"/event/{'0' * 64}")
        for name in ("/event/abc", "/profile/me", "/addr/x", "/req/colour=1", "/dvm/1", "/dm/me"):
            with refused(errno.ENOENT):
                it.reach.stat(name)
        assert "connected 1\n" in await it.reach.text("/status")
        assert await it.reach.text("/relays") == "own rw open\n"


async def test_templates_and_signed_events_are_published_and_templates_signed(
    tmp_path: Path,
) -> None:
    template = {
        "kind": 30_023,
        "content": "long",
        "tags": [["d", "a:b"], ["t", "x"]],
        "created_at": 5,
    }
    async with alone(tmp_path) as it:
        [signed] = await it.ask("/sign", json.dumps(template))
        assert (signed["kind"], signed["created_at"]) == (30_023, 5)
        assert await it.json("/req/all") == []
        assert (await it.ask("/publish", json.dumps(signed)))[0]["ok"] is True
        assert await it.json(f"/addr/30023:{NPUB}:a:b") == [signed]
        with refused(errno.ENOENT):
            await it.reach.read(f"/addr/30023:{ANN}:other")
        [said] = await it.ask("/publish", json.dumps({"kind": 7, "content": "+"}))
        [event] = await it.json(f"/req/kinds=7&authors={NPUB}")
        assert (event["id"], event["created_at"]) == (said["id"], it.clock.now)


@pytest.mark.parametrize(
    ("line", "number", "words"),
    [
        ("{", errno.EINVAL, "invalid: "),
        ('{"kind":-1}', errno.EINVAL, "invalid: the kind"),
        ('{"kind":1.0}', errno.EINVAL, "invalid: the kind"),
        ('{"kind":1,"tags":[1]}', errno.EINVAL, "invalid: tags"),
        ('{"kind":1,"content":7}', errno.EINVAL, "invalid: the content"),
        ('{"kind":1,"colour":"red"}', errno.EINVAL, "no 'colour'"),
        ('{"kind":22242}', errno.EACCES, "log in as you"),
        ('{"kind":27235}', errno.EACCES, "log in as you"),
        ('{"id":"x","sig":"y"}', errno.EINVAL, "invalid: "),
        ('{"content":"\\ud800"}', errno.EINVAL, "invalid: "),
        ('{"content":"as he","pubkey":"' + BOB + '"}', errno.EINVAL, "not that of who signs here"),
        ('{"content":"as who","pubkey":7}', errno.EINVAL, "the pubkey is no text"),
    ],
)  # fmt: skip
async def test_what_cannot_be_published_is_the_error_of_the_write(
    line: str, number: int, words: str, tmp_path: Path
) -> None:
    async with alone(tmp_path) as it:
        with refused(number, words):
            await it.ask("/publish", line)
        if "sig" not in line:
            with refused(number, words):
                await it.ask("/sign", line)


async def test_a_template_may_say_whose_it_is(tmp_path: Path) -> None:
    async with alone(tmp_path) as it:
        [signed] = await it.ask("/sign", json.dumps({"content": "mine", "pubkey": ANN}))
        assert (signed["pubkey"], signed["content"]) == (ANN, "mine")


async def test_what_a_relay_has_refused_is_told_to_who_did_not_wait(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock, policy="deny write kind=1 -- closed on Sundays") as one,
        user(tmp_path / "n", clock) as it,
    ):
        await it.ctl(f"relay add {one.url}")
        assert "refused 0\n" in await it.reach.text("/status")
        await it.write("/publish", "hello")
        await until(lambda: it.fs.nostr.outbox.refused)
        said = await it.reach.text("/status")
        assert f"refused 1\nlast-refusal {one.url}: blocked: closed on Sundays\n" in said


@pytest.mark.parametrize(
    "line", ['{"author":["x"]}', '[{"kinds":[1]},{"kind":[1]}]', '{"#tt":["x"]}', '{"limits":1}']
)
async def test_a_misspelt_filter_does_not_ask_for_everything(line: str, tmp_path: Path) -> None:
    async with alone(tmp_path) as it:
        new = await it.reach.open("/sub/new")
        number = (await new.read(ROOT, 10, 0)).decode().strip()
        with refused(errno.EINVAL, "is unknown; a filter has ids authors"):
            await it.write(f"/sub/{number}/filter", line)
        new.close(ROOT)


async def test_what_is_read_of_a_filter_can_be_written_to_one(tmp_path: Path) -> None:
    async with alone(tmp_path) as it:
        new = await it.reach.open("/sub/new")
        number = (await new.read(ROOT, 10, 0)).decode().strip()
        path = f"/sub/{number}/filter"
        assert await it.reach.text(path) == ""
        for said in ({"kinds": [1], "#t": ["a"]}, [{"kinds": [1]}, {"limit": 3}]):
            await it.write(path, json.dumps(said))
            shown = await it.reach.text(path)
            assert json.loads(shown) == said
            await it.write(path, shown.rstrip("\n"))
            assert await it.reach.text(path) == shown
        new.close(ROOT)


async def test_an_event_that_was_changed_is_refused(tmp_path: Path) -> None:
    async with alone(tmp_path) as it:
        [signed] = await it.ask("/sign", '{"content":"mine"}')
        with refused(errno.EINVAL, "invalid: the id does not match|id does not match"):
            await it.ask("/publish", json.dumps(signed | {"content": "yours"}))
        with refused(errno.EINVAL, "signature"):
            await it.ask("/publish", json.dumps(signed | {"sig": "0" * 128}))


async def test_without_a_key_one_reads_and_is_told_how_to_get_one(tmp_path: Path) -> None:
    async with alone(tmp_path, "") as it:
        assert await it.json("/req/kinds=1") == []
        for path in ("/publish", "/sign"):
            with refused(errno.EPERM, "oanix nostr key new"):
                await it.ask(path, "hello")
        with refused(errno.EPERM, "oanix nostr key new"):
            await it.reach.read("/npub")


async def test_kinds_and_relays_are_narrowed_and_never_widened(tmp_path: Path) -> None:
    async with alone(tmp_path, options={"kinds": "1,7,22242"}) as it:
        assert (await it.ask("/sign", '{"kind":22242}'))[0]["kind"] == 22_242
        with refused(errno.EACCES, "kind 3 are not signed here"):
            await it.ask("/sign", '{"kind":3}')
        with refused(errno.EACCES, "27235"):
            await it.ask("/sign", '{"kind":27235}')
    async with alone(tmp_path) as it:
        child = it.namespace.fork()
        with refused(errno.EINVAL, "kinds= is a list of kinds"):
            it.fs.narrow(it.fs.root, {"kinds": "x"})
        narrowed = it.fs.narrow(it.fs.root, {"kinds": "22242,1", "relays": "wss://a.example"})
        fresh = type(it.namespace)()
        fresh.mount(_Shown(it.fs, narrowed), "/")
        other = Reach(fresh)
        opened = await other.open("/sign", os.O_RDWR)
        with refused(errno.EACCES, "log in as you"):
            await put(opened, b'{"kind":22242}\n')
        await put(opened, b'{"kind":1}\n')
        with refused(errno.EACCES, "kind 7 are not signed here"):
            await put(opened, b'{"kind":7}\n')
        opened.close(ROOT)
        with refused(errno.EACCES, "the relay own is not used here"):
            await other.read("/req/kinds=1")
        ctl = await other.open("/ctl", os.O_WRONLY)
        with refused(errno.EPERM, "only the owner"):
            await put(ctl, b"quorum 2\n")
        ctl.close(ROOT)
        assert child.is_child


class _Shown:
    """A service as one of its views shows it, to be mounted alone."""

    def __init__(self, fs: Any, root: Any) -> None:
        self._fs = fs
        self.root = root

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name)

    def mounted(self, options: Any) -> Any:
        return self.root


async def test_a_subscription_gives_what_is_stored_and_then_what_comes(tmp_path: Path) -> None:
    async with alone(tmp_path) as it:
        await it.ask("/publish", "one", "two")
        new = await it.reach.open("/sub/new")
        number = (await new.read(ROOT, 10, 0)).decode().strip()
        events = await it.reach.open(f"/sub/{number}/events")
        assert events.ready() == 0
        await it.write(f"/sub/{number}/filter", '{"kinds":[1]}')
        eose = await it.reach.open(f"/sub/{number}/eose")
        assert (await eose.read(ROOT, 1000, 0)) == b"own finish\n"
        assert await eose.read(ROOT, 1000, 0) == b""
        assert sorted(e["content"] for e in await hear(events, 2)) == ["one", "two"]
        await it.ask("/publish", "three")
        assert [e["content"] for e in await hear(events, 1)] == ["three"]
        second = await it.reach.open(f"/sub/{number}/events")
        assert len(await hear(second, 3)) == 3
        assert "received 3\n" in await it.reach.text(f"/sub/{number}/status")
        assert await it.json(f"/sub/{number}/filter") == [{"kinds": [1]}]
        with refused(errno.EINVAL, "this is no filter"):
            await it.write(f"/sub/{number}/filter", '{"kinds":"x"}')
        await it.ctl("close", path=f"/sub/{number}/ctl")
        assert await events.read(ROOT, 100, 0) == b""
        for opened in (new, events, second, eose):
            opened.close(ROOT)
        assert number not in it.reach.names("/sub")


@pytest.mark.slow
async def test_a_reader_that_falls_behind_is_told(tmp_path: Path) -> None:
    async with alone(tmp_path) as it:
        new = await it.reach.open("/sub/new")
        number = (await new.read(ROOT, 10, 0)).decode().strip()
        await it.write(f"/sub/{number}/filter", "kinds=1")
        events = await it.reach.open(f"/sub/{number}/events")
        await it.ask("/publish", "x")
        await hear(events, 1)
        large = "y" * 60_000
        for n in range(80):
            await it.ask("/publish", f"{n} {large}")
        await until(lambda: it.fs.nostr.pool.links[0].events >= 81)
        heard = await hear(events, 2)
        assert heard[0]["lagged"] > 5
        for opened in (new, events):
            opened.close(ROOT)


@pytest.mark.slow
async def test_what_is_stored_waits_for_its_reader_though_it_is_long(tmp_path: Path) -> None:
    count, text = 100, "y" * 60_000  # together more than the 4 MiB that are kept of what comes
    async with alone(tmp_path) as it:
        for n in range(count):
            await it.ask("/publish", f"{n} {text}")
        new = await it.reach.open("/sub/new")
        number = (await new.read(ROOT, 10, 0)).decode().strip()
        await it.write(f"/sub/{number}/filter", "kinds=1")
        eose = await it.reach.open(f"/sub/{number}/eose")
        with trio.fail_after(20):
            assert await eose.read(ROOT, 1000, 0) == b"own finish\n"
        await it.ask("/publish", "while nobody reads")
        await until(lambda: it.fs.nostr.pool.links[0].events > count)
        events = await it.reach.open(f"/sub/{number}/events")
        said = [event["content"].partition(" ")[0] for event in await hear(events, count + 1)]
        assert sorted(said[:-1], key=int) == [str(n) for n in range(count)]
        assert said[-1] == "while"
        # What was read is not kept for ever.
        await it.ask("/publish", "and more")
        await hear(events, 1)
        assert f"kept {count + 2}\n" not in await it.reach.text(f"/sub/{number}/status")
        for opened in (new, eose, events):
            opened.close(ROOT)


async def test_a_profile_is_files(tmp_path: Path) -> None:
    about = {
        "name": "Ann",
        "about": "line one\nline two",
        "picture": "https://x.example/a.png",
        "n": 1,
    }
    async with alone(tmp_path) as it:
        with refused(errno.ENOENT, "no relay has a profile"):
            await it.reach.read(f"/profile/{NPUB}/name")
        await it.ask("/publish", json.dumps({"kind": 0, "content": json.dumps(about)}))
        listed = [["r", "wss://a.example"], ["r", "wss://b.example", "read"]]
        await it.ask("/publish", json.dumps({"kind": 10_002, "tags": listed}))
        assert await it.reach.text(f"/profile/{NPUB}/name") == "Ann\n"
        assert await it.reach.text(f"/profile/{ANN}/about") == "line one\nline two\n"
        assert json.loads(await it.reach.text(f"/profile/{NPUB}/json")) == about
        assert await it.reach.text(f"/profile/{NPUB}/relays") == (
            "wss://a.example\nwss://b.example read\n"
        )
        with refused(errno.ENOENT, "has no website"):
            await it.reach.read(f"/profile/{NPUB}/website")


async def test_private_messages_reach_their_reader_and_nobody_else(tmp_path: Path) -> None:
    clock = Clock()
    own = RelayFs(tmp_path / "relay", clock=clock)
    ann_npub, bob_npub, eve_npub = (nip19("npub", one.pubkey) for one in SIGNERS.values())
    async with (
        own.running(),
        user(tmp_path / "a", clock, "ann", own=own) as ann,
        user(tmp_path / "b", clock, "bob", own=own) as bob,
        user(tmp_path / "e", clock, "eve", own=own) as eve,
    ):
        inbox = await bob.reach.open(f"/dm/{ann_npub}/inbox")
        [said] = await ann.ask(f"/dm/{bob_npub}/send", "for your eyes")
        assert said["ok"] is True
        [heard] = await hear(inbox, 1)
        assert (heard["text"], heard["from"], heard["at"]) == ("for your eyes", ann_npub, clock.now)
        mine = await ann.reach.open(f"/dm/{bob_npub}/inbox")
        assert (await hear(mine, 1))[0]["text"] == "for your eyes"
        assert await eve.json("/req/kinds=1059") == []
        other = await bob.reach.open(f"/dm/{eve_npub}/inbox")
        assert other.ready() == 0
        for opened in (inbox, mine, other):
            opened.close(ROOT)


async def test_a_job_is_given_and_its_result_read(tmp_path: Path) -> None:
    clock = Clock()
    own = RelayFs(tmp_path / "relay", clock=clock)
    async with (
        own.running(),
        user(tmp_path / "a", clock, "ann", own=own) as ann,
        user(tmp_path / "b", clock, "bob", own=own) as bob,
    ):
        job = await ann.reach.open("/dvm/5050/new", os.O_RDWR)
        await put(job, b"write a poem\n")
        await until(lambda: not ann.fs.nostr.outbox.pending)
        [request] = await bob.json("/req/kinds=5050")
        assert request["tags"] == [["i", "write a poem", "text"]]
        tags = [["e", request["id"]], ["p", ANN]]
        await bob.ask("/publish", json.dumps(
            {"kind": 7000, "tags": [["status", "processing"], *tags]}))  # fmt: skip
        await bob.ask("/publish", json.dumps({"kind": 6050, "content": "roses", "tags": tags}))
        heard = await hear(job)
        assert [one["kind"] for one in heard] == [7000, 6050]
        assert heard[1]["content"] == "roses"
        with refused(errno.EBUSY):
            await put(job, b"another\n")
        job.close(ROOT)


async def test_relays_are_chosen_and_kept(tmp_path: Path) -> None:
    async with alone(tmp_path) as it:
        await it.ctl("relay add wss://a.example", "relay add wss://b.example read", "quorum 2")
        await it.ctl("relay add wss://c.example write", "auth wss://a.example off", "timeout 3")
        await it.ctl("relay del wss://c.example")
        for line, number in (
            ("relay add https://a.example", errno.EINVAL), ("relay add nowhere", errno.EINVAL),
            ("relay del wss://z.example", errno.ENOENT), ("relay", errno.EINVAL),
            ("auth wss://z.example on", errno.ENOENT), ("quorum x", errno.EINVAL),
            ("timeout 0", errno.EINVAL), ("outbox-model maybe", errno.EINVAL),
        ):  # fmt: skip
            with refused(number):
                await it.ctl(line)
        with refused(errno.EINVAL, "write its URL: wss://relay.example.com"):
            await it.ctl("relay add relay.example.com")
    async with alone(tmp_path) as it:
        assert await it.reach.text("/relays") == (
            "wss://a.example/ rw idle no-auth\nwss://b.example/ r idle\n"
        )
        assert "quorum 2\ntimeout 3\n" in await it.reach.text("/status")


async def test_a_signer_elsewhere_signs_and_is_kept(tmp_path: Path) -> None:
    clock = Clock()
    bob = LocalSigner(bytes([2]) * 32, now=lambda: clock.now)
    async with relay(tmp_path / "1", clock) as one, trio.open_nursery() as nursery:
        bunker = Bunker(one.fs.relay.connect(), SIGNERS["eve"], bob, "hush")
        await nursery.start(bunker.run)
        url = f"bunker://{SIGNERS['eve'].pubkey}?relay={quote(one.url, safe='')}&secret=hush"
        async with user(tmp_path / "n", clock, "") as it:
            await it.ctl(f"relay add {one.url}", f"signer {url}")
            with refused(errno.EEXIST, "oanix nostr key remove"):
                await it.ctl(f"signer {url}")
            assert await it.reach.text("/pubkey") == f"{BOB}\n"
            assert (await it.ask("/publish", "by another's hand"))[0]["ok"] is True
            [event] = await it.json("/req/kinds=1")
            assert event["pubkey"] == BOB
            assert bunker.asked == ["get_public_key", "connect", "get_public_key", "sign_event"]
            kept = it.fs._given[2].values["nostr"]
        async with user(tmp_path / "n", clock, "") as it:
            it.fs._given[2].values["nostr"] = kept
            assert (await it.ask("/sign", '{"kind":7}'))[0]["pubkey"] == BOB
            assert bunker.asked[4:] == ["get_public_key", "sign_event"]
            with refused(errno.EINVAL, "this is no bunker"):
                it.fs._given[2].values.clear()
                await it.ctl("signer nowhere")
        nursery.cancel_scope.cancel()


# Relays elsewhere ---------------------------------------------------------------------------------


async def test_each_relay_says_what_it_does_and_the_quorum_decides(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock) as one,
        relay(tmp_path / "2", clock, policy="deny write kind=4 -- use NIP-17") as two,
        user(tmp_path / "n", clock) as it,
    ):
        await it.ctl(f"relay add {one.url}", f"relay add {two.url}", "quorum 2")
        said = await it.ask("/publish", "to both")
        assert {(line["relay"], line["ok"]) for line in said} == {(one.url, True), (two.url, True)}
        with refused(errno.EACCES, f"{two.url}: blocked: use NIP-17"):
            await it.ask("/publish", '{"kind":4}')
        assert len(await one.events("kinds=4")) == 1
        assert len(await it.json("/req/kinds=1")) == 1


@pytest.mark.parametrize(
    ("policy", "line", "number", "words"),
    [
        ("deny write", "x", errno.EACCES, "blocked: "),
        ("pow 100", "x", errno.EINVAL, "pow: "),
        ("allow write auth=" + nip19("npub", BOB) + "\ndeny write -- members", "x",
         errno.EACCES, "restricted: members"),
        ("rate write 1/day by=all", "x\ny", errno.EAGAIN, "rate-limited: "),
    ],
)  # fmt: skip
async def test_a_relays_refusal_is_the_error_of_the_read(
    policy: str, line: str, number: int, words: str, tmp_path: Path
) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock, policy=policy) as one,
        user(tmp_path / "n", clock) as it,
    ):
        await it.ctl(f"relay add {one.url}")
        with refused(number, words):
            await it.ask("/publish", *line.split("\n"))


async def test_a_key_is_proven_to_a_relay_that_asks_for_it(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        relay(
            tmp_path / "1", clock, policy="allow any auth=author\nallow read auth=any\ndeny any"
        ) as one,
        user(tmp_path / "n", clock) as it,
        user(tmp_path / "b", clock, "bob") as shy,
    ):
        await it.ctl(f"relay add {one.url}")
        assert (await it.ask("/publish", "let me in"))[0]["ok"] is True
        assert [e["content"] for e in await it.json("/req/kinds=1")] == ["let me in"]
        await shy.ctl(f"relay add {one.url}", f"auth {one.url} off")
        for question in (shy.ask("/publish", "not by name"), shy.json("/req/kinds=1")):
            with refused(errno.EACCES, "auth-required: "):
                await question
        await shy.ctl(f"auth {one.url} on")
        assert (await shy.ask("/publish", "by name, then"))[0]["ok"] is True


async def test_a_relay_that_nobody_has_chosen_is_not_told_who_asks(tmp_path: Path) -> None:
    clock = Clock()
    rules = "allow read auth=any\ndeny read kind=1 -- say who you are\n"
    async with (
        relay(tmp_path / "1", clock) as shared,
        relay(tmp_path / "2", clock, policy=rules) as home,
        user(tmp_path / "a", clock, "ann") as ann,
        user(tmp_path / "b", clock, "bob") as bob,
    ):
        await bob.ctl(f"relay add {shared.url}", f"relay add {home.url}", "quorum 2")
        listed = {"kind": 10_002, "tags": [["r", home.url]]}
        await bob.ask("/publish", json.dumps(listed))
        await bob.ctl(f"relay del {shared.url}", "quorum 1")
        await bob.ask("/publish", "at home")
        await ann.ctl(f"relay add {shared.url}")
        assert await ann.json(f"/req/kinds=1&authors={BOB}") == []
        keys = [json.loads(line)["keys"] for line in home.fs.relay.connections().splitlines()]
        assert keys == [[], []]
        await ann.ctl(f"relay add {home.url}")
        assert len(await ann.json(f"/req/kinds=1&authors={BOB}")) == 1


async def test_no_relay_and_no_answer_are_told_apart(tmp_path: Path) -> None:
    clock = Clock()
    async with relay(tmp_path / "1", clock) as gone:
        url = gone.url
    async with user(tmp_path / "n", clock) as it:
        with refused(errno.ENOTCONN, "relay add"):
            await it.reach.read("/req/kinds=1")
        await it.ctl(f"relay add {url}", "timeout 20")
        with refused(errno.ENOTCONN, "Connection refused"):
            await it.reach.read("/req/kinds=1")
        with refused(errno.ENOTCONN, "Connection refused"):
            await it.ask("/publish", "later")
        assert "pending 1\n" in await it.reach.text("/status")


async def test_the_rules_of_the_web_hold_for_relays(tmp_path: Path) -> None:
    clock = Clock()
    rules = "allow * https://elsewhere.example/**"
    async with relay(tmp_path / "1", clock) as one, user(tmp_path / "n", clock, rules=rules) as it:
        await it.ctl(f"relay add {one.url}")
        with refused(errno.EACCES):
            await it.reach.read("/req/kinds=1")


async def test_the_outbox_outlives_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    async with relay(tmp_path / "1", clock) as one:
        port, url = one.port, one.url
    async with user(tmp_path / "n", clock) as it:
        await it.ctl(f"relay add {url}")
        await it.write("/publish", "I shall be there")
        link = it.fs.nostr.pool.link(url)
        await until(lambda: link.error is not None and link.state == "idle")
        assert (await it.reach.text("/relays")).startswith(f"{url} rw waiting no connection to")
    async with relay(tmp_path / "1", clock, port=port) as one, user(tmp_path / "n", clock) as it:
        await until(lambda: one.fs.relay.core.stats()["accepted"] == 1)
        assert [event.content for event in await one.events()] == ["I shall be there"]
        await until(lambda: it.fs.nostr.outbox.pending == 0)


@pytest.mark.slow
async def test_two_relays_one_cut_off_and_back_nothing_lost_nothing_twice(tmp_path: Path) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock) as one,
        user(tmp_path / "n", clock) as it,
        user(tmp_path / "w", clock, "bob") as writer,
    ):
        async with relay(tmp_path / "2", clock) as two:
            port, other = two.port, two.url
            await it.ctl(f"relay add {one.url}", f"relay add {other}")
            await writer.ctl(f"relay add {one.url}", f"relay add {other}", "quorum 1")
            new = await it.reach.open("/sub/new")
            number = (await new.read(ROOT, 10, 0)).decode().strip()
            await it.write(f"/sub/{number}/filter", "kinds=1")
            events = await it.reach.open(f"/sub/{number}/events")
            for n in range(10):
                await writer.write("/publish", f"before {n}")
            heard = await hear(events, 10)
        for n in range(10):
            clock.now += 1
            await writer.write("/publish", f"while {n}")
        heard += await hear(events, 10)
        # What only the lost relay gets meanwhile has to come once it is back.
        async with relay(tmp_path / "2", clock, port=port) as two:
            await two.fs.relay.core.submit(_note("only there", clock), _Guest())
            for n in range(10):
                clock.now += 1
                await writer.write("/publish", f"after {n}")
            heard += await hear(events, 11)
            await until(lambda: writer.fs.nostr.outbox.pending == 0)
            texts = [one["content"] for one in heard]
            assert len(texts) == len(set(texts)) == 31
            assert {event.content for event in await two.events()} == set(texts)
            assert events.ready() == 0
        for opened in (new, events):
            opened.close(ROOT)


class _Guest:
    authed: frozenset[str] = frozenset()
    address = "local"


def _note(text: str, clock: Clock) -> Event:
    from oanix.lib.nostr import Template

    return SIGNERS["eve"].sign_now(Template(1, text, (), clock.now))


@pytest.mark.slow
async def test_authors_are_read_where_they_write_and_named_ones_reached_where_they_read(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with (
        relay(tmp_path / "1", clock) as shared,
        relay(tmp_path / "2", clock) as home,
        relay(tmp_path / "3", clock) as inbox,
        user(tmp_path / "a", clock, "ann") as ann,
        user(tmp_path / "b", clock, "bob") as bob,
    ):
        await bob.ctl(f"relay add {shared.url} read", f"relay add {home.url}")
        tags = [["r", home.url, "write"], ["r", inbox.url, "read"]]
        await bob.ask("/publish", json.dumps({"kind": 10_002, "tags": tags}), "at home")
        [event] = await home.events("kinds=10002")
        await shared.fs.relay.core.submit(event, _Guest())
        await ann.ctl(f"relay add {shared.url}")
        found = await ann.json(f"/req/kinds=1&authors={BOB}")
        assert [one["content"] for one in found] == ["at home"]
        assert inbox.fs.relay.connections() == ""
        await ann.ask("/publish", json.dumps({"kind": 1, "content": "hi", "tags": [["p", BOB]]}))
        await until(lambda: ann.fs.nostr.outbox.pending == 0)
        assert {e.content for e in await inbox.events("kinds=1")} == {"hi"}
        assert {e.content for e in await home.events("kinds=1")} == {"at home"}
        await ann.ctl("outbox-model off")
        await ann.ask("/publish", json.dumps({"kind": 1, "content": "you", "tags": [["p", BOB]]}))
        await until(lambda: ann.fs.nostr.outbox.pending == 0)
        assert {e.content for e in await inbox.events("kinds=1")} == {"hi"}
