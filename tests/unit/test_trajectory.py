"""Recorder: how what a job does becomes steps, within bounds, and with secrets masked."""

import errno
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.errors import fault
from oanix.lib.atif import Header, Lines, document
from oanix.lib.vault import Mask
from oanix.scheduler.trajectory.calls import Made
from oanix.scheduler.trajectory.recorder import CALLS_MAX, Recorder
from oanix.scheduler.trajectory.room import BYTES_MAX, OWN_MAX, WEIGHTY_MAX
from oanix.scheduler.trajectory.room import CALLS_MAX as RECORDED_MAX
from tests.scheduler.atif import valid

SECRET = "hunter2-hunter2"


class Paper:
    """Where the lines go; a disk that can be full."""

    def __init__(self) -> None:
        self.raw = b""
        self.full = False

    def append(self, data: bytes) -> None:
        if self.full:
            raise fault(errno.ENOSPC, "no space left on device")
        self.raw += data

    def steps(self) -> list[Any]:
        found = valid(document(self.raw, "1"))
        return list(found["steps"])


class Desk:
    """A recorder and its paper."""

    def __init__(self, mask: Mask | None = None) -> None:
        self.paper = Paper()
        self.dirty = 0
        self.now = 1_000.0
        self.recorder = self.again(mask)
        header = Header(session_id="s", agent={"name": "a", "version": "1"}, created_at="x")
        self.recorder.begin(header)

    def again(self, mask: Mask | None = None) -> Recorder:
        return Recorder(
            self.paper, Lines.of(self.paper.raw, "1"), now=lambda: self.now,
            mask=(mask or Mask()).text, wrote=lambda: None,
            session=lambda number: f"job-{number}-s", dirty=self._dirtied,
        )  # fmt: skip

    def _dirtied(self) -> None:
        self.dirty += 1

    def steps(self) -> list[Any]:
        self.recorder.flush()
        return self.paper.steps()


def read(path: str, size: int = 10, number: str = "") -> Made:
    return Made("read_file", {"path": path}, errno=number, read=size, seconds=0.001)


def contents(step: Any) -> list[str]:
    return [result["content"] for result in step["observation"]["results"]]


def test_alike_calls_of_a_step_are_one() -> None:
    desk = Desk()
    for _ in range(3):
        desk.recorder.call(read("/a"))
    desk.recorder.call(read("/b"))
    desk.recorder.call(read("/a", 0, "EIO"))
    [step] = desk.steps()
    assert [call["arguments"]["path"] for call in step["tool_calls"]] == ["/a", "/b", "/a"]
    assert contents(step) == ["read 30 bytes, 3 times", "read 10 bytes", "EIO: done"]
    assert step["extra"]["seen"]["failed"] == {"c3": "EIO"}
    assert step["extra"]["seen"]["ms"] == {"c1": 3.0, "c2": 1.0, "c3": 1.0}


def test_a_step_is_what_is_said_and_the_calls_that_follow() -> None:
    desk = Desk()
    desk.recorder.said("stdout", b"one\ntw")
    desk.recorder.said("stderr", b"oops\n")
    desk.recorder.said("stdout", b"o\n")
    desk.recorder.call(read("/a"))
    desk.recorder.said("stdout", b"three\n")
    first, second = desk.steps()
    assert (first["message"], len(first["tool_calls"])) == ("one\noops\ntwo", 1)
    assert first["extra"]["streams"] == ["stderr", "stdout"]
    assert (second["message"], second.get("tool_calls")) == ("three", None)


def test_what_is_read_from_the_input_is_a_step_of_the_user() -> None:
    desk = Desk()
    desk.recorder.call(read("/a"))
    desk.recorder.heard(b"do\nthis\n")
    desk.recorder.call(read("/b"))
    assert [(s["source"], s["message"]) for s in desk.steps()] == [
        ("agent", ""), ("user", "do\nthis"), ("agent", ""),
    ]  # fmt: skip


def test_half_a_line_is_said_at_the_end() -> None:
    desk = Desk()
    desk.recorder.said("stdout", b"no newline")
    assert desk.paper.raw == b""
    desk.recorder.end("completed 0", last=True)
    assert [s["message"] for s in desk.steps()] == ["no newline", "completed 0"]


