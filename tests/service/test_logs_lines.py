"""Lines: what is written in any pieces comes out as the same lines."""

from hypothesis import given
from hypothesis import strategies as st

from oanix.services.logs.lines import LINE_MAX, Line, Lines

chunks = st.lists(st.binary(max_size=40) | st.text("a\nü€𝄞", max_size=12).map(str.encode))


@given(chunks)
def test_lines_do_not_depend_on_how_they_were_written(written: list[bytes]) -> None:
    lines = Lines()
    found = [line for chunk in written for line in lines.feed(chunk)]
    last = lines.end()
    whole = b"".join(written)
    expected = whole.split(b"\n")
    assert [line.raw for line in found] == expected[:-1]
    assert (last.raw if last else b"") == expected[-1]


@given(chunks, st.integers(4, 9))
def test_the_pieces_of_a_long_line_are_the_line(written: list[bytes], bound: int) -> None:
    lines = Lines(bound)
    found = []
    for chunk in written:
        found += lines.feed(chunk)
        assert lines.held <= bound
    if last := lines.end():
        found.append(last)
    whole, line = [], b""
    for piece in found:
        assert len(piece.raw) <= bound
        line += piece.raw
        if not piece.more:
            whole.append(line)
            line = b""
    assert line == b""
    text = b"".join(written)
    assert whole == text.split(b"\n")[: len(whole)]
    assert len(whole) == text.count(b"\n") + (not text.endswith(b"\n") and bool(text))


@given(st.text("aü€𝄞", min_size=1, max_size=60), st.integers(4, 9))
def test_a_piece_of_text_ends_between_two_characters(text: str, bound: int) -> None:
    lines = Lines(bound)
    pieces = lines.feed(text.encode() + b"\n")
    assert "".join(piece.raw.decode() for piece in pieces) == text


@given(chunks, chunks, chunks, st.integers(4, 20))
def test_what_is_taken_back_was_never_fed(
    before: list[bytes], undone: list[bytes], after: list[bytes], bound: int
) -> None:
    tried, plain = Lines(bound), Lines(bound)
    for chunk in before:
        assert tried.feed(chunk) == plain.feed(chunk)
    for chunk in undone:
        mark = tried.mark()
        tried.feed(chunk)
        tried.back(mark)
    for chunk in after:
        assert tried.feed(chunk) == plain.feed(chunk)
    assert tried.end() == plain.end()


def test_a_line_of_the_bound_is_whole_and_one_byte_more_is_two_pieces() -> None:
    lines = Lines()
    assert lines.feed(b"x" * LINE_MAX + b"\n") == [Line(b"x" * LINE_MAX)]
    assert lines.feed(b"x" * (LINE_MAX + 1) + b"\n") == [
        Line(b"x" * LINE_MAX, 1, more=True),
        Line(b"x", 2),
    ]


def test_a_single_byte_at_a_time_is_not_slow() -> None:
    lines = Lines()
    for _ in range(100_000):
        lines.feed(b"x")
    assert lines.feed(b"\n") == [Line(b"x" * 100_000)]
