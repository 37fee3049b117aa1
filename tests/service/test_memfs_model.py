"""MemFs does what Linux's own file system does: each operation on both, then the whole tree."""

import ctypes
import errno
import os
import shutil
import stat as modes
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from oanix.caller import Caller
from oanix.channel import Channel
from oanix.namespace import Namespace
from oanix.services.memfs import MemFs
from oanix.stat import Changed

ME = Caller(uid=os.geteuid(), gid=os.getegid(), groups=tuple(os.getgroups()))
NAMES = ("a", "b", "c")
AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)

paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
sizes = st.sampled_from((0, 1, 4095, 4096, 5000, 65_535, 65_536, 65_537, 200_000))
permissions = st.integers(0, 0o7777).map(lambda mode: mode | 0o600)


class Ours:
    """The calls on MemFs, as paths and numbers."""

    def __init__(self) -> None:
        self.namespace = Namespace()
        self.namespace.mount(MemFs(mode=0o755), "/")

    def at(self, path: str, *, follow: bool = False) -> Channel:
        return self.namespace.resolve(ME, "/" + path, follow=follow)

    def parent(self, path: str) -> tuple[Channel, str]:
        parent, name = self.namespace.resolve_parent(ME, "/" + path)
        if not parent.is_directory:
            raise OSError(errno.ENOTDIR, "the answer of a path that leads through a file")
        return parent, name

    def create(self, path: str, mode: int) -> None:
        parent, name = self.parent(path)
        parent.create(ME, name, os.O_RDWR, mode)[1].close(ME)

    def write(self, path: str, data: bytes, offset: int, flags: int) -> int:
        async def write() -> int:
            opened = await self.at(path, follow=True).open(ME, os.O_WRONLY | flags)
            try:
                return await opened.write(ME, data, offset)
            finally:
                opened.close(ME)

        return trio.run(write)

    def truncate(self, path: str, size: int) -> None:
        channel = self.at(path, follow=True)
        if channel.is_directory:
            raise OSError(errno.EISDIR, "the door's answer")
        channel.setattr(ME, Changed(size=size))

    def mkdir(self, path: str, mode: int) -> None:
        parent, name = self.parent(path)
        parent.mkdir(ME, name, mode)

    def mkfifo(self, path: str, mode: int) -> None:
        parent, name = self.parent(path)
        parent.mknod(ME, name, modes.S_IFIFO | mode, 0)

    def symlink(self, target: str, path: str) -> None:
        parent, name = self.parent(path)
        parent.symlink(ME, name, target)

    def link(self, source: str, path: str) -> None:
        channel = self.at(source)
        parent, name = self.parent(path)
        parent.link(ME, channel, name)

    def unlink(self, path: str) -> None:
        parent, name = self.parent(path)
        parent.unlink(ME, name)

    def rmdir(self, path: str) -> None:
        parent, name = self.parent(path)
        parent.rmdir(ME, name)

    def rename(self, path: str, target: str, flags: int) -> None:
        old, name = self.parent(path)
        new, new_name = self.parent(target)
        old.rename(ME, name, new, new_name, flags)

    def chmod(self, path: str, mode: int) -> None:
        self.at(path, follow=True).setattr(ME, Changed(mode=mode))

    def tree(self) -> dict[str, object]:
        return trio.run(self._tree)

    async def _tree(self) -> dict[str, object]:
        found: dict[str, object] = {}
        todo = [("", self.namespace.root)]
        while todo:
            path, channel = todo.pop()
            found[path] = _shown(channel.stat(ME)), await self.content(channel)
            if channel.is_directory:
                names = channel.readdir(ME)
                assert len(names) == len(set(names))
                todo += [(f"{path}/{name}", channel.walk(ME, name)) for name in names]
        return found

    async def content(self, channel: Channel) -> object:
        mode = channel.stat(ME).st_mode
        if modes.S_ISLNK(mode):
            return channel.readlink(ME)
        if not modes.S_ISREG(mode):
            return None
        opened = await channel.open(ME, os.O_RDONLY)
        try:
            return opened.try_read(ME, 1 << 20, 0)
        finally:
            opened.close(ME)


