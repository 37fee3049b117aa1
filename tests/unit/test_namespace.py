"""Mounts, binds, unions and forks: what shows where, and what is refused."""

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from oanix import namespace as namespaces
from oanix.caller import Caller
from oanix.client import Client
from oanix.namespace import Namespace, Where
from oanix.node import Directory
from oanix.table import Access, Place, mapped
from tests.unit.trees import Link, Tree

ME = Caller()


@pytest.fixture
def first() -> Tree:
    return Tree(
        {
            "a": {"s": {"x": b"1"}, "x": b"2"},
            "b": {"x": b"3", "y": b"4"},
            "f": b"5",
            "l": Link("a/s"),
            "out": Link("../../b/../../etc"),
            "slash": Link("f/"),
        }
    )


@pytest.fixture
def second() -> Tree:
    return Tree({"x": b"second", "only": b"here", "s": {"z": b"deep"}})


@pytest.fixture
def ns(first: Tree) -> Namespace:
    namespace = Namespace()
    namespace.mount(first, "/")
    return namespace


def names(namespace: Namespace, path: str = "/") -> list[str]:
    return Client(namespace).listdir(path)


def content(namespace: Namespace, path: str) -> bytes:
    node = namespace.resolve(ME, path).node
    assert hasattr(node, "content")
    return bytes(node.content)


def refused(number: int, work: Callable[[], object]) -> str:
    """Check that something is refused with this errno; give the sentence."""
    with pytest.raises(OSError, match=r".") as caught:
        work()
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[number]
    return caught.value.strerror or ""


# Mounts ------------------------------------------------------------------------------------------


def test_an_empty_namespace_is_an_empty_directory() -> None:
    namespace = Namespace()
    assert names(namespace) == []
    refused(errno.ENOENT, lambda: namespace.resolve(ME, "/a"))
    refused(errno.EROFS, lambda: namespace.root.mkdir(ME, "a", 0o755))


def test_the_way_to_a_mount_is_made_of_directories_that_hold_nothing_else(second: Tree) -> None:
    namespace = Namespace()
    namespace.mount(second, "/x/y/z")
    assert names(namespace) == ["x"]
    assert names(namespace, "/x") == ["y"]
    assert names(namespace, "/x/y/z") == ["x", "only", "s"]
    assert Client(namespace).stat("/x/y").st_mode == 0o40555


def test_prefixes_match_whole_names(ns: Namespace, second: Tree) -> None:
    ns.mount(second, "/a")
    refused(errno.ENOENT, lambda: ns.resolve(ME, "/ab"))
    assert names(ns, "/a") == ["x", "only", "s"]


def test_a_mount_covers_what_was_there_and_an_unmount_shows_it_again(
    ns: Namespace, second: Tree
) -> None:
    ns.mount(second, "/a")
    assert content(ns, "/a/x") == b"second"
    ns.unmount("/a")
    assert content(ns, "/a/x") == b"2"


def test_mounts_show_in_listings_where_the_service_has_no_such_name(
    ns: Namespace, second: Tree
) -> None:
    ns.mount(second, "/b/new/deep")
    ns.mount(second, "/b/x")
    assert names(ns, "/b") == ["x", "y", "new"]
    assert names(ns, "/b/x") == ["x", "only", "s"]


def test_nothing_is_mounted_beneath_a_file(ns: Namespace, second: Tree) -> None:
    refused(errno.ENOTDIR, lambda: ns.mount(second, "/f/below"))


def test_the_target_of_a_mount_follows_links_as_mount_does(ns: Namespace, second: Tree) -> None:
    ns.mount(second, "/l")
    assert names(ns, "/a/s") == ["x", "only", "s"]


def test_the_target_of_a_bind_does_not_go_back_from_what_is_missing(ns: Namespace) -> None:
    refused(errno.ENOENT, lambda: ns.bind("/b", "/none/../l/x"))
    assert content(ns, "/a/s/x") == b"1"


@pytest.mark.parametrize("path", ["", "a", "a/b", "/a\0", "/" + "n" * 256])
def test_a_bad_path_is_no_target(ns: Namespace, second: Tree, path: str) -> None:
    with pytest.raises(OSError, match=r"."):
        ns.mount(second, path)
    assert len(ns.entries()) == 1


def test_an_unknown_option_is_refused_with_those_that_are_known(second: Tree) -> None:
    namespace = Namespace()
    sentence = refused(errno.EINVAL, lambda: namespace.mount(second, "/x", options={"hidden": "y"}))
    assert "hide" in sentence
    assert namespace.recipe() == ""


def test_the_owner_unmounts_only_what_is_mounted(ns: Namespace) -> None:
    assert "/a" in refused(errno.EINVAL, lambda: ns.unmount("/a"))
    refused(errno.EINVAL, lambda: ns.unmount("/none"))


