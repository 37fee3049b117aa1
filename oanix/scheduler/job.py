"""Job: one order, and what became of it."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

import trio
from attrs import define, field

from oanix.bell import Bell
from oanix.caller import Caller
from oanix.namespace import Namespace
from oanix.scheduler.limits import Limits
from oanix.scheduler.pipe import Pipe
from oanix.scheduler.spec import Spec

if TYPE_CHECKING:
    from oanix.scheduler.trajectory.recorder import Recorder


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
    before when it is not tried. Both once more, by a clock that nobody sets: since, not_before.
    exit: the code of its module. reason: why it is where it is.
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
    since: float | None = None
    not_before: float = 0.0
    before: list[int] | None = None
    """What it comes after and still waits for, the next one last; None until that was looked at."""
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
    refused: str = ""
    """What was wrong with the last specification that came and was not taken."""
    result: bytes = b""
    """What it left in `/task/result.json`."""
    home: Namespace | None = None
    """Where it was ordered: its world is made of what that has."""
    script: tuple[str, bytes] | None = None
    """The name and the text of what it runs, while it does: what is in `/task/program`."""
    namespace: Namespace | None = None
    """Its world, while it runs."""
    live: Callable[[], dict[str, Any]] | None = None
    """Tells what it has used so far, while it runs."""
    trajectory: "Recorder | None" = None
    """Writes down what it does, while it runs."""
    pause: Callable[[bool], None] | None = None
    """Has it stand still or go on, while it runs."""
    process: int | None = None
    """The process in which it runs, while it does: a worker, or the server."""
    scope: trio.CancelScope | None = None
    told: tuple[State, str] | None = None
    """As what it was told to end, and why."""
    stopped: bool = False
    held: bool = False
    """Whether it waits for a server, as this one ends soon."""

    by: "Job | None" = None
    """The job that ordered it."""
    children: "set[Job]" = field(factory=set)
    """Those that it ordered and that have not ended."""
    limits: Limits | None = None
    """What it may use, once it runs."""
    spent: dict[str, float] = field(factory=dict)
    """What its jobs that have ended have used while it ran."""
    ordered_jobs: int = 0
    """How many jobs it has ordered while it ran, with those that they have."""
    watched: bool = False
    """Whether it is looked at what it uses together with its jobs."""
    met: set[str] = field(factory=set)
    """Limits that it met and lived on."""
    guests: set[str] = field(factory=set)
    """Jobs whose recipes bind files of this one: they may open what they see of it."""

    @property
    def exit_line(self) -> str:
        """What `wait` gives: the state, the code of the module if it ended with one, and why."""
        code = "" if self.exit is None else f" {self.exit}"
        return f"{self.state.value}{code}{f' {self.reason}' if self.reason else ''}"

    @property
    def limits_met(self) -> set[str]:
        """The limits that it met and lived on."""
        told = (self.live() if self.live is not None else self.usage).get("met", "")
        return {*self.met, *filter(None, told.split(","))}

    def facts(self) -> Mapping[str, object]:
        """Tell what `status` shows."""
        found: dict[str, object] = {
            "id": self.id,
            "state": self.state.value,
            "reason": self.reason or "-",
            "name": self.spec.name or "-",
            "interpreter": self.spec.interpreter or "-",
            "priority": self.priority,
            "tries": self.tries,
            "exit": "-" if self.exit is None else self.exit,
            "stopped": "yes" if self.stopped else "no",
            "process": "-" if self.process is None else self.process,
            "met": ",".join(sorted(self.limits_met)) or "-",
        }
        for name in ("created", "ordered", "started", "ended"):
            at = getattr(self, name)
            found[name] = "-" if at is None else f"{at:.3f}"
        return found


def maker_of(job: Job) -> Caller:
    """Say who ordered a job: what its order names is looked up with that one's rights."""
    made_by = str(job.parent) if job.parent is not None else ""
    return Caller(uid=job.uid, gid=job.gid, job=made_by, door="jobs")
