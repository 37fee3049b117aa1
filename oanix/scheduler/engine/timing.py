"""Timing: what it costs its host to serve a call that waits."""

import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any


class Timed:
    """An awaitable whose steps are counted; spent is told the nanoseconds of the thread of each.

    What spent raises is raised by the await, and what was awaited is closed.
    """

    def __init__(self, waiting: Awaitable[int], spent: Callable[[int], None]) -> None:
        self._waiting = waiting
        self._spent = spent

    def __await__(self) -> Generator[Any, Any, int]:
        inner = self._waiting.__await__()
        value: Any = None
        error: BaseException | None = None
        while True:
            began = time.thread_time_ns()
            try:
                yielded = inner.send(value) if error is None else inner.throw(error)
            except StopIteration as stop:
                self._spent(time.thread_time_ns() - began)
                return int(stop.value)
            try:
                self._spent(time.thread_time_ns() - began)
            except BaseException:
                inner.close()
                raise
            value = error = None
            try:
                value = yield yielded
            except BaseException as thrown:
                error = thrown
