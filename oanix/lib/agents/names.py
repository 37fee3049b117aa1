"""Names: what a kind, an argument and a file of a kind may be called."""

import errno
import re
from typing import Final

from oanix.errors import fault

KIND_LONGEST: Final = 64
FILE_LONGEST: Final = 200

RESERVED: Final = frozenset({"README", "manifest.json", "installed.json"})
"""Names of files that a kind has without saying so."""

_KIND: Final = re.compile(r"[a-z][a-z0-9_-]*")
_ARGUMENT: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def check_kind(name: str) -> str:
    """Give the name of a kind. Raises OSError EINVAL."""
    if not _KIND.fullmatch(name) or len(name) > KIND_LONGEST:
        raise fault(
            errno.EINVAL,
            f"{name[:80]!r} cannot name a kind: it begins with a small letter, and has at most "
            f"{KIND_LONGEST} small letters, digits, '-' and '_'",
        )
    return name


def check_argument(name: str) -> str:
    """Give the name of an argument. Raises OSError EINVAL."""
    if not _ARGUMENT.fullmatch(name) or len(name) > KIND_LONGEST or name == "help":
        raise fault(
            errno.EINVAL,
            f"{name[:80]!r} cannot name an argument: use small letters and digits, with '-' "
            "between words; `help` is taken",
        )
    return name


def check_file(name: str) -> str:
    """Give the path of a file within a kind. Raises OSError EINVAL for one that could leave it."""
    if len(name) > FILE_LONGEST or not all(map(_PART.fullmatch, name.split("/"))):
        raise fault(
            errno.EINVAL,
            f"{name[:80]!r} cannot name a file of a kind: its parts, with '/' between them, have "
            "letters and digits of ASCII, '.', '_' and '-', and begin with no '.' or '-'",
        )
    if name in RESERVED and name != "README":
        raise fault(errno.EINVAL, f"{name!r} is a file that every kind has; choose another name")
    return name
