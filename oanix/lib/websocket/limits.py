"""What a peer may cost, and how a connection ends."""

import errno
from typing import Final

from attrs import frozen

from oanix.errors import fault

Message = str | bytes
"""A text or a binary message."""

NORMAL: Final = 1000
NO_CODE: Final = 1005
LOST: Final = 1006
POLICY: Final = 1008
TOO_BIG: Final = 1009
FAILED: Final = 1011

REASON_MAX: Final = 123
"""Bytes of a reason: a control frame has 125, and the code takes two (RFC 6455, 5.5)."""


@frozen(kw_only=True)
class Limits:
    """What one connection may take. Times are in seconds; `math.inf` for none."""

    message: int = 1 << 20
    """Bytes of a message that is received; a longer one ends the connection with 1009."""

    fragments: int = 1024
    """Frames of one message that is received; more end the connection with 1008."""

    controls: int = 100
    """Control frames received within `CONTROLS_S`; more end the connection with 1008."""

    handshake_s: float = 10.0
    """Until the opening handshake is done."""

    send_s: float = 10.0
    """Until the stream took 64 KiB of what is sent; else the connection is lost."""

    close_s: float = 5.0
    """Until the peer has answered a close, or has gone."""

    ping_s: float = 30.0
    """A ping is sent when nothing came for so long (while someone receives)."""

    pong_s: float = 20.0
    """Until something comes after that ping; else the connection is lost."""


CONTROLS_S: Final = 10.0
"""Over which time control frames are counted."""


@frozen
class Ending:
    """How a connection ended: the close code (RFC 6455, 7.4), the reason, and who ended it.

    1005 stands for a close without a code, 1006 for a connection that was lost; neither is ever
    sent.
    """

    code: int
    reason: str
    by_peer: bool

    @property
    def clean(self) -> bool:
        """Whether both sides know that it is over, and nothing was wrong."""
        return self.code in (NORMAL, 1001, NO_CODE) or self.code >= 3000

    def __str__(self) -> str:
        who = "the peer" if self.by_peer else "this side"
        if self.code == LOST:
            return f"the connection was lost: {self.reason}"
        return f"{who} closed with {self.code}" + (f": {self.reason}" if self.reason else "")


class Closed(ConnectionError):
    """The connection has ended: ENOTCONN after a clean end, EPROTO or ECONNRESET after another."""

    def __init__(self, ending: Ending) -> None:
        """Make it from how the connection ended."""
        number = errno.ENOTCONN
        if not ending.clean:
            number = errno.ECONNRESET if ending.code == LOST else errno.EPROTO
        super().__init__(number, str(ending))
        self.ending = ending


class Refused(ConnectionError):
    """The opening handshake was answered with an HTTP status, by the peer or by this side.

    EACCES for 401 and 403, ENOENT for 404, ETIMEDOUT for 408, EPROTO for another.
    """

    def __init__(self, status: int, sentence: str) -> None:
        """Make it from the status."""
        numbers = {401: errno.EACCES, 403: errno.EACCES, 404: errno.ENOENT, 408: errno.ETIMEDOUT}
        super().__init__(numbers.get(status, errno.EPROTO), sentence)
        self.status = status


def check_code(code: int) -> int:
    """Accept a code that may be sent. Raises OSError EINVAL (RFC 6455, 7.4; IANA's registry)."""
    if 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, NO_CODE, LOST)):
        return code
    raise fault(
        errno.EINVAL, f"{code} is no close code that may be sent; use 1000 to 1003, or 3000 to 4999"
    )


def cut(reason: str) -> str:
    """Shorten a reason to what a close frame holds, at a character."""
    return reason.encode("utf-8", "replace")[:REASON_MAX].decode("utf-8", "ignore")
