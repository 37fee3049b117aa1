"""The Coder web API: turns HTTP and WebSocket requests into path operations."""
