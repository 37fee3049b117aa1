"""ATIF v1.4: what is a trajectory and what is none, and the document of a file that grows."""

import errno
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.lib.atif import Header, Lines, Trajectory, check, check_step, document, stamp, step_line
from tests.scheduler.atif import valid, validator

HEADER = Header(
    session_id="job-1-x", agent={"name": "a", "version": "1"}, created_at=stamp(0.0),
    extra={"job": 1},
)  # fmt: skip
CALL = {"tool_call_id": "c1", "function_name": "read_file", "arguments": {"path": "/a"}}
AGENT: dict[str, Any] = {
    "source": "agent", "message": "m", "timestamp": stamp(1.0), "model_name": "m-1",
    "reasoning_content": "r", "reasoning_effort": "high", "tool_calls": [CALL],
    "observation": {"results": [{"source_call_id": "c1", "content": "read 3 bytes"}]},
    "metrics": {"prompt_tokens": 7, "completion_tokens": 2, "cached_tokens": 3, "cost_usd": 0.5},
    "extra": {"by": "job"},
}  # fmt: skip
STEPS: list[dict[str, Any]] = [
    {"source": "system", "message": "started", "extra": {"by": "runtime", "event": "started"}},
    {"source": "user", "message": "é \u202e \x1b[31m \U0001f600"},
    AGENT,
    {"source": "system", "message": "completed 0", "extra": {"by": "runtime", "event": "ended"}},
]


def lines(*steps: dict[str, Any]) -> bytes:
    return HEADER.line() + b"".join(step_line(n, one) for n, one in enumerate(steps, 1))


def test_a_document_has_its_steps_and_the_sums_of_what_is_known() -> None:
    found = valid(document(lines(*STEPS), "1"))
    assert [step["source"] for step in found["steps"]] == ["system", "user", "agent", "system"]
    assert found["final_metrics"] == {
        "total_prompt_tokens": 7, "total_completion_tokens": 2, "total_cached_tokens": 3,
        "total_cost_usd": 0.5, "total_steps": 4,
    }  # fmt: skip
    assert found["extra"]["complete"] is True
    nothing = valid(document(lines(*STEPS[:2]), "1"))
    assert nothing["final_metrics"] == {"total_steps": 2}
    assert nothing["extra"]["complete"] is False


def test_a_file_that_is_cut_at_any_byte_is_a_valid_document_of_its_whole_steps() -> None:
    raw = lines(*STEPS)
    for size in range(len(raw) + 1):
        found = valid(document(raw[:size], "1"))
        whole = max(raw[:size].count(b"\n") - 1, 0)
        steps = found["steps"]
        if whole:
            assert len(steps) == whole
            assert steps[-1]["message"] == STEPS[whole - 1]["message"]
            assert found["session_id"] == "job-1-x"
        else:
            assert [step["message"] for step in steps] == ["nothing is recorded yet"]


@given(st.binary(max_size=200), st.integers(0, 800))
def test_a_file_that_a_disk_has_spoilt_is_a_valid_document(rubbish: bytes, at: int) -> None:
    raw = lines(*STEPS)
    spoilt = raw[:at] + rubbish + raw[at + len(rubbish) :]
    valid(document(spoilt, "1"))


def test_lines_that_cannot_be_read_are_left_out_and_told() -> None:
    raw = lines(*STEPS).replace(step_line(2, STEPS[1]), b"\0" * 40 + b"\n")
    found = valid(document(raw, "1"))
    assert [step["message"] for step in found["steps"]] == ["started", "m", "completed 0"]
    assert found["notes"] == "1 lines of the record cannot be read"
    assert Lines.of(raw, "1").closed


@given(st.lists(st.integers(0, 900)))
def test_lines_that_come_in_pieces_are_the_same_document(cuts: list[int]) -> None:
    raw = lines(*STEPS)
    found, at = Lines("1"), 0
    for cut in [*sorted(cuts), len(raw)]:
        found.feed(raw[at:cut])
        at = max(at, cut)
        assert found.document() == document(raw[:cut], "1")


def test_a_job_cannot_say_that_its_trajectory_is_complete() -> None:
    forged = {
        "source": "system",
        "message": "completed 0",
        "extra": {"event": "ended", "by": "job"},
    }
    assert not Lines.of(lines(STEPS[0], forged), "1").closed


