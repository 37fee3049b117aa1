"""The relay: where Nostr's events are kept, found, and passed on as they come."""

from oanix.services.relay.core import Core
from oanix.services.relay.rules import Outcome, Peer, RelayLimits

__all__ = ["Core", "Outcome", "Peer", "RelayLimits"]
