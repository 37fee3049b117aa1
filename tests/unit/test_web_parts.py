"""Parts of the engine that need no server."""

import errno
import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.web.decode import PIECE, Decoding, can_decode, codings_of
from oanix.lib.web.exchange import Buffer
from oanix.lib.web.resolve import interleave
from oanix.node import WOULD_BLOCK

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: brotli.compress(data, quality=1),
    "zstd": zstd.compress,
}


@given(
    data=st.binary(max_size=2000).map(lambda data: data * 50),
    codings=st.lists(st.sampled_from(sorted(ENCODERS)), max_size=4),
    size=st.integers(1, 5000),
)
def test_what_was_encoded_is_decoded_however_it_is_cut(
    data: bytes, codings: list[str], size: int
) -> None:
    coded = data
    for coding in codings:
        coded = ENCODERS[coding](coded)
    assert can_decode(codings)
    decoding = Decoding.of(codings, len(data) + 10_000)
    pieces = []
    for at in range(0, len(coded), size):
        pieces += decoding.feed(coded[at : at + size])
    decoding.finish()
    assert b"".join(pieces) == data


@given(st.binary(max_size=300), st.sampled_from(sorted(ENCODERS)))
def test_any_bytes_are_decoded_or_refused_with_a_sentence(data: bytes, coding: str) -> None:
    decoding = Decoding.of([coding], 100_000)
    refused: OSError | None = None
    try:
        for piece in decoding.feed(data):
            assert len(piece) <= 2 * PIECE
        decoding.finish()
    except OSError as error:
        refused = error
    if refused is not None:
        assert refused.errno in (errno.EPROTO, errno.EMSGSIZE)
        assert refused.strerror


def test_the_bound_on_the_expanded_size_is_exact() -> None:
    for coding, encode in ENCODERS.items():
        coded = encode(bytes(100_000))
        assert sum(map(len, Decoding.of([coding], 100_000).feed(coded))) == 100_000
        with pytest.raises(OSError, match="99999") as caught:
            list(Decoding.of([coding], 99_999).feed(coded))
        assert caught.value.errno == errno.EMSGSIZE


def test_codings_are_read_from_a_header() -> None:
    assert codings_of(" GZip ,identity,, br") == ["gzip", "br"]
    assert not can_decode(["compress"])
    assert not can_decode(["gzip"] * 5)


@given(
    st.lists(st.binary(min_size=1, max_size=6000)),
    st.lists(st.integers(1, 9000), min_size=1, max_size=50),
)
def test_a_buffer_gives_what_was_put_in_its_order(pieces: list[bytes], sizes: list[int]) -> None:
    buffer = Buffer(10_000)
    for piece in pieces:
        buffer.put(piece)
    whole, got = b"".join(pieces), b""
    assert buffer.held == len(whole)
    for size in sizes:
        taken = buffer.take(size)
        if taken is WOULD_BLOCK:
            assert got == whole
            break
        assert 0 < len(taken) <= size
        got += taken
    assert whole.startswith(got)
    assert buffer.held == len(whole) - len(got)


def test_a_failure_comes_after_what_came_before_it_and_stays() -> None:
    buffer = Buffer(100)
    buffer.put(b"some")
    buffer.end(OSError(errno.EPROTO, "broken"))
    buffer.end()
    assert buffer.take(0) == b""
    assert buffer.take(10) == b"some"
    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            buffer.take(10)


@given(st.lists(st.ip_addresses(v=4).map(str)), st.lists(st.ip_addresses(v=6).map(str)))
def test_families_of_addresses_take_turns(four: list[str], six: list[str]) -> None:
    ordered = interleave([*six, *four])
    assert set(ordered) == {*four, *six}
    assert len(ordered) == len(set(ordered))
    turns = min(len(set(four)), len(set(six)))
    assert [":" in address for address in ordered[: 2 * turns]] == [True, False] * turns
