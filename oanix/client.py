"""Client: a namespace's tree for code in this process: agents, the command line, the HTTP shim.

Paths are those of the namespace; a relative one begins at its root. Metadata is answered at once,
by plain methods; what may wait is `async`. Every method raises OSError as the Linux call that it is
named after, with a sentence. The modes of files are the service's to check, the rights of mounts
are checked by the channel.
"""

import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NoReturn

from attrs import frozen

from oanix import path as paths
from oanix.caller import Caller
from oanix.channel import Channel, OpenFile
from oanix.errors import Missing, fault
from oanix.file import CHUNK, File, deadline
from oanix.namespace import Namespace
from oanix.stat import StatLike

__all__ = ["CHUNK", "Client", "Entry", "File"]

_RETRIES = 8
"""How often a name may come and go between a look and a creation (two users of one folder)."""


@frozen
class Entry:
    """One file of a tree: its path and depth, and its attributes, or the error in place of them.

    listed is false for a file that a program which reads every file should leave alone, as it never
    ends or as opening it makes something. A directory that cannot be listed has stat and error.
    """

    path: str
    depth: int
    stat: StatLike | None
    error: OSError | None = None
    listed: bool = True


class Client:
    """A namespace as one caller uses it."""

    def __init__(self, namespace: Namespace, caller: Caller | None = None) -> None:
        self.namespace = namespace
        self.caller = caller or Caller(door="client")

    # Content -------------------------------------------------------------------------------------

    async def read(
        self, path: str, *, limit: int | None = None, within: float | None = None
    ) -> bytes:
        """Read a file to its end.

        Raises OSError: EFBIG for more than `limit` bytes, ETIMEDOUT when the end has not come
        within so many seconds. What a stream has given by then is lost: to keep it, open the file
        and read it in pieces.
        """
        pieces: list[bytes] = []
        size = 0
        with deadline(within, path):
            async with self.open(path) as file:
                async for piece in file:
                    size += len(piece)
                    if limit is not None and size > limit:
                        raise fault(errno.EFBIG, f"the file has more than {limit} bytes", path)
                    pieces.append(piece)
        return b"".join(pieces)

    async def read_text(
        self, path: str, *, limit: int | None = None, within: float | None = None
    ) -> str:
        """Read a file as UTF-8; bytes that are none survive, as they do in names."""
        return paths.decode(await self.read(path, limit=limit, within=within))

    async def write(
        self,
        path: str,
        data: bytes | str,
        *,
        append: bool = False,
        create: bool = True,
        mode: int = 0o644,
    ) -> None:
        """Write a whole file in place of what it holds, or at its end, and make it if need be.

        When this returns, the service has taken all of it and its `flush` has reported no error.
        """
        flags = os.O_WRONLY | (os.O_APPEND if append else os.O_TRUNC)
        async with self.open(path, flags | (os.O_CREAT if create else 0), mode) as file:
            await file.write(paths.encode(data) if isinstance(data, str) else data)

    @asynccontextmanager
    async def open(
        self, path: str, flags: int = os.O_RDONLY, mode: int = 0o644
    ) -> AsyncIterator[File]:
        """Open a file as open(2) does, for as long as the block; leaving it may report an error.

        Honours O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_NOFOLLOW, O_NONBLOCK and the access mode. A
        directory is EISDIR whatever the flags: it is read with `listdir`.
        """
        file = File(await self._open(path, flags, mode), self.caller)
        try:
            yield file
        except BaseException:
            # What went wrong inside is the news, not what a flush would add to it.
            file.release()
            raise
        file.close()

    async def _open(self, path: str, flags: int, mode: int) -> OpenFile:
        if not flags & os.O_CREAT:
            channel = self.channel(path, follow=not flags & os.O_NOFOLLOW)
            return await self._open_found(channel, flags, path)
        if path.endswith("/"):
            raise fault(errno.EISDIR, "a path that ends with '/' names a directory", path)
        here, links, tries = path, 0, 0
        while True:
            head, name = self._parent(here, errno.EISDIR)
            try:
                found = head.walk(self.caller, name)
            except FileNotFoundError:
                try:
                    return head.create(self.caller, name, flags, mode)[1]
                except FileExistsError:
                    tries += 1
                    if flags & os.O_EXCL or tries > _RETRIES:
                        raise
                    continue
            if flags & os.O_EXCL:
                raise fault(errno.EEXIST, "the file exists", path)
            if not found.is_symlink:
                return await self._open_found(found, flags, path)
            links += 1
            if flags & os.O_NOFOLLOW or links > paths.SYMLINK_MAX:
                raise fault(errno.ELOOP, "a symbolic link, or too many of them", path)
            here = _linked(head, found.readlink(self.caller))

    async def _open_found(self, channel: Channel, flags: int, path: str) -> OpenFile:
        if channel.is_symlink:
            raise fault(errno.ELOOP, "this is a symbolic link", path)
        if flags & os.O_DIRECTORY and not channel.is_directory:
            raise fault(errno.ENOTDIR, "this is no directory", path)
        return await channel.open(self.caller, flags & ~(os.O_CREAT | os.O_EXCL))

    # Names ---------------------------------------------------------------------------------------

    def channel(self, path: str, *, follow: bool = True) -> Channel:
        """Find a path, for what has no method here (attributes, extended attributes, statfs)."""
        return self.namespace.resolve(self.caller, path, follow=follow)

    def stat(self, path: str, *, follow: bool = True) -> StatLike:
        """Give the attributes of a file, or with follow=False those of a symbolic link itself."""
        return self.channel(path, follow=follow).stat(self.caller)

    def exists(self, path: str) -> bool:
        """Tell whether a path leads to a file. Raises OSError for what prevents the answer."""
        try:
            self.channel(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def listdir(self, path: str = "/") -> list[str]:
        """List the names in a directory, as the service orders them."""
        return self.channel(path).readdir(self.caller)

    def tree(self, path: str = "/") -> Iterator[Entry]:
        """Go through a directory and all beneath it, names in order, symbolic links not followed.

        A name that vanishes meanwhile is left out; any other error is an entry of its own, so that
        one closed directory does not hide the rest. A path may be long: this does not recurse.
        """
        top = self.channel(path, follow=False)
        children, entry = self._looked(top, top.stat(self.caller), 0)
        yield entry
        todo = [(top, name, 1) for name in children]
        while todo:
            parent, name, depth = todo.pop()
            try:
                channel, stat = parent.lookup(self.caller, name)
            except FileNotFoundError:
                continue
            except OSError as error:
                where = paths.join([*paths.split(parent.path), name])
                yield Entry(where, depth, None, error)
                continue
            children, entry = self._looked(channel, stat, depth)
            yield entry
            todo += [(channel, child, depth + 1) for child in children]

    def _looked(self, channel: Channel, stat: StatLike, depth: int) -> tuple[list[str], Entry]:
        # The entry, and the names beneath it in reverse order, as they are popped from a stack.
        names: list[str] = []
        failed: OSError | None = None
        if channel.is_directory:
            try:
                names = sorted(channel.readdir(self.caller), reverse=True)
            except OSError as error:
                failed = error
        return names, Entry(channel.path, depth, stat, failed, channel.listed)

    def readlink(self, path: str) -> str:
        """Give the target of a symbolic link as it was written."""
        return self.channel(path, follow=False).readlink(self.caller)

    # Changes -------------------------------------------------------------------------------------

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        """Make a directory (mkdir(2))."""
        head, name = self._parent(path, errno.EEXIST)
        head.mkdir(self.caller, name, mode)

    def makedirs(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and those that lead to it, as far as they are missing (`mkdir -p`)."""
        here = self.namespace.root
        for name in paths.split(path):
            if name == "..":
                here = here.parent or here
                continue
            try:
                here = here.mkdir(self.caller, name, mode)[0]
            except OSError as error:
                # A read-only or foreign directory on the way says more than EEXIST.
                try:
                    here = self._followed(here, name)
                except FileNotFoundError:
                    raise error from None
        if not here.is_directory:
            raise fault(errno.EEXIST, "the path exists and is no directory", path)

    def _followed(self, head: Channel, name: str) -> Channel:
        found = head.walk(self.caller, name)
        return self.channel(found.path) if found.is_symlink else found

    def unlink(self, path: str) -> None:
        """Remove a name that is no directory (unlink(2))."""
        head, name = self._parent(path, errno.EISDIR, directory=False)
        head.unlink(self.caller, name)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory (rmdir(2))."""
        head, name = self._parent(path, errno.EINVAL)
        head.rmdir(self.caller, name)

    def rename(self, source: str, target: str, flags: int = 0) -> None:
        """Move a name; flags are renameat2(2)'s NOREPLACE and EXCHANGE."""
        head, name = self._parent(source, errno.EBUSY)
        new_head, new_name = self._parent(target, errno.EBUSY)
        slash = source.endswith("/") or target.endswith("/")
        if slash and not head.walk(self.caller, name).is_directory:
            raise fault(errno.ENOTDIR, "a path that ends with '/' names a directory", source)
        head.rename(self.caller, name, new_head, new_name, flags)

    def symlink(self, target: str, path: str) -> None:
        """Make a symbolic link at the path (symlink(2))."""
        head, name = self._parent(path, errno.EEXIST, directory=False)
        head.symlink(self.caller, name, target)

    def link(self, source: str, path: str) -> None:
        """Give an existing file one more name; a symbolic link is not followed (link(2))."""
        found = self.channel(source, follow=False)
        head, name = self._parent(path, errno.EEXIST, directory=False)
        head.link(self.caller, found, name)

    def _parent(self, path: str, number: int, *, directory: bool = True) -> tuple[Channel, str]:
        # number: the errno of this call for a path that has no last name of its own (`/`, `a/..`).
        names = paths.split(path)
        if not names or names[-1] == ".." or path.endswith("/."):
            self.channel(path)
            raise fault(number, "this path has no last name of its own", path)
        head, name = self.namespace.resolve_parent(self.caller, path)
        if path.endswith("/") and not directory:
            self._refuse_slash(head, name, number, path)
        return head, name

    def _refuse_slash(self, head: Channel, name: str, number: int, path: str) -> NoReturn:
        # Only a directory's name may be written with a slash behind it (path_resolution(7)).
        try:
            is_directory = head.walk(self.caller, name).is_directory
        except Missing:
            is_directory = True
            number = errno.ENOENT
        sentence = "a path that ends with '/' names a directory"
        raise fault(number if is_directory else errno.ENOTDIR, sentence, path)


def _linked(head: Channel, target: str) -> str:
    # head.path holds no symbolic links, so `..` in the target means the same after joining.
    return target if target.startswith("/") else f"{head.path}/{target}"
