"""The service, and the views of it that mounts with options show."""

import errno
import inspect
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, TypeVarTuple
from weakref import WeakSet

import trio

from oanix.bell import Bell
from oanix.caller import Caller
from oanix.errors import fault
from oanix.kit import Conversation, Conversations, Folder, New, Rows, TableDirectory, Text
from oanix.lib.policy import Layer, Policy
from oanix.lib.policy.narrowing import narrowings
from oanix.lib.web import Web
from oanix.node import Node
from oanix.service import Service

if TYPE_CHECKING:
    from oanix.namespace import Namespace

HALVES_BYTES = 64 << 20
"""Bytes of lines without their newline, of all open files together."""

Ts = TypeVarTuple("Ts")


class Halves:
    """Counts the bytes of lines that are not complete."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0

    def change(self, by: int) -> None:
        """Count more or fewer. Raises OSError ENOBUFS."""
        if by > 0 and self._held + by > self._most:
            raise fault(errno.ENOBUFS, "too many long lines wait for their newlines; try later")
        self._held += by


class View:
    """The tree as one mount shows it; a conversation is of the view in which it was made."""

    def __init__(self, service: "WsFs", layers: tuple[Layer, ...]) -> None:
        self.service = service
        self.layers = layers
        self.talks = _Talks(self)
        rows = (
            ("README", 0o444, Text(service.readme)),
            ("new", 0o444, New(self.talks)),
        )
        self.root = TableDirectory(service, Folder(rows, self.talks), now=service.now)

    def layers_of(self, namespace: "Namespace") -> tuple[Layer, ...]:
        """Give what narrows the policy for whoever asks through this view and that namespace."""
        return self.layers + narrowings(self.service.policy, namespace.layers)


class _Talks(Conversations):
    """The conversations of a view; their quota is that of the service's first view."""

    def __init__(self, view: View) -> None:
        super().__init__(view.service, lambda made: _rows(view, made))
        self._of = view.service
        self._view = view

    def hold(self, caller: Caller) -> None:
        first = self._of.first.talks
        super().hold(caller) if first is self else first.hold(caller)

    def drop(self, caller: Caller) -> None:
        first = self._of.first.talks
        super().drop(caller) if first is self else first.drop(caller)

    def idle(self) -> None:
        self._of.bell.ring()

    def start(self, caller: Caller) -> Conversation:
        # A view that nobody sees any more stays until its conversations have ended.
        self._of.busy.add(self._view)
        return super().start(caller)

    def gone(self, talk: Conversation) -> None:
        super().gone(talk)
        if not self.names():
            self._of.busy.discard(self._view)


def _rows(view: View, made: Conversation) -> Rows:
    # What speaks the protocol is loaded for the first conversation.
    from oanix.services.ws.files import rows

    return rows(view, made)


class WsFs(Service):
    """WebSockets, a message a line, under the policy and with the secrets of http.

    new          read it for the number N of a conversation; then N/ has
      url        write a ws:// or wss:// url
      in         write messages, one a line; opening it connects
      out        read messages, one a line; opening it connects, too
      ctl        header NAME: VALUE, subprotocol NAME, format lines|json, connect, ping,
                 close [CODE [REASON]]
      status     state, counts, how it was closed
      error      what went wrong

        exec 3<new; read -r n <&3
        echo wss://example.com/chat > $n/url
        exec 4<$n/out 5>$n/in
        echo hello >&5
        read -r answer <&4

    Bytes, and texts that are no line, stand in an envelope: {"base64":"AAEC"} {"text":"a\\nb"}
    A refusal is EACCES, and /dev/why has the rule that would allow it.
    """

    name = "ws"
    capability = True
    options: ClassVar[Mapping[str, str]] = {
        "hosts": "only these hosts: a,*.b",
        "methods": "GET has to be among them, as a WebSocket begins with one",
        "rate": "so many connections: 10/s",
        "size": "at most so many bytes received by a connection: 10M",
        "time": "connections of at most: 30s",
    }

    def __init__(self, web: Web, policy: Policy, *, now: Callable[[], int] = time.time_ns) -> None:
        """Make it. web: the running engine of http, whose policy this is."""
        super().__init__()
        self.now = now
        self.readme = inspect.cleandoc(type(self).__doc__ or "") + "\n"
        self.web = web
        self.policy = policy
        self.halves = Halves(HALVES_BYTES)
        self.bell = Bell()
        self.busy: set[View] = set()
        self._views: WeakSet[View] = WeakSet()
        self._nursery: trio.Nursery | None = None
        self.first = self._view(())
        self.root = self.first.root

    def _view(self, layers: tuple[Layer, ...]) -> View:
        view = View(self, layers)
        self._views.add(view)
        return view

    def narrow(self, node: Node, options: Mapping[str, str]) -> Node:
        """Give the node as seen under more rules. Raises OSError EINVAL."""
        if any(option not in self.options for option in options):
            return super().narrow(node, {o: v for o, v in options.items() if o not in self.options})
        layer = Layer.of_options(options)
        for view in list(self._views):
            if node is view.root:
                return self._view((*view.layers, layer)).root
            for name in ("README", "new"):
                if node is view.root.walk(name):
                    return self._view((*view.layers, layer)).root.walk(name)
        raise fault(
            errno.EINVAL, "a conversation cannot be narrowed; narrow the directory it is made in"
        )

    def status(self) -> dict[str, str]:
        """Tell how it is."""
        return {"conversations": str(sum(len(view.talks.names()) for view in self._views))}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """End what is idle; leaving ends every connection. The engine runs around it."""
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
            for view in list(self._views):
                view.talks.end_all()
