"""Extended attributes as Linux has them on a file system in memory (xattr(7), setxattr(2))."""

import errno
import stat as modes

from oanix.caller import Caller
from oanix.errors import fault
from oanix.path import encode

NAME_MAX = 255
SIZE_MAX = 65_536
LIST_MAX = 65_536
"""Bytes of all names with their NULs: listxattr(2) could not give more (limits.h)."""

_PREFIXES = ("user.", "trusted.", "security.")


def check_name(name: str) -> None:
    """Refuse a name. Raises OSError: ERANGE, EINVAL, EOPNOTSUPP, EPERM."""
    if not 0 < len(encode(name)) <= NAME_MAX:
        raise fault(errno.ERANGE, f"the name of an attribute has 1 to {NAME_MAX} bytes")
    if "\0" in name:
        raise fault(errno.EINVAL, "the name of an attribute cannot hold NUL")
    if name in _PREFIXES:
        raise fault(errno.EINVAL, f"{name!r} lacks what follows the dot")
    if not name.startswith(_PREFIXES):
        raise fault(
            errno.EOPNOTSUPP, "attributes here begin with user., trusted. or security.; no ACLs"
        )


class Xattrs:
    """The attributes of one file."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __len__(self) -> int:
        return len(self._values)

    def names(self) -> list[str]:
        """List the names."""
        return list(self._values)

    def get(self, name: str) -> bytes:
        """Give a value. Raises OSError ENODATA, and as `check_name`."""
        check_name(name)
        value = self._values.get(name)
        if value is None:
            raise fault(errno.ENODATA, f"the file has no attribute {name!r}")
        return value

    def check(self, name: str, value: bytes, mode: int, caller: Caller) -> int:
        """Refuse what cannot be set, or tell by how many bytes it grows what is kept.

        Raises OSError: E2BIG for the value, ENOSPC for too many names, and as `check_name`.
        """
        check_name(name)
        self.check_caller(name, caller)
        if name.startswith("user.") and not (modes.S_ISREG(mode) or modes.S_ISDIR(mode)):
            raise fault(errno.EPERM, "only files and directories have attributes user.*")
        if len(value) > SIZE_MAX:
            raise fault(errno.E2BIG, f"an attribute has at most {SIZE_MAX} bytes")
        old = self._values.get(name)
        size = len(encode(name)) + len(value)
        if old is not None:
            return size - len(encode(name)) - len(old)
        if sum(len(encode(kept)) + 1 for kept in self._values) + len(encode(name)) + 1 > LIST_MAX:
            raise fault(errno.ENOSPC, "the file has as many attributes as can be listed")
        return size

    def check_caller(self, name: str, caller: Caller) -> None:
        """Refuse a caller. Raises OSError EPERM for all but root, where it is not `user.*`."""
        if caller.uid and not name.startswith("user."):
            raise fault(errno.EPERM, f"only root changes {name!r}")

    def set(self, name: str, value: bytes) -> None:
        """Keep what was checked."""
        self._values[name] = value

    def remove(self, name: str) -> int:
        """Remove one that is there; gives how many bytes that frees."""
        return len(encode(name)) + len(self._values.pop(name))
