"""Files in memory hold what was written, holes cost nothing, and no size is too large to refuse."""

import errno
import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.channel import OpenFile
from oanix.services.memfs import MemFs
from oanix.services.memfs.content import CHUNK, PAGE, READ_MAX, Content
from oanix.services.memfs.file import SIZE_MAX
from oanix.stat import Changed
from tests.reach import ALICE, ROOT, Reach, refused

PLENTY = 1 << 40


@pytest.fixture
def reach() -> Reach:
    return Reach.of(MemFs())


@pytest.fixture
def file(reach: Reach) -> OpenFile:
    return reach.at("/").create(ROOT, "f", os.O_RDWR, 0o644)[1]


offsets = st.one_of(
    st.integers(0, 300_000),
    st.sampled_from([0, PAGE - 1, PAGE, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK]),
)
steps = st.one_of(
    st.tuples(st.just("write"), offsets, st.sampled_from([1, 7, PAGE, CHUNK, CHUNK + 3])),
    st.tuples(st.just("truncate"), offsets, st.just(0)),
)


@pytest.mark.slow
@given(steps=st.lists(steps, max_size=12), reads=st.lists(st.tuples(offsets, offsets), max_size=5))
def test_content_is_what_a_plain_array_of_bytes_would_be(
    steps: list[tuple[str, int, int]], reads: list[tuple[int, int]]
) -> None:
    content, plain = Content(), bytearray()
    for number, (what, offset, size) in enumerate(steps):
        if what == "write":
            data = bytes([number + 1]) * size
            assert content.write(data, offset, PLENTY) == size
            plain.extend(bytes(max(0, offset + size - len(plain))))
            plain[offset : offset + size] = data
        else:
            content.truncate(offset)
            plain[offset:] = bytes(max(0, offset - len(plain)))

    assert content.size == len(plain)
    assert content.read(len(plain) + 1, 0) == plain
    for offset, size in reads:
        assert content.read(size, offset) == plain[offset : offset + size]
    assert content.pages * PAGE <= -(-len(plain) // PAGE) * PAGE
    content.truncate(0)
    assert content.pages == 0


@given(room=st.integers(0, 40), offset=offsets, size=st.integers(1, 3 * CHUNK))
def test_a_write_takes_as_many_pages_as_there_is_room_for(
    room: int, offset: int, size: int
) -> None:
    content = Content()

    written = content.write(b"x" * size, offset, room)

    assert content.pages <= room
    assert content.size == (offset + written if written else 0)
    assert content.read(size, offset) == b"x" * written
    if written < size:
        assert content.write(b"x", offset + written, room - content.pages) == 0


def test_a_hole_costs_nothing_and_reads_as_zeros(file: OpenFile) -> None:
    file.try_write(ROOT, b"end", 1 << 40)

    stat = file.stat()
    assert (stat.st_size, stat.st_blocks) == ((1 << 40) + 3, 8)
    assert file.try_read(ROOT, 10, 12345) == bytes(10)
    assert file.try_read(ROOT, 10, (1 << 40) - 2) == b"\0\0end"


def test_blocks_tell_the_memory_that_is_taken(file: OpenFile) -> None:
    file.try_write(ROOT, b"x" * 5000, 0)
    assert file.stat().st_blocks == 16
    file.truncate(ROOT, 4096)
    assert file.stat().st_blocks == 8
    file.truncate(ROOT, 1 << 30)
    assert file.stat().st_blocks == 8
    file.truncate(ROOT, 0)
    assert file.stat().st_blocks == 0


@pytest.mark.parametrize("offset", [2**63 - 1, 2**62, SIZE_MAX])
def test_a_write_beyond_the_largest_file_is_refused(file: OpenFile, offset: int) -> None:
    with refused(errno.EFBIG):
        file.try_write(ROOT, b"x", offset)


def test_a_write_up_to_the_largest_file_is_cut_short(file: OpenFile) -> None:
    assert file.try_write(ROOT, b"abc", SIZE_MAX - 2) == 2
    assert file.try_read(ROOT, 10, SIZE_MAX - 3) == b"\0ab"


@pytest.mark.parametrize("size", [10**15, 2**63 - 1])
def test_a_truncation_to_a_huge_size_is_refused(reach: Reach, file: OpenFile, size: int) -> None:
    with refused(errno.EFBIG):
        file.truncate(ROOT, size)
    with refused(errno.EFBIG):
        reach.at("/f").setattr(ROOT, Changed(size=size))
    assert file.stat().st_size == 0


def test_a_sparse_file_of_the_largest_size_takes_no_memory(file: OpenFile) -> None:
    tracemalloc.start()
    file.truncate(ROOT, SIZE_MAX)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert file.stat().st_size == SIZE_MAX
    assert taken < 100_000


def test_one_read_of_a_hole_is_bounded(file: OpenFile) -> None:
    file.truncate(ROOT, SIZE_MAX)

    answer = file.try_read(ROOT, SIZE_MAX, 0)

    assert len(answer) == READ_MAX  # type: ignore[arg-type]


@pytest.mark.parametrize(("size", "offset"), [(-1, 0), (1, -1)])
def test_negative_sizes_and_offsets_are_refused(file: OpenFile, size: int, offset: int) -> None:
    with refused(errno.EINVAL):
        file.try_read(ROOT, size, offset)
    with refused(errno.EINVAL):
        file.try_write(ROOT, b"x", -1)
    with refused(errno.EINVAL):
        file.truncate(ROOT, -1)


def test_a_read_of_nothing_and_one_past_the_end_are_empty(file: OpenFile) -> None:
    file.try_write(ROOT, b"abc", 0)

    assert file.try_read(ROOT, 0, 0) == b""
    assert file.try_read(ROOT, 10, 3) == b""
    assert file.try_read(ROOT, 10, 2**63 - 1) == b""


async def test_two_appenders_lose_no_line(reach: Reach) -> None:
    reach.at("/").create(ROOT, "log", os.O_RDWR, 0o644)[1].close(ROOT)
    one, two = [await reach.open("/log", os.O_WRONLY | os.O_APPEND) for _ in range(2)]

    for number in range(2000):
        one.try_write(ROOT, b"one %d\n" % number, 0)
        two.try_write(ROOT, b"two %d\n" % number, 0)

    lines = (await reach.text("/log")).splitlines()
    expected = [f"{who} {number}" for number in range(2000) for who in ("one", "two")]
    assert lines == expected


async def test_an_unlinked_file_lives_until_its_last_close(reach: Reach) -> None:
    root = reach.at("/")
    file = root.create(ROOT, "gone", os.O_RDWR, 0o644)[1]
    file.try_write(ROOT, b"x" * 10_000, 0)
    channel = reach.at("/gone")
    root.unlink(ROOT, "gone")

    assert file.stat().st_nlink == 0
    file.try_write(ROOT, b"y", 10_000)
    assert file.try_read(ROOT, 3, 9_999) == b"xy"
    assert root.statfs(ROOT).bfree < root.statfs(ROOT).blocks
    file.close(ROOT)

    assert root.statfs(ROOT).bfree == root.statfs(ROOT).blocks
    with refused(errno.ESTALE):
        await channel.open(ROOT, os.O_RDONLY)
    with refused(errno.ESTALE):
        channel.setattr(ROOT, Changed(size=10))


async def test_truncating_at_the_open_empties_the_file(reach: Reach, file: OpenFile) -> None:
    file.try_write(ROOT, b"abc", 0)

    await reach.open("/f", os.O_RDONLY | os.O_TRUNC)

    assert file.stat().st_size == 0


async def test_a_file_keeps_to_how_it_was_opened(reach: Reach, file: OpenFile) -> None:
    with refused(errno.EBADF):
        (await reach.open("/f", os.O_RDONLY)).try_write(ROOT, b"x", 0)
    with refused(errno.EBADF):
        (await reach.open("/f", os.O_WRONLY)).try_read(ROOT, 1, 0)
    with refused(errno.EINVAL):
        (await reach.open("/f", os.O_RDONLY)).truncate(ROOT, 0)
    with refused(errno.ENOTDIR):
        await reach.open("/f", os.O_DIRECTORY)


async def test_the_version_changes_with_the_content(reach: Reach, file: OpenFile) -> None:
    before = file.version

    file.try_write(ROOT, b"x", 0)
    written = file.version
    reach.at("/f").setattr(ROOT, Changed(mode=0o600))

    assert before < written == file.version
    (await reach.open("/f", os.O_WRONLY | os.O_TRUNC)).close(ALICE)
    assert file.version > written