def test_steps_that_are_recorded_by_the_job_take_the_calls_that_follow() -> None:
    desk = Desk()
    desk.recorder.own({"message": "I read", "model_name": "m", "extra": {"seen": 1, "by": "x"}}, 9)
    desk.recorder.call(read("/a"))
    desk.recorder.own({"source": "user", "message": "more"}, 9)
    desk.recorder.call(read("/b"))
    own, user, after = desk.steps()
    assert (own["message"], own["model_name"], len(own["tool_calls"])) == ("I read", "m", 1)
    assert own["extra"] == {"by": "job", "seen": {"failed": {}, "ms": {"c1": 1.0}}}
    assert (user["source"], user["extra"]) == ("user", {"by": "job"})
    assert (after["extra"]["by"], len(after["tool_calls"])) == ("runtime", 1)


def deep(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


@pytest.mark.parametrize(
    ("step", "number", "said"),
    [
        ({"step_id": 3, "message": ""}, errno.EINVAL, "leave out step_id"),
        ({"source": "user", "message": "", "metrics": {}}, errno.EINVAL, "only a step of an agent"),
        ({"text": ""}, errno.EINVAL, "no field 'text'"),
        ({"extra": {"a": float("inf")}}, errno.EINVAL, "beyond all bounds"),
        ({"extra": {"a": deep(900)}}, errno.EINVAL, "nested"),
        ({"metrics": {"cost_usd": 1e308}}, errno.EINVAL, "at most"),
        ({"metrics": {"prompt_tokens": 1 << 60}}, errno.EINVAL, "at most"),
    ],
)
def test_what_is_no_step_of_a_job_is_refused(step: Any, number: int, said: str) -> None:
    desk = Desk()
    with pytest.raises(OSError, match=said) as caught:
        desk.recorder.own(step, 10)
    assert caught.value.errno == number
    with pytest.raises(OSError, match="at most") as caught:
        desk.recorder.own({"message": ""}, OWN_MAX + 1)
    assert caught.value.errno == errno.EDQUOT


def test_a_handed_on_job_is_referred_to() -> None:
    desk = Desk()
    desk.recorder.call(Made("control_job", {"job": 8, "command": "start"}, run=8))
    [step] = desk.steps()
    [result] = step["observation"]["results"]
    assert result["subagent_trajectory_ref"] == [
        {"session_id": "job-8-s", "trajectory_path": "/logs/runs/8/trajectory.json"}
    ]


def test_secrets_are_masked_wherever_they_are_and_however_they_are_cut() -> None:
    desk = Desk(Mask([SECRET.encode()]))
    recorder = desk.recorder = desk.again(Mask([SECRET.encode()]))
    recorder.call(Made("http_request", {"url": f"x{SECRET}", "list": [{"a": SECRET}]}, SECRET))
    recorder.call(Made("look_for", {}, "", "ENOENT", paths=[f"/{SECRET}"]))
    for piece in (SECRET[:4], SECRET[4:]):
        recorder.said("stdout", piece.encode())
        recorder.flush()
    recorder.said("stdout", b"\n" + b"a" * 3_990 + SECRET.encode() + b"\n")
    recorder.own({"message": SECRET, "extra": {"deep": [SECRET]}}, 10)
    recorder.user(SECRET, args=[SECRET])
    recorder.end(SECRET, last=True, answer={"a": SECRET})
    assert len(desk.steps()) == 5
    assert SECRET.encode() not in desk.paper.raw
    assert SECRET[:8].encode() not in desk.paper.raw
    assert b"*" * len(SECRET) in desk.paper.raw


@pytest.mark.slow
def test_a_flood_of_calls_is_counted_and_not_recorded() -> None:
    desk = Desk()
    for number in range(RECORDED_MAX + 1_000):
        desk.recorder.call(read(f"/{number}"))
    assert desk.recorder.room.full
    for _ in range(100_000):
        desk.recorder.call(read("/x"))
    desk.recorder.end("completed 0", last=True)
    steps = desk.steps()
    recorded = sum(len(step.get("tool_calls", ())) for step in steps)
    assert recorded == RECORDED_MAX
    assert max(len(step.get("tool_calls", ())) for step in steps) == CALLS_MAX
    assert steps[-1]["extra"]["not_recorded"] == {"read_file": 101_000}
    assert "101,000 more calls" in steps[-1]["message"]
    assert len(desk.paper.raw) < BYTES_MAX


@pytest.mark.slow
def test_what_failed_and_what_was_served_is_told_even_after_a_flood_of_calls() -> None:
    desk = Desk()
    for number in range(RECORDED_MAX + 10):
        desk.recorder.call(read(f"/{number}"))
    desk.recorder.call(read("/refused", 0, "EACCES"))
    desk.recorder.call(Made("http_request", {"url": "u"}, "200 OK", served=True))
    for number in range(WEIGHTY_MAX + 10):
        desk.recorder.call(read(f"/refused/{number}", 0, "EACCES"))
    assert desk.recorder.room.over
    desk.recorder.end("completed 0", last=True)
    steps = desk.steps()
    told = [call for step in steps for call in step.get("tool_calls", ())]
    assert len(told) == RECORDED_MAX + WEIGHTY_MAX
    assert {"url": "u"} in [call["arguments"] for call in told]
    assert {"path": "/refused"} in [call["arguments"] for call in told]
    assert steps[-1]["extra"]["not_recorded"] == {"read_file": 22}


def test_steps_of_the_job_take_no_room_from_what_is_seen() -> None:
    desk = Desk()
    step = {"message": "x" * 60_000}
    for _ in range(OWN_MAX // 60_100):
        desk.recorder.own(step, 60_100)
    with pytest.raises(OSError, match="at most"):
        desk.recorder.own(step, 60_100)
    assert not desk.recorder.room.full
    desk.recorder.call(read("/a"))
    assert desk.steps()[-1]["tool_calls"][0]["arguments"] == {"path": "/a"}
    # Neither does a second try give it room again.
    desk.recorder = desk.again()
    with pytest.raises(OSError, match="at most"):
        desk.recorder.own(step, 60_100)


@pytest.mark.slow
def test_all_tries_of_a_run_share_its_room() -> None:
    desk = Desk()
    for _ in range(4):
        for number in range(RECORDED_MAX):
            desk.recorder.call(read(f"/{number}/{'x' * 100}"))
        desk.recorder.end("tried", last=False)
        desk.recorder = desk.again()
    assert desk.recorder.room.full
    assert len(desk.paper.raw) < BYTES_MAX + (1 << 20)


def test_a_flood_of_output_is_cut_and_counted() -> None:
    desk = Desk()
    for _ in range(4_096):
        desk.recorder.said("stdout", b"x" * 4_095 + b"\n")
    desk.recorder.said("stderr", b"y" * 100_000)
    desk.recorder.end("failed output", last=True)
    last = desk.steps()[-1]
    assert len(desk.paper.raw) < 1 << 20
    assert last["extra"]["not_shown"]["stdout"] > 15 << 20
    assert last["extra"]["not_shown"]["stderr"] > 80_000


def test_a_full_disk_costs_steps_and_their_numbers_have_no_gap() -> None:
    desk = Desk()
    desk.paper.full = True
    desk.recorder.system("lost")
    desk.paper.full = False
    desk.recorder.system("one")
    desk.paper.full = True
    desk.recorder.call(read("/lost"))
    desk.recorder.flush()
    desk.paper.full = False
    desk.recorder.end("completed 0", last=True)
    first, last = desk.steps()
    assert (first["message"], last["message"]) == ("one", "completed 0")
    assert last["extra"]["steps_lost"] == 2
    # The first line is written with the first step that can be.
    assert json.loads(document(desk.paper.raw, "1"))["session_id"] == "s"


def test_a_second_try_goes_on_where_the_first_has_ended() -> None:
    desk = Desk()
    desk.recorder.end("tried 1 times", last=False)
    assert json.loads(document(desk.paper.raw, "1"))["extra"]["complete"] is False
    desk.recorder = desk.again()
    desk.recorder.system("again")
    desk.recorder.end("completed 0", last=True)
    assert [step["message"] for step in desk.steps()] == ["tried 1 times", "again", "completed 0"]


TEXTS = st.text(st.characters(exclude_categories=()), max_size=30)
ACTS = st.one_of(
    st.tuples(st.just("call"), TEXTS, st.sampled_from(["", "EIO", "ENOENT"])),
    st.tuples(st.just("said"), st.sampled_from(["stdout", "stderr"]), st.binary(max_size=50)),
    st.tuples(st.just("heard"), st.binary(max_size=20), st.none()),
    st.tuples(st.just("own"), TEXTS, st.sampled_from(["agent", "user", "system"])),
    st.tuples(st.just("flush"), st.none(), st.none()),
)


@pytest.mark.slow
@given(st.lists(ACTS, max_size=40))
def test_whatever_a_job_does_its_trajectory_is_valid(acts: list[tuple[str, Any, Any]]) -> None:
    desk = Desk()
    for what, first, second in acts:
        if what == "call":
            desk.recorder.call(Made("read_file", {"path": first}, first, second, paths=[first]))
        elif what == "said":
            desk.recorder.said(first, second)
        elif what == "heard":
            desk.recorder.heard(first)
        elif what == "own":
            desk.recorder.own({"source": second, "message": first}, 1)
        else:
            desk.recorder.flush()
    desk.recorder.end("completed 0", last=True)
    calls = sum(len(step.get("tool_calls", ())) for step in desk.steps())
    assert bool(calls) == any(what == "call" for what, _, _ in acts)
