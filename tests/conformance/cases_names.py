"""Cases: names and directories, what may be made, moved, linked and removed."""

import errno
import os
import stat as modes

from tests.conformance.suite import Capability, Door, case, get, put, refuses

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

STRANGE = [
    "ctl ",
    " ",
    "-rf",
    "~",
    "*",
    "...",
    "CON",
    "a\\b",
    "%2e%2e%2f",
    "..;",
    "two\nlines",
    "\x1b[31mred",
    "\u202etxt.exe",
    "'\"$(true)`",
    "\udcff\udcfe",
    "caf\udce9",
    "\U0001f600",
    "n" * 255,
    "\u00e9" * 127,
]


@case()
def strange_names_are_ordinary(door: Door) -> None:
    for number, name in enumerate(STRANGE):
        put(door, name, str(number).encode())
    assert sorted(door.listdir("")) == sorted(STRANGE)
    for number, name in enumerate(STRANGE):
        assert get(door, name) == str(number).encode()


@case()
def composed_and_decomposed_letters_are_two_names(door: Door) -> None:
    put(door, "\u00e9", b"composed")
    put(door, "e\u0301", b"decomposed")
    assert get(door, "\u00e9") == b"composed"
    assert len(door.listdir("")) == 2


@case()
def upper_and_lower_case_are_two_names(door: Door) -> None:
    put(door, "a", b"lower")
    put(door, "A", b"upper")
    assert get(door, "a") == b"lower"


@case()
def names_over_255_bytes_are_too_long(door: Door) -> None:
    for name in ("n" * 256, "\u00e9" * 128):
        refuses(errno.ENAMETOOLONG, door.stat, name)
        refuses(errno.ENAMETOOLONG, door.open, name, os.O_RDWR | os.O_CREAT)
        refuses(errno.ENAMETOOLONG, door.open, name + "/x", os.O_RDWR | os.O_CREAT)


@case(Capability.DIRECTORIES, Capability.SYMLINKS, Capability.RENAME, Capability.HARD_LINKS)
def nothing_is_made_with_a_name_over_255_bytes(door: Door) -> None:
    put(door, "f")
    name = "n" * 256
    refuses(errno.ENAMETOOLONG, door.mkdir, name)
    refuses(errno.ENAMETOOLONG, door.symlink, "f", name)
    refuses(errno.ENAMETOOLONG, door.rename, "f", name)
    refuses(errno.ENAMETOOLONG, door.link, "f", name)
    refuses(errno.ENAMETOOLONG, door.unlink, name)
    assert door.listdir("") == ["f"]


@case()
def a_missing_name_is_missing(door: Door) -> None:
    refuses(errno.ENOENT, door.stat, "none")
    refuses(errno.ENOENT, door.unlink, "none")


@case(Capability.DIRECTORIES)
def slashes_and_dots_in_a_path_mean_nothing_more(door: Door) -> None:
    door.mkdir("d")
    put(door, "d/f", b"x")
    for path in ("d//f", "d/./f", "./d/f", "d/../d/f", "d/.//../d/f"):
        assert get(door, path) == b"x"
    assert modes.S_ISDIR(door.stat("d/").st_mode)
    assert modes.S_ISDIR(door.stat("d/.").st_mode)


@case()
def parents_of_the_top_do_not_leave_it(door: Door) -> None:
    put(door, "f")
    assert modes.S_ISDIR(door.stat("/..").st_mode)


@case(Capability.DIRECTORIES, Capability.CHMOD)
def a_directory_is_made_with_its_mode(door: Door) -> None:
    door.mkdir("d", 0o750)
    assert modes.S_IMODE(door.stat("d").st_mode) == 0o750


@case(Capability.DIRECTORIES)
def a_directory_is_made_empty(door: Door) -> None:
    door.mkdir("d")
    assert modes.S_ISDIR(door.stat("d").st_mode)
    assert door.listdir("d") == []
    door.mkdir("slash/")
    assert sorted(door.listdir("")) == ["d", "slash"]


@case(Capability.DIRECTORIES)
def a_name_in_use_is_not_made_again(door: Door) -> None:
    put(door, "f", b"kept")
    door.mkdir("d")
    for path in ("f", "d", "d/", ".", "d/..", "/"):
        refuses(errno.EEXIST, door.mkdir, path)
    refuses(errno.ENOENT, door.mkdir, "none/d")
    refuses(errno.ENOTDIR, door.mkdir, "f/d")
    assert get(door, "f") == b"kept"


