"""The channel: the rights of mounts, covered and dropped names, held directories, announcements."""

import errno
import os
from collections.abc import Callable
from functools import partial

import pytest

from oanix.caller import Caller
from oanix.channel import RENAME_EXCHANGE, RENAME_NOREPLACE, OpenFile
from oanix.client import Client
from oanix.namespace import Namespace, Where
from oanix.node import WOULD_BLOCK
from oanix.service import Change
from oanix.stat import Changed
from oanix.table import Access
from tests.unit.trees import Link, Pipe, TextHandle, Tree

ME = Caller(door="here")


@pytest.fixture
def tree() -> Tree:
    return Tree(
        {
            "d": {"s": {"x": b"1", "key": b"k"}, "f": b"2"},
            "e": {},
            "f": b"3",
            "l": Link("f"),
            "stream": Pipe(),
        }
    )


@pytest.fixture
def ns(tree: Tree) -> Namespace:
    namespace = Namespace()
    namespace.mount(tree, "/")
    return namespace


def refused(number: int, work: Callable[[], object]) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        work()
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number]


async def refused_open(ns: Namespace, path: str, flags: int) -> str:
    """Open a file, and give the errno of the refusal, or "" after closing it."""
    try:
        opened = await ns.resolve(ME, path).open(ME, flags)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    opened.close(ME)
    return ""


# Rights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "flags", "expected"),
    [
        (Access.RO, os.O_RDONLY, ""),
        (Access.RO, os.O_WRONLY, "EROFS"),
        (Access.RO, os.O_RDWR | os.O_APPEND, "EROFS"),
        (Access.RO, os.O_RDONLY | os.O_TRUNC, "EROFS"),
        (Access.APPEND, os.O_RDONLY, ""),
        (Access.APPEND, os.O_WRONLY | os.O_APPEND, ""),
        (Access.APPEND, os.O_WRONLY, "EPERM"),
        (Access.APPEND, os.O_RDONLY | os.O_TRUNC, "EPERM"),
        (Access.APPEND, os.O_WRONLY | os.O_APPEND | os.O_TRUNC, "EPERM"),
        (Access.RW, os.O_RDWR | os.O_TRUNC, ""),
    ],
)
async def test_an_open_is_held_to_the_rights_of_its_mount(
    ns: Namespace, tree: Tree, access: Access, flags: int, expected: str
) -> None:
    ns.bind("/d", "/n", access=access)
    assert await refused_open(ns, "/n/f", flags) == expected
    kept = not flags & os.O_TRUNC or expected
    assert tree.at("d/f").stat().st_size == (1 if kept else 0)


def test_nothing_is_changed_through_a_read_only_mount(ns: Namespace) -> None:
    ns.bind("/d", "/n", access=Access.RO)
    n, f = ns.resolve(ME, "/n"), ns.resolve(ME, "/n/f")
    for work in (
        lambda: n.create(ME, "new", os.O_RDWR, 0o644),
        lambda: n.mkdir(ME, "new", 0o755),
        lambda: n.mknod(ME, "new", 0o644, 0),
        lambda: n.symlink(ME, "new", "f"),
        lambda: n.link(ME, f, "new"),
        lambda: n.unlink(ME, "f"),
        lambda: n.rmdir(ME, "s"),
        lambda: n.rename(ME, "f", n, "g"),
        lambda: f.setattr(ME, Changed(mode=0o600)),
        lambda: f.setxattr(ME, "user.a", b""),
        lambda: f.removexattr(ME, "user.a"),
    ):
        refused(errno.EROFS, work)
    assert sorted(n.readdir(ME)) == ["f", "s"]


def test_what_exists_is_said_to_exist_before_it_is_said_to_be_read_only(ns: Namespace) -> None:
    ns.bind("/d", "/n", access=Access.RO)
    refused(errno.EEXIST, lambda: Client(ns).mkdir("/n/s"))
    refused(errno.ENOTDIR, lambda: Client(ns).mkdir("/n/f/x"))
    refused(errno.ENOTDIR, lambda: Client(ns).unlink("/n/f/x"))


def test_an_append_only_mount_takes_new_names_and_keeps_all(ns: Namespace) -> None:
    ns.bind("/d", "/n", access=Access.APPEND)
    n, f = ns.resolve(ME, "/n"), ns.resolve(ME, "/n/f")
    n.mkdir(ME, "new", 0o755)
    n.create(ME, "log", os.O_WRONLY | os.O_APPEND, 0o644)[1].close(ME)
    for work in (
        lambda: n.create(ME, "other", os.O_WRONLY, 0o644),
        lambda: n.unlink(ME, "f"),
        lambda: n.rmdir(ME, "new"),
        lambda: n.rename(ME, "f", n, "g"),
        lambda: f.setattr(ME, Changed(size=0)),
    ):
        refused(errno.EPERM, work)
    refused(errno.ENOENT, lambda: n.unlink(ME, "none"))


