"""A service whose tree is a table."""

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import ClassVar

import trio

from oanix.kit.conversation import QUOTA, Conversation, Conversations
from oanix.kit.folder import Children, Folder, Rows, TableDirectory
from oanix.kit.text import Text
from oanix.service import Service


class TableService(Service):
    """A service that a table describes: call `grow` with its rows at the end of `__init__`.

    Its `README` is the text in `readme`, else the docstring of its class.
    """

    readme: ClassVar[str] = ""

    def __init__(self, *, now: Callable[[], int] = time.time_ns) -> None:
        """Make it without a tree. The clock gives nanoseconds since the epoch, for file times."""
        super().__init__()
        self.now = now
        self._tasks: list[Callable[[], Awaitable[object]]] = []

    def grow(self, rows: Rows, children: Children | None = None, mode: int = 0o555) -> None:
        """Make the tree from a table, with a README where the table has none."""
        if not any(name == "README" for name, _, _ in rows):
            text = self.readme or inspect.cleandoc(type(self).__doc__ or "") + "\n"
            rows = [("README", 0o444, Text(text)), *rows]
        self.root = TableDirectory(self, Folder(rows, children), mode, now=self.now)

    def conversations(
        self, begin: Callable[[Conversation], Rows], *, quota: int = QUOTA
    ) -> Conversations:
        """Make the conversations of a `new`, which end in time while the service runs."""
        made = Conversations(self, begin, quota=quota)
        self.spawn(made.run)
        return made

    def spawn(self, task: Callable[[], Awaitable[object]]) -> None:
        """Have a task run for as long as the service does; call it before `running`."""
        self._tasks.append(task)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the tasks. Leaving cancels them."""
        if not self._tasks:
            yield
            return
        async with trio.open_nursery() as nursery:
            for task in self._tasks:
                nursery.start_soon(task)
            yield
            nursery.cancel_scope.cancel()
