"""Relay: a Nostr relay, as files and as a server of WebSockets."""

from oanix.services.relay.core import Core
from oanix.services.relay.rules import Outcome, RelayLimits
from oanix.services.relay.service import RelayFs

__all__ = ["Core", "Outcome", "RelayFs", "RelayLimits"]
