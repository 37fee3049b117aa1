"""Names: the calls that take a path (WASI preview 1, `path_*`)."""

import errno
import os

from oanix import path as paths
from oanix.channel import Channel
from oanix.errors import fault
from oanix.scheduler.engine import Memory
from oanix.scheduler.wasi import abi
from oanix.scheduler.wasi.abi import OFlags, Rights, open_flags
from oanix.scheduler.wasi.attributes import changed_times, write_stat
from oanix.scheduler.wasi.descriptors import Folder, NotCapable, Opened
from oanix.scheduler.wasi.process import Process
from oanix.scheduler.wasi.resolving import Way, resolve


def _text(memory: Memory, pointer: int, size: int) -> str:
    if size > paths.PATH_MAX:
        raise fault(errno.ENAMETOOLONG, f"a path has at most {paths.PATH_MAX} bytes")
    return paths.decode(memory.read(pointer, size))


def _way(
    process: Process, memory: Memory, fd: int, right: int, pointer: int, size: int,
    follow: int = 0,
) -> Way:  # fmt: skip
    folder = process.fds.folder(fd, right)
    if follow & ~abi.SYMLINK_FOLLOW:
        raise fault(errno.EINVAL, f"there are no such flags: {follow:#x}")
    path = _text(memory, pointer, size)
    return resolve(process.caller, folder.channel, path, follow=bool(follow & abi.SYMLINK_FOLLOW))


def path_create_directory(
    process: Process, memory: Memory, fd: int, pointer: int, size: int
) -> int:
    """Make a directory."""
    way = _way(process, memory, fd, Rights.PATH_CREATE_DIRECTORY, pointer, size)
    parent, name = way.named(errno.EEXIST)
    process.may_make()
    parent.mkdir(process.caller, name, 0o777)
    return 0


def path_filestat_get(
    process: Process, memory: Memory, fd: int, flags: int, pointer: int, size: int, out: int
) -> int:
    """Give the attributes of a path."""
    way = _way(process, memory, fd, Rights.PATH_FILESTAT_GET, pointer, size, flags)
    found = way.there()
    write_stat(memory, out, found.key, found.stat(process.caller))
    return 0


def path_filestat_set_times(
    process: Process, memory: Memory, fd: int, flags: int, pointer: int, size: int,
    atime: int, mtime: int, which: int,
) -> int:  # fmt: skip
    """Set the times of a path."""
    way = _way(process, memory, fd, Rights.PATH_FILESTAT_SET_TIMES, pointer, size, flags)
    changed = changed_times(process, atime, mtime, which)
    way.there().setattr(process.caller, changed)
    return 0


def path_link(
    process: Process, memory: Memory, old_fd: int, flags: int, old: int, old_size: int,
    new_fd: int, new: int, new_size: int,
) -> int:  # fmt: skip
    """Give a file one more name; a symbolic link at the end is never followed (link(2))."""
    if flags:
        raise fault(errno.EINVAL, "a hard link to what a symbolic link leads to is not made")
    source = _way(process, memory, old_fd, Rights.PATH_LINK_SOURCE, old, old_size)
    target = _way(process, memory, new_fd, Rights.PATH_LINK_TARGET, new, new_size)
    parent, name = target.named(errno.EEXIST)
    found = source.there()
    if target.slash:
        number = errno.ENOENT if target.found is None else errno.EEXIST
        raise fault(number, "a path that ends with '/' names a directory")
    process.may_make()
    parent.link(process.caller, found, name)
    return 0


async def path_open(
    process: Process, memory: Memory, fd: int, follow: int, pointer: int, size: int,
    how: int, base: int, inheriting: int, flags: int, out: int,
) -> int:  # fmt: skip
    """Open a path: what for, its rights say; a descriptor has those of its kind and its mount."""
    folder = process.fds.folder(fd, Rights.PATH_OPEN)
    if how & ~abi.O_FLAGS or flags & ~abi.FD_FLAGS or follow & ~abi.SYMLINK_FOLLOW:
        raise fault(errno.EINVAL, f"there are no such flags: {how:#x} {flags:#x} {follow:#x}")
    if how & OFlags.TRUNC:
        process.fds.folder(fd, Rights.PATH_FILESTAT_SET_SIZE)
    if how & OFlags.CREAT:
        process.fds.folder(fd, Rights.PATH_CREATE_FILE)
        if how & OFlags.DIRECTORY:
            raise fault(errno.EINVAL, "a directory is not made by opening it")
    memory.view(out, 4)
    process.room()
    path = _text(memory, pointer, size)
    exclusive = how & OFlags.CREAT and how & OFlags.EXCL
    goes_on = bool(follow & abi.SYMLINK_FOLLOW) and not exclusive
    try:
        one = await _at(process, folder, path, goes_on, (how, base, flags))
    except FileExistsError:
        if exclusive:
            raise
        # Somebody else has made it since it was looked for: then it is opened (open(2), O_CREAT).
        one = await _at(process, folder, path, goes_on, (how, base, flags))
    try:
        memory.put_u32(out, process.added(one))
    except BaseException:
        one.close(process.caller)
        raise
    return 0


