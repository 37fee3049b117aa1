"""Shared libraries that are no services: Nostr, WebSocket, policy, vault."""
