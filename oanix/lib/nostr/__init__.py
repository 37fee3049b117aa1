"""Nostr: events, keys and filters, shared by the relay and by NostrFs. No input or output.

    event = Event.parse(data)      # NIP-01: its form
    check(event)                   # its id and its signature
    Filter.parse(decoded).matches(event)

nip19 (npub and the like), nip44 (encryption), wrap (NIP-59, NIP-17), auth (NIP-42, NIP-98) and pow
(NIP-13) are modules of their own.
"""

from oanix.lib.nostr.codec import Invalid, decode, encode
from oanix.lib.nostr.event import Event, Tags, Unsigned
from oanix.lib.nostr.filter import Filter
from oanix.lib.nostr.keys import LocalSigner, Signer, Template, check, check_many, make_secret

__all__ = [
    "Event",
    "Filter",
    "Invalid",
    "LocalSigner",
    "Signer",
    "Tags",
    "Template",
    "Unsigned",
    "check",
    "check_many",
    "decode",
    "encode",
    "make_secret",
]
