"""Make files, and give them to whom they belong.

A server that is root makes everything as root: what it makes for others is then given away, and
set-uid and set-gid bits are set only afterwards, so that nothing is ever a program of root's.
"""

import errno
import os
import stat as modes

from attrs import frozen

from oanix.errors import fault
from oanix.services.workspace import host

_PRIVILEGES = modes.S_ISUID | modes.S_ISGID


@frozen
class Owner:
    """Whom a new file is given to; -1 leaves the group that its directory passes on."""

    uid: int
    gid: int


def file(directory_fd: int, name: bytes, flags: int, mode: int, owner: Owner | None) -> int:
    """Make a regular file and open it. Raises OSError EEXIST."""
    flags |= os.O_CREAT | os.O_EXCL
    if owner is None:
        return os.open(name, flags, mode & 0o7777, dir_fd=directory_fd)
    fd = os.open(name, flags, mode & 0o1777, dir_fd=directory_fd)
    try:
        os.fchown(fd, owner.uid, owner.gid)
        _set_privileges(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def give(directory_fd: int, name: bytes, owner: Owner, mode: int) -> None:
    """Give away what was just made under a name.

    Raises OSError EBUSY when something else has the name by now: that must not be given away.
    """
    fd = os.open(name, host.PINNED, dir_fd=directory_fd)
    try:
        stat = os.fstat(fd)
        single = modes.S_ISDIR(stat.st_mode) or stat.st_nlink == 1
        if stat.st_uid != os.geteuid() or not single:
            raise fault(errno.EBUSY, "the new file was replaced on the host before it was ready")
        os.chown(host.proc_path(fd), owner.uid, owner.gid)
        _set_privileges(fd, mode)
    finally:
        os.close(fd)


def _set_privileges(fd: int, mode: int) -> None:
    if mode & _PRIVILEGES:
        made = modes.S_IMODE(os.fstat(fd).st_mode)
        os.chmod(host.proc_path(fd), made | mode & _PRIVILEGES)