def test_entries_and_services_are_listed_once_each(ns: Namespace, second: Tree) -> None:
    ns.mount(second, "/s")
    ns.bind("/s", "/a", access=Access.RO)
    assert [(path, entry.access) for path, entry in ns.entries()] == [
        ("/", Access.RW),
        ("/a", Access.RO),
        ("/s", Access.RW),
    ]
    assert len({entry.number for _, entry in ns.entries()}) == 3
    assert len(ns.services()) == 2


# Resolving ---------------------------------------------------------------------------------------


def test_nothing_leaves_the_root(ns: Namespace) -> None:
    assert ns.resolve(ME, "/../../a").path == "/a"
    assert ns.resolve(ME, "/..").path == "/"
    refused(errno.ENOENT, lambda: ns.resolve(ME, "/out"))


def test_links_are_followed_within_the_namespace(ns: Namespace) -> None:
    assert ns.resolve(ME, "/l/x").path == "/a/s/x"
    assert ns.resolve(ME, "/l", follow=False).is_symlink
    assert ns.resolve(ME, "/l/", follow=False).path == "/a/s"
    assert ns.resolve(ME, "/l/..").path == "/a"
    refused(errno.ENOTDIR, lambda: ns.resolve(ME, "/slash"))


def test_a_parent_is_where_the_path_went_and_not_where_it_was_written(
    ns: Namespace, second: Tree
) -> None:
    ns.mount(second, "/a/s")
    assert ns.resolve(ME, "/a/s/..").path == "/a"
    assert content(ns, "/a/s/../x") == b"2"


def test_a_path_of_the_greatest_length_is_walked_without_recursion() -> None:
    tree = Tree({})
    namespace = Namespace()
    namespace.mount(tree, "/")
    Client(namespace).makedirs("/d" * 2047)
    assert namespace.resolve(ME, "/d" * 2047).path == "/d" * 2047
    namespace.bind("/", "/d/new")
    held = namespace.resolve(ME, "/d" * 2047)
    namespace.bind("/d", "/other")
    assert held.place is None
    refused(errno.ENAMETOOLONG, lambda: namespace.resolve(ME, "/d" * 2048))


def test_the_last_name_of_a_path_need_not_exist(ns: Namespace) -> None:
    head, name = ns.resolve_parent(ME, "/l/new")
    assert (head.path, name) == ("/a/s", "new")
    for path in ("/", "/a/..", "/a/.", "."):
        refused(errno.EINVAL, partial(ns.resolve_parent, ME, path))


# Binds -------------------------------------------------------------------------------------------


def test_a_bind_shows_one_file_twice(ns: Namespace) -> None:
    ns.bind("/a/x", "/y")
    one, other = ns.resolve(ME, "/a/x"), ns.resolve(ME, "/y")
    assert one.node is other.node
    assert one.key != other.key


def test_a_bind_takes_along_what_is_mounted_beneath(ns: Namespace, second: Tree) -> None:
    ns.mount(second, "/a/m")
    ns.bind("/a", "/n")
    assert names(ns, "/n") == ["s", "x", "m"]
    assert content(ns, "/n/m/x") == b"second"
    ns.unmount("/a/m")
    assert content(ns, "/n/m/x") == b"second"


def test_a_bind_of_a_directory_over_itself_changes_its_rights_alone(ns: Namespace) -> None:
    ns.bind("/a", "/a", access=Access.RO)
    assert names(ns, "/a") == ["s", "x"]
    assert ns.resolve(ME, "/a/s/x").entry.access is Access.RO
    assert ns.resolve(ME, "/b").entry.access is Access.RW


def test_a_bind_into_its_own_source_ends(ns: Namespace) -> None:
    ns.bind("/", "/a/all")
    assert names(ns, "/a/all/a") == ["s", "x"]
    ns.bind("/a/all", "/b")
    ns.bind("/b", "/a/all/b")
    assert content(ns, "/a/all/b/a/x") == b"2"


def test_rights_of_a_bind_reach_the_mounts_beneath_and_never_grow(
    ns: Namespace, second: Tree
) -> None:
    ns.mount(second, "/a/m", Access.APPEND)
    ns.bind("/a", "/n", access=Access.RO)
    ns.bind("/n", "/n2", access=Access.RW)
    ns.bind("/a/m", "/m2")
    assert ns.resolve(ME, "/n2/m/x").entry.access is Access.RO
    assert ns.resolve(ME, "/m2/x").entry.access is Access.APPEND


