"""Reading `new` makes a conversation: private, counted, and gone when nobody uses it."""

import errno
import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from attrs import evolve

from oanix.channel import OpenFile
from oanix.kit import (
    Conversation,
    Conversations,
    Ctl,
    Folder,
    New,
    Ring,
    Rows,
    Stream,
    TableService,
    Text,
    facts,
    no_argument,
)
from oanix.table import Access
from tests.reach import ALICE, BOB, ROOT, Reach, refused

if TYPE_CHECKING:
    from oanix.service import Change


class Desk(TableService):
    """Talks."""

    name = "desk"

    def __init__(self, quota: int = 3) -> None:
        super().__init__()
        self.ended: list[int] = []
        self.made: list[Conversation] = []
        self.talks = self.conversations(self.begin, quota=quota)
        self.grow([("new", 0o444, New(self.talks))], self.talks)

    def begin(self, talk: Conversation) -> Rows:
        self.made.append(talk)
        ring = Ring()
        inner = Conversations(self, lambda sub: [("x", 0o444, Text("x\n"))], within=talk)
        talk.at_end.append(lambda: self.ended.append(talk.number))
        talk.at_end.append(ring.close)
        return (
            ("ctl", 0o222, Ctl({"close": no_argument(talk.end)})),
            ("status", 0o444, Text(lambda opening: facts(talk.facts()))),
            ("events", 0o444, Stream(ring)),
            ("sub", 0o555, Folder([("new", 0o444, New(inner))], inner)),
        )


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def reach(desk: Desk) -> Reach:
    return Reach.of(desk, ALICE)


async def begin(reach: Reach) -> tuple[OpenFile, str]:
    new = await reach.open("/new")
    number = new.try_read(reach.caller, 100, 0)
    assert isinstance(number, bytes)
    return new, number.decode().strip()


async def test_the_first_read_makes_one_and_gives_its_number(reach: Reach) -> None:
    new = await reach.open("/new")
    assert "1" not in reach.names("/")

    assert new.try_read(ALICE, 100, 0) == b"1\n"
    assert new.try_read(ALICE, 100, 2) == b""
    assert new.try_read(ALICE, 100, 0) == b"1\n"

    assert reach.names("/") == ["README", "new", "1"]
    assert reach.names("/1") == ["ctl", "status", "events", "sub"]


async def test_the_number_can_be_read_a_byte_at_a_time(reach: Reach) -> None:
    new = await reach.open("/new")

    assert [new.try_read(ALICE, 1, at) for at in range(3)] == [b"1", b"\n", b""]


async def test_each_open_makes_its_own(reach: Reach) -> None:
    assert (await begin(reach))[1] == "1"
    assert (await begin(reach))[1] == "2"


async def test_opening_without_reading_makes_none(reach: Reach, desk: Desk) -> None:
    new = await reach.open("/new")
    new.close(ALICE)

    assert reach.names("/") == ["README", "new"]


async def test_it_belongs_to_its_maker_and_is_closed_to_others(reach: Reach) -> None:
    await begin(reach)

    stat = reach.stat("/1")
    assert (stat.st_mode & 0o777, stat.st_uid, stat.st_gid) == (0o500, 1000, 1000)
    assert (await reach.text("/1/status")).startswith("number 1\n")
    for other in (BOB, ROOT, evolve(ALICE, job="j1")):
        with refused(errno.EACCES):
            await reach.by(other).open("/1/status")


async def test_a_job_shares_its_conversations_whatever_the_uid(reach: Reach) -> None:
    await begin(reach.by(evolve(ALICE, job="j1")))

    assert await reach.by(evolve(BOB, job="j1")).text("/1/status")


async def test_what_one_may_have_is_bounded_for_each_maker(reach: Reach) -> None:
    held = [await begin(reach) for _ in range(3)]

    with refused(errno.EMFILE, "you have 3 conversations here"):
        await reach.open("/new")
    assert (await begin(reach.by(BOB)))[1] == "4"
    await reach.write("/1/ctl", "close\n")

    assert (await begin(reach))[1] == "5"
    assert len(held) == 3


async def test_opens_of_new_count_before_they_are_read(reach: Reach) -> None:
    opened = [await reach.open("/new") for _ in range(3)]
    with refused(errno.EMFILE):
        await reach.open("/new")

    for file in opened:
        file.close(ALICE)

    assert (await begin(reach))[1] == "1"


async def test_ctl_close_ends_it_and_its_streams(reach: Reach, desk: Desk) -> None:
    await begin(reach)
    events = await reach.open("/1/events")

    await reach.write("/1/ctl", "close\n")

    assert desk.ended == [1]
    assert reach.names("/") == ["README", "new"]
    assert events.try_read(ALICE, 10, 0) == b""
    events.close(ALICE)


