"""Names in memory: what makes, links, moves and removes them, as renameat2(2) and others say."""

import errno
import os
import stat as modes

import pytest

from oanix.channel import RENAME_EXCHANGE, RENAME_NOREPLACE, Channel
from oanix.node import FOREVER
from oanix.services.memfs import MemFs
from oanix.services.memfs import node as memfs_node
from tests.reach import ALICE, ROOT, Reach, refused


@pytest.fixture
def fs() -> MemFs:
    return MemFs()


@pytest.fixture
def reach(fs: MemFs) -> Reach:
    return Reach.of(fs)


@pytest.fixture
def root(reach: Reach) -> Channel:
    return reach.at("/")


def touch(directory: Channel, name: str) -> Channel:
    channel, file, _ = directory.create(ROOT, name, os.O_RDWR, 0o644)
    file.close(ROOT)
    return channel


def test_the_root_is_a_directory_for_everyone(reach: Reach) -> None:
    stat = reach.stat("/")

    assert stat.st_mode == modes.S_IFDIR | 0o1777
    assert (stat.st_uid, stat.st_gid) == (os.geteuid(), os.getegid())


def test_names_may_be_kept_until_a_change_is_announced(root: Channel) -> None:
    assert root.caching == touch(root, "f").caching == FOREVER


@pytest.mark.parametrize("name", ["-rf", "~", "*", "ctl ", "\udcff\udcfe", "é", "a\nb", "CON"])
def test_unusual_names_are_ordinary(root: Channel, name: str) -> None:
    touch(root, name)

    assert root.readdir(ROOT) == [name]
    root.unlink(ROOT, name)


def test_two_forms_of_one_letter_are_two_names(root: Channel) -> None:
    touch(root, "\u00e9")
    touch(root, "e\u0301")

    assert len(root.readdir(ROOT)) == 2


def test_a_name_in_use_is_not_made_again(root: Channel) -> None:
    touch(root, "f")

    for make in (
        lambda: root.create(ROOT, "f", os.O_RDWR, 0o644),
        lambda: root.mkdir(ROOT, "f", 0o755),
        lambda: root.mknod(ROOT, "f", modes.S_IFIFO | 0o644, 0),
        lambda: root.symlink(ROOT, "f", "x"),
        lambda: root.link(ROOT, root.walk(ROOT, "f"), "f"),
    ):
        with refused(errno.EEXIST):
            make()


def test_directories_count_their_subdirectories(root: Channel) -> None:
    a = root.mkdir(ROOT, "a", 0o755)[0]
    root.mkdir(ROOT, "b", 0o755)
    a.mkdir(ROOT, "c", 0o755)

    assert root.stat(ROOT).st_nlink == 4
    assert a.stat(ROOT).st_nlink == 3
    a.rename(ROOT, "c", root, "c")
    assert (root.stat(ROOT).st_nlink, a.stat(ROOT).st_nlink) == (5, 2)
    root.rmdir(ROOT, "a")
    assert root.stat(ROOT).st_nlink == 4


async def test_in_a_removed_directory_nothing_is_made(root: Channel) -> None:
    gone = root.mkdir(ROOT, "gone", 0o755)[0]
    file = touch(root, "f")
    root.rmdir(ROOT, "gone")

    assert gone.stat(ROOT).st_nlink == 0
    assert gone.readdir(ROOT) == []
    for make in (
        lambda: gone.create(ROOT, "x", os.O_RDWR, 0o644),
        lambda: gone.mkdir(ROOT, "x", 0o755),
        lambda: gone.symlink(ROOT, "x", "y"),
        lambda: gone.link(ROOT, file, "x"),
        lambda: root.rename(ROOT, "f", gone, "x"),
    ):
        with refused(errno.ENOENT):
            make()


@pytest.mark.parametrize("kind", [modes.S_IFIFO, modes.S_IFSOCK, modes.S_IFCHR, modes.S_IFBLK])
async def test_special_files_are_names_with_a_number(root: Channel, kind: int) -> None:
    channel, stat = root.mknod(ROOT, "s", kind | 0o640, os.makedev(1, 3))

    device = kind in (modes.S_IFCHR, modes.S_IFBLK)
    assert stat.st_mode == kind | 0o640
    assert stat.st_rdev == (os.makedev(1, 3) if device else 0)
    with refused(errno.ENXIO):
        await channel.open(ROOT, os.O_RDONLY)
    with refused(errno.ENOTDIR):
        await channel.open(ROOT, os.O_DIRECTORY)


