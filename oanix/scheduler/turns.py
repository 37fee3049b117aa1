"""Turns: which job begins next, and when to look again. Times are of a steady clock."""

import math
import os
from collections.abc import Callable, Iterable
from typing import Final

from attrs import field, frozen

from oanix.scheduler.job import Job, State

CORES: Final = os.cpu_count() or 1

AGEING_S: Final = 30.0
"""A job that waits gains a point of priority in so many seconds."""


@frozen(kw_only=True)
class Room:
    """How many jobs run at a time: in all, of one user, and with those that jobs have ordered.

    A job's jobs run in its own room, up to its limit: it may wait for them. kept: how many that
    have ended are shown, with their logs; a tenth more before the oldest are forgotten.
    """

    jobs: int = field(factory=lambda: 64 * CORES)
    of_one: int = field(factory=lambda: 32 * CORES)
    in_all: int = 1_000
    kept: int = 1_000


@frozen
class Turn:
    """What to do next: begin a job, end one, or look again in so many seconds."""

    job: Job | None = None
    failed: str = ""
    """Why the job is to be ended in place of begun."""
    wait: float = math.inf


def next_turn(
    jobs: Iterable[Job], now: float, room: Room, find: Callable[[int], Job | None]
) -> Turn:
    """Choose among the jobs of a server; find looks one up by its number."""
    known = list(jobs)
    running = [job for job in known if job.state is State.RUNNING]
    tops = [job for job in running if job.by is None]
    of_one: dict[int, int] = {}
    for job in tops:
        of_one[job.uid] = of_one.get(job.uid, 0) + 1
    wait, best = math.inf, None
    for job in known:
        if job.state is not State.PENDING or job.since is None or job.held:
            continue
        if job.spec.timeout is not None:
            rest = job.since + job.spec.timeout - now
            if rest <= 0:
                return Turn(job, "timeout")
            wait = min(wait, rest)
        if job.stopped:
            continue
        failed, waits = _before(job, find)
        if failed:
            return Turn(job, failed)
        if waits:
            job.reason = waits
            continue
        if job.reason.startswith("waits for job"):
            job.reason = "queued"
        if job.not_before > now:
            wait = min(wait, job.not_before - now)
            continue
        if len(running) >= room.in_all or (
            job.by is None and (len(tops) >= room.jobs or of_one.get(job.uid, 0) >= room.of_one)
        ):
            continue
        rank = (-job.priority - (now - job.since) / AGEING_S, job.id)
        if best is None or rank < best[0]:
            best = rank, job
    return Turn(best[1] if best is not None else None, wait=max(wait, 0.0))


def _before(job: Job, find: Callable[[int], Job | None]) -> tuple[str, str]:
    """Tell why a job cannot begin any more, or what it waits for, of what it comes after."""
    if job.before is None:
        job.before = list(reversed(job.spec.after))
    while job.before:
        number = job.before[-1]
        try:
            before = find(number)
        except OSError as error:
            return f"error job {number}: {error.strerror}", ""
        if before is None:
            return f"job {number} is gone", ""
        if before.state in (State.FAILED, State.CANCELLED):
            return f"job {number} {before.state.value}", ""
        if not before.state.ended:
            return "", f"waits for job {number}"
        # What has completed stays so, and is not looked up again: it may be on the disk alone.
        job.before.pop()
    return "", ""


def circle(job: Job, find: Callable[[int], Job | None]) -> list[int]:
    """Find a way from a job through what it comes after back to itself; empty if there is none."""
    todo = [[job.id, number] for number in reversed(job.spec.after)]
    seen: set[int] = set()
    while todo:
        way = todo.pop()
        if way[-1] == job.id:
            return way
        before = find(way[-1]) if way[-1] not in seen else None
        seen.add(way[-1])
        if before is not None and not before.state.ended:
            todo += [[*way, number] for number in reversed(before.spec.after)]
    return []
