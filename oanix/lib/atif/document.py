"""Document: the lines of a trajectory, and the one JSON document that they stand for.

    {"__header__":true,"schema_version":"ATIF-v1.4","session_id":…,"agent":{…},"created_at":…}
    {"step_id":1,…}
    {"step_id":2,…}

What stands behind the last newline was being written when its writer ended, and is left out.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final

from attrs import define, field, frozen

from oanix.lib.atif.check import check, check_step

VERSION: Final = "ATIF-v1.4"
ENDED: Final = "ended"
"""What `extra.event` of the last step is, once there is nothing more to come."""

_NOTHING: Final = {
    "step_id": 1, "source": "system", "message": "nothing is recorded yet",
    "extra": {"by": "runtime"},
}  # fmt: skip
_TOTALS: Final = {
    "prompt_tokens": "total_prompt_tokens", "completion_tokens": "total_completion_tokens",
    "cached_tokens": "total_cached_tokens", "cost_usd": "total_cost_usd",
}  # fmt: skip


def dump(value: object) -> bytes:
    """Write a value as one line of JSON; what is no text of Unicode shows as U+FFFD."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()


def stamp(when: float) -> str:
    """Write a time as ISO 8601 has it, in UTC, to the millisecond."""
    made = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
    return made.replace("+00:00", "Z")


@frozen(kw_only=True)
class Header:
    """What a trajectory is of. agent: name and version, and more in its `extra`."""

    session_id: str
    agent: dict[str, Any]
    created_at: str
    extra: dict[str, Any] = field(factory=dict)

    def line(self) -> bytes:
        """Write the first line."""
        said = {
            "__header__": True, "schema_version": VERSION, "session_id": self.session_id,
            "agent": self.agent, "created_at": self.created_at, "extra": self.extra,
        }  # fmt: skip
        return dump(said) + b"\n"


def step_line(number: int, step: dict[str, Any]) -> bytes:
    """Write a step as its line; step: all of it but the number."""
    return dump({"step_id": number, **step}) + b"\n"


@define(eq=False)
class Lines:
    """The lines of a trajectory, as far as they were read; what comes later is added.

    run: what it is called where its header is lost. broken: how many lines are no steps; totals: of
    the metrics of all steps.
    """

    run: str
    header: dict[str, Any] | None = None
    steps: list[bytes] = field(factory=list)
    broken: int = 0
    totals: dict[str, Any] = field(factory=dict)
    size: int = 0
    """Bytes of the steps of the runtime; own: of those that the job has recorded."""
    own: int = 0
    closed: bool = False
    """Whether the last step says that it is the last."""
    _half: bytes = b""
    _begun: bool = False

    @classmethod
    def of(cls, raw: bytes, run: str) -> "Lines":
        """Read the lines of a file."""
        lines = cls(run)
        lines.feed(raw)
        return lines

    def feed(self, raw: bytes) -> None:
        """Read on."""
        *lines, self._half = (self._half + raw).split(b"\n")
        for line in lines:
            if not self._begun:
                self._begun = True
                self.header = _header(line)
                if self.header is not None:
                    continue
            self._add(line)

    def _add(self, line: bytes) -> None:
        found = _step(line)
        if found is None:
            self.broken += 1
            return
        if found.get("step_id") != len(self.steps) + 1:
            # After lines that a disk has lost, the others are numbered anew.
            line = dump({**found, "step_id": len(self.steps) + 1})
        self.steps.append(line)
        extra = found.get("extra", {})
        if extra.get("by") == "job":
            self.own += len(line)
        else:
            self.size += len(line)
        self.closed = extra.get("event") == ENDED and extra.get("by") == "runtime"
        for name, total in _TOTALS.items():
            value = found.get("metrics", {}).get(name)
            if value is not None:
                self.totals[total] = self.totals.get(total, 0) + value

    def document(self) -> bytes:
        """Make the document: valid, whatever became of the end of the file."""
        header = self.header or _lost(self.run)
        steps = self.steps or [dump(_NOTHING)]
        head: dict[str, Any] = {
            "schema_version": VERSION, "session_id": header["session_id"],
            "agent": header["agent"],
        }  # fmt: skip
        tail: dict[str, Any] = {
            "final_metrics": {**self.totals, "total_steps": len(steps)},
            "extra": {**header["extra"], "created_at": header["created_at"],
                      "complete": self.closed},
        }  # fmt: skip
        if self.broken:
            tail = {"notes": f"{self.broken} lines of the record cannot be read", **tail}
        inner = b",\n".join(steps)
        return dump(head)[:-1] + b',"steps":[\n' + inner + b"\n]," + dump(tail)[1:] + b"\n"


def document(raw: bytes, run: str) -> bytes:
    """Make the document of a trajectory's lines: valid, whatever became of their end."""
    return Lines.of(raw, run).document()


def _loaded(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _step(line: bytes) -> dict[str, Any] | None:
    found = _loaded(line)
    try:
        check_step(found)
    except OSError:
        return None
    return found


def _header(line: bytes) -> dict[str, Any] | None:
    found = _loaded(line)
    try:
        check({
            "schema_version": VERSION, "session_id": found.get("session_id"),
            "agent": found.get("agent"), "extra": found.get("extra"), "steps": [_NOTHING],
        })  # fmt: skip
    except OSError:
        return None
    good = found.get("__header__") is True and isinstance(found.get("created_at"), str)
    return found if good else None


def _lost(run: str) -> dict[str, Any]:
    return {
        "session_id": f"job-{run}", "agent": {"name": "unknown", "version": "unknown"},
        "created_at": "", "extra": {},
    }  # fmt: skip
