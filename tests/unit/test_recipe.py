"""Recipes as text: what is written is read back, and what cannot be read says where and why."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oanix.path import decode
from oanix.recipe import (
    LINE_MAX,
    Bind,
    Line,
    Mount,
    RecipeError,
    Seal,
    Unmount,
    format_recipe,
    parse,
    quote,
)
from oanix.table import Access

WORD = st.binary(max_size=20).filter(lambda raw: b"\0" not in raw).map(decode)
PATH = WORD.map(lambda word: "/" + word)
NAME = st.from_regex(r"[a-z][a-z0-9-]*", fullmatch=True)
ACCESS = st.sampled_from(Access)
OPTIONS = st.dictionaries(NAME, WORD, max_size=3)
SOURCE = st.builds(lambda name, argument: f"{name}:{argument}", NAME, WORD) | NAME
LINE: st.SearchStrategy[Line] = st.one_of(
    st.builds(Mount, SOURCE, PATH, ACCESS, OPTIONS),
    st.builds(Bind, PATH, PATH, st.sampled_from(["", "-b", "-a"]), st.booleans(), ACCESS, OPTIONS),
    st.builds(Unmount, PATH),
)


@given(st.lists(LINE), st.booleans())
@example([Unmount("/" + decode(b"\xff\xfe\n\"'\\ \t#"))], True)
@example([Mount('x:a "b" \\', "/'", Access.RO, {"k": "", "l": "=="})], False)
@example([Bind("/NFC é", "/e\u0301 \u202e\ufeff", "-b", True)], False)
def test_what_is_written_is_read_back_as_the_same_lines(lines: list[Line], sealed: bool) -> None:
    if sealed:
        lines = [*lines, Seal()]
    text = format_recipe(lines)
    assert [placed.line for placed in parse(text)] == lines
    assert format_recipe(placed.line for placed in parse(text)) == text
    assert text.count("\n") == len(lines)


@given(WORD)
def test_a_quoted_word_is_one_printable_word(word: str) -> None:
    assert quote(word).isprintable()
    [placed] = parse(f"unmount /{quote(word)}")
    assert placed.line == Unmount("/" + word)


@given(st.text(max_size=60))
@example("\ud800")
@example("unmount /\ud800")
@example("unmount /caf\udcc3\udca9")
def test_any_text_is_read_or_refused_with_its_place(text: str) -> None:
    lines, error = read(text)
    if error is not None:
        assert error.line >= 1
        assert error.column >= 1
        assert error.strerror == f"file:{error.line}:{error.column}: {error.sentence}"
    else:
        assert read(format_recipe(lines)) == (lines, None)


def read(text: str) -> tuple[list[Line], RecipeError | None]:
    try:
        return [placed.line for placed in parse(text, "file")], None
    except RecipeError as error:
        return [], error


def test_the_forms_of_the_manual_are_read() -> None:
    text = (
        "# a comment\n"
        "\n"
        "mount host:/home/me /workspace ro hide=a,b\t# to the end of the line\n"
        "  bind -b -c /a /b append\n"
        'bind -ca \'/a b\' "/c\\"\\\\\\n\\t\\xff"\n'
        "unmount /x#y\n"
        "seal"
    )
    assert [(placed.number, placed.line) for placed in parse(text)] == [
        (3, Mount("host:/home/me", "/workspace", Access.RO, {"hide": "a,b"})),
        (4, Bind("/a", "/b", "-b", True, Access.APPEND)),
        (5, Bind("/a b", '/c"\\\n\t\udcff', "-a", True)),
        (6, Unmount("/x#y")),
        (7, Seal()),
    ]


def test_a_service_and_its_argument_are_told_apart() -> None:
    assert Mount("host:/a:b", "/").service == "host"
    assert Mount("host:/a:b", "/").argument == "/a:b"
    assert Mount("mem", "/").argument is None
    assert Mount("mem:", "/").argument == ""


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("mont x /", "1:1", "'mont' is no operation; write one of: mount, bind, unmount, seal"),
        ("mount", "1:6", "SERVICE is missing; write: mount SERVICE[:ARGUMENT] PATH"),
        ("mount mem", "1:10", "PATH is missing; write: mount"),
        ("mount :x /a", "1:7", "the service has no name"),
        ("\nmount mem a", "2:11", "PATH begins with '/'; write '/a'"),
        ("mount mem /a rx", "1:14", "'rx' is no option; write ro, append or OPTION=VALUE"),
        ("mount mem /a ro =1", "1:17", "'=1' is no option"),
        ("mount mem /a k=1 k=2", "1:18", "the option 'k' is given twice"),
        ("mount mem /a k=1 ro", "1:18", "'ro' stands before the options; write ro OPTION=VALUE"),
        ("bind /a", "1:8", "TARGET is missing; write: bind [-b|-a] [-c] SOURCE TARGET"),
        ("bind -x /a /b", "1:6", "'-x' is no flag; write -b or -a, and -c"),
        ("bind -ab /a /b", "1:6", "'-ab' is no flag"),
        ("bind -a -b /a /b", "1:9", "-b and -a exclude each other"),
        ("bind - /a /b", "1:6", "'-' is no flag"),
        ("unmount", "1:8", "PATH is missing; write: unmount PATH"),
        ("unmount /a /b", "1:12", "one word too many; write: unmount PATH"),
        ("seal now", "1:6", "one word too many; write: seal"),
        ("seal\nseal", "2:1", "nothing can follow seal; make it the last line"),
        ("seal\n# fine\nunmount /a", "3:1", "nothing can follow seal"),
        ("unmount '/a", "1:9", "a quote is left open; close it with '"),
        ('unmount "/a b', "1:9", 'a quote is left open; close it with "'),
        ('unmount "/a\\', "1:12", "a backslash in quotes goes before"),
        ('unmount "/a\\q"', "1:12", "a backslash in quotes goes before"),
        ('unmount "/a\\x4"', "1:12", "a backslash in quotes goes before"),
        ("unmount /a\r\n", "1:11", "holds a carriage return; end lines with LF alone"),
        ("unmount /\0", "1:10", "holds a NUL"),
        ('unmount "/\\x00"', "1:11", "holds a NUL"),
        ("\ufeffseal", "1:1", "begins with a byte order mark; save the file as UTF-8 without one"),
        ("seal \ud800", "1:6", "holds a lone surrogate"),
        ("unmount /" + "a" * LINE_MAX, f"1:{LINE_MAX + 1}", f"at most {LINE_MAX} characters"),
    ],
)
def test_a_line_that_cannot_be_read_says_where_and_what_to_write(
    text: str, place: str, words: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(text, "agent.ns")
    assert str(caught.value.strerror).startswith(f"agent.ns:{place}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n# end", "   "])
def test_the_last_line_may_end_as_it_likes(end: str) -> None:
    assert len(parse("unmount /a" + end)) == 1


def test_an_error_of_doing_points_at_a_word() -> None:
    [placed] = parse("\n bind  /a   /b", "file")
    assert "file:2:13: no such place" in str(placed.error("no such place", 2))
    assert "file:2:2: refused" in str(placed.error("refused"))


@pytest.mark.slow
def test_ten_thousand_lines_are_read() -> None:
    text = "".join(f'bind -a "/s/{n} \\xff" /t/{n} ro kind={n}\n' for n in range(10_000))
    placed = parse(text)
    assert len(placed) == 10_000
    assert parse(format_recipe(one.line for one in placed))[-1].line == placed[-1].line
