"""Confine: a worker gives up what guests need not have, should one ever run code of its own in it.

It keeps the modules to read, a folder for what it compiles of them, Python's own library, and the
socket to its server: no other file, no TCP (landlock(7)), no capability, no signal to other
processes, bounds on memory and descriptors (setrlimit(2)), and the processor after its server. A
kernel without Landlock leaves the rest.
"""

import ctypes
import errno
import os
import resource
import signal
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Final

DATA_BYTES: Final = 8 << 30
FILES: Final = 4_096
NICE: Final = 5
"""The server answers first: a job that computes does not make a mount slow (nice(2))."""

# landlock(7); the numbers of the calls are the same on every architecture.
_CREATE, _ADD, _RESTRICT, _VERSION = 444, 445, 446, 1
_PATH_BENEATH: Final = 1
_READ: Final = 1 << 2 | 1 << 3
_KEEP: Final = _READ | 1 << 1 | 1 << 5 | 1 << 8
"""Reading, and write, remove and make regular files."""

_FILES: Final = {1: 13, 2: 14, 3: 15, 5: 16}
"""So many rights on files are known since this version of Landlock."""

_NET_SINCE, _SCOPES_SINCE = 4, 6
_RULESET: Final = Struct("=QQQ")
_BENEATH: Final = Struct("=Qi")

_NO_NEW_PRIVS: Final = 38
_CAPABILITIES_3: Final = 0x20080522
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def confine(reads: Sequence[Path], keeps: Sequence[Path]) -> bool:
    """Confine this process, which has one thread yet. Says whether files are out of its reach.

    reads: folders whose files it may read; keeps: where it may also write. Raises OSError.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind, most in ((resource.RLIMIT_DATA, DATA_BYTES), (resource.RLIMIT_NOFILE, FILES)):
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
    os.nice(NICE)
    # A terminal's Ctrl-C is the server's matter.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _checked(_LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
    fenced = _fence([Path(sysconfig.get_paths()["stdlib"]), *reads], keeps)
    _drop_capabilities()
    return fenced


def _fence(reads: Sequence[Path], keeps: Sequence[Path]) -> bool:
    version = _LIBC.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        return False
    rights = (1 << max(count for since, count in _FILES.items() if since <= version)) - 1
    net = 0b11 if version >= _NET_SINCE else 0
    scopes = 0b11 if version >= _SCOPES_SINCE else 0
    # An older kernel knows a shorter ruleset.
    size = 24 if version >= _SCOPES_SINCE else 16 if version >= _NET_SINCE else 8
    attributes = _RULESET.pack(rights, net, scopes)[:size]
    rules = _checked(_LIBC.syscall(_CREATE, attributes, ctypes.c_size_t(size), 0))
    try:
        for allowed, folders in ((_READ, reads), (_KEEP, keeps)):
            for folder in folders:
                descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
                try:
                    rule = _BENEATH.pack(allowed, descriptor)
                    _checked(_LIBC.syscall(_ADD, rules, _PATH_BENEATH, rule, 0))
                finally:
                    os.close(descriptor)
        _checked(_LIBC.syscall(_RESTRICT, rules, 0))
    finally:
        os.close(rules)
    return True


def _drop_capabilities() -> None:
    # A root's worker is still root for files; Landlock keeps it from those.
    header = Struct("=Ii").pack(_CAPABILITIES_3, 0)
    _checked(_LIBC.capset(header, bytes(24)))


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno() or errno.EPERM
        raise OSError(number, os.strerror(number))
    return answer