async def _at(
    process: Process, folder: Folder, path: str, follow: bool, wanted: tuple[int, int, int]
) -> Folder | Opened:
    how, base, flags = wanted
    way = resolve(process.caller, folder.channel, path, follow=follow)
    allowed = folder.inheriting
    one: Folder | Opened
    if way.found is not None and way.found.is_directory:
        one = _folder(way.found, how, base)
        one.rights &= allowed
    else:
        one = await _file(process, way, how, base, flags, allowed)
    one.inheriting &= allowed
    return one


def _folder(found: Channel, how: int, base: int) -> Folder:
    if how & OFlags.CREAT and how & OFlags.EXCL:
        raise fault(errno.EEXIST, f"{found.path} exists")
    if how & (OFlags.TRUNC | OFlags.CREAT) or base & Rights.FD_WRITE:
        raise fault(errno.EISDIR, f"{found.path} is a directory")
    return Folder(found)


async def _file(
    process: Process, way: Way, how: int, base: int, flags: int, allowed: int
) -> Opened:
    mode = _open_flags(how, base, flags)
    caller, found = process.caller, way.found
    if found is None:
        if not how & OFlags.CREAT:
            way.there()
        if way.slash:
            raise fault(errno.EISDIR, "a path that ends with '/' names a directory")
        process.may_make()
        _, file, _ = way.parent.create(caller, way.name, mode & ~os.O_TRUNC, 0o666)
        return Opened.of(file, flags, allowed)
    if how & OFlags.CREAT and how & OFlags.EXCL:
        raise fault(errno.EEXIST, f"{found.path} exists")
    if found.is_symlink:
        raise fault(errno.ELOOP, f"{found.path} is a symbolic link")
    if how & OFlags.DIRECTORY:
        raise fault(errno.ENOTDIR, f"{found.path} is no directory")
    return Opened.of(await found.open(caller, mode), flags, allowed)


def _open_flags(how: int, base: int, flags: int) -> int:
    reads, writes = base & Rights.FD_READ, base & abi.WRITING
    mode = (os.O_RDWR if reads else os.O_WRONLY) if writes else os.O_RDONLY
    mode |= os.O_TRUNC if how & OFlags.TRUNC else 0
    return mode | open_flags(flags)


def path_readlink(
    process: Process, memory: Memory, fd: int, pointer: int, size: int,
    buffer: int, length: int, out: int,
) -> int:  # fmt: skip
    """Give the target of a link, as much of it as there is room for."""
    way = _way(process, memory, fd, Rights.PATH_READLINK, pointer, size)
    found = way.there()
    if not found.is_symlink:
        raise fault(errno.EINVAL, f"{found.path} is no symbolic link")
    target = paths.encode(found.readlink(process.caller))[:length]
    memory.write(buffer, target)
    memory.put_u32(out, len(target))
    return 0


def path_remove_directory(
    process: Process, memory: Memory, fd: int, pointer: int, size: int
) -> int:
    """Remove an empty directory."""
    way = _way(process, memory, fd, Rights.PATH_REMOVE_DIRECTORY, pointer, size)
    parent, name = way.named(errno.EINVAL)
    parent.rmdir(process.caller, name)
    return 0


def path_rename(
    process: Process, memory: Memory, fd: int, pointer: int, size: int,
    new_fd: int, new: int, new_size: int,
) -> int:  # fmt: skip
    """Move a name."""
    source = _way(process, memory, fd, Rights.PATH_RENAME_SOURCE, pointer, size)
    target = _way(process, memory, new_fd, Rights.PATH_RENAME_TARGET, new, new_size)
    parent, name = source.named(errno.EBUSY)
    new_parent, new_name = target.named(errno.EBUSY)
    found = source.there()
    if (source.slash or target.slash) and not found.is_directory:
        raise fault(errno.ENOTDIR, "a path that ends with '/' names a directory")
    parent.rename(process.caller, name, new_parent, new_name)
    return 0


def path_symlink(
    process: Process, memory: Memory, target: int, length: int, fd: int, pointer: int, size: int
) -> int:
    """Make a symbolic link; one that leads to an absolute path is refused."""
    text = _text(memory, target, length)
    way = _way(process, memory, fd, Rights.PATH_SYMLINK, pointer, size)
    parent, name = way.named(errno.EEXIST)
    if way.slash:
        number = errno.ENOENT if way.found is None else errno.EEXIST
        raise fault(number, "a path that ends with '/' names a directory")
    if not text or "\0" in text:
        raise fault(errno.EINVAL if text else errno.ENOENT, "a link leads to a path")
    if text.startswith("/"):
        # On the host, it would lead to where this guest cannot see.
        raise NotCapable(f"a link that a guest makes is relative: {text}")
    process.may_make()
    parent.symlink(process.caller, name, text)
    return 0


def path_unlink_file(process: Process, memory: Memory, fd: int, pointer: int, size: int) -> int:
    """Remove a name that is no directory."""
    way = _way(process, memory, fd, Rights.PATH_UNLINK_FILE, pointer, size)
    parent, name = way.named(errno.EISDIR)
    if way.slash:
        raise fault(errno.EISDIR, "a path that ends with '/' names a directory")
    parent.unlink(process.caller, name)
    return 0
