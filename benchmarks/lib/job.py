"""What a step of the benchmark is told, and how it says that its result is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from .metrics import Sizes

DROP_CACHES = Path("/proc/sys/vm/drop_caches")


class Wrong(Exception):
    """A step ended, but not with the result that it must have."""


@frozen
class Job:
    """Where a step works, how much it does, and what it may use."""

    root: Path
    fixtures: Path
    sizes: Sizes
    drop: bool
    timeout: float
    environment: dict[str, str]
