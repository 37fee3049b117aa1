"""Cases: modes, owners, times, extended attributes, figures of the storage."""

import errno
import os
import stat as modes
from typing import TYPE_CHECKING

from tests.conformance.suite import Capability, Door, case, get, put, refuses

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_AGO_NS = 1_000_000_000_123_456_789


@case(Capability.CHMOD, Capability.DIRECTORIES)
def modes_are_kept(door: Door) -> None:
    put(door, "f")
    door.mkdir("d")
    for path in ("f", "d"):
        for mode in (0o000, 0o600, 0o755, 0o1777, 0o7777):
            door.chmod(path, mode)
            assert modes.S_IMODE(door.stat(path).st_mode) == mode
        door.chmod(path, 0o755)
    refuses(errno.ENOENT, door.chmod, "none", 0o600)


@case(Capability.CHOWN)
def owners_are_kept_and_can_be_left_alone(door: Door) -> None:
    put(door, "f")
    door.chown("f", 1234, 2345)
    found = door.stat("f")
    assert (found.st_uid, found.st_gid) == (1234, 2345)
    door.chown("f", -1, 99)
    found = door.stat("f")
    assert (found.st_uid, found.st_gid) == (1234, 99)


@case(Capability.CHOWN, Capability.CHMOD)
def a_new_owner_gets_no_rights_of_the_old_one(door: Door) -> None:
    put(door, "f")
    door.chmod("f", 0o6755)
    door.chown("f", 1234, 1234)
    assert modes.S_IMODE(door.stat("f").st_mode) == 0o755


@case(Capability.TIMES, Capability.DIRECTORIES)
def times_are_kept_to_the_nanosecond(door: Door) -> None:
    put(door, "f")
    door.mkdir("d")
    for path in ("f", "d"):
        door.utime(path, LONG_AGO_NS, LONG_AGO_NS + 1)
        found = door.stat(path)
        assert (found.st_atime_ns, found.st_mtime_ns) == (LONG_AGO_NS, LONG_AGO_NS + 1)


@case(Capability.TIMES)
def a_write_moves_the_time_of_the_content(door: Door) -> None:
    put(door, "f", b"content")
    for flags, data in ((os.O_APPEND, b"x"), (os.O_TRUNC, b"")):
        door.utime("f", LONG_AGO_NS, LONG_AGO_NS)
        put(door, "f", data, flags)
        found = door.stat("f")
        assert found.st_mtime_ns > LONG_AGO_NS
        assert found.st_ctime_ns > LONG_AGO_NS


@case(Capability.TIMES, Capability.DIRECTORIES, Capability.RENAME, Capability.REMOVE)
def a_change_of_names_moves_the_time_of_the_directory(door: Door) -> None:
    door.mkdir("d")
    changes: list[Callable[[], None]] = [
        lambda: put(door, "d/f"),
        lambda: door.rename("d/f", "d/g"),
        lambda: door.unlink("d/g"),
        lambda: door.mkdir("d/e"),
        lambda: door.rmdir("d/e"),
    ]
    for change in changes:
        door.utime("d", LONG_AGO_NS, LONG_AGO_NS)
        change()
        assert door.stat("d").st_mtime_ns > LONG_AGO_NS


@case(Capability.TIMES, Capability.CHMOD)
def a_change_of_attributes_leaves_the_time_of_the_content(door: Door) -> None:
    put(door, "f")
    door.utime("f", LONG_AGO_NS, LONG_AGO_NS)
    door.chmod("f", 0o600)
    found = door.stat("f")
    assert found.st_mtime_ns == LONG_AGO_NS
    assert found.st_ctime_ns > LONG_AGO_NS


@case(Capability.XATTRS, Capability.DIRECTORIES)
def extended_attributes_are_kept(door: Door) -> None:
    put(door, "f")
    door.mkdir("d")
    for path in ("f", "d"):
        assert [name for name in door.listxattr(path) if name.startswith("user.")] == []
        for value in (b"", b"\0\xff", b"v" * 1000):
            door.setxattr(path, "user.key", value)
            assert door.getxattr(path, "user.key") == value
        door.setxattr(path, "user.other \udcff", b"1")
        names = [name for name in door.listxattr(path) if name.startswith("user.")]
        assert sorted(names) == ["user.key", "user.other \udcff"]
        door.removexattr(path, "user.key")
        refuses(errno.ENODATA, door.getxattr, path, "user.key")
        refuses(errno.ENODATA, door.removexattr, path, "user.key")


@case(Capability.XATTRS)
def extended_attributes_have_bounds(door: Door) -> None:
    put(door, "f")
    door.setxattr("f", "user." + "n" * 250, b"1")
    refuses(errno.ERANGE, door.setxattr, "f", "user." + "n" * 251, b"1")
    refuses((errno.E2BIG, errno.ENOSPC), door.setxattr, "f", "user.a", b"v" * 65_537)
    refuses(errno.ENOENT, door.setxattr, "none", "user.a", b"")


@case(Capability.XATTRS)
def a_namespace_of_attributes_that_is_none_is_refused(door: Door) -> None:
    put(door, "f")
    refuses(errno.EOPNOTSUPP, door.setxattr, "f", "nonsense", b"")
    refuses(errno.EOPNOTSUPP, door.setxattr, "f", "nonsense.a", b"")


@case(Capability.STATVFS)
def the_storage_has_figures(door: Door) -> None:
    size, blocks, free = door.statvfs("")
    assert size > 0
    assert blocks >= free > 0


@case(Capability.STATVFS)
def a_file_that_holds_something_takes_blocks(door: Door) -> None:
    put(door, "f", b"x" * 100_000)
    fd = door.open("f", os.O_RDWR)
    door.fsync(fd)
    found = door.fstat(fd)
    assert found.st_blocks * 512 >= 100_000
    assert found.st_blksize > 0
    assert len(get(door, "f")) == found.st_size