def test_what_is_no_unicode_is_shown_as_what_it_is_not() -> None:
    found = valid(document(lines({"source": "user", "message": "a\udcff\ud800b"}), "1"))
    assert found["steps"][0]["message"].strip("\ufffd") == "a\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdb"


def test_a_step_is_shown_with_what_came_of_its_calls() -> None:
    step = Trajectory.read(document(lines(*STEPS), "1")).steps[2]
    assert (step.by_job, step.model, step.failed) == (True, "m-1", False)
    assert [(call.name, call.content) for call in step.calls] == [("read_file", "read 3 bytes")]


def changed(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in {**AGENT, **fields}.items() if value is not ...}


BAD_STEPS: list[tuple[object, str]] = [
    ([], "this is an object"),
    (changed(message=...), "it has no 'message'"),
    (changed(message=None), "this is a text"),
    (changed(source="robot"), "one of: system, user, agent"),
    (changed(step_id=0), "from 1 on"),
    (changed(step_id=True), "from 1 on"),
    (changed(colour="red"), "no field 'colour'"),
    (changed(timestamp="yesterday"), "ISO 8601"),
    (changed(source="user", observation=...), "only a step of an agent"),
    ({"source": "user", "message": "", "observation": {"results": []}}, "a step of a user"),
    ({"source": "system", "message": "", "metrics": {}}, "only a step of an agent"),
    (changed(tool_calls=[{**CALL, "arguments": []}]), "tool_calls[1].arguments"),
    (changed(tool_calls=[{"tool_call_id": "c1"}]), "it has no 'function_name'"),
    (changed(tool_calls=[CALL, CALL]), "the same tool_call_id"),
    (changed(tool_calls=...), "no call of this step is 'c1'"),
    (changed(observation={"results": [{"content": {"a": 1}}]}), "content: this is a text"),
    (changed(metrics={"prompt_tokens": 1.5}), "metrics.prompt_tokens"),
    (changed(metrics={"prompt_tokens": -1}), "not negative"),
    (changed(metrics={"cost_usd": float("nan")}), "this is a number"),
    (changed(metrics={"cost_usd": -0.1}), "not negative"),
    (changed(metrics={"logprobs": ["a"]}), "logprobs[1]"),
    (changed(extra=[]), "extra: this is an object"),
    (changed(reasoning_effort=[]), "reasoning_effort"),
]


@pytest.mark.parametrize(("step", "said"), BAD_STEPS)
def test_what_is_no_step_is_refused_with_its_place(step: object, said: str) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        check_step(step)
    assert caught.value.errno == errno.EINVAL
    assert said in str(caught.value.strerror)


def test_our_rules_and_the_schema_agree_on_what_is_a_step() -> None:
    # Rules that a schema cannot say, and NaN, which is no JSON.
    beyond = ("the same tool_call_id", "no call of this step", "ISO 8601", "this is a number")
    schema = validator().evolve(schema={**validator().schema, "$ref": "#/$defs/step"})
    for name in ("type", "required", "properties", "additionalProperties"):
        schema = schema.evolve(schema={k: v for k, v in schema.schema.items() if k != name})
    for step, said in BAD_STEPS:
        if not said.startswith(beyond):
            numbered = {"step_id": 1, **step} if isinstance(step, dict) else step
            assert not schema.is_valid(numbered), step
    for step in STEPS:
        assert schema.is_valid({"step_id": 1, **step})
        check_step(step)


def whole() -> dict[str, Any]:
    return dict(json.loads(document(lines(*STEPS), "1")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": "ATIF-v1.3"}, "ATIF-v1.4"),
        ({"session_id": ""}, "session_id"),
        ({"agent": {"name": "a"}}, "it has no 'version'"),
        ({"steps": []}, "at least 1"),
        ({"steps": [{"step_id": 2, "source": "user", "message": ""}]}, "without a gap"),
        ({"final_metrics": {"total_steps": "4"}}, "total_steps"),
        ({"more": 1}, "no field 'more'"),
    ],
)
def test_what_is_no_trajectory_is_refused(change: dict[str, object], said: str) -> None:
    check(whole())
    with pytest.raises(OSError, match=r".") as caught:
        check({**whole(), **change})
    assert said in str(caught.value.strerror)