def test_mknod_makes_regular_files_too_and_nothing_unknown(root: Channel) -> None:
    assert root.mknod(ALICE, "zero", 0o600, 0)[1].st_mode == modes.S_IFREG | 0o600
    assert root.mknod(ALICE, "file", modes.S_IFREG | 0o600, 7)[1].st_rdev == 0
    with refused(errno.EPERM):
        root.mknod(ALICE, "device", modes.S_IFCHR | 0o600, 1)
    with refused(errno.EPERM):
        root.mknod(ROOT, "folder", modes.S_IFDIR | 0o700, 0)
    with refused(errno.EINVAL):
        root.mknod(ROOT, "link", modes.S_IFLNK | 0o700, 0)


async def test_a_symbolic_link_gives_its_target_as_written(root: Channel) -> None:
    target = "../../\udcff/x"
    channel, stat = root.symlink(ROOT, "l", target)

    assert channel.readlink(ROOT) == target
    assert (stat.st_mode, stat.st_size) == (modes.S_IFLNK | 0o777, len("../../?/x"))
    with refused(errno.ELOOP):
        await channel.open(ROOT, os.O_RDONLY)


def test_the_target_of_a_link_is_a_path(root: Channel) -> None:
    root.symlink(ROOT, "long", "x" * 4095)
    with refused(errno.ENAMETOOLONG):
        root.symlink(ROOT, "longer", "x" * 4096)
    with refused(errno.ENOENT):
        root.symlink(ROOT, "empty", "")


async def test_a_thousand_hard_links_are_one_file(reach: Reach, root: Channel) -> None:
    first = touch(root, "0")
    for number in range(1, 1000):
        root.link(ROOT, first, str(number))
    await reach.write("/0", "shared")

    assert first.stat(ROOT).st_nlink == 1000
    assert {root.walk(ROOT, name).key for name in root.readdir(ROOT)} == {first.key}
    assert await reach.text("/999") == "shared"
    root.unlink(ROOT, "0")
    assert reach.stat("/999").st_nlink == 999


def test_links_have_an_end(root: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memfs_node, "LINK_MAX", 2)
    file = touch(root, "a")
    root.link(ROOT, file, "b")

    with refused(errno.EMLINK):
        root.link(ROOT, file, "c")


def test_directories_and_removed_files_are_not_linked(root: Channel) -> None:
    folder = root.mkdir(ROOT, "d", 0o755)[0]
    gone = touch(root, "gone")
    root.unlink(ROOT, "gone")

    with refused(errno.EPERM):
        root.link(ROOT, folder, "x")
    with refused(errno.ENOENT):
        root.link(ROOT, gone, "x")


def test_symbolic_links_and_fifos_take_hard_links(root: Channel) -> None:
    link = root.symlink(ROOT, "l", "x")[0]
    fifo = root.mknod(ROOT, "p", modes.S_IFIFO | 0o600, 0)[0]

    assert root.link(ROOT, link, "l2")[1].st_nlink == 2
    assert root.link(ROOT, fifo, "p2")[1].st_nlink == 2


def test_unlink_and_rmdir_keep_to_their_kind(root: Channel) -> None:
    root.mkdir(ROOT, "d", 0o755)[0].mkdir(ROOT, "e", 0o755)
    touch(root, "f")

    with refused(errno.EISDIR):
        root.unlink(ROOT, "d")
    with refused(errno.ENOTDIR):
        root.rmdir(ROOT, "f")
    with refused(errno.ENOTEMPTY):
        root.rmdir(ROOT, "d")
    with refused(errno.ENOENT):
        root.unlink(ROOT, "x")
    with refused(errno.ENOENT):
        root.rmdir(ROOT, "x")


@pytest.fixture
def tree(root: Channel) -> Channel:
    """A root with a/b/c/, an empty directory e/ and the files f and g."""
    root.mkdir(ROOT, "a", 0o755)[0].mkdir(ROOT, "b", 0o755)[0].mkdir(ROOT, "c", 0o755)
    root.mkdir(ROOT, "e", 0o755)
    touch(root, "f")
    touch(root, "g")
    return root


