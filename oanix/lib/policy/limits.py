"""Limits: what a rule lets a request take, written as `rate=10/s size=10M time=30s`."""

import re
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from oanix.lib.policy.rate import Rate

SIZE_MAX: Final = 2**63 - 1
TIME_MAX_S: Final = 7 * 86_400

_SIZES: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_TIMES: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_SIZE: Final = re.compile(r"([0-9]{1,19})([KMGT]?)")
_TIME: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|min|h)")


@frozen
class Limits:
    """How often, how much of an answer's body, and how long; None is no limit."""

    rate: Rate | None = None
    size: int | None = None
    time_s: float | None = None

    def words(self) -> list[str]:
        """Write them as a rule has them."""
        return [
            *([f"rate={self.rate}"] if self.rate else ()),
            *([f"size={_write_size(self.size)}"] if self.size is not None else ()),
            *([f"time={_write_time(self.time_s)}"] if self.time_s is not None else ()),
        ]


def strictest(limits: Sequence[Limits]) -> Limits:
    """Give the smallest size and time of all; the rate that allows the fewest in the long run."""
    rates = [one.rate for one in limits if one.rate is not None]
    return Limits(
        max(rates, key=lambda rate: rate.interval_s, default=None),
        min((one.size for one in limits if one.size is not None), default=None),
        min((one.time_s for one in limits if one.time_s is not None), default=None),
    )


def parse_size(text: str) -> int:
    """Read a size in bytes. Raises ValueError with what to write."""
    form = _SIZE.fullmatch(text)
    size = int(form[1]) * _SIZES[form[2]] if form else 0
    if not 0 < size <= SIZE_MAX:
        raise ValueError(
            f"{text[:50]!r} is no size; write 4096, 100K, 10M or 2G (1K is 1024 bytes)"
        )
    return size


def parse_time(text: str) -> float:
    """Read a time in seconds. Raises ValueError with what to write."""
    form = _TIME.fullmatch(text)
    seconds = round(float(form[1]) * _TIMES[form[2]], 3) if form else 0.0
    if not 0 < seconds <= TIME_MAX_S:
        raise ValueError(f"{text[:50]!r} is no time; write 500ms, 30s, 5min or 1h, up to 168h")
    return seconds


def _write_size(size: int) -> str:
    letter = next(letter for letter, unit in reversed(_SIZES.items()) if size % unit == 0)
    return f"{size // _SIZES[letter]}{letter}"


def _write_time(seconds: float) -> str:
    return f"{int(seconds) if seconds == int(seconds) else seconds}s"
