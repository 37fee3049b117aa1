"""Lines: a message as a line, and back, so that nothing is ever taken for something else.

A text is its own line, unless it could not be one or looks like an envelope; then, and for bytes,
the line is an envelope: `{"text":"…"}` or `{"base64":"…"}`.
"""

import base64
import binascii
import errno
import json
import re

from oanix.errors import fault
from oanix.lib.websocket import Message

_TEXT = '{"text":'
_BYTES = '{"base64":'
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def to_line(message: Message, *, envelopes: bool = False) -> bytes:
    """Write a message as a line; envelopes: in an envelope, whatever it is."""
    if isinstance(message, bytes):
        return b'{"base64":"%s"}\n' % base64.b64encode(message)
    if envelopes or _CONTROL.search(message) or message.startswith((_TEXT, _BYTES)):
        written = json.dumps(message, ensure_ascii=False)
        # JSON lets these stand, but they end lines for some readers, or command terminals.
        written = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", written)
        message = f"{_TEXT}{written}}}"
    return message.encode() + b"\n"


def from_line(line: bytes, *, envelopes: bool = False) -> Message:
    """Read a line, without its newline. Raises OSError EINVAL for no UTF-8 or no envelope."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise fault(
            errno.EINVAL, 'a text message is UTF-8; write bytes as {"base64":"…"}'
        ) from error
    if not envelopes and not text.startswith((_TEXT, _BYTES)):
        return text
    try:
        match json.loads(text):
            case {"text": str(found), **rest} if not rest:
                found.encode()
                return found
            case {"base64": str(found), **rest} if not rest:
                return base64.b64decode(found, validate=True)
    except (ValueError, RecursionError, binascii.Error) as error:
        raise _no_envelope(text) from error
    raise _no_envelope(text)


def _no_envelope(text: str) -> OSError:
    return fault(
        errno.EINVAL,
        f'{text[:40]!r} is no envelope; write {{"text":"…"}} or {{"base64":"…"}}, and a text that'
        " begins so within one",
    )
