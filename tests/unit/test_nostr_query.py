"""A filter as a name of a path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix import path as paths
from oanix.lib.nostr import Filter, Invalid
from oanix.lib.nostr.nip19 import encode
from oanix.lib.nostr.query import ALL, format_query, parse_query

KEY = "ab" * 32
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
hexes = st.binary(min_size=32, max_size=32).map(bytes.hex)
filters = st.fixed_dictionaries(
    {},
    optional={
        "ids": st.lists(hexes, min_size=1, max_size=3),
        "authors": st.lists(hexes, min_size=1, max_size=3),
        "kinds": st.lists(st.integers(0, 65_535), min_size=1),
        "#t": st.lists(texts, min_size=1),
        "#e": st.lists(hexes, min_size=1, max_size=3),
        "#Z": st.lists(texts, min_size=1),
        "since": st.integers(0, 1 << 40),
        "until": st.integers(0, 1 << 40),
        "limit": st.integers(0, 1000),
        "search": texts,
    },
)


@given(filters)
def test_what_is_written_is_read_again_and_is_one_name(decoded: dict[str, object]) -> None:
    one = Filter.parse(decoded)
    name = format_query(one)
    assert parse_query(name) == one
    if len(name) < 255:
        paths.check_name(name)


def test_people_write_it_in_short() -> None:
    npub, note = encode("npub", KEY), encode("note", KEY)
    found = parse_query(f"kinds=1,7&kinds=0&t=oanix&authors={npub}&ids={note}&limit=20")
    assert found == Filter.parse(
        {"kinds": [0, 1, 7], "#t": ["oanix"], "authors": [KEY], "ids": [KEY], "limit": 20}
    )
    assert parse_query(f"#p={npub}") == Filter.parse({"#p": [KEY]})
    assert parse_query("search=two%20words%2C%20one") == Filter.parse({"search": "two words, one"})
    assert parse_query(ALL) == Filter()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "'' is no part of a filter"),
        ("kinds", "'kinds' is no part of a filter"),
        ("kinds=", "'kinds=' is no part of a filter"),
        ("kinds=one", "kinds is a whole number, and not 'one'"),
        ("kinds=70000", "kinds is a list of numbers"),
        ("kinds=-1", "kinds is a whole number"),
        ("limit=1&limit=2", "limit is given twice"),
        ("search=a&search=b", "search is given twice"),
        ("colour=red", "'colour' is unknown"),
        ("authors=me", ""),
        ("#t=%ff", "'%ff' is no UTF-8"),
        (".git", "'.git' is no part"),
    ],
)
def test_what_is_no_filter_is_told(name: str, sentence: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_query(name)
    assert caught.value.reason.startswith(sentence)
