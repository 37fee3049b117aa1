"""Cases: what a file holds, how it is opened, read, written and cut."""

import errno
import os
import stat as modes

from tests.conformance.suite import Capability, Door, case, get, put, refuses

HOLE = 1 << 20


@case()
def a_new_file_is_empty(door: Door) -> None:
    put(door, "f")
    assert get(door, "f") == b""
    found = door.stat("f")
    assert modes.S_ISREG(found.st_mode)
    assert (found.st_size, found.st_nlink) == (0, 1)


@case()
def what_is_written_is_read(door: Door) -> None:
    for size in (1, 4095, 4096, 4097, 300_000):
        data = os.urandom(size)
        put(door, "f", data)
        assert get(door, "f") == data
        assert door.stat("f").st_size == size


@case(Capability.CHMOD)
def a_file_is_created_with_its_mode(door: Door) -> None:
    put(door, "f", mode=0o600)
    assert modes.S_IMODE(door.stat("f").st_mode) == 0o600


@case()
def creating_exclusively_refuses_what_exists(door: Door) -> None:
    exclusive = os.O_RDWR | os.O_CREAT | os.O_EXCL
    door.close(door.open("f", exclusive))
    refuses(errno.EEXIST, door.open, "f", exclusive)


@case(Capability.SYMLINKS)
def creating_exclusively_refuses_a_dangling_link(door: Door) -> None:
    door.symlink("none", "l")
    refuses(errno.EEXIST, door.open, "l", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    refuses(errno.ENOENT, door.stat, "none")


@case(Capability.SYMLINKS)
def creating_through_a_dangling_link_makes_its_target(door: Door) -> None:
    door.symlink("made", "l")
    put(door, "l", b"through")
    assert get(door, "made") == b"through"


@case()
def opening_to_truncate_empties_the_file(door: Door) -> None:
    put(door, "f", b"content")
    door.close(door.open("f", os.O_WRONLY | os.O_TRUNC))
    assert door.stat("f").st_size == 0


@case()
def a_missing_file_is_not_opened(door: Door) -> None:
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
        refuses(errno.ENOENT, door.open, "none", flags)
    refuses(errno.ENOENT, door.open, "none/f", os.O_RDWR | os.O_CREAT)


@case(Capability.DIRECTORIES)
def a_directory_is_not_opened_for_writing(door: Door) -> None:
    door.mkdir("d")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_CREAT, os.O_WRONLY | os.O_TRUNC):
        refuses(errno.EISDIR, door.open, "d", flags)


@case()
def a_file_is_no_directory(door: Door) -> None:
    put(door, "f")
    refuses(errno.ENOTDIR, door.open, "f/x", os.O_RDONLY)
    refuses(errno.ENOTDIR, door.open, "f/x", os.O_RDWR | os.O_CREAT)
    refuses(errno.ENOTDIR, door.open, "f/", os.O_RDONLY)
    refuses(errno.ENOTDIR, door.open, "f", os.O_RDONLY | os.O_DIRECTORY)
    refuses(errno.ENOTDIR, door.listdir, "f")
    refuses(errno.ENOTDIR, door.stat, "f/..")


@case(Capability.SYMLINKS)
def a_link_at_the_end_is_not_opened_when_told_so(door: Door) -> None:
    put(door, "f", b"content")
    door.symlink("f", "l")
    refuses(errno.ELOOP, door.open, "l", os.O_RDONLY | os.O_NOFOLLOW)
    assert get(door, "l") == b"content"


@case()
def a_descriptor_does_only_what_it_was_opened_for(door: Door) -> None:
    put(door, "f", b"content")
    reads = door.open("f", os.O_RDONLY)
    writes = door.open("f", os.O_WRONLY)
    refuses(errno.EBADF, door.write, reads, b"x")
    refuses(errno.EBADF, door.read, writes, 1)
    refuses((errno.EINVAL, errno.EBADF), door.ftruncate, reads, 0)
    door.close(reads)
    refuses(errno.EBADF, door.read, reads, 1)
    refuses(errno.EBADF, door.close, reads)
    assert get(door, "f") == b"content"


@case()
def appending_writes_to_the_end_wherever_the_position_is(door: Door) -> None:
    put(door, "f", b"one")
    fd = door.open("f", os.O_RDWR | os.O_APPEND)
    other = door.open("f", os.O_WRONLY | os.O_APPEND)
    door.write(fd, b"two")
    door.lseek(fd, 0, os.SEEK_SET)
    door.write(other, b"three")
    door.write(fd, b"four")
    assert get(door, "f") == b"onetwothreefour"
    assert door.lseek(fd, 0, os.SEEK_CUR) == 15


@case(Capability.RANDOM_WRITE)
def bytes_in_the_middle_are_replaced(door: Door) -> None:
    put(door, "f", b"0123456789")
    fd = door.open("f", os.O_RDWR)
    door.pwrite(fd, b"AB", 3)
    assert door.pread(fd, 4, 2) == b"2AB5"
    assert door.lseek(fd, 0, os.SEEK_CUR) == 0
    assert get(door, "f") == b"012AB56789"


