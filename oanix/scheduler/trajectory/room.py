"""Room: how much of one run may still be written down, so that no job fills a disk with its record.

What failed, and what a service did, weighs more than one more file that was read: it has room of
its own when the other is used up. Steps of the job itself have theirs, and take none from these.
"""

from typing import Final

from attrs import define

CALLS_MAX: Final = 5_000
"""Calls of one try that are written down; the others are counted."""
WEIGHTY_MAX: Final = 2_000
"""Calls that failed or were served, beyond these."""
BYTES_MAX: Final = 4 << 20
"""Bytes of all that is written down of one run, but for weighty calls and its last steps."""
WEIGHTY_BYTES_MAX: Final = 1 << 20
"""Bytes beyond those, for weighty calls."""
SAID_MAX: Final = 256 << 10
"""Characters of output that are written down of one try: all of it is in `stdout`."""
OWN_MAX: Final = 4 << 20
"""Bytes of the steps that a job adds itself."""


@define(eq=False)
class Room:
    """What was used of it. size, own: bytes of the whole run, and so of all its tries."""

    size: int = 0
    own: int = 0
    said: int = 0
    calls: int = 0
    weighty: int = 0
    full: bool = False
    """Whether calls are counted only."""
    over: bool = False
    """Whether weighty ones are, too."""

    def __attrs_post_init__(self) -> None:
        self._look()

    def take(self, *, weighty: bool) -> None:
        """Count a call that will be written down."""
        if not self.full:
            self.calls += 1
        elif weighty:
            self.weighty += 1
        self._look()

    def wrote(self, size: int) -> None:
        """Count bytes."""
        self.size += size
        self._look()

    def _look(self) -> None:
        self.full = self.calls >= CALLS_MAX or self.size >= BYTES_MAX
        self.over = self.full and (
            self.weighty >= WEIGHTY_MAX or self.size >= BYTES_MAX + WEIGHTY_BYTES_MAX
        )

    @property
    def silent(self) -> bool:
        """Whether output is counted only."""
        return self.said >= SAID_MAX or self.size >= BYTES_MAX
