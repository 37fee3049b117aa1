"""Relay: a Nostr relay, as files and as a server of WebSockets."""

from oanix.services.relay.service import RelayFs

__all__ = ["RelayFs"]
