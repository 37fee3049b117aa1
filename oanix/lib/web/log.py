"""Log: one line for each hop and each refusal, with what it came to."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import trio
from attrs import define, field

from oanix.caller import Caller
from oanix.kit import Ring
from oanix.lib.url import Url
from oanix.lib.vault import Mask


def who(caller: Caller) -> str:
    """Name an asker: the job, else the user."""
    return f"job:{caller.job}" if caller.job else f"uid:{caller.uid}"


@define(eq=False)
class Entry:
    """The line of one hop; written once, when it has ended.

    ms: from when the hop began to its end, the waiting for a turn included.
    """

    ring: Ring
    now: Callable[[], float]
    method: str
    url: Url
    caller: Caller
    verdict: str
    rule: str
    mask: Mask
    status: int | None = None
    size: int = 0
    _began: float = field(factory=trio.current_time, init=False)
    _written: bool = field(default=False, init=False)

    @property
    def ms(self) -> int:
        """How long it has taken so far."""
        return round((trio.current_time() - self._began) * 1000)

    def write(self, error: str | None = None) -> None:
        """Write the line; error: the name of an errno, or "cancelled"."""
        if self._written:
            return
        self._written = True
        shown = self.url.masked()[len(self.url.origin) :]
        line = json.dumps(
            {
                "time": datetime.fromtimestamp(self.now(), UTC)
                .isoformat(timespec="milliseconds")
                .replace("+00:00", "Z"),
                "verdict": self.verdict,
                "rule": self.rule,
                "method": self.method,
                "host": self.url.authority,
                "path": shown,
                "status": self.status,
                "bytes": self.size,
                "ms": self.ms,
                "who": who(self.caller),
                "error": error,
            },
        )
        self.ring.put(self.mask.text(line))
