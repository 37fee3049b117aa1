"""Exclude: a view of the tree in which some names do not exist.

A pattern is a shell pattern for one name (`.env*`), at any depth; with a slash at its end, for
directories alone (`node_modules/`); with slashes in it, for a name and the directories above it
(`.git/config`), from the served directory itself where it begins with one.
"""

import errno
import fnmatch
import re
from collections.abc import Iterable

from attrs import frozen

from oanix.caller import Caller
from oanix.errors import Missing, fault
from oanix.node import (
    CanCreate,
    CanLink,
    CanReadlink,
    CanRemove,
    CanRename,
    CanSetattr,
    CanXattr,
    Directory,
    Handle,
    Node,
)
from oanix.services.workspace.directory import RENAME_EXCHANGE, HostDirectory
from oanix.stat import Changed, StatLike


@frozen
class _Path:
    """A pattern that asks for more than a name; the last part is the name's."""

    parts: tuple[re.Pattern[str], ...]
    anchored: bool
    directories: bool

    def matches(self, parent: HostDirectory, name: str, is_directory: bool) -> bool:
        if self.directories and not is_directory:
            return False
        here: HostDirectory | None = parent
        for part in reversed(self.parts):
            if here is None or not part.fullmatch(name):
                return False
            name, here = here.name, here.parent
        return not self.anchored or here is None


