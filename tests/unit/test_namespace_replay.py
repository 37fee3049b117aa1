"""A namespace can be written down, and what is written rebuilds the same tree."""

from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oanix.caller import Caller
from oanix.namespace import Namespace, Where
from oanix.node import Node
from oanix.recipe import Bind, Mount, Seal, Unmount, format_recipe, parse
from oanix.table import Access
from tests.unit.trees import Hiding, Link, Tree

ME = Caller()
STRANGE = "\udcff \"'\n\\"


class Shelf:
    """Services by number, so that two namespaces can be built of the same ones."""

    def __init__(self) -> None:
        self.trees: dict[str, Tree] = {}

    def __getitem__(self, number: str) -> Tree:
        if number not in self.trees:
            self.trees[number] = Tree(
                {
                    "a": {"s": {"x": b"1"}, "x": b"2"},
                    "b": {STRANGE: {"x": b"3"}, "s": b"4"},
                    "l": Link("a/s"),
                }
            )
        return self.trees[number]

    def replay(self, text: str, namespace: Namespace) -> None:
        """Do what a recipe says."""
        for placed in parse(text):
            line = placed.line
            if isinstance(line, Mount):
                service = self[line.argument or ""]
                namespace.mount(service, line.path, line.access, line.options, source=line.source)
            elif isinstance(line, Bind):
                namespace.bind(
                    line.source,
                    line.target,
                    Where(line.where),
                    create=line.create,
                    access=line.access,
                    options=line.options,
                )
            elif isinstance(line, Unmount):
                namespace.unmount(line.path)
            else:
                namespace.seal()


Seen = dict[str, tuple[str, int, Access, frozenset[str], tuple[str, ...]]]


def seen(namespace: Namespace) -> Seen:
    """Walk a namespace: for each path, which file it is, with which rights, in which order."""
    found: Seen = {}
    todo = [namespace.root]
    while todo:
        channel = todo.pop()
        names = tuple(channel.readdir(ME)) if channel.is_directory else ()
        synthetic = channel.entry.service.name == "namespace"
        found[channel.path] = (
            channel.entry.service.name,
            0 if synthetic else channel.node.qid,
            channel.entry.access,
            hidden(channel.node),
            names,
        )
        todo += [channel.walk(ME, name) for name in names]
    return found


def hidden(node: Node) -> frozenset[str]:
    names: frozenset[str] = frozenset()
    while isinstance(node, Hiding):
        names |= node.hidden
        node = node.folder
    return names


PATH = st.sampled_from(
    ["/", "/a", "/b", "/l", "/n", "/a/s", "/a/x", "/l/x", f"/b/{STRANGE}", f"/n/{STRANGE}", "/n/a"]
)
ACCESS = st.sampled_from(Access)
OPTIONS: st.SearchStrategy[Mapping[str, str]] = st.sampled_from([{}, {}, {"hide": "x"}])
MOUNTS = st.builds(
    lambda number, path, access, options: Mount(f"tree:{number}", path, access, options),
    st.integers(1, 3),
    PATH,
    ACCESS,
    OPTIONS,
)
WHERE = st.sampled_from(["", "", "-b", "-a"])
BINDS = st.builds(Bind, PATH, PATH, WHERE, st.booleans(), ACCESS, OPTIONS)
UNMOUNTS = st.builds(Unmount, PATH)
OWNER = st.lists(st.one_of(MOUNTS, BINDS, UNMOUNTS), max_size=8)
CHILD = st.lists(st.one_of(BINDS, UNMOUNTS), max_size=6)


def do(shelf: Shelf, namespace: Namespace, lines: list[Mount | Bind | Unmount]) -> None:
    for line in lines:
        # A line that makes no sense here is refused, and the others are still done.
        with suppress(OSError):
            shelf.replay(format_recipe([line]), namespace)


@pytest.mark.slow
@given(OWNER, CHILD, CHILD, st.booleans())
@example([], [Bind("/l", "/n", "-a")], [Unmount("/n")], True)
@example([], [], [Bind("/", "/b"), Bind("/", "/a"), Unmount("/b"), Unmount("/a")], False)
@example([], [Unmount("/a")], [Bind("/", "/a"), Unmount("/a")], False)
def test_a_recipe_rebuilds_the_namespace_of_an_owner_and_of_its_children(
    owner: list[Mount | Bind | Unmount],
    child: list[Mount | Bind | Unmount],
    grandchild: list[Mount | Bind | Unmount],
    sealed: bool,
) -> None:
    shelf = Shelf()
    first, second = Namespace(), Namespace()
    do(shelf, first, [Mount("tree:0", "/"), *owner])
    for lines in (None, child, grandchild):
        if lines is not None:
            first, second = first.fork(), second.fork()
            do(shelf, first, lines)
            if sealed:
                first.seal()
        shelf.replay(first.recipe(), second)
        assert seen(second) == seen(first)
        assert second.recipe() == first.recipe()
        assert second.sealed == first.sealed


def test_the_recipe_of_a_child_tells_nothing_of_its_parent() -> None:
    shelf = Shelf()
    namespace = Namespace()
    shelf.replay("mount tree:/host/secret/path / hide=x\nbind /a /n\n", namespace)
    child = namespace.fork()
    assert child.recipe() == ""
    child.bind("/n", "/b", access=Access.RO)
    child.unmount("/a")
    child.seal()
    assert child.recipe() == "bind /n /b ro\nunmount /a\nseal\n"


def test_a_recipe_holds_the_paths_as_they_were_found() -> None:
    shelf = Shelf()
    namespace = Namespace()
    shelf.replay("mount tree:0 /\n", namespace)
    namespace.bind("/l/../x", "//n/./m/")
    assert namespace.lines[-1] == Bind("/a/x", "/n/m")
    assert isinstance(namespace.lines[0], Mount)


def test_what_was_refused_is_not_written_down() -> None:
    namespace = Namespace()
    Shelf().replay("mount tree:0 /\n", namespace)
    before = namespace.recipe()
    for refused in ("bind /none /x", "bind -a /a/x /a/s", "unmount /a", "bind /a /b hidden=x"):
        with pytest.raises(OSError, match=r"."):
            Shelf().replay(refused, namespace)
    assert namespace.recipe() == before
    namespace.seal()
    assert namespace.lines[-1] == Seal()
    assert namespace.recipe() == before + "seal\n"


@pytest.mark.slow
def test_ten_thousand_lines_are_done_and_written_down_again() -> None:
    namespace = Namespace()
    text = "mount tree:0 /\n" + "".join(f"bind /a/x /t/{n}\n" for n in range(10_000))
    Shelf().replay(text, namespace)
    assert namespace.recipe() == text
    assert len(namespace.resolve(ME, "/t").readdir(ME)) == 10_000
    assert namespace.resolve(ME, "/t/9999").node is namespace.resolve(ME, "/a/x").node
