"""A trajectory as lines of text: for a terminal, and for a pipe."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from attrs import frozen

from oanix.cli.output import escape
from oanix.lib.atif import Call, Step, Trajectory

NAME_WIDTH: Final = 16
WIDTH: Final = 32
"""Columns that the arguments of a call have at least."""
ARGUMENT_MAX: Final = 80
"""Characters of an argument that is not a path, in a line."""

_COLOURS: Final = {
    "system": "36", "user": "33", "agent": "32", "failed": "1;31", "dim": "2", "bold": "1",
}  # fmt: skip


@frozen
class Paper:
    """What it is written on. width: where lines are cut, 0 for nowhere."""

    colours: bool = False
    width: int = 0

    def paint(self, kind: str, text: str) -> str:
        """Colour a text, where there are colours."""
        return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if self.colours and text else text

    def cut(self, text: str, used: int) -> str:
        """Cut what has no room in a line."""
        room = max(self.width - used, 20)
        return text if not self.width or len(text) <= room else f"{text[: room - 1]}…"


def whole(found: Trajectory, paper: Paper) -> Iterator[str]:
    """Write all of a trajectory."""
    yield from head(found, paper)
    before = ""
    for step in found.steps:
        yield ""
        yield from one_step(step, before, paper)
        before = step.timestamp or before
    if found.notes:
        yield ""
        yield paper.paint("failed", escape(found.notes))


def head(found: Trajectory, paper: Paper) -> Iterator[str]:
    """Write what it is about, and what it came to."""
    name = escape(str(found.agent.get("name", "")))
    ended = ending(found)
    kind = "agent" if ended.startswith("completed") else "failed" if ended else "user"
    state = paper.paint(kind, escape(ended) or "running")
    yield f"{paper.paint('bold', f'{escape(found.session)}  {name}')}  {state}"
    yield paper.paint("dim", origin(found))
    yield summary(found)


def origin(found: Trajectory) -> str:
    """Tell which module it was, and who ordered it."""
    module, version = str(found.extra.get("module", "")), str(found.agent.get("version", ""))
    said = [module] if module and module != version else []
    said.append(f"{version[:19]}…" if version.startswith("sha256:") else version)
    parent = found.extra.get("parent_session_id")
    said += [f"ordered by {parent}"] if parent else []
    return escape(", ".join(said))


def ending(found: Trajectory) -> str:
    """Give the exit line; empty while it runs."""
    last = found.steps[-1]
    if not found.extra.get("complete"):
        return ""
    return str(last.extra.get("exit_line") or last.message.split("\n")[0])


def summary(found: Trajectory) -> str:
    """Tell when, how long, how much."""
    calls = [call for step in found.steps for call in step.calls]
    failed = sum(bool(call.errno) for call in calls)
    said = [f"started {local(found.steps[0].timestamp)}"]
    took = between(found.steps[0].timestamp, found.steps[-1].timestamp)
    said += [f"took {duration(took)}"] if took is not None and found.extra.get("complete") else []
    said += [counted(len(found.steps), "step"), counted(len(calls), "call")]
    said += [f"{failed} failed"] if failed else []
    return ", ".join([*said, *tokens(found.totals, "total_")])


def counted(number: int, noun: str) -> str:
    """Write a number of things."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def tokens(metrics: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Write what is known of tokens and cost."""
    names = {"prompt_tokens": "prompt", "completion_tokens": "completion",
             "cached_tokens": "cached"}  # fmt: skip
    said = [
        f"{metrics[prefix + name]:,} {word} tokens"
        for name, word in names.items()
        if prefix + name in metrics
    ]
    cost = metrics.get(f"{prefix}cost_usd")
    return [*said, f"${cost:,.4f}"] if cost is not None else said


def one_step(step: Step, before: str, paper: Paper) -> Iterator[str]:
    """Write one step. before: the time of the one before it."""
    since = between(before, step.timestamp) if before else None
    when = local(step.timestamp, date=False) if since is None else f"+{duration(since)}"
    told = [paper.paint(step.source, step.source)]
    told += [escape(step.model)] if step.model else []
    told += ["recorded by the job"] if step.by_job else []
    told += tokens(step.metrics)
    yield f"{step.number:>4}  {paper.paint('dim', f'{when:>12}')}  {', '.join(told)}"
    for line in step.reasoning.splitlines():
        yield paper.paint("dim", f"      ~ {paper.cut(escape(line), 8)}")
    for line in step.message.splitlines():
        yield f"      {'│ ' if step.source == 'agent' else ''}{paper.cut(escape(line), 8)}"
    for call in step.calls:
        yield one_call(call, paper)
    for result in step.results:
        yield f"      = {paper.cut(escape(result), 8)}"


def one_call(call: Call, paper: Paper) -> str:
    """Write one call in one line."""
    mark = "✗" if call.errno else " "
    took = f"  {duration(call.ms / 1e3)}" if call.ms is not None else ""
    content = escape(call.content) + "".join(f" → {escape(run)}" for run in call.runs)
    begin = f"    {mark} {escape(call.name):{NAME_WIDTH}} {arguments(call.arguments):{WIDTH}}"
    begin = paper.cut(begin, 24 + len(took))
    content = paper.cut(content, len(begin) + 2 + len(took))
    if call.errno:
        return paper.paint("failed", f"{begin}  {content}{took}")
    return f"{begin}  {paper.paint('dim', content + took)}"


def arguments(said: Mapping[str, Any]) -> str:
    """Write arguments in short: paths and addresses as they are, others with their names."""
    words = []
    for name, value in said.items():
        if name in ("path", "url", "method", "command") and isinstance(value, str):
            words.append(escape(value))
        elif name == "paths" and isinstance(value, list):
            words += [escape(str(path)) for path in value]
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            text = text if len(text) <= ARGUMENT_MAX else f"{text[:ARGUMENT_MAX]}…"
            words.append(f"{escape(name)}={escape(text)}")
    return " ".join(words)


# Times -------------------------------------------------------------------------------------------


def local(text: str, *, date: bool = True) -> str:
    """Write a time as it is at this place."""
    try:
        when = datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return escape(text) or "-"
    clock = when.strftime("%H:%M:%S.%f")[:-3]
    return f"{when:%Y-%m-%d} {clock[:-4]}" if date else clock


def between(first: str, last: str) -> float | None:
    """Tell how many seconds lie between two times."""
    try:
        return (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds()
    except (ValueError, TypeError):
        return None


def duration(seconds: float) -> str:
    """Write how long something took."""
    if abs(seconds) < 1:
        return f"{seconds * 1e3:.3g} ms"
    if abs(seconds) < 120:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:,.1f} min"