@frozen
class Patterns:
    """What is excluded."""

    names: re.Pattern[str] | None = None
    paths: tuple[_Path, ...] = ()
    texts: tuple[str, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Patterns":
        """Read patterns; empty ones say nothing. Raises OSError EINVAL for what never matches."""
        kept = tuple(dict.fromkeys(text for text in texts if text))
        plain: list[str] = []
        paths: list[_Path] = []
        for text in kept:
            parts = text.strip("/").split("/")
            if any(part in ("", ".", "..") for part in parts):
                raise fault(errno.EINVAL, f"the pattern {text!r} cannot match any name")
            if "/" in text:
                compiled = tuple(re.compile(fnmatch.translate(part)) for part in parts)
                paths.append(_Path(compiled, text.startswith("/"), text.endswith("/")))
            else:
                plain.append(fnmatch.translate(text))
        names = re.compile("|".join(plain)) if plain else None
        return cls(names, tuple(paths), kept)

    def __bool__(self) -> bool:
        return bool(self.texts)

    def hide(self, parent: HostDirectory, name: str, is_directory: bool) -> bool:
        """Tell whether a name does not exist in this view."""
        if self.names is not None and self.names.fullmatch(name):
            return True
        return any(path.matches(parent, name, is_directory) for path in self.paths)

    def lead_through(self, name: str) -> bool:
        """Tell whether a directory of this name may be what hides something in it."""
        return any(part.fullmatch(name) for path in self.paths for part in path.parts[:-1])


class Excluding(CanCreate, CanLink, CanRemove, CanRename, CanSetattr, CanXattr):
    """A directory without what the patterns hide; everything else is the directory's own."""

    __slots__ = ("inner", "patterns", "qid")

    def __init__(self, inner: HostDirectory, patterns: Patterns) -> None:
        self.inner = inner
        self.patterns = patterns
        self.qid = inner.qid

    @classmethod
    def over(cls, node: Node, patterns: Patterns) -> Node:
        """Give a view of a directory of the host, or of a view of one; other nodes as they are."""
        if isinstance(node, Excluding):
            return cls(node.inner, Patterns.parse([*node.patterns.texts, *patterns.texts]))
        return cls(node, patterns) if isinstance(node, HostDirectory) else node

    @property
    def caching(self) -> float:  # type: ignore[override]
        """For how long a door may remember it, as the directory says."""
        return self.inner.caching

    # Names ---------------------------------------------------------------------------------------

    def walk(self, name: str) -> Node:
        return self.lookup(name)[0]

    def lookup(self, name: str) -> tuple[Node, StatLike]:
        node, stat = self.inner.lookup(name)
        if self.patterns.hide(self.inner, name, isinstance(node, Directory)):
            raise Missing(name)
        return self._view(node), stat

    def readdir(self) -> list[str]:
        patterns, inner = self.patterns, self.inner
        return [
            name
            for name in inner.readdir()
            if not patterns.hide(inner, name, self._is_directory(name))
        ]

    def _is_directory(self, name: str) -> bool:
        # Asked of the host only where a pattern is for directories alone.
        if not any(path.directories for path in self.patterns.paths):
            return False
        try:
            return isinstance(self.inner.walk(name), Directory)
        except FileNotFoundError:
            return False

    def _view(self, node: Node) -> Node:
        return Excluding(node, self.patterns) if isinstance(node, HostDirectory) else node

    # Making --------------------------------------------------------------------------------------

    def create(self, name: str, flags: int, mode: int, caller: Caller) -> tuple[Node, Handle]:
        self._refuse(name)
        return self.inner.create(name, flags, mode, caller)

    def mkdir(self, name: str, mode: int, caller: Caller) -> Node:
        self._refuse(name, is_directory=True)
        return self._view(self.inner.mkdir(name, mode, caller))

    def mknod(self, name: str, mode: int, rdev: int, caller: Caller) -> Node:
        self._refuse(name)
        return self.inner.mknod(name, mode, rdev, caller)

    def symlink(self, name: str, target: str, caller: Caller) -> Node:
        self._refuse(name)
        self._refuse_leading(name)
        return self.inner.symlink(name, target, caller)

    def link(self, node: Node, name: str, caller: Caller) -> None:
        self._refuse(name)
        if isinstance(node, CanReadlink):
            self._refuse_leading(name)
        self.inner.link(node, name, caller)

    def _refuse(self, name: str, *, is_directory: bool = False) -> None:
        if self.patterns.hide(self.inner, name, is_directory):
            raise fault(errno.EPERM, f"{name!r} is excluded here; choose another name")

    def _refuse_leading(self, name: str) -> None:
        # What lies in such a directory is hidden because of its name.
        if self.patterns.lead_through(name):
            raise fault(errno.EPERM, f"{name!r} leads to what is excluded here, and stays")

    # Removing and moving -------------------------------------------------------------------------

    def unlink(self, name: str, caller: Caller) -> None:
        self.walk(name)
        self.inner.unlink(name, caller)

    def rmdir(self, name: str, caller: Caller) -> None:
        self.walk(name)
        self.inner.rmdir(name, caller)

    def rename(
        self, name: str, target: Directory, new_name: str, *, flags: int, caller: Caller
    ) -> None:
        if not isinstance(target, Excluding):
            raise fault(errno.EXDEV, "a rename stays within one view of the served directory")
        self._check_move(self.walk(name), name, target, new_name)
        if flags & RENAME_EXCHANGE:
            target._check_move(target.walk(new_name), new_name, self, name)
        self.inner.rename(name, target.inner, new_name, flags=flags, caller=caller)

    def _check_move(self, node: Node, name: str, target: "Excluding", new_name: str) -> None:
        target._refuse(new_name, is_directory=isinstance(node, Directory))
        if isinstance(node, Directory | CanReadlink):
            self._refuse_leading(name)
            target._refuse_leading(new_name)

    # Attributes ----------------------------------------------------------------------------------

    def stat(self) -> StatLike:
        return self.inner.stat()

    def setattr(self, changed: Changed, caller: Caller) -> None:
        self.inner.setattr(changed, caller)

    def getxattr(self, name: str) -> bytes:
        return self.inner.getxattr(name)

    def setxattr(self, name: str, value: bytes, caller: Caller) -> None:
        self.inner.setxattr(name, value, caller)

    def listxattr(self) -> list[str]:
        return self.inner.listxattr()

    def removexattr(self, name: str, caller: Caller) -> None:
        self.inner.removexattr(name, caller)
