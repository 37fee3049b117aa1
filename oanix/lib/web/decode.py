"""Content codings, decoded in small pieces and within bounds (RFC 9110, section 8.4).

gzip, deflate, br and zstd, nested up to four deep. No input makes more than one piece of output in
memory; a body that expands beyond its bound, or beyond a thousandfold, is a bomb (EMSGSIZE).
"""

import errno
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped]
from attrs import define, field
from backports import zstd

from oanix.errors import fault

PIECE: Final = 64 << 10
"""Largest piece that a decoder gives, in bytes (brotli may give a little more)."""

NESTED_MAX: Final = 4
RATIO_MAX: Final = 1000
EMPTY_MAX: Final = 1000
"""How many members or frames of one body may be empty, each of which costs a decoder."""

RATIO_FROM: Final = 10 << 20
"""From how many bytes on a ratio over RATIO_MAX is one of a bomb."""

ACCEPTED: Final = "gzip, deflate, br, zstd"
"""What is asked for (Accept-Encoding) when the request does not say."""


class _Decoder(Protocol):
    """One coding. complete: what came so far may end here. ends: how many members have ended."""

    complete: bool
    ends: int

    def feed(self, data: bytes) -> Iterator[bytes]: ...


class _Zlib:
    """gzip, in any number of members, and deflate, with a zlib header or, as some send it, raw."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._begun = b""
        self._inflate = zlib.decompressobj(wbits=31) if gzip else None
        self.complete = True
        self.ends = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._inflate is None:
            self._begun += data
            if len(self._begun) < 2:
                self.complete = not self._begun
                return
            data, self._begun = self._begun, b""
            self._inflate = zlib.decompressobj(wbits=15 if _has_zlib_header(data) else -15)
        inflate = self._inflate
        while True:
            if inflate.eof:
                data = data.lstrip(b"\0")  # padding behind the last member (gzip(1))
                if not data or not self._gzip:
                    return
                inflate = self._inflate = zlib.decompressobj(wbits=31)
            piece = inflate.decompress(data, PIECE)
            self.complete = inflate.eof
            self.ends += inflate.eof
            data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            if piece or inflate.eof:
                yield piece
            # A full piece may have more behind it without any input.
            if not data and len(piece) < PIECE:
                return


def _has_zlib_header(data: bytes) -> bool:
    """Tell a zlib stream (RFC 1950, section 2.2) from a raw one."""
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0


class _Brotli:
    """br (RFC 7932)."""

    def __init__(self) -> None:
        self._state = brotli.Decompressor()
        self.complete = True
        self.ends = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece: bytes = self._state.process(data, output_buffer_limit=PIECE)
            self.complete = self._state.is_finished()
            data = b""
            if piece:
                yield piece
            # It says that it can take more even where a full piece has more behind it.
            if self.complete or (len(piece) < PIECE and self._state.can_accept_more_data()):
                return


class _Zstd:
    """zstd (RFC 8878), in any number of frames; a window of at most 8 MiB (RFC 9659)."""

    def __init__(self) -> None:
        self._state = self._new()
        self.complete = True
        self.ends = 0

    @staticmethod
    def _new() -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 23})

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._state.eof:
                if not data:
                    return
                self._state = self._new()
            piece = self._state.decompress(data, PIECE)
            self.complete = self._state.eof
            self.ends += self._state.eof
            data = self._state.unused_data if self._state.eof else b""
            if piece or self._state.eof:
                yield piece
            if not self._state.eof and self._state.needs_input:
                return


_DECODERS: Final[dict[str, Callable[[], _Decoder]]] = {
    "gzip": lambda: _Zlib(gzip=True),
    "x-gzip": lambda: _Zlib(gzip=True),
    "deflate": lambda: _Zlib(gzip=False),
    "br": _Brotli,
    "zstd": _Zstd,
}


def codings_of(value: str) -> list[str]:
    """Read a Content-Encoding header: the codings in the order in which they were applied."""
    words = (word.strip().lower() for word in value.split(","))
    return [word for word in words if word and word != "identity"]


def can_decode(codings: Sequence[str]) -> bool:
    """Tell whether a body under these codings can be decoded."""
    return len(codings) <= NESTED_MAX and all(coding in _DECODERS for coding in codings)


@define(eq=False)
class _Stage:
    name: str
    decoder: _Decoder
    given: int = 0


@define(eq=False)
class Decoding:
    """Decodes one body.

    limit: how many bytes it may have when decoded. `feed` gives the pieces lazily: whoever stops
    asking has stopped the decoder. A piece may be empty, which says that there was work.
    """

    limit: int
    _stages: list[_Stage]
    _taken: int = field(default=0, init=False)

    @classmethod
    def of(cls, codings: Sequence[str], limit: int) -> "Decoding":
        """Make it for codings that `can_decode` accepts."""
        return cls(limit, [_Stage(name, _DECODERS[name]()) for name in reversed(codings)])

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode a piece. Raises OSError EMSGSIZE for a bomb, EPROTO for what cannot be decoded."""
        self._taken += len(data)
        return self._through(0, data)

    def _through(self, index: int, data: bytes) -> Iterator[bytes]:
        if index == len(self._stages):
            yield data
            return
        stage = self._stages[index]
        try:
            for piece in stage.decoder.feed(data):
                self._count(stage, len(piece))
                if piece:
                    yield from self._through(index + 1, piece)
                else:
                    yield b""
        except (zlib.error, brotli.error, zstd.ZstdError) as error:
            raise fault(
                errno.EPROTO, f"the body is not the {stage.name} that its headers promise"
            ) from error

    def _count(self, stage: _Stage, size: int) -> None:
        stage.given += size
        if stage.decoder.ends > EMPTY_MAX + stage.given:
            raise fault(errno.EMSGSIZE, f"the {stage.name} is empty parts: it is taken for a bomb")
        if stage.given > self.limit:
            raise fault(
                errno.EMSGSIZE,
                f"the body expands to more than {self.limit} bytes; a rule with size= allows more",
            )
        if stage.given > RATIO_FROM and stage.given > RATIO_MAX * self._taken:
            raise fault(
                errno.EMSGSIZE,
                f"the body expands more than {RATIO_MAX}-fold: it is taken for a bomb;"
                " ask for it with Accept-Encoding: identity",
            )

    def finish(self) -> None:
        """Check that nothing is missing at the end. Raises OSError EPROTO."""
        for stage in self._stages:
            if not stage.decoder.complete:
                raise fault(errno.EPROTO, f"the body ends in the middle of its {stage.name}")
