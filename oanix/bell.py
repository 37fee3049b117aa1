"""Bell: wakes whoever waits for a file to have something to say."""

from collections.abc import Callable

import trio
from attrs import define, field


@define(eq=False)
class Bell:
    """Rung by a service when something changed; heard once by each waiter.

    Tasks wait with `wait`; `poll` waits with a callback that `listen` keeps until the next ring.
    Ringing never blocks and never raises.
    """

    _tasks: set[trio.lowlevel.Task] = field(factory=set, init=False)
    _listeners: dict[object, Callable[[], None]] = field(factory=dict, init=False)

    def ring(self) -> None:
        """Wake every task and call every listener, once each."""
        if self._tasks:
            tasks, self._tasks = self._tasks, set()
            for task in tasks:
                trio.lowlevel.reschedule(task)
        if self._listeners:
            listeners, self._listeners = self._listeners, {}
            for call in listeners.values():
                call()

    async def wait(self) -> None:
        """Wait for the next ring. A cancelled wait leaves nothing behind."""
        task = trio.lowlevel.current_task()
        self._tasks.add(task)

        def abort(_: Callable[[], object]) -> trio.lowlevel.Abort:
            self._tasks.discard(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def listen(self, call: Callable[[], None], key: object = None) -> None:
        """Call back at the next ring, once; a second call with the same key replaces the first."""
        self._listeners[call if key is None else key] = call

    def forget(self, key: object) -> None:
        """Drop a listener that has not been called yet."""
        self._listeners.pop(key, None)

    @property
    def waiting(self) -> int:
        """How many tasks and listeners wait."""
        return len(self._tasks) + len(self._listeners)
