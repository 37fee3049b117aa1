"""Events: what a line of a `.jsonl` log becomes. Pure functions over bytes."""

import calendar
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from oanix.caller import Caller
from oanix.services.logs.lines import Line

LEVELS: Final = ("trace", "debug", "info", "notice", "warning", "error", "critical")
"""The levels of a record, the least urgent first."""

_ALIASES: Final = {"warn": "warning", "err": "error", "fatal": "critical"}

_SECOND: Final = 1_000_000_000
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999, the last that a date has
_STAMP: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?"
    r"(?:[Zz]|[+-]([0-9]{2}):([0-9]{2}))"
)

Record = dict[str, object]


def timestamp(ns: int) -> str:
    """Write a time in nanoseconds since the epoch as RFC 3339, in UTC, with microseconds."""
    seconds, rest = divmod(ns, _SECOND)
    moment = datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC)
    return f"{moment.isoformat()[:19]}.{rest // 1000:06d}Z"


def is_timestamp(text: str) -> bool:
    """Tell whether a text is a date and time of RFC 3339 (section 5.6), leap seconds included."""
    found = _STAMP.fullmatch(text)
    if found is None:
        return False
    year, month, day, hour, minute, second, *offset = (int(part or 0) for part in found.groups())
    if not 1 <= month <= 12 or hour > 23 or minute > 59 or second > 60:
        return False
    if offset[0] > 23 or offset[1] > 59:
        return False
    return 1 <= day <= calendar.monthrange(year, month)[1]


def source_of(caller: Caller) -> str:
    """Say who wrote a record, when the record does not."""
    if caller.job:
        return f"job:{caller.job}"
    return f"{caller.principal} pid={caller.pid} uid={caller.uid}"


def record_of(line: Line, stamp: str, source: str) -> bytes:
    """Make the record that is stored for a line: one JSON object and a newline. Never raises."""
    if not line.piece and line.raw.lstrip(b" \t\r").startswith(b"{"):
        try:
            return _encode(_complete(_parse(line.raw), stamp, source))
        except (ValueError, RecursionError) as error:
            return _encode(_message(line, stamp, source, f"not JSON: {_reason(error)}"))
    piece = "a piece of a line that was too long to be held" if line.piece else ""
    return _encode(_message(line, stamp, source, piece))


def cut_record(raw: bytes, stamp: str) -> bytes:
    """Make the record for what is left of one that a crash has cut off."""
    error = "cut off: the server ended while it wrote this"
    return _encode(_message(Line(raw), stamp, "logs", error))


def _parse(raw: bytes) -> Record:
    # RFC 8259 leaves open what a name given twice means: keeping one would lose the other.
    found = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    assert isinstance(found, dict)
    return found


def _unique(pairs: list[tuple[str, object]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {json.dumps(twice)} is given twice")
    return record


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return "a lone surrogate is no text"
    return str(error)


def _complete(given: Record, stamp: str, source: str) -> Record:
    replaced: Record = {}

    def take(field: str, default: str, valid: str | None) -> str:
        if valid is not None:
            return valid
        if field in given:
            replaced[field] = given[field]
        return default

    record: Record = {
        "timestamp": take("timestamp", stamp, _valid_stamp(given.get("timestamp"))),
        "level": take("level", "info", _valid_level(given.get("level"))),
        "message": take("message", "", _valid_message(given)),
        "source": take("source", source, _text(given.get("source"))),
    }
    record.update((name, value) for name, value in given.items() if name not in record)
    if replaced:
        if "given" in given:
            replaced["given"] = given["given"]
        record["given"] = replaced
    return record


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _valid_stamp(value: object) -> str | None:
    return value if isinstance(value, str) and is_timestamp(value) else None


def _valid_level(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    level = _ALIASES.get(value.lower(), value.lower())
    return level if level in LEVELS else None


def _valid_message(given: Mapping[str, object]) -> str | None:
    if "message" not in given:
        return None
    message = given["message"]
    return message if isinstance(message, str) else _ENCODER.encode(message)


def _message(line: Line, stamp: str, source: str, error: str) -> Record:
    level = "warning" if error else "info"
    text, escaped = _readable(line.raw)
    record: Record = {"timestamp": stamp, "level": level, "message": text, "source": source}
    if error:
        record["error"] = error
    if escaped:
        record["escaped"] = True
    if line.piece:
        record["piece"] = line.piece
    if line.more:
        record["more"] = True
    return record


def _readable(raw: bytes) -> tuple[str, bool]:
    try:
        return raw.decode(), False
    except UnicodeDecodeError:
        return raw.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace"), True


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _encode(record: Record) -> bytes:
    return _ENCODER.encode(record).encode() + b"\n"
