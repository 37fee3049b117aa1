"""Cases: what a namespace adds, with the mounts of `suite.arrange` at the top of the door."""

import errno
import os

from tests.conformance.suite import Capability, Door, case, get, holds, missing, put, refuses, soon

NAMESPACE = Capability.NAMESPACE


@case(NAMESPACE)
def a_read_only_mount_shows_and_refuses(door: Door) -> None:
    put(door, "/rw/shown", b"content")
    assert get(door, "/ro/shown") == b"content"
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        refuses(errno.EROFS, door.open, "/ro/shown", flags)
    refuses(errno.EROFS, door.open, "/ro/new", os.O_RDWR | os.O_CREAT)
    refuses(errno.EROFS, door.mkdir, "/ro/new")
    refuses(errno.EROFS, door.unlink, "/ro/shown")
    refuses(errno.EROFS, door.rename, "/ro/shown", "/ro/new")
    refuses(errno.EROFS, door.symlink, "x", "/ro/new")
    refuses(errno.EROFS, door.link, "/ro/shown", "/ro/new")
    refuses(errno.EROFS, door.utime, "/ro/shown", 0, 0)
    refuses(errno.EROFS, door.truncate, "/ro/shown", 0)
    assert get(door, "/rw/shown") == b"content"


@case(NAMESPACE, Capability.CHMOD, Capability.XATTRS)
def attributes_follow_the_rights_of_the_mount(door: Door) -> None:
    put(door, "/rw/marked", b"content")
    refuses(errno.EROFS, door.chmod, "/ro/marked", 0o600)
    refuses(errno.EROFS, door.setxattr, "/ro/marked", "user.a", b"")
    refuses(errno.EPERM, door.chmod, "/append/marked", 0o600)


@case(NAMESPACE)
def what_exists_is_not_made_in_a_read_only_mount(door: Door) -> None:
    put(door, "/rw/exists")
    refuses(errno.EEXIST, door.mkdir, "/ro/exists")
    refuses(errno.EEXIST, door.open, "/ro/exists", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    refuses(errno.ENOENT, door.open, "/ro/none", os.O_RDWR)


@case(NAMESPACE)
def an_append_only_mount_grows_and_keeps(door: Door) -> None:
    put(door, "/rw/log", b"one\n")
    put(door, "/append/log", b"two\n", os.O_APPEND)
    assert get(door, "/append/log") == b"one\ntwo\n"
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND | os.O_TRUNC):
        refuses(errno.EPERM, door.open, "/append/log", flags)
    refuses(errno.EPERM, door.unlink, "/append/log")
    refuses(errno.EPERM, door.rename, "/append/log", "/append/other")
    refuses(errno.EPERM, door.truncate, "/append/log", 0)
    refuses(errno.ENOENT, door.unlink, "/append/none")
    fd = door.open("/append/log", os.O_WRONLY | os.O_APPEND)
    refuses(errno.EPERM, door.ftruncate, fd, 0)
    door.lseek(fd, 0, os.SEEK_SET)
    door.write(fd, b"three\n")
    soon(lambda: holds(door, "/rw/log", b"one\ntwo\nthree\n"))


@case(NAMESPACE)
def new_files_of_an_append_only_mount_are_opened_to_append(door: Door) -> None:
    refuses(errno.EPERM, door.open, "/append/new", os.O_WRONLY | os.O_CREAT)
    put(door, "/append/new", b"x", os.O_APPEND)
    door.mkdir("/append/folder")
    soon(lambda: holds(door, "/rw/new", b"x"))


@case(NAMESPACE)
def names_do_not_move_between_mounts(door: Door) -> None:
    put(door, "/rw/f", b"f")
    refuses(errno.EXDEV, door.rename, "/rw/f", "/rw/mounted/f")
    refuses(errno.EXDEV, door.link, "/rw/f", "/union/f")
    refuses(errno.EXDEV, door.rename, "/rw/f", "/append/f2")
    refuses(errno.EXDEV, door.link, "/ro/f", "/append/f2")
    assert get(door, "/rw/f") == b"f"