async def test_an_open_file_keeps_to_the_flags_it_was_opened_with(
    ns: Namespace, tree: Tree
) -> None:
    opened = await ns.resolve(ME, "/f").open(ME, os.O_RDONLY)
    assert isinstance(opened.handle, TextHandle)
    refused(errno.EBADF, lambda: opened.try_write(ME, b"x", 0))
    refused(errno.EINVAL, lambda: opened.truncate(ME, 0))
    with pytest.raises(OSError, match="not opened for writing"):
        await opened.write(ME, b"x", 0)
    opened.close(ME)
    ns.bind("/f", "/e", access=Access.APPEND)
    opened = await ns.resolve(ME, "/e").open(ME, os.O_WRONLY | os.O_APPEND)
    refused(errno.EPERM, lambda: opened.truncate(ME, 0))
    opened.close(ME)
    assert tree.at("f").stat().st_size == 1


async def test_a_directory_and_a_link_are_not_opened_as_files(ns: Namespace) -> None:
    assert await refused_open(ns, "/d", os.O_RDONLY) == "EISDIR"
    assert ns.resolve(ME, "/l", follow=False).is_symlink


def test_what_a_service_cannot_do_has_the_errno_of_linux(ns: Namespace) -> None:
    f, d = ns.resolve(ME, "/f"), ns.resolve(ME, "/d")
    for number, work in (
        (errno.EPERM, lambda: d.mknod(ME, "p", 0o10644, 0)),
        (errno.EINVAL, lambda: f.readlink(ME)),
        (errno.EOPNOTSUPP, lambda: f.getxattr(ME, "user.a")),
        (errno.EROFS, lambda: d.setattr(ME, Changed(mode=0o700))),
        (errno.ENOTDIR, lambda: f.readdir(ME)),
        (errno.ENOTDIR, lambda: f.mkdir(ME, "x", 0o755)),
        (errno.ENOTDIR, lambda: f.unlink(ME, "x")),
        (errno.ENOTDIR, lambda: d.rename(ME, "f", f, "x")),
        (errno.EPERM, lambda: d.link(ME, ns.resolve(ME, "/e"), "x")),
    ):
        refused(number, work)
    assert f.listxattr(ME) == []


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("", errno.ENOENT),
        (".", errno.EINVAL),
        ("..", errno.EINVAL),
        ("a/b", errno.EINVAL),
        ("a\0", errno.EINVAL),
        ("n" * 256, errno.ENAMETOOLONG),
        ("\ud800", errno.EINVAL),
        ("\udcc3\udca9", errno.EINVAL),
    ],
)
def test_no_operation_takes_a_bad_name(ns: Namespace, name: str, number: int) -> None:
    root = ns.root
    for work in (
        lambda: root.walk(ME, name),
        lambda: root.mkdir(ME, name, 0o755),
        lambda: root.create(ME, name, os.O_RDWR, 0o644),
        lambda: root.symlink(ME, name, "f"),
        lambda: root.unlink(ME, name),
        lambda: root.rmdir(ME, name),
        lambda: root.rename(ME, name, root, "x"),
        lambda: root.rename(ME, "f", root, name),
        lambda: root.link(ME, ns.resolve(ME, "/f"), name),
    ):
        refused(number, work)


# Mount points and dropped names ------------------------------------------------------------------


def test_mount_points_and_what_leads_to_them_stay(ns: Namespace) -> None:
    ns.bind("/e", "/d/s")
    root, d, e = ns.root, ns.resolve(ME, "/d"), ns.resolve(ME, "/e")
    for work in (
        lambda: d.rmdir(ME, "s"),
        lambda: d.unlink(ME, "s"),
        lambda: d.rename(ME, "s", e, "s"),
        lambda: root.rename(ME, "d", e, "d"),
        lambda: root.rename(ME, "e", d, "s"),
        lambda: root.rename(ME, "e", root, "d", RENAME_EXCHANGE),
    ):
        refused(errno.EBUSY, work)
    refused(errno.EEXIST, lambda: d.mkdir(ME, "s", 0o755))
    root.rename(ME, "f", e, "f")


def test_a_dropped_name_is_missing_and_what_leads_to_it_stays(ns: Namespace) -> None:
    child = ns.fork()
    child.unmount("/d/s/key")
    root, s, d = child.root, child.resolve(ME, "/d/s"), child.resolve(ME, "/d")
    assert s.readdir(ME) == ["x"]
    refused(errno.ENOENT, lambda: s.walk(ME, "key"))
    refused(errno.ENOENT, lambda: s.unlink(ME, "key"))
    refused(errno.ENOENT, lambda: s.rename(ME, "key", d, "key"))
    refused(errno.EPERM, lambda: s.create(ME, "key", os.O_RDWR, 0o644))
    refused(errno.EPERM, lambda: s.rename(ME, "x", s, "key"))
    refused(errno.EBUSY, lambda: d.rename(ME, "s", d, "t"))
    refused(errno.EBUSY, lambda: root.rename(ME, "d", root, "t"))
    refused(errno.EBUSY, lambda: root.rename(ME, "e", root, "d", RENAME_EXCHANGE))
    s.rename(ME, "x", d, "x")


