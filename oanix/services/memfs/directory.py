"""A directory in memory: names, and what makes, removes and moves them."""

import errno
import os
import stat as modes

from oanix import path as paths
from oanix.caller import Caller
from oanix.errors import Missing, fault
from oanix.node import CanCreate, CanLink, CanRemove, CanRename, Directory, Node
from oanix.services.memfs.file import MemFile, MemHandle
from oanix.services.memfs.node import MemLink, MemNode, MemSpecial, Place, in_group
from oanix.stat import Stat

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

_SPECIAL = (modes.S_IFCHR, modes.S_IFBLK, modes.S_IFIFO, modes.S_IFSOCK)


class MemDirectory(MemNode, CanCreate, CanLink, CanRemove, CanRename):
    """A directory. Removed while in use it stays, empty for good (rmdir(2))."""

    def __init__(
        self,
        place: Place,
        mode: int,
        uid: int,
        gid: int,
        parent: "MemDirectory | None" = None,
    ) -> None:
        super().__init__(place, mode, uid, gid)
        self.entries: dict[str, MemNode] = {}
        self.parent = parent
        self.nlink = 2

    # Reading -------------------------------------------------------------------------------------

    def walk(self, name: str) -> MemNode:
        try:
            return self.entries[name]
        except KeyError:
            raise Missing(name) from None

    def lookup(self, name: str) -> tuple[Node, Stat]:
        node = self.walk(name)
        return node, node.stat()

    def readdir(self) -> list[str]:
        self.accessed()
        return list(self.entries)

    # Making --------------------------------------------------------------------------------------

    def create(self, name: str, flags: int, mode: int, caller: Caller) -> tuple[Node, MemHandle]:
        self._require_free(name, caller)
        node = self._make_file(name, mode, caller)
        return node, node.opened(flags & ~os.O_DIRECTORY, caller)

    def _make_file(self, name: str, mode: int, caller: Caller) -> MemFile:
        node = MemFile(self.place, self._file_mode(mode, caller), caller.uid, self._gid(caller))
        self._enter(name, node)
        return node

    def mkdir(self, name: str, mode: int, caller: Caller) -> Node:
        self._require_free(name, caller)
        mode = modes.S_IFDIR | (mode & 0o1777) | (self.mode & modes.S_ISGID)
        node = MemDirectory(self.place, mode, caller.uid, self._gid(caller), self)
        self._enter(name, node)
        return node

    def mknod(self, name: str, mode: int, rdev: int, caller: Caller) -> Node:
        kind = modes.S_IFMT(mode)
        if kind == modes.S_IFDIR:
            raise fault(errno.EPERM, "a directory is made with mkdir")
        if kind not in (0, modes.S_IFREG, *_SPECIAL):
            raise fault(errno.EINVAL, f"mode {mode:o} names no kind of file that can be made")
        device = kind in (modes.S_IFCHR, modes.S_IFBLK)
        if device and caller.uid:
            raise fault(errno.EPERM, "only root makes devices")
        self._require_free(name, caller)
        if kind in (0, modes.S_IFREG):
            return self._make_file(name, mode, caller)
        mode = kind | (mode & 0o7777)
        node = MemSpecial(self.place, mode, caller.uid, self._gid(caller), rdev if device else 0)
        self._enter(name, node)
        return node

    def symlink(self, name: str, target: str, caller: Caller) -> Node:
        if not target:
            raise fault(errno.ENOENT, "a symbolic link points somewhere")
        size = len(paths.encode(target))
        if size > paths.PATH_MAX:
            raise fault(errno.ENAMETOOLONG, f"a path has at most {paths.PATH_MAX} bytes")
        self._require_free(name, caller, size)
        node = MemLink(self.place, target, caller.uid, self._gid(caller))
        self._enter(name, node)
        return node

    def link(self, node: Node, name: str, caller: Caller) -> None:
        if not isinstance(node, MemNode) or isinstance(node, MemDirectory):
            raise fault(errno.EPERM, "only a file of this file system takes one more name")
        self._require_alive()
        if name in self.entries:
            raise fault(errno.EEXIST, f"{name!r} exists")
        node.named()
        self._enter(name, node)

    def _require_alive(self) -> None:
        if not self.nlink:
            raise fault(errno.ENOENT, "this directory was removed")

    def _require_free(self, name: str, caller: Caller, size: int = 0) -> None:
        self._require_alive()
        if name in self.entries:
            raise fault(errno.EEXIST, f"{name!r} exists")
        self.place.space.check(caller.uid, size, 1)

    def _gid(self, caller: Caller) -> int:
        # A set-gid directory passes its group on (inode_init_owner in fs/inode.c).
        return self.gid if self.mode & modes.S_ISGID else caller.gid

    def _file_mode(self, mode: int, caller: Caller) -> int:
        mode &= 0o7777
        program = modes.S_ISGID | modes.S_IXGRP
        if mode & program == program and not in_group(self._gid(caller), caller):
            # Nobody makes a set-gid program of a group that he is not in (CVE-2018-13405).
            mode &= ~modes.S_ISGID
        return modes.S_IFREG | mode

    def _enter(self, name: str, node: MemNode) -> None:
        self.entries[name] = node
        if isinstance(node, MemDirectory):
            node.parent = self
            self.nlink += 1
        self.touched(content=True)

    def _leave(self, name: str) -> MemNode:
        node = self.entries.pop(name)
        if isinstance(node, MemDirectory):
            self.nlink -= 1
        self.touched(content=True)
        return node

    # Removing ------------------------------------------------------------------------------------

    def unlink(self, name: str, caller: Caller) -> None:
        if isinstance(self.walk(name), MemDirectory):
            raise fault(errno.EISDIR, f"{name!r} is a directory; use rmdir")
        self._leave(name).unnamed()

    def rmdir(self, name: str, caller: Caller) -> None:
        node = self.walk(name)
        if not isinstance(node, MemDirectory):
            raise fault(errno.ENOTDIR, f"{name!r} is no directory")
        if node.entries:
            raise fault(errno.ENOTEMPTY, f"{name!r} is not empty")
        self._leave(name)
        node.gone()

    def gone(self) -> None:
        """Note that it was removed: nothing can be made in it from now on."""
        self.nlink = 0
        self.parent = None
        self.touched()
        self.release()

    # Moving --------------------------------------------------------------------------------------

    def rename(
        self, name: str, target: Directory, new_name: str, *, flags: int, caller: Caller
    ) -> None:
        """Move a name; the errors and their order are those of renameat2(2) on Linux."""
        if not isinstance(target, MemDirectory):
            raise fault(errno.EXDEV, "a rename stays within one file system")
        node = self.walk(name)
        target._require_alive()
        old = target.entries.get(new_name)
        if old is not None and flags & RENAME_NOREPLACE:
            raise fault(errno.EEXIST, f"{new_name!r} exists")
        if old is None and flags & RENAME_EXCHANGE:
            raise Missing(new_name)
        if target._lies_in(node):
            raise fault(errno.EINVAL, "a directory cannot move into itself")
        if old is not None and self._lies_in(old):
            if flags & RENAME_EXCHANGE:
                raise fault(errno.EINVAL, "a directory cannot move into itself")
            raise fault(errno.ENOTEMPTY, f"{new_name!r} is not empty")
        if node is old:
            return
        if flags & RENAME_EXCHANGE:
            assert old is not None
            self._leave(name)
            target._leave(new_name)
            self._enter(name, old)
            target._enter(new_name, node)
            old.touched()
        else:
            if old is not None:
                _check_replaced(node, old, new_name)
                target._drop(new_name, old)
            self._leave(name)
            target._enter(new_name, node)
        node.touched()

    def _drop(self, name: str, old: MemNode) -> None:
        self._leave(name)
        if isinstance(old, MemDirectory):
            old.gone()
        else:
            old.unnamed()

    def _lies_in(self, node: MemNode) -> bool:
        # Whether the node is this directory or one above it.
        here: MemDirectory | None = self if isinstance(node, MemDirectory) else None
        while here is not None:
            if here is node:
                return True
            here = here.parent
        return False


def _check_replaced(node: MemNode, old: MemNode, name: str) -> None:
    if isinstance(node, MemDirectory):
        if not isinstance(old, MemDirectory):
            raise fault(errno.ENOTDIR, f"{name!r} is no directory")
        if old.entries:
            raise fault(errno.ENOTEMPTY, f"{name!r} is not empty")
    elif isinstance(old, MemDirectory):
        raise fault(errno.EISDIR, f"{name!r} is a directory")