@case(Capability.RANDOM_WRITE)
def a_write_past_the_end_leaves_zeros_between(door: Door) -> None:
    put(door, "f", b"ab")
    fd = door.open("f", os.O_RDWR)
    assert door.lseek(fd, HOLE, os.SEEK_SET) == HOLE
    assert door.read(fd, 10) == b""
    door.write(fd, b"z")
    assert door.stat("f").st_size == HOLE + 1
    assert get(door, "f") == b"ab" + bytes(HOLE - 2) + b"z"


@case(Capability.RANDOM_WRITE)
def a_seek_past_the_end_changes_no_size(door: Door) -> None:
    put(door, "f", b"ab")
    fd = door.open("f", os.O_RDWR)
    assert door.lseek(fd, 100, os.SEEK_END) == 102
    refuses(errno.EINVAL, door.lseek, fd, -1, os.SEEK_SET)
    refuses(errno.EINVAL, door.lseek, fd, -200, os.SEEK_CUR)
    assert door.fstat(fd).st_size == 2


@case(Capability.RANDOM_WRITE)
def holes_take_no_space(door: Door) -> None:
    fd = door.open("f", os.O_RDWR | os.O_CREAT)
    door.pwrite(fd, b"z", 64 * HOLE)
    door.fsync(fd)
    assert door.fstat(fd).st_blocks * 512 < HOLE


@case(Capability.RANDOM_WRITE)
def an_empty_write_changes_nothing(door: Door) -> None:
    put(door, "f", b"ab")
    fd = door.open("f", os.O_RDWR)
    assert door.pwrite(fd, b"", 100) == 0
    assert door.read(fd, 0) == b""
    assert get(door, "f") == b"ab"


@case(Capability.TRUNCATE)
def a_file_is_cut_and_stretched_with_zeros(door: Door) -> None:
    put(door, "f", b"0123456789")
    door.truncate("f", 4)
    assert get(door, "f") == b"0123"
    door.truncate("f", 6)
    assert get(door, "f") == b"0123\0\0"
    fd = door.open("f", os.O_RDWR)
    door.ftruncate(fd, 2)
    door.ftruncate(fd, 3)
    assert door.fstat(fd).st_size == 3
    assert get(door, "f") == b"01\0"


@case(Capability.TRUNCATE, Capability.DIRECTORIES)
def sizes_that_cannot_be_are_refused(door: Door) -> None:
    put(door, "f", b"kept")
    door.mkdir("d")
    refuses(errno.EINVAL, door.truncate, "f", -1)
    refuses(errno.EISDIR, door.truncate, "d", 0)
    refuses(errno.ENOENT, door.truncate, "none", 0)
    assert get(door, "f") == b"kept"


@case(Capability.TRUNCATE)
def an_enormous_size_is_refused_or_only_promised(door: Door) -> None:
    put(door, "f", b"kept")
    try:
        door.truncate("f", 2**62)
        refusal = None
    except OSError as error:
        refusal = error.errno
    if refusal is None:
        assert door.stat("f").st_size == 2**62
    else:
        assert refusal in (errno.EFBIG, errno.ENOSPC)
    fd = door.open("f", os.O_RDONLY)
    assert door.read(fd, 4) == b"kept"


@case(Capability.UNLINKED, Capability.REMOVE)
def an_unlinked_file_lives_until_it_is_closed(door: Door) -> None:
    put(door, "f", b"content")
    fd = door.open("f", os.O_RDWR)
    door.unlink("f")
    refuses(errno.ENOENT, door.stat, "f")
    assert door.fstat(fd).st_nlink == 0
    assert door.read(fd, 3) == b"con"
    door.pwrite(fd, b"TENT!", 3)
    assert door.fstat(fd).st_size == 8
    put(door, "f", b"another")
    assert door.pread(fd, 20, 0) == b"conTENT!"
    door.close(fd)
    assert get(door, "f") == b"another"


@case(Capability.UNLINKED, Capability.RENAME)
def a_replaced_file_lives_until_it_is_closed(door: Door) -> None:
    put(door, "old", b"old")
    put(door, "new", b"new")
    fd = door.open("old", os.O_RDONLY)
    door.rename("new", "old")
    assert door.read(fd, 10) == b"old"
    assert door.fstat(fd).st_nlink == 0
    assert get(door, "old") == b"new"


@case(Capability.RENAME)
def a_renamed_file_stays_open(door: Door) -> None:
    put(door, "f", b"content")
    fd = door.open("f", os.O_RDWR)
    door.rename("f", "g")
    door.pwrite(fd, b"X", 0)
    assert get(door, "g") == b"Xontent"


@case()
def two_descriptors_see_each_other(door: Door) -> None:
    put(door, "f", b"....")
    one, other = door.open("f", os.O_RDWR), door.open("f", os.O_RDWR)
    door.write(one, b"ab")
    assert door.read(other, 10) == b"ab.."
    assert door.read(one, 10) == b".."


@case()
def what_is_synced_is_there(door: Door) -> None:
    fd = door.open("f", os.O_RDWR | os.O_CREAT)
    door.write(fd, b"synced")
    door.fsync(fd)
    assert door.fstat(fd).st_size == 6
    assert get(door, "f") == b"synced"
