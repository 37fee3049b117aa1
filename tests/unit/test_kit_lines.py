"""A line that is written acts at its newline, and what goes wrong is the error of that write."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.channel import OpenFile
from oanix.kit import Ctl, Message, Opening, TableService, integer, no_argument
from oanix.kit.lines import LINE_MAX
from tests.reach import ROOT, Reach, refused


class Adder(TableService):
    """Adds up."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.calls: list[str] = []
        self.messages: list[str] = []
        verbs = {"add": self.add, "reset": no_argument(self.reset), "break": self.fail}
        self.grow(
            (
                ("ctl", 0o222, Ctl(verbs)),
                ("say", 0o222, Message(self.say, longest=100)),
            )
        )

    def add(self, argument: str, opening: Opening) -> None:
        self.calls.append(argument)
        self.total += integer(argument, -100, 100)

    def reset(self) -> None:
        self.total = 0

    def fail(self, argument: str, opening: Opening) -> None:
        raise KeyError(argument)

    def say(self, message: str, opening: Opening) -> None:
        if message == "no":
            raise OSError(errno.EPERM, "not that")
        self.messages.append(message)


@pytest.fixture
def adder() -> Adder:
    return Adder()


@pytest.fixture
async def ctl(adder: Adder) -> OpenFile:
    return await Reach.of(adder).open("/ctl", os.O_WRONLY)


async def test_a_command_acts_at_its_newline(adder: Adder, ctl: OpenFile) -> None:
    ctl.try_write(ROOT, b"add 5", 0)
    assert adder.total == 0

    assert ctl.try_write(ROOT, b"\n", 5) == 1

    assert adder.total == 5


async def test_a_write_of_two_commands_does_both(adder: Adder, ctl: OpenFile) -> None:
    assert ctl.try_write(ROOT, b"add 5\nadd 6\n", 0) == 12
    assert adder.total == 11


async def test_blanks_around_a_command_and_empty_lines_do_nothing(
    adder: Adder, ctl: OpenFile
) -> None:
    data = b"\n  add   5 \r\n\t\n"

    assert ctl.try_write(ROOT, data, 0) == len(data)
    assert adder.calls == ["5"]


async def test_an_unknown_command_is_told_which_there_are(ctl: OpenFile) -> None:
    with refused(errno.EINVAL, "'subtract' is no command; write one of: add, reset, break"):
        ctl.try_write(ROOT, b"subtract 5\n", 0)


async def test_a_failing_first_command_fails_the_write_and_stops_it(
    adder: Adder, ctl: OpenFile
) -> None:
    with refused(errno.EINVAL, "'x' is no number from -100 to 100"):
        ctl.try_write(ROOT, b"add x\nadd 1\n", 0)

    assert adder.total == 0
    ctl.flush()


async def test_a_failing_second_command_ends_the_write_before_it(
    adder: Adder, ctl: OpenFile
) -> None:
    data = b"add 5\nadd x\nadd 6\n"

    assert ctl.try_write(ROOT, data, 0) == len(b"add 5\n")
    assert adder.total == 5
    with refused(errno.EINVAL):
        ctl.try_write(ROOT, data[6:], 6)

    assert adder.calls == ["5", "x"], "the failing command is not done again to give its error"


async def test_a_partial_write_that_is_not_continued_gives_its_error_at_the_close(
    adder: Adder, ctl: OpenFile
) -> None:
    ctl.try_write(ROOT, b"add 5\nadd x\n", 0)

    with refused(errno.EINVAL):
        ctl.flush()
    ctl.flush()


async def test_after_a_partial_write_another_command_acts(adder: Adder, ctl: OpenFile) -> None:
    ctl.try_write(ROOT, b"add 5\nadd x\n", 0)

    ctl.try_write(ROOT, b"add 7\n", 0)

    assert adder.total == 12


async def test_a_defect_in_a_command_is_no_error_of_the_command_before(
    adder: Adder, ctl: OpenFile
) -> None:
    assert ctl.try_write(ROOT, b"add 1\nbreak it\n", 0) == 6
    with pytest.raises(KeyError):
        ctl.try_write(ROOT, b"break it\n", 6)


async def test_half_a_line_at_the_last_close_does_nothing_and_errstr_says_so(
    adder: Adder,
) -> None:
    reach = Reach.of(adder)

    await reach.write("/ctl", "add 5")

    assert adder.total == 0
    told = reach.namespace.sentences.of(ROOT)
    assert told == ["ctl: 'add 5' has no newline at its end, so it did nothing"]