@case(Capability.DIRECTORIES)
def the_links_of_a_directory_count_those_in_it(door: Door) -> None:
    door.mkdir("d")
    before = door.stat("d").st_nlink
    door.mkdir("d/one")
    door.mkdir("d/two")
    put(door, "d/file")
    # Some file systems (btrfs) count no subdirectories and say 1.
    assert before == 1 or door.stat("d").st_nlink == before + 2


@case(Capability.DIRECTORIES, Capability.REMOVE)
def only_an_empty_directory_is_removed(door: Door) -> None:
    door.mkdir("d")
    put(door, "d/f")
    refuses((errno.ENOTEMPTY, errno.EEXIST), door.rmdir, "d")
    refuses(errno.ENOTDIR, door.rmdir, "d/f")
    refuses(errno.ENOENT, door.rmdir, "none")
    refuses(errno.EINVAL, door.rmdir, "d/.")
    door.unlink("d/f")
    door.rmdir("d/")
    refuses(errno.ENOENT, door.stat, "d")


@case(Capability.DIRECTORIES, Capability.REMOVE)
def an_unlink_removes_no_directory(door: Door) -> None:
    door.mkdir("d")
    put(door, "f")
    refuses(errno.EISDIR, door.unlink, "d")
    refuses(errno.ENOTDIR, door.unlink, "f/")
    refuses(errno.ENOTDIR, door.unlink, "f/x")
    refuses(errno.ENOENT, door.unlink, "d/none")
    door.unlink("f")
    assert door.listdir("") == ["d"]


@case(Capability.REMOVE)
def a_removed_name_can_be_used_again(door: Door) -> None:
    for number in range(3):
        put(door, "f", str(number).encode())
        assert get(door, "f") == str(number).encode()
        door.unlink("f")
        refuses(errno.ENOENT, door.stat, "f")


@case()
def many_names_are_listed_once_each(door: Door) -> None:
    names = [f"name-{number:04}" for number in range(300)]
    for name in names:
        put(door, name)
    assert sorted(door.listdir("")) == names


@case(Capability.RENAME, Capability.DIRECTORIES)
def a_rename_moves_and_replaces(door: Door) -> None:
    door.mkdir("d")
    put(door, "f", b"f")
    put(door, "g", b"g")
    door.rename("f", "g")
    assert get(door, "g") == b"f"
    door.rename("g", "d/h")
    assert get(door, "d/h") == b"f"
    door.rename("d", "e")
    assert get(door, "e/h") == b"f"
    assert door.listdir("") == ["e"]


@case(Capability.RENAME, Capability.DIRECTORIES)
def a_rename_that_makes_no_sense_is_refused(door: Door) -> None:
    door.mkdir("d")
    door.mkdir("d/sub")
    door.mkdir("empty")
    put(door, "f", b"f")
    refuses(errno.EINVAL, door.rename, "d", "d/sub/d")
    refuses(errno.EINVAL, door.rename, "d", "d/new")
    refuses((errno.ENOTEMPTY, errno.EEXIST), door.rename, "empty", "d")
    refuses((errno.ENOTEMPTY, errno.EEXIST), door.rename, "d/sub", "d")
    refuses(errno.EISDIR, door.rename, "f", "empty")
    refuses(errno.ENOTDIR, door.rename, "empty", "f")
    refuses(errno.ENOTDIR, door.rename, "f", "g/")
    refuses(errno.ENOENT, door.rename, "none", "f")
    refuses(errno.ENOENT, door.rename, "f", "none/f")
    refuses(errno.ENOTDIR, door.rename, "d", "f/d")
    refuses((errno.EBUSY, errno.EINVAL), door.rename, "d/.", "x")
    assert sorted(door.listdir("")) == ["d", "empty", "f"]


@case(Capability.RENAME, Capability.DIRECTORIES)
def a_directory_replaces_an_empty_one(door: Door) -> None:
    door.mkdir("d")
    put(door, "d/f", b"f")
    door.mkdir("empty")
    door.rename("d", "empty")
    assert get(door, "empty/f") == b"f"
    assert door.listdir("") == ["empty"]


@case(Capability.RENAME)
def a_rename_to_itself_changes_nothing(door: Door) -> None:
    put(door, "f", b"f")
    door.rename("f", "f")
    assert get(door, "f") == b"f"


@case(Capability.RENAME, Capability.HARD_LINKS)
def a_rename_between_two_names_of_one_file_keeps_both(door: Door) -> None:
    put(door, "f", b"f")
    door.link("f", "g")
    door.rename("f", "g")
    assert sorted(door.listdir("")) == ["f", "g"]