@pytest.mark.parametrize(
    ("old", "new", "flags", "number"),
    [
        ("/x", "/y", 0, errno.ENOENT),
        ("/f", "/g", RENAME_NOREPLACE, errno.EEXIST),
        ("/f", "/f", RENAME_NOREPLACE, errno.EEXIST),
        ("/f", "/y", RENAME_EXCHANGE, errno.ENOENT),
        ("/a", "/a/x", 0, errno.EINVAL),
        ("/a", "/a/b/c/x", 0, errno.EINVAL),
        ("/a", "/a/b", 0, errno.EINVAL),
        ("/a", "/a/b", RENAME_EXCHANGE, errno.EINVAL),
        ("/a/b", "/a", RENAME_EXCHANGE, errno.EINVAL),
        ("/a/b/c", "/a", 0, errno.ENOTEMPTY),
        ("/e", "/a", 0, errno.ENOTEMPTY),
        ("/f", "/e", 0, errno.EISDIR),
        ("/e", "/f", 0, errno.ENOTDIR),
        ("/f", "/e", 4, errno.EINVAL),
        ("/f", "/e", RENAME_NOREPLACE | RENAME_EXCHANGE, errno.EINVAL),
    ],
)
def test_a_rename_that_cannot_be_changes_nothing(
    reach: Reach, tree: Channel, old: str, new: str, flags: int, number: int
) -> None:
    source, name = reach.namespace.resolve_parent(ROOT, old)
    target, new_name = reach.namespace.resolve_parent(ROOT, new)

    with refused(number):
        source.rename(ROOT, name, target, new_name, flags)

    assert tree.readdir(ROOT) == ["a", "e", "f", "g"]
    assert reach.names("/a/b") == ["c"]


def test_a_rename_replaces_a_file_and_an_empty_directory(reach: Reach, tree: Channel) -> None:
    f, b = reach.at("/f").node, reach.at("/a/b").node

    tree.rename(ROOT, "f", tree, "g")
    reach.at("/a").rename(ROOT, "b", tree, "e")

    assert reach.at("/g").node is f
    assert reach.at("/e").node is b
    assert tree.readdir(ROOT) == ["a", "g", "e"]


def test_names_of_one_file_renamed_over_each_other_both_stay(tree: Channel) -> None:
    tree.link(ROOT, tree.walk(ROOT, "f"), "h")

    tree.rename(ROOT, "f", tree, "h")

    assert "f" in tree.readdir(ROOT)
    assert "h" in tree.readdir(ROOT)


def test_an_exchange_swaps_a_directory_and_a_file(reach: Reach, tree: Channel) -> None:
    a = reach.at("/a")
    f, b = reach.at("/f").node, reach.at("/a/b").node

    a.rename(ROOT, "b", tree, "f", RENAME_EXCHANGE)

    assert (reach.at("/a/b").node, reach.at("/f").node) == (f, b)
    assert reach.names("/f") == ["c"]
    assert (a.stat(ROOT).st_nlink, tree.stat(ROOT).st_nlink) == (2, 5)
    with refused(errno.EINVAL):
        tree.rename(ROOT, "f", reach.at("/f/c"), "x")


async def test_a_file_replaced_while_open_stays_readable(reach: Reach, tree: Channel) -> None:
    await reach.write("/g", "old")
    opened = await reach.open("/g")

    tree.rename(ROOT, "f", tree, "g")

    assert opened.try_read(ROOT, 10, 0) == b"old"
    assert opened.stat().st_nlink == 0


def test_entries_are_listed_once_and_removed_while_others_stay(root: Channel) -> None:
    for number in range(2000):
        root.mknod(ROOT, f"n{number}", 0o600, 0)
    seen = root.readdir(ROOT)
    for name in seen[::2]:
        root.unlink(ROOT, name)

    assert len(seen) == len(set(seen)) == 2000
    assert root.readdir(ROOT) == seen[1::2]


def test_four_thousand_directories_deep_is_no_recursion(reach: Reach, root: Channel) -> None:
    here = root
    for _ in range(4000):
        here = here.mkdir(ROOT, "d", 0o755)[0]
    touch(root, "f")

    root.rename(ROOT, "f", here, "f")
    with refused(errno.EINVAL):
        root.rename(ROOT, "d", here, "x")
    assert here.readdir(ROOT) == ["f"]


def test_the_other_names_of_an_unlinked_file_are_announced(fs: MemFs, root: Channel) -> None:
    file = touch(root, "a")
    root.link(ROOT, file, "b")
    changes: list[tuple[int, str | None]] = []
    fs.changes.subscribe(lambda change: changes.append((change.qid, change.name)))

    root.unlink(ROOT, "a")

    assert (file.node.qid, None) in changes
