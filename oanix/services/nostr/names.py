"""Names: directories whose names say what is to be looked up. A name of valid form exists."""

import errno
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from oanix.errors import Missing, fault
from oanix.kit import Folder, Handler, Rows, TableDirectory
from oanix.kit.file import kind_of
from oanix.node import Node

if TYPE_CHECKING:
    from oanix.services.nostr.view import NostrView

REMEMBERED: Final = 512
"""Names whose number stays the same for whoever asks again."""

FIELDS: Final = (
    "name", "display_name", "about", "picture", "banner", "website", "nip05", "lud16",
)  # fmt: skip
"""What a profile has (NIP-01, NIP-24)."""


class Named:
    """A directory of names that are not listed, as there is no end to them."""

    def __init__(self, view: "NostrView") -> None:
        self.view = view
        self._directory: TableDirectory | None = None
        self._made: OrderedDict[str, Node] = OrderedDict()

    def placed(self, directory: TableDirectory) -> None:
        """Learn in which directory they are."""
        self._directory = directory

    def names(self) -> list[str]:
        """List none."""
        return []

    def find(self, name: str) -> Node | None:
        """Give what a name stands for. Raises OSError ENOENT for one that stands for nothing."""
        found = self._made.get(name)
        if found is not None:
            self._made.move_to_end(name)
            return found
        content = self.content_of(name)
        directory = self._directory
        assert directory is not None
        made: Node
        if isinstance(content, Handler):
            made = kind_of(content)(
                directory.service, name, 0o444, content, owner=directory.owner, now=directory.now
            )
        else:
            made = TableDirectory(
                directory.service, Folder(content), owner=directory.owner, now=directory.now
            )
        self._made[name] = made
        if len(self._made) > REMEMBERED:
            self._made.popitem(last=False)
        return made

    def content_of(self, name: str) -> Handler | Rows:
        """Give what a name does, or the rows that it has. Raises OSError ENOENT."""
        raise NotImplementedError


class Events(Named):
    """`event`: an event by its id, note or nevent."""

    def content_of(self, name: str) -> Handler:
        from oanix.lib.nostr import Invalid
        from oanix.services.nostr.lookups import event_named
        from oanix.services.nostr.view import Asked

        try:
            return Asked(self.view, event_named(name))
        except Invalid:
            raise Missing(name) from None


class Addresses(Named):
    """`addr`: the newest event of an address, `KIND:PUBKEY:D` or naddr."""

    def content_of(self, name: str) -> Handler:
        from oanix.lib.nostr import Invalid
        from oanix.services.nostr.lookups import event_at
        from oanix.services.nostr.view import Asked

        try:
            return Asked(self.view, event_at(name))
        except Invalid:
            raise Missing(name) from None


class Queries(Named):
    """`req`: what is stored of a filter, as `kinds=1&#t=oanix&limit=20`."""

    def content_of(self, name: str) -> Handler:
        from oanix.lib.nostr import Invalid
        from oanix.services.nostr.lookups import events_of
        from oanix.services.nostr.view import Asked

        try:
            return Asked(self.view, events_of(name))
        except Invalid as error:
            raise fault(errno.ENOENT, f"this is no filter: {error.reason}") from None


class Profiles(Named):
    """`profile`: what somebody says of himself."""

    def content_of(self, name: str) -> Rows:
        from oanix.services.nostr.lookups import profile_field, profile_json, profile_relays
        from oanix.services.nostr.view import Asked

        author = _pubkey(name)
        return (
            *((field, 0o444, Asked(self.view, profile_field(author, field))) for field in FIELDS),
            ("json", 0o444, Asked(self.view, profile_json(author))),
            ("relays", 0o444, Asked(self.view, profile_relays(author))),
        )


class Letters(Named):
    """`dm`: private messages with somebody (NIP-17)."""

    def content_of(self, name: str) -> Rows:
        from oanix.services.nostr.letters import Inbox, Sending
        from oanix.services.nostr.view import Opened

        peer = _pubkey(name)
        return (
            ("inbox", 0o400, Opened(
                self.view, lambda view, o: Inbox(view.nostr, view.access(o), peer),
                reads=True, endless=True,
            )),
            ("send", 0o600, Opened(
                self.view, lambda view, o: Sending(view.nostr, view.access(o), o, peer),
                reads=True, writes=True,
            )),
        )  # fmt: skip


class Jobs(Named):
    """`dvm`: jobs for others to do (NIP-90), by the kind of the request."""

    def content_of(self, name: str) -> Rows:
        from oanix.services.nostr.job import JOB_KINDS, Job
        from oanix.services.nostr.view import Opened

        if not (name.isascii() and name.isdigit() and int(name) in JOB_KINDS):
            raise Missing(name)
        kind = int(name)
        job = Opened(
            self.view, lambda view, o: Job(view.nostr, view.access(o), o, kind),
            reads=True, writes=True, makes=True,
        )  # fmt: skip
        return (("new", 0o600, job),)


def _pubkey(name: str) -> str:
    from oanix.lib.nostr import Invalid
    from oanix.lib.nostr.nip19 import pubkey_of

    try:
        return pubkey_of(name)
    except Invalid:
        raise Missing(name) from None
