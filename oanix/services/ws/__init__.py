"""WsFs: WebSockets as files, a message a line (docs/man/ws.md)."""

from oanix.services.ws.service import WsFs

__all__ = ["WsFs"]
