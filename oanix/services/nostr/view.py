"""View: the tree of NostrFs as one mount shows it. Handlers load what they need when opened."""

import errno
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from oanix.errors import fault
from oanix.kit import (
    Conversation,
    Ctl,
    Folder,
    Handler,
    New,
    Opening,
    Rows,
    Snapshot,
    TableDirectory,
    Text,
    View,
    facts,
    integer,
)
from oanix.kit.lines import Verb
from oanix.lib.policy.narrowing import narrowings
from oanix.node import Handle, Node
from oanix.services.nostr.names import Addresses, Events, Jobs, Letters, Profiles, Queries
from oanix.services.nostr.narrow import Access, Narrow

if TYPE_CHECKING:
    from oanix.services.nostr.nostr import Nostr
    from oanix.services.nostr.service import NostrFs

Answer = Callable[["Nostr", Access], Awaitable[bytes]]
"""Makes the content of a file, asking relays."""

Opens = Callable[["NostrView", Opening], Handle]
"""Opens a file."""


class Asked(Handler):
    """A file whose content is looked up when it is opened."""

    reads = True

    def __init__(self, view: "NostrView", answer: Answer) -> None:
        self._view = view
        self._answer = answer

    async def open(self, opening: Opening) -> Handle:
        access = self._view.access(opening)
        return Snapshot(await self._answer(self._view.nostr, access), opening.file)


class Opened(Handler):
    """A file that something of its own opens."""

    def __init__(
        self, view: "NostrView", open_: Opens, *, reads: bool = False, writes: bool = False,
        endless: bool = False, makes: bool = False,
    ) -> None:  # fmt: skip
        self._view = view
        self._open = open_
        self.reads, self.writes, self.endless, self.makes = reads, writes, endless, makes

    async def open(self, opening: Opening) -> Handle:
        return self._open(self._view, opening)


class NostrView(View[Narrow]):
    """One tree."""

    service: "NostrFs"

    def __init__(self, service: "NostrFs", layers: tuple[Narrow, ...]) -> None:
        super().__init__(service, layers)
        self.grow(
            (
                ("README", 0o444, Text(service.readme)),
                ("pubkey", 0o444, Asked(self, _pubkey)),
                ("npub", 0o444, Asked(self, _npub)),
                ("relays", 0o444, Text(lambda _: self.nostr.relay_lines())),
                ("status", 0o444, Text(lambda _: facts(self.nostr.facts()))),
                ("ctl", 0o200, Ctl(self._verbs())),
                ("publish", 0o600, Opened(self, _publish, reads=True, writes=True)),
                ("sign", 0o600, Opened(self, _sign, reads=True, writes=True)),
                ("sub", 0o555, Folder((("new", 0o444, New(self.talks)),), self.talks)),
                ("event", 0o555, Folder((), Events(self))),
                ("addr", 0o555, Folder((), Addresses(self))),
                ("req", 0o555, Folder((), Queries(self))),
                ("profile", 0o555, Folder((), Profiles(self))),
                ("dm", 0o555, Folder((), Letters(self))),
                ("dvm", 0o555, Folder((), Jobs(self))),
            ),
            _Nothing(),
        )

    @property
    def nostr(self) -> "Nostr":
        """What does the work. Raises OSError."""
        return self.service.nostr

    def access(self, opening: Opening) -> Access:
        """Say on whose behalf a file is used."""
        policy = self.service.policy
        rules = narrowings(policy, opening.namespace.layers) if policy is not None else ()
        return Access(self.layers, policy, rules)

    def rows_of(self, talk: Conversation) -> Rows:
        """Give the files of a subscription."""
        from oanix.services.nostr.sub import rows

        return rows(self, talk)

    def path_of(self, node: Node) -> tuple[str, ...] | None:
        """Give the names that lead to a node of this view; None for another's."""
        sub = self.root.walk("sub")
        assert isinstance(sub, TableDirectory)
        return ("sub", "new") if sub.walk("new") is node else super().path_of(node)

    def _verbs(self) -> dict[str, Verb]:
        verbs: dict[str, Callable[[str], None]] = {
            "relay": self._relay,
            "auth": lambda text: self.nostr.choice.let_auth(text),
            "quorum": lambda text: self._set("quorum", str(integer(text, 0, 100))),
            "timeout": lambda text: self._set("timeout", str(integer(text, 1, 600))),
            "outbox-model": self._model,
            "signer": lambda text: self.nostr.use_bunker(text),
            "retry": lambda text: self._retry(),
        }
        return {name: self._owners(verb) for name, verb in verbs.items()}

    def _owners(self, verb: Callable[[str], None]) -> Verb:
        def command(argument: str, opening: Opening) -> None:
            if (self.layers and not self.layers[-1].by_owner) or opening.namespace.is_child:
                raise fault(errno.EPERM, "only the owner of the namespace changes relays")
            verb(argument)

        return command

    def _relay(self, text: str) -> None:
        verb, _, rest = text.partition(" ")
        if verb == "add":
            self.nostr.choice.add(rest.strip())
        elif verb == "del":
            self.nostr.leave(rest.strip())
        else:
            raise fault(errno.EINVAL, "write: relay add URL [read|write], or relay del URL")

    def _model(self, text: str) -> None:
        if text not in ("on", "off"):
            raise fault(errno.EINVAL, "write: outbox-model on, or outbox-model off")
        self._set("outbox-model", text)

    def _set(self, name: str, value: str) -> None:
        self.nostr.choice.set(name, value)

    def _retry(self) -> None:
        for link in self.nostr.pool.links:
            link.retry()


class _Nothing:
    """No children: the conversations are in `sub`."""

    def find(self, name: str) -> Node | None:
        return None

    def names(self) -> list[str]:
        return []

    def placed(self, directory: TableDirectory) -> None:
        return None


async def _pubkey(nostr: "Nostr", access: Access) -> bytes:
    return f"{(await nostr.signer()).pubkey}\n".encode()


async def _npub(nostr: "Nostr", access: Access) -> bytes:
    from oanix.lib.nostr.nip19 import encode

    return f"{encode('npub', (await nostr.signer()).pubkey)}\n".encode()


def _publish(view: NostrView, opening: Opening) -> Handle:
    from oanix.services.nostr.publish import Publishing

    return Publishing(view.nostr, view.access(opening), opening)


def _sign(view: NostrView, opening: Opening) -> Handle:
    from oanix.services.nostr.publish import Signing

    return Signing(view.nostr, view.access(opening), opening)
