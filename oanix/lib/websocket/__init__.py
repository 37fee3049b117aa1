"""WebSocket (RFC 6455) over any trio stream, as client and as server.

    async with await WebSocket.connect(stream, host="example.com", target="/chat") as socket:
        await socket.send("hello")
        async for message in socket:
            print(message)

A connection has no task of its own and no queue: whoever calls `receive` reads from the stream,
answers pings and sees to the peer's life, whoever calls `send` waits until the stream took it. What
a peer may cost is in `Limits`. The one importer of wsproto, which has the handshake and the frames.
"""

from oanix.lib.websocket.handshake import (
    Admit,
    Refusal,
    Upgrade,
    any_origin,
    check_header,
    check_subprotocol,
    same_origin,
)
from oanix.lib.websocket.limits import Closed, Ending, Limits, Message, Refused, check_code
from oanix.lib.websocket.socket import WebSocket

__all__ = [
    "Admit",
    "Closed",
    "Ending",
    "Limits",
    "Message",
    "Refusal",
    "Refused",
    "Upgrade",
    "WebSocket",
    "any_origin",
    "check_code",
    "check_header",
    "check_subprotocol",
    "same_origin",
]
