"""State: the folder that holds what outlives a server, and the locks on its parts.

    workspaces/<hash>/   what belongs to one served directory: lock directory logs/ dist/
    run/<pid>.json       what a server that runs says of itself (see `oanix.env.registry`)
    log/                 the logs of servers in the background

A lock is flock(2)'s: the kernel frees it when its holder ends, however it ends.
"""

import errno
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

import platformdirs
import trio
from attrs import frozen

from oanix.errors import fault

log = logging.getLogger(__name__)

VARIABLE = "OANIX_STATE"
"""The environment variable that names the state folder."""

CACHE = "OANIX_CACHE"
"""The environment variable that names the folder for what can be made anew."""

POLL_S = 0.02
"""How often a lock that will soon be free is tried."""


def state_folder() -> str:
    """Name the state folder: what $OANIX_STATE says, else the user's on this platform."""
    named = os.environ.get(VARIABLE)
    return os.path.abspath(named) if named else platformdirs.user_state_dir("oanix")


def cache_folder() -> str:
    """Name the folder for what can be made anew: what $OANIX_CACHE says, else the user's."""
    named = os.environ.get(CACHE)
    return os.path.abspath(named) if named else platformdirs.user_cache_dir("oanix")


def make_state(state: str) -> None:
    """Make the state folder, closed to other users.

    Raises OSError: EPERM where others may write to it, EACCES or EROFS where this user may not, and
    as mkdir(2).
    """
    try:
        os.makedirs(state, 0o700, exist_ok=True)
    except FileExistsError:
        raise fault(
            errno.ENOTDIR, f"the state folder is no directory; set {VARIABLE}", state
        ) from None
    except OSError as error:
        sentence = f"cannot make the state folder ({error.strerror}); set {VARIABLE} to another"
        raise fault(error.errno or errno.EIO, sentence, state) from error
    if not os.access(state, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(state).f_flag & os.ST_RDONLY else errno.EACCES
        sentence = f"cannot write to the state folder ({os.strerror(number)}); set {VARIABLE}"
        raise fault(number, f"{sentence} to another", state)
    found = os.stat(state)
    if found.st_uid not in (os.geteuid(), 0):
        raise fault(
            errno.EPERM,
            f"the state folder belongs to user {found.st_uid}, who could change all in it;"
            f" set {VARIABLE} to another",
            state,
        )
    if found.st_mode & 0o022:
        raise fault(
            errno.EPERM,
            f"other users may write to the state folder; chmod 700 it, or set {VARIABLE}",
            state,
        )


@frozen
class Holder:
    """Who holds a lock, as the lock file says."""

    pid: int = 0
    mountpoint: str = ""

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        return f"{who} at {self.mountpoint}" if self.mountpoint else who


class Busy(BlockingIOError):
    """EAGAIN: another server holds this; says which and where it is mounted."""

    def __init__(self, what: str, holder: Holder) -> None:
        remedy = (
            f"use {holder.mountpoint}, or end it with: oanix unmount {holder.mountpoint}"
            if holder.mountpoint
            else "wait until it ends"
        )
        super().__init__(errno.EAGAIN, f"{what} is served by {holder}; {remedy}")
        self.holder = holder


@contextmanager
def try_lock(path: str, holder: Holder) -> Iterator[bool]:
    """Hold the lock in a file for as long as the block, or give False at once."""
    descriptor = _locked(path)
    if descriptor is None:
        yield False
        return
    try:
        _sign(descriptor, holder)
        yield True
    finally:
        os.close(descriptor)


def _sign(descriptor: int, holder: Holder) -> None:
    said = json.dumps({"pid": holder.pid, "mountpoint": holder.mountpoint})
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, said.encode(), 0)
    except OSError as error:
        # The lock holds all the same; a full disk is a reason to mount, to make room.
        log.warning("cannot say who holds a lock: %s", error.strerror)


def _locked(path: str) -> int | None:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        held = _flocked(descriptor)
        # Whoever had it before may have removed the file: then the lock is nobody's.
        if held and _same(descriptor, path):
            return descriptor
        os.close(descriptor)
        if not held:
            return None


def _same(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def is_held(path: str) -> bool:
    """Tell whether somebody holds the lock in a file, without taking or changing it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


@contextmanager
def try_lock_directory(path: str) -> Iterator[bool]:
    """Do the same for a directory, with nothing written into it.

    One that cannot be opened needs no lock: whoever uses it will say so, and say it better.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield True
        return
    try:
        yield _flocked(descriptor)
    finally:
        os.close(descriptor)


def _flocked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def lock(
    stack: ExitStack,
    attempt: Callable[[], AbstractContextManager[bool]],
    holder: Callable[[], Holder],
    *,
    what: str,
    patience_s: float = 0.0,
) -> None:
    """Hold a lock until the stack is closed.

    attempt tries to take it, holder says who has it. One that has no mount point will end soon: it
    is given `patience_s`, and so is the next who has it. Raises Busy.
    """
    seen, end = None, 0.0
    while True:
        with ExitStack() as tried:
            if tried.enter_context(attempt()):
                stack.push(tried.pop_all())
                return
        other = holder()
        if other != seen:
            seen, end = other, trio.current_time() + patience_s
        if other.mountpoint or trio.current_time() >= end:
            raise Busy(what, other)
        await trio.sleep(POLL_S)


def read_holder(path: str) -> Holder:
    """Read who holds a lock; nobody in particular while that is being written."""
    try:
        with open(path, encoding="utf-8") as file:
            said = json.load(file)
        return Holder(int(said["pid"]), str(said["mountpoint"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Holder()


def write_atomically(path: str, content: bytes) -> None:
    """Replace a file in one step: who reads it sees the old content or the new."""
    temporary = f"{path}.{os.getpid()}.new"
    try:
        with open(temporary, "wb", opener=_private) as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        remove(temporary)
        raise


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
