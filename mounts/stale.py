"""Mounts as the system has them: find, undo, and clear what a killed server left behind."""

import errno
import os
import re
import shutil
import subprocess
from pathlib import Path

from attrs import frozen

from oanix.errors import fault

TYPE = "fuse.oanix"
"""The type of our mounts in /proc/self/mountinfo."""

TIMEOUT_S = 20.0

ANSWER_S = 5.0
"""How long a server may take to answer before it counts as alive and busy."""

_GONE = tuple(os.strerror(number) for number in (errno.ENOTCONN, errno.ECONNABORTED))


@frozen
class Mounted:
    """One line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    path: str
    kind: str
    device: str
    source: str


def mounts() -> list[Mounted]:
    """List the mounts of this process, oldest first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        left, _, right = line.partition(b" - ")
        fields, (kind, source, *_) = left.split(), right.split()
        path = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8)]), fields[4])
        found.append(
            Mounted(os.fsdecode(path), os.fsdecode(kind), fields[2].decode(), os.fsdecode(source))
        )
    return found


def find(mountpoint: str) -> Mounted | None:
    """Find what is mounted at a path, without touching the path itself: it may be dead."""
    path = real(mountpoint)
    return next((m for m in reversed(mounts()) if m.path == path), None)


def real(mountpoint: str) -> str:
    """Give the real path of a mount point; only what leads to it is looked at."""
    absolute = os.path.abspath(mountpoint)
    return os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))


def is_dead(mountpoint: str) -> bool:
    """Tell whether the server of a mount is gone: the kernel says ENOTCONN.

    Asked by another process, which can be given up when a server that is stopped does not answer;
    and by statfs, as the kernel may remember attributes of a mount whose server is gone.
    """
    command = ["stat", "-f", "--", real(mountpoint)]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=ANSWER_S, check=False, env=_PLAIN, text=True
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode != 0 and any(said in done.stderr for said in _GONE)


def clear(mountpoint: str) -> bool:
    """Undo a mount of ours whose server is gone; tells whether there was one."""
    mounted = find(mountpoint)
    if mounted is None or mounted.kind != TYPE or not is_dead(mountpoint):
        return False
    unmount(mountpoint, lazy=True)
    return True


def unmount(mountpoint: str, *, lazy: bool = False) -> None:
    """Undo a mount of ours.

    Raises OSError: EINVAL when nothing of ours is mounted there, EBUSY when it is in use (with
    `lazy` it vanishes at once and ends when nobody uses it any more), EPERM when it is another's.
    """
    mounted = find(mountpoint)
    if mounted is None or mounted.kind != TYPE:
        raise fault(errno.EINVAL, f"nothing of ours is mounted at {mountpoint}", mountpoint)
    command = _command(lazy, real(mountpoint))
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=_PLAIN
    )
    if done.returncode:
        said = done.stderr.strip() or f"{command[0]} failed with {done.returncode}"
        number = errno.EBUSY if "busy" in said else errno.EPERM
        advice = "; close what uses it, or use --lazy" if number == errno.EBUSY else ""
        raise fault(number, said + advice, mountpoint)


_PLAIN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def _command(lazy: bool, path: str) -> list[str]:
    tool = shutil.which("fusermount3", path=_PLAIN["PATH"])
    if tool:
        return [tool, "-u", *(["-z"] if lazy else []), "--", path]
    if os.geteuid() == 0:
        return ["umount", *(["-l"] if lazy else []), "--", path]
    raise fault(errno.ENOENT, "fusermount3 is missing; install the package fuse3")
