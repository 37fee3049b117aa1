"""Family: a job, the jobs that it has ordered, and theirs: what they may use together.

What a job's jobs use counts as its own, so that ordering others never gives it more than it has.
"""

import errno
from collections.abc import Iterator
from typing import Any, Final

from attrs import evolve

from oanix.errors import fault
from oanix.scheduler.job import Job
from oanix.scheduler.limits import Limits

SPENT: Final = ("cpu", "fuel", "output", "written")
"""What is used up, so that a job's job that has ended still counts."""

COUNTED: Final = (*SPENT, "memory")

DEPTH_MAX: Final = 16
"""How deep jobs order jobs that order jobs."""

ORDERED_MAX: Final = 1_000
"""Jobs that a job may order while it runs, with those that they order: each leaves its logs."""


def ancestors(job: Job | None) -> Iterator[Job]:
    """Give a job, the one that ordered it, and so on."""
    while job is not None:
        yield job
        job = job.by


def used(job: Job) -> dict[str, float]:
    """Tell what a job and its jobs have used so far, this time that it runs."""
    told = job.live() if job.live is not None else {}
    total: dict[str, float] = {name: told.get(name) or 0 for name in COUNTED}
    for name, amount in job.spent.items():
        total[name] += amount
    for child in job.children:
        for name, amount in used(child).items():
            total[name] += amount
    return total


def told(job: Job) -> dict[str, Any]:
    """Tell what `usage` shows of the jobs of a job that runs."""
    if not job.ordered_jobs:
        return {}
    mine = job.live() if job.live is not None else {}
    theirs = {f"jobs-{name}": amount - (mine.get(name) or 0) for name, amount in used(job).items()}
    return {"jobs": job.ordered_jobs, **theirs}


def spend(job: Job, usage: dict[str, Any]) -> None:
    """Count what a job has used, as it ends, for the one that ordered it."""
    if job.by is not None:
        for name in SPENT:
            more = (usage.get(name) or 0) + job.spent.get(name, 0)
            job.by.spent[name] = job.by.spent.get(name, 0) + more
    job.spent.clear()
    job.ordered_jobs = 0


def under_way(job: Job) -> int:
    """Count the jobs that a job and its jobs have ordered and that have not ended."""
    return sum(1 + under_way(child) for child in job.children)


def limits_of(job: Job) -> Limits:
    """Say what a job that begins now may use: what it asks for, and what its maker has left."""
    asked = Limits.parse(job.spec.limits)
    return asked if job.by is None else asked.narrowed(left(job.by))


def left(job: Job) -> Limits:
    """Say what a job has left for its jobs."""
    limits = job.limits or Limits.parse(job.spec.limits)
    now = used(job)
    wall = (job.live() if job.live is not None else {}).get("wall", 0.0)
    rest: dict[str, Any] = {
        name: max(most - now[name], 0)
        for name in COUNTED
        if (most := getattr(limits, name)) is not None
    }
    rest["wall"] = max(limits.wall - wall, 0.0)
    rest["jobs"] = max(limits.jobs - under_way(job), 0)
    return evolve(limits, **rest)


def over(job: Job) -> str:
    """Name the limit that a job has passed together with its jobs, if any."""
    limits = job.limits or Limits.parse(job.spec.limits)
    now = used(job)
    for name in COUNTED:
        most = getattr(limits, name)
        if most is not None and now[name] > most:
            return name
    return ""


def admit(parent: Job) -> None:
    """Count one more job that a job orders. Raises OSError EMFILE."""
    line = list(ancestors(parent))
    if len(line) >= DEPTH_MAX:
        raise fault(errno.EMFILE, f"jobs order jobs at most {DEPTH_MAX} deep")
    for job in line:
        most = (job.limits or Limits.parse(job.spec.limits)).jobs
        if under_way(job) >= most:
            job.met.add("jobs")
            raise fault(errno.EMFILE, f"job {job.id} may have {most} jobs under way: wait for one")
        if job.ordered_jobs >= ORDERED_MAX:
            job.met.add("jobs")
            raise fault(errno.EMFILE, f"job {job.id} has ordered {ORDERED_MAX} jobs, and no more")
    for job in line:
        job.ordered_jobs += 1
