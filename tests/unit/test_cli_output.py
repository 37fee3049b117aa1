"""How the command line writes names."""

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from oanix.cli.output import escape, escape_name, json_name, raw
from oanix.path import decode

names = st.binary(min_size=1, max_size=40).map(decode)


@given(names)
def test_a_name_on_a_terminal_does_nothing_to_it(name: str) -> None:
    assert escape(name).isprintable()


@given(names, names)
def test_two_names_look_different_on_a_terminal(one: str, other: str) -> None:
    assert (escape_name(one) == escape_name(other)) == (one == other)


@given(names)
def test_a_name_in_a_pipe_is_the_bytes_that_the_host_has(name: str) -> None:
    assert decode(raw(name)) == name


@given(names)
def test_a_name_in_json_is_valid_unicode_and_exact(name: str) -> None:
    fields = json.loads(json.dumps(json_name("name", name)))
    fields["name"].encode("utf-8")
    exact = (
        base64.b64decode(fields["name_b64"]) if "name_b64" in fields else fields["name"].encode()
    )
    assert decode(exact) == name


def test_escapes_are_those_that_people_know() -> None:
    assert escape("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert escape(decode(b"\xff\xfe")) == "\\xff\\xfe"
    assert escape("txt\u202egpj") == "txt\\u202egpj"
    assert escape("\U000e0001") == "\\U000e0001"
    assert escape_name("back\\slash é") == "back\\\\slash é"


def test_text_that_stands_for_no_bytes_can_still_be_shown() -> None:
    assert raw("\ud800") == b"?"
