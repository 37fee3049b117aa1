"""NostrFs: events of Nostr relays as files, signed by a key that nobody sees."""
