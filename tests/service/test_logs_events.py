"""Events: what a line of a .jsonl log becomes."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.caller import Caller
from oanix.services.logs.events import LEVELS, is_timestamp, record_of, source_of, timestamp
from oanix.services.logs.lines import Line

NOW = "2026-01-02T03:04:05.678901Z"


def record(raw: bytes) -> dict[str, Any]:
    stored = record_of(Line(raw), NOW, "ann")
    assert stored.endswith(b"\n")
    assert stored.count(b"\n") == 1
    found = json.loads(stored)
    assert list(found)[:4] == ["timestamp", "level", "message", "source"]
    assert isinstance(found, dict)
    return found


def test_a_plain_line_is_a_message() -> None:
    assert record(b"it works") == {
        "timestamp": NOW, "level": "info", "message": "it works", "source": "ann",
    }  # fmt: skip


def test_an_object_keeps_what_it_gives_and_gets_what_it_lacks() -> None:
    given_line = b'{"free": 1, "message": "disk", "nested": {"a": [1, null]}, "level": "error"}'
    assert record(given_line) == {
        "timestamp": NOW, "level": "error", "message": "disk", "source": "ann",
        "free": 1, "nested": {"a": [1, None]},
    }  # fmt: skip


@pytest.mark.parametrize("given_level", ["WARN", "Warning", "warn"])
def test_a_level_is_understood_in_any_case_and_under_its_other_name(given_level: str) -> None:
    found = record(json.dumps({"level": given_level}).encode())
    assert found["level"] == "warning"
    assert "given" not in found


@pytest.mark.parametrize("level", ["loud", 5, None, ["info"], ""])
def test_an_unknown_level_is_info_and_is_kept(level: object) -> None:
    found = record(json.dumps({"level": level, "message": "m"}).encode())
    assert (found["level"], found["given"]) == ("info", {"level": level})


def test_what_is_replaced_is_kept_beside_a_given_of_the_writers_own() -> None:
    found = record(b'{"level": 1, "timestamp": "noon", "source": [2], "given": 3}')
    assert found["given"] == {"level": 1, "timestamp": "noon", "source": [2], "given": 3}
    assert (found["timestamp"], found["source"]) == (NOW, "ann")


def test_a_message_that_is_no_string_is_written_as_json() -> None:
    assert record(b'{"message": {"a": 1.5}}')["message"] == '{"a":1.5}'
    assert record(b'{"message": null}')["message"] == "null"


@pytest.mark.parametrize(
    "valid",
    [
        "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.1+23:59", "9999-12-31T23:59:60Z",
        "0001-01-01t00:00:00z", "2024-02-29T00:00:00-00:00", "2026-01-02T03:04:05.123456789123Z",
    ],
)  # fmt: skip
def test_a_valid_timestamp_is_kept_even_of_the_future(valid: str) -> None:
    assert record(json.dumps({"timestamp": valid}).encode())["timestamp"] == valid


@pytest.mark.parametrize(
    "wrong",
    [
        "2026-01-02", "2026-01-02 03:04:05Z", "2026-13-02T03:04:05Z", "2025-02-29T00:00:00Z",
        "2026-01-00T03:04:05Z", "2026-01-02T24:00:00Z", "2026-01-02T03:60:00Z", "now",
        "2026-01-02T03:04:61Z", "2026-01-02T03:04:05", "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05.Z", "٢٠٢٦-01-02T03:04:05Z", "2026-01-02T03:04:05Z\n", "",
    ],
)  # fmt: skip
def test_what_is_no_timestamp_of_rfc_3339_is_replaced_and_kept(wrong: str) -> None:
    assert not is_timestamp(wrong)
    found = record(json.dumps({"timestamp": wrong}).encode())
    assert (found["timestamp"], found["given"]) == (NOW, {"timestamp": wrong})


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b'{"message": "half', "Unterminated string"),
        (b"{not json}", "Expecting property name"),
        (b'{"a": 1} x', "Extra data"),
        (b'{"a": NaN}', "NaN is no number of JSON"),
        (b'{"a": 1e999}', "Out of range"),
        (b'{"a": 1, "a": 2}', 'the name "a" is given twice'),
        (b'{"b": {"\\ud800": 1, "\\ud800": 2}}', "given twice"),
        (b'{"a": "\\ud800"}', "a lone surrogate is no text"),
        (b'{"\\udfff": 1}', "a lone surrogate is no text"),
        (b'{"a": "\xff"}', "byte 7 is no UTF-8"),
        (b'{"a": "\x00"}', "Invalid control character"),
        (b'{"a": ' * 200_000, "nested too deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "limit"),
    ],
)
def test_a_broken_line_is_kept_as_a_message_with_the_reason(broken: bytes, reason: str) -> None:
    found = record(broken)
    assert found["level"] == "warning"
    assert found["error"].startswith("not JSON: ")
    assert reason in found["error"]
    assert _unescaped(found) == broken


@given(st.binary(max_size=60).filter(lambda raw: b"\n" not in raw))
def test_no_bytes_are_lost_whatever_they_are(raw: bytes) -> None:
    assert _unescaped(record(b"." + raw)) == b"." + raw


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda children: st.lists(children) | st.dictionaries(st.text("abc"), children),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text("xyz", min_size=1), json_values), st.text("ab\n\0é\u2028"))
def test_further_fields_are_kept_as_they_are(fields: dict[str, Any], message: str) -> None:
    line = json.dumps({**fields, "message": message}).encode()
    found = record(line)
    assert found["message"] == message
    assert {name: found[name] for name in fields} == fields


@given(st.text())
def test_any_text_is_a_timestamp_or_not_without_an_error(text: str) -> None:
    assert is_timestamp(text) in (True, False)


@given(st.integers(0, 253_402_300_799_999_999_999))
def test_a_stamp_is_rfc_3339_in_utc_with_microseconds(ns: int) -> None:
    stamp = timestamp(ns)
    assert is_timestamp(stamp)
    moment = datetime.fromisoformat(stamp)
    assert (moment.microsecond, len(stamp)) == (ns // 1000 % 1_000_000, 27)


@given(st.integers(0, 2**70), st.integers(0, 2**70))
def test_a_stamp_of_any_clock_can_be_written(first: int, second: int) -> None:
    assert is_timestamp(timestamp(first))
    assert is_timestamp(timestamp(second))


def test_a_piece_of_a_long_line_says_so() -> None:
    found = json.loads(record_of(Line(b'{"a":', 1, more=True), NOW, "ann"))
    assert (found["message"], found["piece"], found["more"]) == ('{"a":', 1, True)
    assert "piece" in found["error"]
    assert "more" not in json.loads(record_of(Line(b"1}", 2), NOW, "ann"))


def test_the_source_is_the_job_or_the_opener() -> None:
    assert source_of(Caller(job="17", uid=5)) == "job:17"
    assert source_of(Caller(principal="ann", pid=3, uid=5)) == "ann pid=3 uid=5"
    assert LEVELS[2] == "info"


def _unescaped(found: dict[str, Any]) -> bytes:
    message = found["message"]
    assert isinstance(message, str)
    if "escaped" not in found:
        return message.encode()
    raw, at = bytearray(), 0
    while at < len(message):
        if message[at] != "\\":
            raw += message[at].encode()
            at += 1
        elif message[at + 1] == "\\":
            raw += b"\\"
            at += 2
        else:
            raw.append(int(message[at + 2 : at + 4], 16))
            at += 4
    return bytes(raw)