async def test_a_flush_before_the_newline_reports_nothing(adder: Adder, ctl: OpenFile) -> None:
    ctl.flush()
    ctl.try_write(ROOT, b"add", 0)
    ctl.flush()
    ctl.try_write(ROOT, b" 5\n", 3)

    assert adder.total == 5


@pytest.mark.parametrize("end", [b"\n", b""])
async def test_a_line_over_the_bound_is_refused(ctl: OpenFile, end: bytes) -> None:
    with refused(errno.EINVAL, "at most 65536 bytes"):
        ctl.try_write(ROOT, b"a" * (LINE_MAX + 1) + end, 0)


async def test_a_line_over_the_bound_is_refused_in_pieces_too(ctl: OpenFile) -> None:
    ctl.try_write(ROOT, b"a" * LINE_MAX, 0)
    with refused(errno.EINVAL, "at most 65536 bytes"):
        ctl.try_write(ROOT, b"a", LINE_MAX)


async def test_a_line_at_the_bound_is_read(adder: Adder, ctl: OpenFile) -> None:
    line = b"add 5".ljust(LINE_MAX) + b"\n"

    assert ctl.try_write(ROOT, line, 0) == len(line)
    assert adder.total == 5


async def test_nul_is_refused_and_forgotten(adder: Adder, ctl: OpenFile) -> None:
    with refused(errno.EINVAL, "NUL"):
        ctl.try_write(ROOT, b"add 5\0\n", 0)

    ctl.try_write(ROOT, b"add 6\n", 0)

    assert adder.total == 6


async def test_a_command_without_argument_refuses_one(adder: Adder, ctl: OpenFile) -> None:
    with refused(errno.EINVAL, "leave out 'now'"):
        ctl.try_write(ROOT, b"reset now\n", 0)


async def test_what_is_no_utf8_is_a_bad_argument_and_no_crash(ctl: OpenFile) -> None:
    with refused(errno.EINVAL):
        ctl.try_write(ROOT, b"add \xff\xfe\n", 0)


async def test_a_ctl_takes_no_reads(ctl: OpenFile) -> None:
    with refused(errno.EBADF):
        ctl.try_read(ROOT, 10, 0)


async def test_two_open_files_do_not_share_half_a_line(adder: Adder) -> None:
    reach = Reach.of(adder)
    one, two = [await reach.open("/ctl", os.O_WRONLY) for _ in range(2)]

    one.try_write(ROOT, b"add ", 0)
    two.try_write(ROOT, b"add 2\n", 0)
    one.try_write(ROOT, b"3\n", 0)

    assert adder.calls == ["2", "3"]


@given(
    lines=st.lists(st.integers(-9, 9), max_size=20),
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=10),
)
async def test_however_lines_are_cut_into_writes_each_acts_once(
    lines: list[int], cuts: list[int]
) -> None:
    adder = Adder()
    ctl = await Reach.of(adder).open("/ctl", os.O_WRONLY)
    data = b"".join(b"add %d\n" % number for number in lines)
    at = turn = 0

    while at < len(data):
        at += ctl.try_write(ROOT, data[at : at + cuts[turn % len(cuts)]], at)  # type: ignore[operator]
        turn += 1

    assert adder.calls == [str(number) for number in lines]
    assert adder.total == sum(lines)


async def test_a_message_ends_at_its_newline_or_at_the_close(adder: Adder) -> None:
    await Reach.of(adder).write("/say", "one\ntwo")

    assert adder.messages == ["one", "two"]


async def test_a_message_that_fails_at_the_close_is_told_in_errstr(adder: Adder) -> None:
    reach = Reach.of(adder)

    await reach.write("/say", "no")

    assert reach.namespace.sentences.of(ROOT) == ["close say: not that"]


async def test_a_message_has_the_bound_of_its_service(adder: Adder) -> None:
    with refused(errno.EINVAL, "at most 100 bytes"):
        await Reach.of(adder).write("/say", "a" * 101)


@pytest.mark.parametrize("text", ["", "-", "+1", "1.0", "1e3", "²", "101", "-101", "9" * 50, "1 2"])
def test_what_is_no_number_in_its_range_is_refused(text: str) -> None:
    with refused(errno.EINVAL, "is no number from -100 to 100"):
        integer(text, -100, 100)
