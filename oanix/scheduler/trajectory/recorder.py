"""Recorder: groups what one job does into steps, and appends them to the record of its run.

A step of the agent is what it says, and the calls that it makes from then until it says more: it is
written when there is more, when it is full, and half a second after it began. What a job may cost
in records is bounded; what goes beyond is counted, and the last step tells how much.
"""

import errno
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from attrs import define, field

from oanix.errors import fault
from oanix.lib.atif import Header, Lines, check_step, stamp, step_line
from oanix.lib.atif.document import ENDED, dump
from oanix.scheduler.trajectory.calls import CONTENT_MAX, Calls, Made, Mask, cut, shown
from oanix.scheduler.trajectory.room import OWN_MAX, Room

log = logging.getLogger(__name__)

CALLS_MAX: Final = 50
"""Calls of one step."""
MESSAGE_MAX: Final = 4_000
"""Characters that one step shows of what was said."""
LINE_MAX: Final = 16_384
"""Bytes of a line of output that are kept until it ends."""


class Kept(Protocol):
    """Where the lines go."""

    def append(self, data: bytes) -> None:
        """Append whole lines. Raises OSError, and then nothing was stored."""


@define(eq=False)
class _Stream:
    """A standard file: what of a line has not ended, and how many bytes are not shown."""

    half: bytearray = field(factory=bytearray)
    missed: int = 0


@define(eq=False)
class _Open:
    """The step that is being made. lines: what was said, or heard by the agent."""

    began: float
    lines: list[str] = field(factory=list)
    length: int = 0
    streams: set[str] = field(factory=set)
    calls: Calls = field(factory=Calls)
    own: dict[str, Any] | None = None
    size: int = 0
    """Bytes of the step that the job has recorded, which this is."""

    @property
    def empty(self) -> bool:
        return not self.lines and not len(self.calls) and self.own is None

    @property
    def heard(self) -> bool:
        return "stdin" in self.streams