def test_options_narrow_what_was_narrowed(ns: Namespace) -> None:
    ns.bind("/a", "/n", options={"hide": "x"})
    ns.bind("/n", "/m", options={"hide": "q"})
    assert names(ns, "/m") == ["s"]
    refused(errno.ENOENT, lambda: ns.resolve(ME, "/m/s/x"))


def test_a_missing_source_is_refused(ns: Namespace) -> None:
    refused(errno.ENOENT, lambda: ns.bind("/none", "/n"))
    refused(errno.EINVAL, lambda: ns.bind("/a", "n"))
    assert len(ns.entries()) == 1


# Unions ------------------------------------------------------------------------------------------


def test_a_union_merges_listings_and_the_first_wins(ns: Namespace, second: Tree) -> None:
    ns.mount(second, "/s")
    ns.bind("/s", "/a", Where.AFTER)
    assert names(ns, "/a") == ["s", "x", "only"]
    assert content(ns, "/a/x") == b"2"
    ns.bind("/s", "/b", Where.BEFORE)
    assert names(ns, "/b") == ["x", "only", "s", "y"]
    assert content(ns, "/b/x") == b"second"


def test_new_names_go_to_the_first_member_bound_for_them(
    ns: Namespace, first: Tree, second: Tree
) -> None:
    ns.mount(second, "/s")
    ns.bind("/s", "/a", Where.BEFORE)
    Client(ns).mkdir("/a/new")
    assert isinstance(first.at("a/new"), Directory)
    ns.bind("/s", "/b", Where.BEFORE, create=True)
    Client(ns).mkdir("/b/new")
    assert isinstance(second.at("new"), Directory)
    refused(errno.EEXIST, lambda: Client(ns).mkdir("/b/y"))


def test_a_union_of_which_no_member_takes_names_says_what_is_missing(
    ns: Namespace, second: Tree
) -> None:
    ns.mount(second, "/s")
    ns.bind("/s", "/n")
    ns.bind("/a", "/n", Where.AFTER)
    assert "-c" in refused(errno.EPERM, lambda: Client(ns).mkdir("/n/new"))


def test_removing_from_a_union_uncovers_the_next_member(ns: Namespace, second: Tree) -> None:
    ns.mount(second, "/s")
    ns.bind("/s", "/a", Where.BEFORE)
    Client(ns).unlink("/a/x")
    assert content(ns, "/a/x") == b"2"
    Client(ns).unlink("/a/x")
    refused(errno.ENOENT, lambda: Client(ns).unlink("/a/x"))


def test_a_rename_in_a_union_stays_within_the_member_that_has_the_name(
    ns: Namespace, second: Tree
) -> None:
    ns.mount(second, "/s")
    ns.bind("/s", "/a", Where.BEFORE)
    Client(ns).rename("/a/only", "/a/moved")
    assert second.at("moved")
    refused(errno.EXDEV, lambda: Client(ns).rename("/a/moved", "/b/moved"))


def test_the_rights_of_each_member_hold(ns: Namespace, second: Tree) -> None:
    ns.mount(second, "/s", Access.RO)
    ns.bind("/s", "/a", Where.BEFORE)
    refused(errno.EROFS, lambda: Client(ns).unlink("/a/only"))
    Client(ns).mkdir("/a/new")
    assert ns.resolve(ME, "/a/only").entry.access is Access.RO
    assert ns.resolve(ME, "/a/new").entry.access is Access.RW


def test_a_union_joins_directories_alone(ns: Namespace) -> None:
    refused(errno.ENOTDIR, lambda: ns.bind("/f", "/a", Where.AFTER))
    refused(errno.ENOTDIR, lambda: ns.bind("/a", "/f", Where.BEFORE))
    refused(errno.ENOENT, lambda: ns.bind("/a", "/none", Where.AFTER))
    ns.bind("/f", "/a")
    assert content(ns, "/a") == b"5"


# Forks -------------------------------------------------------------------------------------------


def test_a_child_drops_any_name(ns: Namespace, second: Tree) -> None:
    ns.mount(second, "/s")
    child = ns.fork()
    for path in ("/s", "/a/s/x", "/f", "/b"):
        child.unmount(path)
        refused(errno.ENOENT, partial(child.resolve, ME, path))
        ns.resolve(ME, path)
    assert names(child) == ["a", "l", "out", "slash"]
    assert names(child, "/a/s") == []
    refused(errno.ENOENT, lambda: child.unmount("/f"))
    refused(errno.ENOENT, lambda: child.unmount("/none"))
    refused(errno.EBUSY, lambda: child.unmount("/"))


