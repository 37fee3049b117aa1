"""The body of an answer, as readers by offset see it: compared with the bytes that it has."""

import errno
from collections.abc import Callable

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from oanix.errors import fault
from oanix.node import READABLE, WOULD_BLOCK, WouldBlock
from oanix.services.http.body import Body, BodyHandle
from oanix.services.http.window import SIZE as WINDOW
from oanix.services.http.window import Window
from tests.reach import refused

SIZE = 3 * WINDOW
DATA = bytes(range(251)) * (2 * SIZE // 251)


class Served:
    """A body as an engine gives it: in pieces, some at once and some after a wait."""

    def __init__(
        self, data: bytes, pieces: list[int], *, known: bool = True, error: OSError | None = None
    ) -> None:
        self.length = len(data) if known else None
        self.closed = False
        self._data = data
        self._at = 0
        self._pieces = pieces
        self._next = 0
        self._error = error

    def try_read(self, size: int) -> bytes | WouldBlock:
        step = self._pieces[self._next % len(self._pieces)]
        self._next += 1
        return WOULD_BLOCK if not step else self._give(min(step, size))

    async def read(self, size: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._give(min(max(self._pieces), size))

    def _give(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        if not piece and self._error is not None:
            raise self._error
        return piece

    def ready(self, wake: Callable[[], None] | None, key: object) -> int:
        return READABLE

    def forget(self, key: object) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Again:
    """Asks for the same body, wholly or in part."""

    def __init__(self, data: bytes, *, parts: bool) -> None:
        self.parts = parts
        self.asked: list[int] = []
        self._data = data

    async def __call__(self, offset: int) -> tuple[Served, int]:
        self.asked.append(offset)
        begins = offset if self.parts else 0
        return Served(self._data[begins:], [70_000]), begins


large = st.lists(st.sampled_from([0, 16_384, 65_536, 300_000]), min_size=1, max_size=5).filter(any)
steps = st.lists(st.sampled_from([0, 1, 100, 65_536, 300_000]), min_size=1, max_size=5).filter(any)
reads = st.lists(
    st.tuples(st.integers(0, SIZE + 10), st.sampled_from([0, 1, 4096, 131_072, WINDOW])),
    max_size=5,
)


@pytest.mark.slow
@settings(max_examples=40)
@given(large, reads, st.booleans())
async def test_a_read_of_any_place_gives_what_is_there_or_espipe(
    pieces: list[int], wanted: list[tuple[int, int]], parts: bool
) -> None:
    data = DATA[:SIZE]
    again = Again(data, parts=parts)
    body = Body(Served(data, pieces), again)
    for offset, size in wanted:
        try:
            got = await body.read(size, offset)
        except OSError as error:
            assert error.errno == errno.ESPIPE  # noqa: PT017
            assert len(again.asked) == 3
        else:
            assert got == data[offset : offset + size]
        assert body.position <= SIZE


@pytest.mark.slow
@given(steps, st.lists(st.sampled_from([1, 4096, 131_072, 2 * WINDOW]), min_size=1, max_size=4))
async def test_a_stream_is_read_to_its_end_by_reads_of_any_size(
    pieces: list[int], sizes: list[int]
) -> None:
    data = DATA[:5_000]
    ends: list[OSError | None] = []
    body = Body(Served(data, pieces, known=False), at_end=ends.append)
    handle = BodyHandle(body, body.close)
    got = bytearray()
    number = 0
    while piece := await handle.read(max(sizes[number % len(sizes)], 512), 0):
        got += piece
        number += 1
    assert bytes(got) == data
    assert ends == [None]
    handle.close()


@pytest.mark.slow
@given(st.lists(st.integers(1, 400_000), max_size=12), st.data())
def test_a_window_keeps_its_size_and_gives_every_range_of_it(
    pieces: list[int], data: st.DataObject
) -> None:
    window = Window()
    at = 0
    for size in pieces:
        window.add(DATA[at : at + size])
        at += size
        assert min(at, WINDOW) <= window.end - window.start <= WINDOW + 400_000
    begin = data.draw(st.integers(window.start, window.end))
    end = data.draw(st.integers(begin, window.end))
    assert window.get(begin, end) == DATA[begin:end]


def test_a_body_that_comes_byte_by_byte_costs_no_more() -> None:
    window = Window()
    for at in range(100_000):
        window.add(DATA[at : at + 1])
        assert window.get(at, at + 10) == DATA[at : at + 1]
    assert len(window._pieces) < 5


async def test_what_came_before_an_error_is_given_and_then_the_error_again_and_again() -> None:
    ends: list[OSError | None] = []
    broken = Served(DATA[:100], [60], error=fault(errno.ECONNRESET, "gone"))
    broken.length = 200
    body = Body(broken, at_end=ends.append)
    assert await body.read(200, 0) == DATA[:100]
    for _ in range(2):
        with refused(errno.ECONNRESET, "gone"):
            await body.read(100, 100)
    assert await body.read(50, 50) == DATA[50:100]
    assert [end and end.errno for end in ends] == [errno.ECONNRESET]


async def test_the_end_of_a_known_length_needs_no_further_read() -> None:
    ends: list[OSError | None] = []
    body = Body(Served(DATA[:100], [100]), at_end=ends.append)
    assert body.try_read(100, 0) == DATA[:100]
    assert ends == [None]
    body.close()
    assert body.try_read(100, 0) == DATA[:100]


async def test_a_body_without_bytes_has_ended() -> None:
    ends: list[OSError | None] = []
    body = Body(Served(b"", [1]), at_end=ends.append)
    assert body.try_read(10, 0) == b""
    assert ends == [None]


@pytest.mark.parametrize(("size", "offset"), [(-1, 0), (0, -1)])
async def test_negative_numbers_are_refused(size: int, offset: int) -> None:
    with refused(errno.EINVAL):
        Body(Served(b"x", [1])).try_read(size, offset)


async def test_an_attempt_that_was_cancelled_is_made_again() -> None:
    class Slow(Again):
        async def __call__(self, offset: int) -> tuple[Served, int]:
            if not self.asked:
                self.asked.append(offset)
                await trio.sleep_forever()
            return await super().__call__(offset)

    data = DATA[:SIZE]
    again = Slow(data, parts=False)
    first = Served(data, [WINDOW])
    body = Body(first, again)
    await body.read(WINDOW, SIZE - WINDOW)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(body.read, 10, 0)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert again.asked == [0]
    assert await body.read(10, 0) == data[:10]
    assert first.closed