class Recorder:
    """The trajectory of one run, while it grows."""

    def __init__(
        self, kept: Kept, before: Lines, *, now: Callable[[], float], mask: Mask,
        wrote: Callable[[], None], session: Callable[[int], str], dirty: Callable[[], None],
    ) -> None:  # fmt: skip
        """Make it.

        before: what there is already; wrote: called when there is more to read; session: names the
        trajectory of a job; dirty: called when there is something that is not written yet.
        """
        self._kept = kept
        self._steps = len(before.steps)
        self._begun = before.header is not None or bool(before.steps)
        self.room = Room(before.size, before.own)
        self._now = now
        self._mask = mask
        self._wrote = wrote
        self._session = session
        self._dirty = dirty
        self._open = _Open(now())
        self._streams: dict[str, _Stream] = {}
        self._call_number = 0
        self.dropped: Counter[str] = Counter()
        self._counted = Made("", {})
        self._lost = 0
        self._header = b""
        """The first line, until it is written."""

    # What is seen --------------------------------------------------------------------------------

    def begin(self, header: Header) -> None:
        """Have the first line written with the first step, unless it is there."""
        if not self._begun:
            self._header = header.line()

    def system(self, message: str, *, event: str = "", **extra: Any) -> None:
        """Write a step of the runtime."""
        self._plain("system", message, {"event": event, **extra} if event else extra)

    def user(self, message: str, **extra: Any) -> None:
        """Write a step of whoever ordered the job."""
        self._plain("user", message, extra)

    def _plain(self, source: str, message: str, extra: Mapping[str, Any]) -> None:
        self.flush()
        mask = self._masking(message, extra)
        self._write({
            "timestamp": stamp(self._now()), "source": source,
            "message": cut(mask(message), MESSAGE_MAX),
            "extra": {"by": "runtime", **shown(extra, mask)},
        })  # fmt: skip

    def again(self, name: str, key: str, errno: str = "") -> Made | None:
        """Count one more call like one of this step; gives it, or None where there is none.

        Once calls are only counted, what it gives is nothing's. This is what a loop costs.
        """
        if self.room.over if errno else self.room.full:
            self.dropped[name] += 1
            return self._counted
        same = self._open.calls.find(name, key, errno)
        if same is not None:
            same.times += 1
        return same

    def call(self, one: Made) -> None:
        """Take a call that the agent made."""
        if self.room.over if one.weighty else self.room.full:
            self.dropped[one.name] += 1
            return
        step = self._open
        if step.heard:
            self.flush()
            step = self._open
        if step.empty:
            self._began()
        if step.calls.add(one):
            self.room.take(weighty=one.weighty)
            if len(step.calls) >= CALLS_MAX:
                self.flush()

    def said(self, stream: str, data: bytes) -> None:
        """Take what the agent has written to its standard output or error."""
        if len(self._open.calls) or self._open.own is not None or self._open.heard:
            self.flush()
        self._take(stream, data)

    def heard(self, data: bytes) -> None:
        """Take what the agent has read from its standard input."""
        if not self._open.heard:
            self.flush()
        self._take("stdin", data)

    def _take(self, name: str, data: bytes) -> None:
        stream = self._streams.setdefault(name, _Stream())
        if self.room.silent:
            stream.missed += len(data)
            return
        # Of a flood no more is split into lines than could be shown.
        stream.missed += max(0, len(data) - LINE_MAX)
        *lines, rest = data[:LINE_MAX].split(b"\n")
        if lines:
            lines[0] = bytes(stream.half) + lines[0]
            stream.half.clear()
        room = LINE_MAX - len(stream.half)
        stream.half += rest[:room]
        stream.missed += max(0, len(rest) - room)
        for line in lines:
            self._line(name, line)

    def _line(self, name: str, line: bytes) -> None:
        if self._open.empty:
            self._began()
        text = line.decode("utf-8", "replace")
        step = self._open
        step.streams.add(name)
        step.lines.append(text)
        step.length += len(text) + 1
        self.room.said += len(text) + 1
        if step.length >= MESSAGE_MAX:
            self.flush()

    def admit(self, size: int) -> None:
        """Refuse a step of the job, before it is read, past the bound. Raises OSError EDQUOT."""
        if self.room.own + size > OWN_MAX:
            raise fault(errno.EDQUOT, f"a job adds at most {OWN_MAX} bytes of steps")

    def own(self, step: dict[str, Any], size: int) -> None:
        """Take a step that the job has recorded itself.

        Raises OSError: EINVAL for what is none, EDQUOT past the bound.
        """
        self.admit(size)
        if "step_id" in step:
            raise fault(errno.EINVAL, "steps are numbered here; leave out step_id")
        step = {"source": "agent", "message": "", **step}
        check_step(step)
        step["extra"] = {**step.get("extra", {}), "by": "job"}
        step["extra"].pop("seen", None)
        try:
            step = masked(step, self._masking(step))
            dump(step)
        except (RecursionError, ValueError):
            sentence = "a step is not nested as deep as this, and has no number beyond all bounds"
            raise fault(errno.EINVAL, sentence) from None
        self.room.own += size
        self.flush()
        self._began()
        self._open.own, self._open.size = step, size
        if step["source"] != "agent" or "tool_calls" in step or "observation" in step:
            # What it did is said already: what is seen from now on belongs to the next step.
            self.flush()

    def _began(self) -> None:
        self._open.began = self._now()
        self._dirty()

    # Writing -------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write the step that is being made, if there is anything in it."""
        step = self._open
        if step.empty:
            return
        self._open = _Open(self._now())
        made: dict[str, Any] = {"timestamp": stamp(step.began)}
        if step.own is not None:
            made |= step.own
        else:
            source = "user" if step.heard else "agent"
            message = "\n".join(step.lines)
            message = cut(self._masking(message)(message), MESSAGE_MAX)
            made |= {"source": source, "message": message}
        extra: dict[str, Any] = made.pop("extra", {"by": "runtime"})
        if step.streams:
            extra["streams"] = sorted(step.streams)
        if len(step.calls):
            made |= self._calls(step.calls, extra)
        made["extra"] = extra
        self._write(made, own=step.size)

    def _calls(self, calls: Calls, extra: dict[str, Any]) -> dict[str, Any]:
        mask = self._masking(*([one.arguments, one.paths, one.outcome] for one in calls))
        listed, results = [], []
        took: dict[str, float] = {}
        failed: dict[str, str] = {}
        for one in calls:
            self._call_number += 1
            name = f"c{self._call_number}"
            if one.paths:
                one.arguments = {**one.arguments, "paths": one.paths}
            listed.append({
                "tool_call_id": name, "function_name": one.name,
                "arguments": shown(one.arguments, mask),
            })  # fmt: skip
            result: dict[str, Any] = {
                "source_call_id": name, "content": cut(mask(one.content()), CONTENT_MAX),
            }  # fmt: skip
            if one.run:
                result["subagent_trajectory_ref"] = [{
                    "session_id": self._session(one.run),
                    "trajectory_path": f"/logs/runs/{one.run}/trajectory.json",
                }]  # fmt: skip
            results.append(result)
            if one.seconds >= 0:
                took[name] = round(one.seconds * 1e3, 3)
            if one.errno:
                failed[name] = one.errno
        extra["seen"] = {"ms": took, "failed": failed}
        return {"tool_calls": listed, "observation": {"results": results}}

    def _masking(self, *values: Any) -> Mask:
        """Give what masks these. A secret is in few steps: all texts are looked through at once."""
        whole = "\0".join(texts(values))
        return self._mask if self._mask(whole) != whole else str

    def _write(self, step: dict[str, Any], own: int = 0) -> None:
        line = step_line(self._steps + 1, step)
        if self._store(line):
            self._steps += 1
            self.room.wrote(max(len(line) - own, 0))

    def _store(self, line: bytes) -> bool:
        try:
            self._kept.append(self._header + line)
        except OSError as error:
            # The job goes on; a disk that is full is told once, and the loss in the last step.
            if not self._lost:
                log.warning("a trajectory cannot be written: %s", error.strerror)
            self._lost += 1
            return False
        self._header, self._begun = b"", True
        self._wrote()
        return True

    def end(self, message: str, *, last: bool, **extra: Any) -> None:
        """Write the last step of a run, or of a try that is followed by another."""
        for name, stream in self._streams.items():
            if stream.half:
                self.flush()
                self._line(name, bytes(stream.half))
                stream.half.clear()
        self.flush()
        missed = {name: one.missed for name, one in self._streams.items() if one.missed}
        extra |= {"not_shown": missed} if missed else {}
        extra |= {"not_recorded": dict(self.dropped)} if self.dropped else {}
        extra |= {"steps_lost": self._lost} if self._lost else {}
        if self.dropped:
            message += f"\n{self.dropped.total():,} more calls were counted, and not recorded"
        self.system(message, event=ENDED if last else "tried", **extra)


def texts(value: Any) -> Iterator[str]:
    """List the texts in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts(one)


def masked(value: Any, mask: Mask) -> Any:
    """Mask the secrets in all texts of a value, the names of its fields apart."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {name: masked(one, mask) for name, one in value.items()}
    if isinstance(value, list):
        return [masked(one, mask) for one in value]
    return value