def test_a_child_takes_back_its_own_cover_but_none_that_it_inherited(ns: Namespace) -> None:
    ns.bind("/b", "/a/s")
    child = ns.fork()
    child.bind("/b", "/a")
    child.unmount("/a")
    refused(errno.ENOENT, lambda: child.resolve(ME, "/a"))
    child = ns.fork()
    child.bind("/a/x", "/b/y")
    child.unmount("/b/y")
    assert content(child, "/b/y") == b"4"
    child = child.fork()
    child.unmount("/a/s")
    refused(errno.ENOENT, lambda: child.resolve(ME, "/a/s"))


def test_a_child_takes_back_a_bind_of_what_holds_inherited_covers(ns: Namespace) -> None:
    parent = ns.fork()
    parent.unmount("/a/s/x")
    child = parent.fork()
    child.bind("/a", "/b")
    assert names(child, "/b/s") == []
    child.unmount("/b")
    assert names(child, "/b") == ["x", "y"]


def test_a_child_does_not_mount(ns: Namespace, second: Tree) -> None:
    child = ns.fork()
    assert child.is_child
    assert "bind" in refused(errno.EPERM, lambda: child.mount(second, "/s"))


def test_a_child_inherits_the_environment_and_the_observers_by_value(ns: Namespace) -> None:
    ns.env["A"] = "1"
    ns.limits["time"] = "5"
    child = ns.fork()
    child.env["A"] = "2"
    child.limits.clear()
    assert (ns.env, ns.limits) == ({"A": "1"}, {"time": "5"})
    assert child.number != ns.number


def test_a_fork_inherits_what_services_narrow_for_its_parent_as_it_is_then() -> None:
    ns = Namespace()
    ns.layers["web"] = "one"
    child = ns.fork()
    ns.layers["web"] = "two"
    assert child.layers == {"web": "one"}
    child.layers["web"] = "three"
    assert ns.layers == {"web": "two"}


def test_what_is_sealed_stays_and_its_fork_may_narrow_until_it_is_sealed(
    ns: Namespace, second: Tree
) -> None:
    ns.seal()
    for work in (
        lambda: ns.mount(second, "/s"),
        lambda: ns.bind("/a", "/n"),
        lambda: ns.unmount("/"),
    ):
        assert "sealed" in refused(errno.EPERM, work)
    child = ns.fork()
    child.unmount("/a")
    child.seal()
    refused(errno.EPERM, lambda: child.unmount("/b"))


# Limits ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_doubling_a_namespace_ends_at_the_limit_and_changes_nothing(ns: Namespace) -> None:
    done = 0

    def double() -> None:
        nonlocal done
        while done < 40:
            ns.bind("/", f"/n{done}")
            done += 1

    assert "at most" in refused(errno.ENOSPC, double)
    assert 10 < done < 20
    places, _ = ns.table.measure()
    assert places <= namespaces.PLACES_MAX
    assert len(ns.lines) == 1 + done
    ns.unmount("/n0")
    ns.bind("/a", "/small")
    assert names(ns, "/small") == ["s", "x"]


def test_mounts_nest_to_a_depth(ns: Namespace) -> None:
    deepest = "/n" * (namespaces.DEPTH_MAX - 1)
    ns.bind("/a", deepest)
    assert names(ns, deepest) == ["s", "x"]
    refused(errno.ENAMETOOLONG, lambda: ns.bind("/a", deepest + "/n"))
    refused(errno.ENAMETOOLONG, lambda: ns.bind("/n", "/b/n"))
    for _ in range(namespaces.DEPTH_MAX):
        ns.bind("/b", "/b")
    assert names(ns, "/b") == ["x", "y"]


def test_a_namespace_replaced_again_and_again_does_not_fill_up(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces, "PLACES_MAX", 20)
    for number in range(100):
        ns.bind("/a", f"/n{number % 5}")
    assert len(ns.entries()) == 6


@pytest.mark.slow
@given(st.integers(1, 6))
def test_lookups_depend_on_the_depth_and_not_on_the_number_of_mounts(depth: int) -> None:
    tree = Tree({})
    small, large = Namespace(), Namespace()
    path = "/d" * depth
    small.mount(tree, path)
    for number in range(100):
        large.mount(tree, f"/n{number}")
        large.mount(tree, f"{path}/n{number}")
    for namespace in (small, large):
        counts = Counting(namespace.table)
        namespace.table = counts.table
        namespace.resolve(ME, path)
        assert counts.looked == depth


class Counting:
    """A mount table that counts what is looked up in it."""

    def __init__(self, table: Place) -> None:
        self.looked = 0
        counter = self

        class Children(dict[str, Place]):
            def get(self, name: str, default: Place | None = None) -> Place | None:  # type: ignore[override]
                counter.looked += 1
                return super().get(name, default)

            def values(self) -> Any:
                counter.looked += len(self)
                return super().values()

        self.table = mapped(
            table,
            lambda place: evolve(place, children=Children(place.children)),
        )
        self.looked = 0
