"""Mask: whatever the value, its form and the chunks, it never comes out, and lengths are equal."""

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from oanix.lib.vault.forms import forms
from oanix.lib.vault.mask import Mask

VALUES = (
    st.text(st.characters(exclude_categories=["C"]), min_size=4, max_size=40)
    .map(str.strip)
    .filter(lambda text: len(text.encode()) >= 4 and text.isprintable())
)
AROUND = st.binary(max_size=20)
CUTS = st.lists(st.integers(0, 300), max_size=12)

ENCODERS = {
    "exact": lambda text: text.encode(),
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64 without padding": lambda text: base64.b64encode(text.encode()).rstrip(b"="),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()),
    "base64 in JSON of PHP": lambda text: base64.b64encode(text.encode()).replace(b"/", b"\\/"),
    "base64 in a URL": lambda text: quote(base64.b64encode(text.encode()), safe="").encode(),
    "every byte": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()).encode(),
    "every byte, upper": lambda text: "".join(f"%{b:02X}" for b in text.encode()).encode(),
    "quote": lambda text: quote(text).encode(),
    "quote all": lambda text: quote(text, safe="").encode(),
    "quote all, lower": lambda text: _lower(quote(text, safe="")).encode(),
    "a form": lambda text: quote_plus(text).encode(),
    "encodeURIComponent": lambda text: quote(text, safe="!'()*").encode(),
    "JSON": lambda text: json.dumps(text).encode()[1:-1],
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False).encode()[1:-1],
    "JSON of PHP": lambda text: json.dumps(text).replace("/", "\\/").encode()[1:-1],
    "JSON of Go": lambda text: _go(text).encode(),
}


def _lower(text: str) -> str:
    parts = text.split("%")
    return parts[0] + "".join(f"%{part[:2].lower()}{part[2:]}" for part in parts[1:])


def _go(text: str) -> str:
    text = json.dumps(text, ensure_ascii=False)[1:-1]
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def streamed(mask: Mask, data: bytes, cuts: list[int]) -> bytes:
    stream = mask.stream()
    out = []
    at = 0
    for cut in [*sorted(cuts), len(data)]:
        out.append(stream.feed(data[at : max(at, cut)]))
        at = max(at, cut)
    out.append(stream.finish())
    return b"".join(out)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_value_never_comes_out_in_any_form_over_any_chunks(encoder: str) -> None:
    encode = ENCODERS[encoder]

    @given(VALUES, AROUND, AROUND, CUTS)
    def check(value: str, before: bytes, after: bytes, cuts: list[int]) -> None:
        shown = encode(value)
        mask = Mask(forms(value))
        data = before + shown + after
        out = streamed(mask, data, cuts)
        assert len(out) == len(data)
        assert out[len(before) : len(before) + len(shown)] == b"*" * len(shown)
        assert shown not in out
        assert mask.data(data) == out

    check()


@given(VALUES, st.binary(max_size=7), st.binary(max_size=7), CUTS, st.booleans())
def test_base64_of_a_longer_text_keeps_nothing_but_shared_bits(
    value: str, before: bytes, after: bytes, cuts: list[int], safe: bool
) -> None:
    encode = base64.urlsafe_b64encode if safe else base64.b64encode
    data = encode(before + value.encode() + after)
    out = streamed(Mask(forms(value)), data, cuts)
    assert len(out) == len(data)
    first = -(-len(before) * 8 // 6)
    last = (len(before) + len(value.encode())) * 8 // 6
    assert out[first:last] == b"*" * (last - first)


@given(VALUES, st.binary(max_size=300), CUTS)
@example("aaaab", b"aaaaaaaaaaaa", [3, 5])
@example("abab", b"abaababa", [1, 2, 3])
def test_what_does_not_hold_the_value_is_untouched(
    value: str, data: bytes, cuts: list[int]
) -> None:
    literals = forms(value)
    assume(not any(literal in data for literal in literals))
    mask = Mask(literals)
    assert streamed(mask, data, cuts) == data == mask.data(data)
    assert mask.text(data.decode("latin-1")) == data.decode("latin-1")


SMALL = st.lists(st.sampled_from(b"ab"), max_size=30).map(bytes)


@given(st.lists(SMALL.filter(bool), min_size=1, max_size=4), SMALL, CUTS)
def test_a_stream_gives_what_the_whole_gives_where_values_overlap(
    literals: list[bytes], data: bytes, cuts: list[int]
) -> None:
    mask = Mask(literals)
    covered = [False] * len(data)
    for literal in literals:
        for at in range(len(data)):
            if data.startswith(literal, at):
                covered[at : at + len(literal)] = [True] * len(literal)
    expected = bytes(42 if hidden else byte for byte, hidden in zip(data, covered, strict=True))
    assert mask.data(data) == expected
    assert streamed(mask, data, cuts) == expected


@given(SMALL, SMALL)
def test_only_a_possible_beginning_is_held_back(literal: bytes, data: bytes) -> None:
    stream = Mask([literal]).stream()
    out = stream.feed(data)
    most = max((n for n in range(len(literal)) if data.endswith(literal[:n])), default=0)
    assert len(out) == len(data) - most
    assert stream.held == most


def test_text_that_ends_before_the_value_comes_out_at_once() -> None:
    stream = Mask(forms("hunter2-hunter2")).stream()
    assert stream.feed(b"data: hello\n\n") == b"data: hello\n\n"
    assert stream.feed(b"data: hunter2-") == b"data: "
    assert stream.feed(b"\n") == b"hunter2-\n"
    assert stream.finish() == b""


@given(VALUES, st.text(max_size=10), st.text(max_size=10))
def test_a_text_is_masked_at_its_length_in_characters(value: str, before: str, after: str) -> None:
    text = before + value + after
    masked = Mask(forms(value)).text(text)
    assert len(masked) == len(text)
    assert masked[len(before) : len(before) + len(value)] == "*" * len(value)


def test_a_header_read_as_latin_1_is_searched_for_its_bytes() -> None:
    value = "schlüssel-ü"
    read = f"token={value}!".encode().decode("latin-1")
    assert Mask(forms(value)).text(read) == "token=" + "*" * len(value.encode()) + "!"


def test_basic_auth_is_masked_whole() -> None:
    value = "pässword/?>"
    coded = base64.b64encode(f"robot:{value}".encode())
    assert Mask(forms(value, f"robot:{value}")).data(coded) == b"*" * len(coded)


def test_no_mask_is_inactive_and_changes_nothing() -> None:
    mask = Mask()
    assert not mask.active
    assert mask.data(b"x") == b"x"
    assert mask.text("é") == "é"
    assert mask.stream().feed(b"x") == b"x"
    assert Mask(forms("value")).active


def test_a_mask_does_not_tell_its_values() -> None:
    assert "hunter" not in repr(Mask(forms("hunter2")))


def test_a_token_has_few_forms() -> None:
    """Each form costs a search of every answer."""
    assert len(forms("ghp_0123456789abcdefghijABCDEFGHIJ")) <= 10


def test_the_longest_value_is_masked_in_time() -> None:
    value = "a" * 65_535 + "b"
    mask = Mask([value.encode()])
    data = b"a" * 65_000 + value.encode() + b"c" * 100
    stream = mask.stream()
    out = b"".join(stream.feed(data[at : at + 4096]) for at in range(0, len(data), 4096))
    out += stream.finish()
    assert out == b"a" * 65_000 + b"*" * 65_536 + b"c" * 100
