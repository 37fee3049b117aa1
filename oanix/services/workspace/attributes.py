"""Change the attributes of a file that is held by a descriptor.

Each function takes a descriptor opened in any way, even with O_PATH, and goes through
/proc/self/fd, which leads to the very file, whatever its name is by now.
"""

import errno
import os
import stat as modes

from oanix.caller import Caller
from oanix.errors import fault
from oanix.services.workspace import host
from oanix.stat import Changed

SIZE_MAX = (1 << 63) - 1
"""Largest size that a file can have (off_t)."""

_PRIVILEGED = ("security.", "trusted.")


def change(fd: int, changed: Changed, caller: Caller, *, as_root: bool) -> None:
    """Change what is given. Raises OSError as chmod(2), chown(2), truncate(2), utimensat(2)."""
    path = host.proc_path(fd)
    if changed.size is not None:
        truncate(fd, changed.size, caller, as_root=as_root)
    if changed.uid is not None or changed.gid is not None:
        uid = -1 if changed.uid is None else changed.uid
        gid = -1 if changed.gid is None else changed.gid
        # The host clears the set-uid and set-gid bits of a file that is no directory.
        os.chown(path, uid, gid)
    if changed.mode is not None:
        if modes.S_ISLNK(os.fstat(fd).st_mode):
            raise fault(errno.EOPNOTSUPP, "a symbolic link has no mode of its own")
        os.chmod(path, changed.mode & 0o7777)
    if changed.atime_ns is not None or changed.mtime_ns is not None:
        host.set_times(fd, changed.atime_ns, changed.mtime_ns)


def truncate(fd: int, size: int, caller: Caller, *, as_root: bool) -> None:
    """Set the size. Raises OSError: EFBIG for one that no file can have, and as truncate(2)."""
    if size > SIZE_MAX:
        raise fault(errno.EFBIG, f"a file has at most {SIZE_MAX} bytes")
    os.truncate(host.proc_path(fd), size)
    if as_root and caller.uid != 0:
        drop_privileges(fd)


def drop_privileges(fd: int) -> None:
    """Clear the set-uid and set-gid bits, as the host does when others than root write."""
    mode = os.fstat(fd).st_mode
    drop = mode & modes.S_ISUID
    if mode & modes.S_ISGID and mode & modes.S_IXGRP:
        drop |= modes.S_ISGID
    if drop and modes.S_ISREG(mode):
        os.chmod(host.proc_path(fd), modes.S_IMODE(mode) & ~drop)


def may_set(name: str, caller: Caller) -> None:
    """Refuse the extended attributes that only root sets (xattr(7))."""
    if caller.uid != 0 and name.startswith(_PRIVILEGED):
        raise fault(errno.EPERM, f"only root sets {name!r}")
