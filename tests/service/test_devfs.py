"""The files of /dev do what Linux's do."""

import errno
import os

import pytest

from oanix.channel import OpenFile
from oanix.errors import Denied
from oanix.namespace import Namespace
from oanix.services.devfs import READ_MAX, DevFs, format_time
from oanix.stat import Changed
from tests.reach import ALICE, BOB, ROOT, Reach, refused


@pytest.fixture
def reach() -> Reach:
    return Reach.of(DevFs(now=lambda: 1_767_323_045_678_901_234))


async def _open(reach: Reach, name: str) -> OpenFile:
    return await reach.open(f"/{name}", os.O_RDWR)


def test_it_has_these_files_and_no_more(reach: Reach) -> None:
    assert reach.names("/") == ["README", "null", "zero", "full", "random", "time", "errstr", "why"]


@pytest.mark.parametrize(
    ("name", "listed"), [("null", True), ("zero", False), ("full", False), ("random", False)]
)
def test_what_has_no_end_is_not_listed(reach: Reach, name: str, listed: bool) -> None:
    assert reach.at(f"/{name}").listed is listed


async def test_null_is_empty_and_swallows_everything(reach: Reach) -> None:
    null = await _open(reach, "null")

    assert null.try_write(ROOT, b"x" * 1000, 0) == 1000
    assert await null.read(ROOT, 100, 0) == b""


async def test_zero_gives_zeros_and_swallows_everything(reach: Reach) -> None:
    zero = await _open(reach, "zero")

    assert zero.try_write(ROOT, b"x" * 1000, 0) == 1000
    assert zero.try_read(ROOT, 100, 2**62) == bytes(100)


async def test_full_gives_zeros_and_is_full(reach: Reach) -> None:
    full = await _open(reach, "full")

    assert full.try_read(ROOT, 10, 0) == bytes(10)
    assert full.try_write(ROOT, b"", 0) == 0
    with refused(errno.ENOSPC):
        full.try_write(ROOT, b"x", 0)


async def test_random_gives_bytes_of_its_source() -> None:
    asked: list[int] = []

    def source(size: int) -> bytes:
        asked.append(size)
        return b"r" * size

    random = await _open(Reach.of(DevFs(randomness=source)), "random")

    assert random.try_read(ROOT, 10, 0) == b"r" * 10
    assert random.try_write(ROOT, b"seed", 0) == 4
    assert asked == [10]


async def test_random_differs_each_time(reach: Reach) -> None:
    random = await _open(reach, "random")

    assert random.try_read(ROOT, 32, 0) != random.try_read(ROOT, 32, 0)


@pytest.mark.parametrize("name", ["zero", "full", "random"])
async def test_a_large_read_is_given_in_full_up_to_a_bound(reach: Reach, name: str) -> None:
    device = await _open(reach, name)

    assert len(await device.read(ROOT, 300_000, 0)) == 300_000
    assert len(await device.read(ROOT, 2**40, 0)) == READ_MAX


@pytest.mark.parametrize("name", ["null", "zero", "full", "random"])
async def test_devices_can_be_truncated_to_nothing(reach: Reach, name: str) -> None:
    device = await reach.open(f"/{name}", os.O_WRONLY | os.O_TRUNC)

    device.truncate(ROOT, 0)
    reach.at(f"/{name}").setattr(ALICE, Changed(size=0))
    assert reach.stat(f"/{name}").st_size == 0


async def test_a_device_keeps_to_how_it_was_opened(reach: Reach) -> None:
    with refused(errno.EBADF):
        (await reach.open("/null", os.O_RDONLY)).try_write(ROOT, b"x", 0)
    with refused(errno.EBADF):
        (await reach.open("/null", os.O_WRONLY)).try_read(ROOT, 1, 0)


async def test_time_is_a_line_of_rfc_3339(reach: Reach) -> None:
    opened = await reach.open("/time")

    assert opened.size == 28
    assert opened.try_read(ROOT, 100, 0) == b"2026-01-02T03:04:05.678901Z\n"


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (0, "1970-01-01T00:00:00.000000Z\n"),
        (-1, "1969-12-31T23:59:59.999999Z\n"),
        (999, "1970-01-01T00:00:00.000000Z\n"),
        (4_102_444_800_000_000_000, "2100-01-01T00:00:00.000000Z\n"),
    ],
)
def test_times_are_exact(now: int, line: str) -> None:
    assert format_time(now) == line


async def test_errstr_tells_the_last_ten_sentences_of_the_session_newest_last(
    reach: Reach,
) -> None:
    for number in range(12):
        reach.namespace.sentences.add(ALICE, f"sentence {number}")
    reach.namespace.sentences.add(BOB, "not for alice")

    told = await reach.by(ALICE).text("/errstr")

    assert told.splitlines() == [f"sentence {number}" for number in range(2, 12)]


async def test_a_line_written_to_errstr_is_added(reach: Reach) -> None:
    await reach.by(ALICE).write("/errstr", "my own\nand\x07another\n")

    assert await reach.by(ALICE).text("/errstr") == "my own\nand\\x07another\n"
    assert await reach.by(BOB).text("/errstr") == ""


async def test_a_sentence_is_short(reach: Reach) -> None:
    with refused(errno.EINVAL, "at most 1024"):
        await reach.write("/errstr", "x" * 1025 + "\n")


async def test_errstr_is_that_of_the_namespace_it_is_opened_through() -> None:
    service = DevFs()
    one, two = Namespace(), Namespace()
    one.mount(service, "/")
    two.mount(service, "/")

    await Reach(one).write("/errstr", "in one\n")

    assert await Reach(two).text("/errstr") == ""
    assert await Reach(one).text("/errstr") == "in one\n"


async def test_why_tells_the_last_refusal_by_a_rule_and_what_would_allow_it(reach: Reach) -> None:
    assert await reach.text("/why") == "no rule has refused anything to you\n"
    denied = Denied(
        "no rule allows it", what="GET https://a.example/", rule="policy line 2: deny *",
        remedy="allow GET https://a.example/",
    )  # fmt: skip
    reach.namespace.sentences.report(denied, ROOT, "open /cap/http/get")

    assert await reach.text("/why") == (
        "asked GET https://a.example/\n"
        "refused-by policy line 2: deny *\n"
        "because no rule allows it\n"
        "allow-with allow GET https://a.example/\n"
    )
    assert "no rule has" in await reach.by(ALICE).text("/why")
