"""Job: one order, and what became of it."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import trio
from attrs import define, field

from oanix.bell import Bell
from oanix.namespace import Namespace
from oanix.scheduler.pipe import Pipe
from oanix.scheduler.spec import Spec


class State(Enum):
    """Where a job is in its life. A job that is not started yet is pending, too."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether it stays so."""
        return self not in (State.PENDING, State.RUNNING)


@define(eq=False)
class Job:
    """One job. Times are seconds since the epoch.

    owner: whose it is, as `kit.conversation.maker_key` names makers. parent: the job that ordered
    it. ordered: since when it waits for its turn, None while its specification may change. due:
    before when it is not tried. exit: the code of its module. reason: why it is where it is.
    """

    id: int
    owner: str
    uid: int
    gid: int
    parent: int | None
    spec: Spec
    created: float
    priority: int = 0
    state: State = State.PENDING
    reason: str = "not started"
    tries: int = 0
    ordered: float | None = None
    due: float = 0.0
    started: float | None = None
    ended: float | None = None
    exit: int | None = None
    usage: dict[str, Any] = field(factory=dict)
    sealed: bool = False
    recipe: str = ""
    """The lines that its namespace was made of, once it ran."""

    bell: Bell = field(factory=Bell)
    """Rung when its state changes."""
    output: Bell = field(factory=Bell)
    """Rung when it has written, and at its end."""
    stdin: Pipe = field(factory=Pipe)
    result: bytes = b""
    """What it left in `/task/result.json`."""
    home: Namespace | None = None
    """Where it was ordered: its world is made of what that has."""
    namespace: Namespace | None = None
    """Its world, while it runs."""
    live: Callable[[], dict[str, Any]] | None = None
    """Tells what it has used so far, while it runs."""
    pause: Callable[[bool], None] | None = None
    """Has it stand still or go on, while it runs."""
    process: int | None = None
    """The process in which it runs, while it does: a worker, or the server."""
    scope: trio.CancelScope | None = None
    killed: str = ""
    """By what it was asked to end."""
    stopped: bool = False
    held: bool = False
    """Whether it waits for a server, as this one ends soon."""

    @property
    def exit_line(self) -> str:
        """What `wait` gives: the state, the code of the module if it ended with one, and why."""
        code = "" if self.exit is None else f" {self.exit}"
        return f"{self.state.value}{code}{f' {self.reason}' if self.reason else ''}"

    def facts(self) -> Mapping[str, object]:
        """Tell what `status` shows."""
        found: dict[str, object] = {
            "id": self.id,
            "state": self.state.value,
            "reason": self.reason or "-",
            "name": self.spec.name or "-",
            "priority": self.priority,
            "tries": self.tries,
            "exit": "-" if self.exit is None else self.exit,
            "stopped": "yes" if self.stopped else "no",
            "process": "-" if self.process is None else self.process,
        }
        for name in ("created", "ordered", "started", "ended"):
            at = getattr(self, name)
            found[name] = "-" if at is None else f"{at:.3f}"
        return found
