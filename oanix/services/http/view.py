"""View: the tree of HttpFs as one mount shows it, under what narrows it there.

Views share the engine, the policy and the quotas of their service; conversations are of the view in
which they were made, so that none made in a wider one can be used in a narrower one.
"""

import stat as modes
from typing import TYPE_CHECKING, Final

from oanix.caller import Caller
from oanix.errors import Missing
from oanix.kit import Conversation, New, Owner, Rows, TableDirectory, Text, View
from oanix.lib.policy import Layer
from oanix.lib.policy.narrowing import narrowings
from oanix.lib.web import Asker, Body, BytesBody, Exchange, Request
from oanix.node import Node
from oanix.services.http import talk_files
from oanix.services.http.call import Call
from oanix.services.http.get import GetDirectory, GetFile, Place
from oanix.services.http.log_file import LogHandler
from oanix.services.http.message import Message
from oanix.services.http.policy_file import PolicyHandler
from oanix.stat import Stat

if TYPE_CHECKING:
    from oanix.namespace import Namespace
    from oanix.services.http.service import HttpFs


BLOCK: Final = 1 << 19
"""What programs are told to read at once (`st_blksize`): each read is a request to the server."""


class HttpView(View[Layer]):
    """One tree."""

    service: "HttpFs"

    def __init__(self, service: "HttpFs", layers: tuple[Layer, ...] = ()) -> None:
        super().__init__(service, layers)
        self.get = GetDirectory(self, ("get",))
        self._owner = Owner()
        self._made = service.now()
        self.grow(
            (
                ("README", 0o444, Text(service.readme)),
                ("call", 0o666, Call(self)),
                ("new", 0o444, New(self.talks)),
                ("policy", 0o644, PolicyHandler(self)),
                ("log", 0o400, LogHandler(service.web.log)),
            ),
            _Beside(self),
        )

    def rows_of(self, talk: Conversation) -> Rows:
        """Give the files of a conversation."""
        return talk_files.rows(self, talk)

    def stat_of(self, mode: int, size: int = 0) -> Stat:
        """Give the attributes of a file or directory under `get`."""
        made = self._made
        return Stat(
            mode, 2 if modes.S_ISDIR(mode) else 1, self._owner.uid, self._owner.gid,
            st_size=size, st_blksize=BLOCK, st_atime_ns=made, st_mtime_ns=made, st_ctime_ns=made,
        )  # fmt: skip

    # Asking --------------------------------------------------------------------------------------

    def layers_of(self, namespace: "Namespace") -> tuple[Layer, ...]:
        """Give what narrows the policy for whoever asks through this view and that namespace."""
        return self.layers + narrowings(self.service.policy, namespace.layers)

    def asker(self, namespace: "Namespace", caller: Caller) -> Asker:
        """Say on whose behalf a request is sent."""
        return Asker(caller, self.layers_of(namespace))

    async def send(
        self, asker: Asker, message: Message, body: Body | bytes | None, timeout_s: float | None
    ) -> Exchange:
        """Send a request. Raises as `Web.send`."""
        request = Request(
            message.method,
            message.url,
            message.headers,
            BytesBody(body) if isinstance(body, bytes) else body,
            timeout_s,
            message.follow,
        )
        return await self.service.web.send(request, asker)

    # Narrowing -----------------------------------------------------------------------------------

    def path_of(self, node: Node) -> tuple[str, ...] | None:
        """Give the names that lead to a node of this view; None for another's."""
        if isinstance(node, Place | GetFile):
            return node.names if node.view is self else None
        return super().path_of(node)

    def walk(self, names: tuple[str, ...]) -> Node:
        """Find what these names lead to."""
        node: Node = self.root
        for name in names:
            if not isinstance(node, TableDirectory | Place):
                raise Missing(name)
            node = node.walk(name)
        return node


class _Beside:
    """What lies beside the rows of a view: `get`, and the conversations."""

    def __init__(self, view: HttpView) -> None:
        self._view = view

    def find(self, name: str) -> Node | None:
        """Find a name."""
        return self._view.get if name == "get" else self._view.talks.find(name)

    def names(self) -> list[str]:
        """List the names."""
        return ["get", *self._view.talks.names()]

    def placed(self, directory: TableDirectory) -> None:
        """Learn in which directory they are."""
        self._view.talks.placed(directory)
