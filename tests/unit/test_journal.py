"""The journal: what is recorded, in which form, and what is kept."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from oanix.caller import Caller
from oanix.errors import Denied
from oanix.journal import Anchor, Limits, Trust, verify
from oanix.journal.chain import GENESIS, follows, position, sealed
from oanix.journal.record import body
from oanix.operation import Kind, is_watched
from oanix.services.devfs import DevFs
from oanix.stat import Changed
from oanix.table import Access
from tests.reach import refused
from tests.unit.journals import ME, Kept

FIELDS = [
    "seq", "time", "who", "mount", "service", "op", "path", "target", "detail", "result", "rule",
    "read", "written", "errors", "ms", "hash",
]  # fmt: skip


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def shown(kept: Kept) -> list[tuple[object, ...]]:
    """What was done, to what, and how it ended."""
    said = [
        (record["op"], record["path"], record.get("target") or record.get("detail"),
         record["result"])
        for record in kept.operations()
    ]  # fmt: skip
    return [tuple(field for field in line if field) for line in said]


async def test_every_change_is_recorded_with_who_what_and_how_it_ended(kept: Kept) -> None:
    async with kept.recording() as (client, _):
        client.mkdir("/new")
        client.rename("/new", "/d/old")
        client.symlink("../f", "/d/link")
        client.link("/f", "/g")
        client.unlink("/g")
        client.rmdir("/d/old")
        client.channel("/f").setattr(ME, Changed(mode=0o100600, mtime_ns=5))
        await client.write("/made", b"12345")
    assert shown(kept) == [
        ("mkdir", "/new", "ok"),
        ("rename", "/new", "/d/old", "ok"),
        ("symlink", "/d/link", "../f", "ok"),
        ("link", "/g", "/f", "ok"),
        ("unlink", "/g", "ok"),
        ("rmdir", "/d/old", "ok"),
        ("setattr", "/f", "mode=0600 times", "ok"),
        ("create", "/made", "ok"),
        ("close", "/made", "ok"),
    ]
    last = kept.operations()[-1]
    assert (last["read"], last["written"]) == (0, 5)
    assert (last["mount"], last["service"]) == ("/", "tree")
    who = {"principal": "owner", "uid": 1000, "pid": 7, "session": "3", "request": "r1"}
    assert last["who"] == {**who, "door": "test"}


async def test_what_is_only_read_is_not_recorded_but_at_a_capability_it_is(kept: Kept) -> None:
    async with kept.recording() as (client, _):
        await client.read("/f")
        client.listdir("/d")
        await client.read("/cap/call")
    assert shown(kept) == [("open", "/cap/call", "read", "ok"), ("close", "/cap/call", "ok")]
    assert kept.operations()[-1]["read"] == len(b"answer")


async def test_what_was_refused_is_recorded_too(kept: Kept) -> None:
    async with kept.recording() as (client, _):
        client.channel("/").namespace.mount(
            client.channel("/").entry.service, "/ro", Access.RO, source="tree"
        )
        with refused(errno.ENOENT):
            client.unlink("/nothing")
        with refused(errno.EROFS):
            client.mkdir("/ro/new")
        with refused(errno.EROFS):
            await client.write("/ro/f", b"x")
    assert shown(kept) == [
        ("unlink", "/nothing", "ENOENT"),
        ("mkdir", "/ro/new", "EROFS"),
        ("open", "/ro/f", "write truncate", "EROFS"),
    ]
    assert kept.operations()[-1]["mount"] == "/ro"


async def test_a_file_that_stays_open_counts_its_failures(kept: Kept) -> None:
    async with kept.recording() as (client, _):
        client.channel("/").namespace.mount(DevFs(), "/dev")
        async with client.open("/dev/full", os.O_WRONLY) as file:
            for _ in range(2):
                with refused(errno.ENOSPC):
                    await file.write(b"there is no room for this")
    last = kept.operations()[-1]
    assert (last["op"], last["result"]) == ("close", "ENOSPC")
    assert (last["written"], last["errors"]) == (0, 2)


async def test_query_values_at_a_capability_are_masked(kept: Kept) -> None:
    async with kept.recording() as (client, _):
        await client.read("/cap/q?key=secret&b")
    assert {record["path"] for record in kept.operations()} == {"/cap/q?key=***&b"}
    assert b"secret" not in b"".join(file.read_bytes() for file in kept.segments)


async def test_binds_unmounts_and_a_seal_are_recorded_as_lines_of_a_recipe(kept: Kept) -> None:
    async with kept.recording() as (client, _):
        namespace = client.channel("/").namespace
        namespace.bind("/d", "/e", access=Access.RO)
        child = namespace.fork()
        child.unmount("/cap")
        child.seal()
        namespace.unmount("/e")
        child.root.lookup(ME, "d")[0].mkdir(ME, "new", 0o755)
    said = [str(record["detail"]) for record in kept.records() if record["op"] == "namespace"]
    assert said[0].startswith("mount tree /\n")
    assert said[1:] == ["bind /d /e ro", "unmount /cap", "seal", "unmount /e"]
    assert shown(kept) == [("mkdir", "/d/new", "ok")]


async def test_records_are_one_line_of_ascii_with_the_fields_in_their_order(kept: Kept) -> None:
    name = 'a\nb"\\\udcff\u202e\U0001f512'
    async with kept.recording() as (client, _):
        client.mkdir(f"/{name}")
    text = b"".join(file.read_bytes() for file in kept.segments)
    assert text.isascii()
    assert len(text.splitlines()) == len(kept.records())
    assert kept.operations()[0]["path"] == f"/{name}"
    for record in kept.records():
        places = [FIELDS.index(field) for field in record]
        assert places == sorted(places)


@given(st.text(), st.text(), st.text(), st.integers(0, 2**63), st.floats(0, 4e9))
def test_any_operation_is_a_sound_record(
    path: str, target: str, session: str, uid: int, when: float
) -> None:
    caller = Caller(uid=uid, session=session)
    entry = (when, caller, "/", "s", "rename", path, target, "", errno.EXDEV, "", -1, -1, 0, 0.1)
    line, digest = sealed(GENESIS, body(1, entry))
    raw = line.encode("ascii")
    assert raw.count(b"\n") == 1
    assert follows(raw[:-1], GENESIS)
    assert position(raw[:-1]) == (1, digest)
    read = json.loads(raw)
    assert (read.get("path", ""), read.get("target", "")) == (path, target)
    assert (read["who"]["uid"], read["result"]) == (uid, "EXDEV")


def test_a_refusal_by_a_rule_names_the_rule() -> None:
    denied = Denied("no", what="GET x", rule="policy line 3: deny *", remedy="allow GET x")
    entry = (0.0, ME, "/c", "http", "open", "/c/x", "", "", 13, denied.rule, -1, -1, 0, 0.1)
    read = json.loads(body(1, entry) + "}")
    assert (read["result"], read["rule"]) == ("EACCES", "policy line 3: deny *")


async def test_files_of_a_journal_belong_to_its_user_alone(kept: Kept) -> None:
    await kept.write(["a"])
    for file in (*kept.segments, Path(kept.anchor.path)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for folder in (kept.journal, os.path.dirname(kept.anchor.path)):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


async def test_a_journal_goes_on_where_it_ended(kept: Kept) -> None:
    for name in "abc":
        await kept.write([name])
    assert [record["seq"] for record in kept.records()] == list(range(1, 13))
    assert [record["op"] for record in kept.records()] == [
        "start",
        "namespace",
        "mkdir",
        "stop",
    ] * 3
    assert kept.verify().sound


async def test_records_are_written_while_it_runs_without_being_asked(kept: Kept) -> None:
    async with kept.recording() as (client, journal):
        client.mkdir("/new")
        with trio.fail_after(20):
            while not kept.operations():  # noqa: ASYNC110 (a file tells nobody)
                await trio.sleep(0.01)
        finding = kept.verify()
        assert finding.sound
        assert journal.status()["authenticated"] == "yes"


async def test_a_full_segment_is_followed_by_the_next(kept: Kept) -> None:
    await kept.write("abcdefgh", Limits(segment_bytes=600))
    assert len(kept.segments) > 3
    assert [record["seq"] for record in kept.records()] == list(range(1, 12))
    assert kept.verify().sound


async def test_the_oldest_segments_go_when_too_much_is_kept(kept: Kept) -> None:
    await kept.write("abcdefghijklmnop", Limits(segment_bytes=600, kept_bytes=2_000))
    finding = kept.verify()
    assert finding.sound
    assert finding.first == kept.records()[0]["seq"] != 1
    assert finding.notes[-1].startswith("pruned: records ")
    assert sum(file.stat().st_size for file in kept.segments) < 4_000
    kept.segments[0].unlink()
    problem = kept.verify().problem
    assert problem is not None
    assert (problem.what, problem.number) == ("missing", finding.first)


async def test_what_waits_is_bounded_and_what_is_lost_is_counted(kept: Kept) -> None:
    async with kept.recording(queue_max=3) as (client, journal):
        await journal.flush()
        for number in range(10):
            client.mkdir(f"/{number}")
        assert journal.status()["lost"] == "7"
        await journal.flush()
        assert "lost" not in journal.status()
    [lost] = [record for record in kept.records() if record["op"] == "lost"]
    assert lost["detail"] == "7 records could not be kept: too many at once"
    finding = kept.verify()
    assert finding.sound
    assert finding.notes[0].startswith("lost: 7 records")


async def test_only_one_writes_to_a_journal(kept: Kept) -> None:
    async with kept.recording():
        with refused(errno.EAGAIN, "another process writes"):
            async with kept.make().running():
                pass


async def test_without_a_key_the_anchor_is_not_authenticated_and_verify_says_so(
    kept: Kept,
) -> None:
    kept.authenticator = None
    await kept.write(["a"])
    finding = kept.verify()
    assert finding.sound
    assert finding.trust is Trust.NO_TAG
    later = Kept(kept.folder)
    assert later.verify().trust is Trust.NO_TAG
    await later.write(["b"])
    assert later.verify().trust is Trust.GENUINE
    assert verify(kept.journal, Anchor(kept.anchor.path)).trust is Trust.NO_KEY


async def test_the_clock_going_back_changes_no_order(kept: Kept) -> None:
    async with kept.recording() as (client, journal):
        for number, jump in enumerate((0, -86_400, 172_800)):
            kept.clock.time += jump
            client.mkdir(f"/{number}")
            await journal.flush()
    times = [str(record["time"])[8:10] for record in kept.operations()]
    assert times == ["15", "14", "16"]
    assert kept.verify().sound


async def test_a_journal_does_not_watch_single_reads_and_writes(kept: Kept) -> None:
    async with kept.recording() as (client, _):
        namespace = client.channel("/").namespace
        watched = {kind for kind in Kind if is_watched(namespace, kind)}
    assert not watched & {Kind.READ, Kind.WRITE, Kind.WALK, Kind.STAT, Kind.READDIR}
    assert {Kind.CREATE, Kind.CLOSE, Kind.UNLINK} < watched
