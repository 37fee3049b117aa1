"""Nostr: events of any relay as files, signed with a key that nobody sees."""

from oanix.services.nostr.service import NostrFs

__all__ = ["NostrFs"]