class Theirs:
    """The same calls on a directory of the host."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="oanix-model-"))
        self.root.chmod(0o755)

    def close(self) -> None:
        shutil.rmtree(self.root)

    def at(self, path: str) -> str:
        return f"{self.root}/{path}"

    def create(self, path: str, mode: int) -> None:
        os.close(os.open(self.at(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode))

    def write(self, path: str, data: bytes, offset: int, flags: int) -> int:
        descriptor = os.open(self.at(path), os.O_WRONLY | os.O_NONBLOCK | flags)
        try:
            return os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self.at(path), size)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self.at(path), mode)

    def mkfifo(self, path: str, mode: int) -> None:
        os.mkfifo(self.at(path), mode)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self.at(path))

    def link(self, source: str, path: str) -> None:
        os.link(self.at(source), self.at(path), follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(self.at(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(self.at(path))

    def rename(self, path: str, target: str, flags: int) -> None:
        old, new = os.fsencode(self.at(path)), os.fsencode(self.at(target))
        if _libc.renameat2(AT_FDCWD, old, AT_FDCWD, new, flags):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.at(path), mode)

    def tree(self) -> dict[str, object]:
        found: dict[str, object] = {}
        todo = [""]
        while todo:
            path = todo.pop()
            stat = os.lstat(f"{self.root}{path}")
            content: object = None
            if modes.S_ISLNK(stat.st_mode):
                content = os.readlink(f"{self.root}{path}")
            elif modes.S_ISREG(stat.st_mode):
                content = Path(f"{self.root}{path}").read_bytes()
            elif modes.S_ISDIR(stat.st_mode):
                todo += [f"{path}/{name}" for name in os.listdir(f"{self.root}{path}")]
            found[path] = _shown(stat), content
        return found


def _shown(stat: object) -> tuple[object, ...]:
    fields = ["st_mode", "st_nlink", "st_uid", "st_gid"]
    if not modes.S_ISDIR(stat.st_mode):  # type: ignore[attr-defined]
        fields.append("st_size")
    return tuple(getattr(stat, field) for field in fields)


def _answer(call: Callable[[], object]) -> object:
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


class TwoFileSystems(RuleBasedStateMachine):
    """Ours and the host's, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.ours, self.theirs = Ours(), Theirs()
        self.old_umask = os.umask(0)

    def teardown(self) -> None:
        os.umask(self.old_umask)
        self.theirs.close()

    def both(self, call: str, *arguments: object) -> None:
        ours = _answer(lambda: getattr(self.ours, call)(*arguments))
        theirs = _answer(lambda: getattr(self.theirs, call)(*arguments))
        assert ours == theirs, f"{call}{arguments}: ours {ours!r}, theirs {theirs!r}"

    @rule(path=paths, mode=permissions)
    def create(self, path: str, mode: int) -> None:
        self.both("create", path, mode)

    @rule(
        path=paths,
        data=st.binary(max_size=20),
        offset=sizes,
        flags=st.sampled_from((0, os.O_TRUNC)),
    )
    def write(self, path: str, data: bytes, offset: int, flags: int) -> None:
        try:
            special = not modes.S_ISREG(os.stat(self.theirs.at(path)).st_mode)
        except OSError:
            special = False
        if not special:
            self.both("write", path, data, offset, flags)

    @rule(path=paths, size=sizes)
    def truncate(self, path: str, size: int) -> None:
        self.both("truncate", path, size)

    @rule(path=paths, mode=permissions)
    def mkdir(self, path: str, mode: int) -> None:
        self.both("mkdir", path, mode | 0o700)

    @rule(path=paths, mode=permissions)
    def mkfifo(self, path: str, mode: int) -> None:
        self.both("mkfifo", path, mode)

    @rule(path=paths, points_to=paths)
    def symlink(self, path: str, points_to: str) -> None:
        self.both("symlink", points_to, path)

    @rule(path=paths, source=paths)
    def link(self, path: str, source: str) -> None:
        self.both("link", source, path)

    @rule(path=paths)
    def unlink(self, path: str) -> None:
        self.both("unlink", path)

    @rule(path=paths)
    def rmdir(self, path: str) -> None:
        self.both("rmdir", path)

    @rule(path=paths, new_path=paths, flags=st.sampled_from((0, 0, 0, 1, 2, 2)))
    def rename(self, path: str, new_path: str, flags: int) -> None:
        self.both("rename", path, new_path, flags)

    @rule(path=paths, mode=permissions)
    def chmod(self, path: str, mode: int) -> None:
        self.both("chmod", path, mode | 0o700)

    @invariant()
    def trees_are_equal(self) -> None:
        assert self.ours.tree() == self.theirs.tree()


TwoFileSystems.TestCase.settings = settings(
    settings.get_profile("ci"), max_examples=60, stateful_step_count=40
)
TestTwoFileSystems = pytest.mark.slow(TwoFileSystems.TestCase)
