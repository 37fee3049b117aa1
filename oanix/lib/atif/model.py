"""Model: a trajectory as it is shown: each call with what came of it."""

import json
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from oanix.lib.atif.document import document


@frozen(kw_only=True)
class Call:
    """One call of a tool. errno: what it failed with, by name. runs: jobs that it led to."""

    name: str
    arguments: Mapping[str, Any]
    content: str = ""
    errno: str = ""
    ms: float | None = None
    runs: tuple[str, ...] = ()


@frozen(kw_only=True)
class Step:
    """One step. results: what was observed that belongs to no call."""

    number: int
    source: str
    message: str
    timestamp: str = ""
    calls: tuple[Call, ...] = ()
    results: tuple[str, ...] = ()
    model: str = ""
    reasoning: str = ""
    metrics: Mapping[str, Any] = field(factory=dict)
    extra: Mapping[str, Any] = field(factory=dict)

    @property
    def by_job(self) -> bool:
        """Whether the agent recorded it itself."""
        return self.extra.get("by") == "job"

    @property
    def failed(self) -> bool:
        """Whether something in it went wrong."""
        return any(call.errno for call in self.calls)


@frozen(kw_only=True)
class Trajectory:
    """All of one."""

    session: str
    agent: Mapping[str, Any]
    steps: tuple[Step, ...]
    totals: Mapping[str, Any]
    notes: str
    extra: Mapping[str, Any]

    @classmethod
    def read(cls, text: bytes) -> "Trajectory":
        """Read a document that `document` made. Raises ValueError, KeyError for anything else."""
        found = json.loads(text)
        return cls(
            session=found["session_id"], agent=found["agent"],
            steps=tuple(map(step_of, found["steps"])), totals=found.get("final_metrics", {}),
            notes=found.get("notes", ""), extra=found.get("extra", {}),
        )  # fmt: skip

    @classmethod
    def of_lines(cls, raw: bytes, run: str) -> "Trajectory":
        """Read the lines of a trajectory."""
        return cls.read(document(raw, run))


def step_of(found: Mapping[str, Any]) -> Step:
    """Read a step of a document."""
    extra = found.get("extra") or {}
    results: dict[str | None, list[Mapping[str, Any]]] = {}
    for result in (found.get("observation") or {}).get("results", ()):
        results.setdefault(result.get("source_call_id"), []).append(result)
    seen = extra.get("seen") or {}
    failed, took = seen.get("failed", {}), seen.get("ms", {})
    calls = []
    for call in found.get("tool_calls") or ():
        name = call["tool_call_id"]
        of = results.get(name, [])
        references = [ref for one in of for ref in one.get("subagent_trajectory_ref") or ()]
        calls.append(Call(
            name=call["function_name"], arguments=call["arguments"],
            content="\n".join(one.get("content") or "" for one in of),
            errno=failed.get(name, ""), ms=took.get(name),
            runs=tuple(ref["session_id"] for ref in references),
        ))  # fmt: skip
    return Step(
        number=found["step_id"], source=found["source"], message=found["message"],
        timestamp=found.get("timestamp", ""), calls=tuple(calls),
        results=tuple(one.get("content") or "" for one in results.get(None, ())),
        model=found.get("model_name", ""), reasoning=found.get("reasoning_content", ""),
        metrics=found.get("metrics") or {}, extra=extra,
    )  # fmt: skip
