"""Lookups: what the files of names give. Each asks relays when it is opened."""

import errno
from typing import TYPE_CHECKING

from oanix.errors import fault
from oanix.lib.nostr import Event, Filter, Invalid, decode
from oanix.lib.nostr.event import KIND_MAX
from oanix.lib.nostr.nip19 import decode_pointer, event_id_of, pubkey_of
from oanix.lib.nostr.query import parse_query
from oanix.services.nostr.narrow import Access
from oanix.services.nostr.nostr import PROFILE, RELAY_LIST, Nostr

if TYPE_CHECKING:
    from oanix.services.nostr.view import Answer


def event_named(name: str) -> "Answer":
    """Look an event up by its id, note or nevent. Raises Invalid for another name."""
    event = event_id_of(name)
    hints = decode_pointer(name).relays if name.startswith("nevent1") else ()
    asked = Filter(ids=frozenset((event,)))

    async def answer(nostr: Nostr, access: Access) -> bytes:
        found = await nostr.find([asked], access, hints=hints)
        if not found:
            raise fault(errno.ENOENT, "no relay has this event")
        return found[0].json() + b"\n"

    return answer


def event_at(name: str) -> "Answer":
    """Look up what is newest at an address. Raises Invalid for another name."""
    if name.startswith("naddr1"):
        pointer = decode_pointer(name)
        kind, author, d = pointer.kind or 0, pointer.author or "", pointer.what
    else:
        said, _, rest = name.partition(":")
        if not (said.isascii() and said.isdigit() and len(said) < 6 and int(said) <= KIND_MAX):
            raise Invalid("an address is KIND:PUBKEY:D")
        author, _, d = rest.partition(":")
        kind, author = int(said), pubkey_of(author)
    addressable = 30_000 <= kind < 40_000

    async def answer(nostr: Nostr, access: Access) -> bytes:
        found = await nostr.fresh(kind, author, access, d if addressable else None)
        if found is None:
            raise fault(errno.ENOENT, "no relay has anything at this address")
        return found.json() + b"\n"

    return answer


def events_of(name: str) -> "Answer":
    """Look up what is stored of a filter. Raises Invalid for a name that is none."""
    asked = parse_query(name)

    async def answer(nostr: Nostr, access: Access) -> bytes:
        found = await nostr.find([asked], access)
        most = len(found) if asked.limit is None else asked.limit
        return b"".join(event.json() + b"\n" for event in found[:most])

    return answer


async def _profile(nostr: Nostr, access: Access, author: str) -> Event:
    found = await nostr.fresh(PROFILE, author, access)
    if found is None:
        raise fault(errno.ENOENT, "no relay has a profile of this key")
    return found


def profile_json(author: str) -> "Answer":
    """Give the whole of a profile, as its author wrote it."""

    async def answer(nostr: Nostr, access: Access) -> bytes:
        return (await _profile(nostr, access, author)).content.encode() + b"\n"

    return answer


def profile_field(author: str, field: str) -> "Answer":
    """Give one text of a profile."""

    async def answer(nostr: Nostr, access: Access) -> bytes:
        event = await _profile(nostr, access, author)
        try:
            said = decode(event.content)
        except Invalid:
            said = None
        value = said.get(field) if isinstance(said, dict) else None
        if not isinstance(value, str):
            raise fault(errno.ENOENT, f"this profile has no {field}")
        return value.encode() + b"\n"

    return answer


def profile_relays(author: str) -> "Answer":
    """Give where somebody reads and writes (NIP-65): `URL [read|write]` lines."""

    async def answer(nostr: Nostr, access: Access) -> bytes:
        found = await nostr.fresh(RELAY_LIST, author, access)
        if found is None:
            raise fault(errno.ENOENT, "this key has told no relays (NIP-65)")
        tags = [tag for tag in found.tags if len(tag) > 1 and tag[0] == "r"]
        lines = (" ".join((tag[1], *tag[2:3])) for tag in tags)
        return "".join(f"{_shown(line)}\n" for line in lines).encode()

    return answer


def _shown(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line).strip()
