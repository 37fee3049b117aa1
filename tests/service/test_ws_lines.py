"""Lines of `in` and `out`: what is written is what is read back, and is one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.websocket import Message
from oanix.services.ws.lines import from_line, to_line

NEAR = st.sampled_from(['{"text":', '{"base64":', '{"text":"a"}', "{", "\n", "\u2028", "\x85", "é"])
TEXTS = st.lists(NEAR | st.text(), max_size=4).map("".join)


@pytest.mark.parametrize("envelopes", [False, True])
@given(message=TEXTS | st.binary())
def test_a_line_is_the_message_again(envelopes: bool, message: Message) -> None:
    line = to_line(message, envelopes=envelopes)
    assert line.endswith(b"\n")
    assert len(line.decode().splitlines()) <= 1
    assert from_line(line[:-1], envelopes=envelopes) == message


@given(one=TEXTS | st.binary(), other=TEXTS | st.binary())
def test_two_messages_are_never_one_line(one: Message, other: Message) -> None:
    assert (to_line(one) == to_line(other)) == (one == other)


@given(line=st.binary().filter(lambda line: b"\n" not in line))
def test_any_line_is_a_message_or_refused(line: bytes) -> None:
    try:
        message = from_line(line)
    except OSError:
        return
    assert from_line(to_line(message)[:-1]) == message


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("hello", b"hello\n"),
        ("", b"\n"),
        ('{"a": 1}', b'{"a": 1}\n'),
        ("a\nb", b'{"text":"a\\nb"}\n'),
        ("a\tb", b'{"text":"a\\tb"}\n'),
        ("\x9b", b'{"text":"\\u009b"}\n'),
        ('{"text":1}', b'{"text":"{\\"text\\":1}"}\n'),
        (b"\0\1\2", b'{"base64":"AAEC"}\n'),
        (b"", b'{"base64":""}\n'),
        ("☃", "☃\n".encode()),
    ],
)
def test_the_table_of_the_page_holds(message: Message, line: bytes) -> None:
    assert to_line(message) == line
