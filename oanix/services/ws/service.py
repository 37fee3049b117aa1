"""The service, and the views of it that mounts with options show."""

import errno
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from oanix.errors import fault
from oanix.kit import Conversation, New, Rows, Text, View, ViewedService
from oanix.lib.policy import Layer, Policy
from oanix.lib.policy.narrowing import narrowings
from oanix.lib.web import Web

if TYPE_CHECKING:
    from oanix.namespace import Namespace

HALVES_BYTES = 64 << 20
"""Bytes of lines without their newline, of all open files together."""


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


class WsView(View[Layer]):
    """The tree as one mount shows it."""

    service: "WsFs"

    def __init__(self, service: "WsFs", layers: tuple[Layer, ...]) -> None:
        super().__init__(service, layers)
        self.grow(
            (
                ("README", 0o444, Text(service.readme)),
                ("new", 0o444, New(self.talks)),
            )
        )

    def rows_of(self, talk: Conversation) -> Rows:
        """Give the files of a conversation."""
        # What speaks the protocol is loaded for the first one.
        from oanix.services.ws.files import rows

        return rows(self, talk)

    def layers_of(self, namespace: "Namespace") -> tuple[Layer, ...]:
        """Give what narrows the policy for whoever asks through this view and that namespace."""
        return self.layers + narrowings(self.service.policy, namespace.layers)


class WsFs(ViewedService[Layer]):
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
        """Make it. web: the engine of http, whose policy this is; it runs around this service."""
        super().__init__(now=now)
        self.web = web
        self.policy = policy
        self.halves = Halves(HALVES_BYTES)
        self.root = self.view(()).root

    def make_view(self, layers: tuple[Layer, ...]) -> WsView:
        """Make a view."""
        return WsView(self, layers)

    def layer_of(self, options: Mapping[str, str]) -> Layer:
        """Make the rules of these options."""
        return Layer.of_options(options)

    def status(self) -> dict[str, str]:
        """Tell how it is."""
        return {"conversations": str(self.conversations)}
