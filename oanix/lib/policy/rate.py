"""Rate: how often a rule allows something, and the buckets that count it."""

import math
import re
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from attrs import frozen

UNITS: Final = {"s": 1, "min": 60, "h": 3600, "day": 86_400}
"""The units of a rate in seconds."""

COUNT_MAX: Final = 1_000_000_000
KEPT_MAX: Final = 4096

_FORM: Final = re.compile(r"([0-9]{1,10})/([a-z]+)")


@frozen
class Rate:
    """So many a unit of time; as many may come at once."""

    count: int
    unit: str = "s"

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read `10/s`. Raises ValueError with what to write."""
        form = _FORM.fullmatch(text)
        if form is None or form[2] not in UNITS or not 0 < int(form[1]) <= COUNT_MAX:
            raise ValueError(f"{text[:50]!r} is no rate; write 10/s, 600/min, 1000/h or 5000/day")
        return cls(int(form[1]), form[2])

    def __str__(self) -> str:
        return f"{self.count}/{self.unit}"

    @property
    def interval_s(self) -> float:
        """The seconds after which one more is allowed."""
        return UNITS[self.unit] / self.count


Bucket = tuple[Hashable, Rate]
"""What is counted together, and how much of it is allowed."""


class Buckets:
    """Counts requests against rates, with a token bucket for each key.

    A bucket is kept as the time at which it will be full again (the generic cell rate algorithm);
    one that is full is as good as none, so they are dropped when there are many.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: dict[Hashable, float] = {}

    def take(self, buckets: Sequence[Bucket], *, patience_s: float = math.inf) -> float:
        """Take a token of each bucket and give the seconds until all of them are there.

        Call it once for a request, wait that long (0.0: not at all), and send it. When the wait
        would be longer than patience_s nothing is taken, and the request is to be refused.
        """
        now = self._clock()
        after: dict[Hashable, float] = {}
        wait = 0.0
        for key, rate in buckets:
            begins = max(self._full_at.get(key, now), now)
            after[key] = max(after.get(key, begins), begins) + rate.interval_s
            wait = max(wait, after[key] - now - rate.count * rate.interval_s)
        # What floating point leaves of nothing is no reason to wait.
        wait = 0.0 if wait < 1e-9 else wait
        if wait <= patience_s:
            self._full_at.update(after)
            self._drop_full(now)
        return wait

    def __len__(self) -> int:
        """Count the buckets that are kept."""
        return len(self._full_at)

    def _drop_full(self, now: float) -> None:
        if len(self._full_at) > KEPT_MAX:
            self._full_at = {key: at for key, at in self._full_at.items() if at > now}