def test_a_rename_takes_the_flags_that_it_knows(ns: Namespace) -> None:
    root = ns.root
    for flags in (4, RENAME_NOREPLACE | RENAME_EXCHANGE, -1):
        refused(errno.EINVAL, partial(root.rename, ME, "f", root, "g", flags))


def test_links_and_renames_stay_within_one_mount(ns: Namespace) -> None:
    ns.bind("/d", "/n")
    n, root = ns.resolve(ME, "/n"), ns.root
    refused(errno.EXDEV, lambda: root.link(ME, ns.resolve(ME, "/n/f"), "g"))
    refused(errno.EXDEV, lambda: n.rename(ME, "f", root, "g"))
    refused(errno.EEXIST, lambda: root.link(ME, ns.resolve(ME, "/n/f"), "f"))


# Directories that are held while the namespace changes -------------------------------------------


def test_a_held_directory_sees_what_is_mounted_in_it_later(ns: Namespace) -> None:
    d = ns.resolve(ME, "/d")
    ns.bind("/e", "/d/new/deep")
    assert "new" in d.readdir(ME)
    assert d.walk(ME, "new").walk(ME, "deep").readdir(ME) == []
    ns.unmount("/d/new/deep")
    refused(errno.ENOENT, lambda: d.walk(ME, "new"))


def test_a_held_directory_sees_nothing_of_what_is_mounted_over_it(ns: Namespace) -> None:
    d = ns.resolve(ME, "/d")
    ns.bind("/f", "/e/below")
    ns.bind("/e", "/d")
    assert sorted(d.readdir(ME)) == ["f", "s"]
    refused(errno.ENOENT, lambda: d.walk(ME, "below"))
    ns.unmount("/d")
    ns.bind("/f", "/d/again")
    assert "again" in d.readdir(ME)


@pytest.mark.parametrize(
    ("held", "rest", "covered"),
    [
        ("/", ["d", "s"], "/"),
        ("/d", ["s"], "/"),
        ("/d", ["s"], "/d"),
        ("/d/s", [], "/"),
        ("/d/s", [], "/d"),
        ("/d/s", [], "/d/s"),
    ],
)
def test_a_held_directory_keeps_what_was_dropped_beneath_it(
    ns: Namespace, held: str, rest: list[str], covered: str
) -> None:
    child = ns.fork()
    child.unmount("/d/s/key")
    here = child.resolve(ME, held)
    child.bind("/e", covered)
    for name in rest:
        here = here.walk(ME, name)
    assert here.readdir(ME) == ["x"]
    refused(errno.ENOENT, lambda: here.walk(ME, "key"))


def test_a_held_directory_is_found_again_after_a_rename(ns: Namespace) -> None:
    root, d = ns.root, ns.resolve(ME, "/d")
    root.rename(ME, "d", ns.resolve(ME, "/e"), "d")
    d.moved(ns.resolve(ME, "/e"), "d")
    assert d.path == "/e/d"
    ns.bind("/f", "/e/d/new")
    assert "new" in d.readdir(ME)


# Telling the others ------------------------------------------------------------------------------


async def test_every_change_is_announced_with_its_door_and_its_entry(
    ns: Namespace, tree: Tree
) -> None:
    heard: list[tuple[int, str | None]] = []

    def hear(change: Change) -> None:
        assert (change.service, change.door) == (tree, "here")
        assert change.entry == ns.root.entry.number
        heard.append((change.qid, change.name))

    root, f = ns.root, ns.resolve(ME, "/f")
    tree.changes.subscribe(hear)
    top, qid = root.node.qid, f.node.qid
    root.mkdir(ME, "new", 0o755)
    root.link(ME, f, "g")
    root.rename(ME, "g", root, "h")
    root.unlink(ME, "h")
    f.setattr(ME, Changed(size=0))
    opened = await f.open(ME, os.O_RDWR | os.O_TRUNC)
    opened.try_write(ME, b"x", 0)
    opened.truncate(ME, 0)
    assert heard == [
        (top, "new"),
        (qid, None),
        (top, "g"),
        (top, "g"),
        (top, "h"),
        (top, "h"),
        *[(qid, None)] * 4,
    ]
    tree.changes.unsubscribe(hear)
    opened.try_write(ME, b"x", 0)
    assert len(heard) == 10
    opened.close(ME)


async def test_a_write_that_took_nothing_announces_nothing(ns: Namespace, tree: Tree) -> None:
    opened: OpenFile = await ns.resolve(ME, "/stream").open(ME, os.O_WRONLY)
    heard: list[Change] = []
    tree.changes.subscribe(heard.append)
    assert opened.try_write(ME, b"x", 0) is WOULD_BLOCK
    assert heard == []
    opened.close(ME)


def test_a_union_lists_each_name_once_and_removes_where_the_name_is(ns: Namespace) -> None:
    ns.bind("/d", "/e", Where.AFTER)
    ns.bind("/d/s", "/e", Where.AFTER)
    e = ns.resolve(ME, "/e")
    assert e.readdir(ME) == ["s", "f", "x", "key"]
    e.unlink(ME, "x")
    assert ns.resolve(ME, "/d/s").readdir(ME) == ["key"]
