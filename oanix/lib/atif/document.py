"""Document: the lines of a trajectory, and the one JSON document that they stand for.

    {"__header__":true,"schema_version":"ATIF-v1.4","session_id":…,"agent":{…},"created_at":…}
    {"step_id":1,…}
    {"step_id":2,…}

What stands behind the last newline was being written when its writer ended, and is left out.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final

from attrs import field, frozen

from oanix.lib.atif.check import check, check_step

VERSION: Final = "ATIF-v1.4"
ENDED: Final = "ended"
"""What `extra.event` of the last step is, once there is nothing more to come."""

_NOTHING: Final = {
    "step_id": 1, "source": "system", "message": "nothing is recorded yet",
    "extra": {"by": "runtime"},
}  # fmt: skip
_METRICS: Final = b',"metrics":{'
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


@frozen
class Unread:
    """What was found of a file: its steps, as they were written, and how many lines are no steps.

    closed: whether the last step says that it is the last.
    """

    header: dict[str, Any]
    steps: list[bytes]
    broken: int
    closed: bool


def unread(raw: bytes, run: str) -> Unread:
    """Look through the lines of a trajectory. run: what it is called where its header is lost."""
    lines = raw.split(b"\n")[:-1]
    header = _header(lines[0]) if lines else None
    rest = lines if header is None else lines[1:]
    steps: list[bytes] = []
    last: dict[str, Any] = {}
    for line in rest:
        found = _step(line)
        if found is None:
            continue
        last = found
        if found.get("step_id") != len(steps) + 1:
            # After lines that a disk has lost, the others are numbered anew.
            line = dump({**found, "step_id": len(steps) + 1})
        steps.append(line)
    closed = (last.get("extra") or {}).get("event") == ENDED
    return Unread(header or _lost(run), steps, len(rest) - len(steps), closed)


def document(raw: bytes, run: str) -> bytes:
    """Make the document of a trajectory's lines: valid, whatever became of their end."""
    found = unread(raw, run)
    steps = found.steps or [dump(_NOTHING)]
    head: dict[str, Any] = {
        "schema_version": VERSION, "session_id": found.header["session_id"],
        "agent": found.header["agent"],
    }  # fmt: skip
    tail: dict[str, Any] = {
        "final_metrics": {**_totals(steps), "total_steps": len(steps)},
        "extra": {**found.header.get("extra", {}), "created_at": found.header["created_at"],
                  "complete": found.closed},
    }  # fmt: skip
    if found.broken:
        tail = {"notes": f"{found.broken} lines of the record cannot be read", **tail}
    inner = b",\n".join(steps)
    return dump(head)[:-1] + b',"steps":[\n' + inner + b"\n]," + dump(tail)[1:] + b"\n"


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


def _totals(steps: list[bytes]) -> dict[str, Any]:
    totals: dict[str, Any] = {}
    for line in steps:
        if _METRICS not in line:
            continue
        metrics = _loaded(line).get("metrics") or {}
        for name, total in _TOTALS.items():
            if name in metrics:
                totals[total] = totals.get(total, 0) + metrics[name]
    return totals
