"""Files: the directories and files of a relay that are not rows of a table alone."""

import errno
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from oanix.errors import Missing, fault
from oanix.kit import Handler, Opening, Snapshot, TableDirectory
from oanix.kit.file import File
from oanix.kit.rules import OURS, open_rules
from oanix.lib.nostr import Filter, Invalid
from oanix.lib.nostr.nip19 import event_id_of
from oanix.lib.nostr.query import parse_query
from oanix.node import Handle, Node
from oanix.services.relay.core import Core
from oanix.services.relay.reading import TimeUp
from oanix.services.relay.rule_book import RuleBook
from oanix.services.relay.rules import Peer

REMEMBERED: Final = 512
"""Files whose number stays the same for whoever asks again."""


class PolicyFile(Handler):
    """The rules; what is written counts at once."""

    reads = writes = True

    def __init__(self, book: RuleBook) -> None:
        self._book = book

    def size(self) -> int:
        return len(self._shown())

    async def open(self, opening: Opening) -> Handle:
        return open_rules(opening, self._book, Snapshot(self._shown(), opening.file))

    def _shown(self) -> bytes:
        text = self._book.text
        text += "" if text.endswith("\n") or not text else "\n"
        if self._book.warning:
            text += f"{OURS}{self._book.warning}\n"
        elif not text.strip():
            text += f"{OURS}no rules: everybody may write and read\n"
        return text.encode()


class _Answer(Handler):
    """A file whose content is looked up when it is opened."""

    reads = True

    def __init__(self, content: Callable[[], Awaitable[bytes]]) -> None:
        self._content = content

    async def open(self, opening: Opening) -> Handle:
        try:
            return Snapshot(await self._content(), opening.file)
        except TimeUp:
            raise fault(errno.ETIMEDOUT, "this takes too long; ask for less at a time") from None


class Named:
    """The files of a directory whose names say what they hold; none is listed."""

    def __init__(self) -> None:
        self._directory: TableDirectory | None = None
        self._files: OrderedDict[str, File] = OrderedDict()

    def placed(self, directory: TableDirectory) -> None:
        """Learn in which directory they are."""
        self._directory = directory

    def names(self) -> list[str]:
        """List none: there are as many as there are questions."""
        return []

    def find(self, name: str) -> Node | None:
        """Give the file of a name. Raises OSError Missing for one that says nothing."""
        found = self._files.get(name)
        if found is not None:
            self._files.move_to_end(name)
            return found
        directory = self._directory
        assert directory is not None
        made = File(
            directory.service, name, 0o444, _Answer(self.content_of(name)),
            owner=directory.owner, now=directory.now,
        )  # fmt: skip
        self._files[name] = made
        if len(self._files) > REMEMBERED:
            self._files.popitem(last=False)
        return made

    def content_of(self, name: str) -> Callable[[], Awaitable[bytes]]:
        """Give what makes the content of a name. Raises OSError Missing."""
        raise NotImplementedError


class Kept(Named):
    """`events`: a file for each event, by its id, note or nevent."""

    def __init__(self, core: Core, peer: Peer) -> None:
        super().__init__()
        self._core = core
        self._peer = peer

    def content_of(self, name: str) -> Callable[[], Awaitable[bytes]]:
        try:
            event = event_id_of(name)
        except Invalid:
            raise Missing(name) from None

        async def content() -> bytes:
            found = await self._core.get(event, self._peer)
            if found is None:
                raise fault(errno.ENOENT, "this event is not here")
            return found + b"\n"

        return content


class Asked(Named):
    """`req`: a file for each filter, as `kinds=1&#t=oanix&limit=20`."""

    def __init__(self, core: Core, peer: Peer) -> None:
        super().__init__()
        self._core = core
        self._peer = peer

    def content_of(self, name: str) -> Callable[[], Awaitable[bytes]]:
        try:
            asked = parse_query(name)
        except Invalid as error:
            raise fault(errno.ENOENT, f"this is no filter: {error.reason}") from None
        return lambda: self._found(asked)

    async def _found(self, asked: Filter) -> bytes:
        try:
            found, _ = await self._core.query([asked], self._peer)
        except Invalid as error:
            raise fault(errno.EINVAL, error.reason) from None
        return b"".join(raw + b"\n" for raw in found)
