"""Derived namespaces: a child that has what a recipe grants from its parent, and nothing else."""

import errno
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.client import Client
from oanix.namespace import Namespace
from oanix.recipe import Bind, Line, RecipeError, Unmount, format_recipe, parse
from tests.unit.test_namespace_rights import (
    ACCESS,
    BIND,
    FORK,
    HOLD,
    NARROWING,
    OPTIONS,
    OWNER,
    PATH,
    UNMOUNT,
    WHERE,
    Act,
    World,
    excess,
    reach,
    sample,
)
from tests.unit.trees import Tree

LINE = st.one_of(
    st.builds(
        lambda source, target, where, create, access, options: Bind(
            source, target, where.value, create, access, options
        ),
        PATH, PATH, WHERE, st.booleans(), ACCESS, OPTIONS,
    ),
    st.builds(Unmount, PATH),
)  # fmt: skip


@pytest.fixture
def parent() -> Namespace:
    namespace = Namespace()
    namespace.mount(sample(), "/")
    namespace.mount(Tree({"note": b"hi"}), "/cap/notes")
    return namespace


def derived(parent: Namespace, text: str) -> Namespace:
    return parent.derive(parse(text))


def everything(namespace: Namespace) -> list[str]:
    return [entry.path for entry in Client(namespace).tree()]


def test_a_child_has_what_the_recipe_binds_and_nothing_else(parent: Namespace) -> None:
    child = derived(parent, "bind /a/s /work ro\nbind /cap/notes /notes\n")
    assert everything(child) == ["/", "/notes", "/notes/note", "/work", "/work/k", "/work/x"]
    with pytest.raises(FileNotFoundError):
        Client(child).stat("/a")
    with pytest.raises(OSError, match="read-only") as refused:
        Client(child).mkdir("/work/new")
    assert refused.value.errno == errno.EROFS


def test_without_a_line_there_is_an_empty_root(parent: Namespace) -> None:
    assert everything(derived(parent, "")) == ["/"]


def test_sources_are_the_parents_paths_whatever_the_child_shows_there(parent: Namespace) -> None:
    child = derived(parent, "bind /b /a\nbind /a /b\n")
    assert Client(child).listdir("/a") == Client(parent).listdir("/b")
    assert Client(child).listdir("/b") == Client(parent).listdir("/a")


def test_what_is_dropped_stays_away(parent: Namespace) -> None:
    child = derived(parent, "bind /a /a\nunmount /a/s/k\n")
    assert "/a/s/k" not in everything(child)
    for line in ("unmount /a/s/k", "bind /a /n", "bind /a /a"):
        with suppress(RecipeError):
            child.apply(parse(line)[0])
    assert not [path for path in everything(child) if path.endswith("/k")]


@pytest.mark.parametrize(
    ("text", "number", "where"),
    [
        ("bind /a /a\nmount dev /dev\n", errno.EPERM, "recipe:2:1"),
        ("bind /none /a\n", errno.ENOENT, "recipe:1:6"),
        ("bind /a /a\nunmount /b\n", errno.ENOENT, "recipe:2:9"),
        ("bind /a a\n", errno.EINVAL, "recipe:1:9"),
        ("bind /a /a nothing=1\n", errno.EINVAL, "recipe:1:9"),
    ],
)
def test_what_no_child_may_is_refused_at_its_place(
    parent: Namespace, text: str, number: int, where: str
) -> None:
    with pytest.raises(RecipeError) as refused:
        derived(parent, text)
    assert refused.value.errno == number
    assert str(refused.value.strerror).startswith(where)


def test_sealed_it_takes_no_change(parent: Namespace) -> None:
    child = derived(parent, "bind /a /a\nseal\n")
    for line in ("bind /a /b", "unmount /a"):
        with pytest.raises(RecipeError):
            child.apply(parse(line)[0])
    assert child.recipe() == "bind /a /a\nseal\n"


def accepted(parent: Namespace, lines: list[Line]) -> list[Line]:
    taken: list[Line] = []
    for line in lines:
        with suppress(OSError):
            parent.derive(parse(format_recipe([*taken, line])))
            taken.append(line)
    return taken


@pytest.mark.slow
@given(
    OWNER, NARROWING, st.lists(LINE, max_size=5),
    st.lists(st.one_of(BIND, UNMOUNT, FORK, HOLD), max_size=6),
)  # fmt: skip
def test_a_derived_child_never_has_more_than_its_parent(
    owner: list[Act], narrowing: list[Act], lines: list[Line], later: list[Act]
) -> None:
    world = World()
    for act in owner:
        world.act(act)
    world.fork()
    for act in narrowing:
        world.act(act)
    most, known = world.reach(), world.known()
    granted = accepted(world.here, lines)
    world.here = world.here.derive(parse(format_recipe(granted)))
    given_, again = reach([world.here.root]), world.here.recipe()
    assert excess(given_, most, known) == []
    for act in later:
        world.act(act)
    assert excess(world.reach(), given_, known) == []
    assert isinstance(again, str)


@pytest.mark.slow
@given(OWNER, st.lists(LINE, max_size=5))
def test_the_recipe_of_a_derived_child_rebuilds_it(owner: list[Act], lines: list[Line]) -> None:
    world = World()
    for act in owner:
        world.act(act)
    child = world.here.derive(parse(format_recipe(accepted(world.here, lines))))
    rebuilt = world.here.derive(parse(child.recipe()))
    assert reach([rebuilt.root]) == reach([child.root])
    if child.root.is_directory:
        assert everything(rebuilt) == everything(child)
