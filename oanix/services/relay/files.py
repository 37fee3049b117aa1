"""Files: what the names of a relay do. They open the relay, and load it, when they are used."""

import errno
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol

from oanix.errors import Denied, Missing, fault
from oanix.kit import Handler, Opening, Snapshot, TableDirectory
from oanix.kit.file import File
from oanix.kit.rules import OURS, open_rules
from oanix.node import Handle, Node

if TYPE_CHECKING:
    from oanix.lib.nostr import Filter
    from oanix.services.relay.relay import Relay

REMEMBERED: Final = 512
"""Files whose number stays the same for whoever asks again."""

REMEDY: Final = "the owner of the relay changes the rules in its file policy"
"""What would allow what a rule of a relay refuses."""

SETTINGS: Final = (
    "name", "description", "banner", "icon", "contact", "terms_of_service", "pubkey",
)  # fmt: skip
"""What an owner can set, as the document says it (NIP-11)."""


class HasRelay(Protocol):
    """The service of these files."""

    @property
    def relay(self) -> "Relay":
        """The relay, which is opened by its first user. Raises OSError."""

    def start(self, task: Callable[[], Awaitable[object]]) -> None:
        """Have a task run for as long as the service does. Raises OSError ESHUTDOWN."""


class PolicyFile(Handler):
    """The rules; what is written counts at once."""

    reads = writes = True

    def __init__(self, of: HasRelay) -> None:
        self._of = of
        self._size = 0

    def size(self) -> int:
        return self._size

    async def open(self, opening: Opening) -> Handle:
        book = self._of.relay.book
        shown = _shown(book.text, book.warning)
        self._size = len(shown)
        return open_rules(opening, book, Snapshot(shown, opening.file))


def _shown(text: str, warning: str) -> bytes:
    text += "" if text.endswith("\n") or not text else "\n"
    if warning:
        text += f"{OURS}{warning}\n"
    elif not text.strip():
        text += f"{OURS}no rules: everybody may write and read\n"
    return text.encode()


class Publish(Handler):
    """A file that takes events: a write ends once they are kept, or fails with the refusal.

    Reading the same open file gives what became of each, as JSON lines.
    """

    reads = writes = True

    def __init__(self, of: HasRelay) -> None:
        self._of = of

    async def open(self, opening: Opening) -> Handle:
        core = self._of.relay.core
        from oanix.services.relay.publishing import Publishing

        return Publishing(core, opening, self._of.start)


class _Answer(Handler):
    """A file whose content is looked up when it is opened."""

    reads = True

    def __init__(self, content: Callable[[], Awaitable[bytes]]) -> None:
        self._content = content

    async def open(self, opening: Opening) -> Handle:
        return Snapshot(await self._content(), opening.file)


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

    def __init__(self, of: HasRelay) -> None:
        super().__init__()
        self._of = of

    def content_of(self, name: str) -> Callable[[], Awaitable[bytes]]:
        from oanix.lib.nostr import Filter, Invalid
        from oanix.lib.nostr.nip19 import event_id_of

        try:
            asked = Filter(ids=frozenset((event_id_of(name),)))
        except Invalid:
            raise Missing(name) from None

        async def content() -> bytes:
            found = await _found(self._of.relay, asked)
            if not found:
                raise fault(errno.ENOENT, "this event is not here")
            return found

        return content


class Asked(Named):
    """`req`: a file for each filter, as `kinds=1&#t=oanix&limit=20`."""

    def __init__(self, of: HasRelay) -> None:
        super().__init__()
        self._of = of

    def content_of(self, name: str) -> Callable[[], Awaitable[bytes]]:
        from oanix.lib.nostr import Invalid
        from oanix.lib.nostr.query import parse_query

        try:
            asked = parse_query(name)
        except Invalid as error:
            raise fault(errno.ENOENT, f"this is no filter: {error.reason}") from None
        return lambda: _found(self._of.relay, asked)


async def _found(relay: "Relay", asked: "Filter") -> bytes:
    """Give the stored events as JSON lines. Raises OSError."""
    from oanix.lib.nostr import Invalid
    from oanix.lib.nostr.query import format_query
    from oanix.services.relay.policy import Guest
    from oanix.services.relay.reading import TimeUp

    guest = Guest()
    try:
        refused = relay.core.policy.asking([asked], guest)
        if refused is not None:
            what = f"read {format_query(asked)}"
            raise Denied(refused, what=what, rule=refused, remedy=REMEDY)
        found, _ = await relay.core.query([asked], guest)
    except Invalid as error:
        raise fault(errno.EINVAL, error.reason) from None
    except TimeUp:
        raise fault(errno.ETIMEDOUT, "this takes too long; ask for less at a time") from None
    return b"".join(raw + b"\n" for raw in found)
