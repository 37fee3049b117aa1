"""Check: whether a document or a step is one of ATIF v1.4, the rules that a schema cannot say too.

A step has `step_id` from 1 without a gap; some fields are those of agents; a result names a call of
its own step. Errors are OSError EINVAL, with the place of what is wrong.
"""

import errno
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from oanix.errors import fault

Rule = Callable[[object, str], None]

AGENT_ONLY: Final = (
    "model_name", "reasoning_effort", "reasoning_content", "tool_calls", "metrics"
)  # fmt: skip
SOURCES: Final = ("system", "user", "agent")
NUMBER_MAX: Final = 1 << 40
"""Of one step: what is added up over all of them stays a number that every reader knows."""
AMOUNT_MAX: Final = 1e12


def check(document: object) -> None:
    """Check a whole trajectory. Raises OSError EINVAL."""
    found = _fields(document, "trajectory", _ROOT, ("schema_version", "session_id", "agent",
                                                    "steps"))  # fmt: skip
    if found["schema_version"] != "ATIF-v1.4":
        raise _wrong("schema_version", 'this is "ATIF-v1.4"')
    for number, step in enumerate(found["steps"], 1):
        where = f"steps[{number}]"
        check_step(step, where)
        if step.get("step_id") != number:
            raise _wrong(f"{where}.step_id", f"steps are numbered from 1 without a gap: {number}")


def check_step(step: object, where: str = "step") -> None:
    """Check one step; its number may be missing. Raises OSError EINVAL."""
    found = _fields(step, where, _STEP, ("source", "message"))
    if found["source"] != "agent":
        for name in AGENT_ONLY:
            if name in found:
                raise _wrong(f"{where}.{name}", "only a step of an agent has this")
    if found["source"] == "user" and "observation" in found:
        raise _wrong(f"{where}.observation", "a step of a user has none")
    calls = [call["tool_call_id"] for call in found.get("tool_calls", ())]
    if len(set(calls)) != len(calls):
        raise _wrong(f"{where}.tool_calls", "two calls of a step have the same tool_call_id")
    for result in found.get("observation", {"results": ()})["results"]:
        named = result.get("source_call_id")
        if named is not None and named not in calls:
            raise _wrong(f"{where}.observation", f"no call of this step is {named[:40]!r}")


def _wrong(where: str, sentence: str) -> OSError:
    return fault(errno.EINVAL, f"{where}: {sentence}")


# Values ------------------------------------------------------------------------------------------


def _fields(
    value: object, where: str, rules: Mapping[str, Rule], needed: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "this is an object")
    for name in needed:
        if name not in value:
            raise _wrong(where, f"it has no {name!r}")
    for name, one in value.items():
        rule = rules.get(name)
        if rule is None:
            raise _wrong(where, f"there is no field {name[:40]!r}; put it into extra")
        rule(one, f"{where}.{name}")
    return value


def _text(value: object, where: str) -> None:
    if not isinstance(value, str):
        raise _wrong(where, "this is a text")


def _name(value: object, where: str) -> None:
    if not isinstance(value, str) or not value:
        raise _wrong(where, "this is a text, and not empty")


def _object(value: object, where: str) -> None:
    if not isinstance(value, dict):
        raise _wrong(where, "this is an object")


def _count(value: object, where: str) -> None:
    if type(value) is not int or not 0 <= value <= NUMBER_MAX:
        raise _wrong(where, f"this is a whole number, not negative, and at most {NUMBER_MAX}")


def _number(value: object, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(where, "this is a number")


def _amount(value: object, where: str) -> None:
    _number(value, where)
    if isinstance(value, int | float) and not 0 <= value <= AMOUNT_MAX:
        raise _wrong(where, f"this is not negative, and at most {AMOUNT_MAX:g}")


def _total(value: object, where: str) -> None:
    if type(value) is not int or value < 0:
        raise _wrong(where, "this is a whole number, and not negative")


def _step_id(value: object, where: str) -> None:
    if type(value) is not int or value < 1:
        raise _wrong(where, "this is a whole number from 1 on")


def _time(value: object, where: str) -> None:
    try:
        datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        raise _wrong(where, "this is a time as ISO 8601 writes it") from None


def _source(value: object, where: str) -> None:
    if value not in SOURCES:
        raise _wrong(where, f"this is one of: {', '.join(SOURCES)}")


def _effort(value: object, where: str) -> None:
    if not isinstance(value, str):
        _number(value, where)


def _null_or_name(value: object, where: str) -> None:
    if value is not None:
        _name(value, where)


def _list(rule: Rule, least: int = 0) -> Rule:
    def check_list(value: object, where: str) -> None:
        if not isinstance(value, list) or len(value) < least:
            raise _wrong(where, "this is a list" + (f" of at least {least}" if least else ""))
        for number, one in enumerate(value, 1):
            rule(one, f"{where}[{number}]")

    return check_list


def _table(rules: Mapping[str, Rule], *needed: str) -> Rule:
    def check_table(value: object, where: str) -> None:
        _fields(value, where, rules, needed)

    return check_table


def _any(value: object, where: str) -> None:
    """Let everything be: steps are checked one by one."""


_CALL: Final[dict[str, Rule]] = {
    "tool_call_id": _name, "function_name": _name, "arguments": _object,
}  # fmt: skip
_REFERENCE: Final[dict[str, Rule]] = {
    "session_id": _name, "trajectory_path": _text, "extra": _object,
}  # fmt: skip
_RESULT: Final[dict[str, Rule]] = {
    "source_call_id": _null_or_name, "content": _text,
    "subagent_trajectory_ref": _list(_table(_REFERENCE, "session_id")),
}  # fmt: skip
_METRICS: Final[dict[str, Rule]] = {
    "prompt_tokens": _count, "completion_tokens": _count, "cached_tokens": _count,
    "cost_usd": _amount, "prompt_token_ids": _list(_count), "completion_token_ids": _list(_count),
    "logprobs": _list(_number), "extra": _object,
}  # fmt: skip
_STEP: Final[dict[str, Rule]] = {
    "step_id": _step_id, "timestamp": _time, "source": _source, "model_name": _text,
    "reasoning_effort": _effort, "message": _text, "reasoning_content": _text,
    "tool_calls": _list(_table(_CALL, *_CALL)),
    "observation": _table({"results": _list(_table(_RESULT))}, "results"),
    "metrics": _table(_METRICS), "extra": _object,
}  # fmt: skip
_AGENT: Final[dict[str, Rule]] = {
    "name": _name, "version": _name, "model_name": _text, "extra": _object,
}  # fmt: skip
_FINAL: Final[dict[str, Rule]] = {
    "total_prompt_tokens": _total, "total_completion_tokens": _total,
    "total_cached_tokens": _total, "total_cost_usd": _number, "total_steps": _total,
    "extra": _object,
}  # fmt: skip
_ROOT: Final[dict[str, Rule]] = {
    "schema_version": _text, "session_id": _name, "agent": _table(_AGENT, "name", "version"),
    "steps": _list(_any, 1), "notes": _text, "final_metrics": _table(_FINAL), "extra": _object,
}  # fmt: skip
