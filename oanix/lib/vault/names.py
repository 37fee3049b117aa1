"""Names and values: what a secret may be called, and what it may hold."""

import errno
import re
from typing import Final

from oanix import path as paths
from oanix.errors import fault

NAME_LONGEST: Final = 64
RESERVED: Final = frozenset({"README", "ctl", "status"})
"""Names that the files of the service have."""

VALUE_SHORTEST: Final = 4
VALUE_LONGEST: Final = 65_536

_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


def check_name(name: str) -> None:
    """Refuse what cannot name a secret.

    Raises OSError: ENAMETOOLONG, EINVAL, and as `paths.check_name`.
    """
    paths.check_name(name)
    if not _NAME.fullmatch(name) or ".." in name:
        raise fault(
            errno.EINVAL,
            f"{name[:80]!r} cannot name a secret: use letters and digits of ASCII, '.', '_' and "
            "'-', and no '..'",
        )
    if len(name) > NAME_LONGEST:
        raise fault(
            errno.ENAMETOOLONG, f"the name of a secret has at most {NAME_LONGEST} characters"
        )
    if name in RESERVED:
        raise fault(
            errno.EINVAL, f"{name!r} is the name of a file beside the secrets; choose another"
        )


def check_value(value: bytes) -> str:
    """Refuse what cannot be a value, with a sentence that does not tell it.

    Raises OSError EMSGSIZE for one that is too long, else EINVAL.
    """
    if not value:
        raise fault(errno.EINVAL, "the value is empty")
    if len(value) > VALUE_LONGEST:
        raise fault(errno.EMSGSIZE, f"a value has at most {VALUE_LONGEST} bytes")
    if any(byte in value for byte in b"\0\r\n"):
        raise fault(
            errno.EINVAL,
            "the value holds a line end or NUL, which no header can carry; what has several "
            "lines, as a PEM key, is no secret for HTTP",
        )
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise fault(errno.EINVAL, "the value is no UTF-8; encode it, as base64, before") from None
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in text):
        raise fault(errno.EINVAL, "the value holds a control character, which no header can carry")
    if text.strip() != text:
        raise fault(
            errno.EINVAL, "the value begins or ends with a blank, which a header would lose"
        )
    if len(value) < VALUE_SHORTEST:
        raise fault(
            errno.EINVAL,
            f"a value has at least {VALUE_SHORTEST} bytes: to mask a shorter one would destroy the "
            "answers it is found in",
        )
    return text
