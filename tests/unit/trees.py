"""A small file service in memory, for tests of what stands on services: the kernel and the client.

It is written from nested dicts: `Tree({"file": b"content", "folder": {}, "link": Link("file")})`.
"""

import errno
import os
import stat as modes
from collections.abc import Mapping
from typing import ClassVar, TypeAlias

from attrs import frozen

from oanix.bell import Bell
from oanix.caller import Caller
from oanix.errors import Missing, fault
from oanix.node import (
    WOULD_BLOCK,
    CanCreate,
    CanLink,
    CanReadlink,
    CanRemove,
    CanRename,
    CanSetattr,
    Directory,
    Handle,
    Node,
    WouldBlock,
)
from oanix.service import Service
from oanix.stat import Changed, Stat


@frozen
class Link:
    """A symbolic link in the description of a tree."""

    target: str


@frozen
class Pipe:
    """A stream in the description of a tree; what `Stream.say` is given comes out of it."""


Content: TypeAlias = Mapping[str, "bytes | Link | Pipe | Content"]


class Text(CanSetattr):
    """A regular file."""

    def __init__(self, qid: int, content: bytes) -> None:
        self.qid = qid
        self.content = bytearray(content)
        self.open_handles = 0
        self.mode = 0o644
        self.flush_fails_with: int | None = None

    def stat(self) -> Stat:
        return Stat(modes.S_IFREG | self.mode, st_size=len(self.content))

    async def open(self, flags: int, caller: Caller) -> Handle:
        if flags & os.O_TRUNC:
            self.content.clear()
        return TextHandle(self, flags)

    def setattr(self, changed: Changed, caller: Caller) -> None:
        if changed.mode is not None:
            self.mode = changed.mode
        if changed.size is not None:
            self.resize(changed.size)

    def resize(self, size: int) -> None:
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))


class TextHandle(Handle):
    """An open regular file."""

    def __init__(self, text: Text, flags: int) -> None:
        self.text = text
        self.flags = flags
        text.open_handles += 1

    def try_read(self, size: int, offset: int) -> bytes:
        return bytes(self.text.content[offset : offset + size])

    def try_write(self, data: bytes, offset: int) -> int:
        content = self.text.content
        at = len(content) if self.flags & os.O_APPEND else offset
        self.text.resize(max(at + len(data), len(content)))
        content[at : at + len(data)] = data
        return len(data)

    def truncate(self, size: int) -> None:
        self.text.resize(size)

    def flush(self) -> None:
        if self.text.flush_fails_with is not None:
            raise fault(self.text.flush_fails_with, "an earlier write failed")

    def close(self) -> None:
        self.text.open_handles -= 1


class Stream(Node):
    """A file whose readers wait until something is said, and whose writers wait for `room`."""

    endless = True

    def __init__(self, qid: int) -> None:
        self.qid = qid
        self.bell = Bell()
        self.said: list[bytes] = []
        self.heard: list[bytes] = []
        self.room = 0
        self.ended = False
        self.open_handles = 0

    def stat(self) -> Stat:
        return Stat(modes.S_IFREG | 0o644)

    async def open(self, flags: int, caller: Caller) -> Handle:
        self.open_handles += 1
        return StreamHandle(self)

    def say(self, data: bytes) -> None:
        """Give data to the next reader."""
        self.said.append(data)
        self.bell.ring()

    def end(self) -> None:
        """Say that nothing more comes."""
        self.ended = True
        self.bell.ring()

    def make_room(self, size: int) -> None:
        """Let writers write so many bytes more."""
        self.room += size
        self.bell.ring()


class StreamHandle(Handle):
    """An open stream."""

    stream = True

    def __init__(self, node: Stream) -> None:
        self.node = node

    def try_read(self, size: int, offset: int) -> bytes | WouldBlock:
        if self.node.said:
            first = self.node.said.pop(0)
            if first[size:]:
                self.node.said.insert(0, first[size:])
            return first[:size]
        return b"" if self.node.ended else WOULD_BLOCK

    async def read(self, size: int, offset: int) -> bytes:
        while True:
            answer = self.try_read(size, offset)
            if answer is not WOULD_BLOCK:
                return answer
            await self.node.bell.wait()

    def try_write(self, data: bytes, offset: int) -> int | WouldBlock:
        if not self.node.room:
            return WOULD_BLOCK
        taken = data[: self.node.room]
        self.node.room -= len(taken)
        self.node.heard.append(taken)
        return len(taken)

    async def write(self, data: bytes, offset: int) -> int:
        while True:
            answer = self.try_write(data, offset)
            if answer is not WOULD_BLOCK:
                return answer
            await self.node.bell.wait()

    def close(self) -> None:
        self.node.open_handles -= 1


class Symlink(CanReadlink):
    """A symbolic link."""

    def __init__(self, qid: int, target: str) -> None:
        self.qid = qid
        self.target = target

    def stat(self) -> Stat:
        return Stat(modes.S_IFLNK | 0o777, st_size=len(self.target))

    def readlink(self) -> str:
        return self.target


