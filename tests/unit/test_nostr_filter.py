"""Filters: what they must be, and what they match."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.nostr import Event, Filter, Invalid
from oanix.lib.nostr.codec import decode, encode

A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.mark.parametrize(
    "decoded",
    [
        None, [], "x", 1, {"ids": []}, {"ids": "x"}, {"ids": [A[1:]]}, {"ids": [A.upper()]},
        {"ids": [1]}, {"ids": None}, {"authors": [A + "a"]}, {"authors": {}}, {"kinds": []},
        {"kinds": [-1]}, {"kinds": [65_536]}, {"kinds": [1.0]}, {"kinds": [True]},
        {"kinds": ["1"]}, {"#e": ["x"]}, {"#p": [A.upper()]}, {"#t": []}, {"#t": [1]},
        {"#t": "x"}, {"since": -1}, {"since": "1"}, {"until": 1.5}, {"until": True},
        {"limit": -1}, {"limit": "5"}, {"limit": 2**60}, {"search": 1},
        {"kinds": list(range(10_001))},
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused(decoded: object) -> None:
    with pytest.raises(Invalid):
        Filter.parse(decoded)


def test_bounds_that_filters_may_have() -> None:
    assert Filter.parse({"limit": 0}).limit == 0
    assert Filter.parse({"limit": 10**9}).limit == 10**9
    since_after_until = Filter.parse({"since": 2, "until": 1})
    assert not since_after_until.matches(event())
    # Unknown fields, and tags with other names, ask for nothing.
    assert Filter.parse({"#ab": ["x"], "#é": ["x"], "#1": ["x"], "new": 1}) == Filter()


def event(**fields: object) -> Event:
    return Event.of(
        {"id": A, "pubkey": B, "created_at": 1, "kind": 1, "tags": [], "content": "",
         "sig": "c" * 128, **fields}
    )  # fmt: skip


hexes = st.sampled_from([A, B, C])
values = st.sampled_from([A, B, "x", "y", ""])
lists = st.lists
filters = st.fixed_dictionaries(
    {},
    optional={
        "ids": lists(hexes, min_size=1), "authors": lists(hexes, min_size=1),
        "kinds": lists(st.integers(0, 3), min_size=1), "since": st.integers(0, 4),
        "until": st.integers(0, 4), "limit": st.integers(0, 4), "search": st.text(max_size=3),
        "#t": lists(values, min_size=1), "#e": lists(hexes, min_size=1),
        "#T": lists(values, min_size=1),
    },
)  # fmt: skip
events = st.builds(
    event,
    id=hexes, pubkey=hexes, kind=st.integers(0, 3), created_at=st.integers(0, 4),
    tags=lists(
        lists(st.sampled_from(["t", "e", "T", "tt", A, B, "x", ""]), min_size=1, max_size=3),
        max_size=4,
    ),
)  # fmt: skip


def naive(asked: dict[str, list[object]], one: Event) -> bool:
    """Match as the text of NIP-01 reads, word by word."""
    for name, wanted in asked.items():
        if name == "ids" and one.id not in wanted:
            return False
        if name == "authors" and one.pubkey not in wanted:
            return False
        if name == "kinds" and one.kind not in wanted:
            return False
        if name == "since" and one.created_at < wanted:
            return False
        if name == "until" and one.created_at > wanted:
            return False
        if name[0] == "#" and not any(
            len(tag) > 1 and tag[0] == name[1] and tag[1] in wanted for tag in one.tags
        ):
            return False
    return True


@given(filters, events)
def test_a_filter_matches_what_nip_01_says(asked: dict[str, list[object]], one: Event) -> None:
    assert Filter.parse(asked).matches(one) is naive(asked, one)


@given(filters)
def test_a_filter_is_written_as_it_is_read(asked: dict[str, list[object]]) -> None:
    parsed = Filter.parse(asked)
    assert Filter.parse(decode(encode(parsed.decoded()))) == parsed
