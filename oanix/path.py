"""Check, split and convert names and paths.

Names are `str` inside OANIX and bytes on Linux: the two convert with UTF-8 and `surrogateescape`
(PEP 383), whatever the locale says, so that every byte sequence survives unharmed.
"""

import errno

from oanix.errors import fault

NAME_MAX = 255
"""Longest name in bytes (limits.h); the kernel lets longer ones through to a FUSE server."""

PATH_MAX = 4095
"""Longest path in bytes, without the closing NUL (limits.h)."""

SYMLINK_MAX = 40
"""Symbolic links followed in one resolution, as in path_resolution(7)."""


def decode(raw: bytes) -> str:
    """Turn a name as Linux has it into a name as OANIX has it."""
    return raw.decode("utf-8", "surrogateescape")


def encode(name: str) -> bytes:
    """Turn a name back into the bytes that Linux has.

    Raises OSError EINVAL for what `decode` never gives: a lone surrogate that stands for no byte,
    and surrogates whose bytes are text, as these would give one file two names.
    """
    try:
        raw = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise fault(errno.EINVAL, "the name holds a lone surrogate, which is no text") from None
    if not name.isascii() and decode(raw) != name:
        raise fault(errno.EINVAL, "the name spells text as single bytes; write it as text")
    return raw


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a directory entry.

    Raises OSError: ENOENT for an empty name, EINVAL for `.`, `..`, NUL, `/` and as `encode`,
    ENAMETOOLONG above NAME_MAX bytes (path_resolution(7)).
    """
    if not name:
        raise fault(errno.ENOENT, "a name cannot be empty")
    if name in (".", ".."):
        raise fault(errno.EINVAL, f"{name!r} cannot be the name of a new entry")
    if "\0" in name or "/" in name:
        raise fault(errno.EINVAL, f"a name cannot hold NUL or '/': {name!r}")
    if len(name if name.isascii() else encode(name)) > NAME_MAX:
        raise fault(errno.ENAMETOOLONG, f"a name has at most {NAME_MAX} bytes")


def split(path: str) -> list[str]:
    """Split a path into its names; empty ones and `.` vanish, `..` stays for whoever resolves it.

    Raises OSError: ENOENT for an empty path, EINVAL for a NUL and as `encode`, ENAMETOOLONG for a
    long path.
    """
    if not path:
        raise fault(errno.ENOENT, "a path cannot be empty")
    if "\0" in path:
        raise fault(errno.EINVAL, f"a path cannot hold NUL: {path!r}")
    if len(path if path.isascii() else encode(path)) > PATH_MAX:
        raise fault(errno.ENAMETOOLONG, f"a path has at most {PATH_MAX} bytes")
    return [name for name in path.split("/") if name and name != "."]


def clean(path: str) -> tuple[str, ...]:
    """Split an absolute path of a namespace and resolve `..` by its text; it never leaves the root.

    Raises OSError: EINVAL for a path that does not begin with `/`, and as `split` and `check_name`.
    """
    if not path.startswith("/"):
        raise fault(errno.EINVAL, f"a path in a namespace begins with '/': {path!r}")
    names: list[str] = []
    for name in split(path):
        if name == "..":
            del names[-1:]
        else:
            check_name(name)
            names.append(name)
    return tuple(names)


def join(names: tuple[str, ...] | list[str]) -> str:
    """Write names as an absolute path."""
    return "/" + "/".join(names)