async def test_a_file_found_before_the_end_cannot_be_opened_after_it(reach: Reach) -> None:
    await begin(reach)
    status = reach.at("/1/status")

    await reach.write("/1/ctl", "close\n")

    with refused(errno.ENOENT):
        await status.open(ALICE, os.O_RDONLY)


async def test_its_beginning_and_its_end_are_announced(reach: Reach, desk: Desk) -> None:
    changes: list[Change] = []
    desk.changes.subscribe(changes.append)

    await begin(reach)
    await reach.write("/1/ctl", "close\n")

    named = [change for change in changes if change.name is not None]
    assert [(change.qid, change.name) for change in named] == [(desk.root.qid, "1")] * 2


async def test_it_lives_while_new_or_one_of_its_files_is_open(
    reach: Reach, desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    async with desk.running():
        new, _ = await begin(reach)
        await trio.sleep(1000)
        status = await reach.open("/1/status")
        new.close(ALICE)
        await trio.sleep(1000)
        assert desk.ended == []
        status.close(ALICE)
        await trio.sleep(59)
        assert desk.ended == []
        await trio.sleep(2)
        assert desk.ended == [1]


async def test_use_begins_the_idle_time_anew(
    reach: Reach, desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    async with desk.running():
        new, _ = await begin(reach)
        new.close(ALICE)
        await trio.sleep(50)
        await reach.read("/1/status")
        await trio.sleep(50)
        assert desk.ended == []
        await trio.sleep(11)
        assert desk.ended == [1]


async def test_the_idle_time_is_shown(reach: Reach) -> None:
    await begin(reach)

    assert await reach.text("/1/status") == "number 1\nopen-files 2\nidle-limit 60\n"


async def test_the_end_of_the_service_ends_them_all(reach: Reach, desk: Desk) -> None:
    async with desk.running():
        await begin(reach)
        await begin(reach)
        await trio.testing.wait_all_tasks_blocked()

    assert desk.ended == [1, 2]


async def test_conversations_within_one_keep_it_and_end_with_it(
    reach: Reach, desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    async with desk.running():
        outer, _ = await begin(reach)
        inner = await reach.open("/1/sub/new")
        assert inner.try_read(ALICE, 10, 0) == b"1\n"
        assert await reach.text("/1/sub/1/x") == "x\n"
        outer.close(ALICE)
        await trio.sleep(100)
        assert desk.ended == []
        with refused(errno.EACCES):
            await reach.by(BOB).open("/1/sub/new")
        await reach.write("/1/ctl", "close\n")
        assert desk.ended == [1]
        inner.close(ALICE)


async def test_an_idle_conversation_within_one_ends_alone(
    reach: Reach, desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    async with desk.running():
        await begin(reach)
        inner = await reach.open("/1/sub/new")
        inner.try_read(ALICE, 10, 0)
        inner.close(ALICE)
        await trio.sleep(61)

        assert reach.names("/1/sub") == ["new"]
        assert desk.ended == []


async def test_a_mount_that_is_read_only_makes_none(desk: Desk) -> None:
    reach = Reach.of(desk, ALICE)
    reach.namespace.mount(desk, "/ro", Access.RO)

    with refused(errno.EROFS):
        await reach.open("/ro/new")


async def test_new_is_not_listed_for_programs_that_read_everything(reach: Reach) -> None:
    assert not reach.at("/new").listed


@pytest.mark.slow
async def test_a_hundred_thousand_opens_of_new_stay_within_the_quota(reach: Reach) -> None:
    opened, refusals = 0, set()
    for _ in range(100_000):
        try:
            await reach.open("/new")
            opened += 1
        except OSError as error:
            refusals.add(error.errno)

    assert (opened, refusals) == (3, {errno.EMFILE})


class Refusing(TableService):
    """Begins nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.cleaned = 0
        self.talks = self.conversations(self.begin, quota=1)
        self.grow([("new", 0o444, New(self.talks))], self.talks)

    def begin(self, talk: Conversation) -> Rows:
        def clean() -> None:
            self.cleaned += 1

        talk.at_end.append(clean)
        raise OSError(errno.EHOSTUNREACH, "not today")


async def test_one_that_cannot_begin_is_cleaned_up_and_not_counted() -> None:
    service = Refusing()
    reach = Reach.of(service)

    for tries in (1, 2):
        new = await reach.open("/new")
        with refused(errno.EHOSTUNREACH, "not today"):
            new.try_read(ROOT, 10, 0)
        new.close(ROOT)
        assert service.cleaned == tries

    assert reach.names("/") == ["README", "new"]


async def test_a_defect_at_the_end_of_one_does_not_keep_it(
    reach: Reach, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    await begin(reach)
    desk.made[0].at_end.insert(0, lambda: 1 / 0)

    await reach.write("/1/ctl", "close\n")

    assert desk.ended == [1]
    assert "the end of conversation 1 failed" in caplog.text


async def test_its_name_is_never_remembered_by_a_door(reach: Reach) -> None:
    await begin(reach)

    assert reach.at("/1").caching == 0
