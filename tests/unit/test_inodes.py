"""The inode table of a kernel door."""

import stat as modes

import pytest

from mounts.inodes import ROOT, InodeTable
from oanix.caller import Caller
from oanix.errors import Missing
from oanix.namespace import Namespace
from oanix.node import Directory, Node
from oanix.service import Service
from oanix.stat import Stat

ME = Caller()


class _Folder(Directory):
    def __init__(self, service: Service, names: dict[str, Node]) -> None:
        self.qid = service.next_qid()
        self.names = names

    def stat(self) -> Stat:
        return Stat(modes.S_IFDIR | 0o755)

    def walk(self, name: str) -> Node:
        if name not in self.names:
            raise Missing(name)
        return self.names[name]

    def readdir(self) -> list[str]:
        return list(self.names)


class _Tree(Service):
    def __init__(self) -> None:
        super().__init__()
        self.root = _Folder(self, {"a": _Folder(self, {"b": _Folder(self, {})})})


@pytest.fixture
def namespace() -> Namespace:
    made = Namespace()
    made.mount(_Tree(), "/tree")
    return made


def test_a_file_keeps_its_number_until_its_last_lookup_is_forgotten(namespace: Namespace) -> None:
    table = InodeTable(namespace.root)
    first = table.add(namespace.resolve(ME, "/tree/a"))
    assert table.add(namespace.resolve(ME, "/tree/a")) is first
    table.forget(first.number, 1)
    assert table[first.number] is first
    table.forget(first.number, 1)
    assert len(table) == 1
    again = table.add(namespace.resolve(ME, "/tree/a"))
    assert again.number != first.number


def test_the_root_is_never_forgotten(namespace: Namespace) -> None:
    table = InodeTable(namespace.root)
    table.forget(ROOT, 100)
    assert table[ROOT].channel.path == "/"


def test_one_file_through_two_mounts_has_two_numbers(namespace: Namespace) -> None:
    namespace.bind("/tree/a", "/again")
    table = InodeTable(namespace.root)
    one = table.add(namespace.resolve(ME, "/tree/a/b"))
    other = table.add(namespace.resolve(ME, "/again/b"))
    assert one.number != other.number
    assert one.channel.node is other.channel.node


def test_forgetting_what_is_unknown_does_nothing(namespace: Namespace) -> None:
    table = InodeTable(namespace.root)
    table.forget(12345, 1)
    assert len(table) == 1


def test_a_number_that_is_wished_for_is_given_when_it_is_free(namespace: Namespace) -> None:
    table = InodeTable(namespace.root)
    one = table.add(namespace.resolve(ME, "/tree/a"), 4711)
    other = table.add(namespace.resolve(ME, "/tree/a/b"), 4711)
    assert one.number == 4711
    assert other.number not in (4711, ROOT)
    table.forget(one.number, 1)
    assert table.add(namespace.resolve(ME, "/tree/a"), 4711).number == 4711
    assert table.add(namespace.resolve(ME, "/tree"), ROOT).number != ROOT
