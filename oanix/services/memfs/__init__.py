"""MemFs: a complete POSIX file system in memory, for scratch space and tests.

Files (sparse), directories, symbolic and hard links, special files, extended attributes, unlinked
files that are still open, times in nanoseconds. What it holds is bounded in all and for each user.
Permission bits are kept, and checked by the doors that serve several users, as the FUSE door does
with `default_permissions`.
"""

import errno
import os
import stat as modes
import time
from collections.abc import Callable
from typing import Final

from oanix.errors import fault
from oanix.service import Service
from oanix.services.memfs.content import PAGE
from oanix.services.memfs.directory import MemDirectory
from oanix.services.memfs.node import Place
from oanix.services.memfs.space import Limits, Space
from oanix.stat import StatFs

__all__ = ["Limits", "MemFs"]

_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

_ARGUMENT = "size=BYTES, files=COUNT, user-size=BYTES, user-files=COUNT, mode=OCTAL"


class MemFs(Service):
    """A file system in memory; it is empty when it starts, and gone when it ends."""

    name = "mem"

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        mode: int = 0o1777,
        uid: int | None = None,
        gid: int | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Make an empty one. mode, uid and gid are its root's; the clock gives nanoseconds."""
        super().__init__()
        self.space = Space(limits or Limits())
        self.place = Place(self, self.space, clock)
        self.root: MemDirectory = MemDirectory(
            self.place,
            modes.S_IFDIR | mode,
            os.geteuid() if uid is None else uid,
            os.getegid() if gid is None else gid,
        )

    @classmethod
    def from_argument(cls, argument: str | None) -> "MemFs":
        """Make one as a recipe writes it: `size=64M,files=1000,user-size=1M,mode=755`.

        Raises OSError EINVAL for what is unknown or no number.
        """
        given: dict[str, int] = {}
        for part in (argument or "").split(","):
            name, _, value = part.partition("=")
            if not part and not argument:
                continue
            if name not in ("size", "files", "user-size", "user-files", "mode") or name in given:
                raise fault(errno.EINVAL, f"mem does not take {part!r}; it takes: {_ARGUMENT}")
            given[name] = _octal(value) if name == "mode" else _count(value)
        mode = given.pop("mode", 0o1777)
        return cls(Limits(**{name.replace("-", "_"): n for name, n in given.items()}), mode=mode)

    def statfs(self) -> StatFs:
        limits, use = self.space.limits, self.space.total
        free = max(limits.size - use.size, 0) // PAGE
        files = max(limits.files - use.files, 0)
        return StatFs(
            bsize=PAGE, frsize=PAGE, blocks=limits.size // PAGE, bfree=free, bavail=free,
            files=limits.files, ffree=files, favail=files,
        )  # fmt: skip

    def status(self) -> dict[str, str]:
        limits, use = self.space.limits, self.space.total
        shown = {"bytes": f"{use.size} of {limits.size}", "files": f"{use.files} of {limits.files}"}
        if use.size >= limits.size or use.files >= limits.files:
            shown["warning"] = "full: remove files, or mount it with a larger size= or files="
        return shown


def _count(text: str) -> int:
    digits = text.rstrip("kKmMgG")
    unit = _UNITS.get(text[len(digits) :].lower())
    if unit is None or not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise fault(errno.EINVAL, f"{text!r} is no size; write digits, and K, M or G after them")
    return int(digits) * unit


def _octal(text: str) -> int:
    if not text or text.strip("01234567") or int(text, 8) > 0o7777:
        raise fault(errno.EINVAL, f"{text!r} is no mode; write octal digits, as in 1777")
    return int(text, 8)