@case(NAMESPACE)
def mount_points_stay_where_they_are(door: Door) -> None:
    refuses(errno.EBUSY, door.rmdir, "/rw/mounted")
    refuses(errno.EBUSY, door.rename, "/rw/mounted", "/rw/moved")
    door.mkdir("/rw/empty")
    refuses(errno.EBUSY, door.rename, "/rw/empty", "/rw/mounted")
    refuses(errno.EEXIST, door.mkdir, "/rw/mounted")
    refuses((errno.EISDIR, errno.EBUSY), door.unlink, "/rw/mounted")


@case(NAMESPACE)
def directories_that_lead_to_mount_points_stay(door: Door) -> None:
    refuses(errno.EBUSY, door.rename, "/rw/leads", "/rw/led")
    refuses(errno.EBUSY, door.rename, "/rw/leads/to", "/rw/to")
    put(door, "/rw/leads/to/f", b"f")
    door.rename("/rw/leads/to/f", "/rw/led")
    assert get(door, "/rw/led") == b"f"


@case(NAMESPACE)
def a_mount_shows_the_same_file_under_its_own_identity(door: Door) -> None:
    put(door, "/back/same", b"1")
    put(door, "/rw/mounted/same", b"2")
    soon(lambda: holds(door, "/back/same", b"2"))
    soon(lambda: holds(door, "/rw/leads/to/mounted/same", b"2"))
    assert not door.same("/back/same", "/rw/mounted/same")


@case(NAMESPACE)
def a_union_merges_its_members(door: Door) -> None:
    put(door, "/front/both", b"front")
    put(door, "/back/both", b"back")
    put(door, "/front/one", b"1")
    put(door, "/back/two", b"2")
    listed = door.listdir("/union")
    assert {"both", "one", "two"} <= set(listed)
    assert len(listed) == len(set(listed))
    assert get(door, "/union/both") == b"front"
    assert get(door, "/union/two") == b"2"


@case(NAMESPACE)
def new_names_of_a_union_go_to_the_member_made_for_them(door: Door) -> None:
    put(door, "/union/created", b"new")
    door.mkdir("/union/folder")
    assert get(door, "/front/created") == b"new"
    refuses(errno.ENOENT, door.stat, "/back/created")
    put(door, "/back/there", b"old")
    refuses(errno.EEXIST, door.mkdir, "/union/there")
    put(door, "/union/there", b"changed")
    soon(lambda: holds(door, "/back/there", b"changed"))
    refuses(errno.ENOENT, door.stat, "/front/there")


@case(NAMESPACE)
def removing_from_a_union_uncovers_the_next(door: Door) -> None:
    put(door, "/front/stacked", b"front")
    put(door, "/back/stacked", b"back")
    door.unlink("/union/stacked")
    assert get(door, "/union/stacked") == b"back"
    door.unlink("/union/stacked")
    refuses(errno.ENOENT, door.unlink, "/union/stacked")
    soon(lambda: missing(door, "/back/stacked"))


@case(NAMESPACE)
def a_rename_in_a_union_stays_in_its_member(door: Door) -> None:
    put(door, "/back/moves", b"back")
    door.rename("/union/moves", "/union/moved")
    soon(lambda: holds(door, "/back/moved", b"back"))
    refuses(errno.ENOENT, door.stat, "/front/moved")


@case(NAMESPACE)
def a_change_through_one_view_is_seen_through_the_others(door: Door) -> None:
    put(door, "/rw/seen", b"before")
    soon(lambda: holds(door, "/ro/seen", b"before"))
    put(door, "/rw/seen", b"afterwards")
    soon(lambda: holds(door, "/ro/seen", b"afterwards"))
    soon(lambda: door.stat("/ro/seen").st_size == 10)
    assert door.listdir("/ro").count("seen") == 1
    door.unlink("/rw/seen")
    soon(lambda: "seen" not in door.listdir("/ro"))
    soon(lambda: missing(door, "/ro/seen"))
