"""Event: what Nostr consists of (NIP-01), and what its tags say.

An event is what was parsed: its JSON is written anew, so that unknown fields, other orders and
unusual escapes of who sent it are gone.
"""

import hashlib
import re
import string
from functools import cached_property

from oanix.lib.nostr.codec import Invalid, Struct, convert, decode_as, decoder_of, encode

HEX32 = re.compile(r"[0-9a-f]{64}")

LETTERS = frozenset(string.ascii_letters)
"""Names of tags that filters look at."""

KIND_MAX = 65_535
TIME_MAX = 2**53 - 1
"""Largest time that every JSON library reads exactly (RFC 8259, section 6)."""

Tags = tuple[tuple[str, ...], ...]


class Unsigned(Struct, frozen=True, kw_only=True):
    """What an event is before it has an id: whose it is, when, of which kind, and what it says."""

    pubkey: str
    created_at: int
    kind: int
    tags: Tags = ()
    content: str = ""

    def serialized(self) -> bytes:
        """Write what the id is the hash of. Raises Invalid for a lone surrogate."""
        return encode([0, self.pubkey, self.created_at, self.kind, self.tags, self.content])

    def hashed(self) -> str:
        """Compute the id."""
        return hashlib.sha256(self.serialized()).hexdigest()


class Event(Struct, frozen=True, kw_only=True, dict=True):
    """A signed event. `parse` checks its form; `oanix.lib.nostr.keys.check` id and signature."""

    id: str
    pubkey: str
    created_at: int
    kind: int
    tags: Tags
    content: str
    sig: str

    @classmethod
    def parse(cls, data: bytes | str) -> "Event":
        """Read the JSON of an event. Raises Invalid."""
        return _formed(decode_as(data, _decoder))

    @classmethod
    def said(cls, message: str) -> "Event":
        """Read the event of a message, a JSON list of a text and the event. Raises Invalid."""
        return _formed(decode_as(message, _message_decoder)[1])

    @classmethod
    def of(cls, decoded: object) -> "Event":
        """Take an event that was decoded as part of something else. Raises Invalid."""
        return _formed(convert(decoded, cls))

    @property
    def unsigned(self) -> Unsigned:
        """What was signed."""
        return Unsigned(
            pubkey=self.pubkey, created_at=self.created_at, kind=self.kind, tags=self.tags,
            content=self.content,
        )  # fmt: skip

    def json(self) -> bytes:
        """Write it on one line, its fields in the order of NIP-01."""
        return encode(self)

    def hashed(self) -> str:
        """Compute what its id should be."""
        said = encode([0, self.pubkey, self.created_at, self.kind, self.tags, self.content])
        return hashlib.sha256(said).hexdigest()

    # Tags ----------------------------------------------------------------------------------------

    def values(self, name: str) -> list[str]:
        """List the first values of the tags of a name, in their order."""
        return [tag[1] for tag in self.tags if len(tag) > 1 and tag[0] == name]

    def first(self, name: str) -> str | None:
        """Give the first value of the first tag of a name that has one."""
        for tag in self.tags:
            if len(tag) > 1 and tag[0] == name:
                return tag[1]
        return None

    @cached_property
    def indexed(self) -> frozenset[tuple[str, str]]:
        """The first values of the tags with a name of one letter: what filters look at."""
        return frozenset(
            {(tag[0], tag[1]) for tag in self.tags if len(tag) > 1 and tag[0] in LETTERS}
        )

    @property
    def expiration(self) -> int | None:
        """When it expires (NIP-40), in seconds since the epoch."""
        said = self.first("expiration")
        if said is None or not (said.isascii() and said.isdecimal() and len(said) <= 16):
            return None
        return int(said)

    @property
    def is_protected(self) -> bool:
        """Whether its author alone may publish it (NIP-70)."""
        return any(tag[:1] == ("-",) for tag in self.tags)

    # Kinds (NIP-01) ------------------------------------------------------------------------------

    @property
    def is_ephemeral(self) -> bool:
        """Whether it is for those who listen now, and is not kept."""
        return 20_000 <= self.kind < 30_000

    @property
    def is_replaceable(self) -> bool:
        """Whether the newest of its author and kind alone is kept."""
        return is_replaceable(self.kind)

    @property
    def is_addressable(self) -> bool:
        """Whether the newest of its author, kind and `d` tag alone is kept."""
        return 30_000 <= self.kind < 40_000

    @property
    def address(self) -> str | None:
        """What a newer one replaces it by: `kind:pubkey:d`; None for what nothing replaces."""
        if self.is_addressable:
            return f"{self.kind}:{self.pubkey}:{self.first('d') or ''}"
        return f"{self.kind}:{self.pubkey}:" if is_replaceable(self.kind) else None

    def replaces(self, created_at: int, name: str) -> bool:
        """Tell whether it is newer than one of the same address, of which this is the time and id.

        Of one time the lowest id wins.
        """
        return (-self.created_at, self.id) < (-created_at, name)


def is_replaceable(kind: int) -> bool:
    """Tell whether the newest of an author and this kind alone is kept (NIP-01)."""
    return kind in (0, 3) or 10_000 <= kind < 20_000


_decoder = decoder_of(Event)
_message_decoder = decoder_of(tuple[str, Event])


def _formed(event: Event) -> Event:
    if not _is_hex(event.id, 64):
        raise Invalid("the id is not 64 digits of lower-case hex")
    if not _is_hex(event.pubkey, 64):
        raise Invalid("the pubkey is not 64 digits of lower-case hex")
    if not _is_hex(event.sig, 128):
        raise Invalid("the sig is not 128 digits of lower-case hex")
    if not 0 <= event.kind <= KIND_MAX:
        raise Invalid(f"the kind is not a number from 0 to {KIND_MAX}")
    if not 0 <= event.created_at <= TIME_MAX:
        raise Invalid("created_at is no time in seconds since the epoch")
    if () in event.tags:
        raise Invalid("a tag is empty")
    return event


def _is_hex(text: str, size: int) -> bool:
    # A third of the time of a regular expression. Blanks between digits would make it shorter.
    try:
        return len(text) == size == 2 * len(bytes.fromhex(text)) and text == text.lower()
    except ValueError:
        return False
