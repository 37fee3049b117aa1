"""Views: one service shown several ways, each narrowed by the options of a mount or a bind.

Views share what their service holds; conversations are of the view in which they were made, so that
none made in a wider one can be used in a narrower one. Their quota and idle time are the service's.
"""

import errno
import inspect
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Generic, TypeVar, TypeVarTuple
from weakref import WeakSet

import trio

from oanix.bell import Bell
from oanix.caller import Caller
from oanix.errors import Missing, fault
from oanix.kit.conversation import Conversation, Conversations, talk_quota
from oanix.kit.folder import Children, Folder, Rows, TableDirectory
from oanix.node import Node
from oanix.service import Service

L = TypeVar("L")
Ts = TypeVarTuple("Ts")


class View(Generic[L]):
    """One tree, under the layers that narrow it. Subclasses call `grow` at their end."""

    root: TableDirectory

    def __init__(self, service: "ViewedService[L]", layers: tuple[L, ...]) -> None:
        self.service = service
        self.layers = layers
        self.talks = _Talks(self)
        self._names: list[str] = []

    def rows_of(self, talk: Conversation) -> Rows:
        """Give the files of a conversation."""
        raise NotImplementedError

    def grow(self, rows: Rows, children: Children | None = None) -> None:
        """Make the tree; children stand in for the conversations, which they have to hold."""
        self._names = [name for name, _, _ in rows]
        self.root = TableDirectory(
            self.service, Folder(rows, children or self.talks), now=self.service.now
        )

    def path_of(self, node: Node) -> tuple[str, ...] | None:
        """Give the names that lead to a node that can be narrowed; None for another's."""
        if node is self.root:
            return ()
        return next(((name,) for name in self._names if self.root.walk(name) is node), None)

    def walk(self, names: tuple[str, ...]) -> Node:
        """Find what these names lead to."""
        node: Node = self.root
        for name in names:
            if not isinstance(node, TableDirectory):
                raise Missing(name)
            node = node.walk(name)
        return node


class _Talks(Conversations):
    """The conversations of a view."""

    def __init__(self, view: "View[L]") -> None:
        of = view.service
        super().__init__(of, lambda made: view.rows_of(made), quota=of.talk_quota, bell=of.bell)
        self._busy: set[View[L]] = of.busy
        self._view = view

    def start(self, caller: Caller) -> Conversation:
        # A view that nobody sees any more stays until its conversations have ended.
        self._busy.add(self._view)
        return super().start(caller)

    def gone(self, talk: Conversation) -> None:
        super().gone(talk)
        if not self.names():
            self._busy.discard(self._view)


class ViewedService(Service, Generic[L]):
    """A service with views. Subclasses set `root` to that of `view(())` at their end."""

    def __init__(self, *, now: Callable[[], int] = time.time_ns) -> None:
        """Make it. The clock gives nanoseconds since the epoch, for file times."""
        super().__init__()
        self.now = now
        self.readme = inspect.cleandoc(type(self).__doc__ or "") + "\n"
        self.talk_quota = talk_quota()
        self.bell = Bell()
        self.busy: set[View[L]] = set()
        self._views: WeakSet[View[L]] = WeakSet()
        self._nursery: trio.Nursery | None = None

    def layer_of(self, options: Mapping[str, str]) -> L:
        """Make what narrows a view from these options. Raises OSError EINVAL."""
        raise NotImplementedError

    def make_view(self, layers: tuple[L, ...]) -> View[L]:
        """Make a view under these layers."""
        raise NotImplementedError

    def view(self, layers: tuple[L, ...]) -> View[L]:
        """Make a view, and look after its conversations."""
        view = self.make_view(layers)
        self._views.add(view)
        return view

    @property
    def started(self) -> bool:
        """Whether it runs."""
        return self._nursery is not None

    @property
    def conversations(self) -> int:
        """How many there are, in all views."""
        return sum(len(view.talks.names()) for view in self._views)

    def narrow(self, node: Node, options: Mapping[str, str]) -> Node:
        """Give the node as seen under one more layer. Raises OSError EINVAL."""
        if any(option not in self.options for option in options):
            return super().narrow(node, {o: v for o, v in options.items() if o not in self.options})
        layer = self.layer_of(options)
        for view in list(self._views):
            names = view.path_of(node)
            if names is not None:
                return self.view((*view.layers, layer)).walk(names)
        raise fault(
            errno.EINVAL, "a conversation cannot be narrowed; narrow the directory it is made in"
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """End what is idle for as long as the block; leaving ends every conversation and task."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._expire)
            try:
                yield
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    def start(self, task: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Have a task run while the service does. Raises OSError ESHUTDOWN when it does not."""
        if self._nursery is None:
            raise fault(errno.ESHUTDOWN, "the service is not running")
        self._nursery.start_soon(task, *args)

    async def _expire(self) -> None:
        try:
            while True:
                soonest = min((view.talks.expire() for view in list(self._views)), default=math.inf)
                with trio.move_on_after(max(soonest - trio.current_time(), 0)):
                    await self.bell.wait()
        finally:
            self.end_all()

    def end_all(self) -> None:
        """End every conversation."""
        for view in list(self._views):
            view.talks.end_all()