@case(Capability.RENAME_FLAGS, Capability.DIRECTORIES)
def a_rename_exchanges_or_does_not_replace(door: Door) -> None:
    door.mkdir("d")
    put(door, "d/x", b"x")
    put(door, "f", b"f")
    refuses(errno.EEXIST, door.rename, "f", "d", RENAME_NOREPLACE)
    door.rename("f", "d", RENAME_EXCHANGE)
    assert get(door, "d") == b"f"
    assert get(door, "f/x") == b"x"
    refuses(errno.ENOENT, door.rename, "f", "none", RENAME_EXCHANGE)
    refuses(errno.EINVAL, door.rename, "d", "f", RENAME_NOREPLACE | RENAME_EXCHANGE)
    door.rename("d", "new", RENAME_NOREPLACE)
    assert get(door, "new") == b"f"


@case(Capability.HARD_LINKS)
def hard_links_are_one_file(door: Door) -> None:
    put(door, "f", b"one")
    door.link("f", "g")
    assert door.stat("f").st_nlink == 2
    assert door.same("f", "g")
    put(door, "g", b"two")
    assert get(door, "f") == b"two"
    door.unlink("f")
    assert door.stat("g").st_nlink == 1
    assert get(door, "g") == b"two"


@case(Capability.HARD_LINKS, Capability.DIRECTORIES)
def a_hard_link_that_cannot_be_is_refused(door: Door) -> None:
    put(door, "f")
    put(door, "g")
    door.mkdir("d")
    refuses(errno.EEXIST, door.link, "f", "g")
    refuses(errno.ENOENT, door.link, "none", "x")
    refuses(errno.ENOENT, door.link, "f", "none/x")
    refuses(errno.ENOTDIR, door.link, "f", "g/x")
    refuses(errno.EPERM, door.link, "d", "x")


@case(Capability.HARD_LINKS)
def a_file_has_a_thousand_names(door: Door) -> None:
    put(door, "f", b"content")
    for number in range(999):
        door.link("f", f"l{number}")
    assert door.stat("f").st_nlink == 1000
    assert len(door.listdir("")) == 1000


@case(Capability.SYMLINKS)
def a_symbolic_link_keeps_what_was_written(door: Door) -> None:
    for number, target in enumerate(("f", "/none/x", "../..", "a b\n", "\udcff", "t" * 4000)):
        name = f"l{number}"
        door.symlink(target, name)
        assert door.readlink(name) == target
        found = door.stat(name, follow=False)
        assert modes.S_ISLNK(found.st_mode)
        assert found.st_size == len(target.encode("utf-8", "surrogateescape"))
    put(door, "f")
    refuses(errno.EINVAL, door.readlink, "f")
    refuses(errno.ENOENT, door.readlink, "none")
    refuses(errno.EEXIST, door.symlink, "x", "f")
    refuses(errno.ENOENT, door.stat, "l1")


@case(Capability.SYMLINKS, Capability.DIRECTORIES)
def symbolic_links_are_followed_on_the_way(door: Door) -> None:
    door.mkdir("d")
    door.mkdir("d/e")
    put(door, "d/f", b"content")
    door.symlink("d/e", "l")
    door.symlink("../f", "d/e/up")
    assert get(door, "l/../f") == b"content"
    assert get(door, "l/up") == b"content"
    door.symlink("l/up", "twice")
    assert get(door, "twice") == b"content"


@case(Capability.SYMLINKS)
def links_in_a_circle_are_too_many(door: Door) -> None:
    door.symlink("b", "a")
    door.symlink("a", "b")
    door.symlink("self/x", "self")
    for name in ("a", "b", "self"):
        refuses(errno.ELOOP, door.stat, name)
        refuses(errno.ELOOP, door.open, name, os.O_RDWR | os.O_CREAT)


@case(Capability.SYMLINKS)
def forty_links_are_followed_and_no_more(door: Door) -> None:
    put(door, "l0", b"end")
    for number in range(1, 42):
        door.symlink(f"l{number - 1}", f"l{number}")
    assert get(door, "l40") == b"end"
    refuses(errno.ELOOP, door.open, "l41", os.O_RDONLY)


@case(Capability.SYMLINKS, Capability.RENAME, Capability.REMOVE)
def removing_and_moving_a_link_leaves_its_target(door: Door) -> None:
    put(door, "f", b"kept")
    door.symlink("f", "l")
    door.rename("l", "m")
    assert door.readlink("m") == "f"
    door.unlink("m")
    assert get(door, "f") == b"kept"


@case(Capability.SYMLINKS, Capability.HARD_LINKS)
def a_hard_link_to_a_symbolic_link_names_the_link(door: Door) -> None:
    door.symlink("none", "l")
    door.link("l", "m")
    assert door.readlink("m") == "none"
