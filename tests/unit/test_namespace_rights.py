"""Rights only shrink: whatever a child does, it reaches no more than it was given.

Random namespaces are forked, and the children bind, cover, drop, unmount, rename, link and fork
again at random. Then everything they can reach is walked, from the root and from the directories
that they held on to, and compared with what they could reach when they were made: the same files,
with the same restrictions or more.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oanix.caller import Caller
from oanix.channel import Channel
from oanix.client import Client
from oanix.namespace import Namespace, Where
from oanix.node import Directory, Node
from oanix.table import Access
from tests.unit.trees import Hiding, Link, Tree

ME = Caller()
STRICTNESS = list(Access)

Rights: TypeAlias = tuple[int, frozenset[str]]
"""How strict an access is, and the names that are hidden."""

Reach: TypeAlias = dict[tuple[int, int], set[Rights]]
"""For each file, by service and qid, the rights with which it can be reached."""


def sample() -> Tree:
    return Tree(
        {
            "a": {"s": {"x": b"1", "k": b"key"}, "x": b"2"},
            "b": {"x": b"3", "s": {"x": b"4"}},
            "x": b"5",
            "l": Link("a/s"),
            "u": Link("/b/../a"),
        }
    )


def reach(tops: Iterable[Channel]) -> Reach:
    found: Reach = {}
    todo = list(tops)
    while todo:
        channel = todo.pop()
        if channel.entry.service.name == "tree":
            identity = id(channel.entry.service), channel.node.qid
            found.setdefault(identity, set()).add(rights(channel))
        if channel.is_directory:
            for name in channel.readdir(ME):
                # A name that is listed can be found, unless its directory was held while the
                # namespace changed.
                with suppress(FileNotFoundError):
                    todo.append(channel.walk(ME, name))
    return found


def rights(channel: Channel) -> Rights:
    hidden: set[str] = set()
    node: Node = channel.node
    while isinstance(node, Hiding):
        hidden |= node.hidden
        node = node.folder
    return STRICTNESS.index(channel.entry.access), frozenset(hidden)


def excess(child: Reach, parent: Reach, known: dict[int, int]) -> list[str]:
    """List what the child reaches and should not; known: the last qid of each service before."""
    return [
        f"file {qid} with {right}, at best {parent.get((service, qid))}"
        for (service, qid), wanted in child.items()
        if qid <= known[service]
        for right in wanted
        if not any(
            right[0] >= given[0] and right[1] >= given[1]
            for given in parent.get((service, qid), ())
        )
    ]


# What is done at random --------------------------------------------------------------------------

PATHS = [
    "/",
    "/a",
    "/b",
    "/l",
    "/x",
    "/n",
    "/a/s",
    "/a/x",
    "/b/s",
    "/b/x",
    "/l/x",
    "/u/s/k",
    "/n/s",
    "/n/a",
    "/n/m",
    "/a/s/x",
    "/a/s/k",
    "/b/s/x",
    "/n/s/k",
    "/n/a/s",
    "/n/a/s/k",
    "/a/../b/s",
    "/n/../l/k",
]
PATH = st.sampled_from(PATHS)
ACCESS = st.sampled_from(Access)
OPTIONS = st.sampled_from([{}, {}, {"hide": "k"}, {"hide": "s,x"}])
WHERE = st.sampled_from([Where.REPLACE, Where.REPLACE, Where.BEFORE, Where.AFTER])

Act: TypeAlias = tuple[object, ...]

MOUNT = st.tuples(st.just("mount"), PATH, ACCESS, OPTIONS)
BIND = st.tuples(st.just("bind"), PATH, PATH, WHERE, st.booleans(), ACCESS, OPTIONS)
COVER = st.tuples(
    st.just("bind"), PATH, PATH, st.just(Where.REPLACE), st.just(False), ACCESS, OPTIONS
)
UNMOUNT = st.tuples(st.just("unmount"), PATH)
FORK = st.tuples(st.just("fork"))
HOLD = st.tuples(st.just("hold"), PATH)
FILES = st.one_of(
    st.tuples(st.sampled_from(["rename", "link", "exchange"]), PATH, PATH),
    st.tuples(st.sampled_from(["unlink", "rmdir", "mkdir"]), PATH),
    st.tuples(st.just("symlink"), PATH, PATH),
)
OWNER = st.lists(st.one_of(MOUNT, BIND, UNMOUNT), max_size=6)
OWNER_WITHOUT_UNIONS = st.lists(st.one_of(MOUNT, COVER, UNMOUNT), max_size=6)
NARROWING = st.lists(st.one_of(COVER, UNMOUNT, UNMOUNT), max_size=4)


class World:
    """A namespace, the forks made of it, and the directories that were held on to."""

    def __init__(self) -> None:
        self.trees = [sample()]
        self.here = Namespace()
        self.here.mount(self.trees[0], "/")
        self.held: list[Channel] = []

    def fork(self) -> None:
        self.here = self.here.fork()

    def act(self, act: Act) -> None:
        """Do something; that it is refused is fine, as long as it is refused with an errno."""
        verb, *arguments = act
        with suppress(OSError):
            getattr(self, f"do_{verb}")(*arguments)

    def do_mount(self, path: str, access: Access, options: dict[str, str]) -> None:
        self.trees.append(sample())
        self.here.mount(self.trees[-1], path, access, options)

    def do_bind(
        self, source: str, target: str, where: Where, create: bool, access: Access, options: object
    ) -> None:
        assert isinstance(options, dict)
        self.here.bind(source, target, where, create=create, access=access, options=options)

    def do_unmount(self, path: str) -> None:
        self.here.unmount(path)

    def do_fork(self) -> None:
        self.fork()

    def do_hold(self, path: str) -> None:
        self.held.append(self.here.resolve(ME, path))

    def do_rename(self, source: str, target: str) -> None:
        Client(self.here).rename(source, target)

    def do_exchange(self, source: str, target: str) -> None:
        Client(self.here).rename(source, target, 2)

    def do_link(self, source: str, target: str) -> None:
        Client(self.here).link(source, target)

    def do_symlink(self, target: str, path: str) -> None:
        Client(self.here).symlink(target, path)

    def do_unlink(self, path: str) -> None:
        Client(self.here).unlink(path)

    def do_rmdir(self, path: str) -> None:
        Client(self.here).rmdir(path)

    def do_mkdir(self, path: str) -> None:
        Client(self.here).mkdir(path)

    def reach(self) -> Reach:
        return reach([self.here.root, *self.held])

    def known(self) -> dict[int, int]:
        return {id(tree): tree.next_qid() for tree in self.trees}


def never_more(owner: list[Act], narrowing: list[Act], child: list[Act]) -> None:
    world = World()
    for act in owner:
        world.act(act)
    world.fork()
    for act in narrowing:
        world.act(act)
    world.fork()
    parent, known = world.reach(), world.known()
    for act in child:
        world.act(act)
    assert excess(world.reach(), parent, known) == []


def bind(source: str, target: str, where: Where = Where.REPLACE) -> Act:
    return ("bind", source, target, where, False, Access.RW, {})


@pytest.mark.slow
@given(OWNER, NARROWING, st.lists(st.one_of(BIND, BIND, UNMOUNT, FORK, HOLD), max_size=8))
@example([], [bind("/x", "/a/s/k")], [bind("/a", "/n"), ("unmount", "/n/s/k")])
@example([], [bind("/x", "/a/s/k")], [bind("/b", "/a/s"), ("unmount", "/a/s")])
@example([], [bind("/x", "/a/s/k")], [bind("/b", "/a/s", Where.AFTER), ("unmount", "/a/s")])
@example([], [("unmount", "/a/s")], [("hold", "/a"), bind("/b", "/a"), ("unmount", "/a")])
@example([], [("unmount", "/a/s")], [("fork",), bind("/a", "/n"), ("unmount", "/n/s")])
def test_binds_drops_and_forks_never_give_a_child_more(
    owner: list[Act], narrowing: list[Act], child: list[Act]
) -> None:
    never_more(owner, narrowing, child)


@pytest.mark.slow
@given(
    OWNER_WITHOUT_UNIONS,
    NARROWING,
    st.lists(st.one_of(BIND, UNMOUNT, FORK, HOLD, FILES, FILES), max_size=8),
)
@example([], [("unmount", "/a/s/k")], [("rename", "/a", "/n")])
@example([], [("unmount", "/a/s/k")], [("rename", "/a/s", "/n")])
@example([], [("unmount", "/a/s/k")], [("exchange", "/a", "/b")])
@example([], [("unmount", "/a/s/k")], [bind("/a", "/n"), ("rename", "/n/s", "/n/x")])
@example([], [bind("/x", "/a/s/k")], [("rename", "/a/s", "/n"), ("link", "/a/s/k", "/n")])
def test_moving_and_linking_files_never_gives_a_child_more(
    owner: list[Act], narrowing: list[Act], child: list[Act]
) -> None:
    never_more(owner, narrowing, child)


@given(OWNER, NARROWING)
def test_a_fork_reaches_exactly_what_its_parent_reaches(
    owner: list[Act], narrowing: list[Act]
) -> None:
    world = World()
    for act in owner:
        world.act(act)
    parent = reach([world.here.root])
    world.fork()
    assert reach([world.here.root]) == parent
    for act in narrowing:
        world.act(act)
    narrowed = reach([world.here.root])
    world.fork()
    assert reach([world.here.root]) == narrowed


def test_the_sample_has_something_to_lose() -> None:
    world = World()
    everything = world.reach()
    world.fork()
    world.act(("unmount", "/a/s/k"))
    key = world.trees[0].at("a/s/k")
    assert not isinstance(key, Directory)
    assert everything.keys() - world.reach().keys() == {(id(world.trees[0]), key.qid)}
    assert excess(everything, world.reach(), world.known()) != []


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 3), st.one_of(BIND, UNMOUNT)), max_size=10))
def test_parents_and_children_never_see_each_others_changes(
    acts: list[tuple[int, Act]],
) -> None:
    worlds = [World()]
    worlds[0].act(("mount", "/a", Access.RW, {}))
    for _ in range(3):
        world = World()
        world.here = worlds[-1].here.fork()
        worlds.append(world)
    seen = [world.here.table for world in worlds]
    for who, act in acts:
        before = [reach([world.here.root]) for world in worlds]
        worlds[who].act(act)
        for other, world in enumerate(worlds):
            if other != who:
                assert reach([world.here.root]) == before[other]
                assert world.here.table is seen[other]
        seen[who] = worlds[who].here.table
