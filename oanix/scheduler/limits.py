"""Limits: what a job may use, and how it is written."""

import errno
import math
from collections.abc import Mapping
from typing import Any, Final

from attrs import asdict, evolve, frozen

from oanix.errors import fault

UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SECONDS: Final = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@frozen(kw_only=True)
class Limits:
    """What a job may use. Times in seconds, sizes in bytes; fuel is counted when it is limited.

    wall: since it began. cpu: of its module. output: of its standard output and error together.
    written: into files. jobs: that it may have under way in `/jobs`.
    """

    wall: float = 60.0
    cpu: float = 10.0
    fuel: int | None = None
    memory: int = 256 << 20
    table: int = 1 << 20
    files: int = 64
    output: int = 16 << 20
    written: int = 1 << 30
    jobs: int = 8

    @classmethod
    def parse(cls, said: Mapping[str, object], base: "Limits | None" = None) -> "Limits":
        """Read limits as a specification or a manifest gives them, in place of those of `base`.

        Raises OSError EINVAL for what is no limit, and for what no job may have.
        """
        changed: dict[str, Any] = {}
        for name, value in said.items():
            if name not in MOST:
                known = ", ".join(MOST)
                raise fault(errno.EINVAL, f"there is no limit {name[:40]!r}; there are: {known}")
            changed[name] = _read(name, value)
        return evolve(base or cls(), **changed)

    def show(self) -> dict[str, object]:
        """Give them as a specification has them."""
        return asdict(self)

    def narrowed(self, other: "Limits") -> "Limits":
        """Give the smaller of each: a job's job has no more than the job itself."""
        mine, theirs = asdict(self), asdict(other)
        smaller: dict[str, Any] = {
            name: min((v for v in (mine[name], theirs[name]) if v is not None), default=None)
            for name in mine
        }
        return Limits(**smaller)


MOST: Final[Mapping[str, float]] = {
    "wall": 30 * 86_400.0, "cpu": 30 * 86_400.0, "fuel": 1 << 62, "memory": 4 << 30,
    "table": 10_000_000, "files": 1 << 16, "output": 1 << 40, "written": 1 << 50, "jobs": 10_000,
}  # fmt: skip
"""The most that any job may be given."""

TIMES: Final = ("wall", "cpu")
SIZES: Final = ("memory", "output", "written")


def _read(name: str, value: object) -> float | int | None:
    if value is None and name == "fuel":
        return None
    number: float
    if isinstance(value, bool):
        raise fault(errno.EINVAL, f"the limit {name} is a number")
    if isinstance(value, int | float):
        number = value
    elif isinstance(value, str):
        number = seconds(value) if name in TIMES else size(value)
    else:
        raise fault(errno.EINVAL, f"the limit {name} is a number")
    if not (math.isfinite(number) and 0 < number <= MOST[name]):
        raise fault(errno.EINVAL, f"the limit {name} is above 0 and at most {MOST[name]:.0f}")
    if name in TIMES:
        return float(number)
    if number != int(number):
        raise fault(errno.EINVAL, f"the limit {name} is a whole number")
    return int(number)


def size(text: str) -> int:
    """Read a size such as `64M` (1024²). Raises OSError EINVAL."""
    unit = text[-1:].upper() if text[-1:].upper() in UNITS else ""
    digits = text[: len(text) - len(unit)]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise fault(errno.EINVAL, f"{text[:40]!r} is no size; write 4096, 64K, 64M or 2G")
    return int(digits) * UNITS[unit]


def seconds(text: str) -> float:
    """Read a time such as `90s`, `10m` or `1.5`. Raises OSError EINVAL."""
    digits = text.rstrip("mshd")
    unit = text[len(digits) :]
    try:
        number = float(digits)
    except ValueError:
        number = math.nan
    if unit not in SECONDS or not digits[:1].isdigit() or not math.isfinite(number):
        raise fault(errno.EINVAL, f"{text[:40]!r} is no time; write 90s, 10m, 2h or 0.5")
    return number * SECONDS[unit]
