"""Failures: what the transport raises, as the errno and the sentence that a user gets."""

import errno
import re
from typing import Final

import h2.errors
import h2.events
import h2.exceptions
import httpcore2

from oanix.errors import fault
from oanix.lib.web.unconnected import Unconnected

TRANSPORT = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    h2.exceptions.ProtocolError,
    OSError,
)
"""What the transport may raise; anything else is a defect."""

_QUOTED: Final = re.compile(r"\W*\b(?:bytearray\()?b['\"].*", re.DOTALL)


def failure(error: Exception, host: str, *, answered: bool = False) -> OSError:
    """Give the OSError for an exception of the transport; an OSError stays itself.

    answered: whether the headers had come, so that it is the body that ends early.
    """
    if isinstance(error, OSError):
        return error
    if isinstance(error, httpcore2.TimeoutException):
        late = "sent nothing for too long" if answered else "did not answer in time"
        return fault(errno.ETIMEDOUT, f"{host} {late}")
    if isinstance(error, httpcore2.NetworkError):
        return fault(errno.ECONNRESET, f"{host} reset the connection")
    # What went wrong comes as an argument: httpcore2 takes the cause off.
    what = error.args[0] if error.args else error
    if isinstance(what, h2.events.StreamReset | h2.events.ConnectionTerminated):
        return fault(errno.ECONNRESET, f"{host} ended the exchange ({_word(what.error_code)})")
    if isinstance(error, httpcore2.RemoteProtocolError) and "disconnected" in str(what):
        return fault(errno.ECONNRESET, f"{host} closed the connection without an answer")
    if isinstance(error, httpcore2.ProtocolError | h2.exceptions.ProtocolError):
        return _protocol(error if isinstance(error, h2.exceptions.ProtocolError) else what, host)
    raise error


def _protocol(error: object, host: str) -> OSError:
    # h11 gives the status a server would answer with: 431 is for headers that are too long.
    too_long = getattr(error, "error_status_hint", None) == 431
    if too_long or isinstance(error, h2.exceptions.DenialOfServiceError):
        return fault(errno.EMSGSIZE, f"the headers of the answer of {host} are too long")
    if "without sending complete message body" in str(error):
        return fault(errno.EPROTO, f"{host} ended the connection in the middle of the body")
    return fault(errno.EPROTO, f"{host} does not speak HTTP as it should: {unquoted(error)}")


def unquoted(error: object) -> str:
    """Say what a library complains of, without the bytes that it repeats of what the peer sent.

    They may hold a secret, and neither a part of one nor its Python spelling could be masked.
    """
    return _QUOTED.sub("", str(error))[:200]


def may_repeat(error: Exception) -> bool:
    """Tell whether nothing of an answer can have come, so that asking again may help."""
    if isinstance(error, Unconnected):
        return error.errno not in (errno.ETIMEDOUT, errno.EHOSTUNREACH)
    return isinstance(error, httpcore2.NetworkError) or (
        isinstance(error, httpcore2.RemoteProtocolError) and "disconnected" in str(error)
    )


def _word(code: object) -> str:
    """Name an error code of HTTP/2; there are numbers without a name."""
    return code.name if isinstance(code, h2.errors.ErrorCodes) else f"error {code}"


def too_large(limit: int, rule: str) -> OSError:
    """Make the error for a body over the size= of a rule."""
    return fault(
        errno.EMSGSIZE, f"the body is larger than the {limit} bytes that a rule allows: {rule}"
    )


def took_too_long(host: str, rule: str) -> OSError:
    """Make the error for what took longer than the time= of a rule."""
    return fault(errno.ETIMEDOUT, f"{host} took longer than a rule allows: {rule}")