class Folder(CanCreate, CanRemove, CanRename, CanLink):
    """A directory."""

    def __init__(self, tree: "Tree", content: Content) -> None:
        self.tree = tree
        self.qid = tree.next_qid()
        self.closed = False
        self.nodes = {name: tree.make(what) for name, what in content.items()}

    def stat(self) -> Stat:
        return Stat(modes.S_IFDIR | 0o755, 2)

    def walk(self, name: str) -> Node:
        self.tree.lookups += 1
        try:
            return self.nodes[name]
        except KeyError:
            raise Missing(name) from None

    def readdir(self) -> list[str]:
        if self.closed:
            raise fault(errno.EACCES, "this folder is closed")
        return list(self.nodes)

    def create(self, name: str, flags: int, mode: int, caller: Caller) -> tuple[Node, Handle]:
        text = Text(self.tree.next_qid(), b"")
        text.mode = mode
        self._add(name, text)
        return text, TextHandle(text, flags)

    def mkdir(self, name: str, mode: int, caller: Caller) -> Node:
        return self._add(name, Folder(self.tree, {}))

    def symlink(self, name: str, target: str, caller: Caller) -> Node:
        return self._add(name, Symlink(self.tree.next_qid(), target))

    def link(self, node: Node, name: str, caller: Caller) -> None:
        self._add(name, node)

    def line(self) -> "list[Folder]":
        """List the folder and those it lies in."""
        above = [folder for folder in self.tree.folders() if self in folder.nodes.values()]
        return [self, *(above[0].line() if above else [])]

    def _add(self, name: str, node: Node) -> Node:
        if name in self.nodes:
            raise fault(errno.EEXIST, f"{name!r} exists")
        self.nodes[name] = node
        return node

    def unlink(self, name: str, caller: Caller) -> None:
        if isinstance(self.walk(name), Directory):
            raise fault(errno.EISDIR, f"{name!r} is a directory")
        del self.nodes[name]

    def rmdir(self, name: str, caller: Caller) -> None:
        node = self.walk(name)
        if not isinstance(node, Folder):
            raise fault(errno.ENOTDIR, f"{name!r} is no directory")
        if node.nodes:
            raise fault(errno.ENOTEMPTY, f"{name!r} is not empty")
        del self.nodes[name]

    def rename(
        self, name: str, target: Directory, new_name: str, *, flags: int, caller: Caller
    ) -> None:
        assert isinstance(target, Folder)
        if self.walk(name) in target.line():
            raise fault(errno.EINVAL, "a folder cannot be moved into itself")
        target.nodes[new_name] = self.walk(name)
        del self.nodes[name]


class Hiding(Directory):
    """A folder as the option `hide` leaves it: a name is hidden wherever it is."""

    def __init__(self, folder: Directory, hidden: frozenset[str]) -> None:
        self.folder = folder
        self.hidden = hidden
        self.qid = folder.qid

    def stat(self) -> Stat:
        return Stat(modes.S_IFDIR | 0o755, 2)

    def walk(self, name: str) -> Node:
        if name in self.hidden:
            raise Missing(name)
        node = self.folder.walk(name)
        return Hiding(node, self.hidden) if isinstance(node, Directory) else node

    def readdir(self) -> list[str]:
        return [name for name in self.folder.readdir() if name not in self.hidden]


class Tree(Service):
    """The service."""

    name = "tree"
    options: ClassVar[Mapping[str, str]] = {"hide": "names that do not show, commas between"}

    def __init__(self, content: Content | None = None) -> None:
        super().__init__()
        self.lookups = 0
        self.root = Folder(self, content or {})

    def make(self, what: "bytes | Link | Pipe | Content") -> Node:
        """Make the node for a part of the description."""
        if isinstance(what, bytes):
            return Text(self.next_qid(), what)
        if isinstance(what, Link):
            return Symlink(self.next_qid(), what.target)
        if isinstance(what, Pipe):
            return Stream(self.next_qid())
        return Folder(self, what)

    def at(self, path: str) -> Node:
        """Give the node at a path of this service."""
        node: Node = self.root
        for name in path.split("/"):
            assert isinstance(node, Folder)
            node = node.nodes[name]
        return node

    def folders(self) -> list[Folder]:
        """List the folders."""
        assert isinstance(self.root, Folder)
        found = [self.root]
        for folder in found:
            found += [node for node in folder.nodes.values() if isinstance(node, Folder)]
        return found

    def narrow(self, node: Node, options: Mapping[str, str]) -> Node:
        for option in options.keys() - self.options.keys():
            raise fault(errno.EINVAL, f"tree has no option {option!r}; it has: hide")
        if not isinstance(node, Directory):
            return node
        return Hiding(node, frozenset(options["hide"].split(",")))
