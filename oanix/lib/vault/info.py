"""Info: what may be known of a secret."""

from datetime import UTC, datetime, timedelta
from typing import Final

from attrs import frozen

USABLE: Final = "usable"
LOCKED: Final = "locked"
EMPTY: Final = "empty"
UNBOUND: Final = "unbound"
DAMAGED: Final = "damaged"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = 253_402_300_799 * 10**9  # in the year 9999, the last that a date has


@frozen
class SecretInfo:
    """What may be known of a secret, its value not among it; times in nanoseconds."""

    name: str
    created: int
    rotated: int
    last_used: int | None
    uses: int
    rule: str
    state: str

    def facts(self) -> dict[str, str]:
        """Tell it as keys and texts."""
        return {
            "name": self.name,
            "created": stamp(self.created),
            "rotated": stamp(self.rotated),
            "last-used": stamp(self.last_used) if self.last_used else "never",
            "uses": str(self.uses),
            "rule": self.rule or "none",
            "state": self.state,
        }


def stamp(ns: int) -> str:
    """Write a time as RFC 3339 has it, in UTC, to the second."""
    moment = _EPOCH + timedelta(seconds=min(max(ns, 0), _LAST) // 10**9)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
