"""Attributes of host files, and to whom new ones belong."""

import errno
import os
import stat as modes
from pathlib import Path

import pytest

from oanix.caller import Caller
from oanix.stat import Changed
from tests.service.workspaces import ME, Served, served

ALICE = Caller(uid=1234, gid=2345)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture(autouse=True)
def no_mask() -> None:
    """Let modes be what the test says, as the process of a mount does."""
    old = os.umask(0)
    yield
    os.umask(old)


async def test_mode_size_and_times_are_set_on_the_host(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    async with served(tmp_path) as at:
        channel = at.at("a")
        channel.setattr(ME, Changed(mode=0o604, size=2, atime_ns=1_000_000_001, mtime_ns=-5))
        stat = (tmp_path / "a").stat()
        assert modes.S_IMODE(stat.st_mode) == 0o604
        assert stat.st_size == 2
        assert (stat.st_atime_ns, stat.st_mtime_ns) == (1_000_000_001, -5)


async def test_one_time_is_set_and_the_other_stays(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    async with served(tmp_path) as at:
        channel = at.at("a")
        channel.setattr(ME, Changed(atime_ns=10, mtime_ns=20))
        channel.setattr(ME, Changed(mtime_ns=30))
        assert (channel.stat(ME).st_atime_ns, channel.stat(ME).st_mtime_ns) == (10, 30)
        channel.setattr(ME, Changed(atime_ns=40))
        assert (channel.stat(ME).st_atime_ns, channel.stat(ME).st_mtime_ns) == (40, 30)


async def test_a_time_out_of_range_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    async with served(tmp_path) as at:
        with pytest.raises(OSError, match="out of range") as error:
            at.at("a").setattr(ME, Changed(mtime_ns=1 << 100))
        assert error.value.errno == errno.EINVAL


async def test_the_attributes_of_a_symbolic_link_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "target").touch(mode=0o600)
    (tmp_path / "link").symlink_to("target")
    async with served(tmp_path) as at:
        link = at.at("link")
        link.setattr(ME, Changed(atime_ns=7, mtime_ns=8))
        assert link.stat(ME).st_mtime_ns == 8
        assert (tmp_path / "target").stat().st_mtime_ns != 8
        with pytest.raises(OSError, match="no mode") as error:
            link.setattr(ME, Changed(mode=0o777))
        assert error.value.errno == errno.EOPNOTSUPP
        assert modes.S_IMODE((tmp_path / "target").stat().st_mode) == 0o600


async def test_the_attributes_of_a_fifo_are_set_without_opening_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    async with served(tmp_path) as at:
        at.at("fifo").setattr(ME, Changed(mode=0o640, mtime_ns=5))
        stat = (tmp_path / "fifo").stat()
        assert (modes.S_IMODE(stat.st_mode), stat.st_mtime_ns) == (0o640, 5)


async def test_extended_attributes_are_those_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "d").mkdir()
    async with served(tmp_path) as at:
        for name in ("a", "d"):
            channel = at.at(name)
            channel.setxattr(ME, "user.\udcff", b"\0value")
            assert os.getxattr(tmp_path / name, b"user.\xff") == b"\0value"
            assert channel.getxattr(ME, "user.\udcff") == b"\0value"
            assert channel.listxattr(ME) == ["user.\udcff"]
            channel.removexattr(ME, "user.\udcff")
            assert channel.listxattr(ME) == []


@pytest.mark.parametrize(
    ("name", "value", "numbers"),
    [
        ("user." + "n" * 251, b"", (errno.ERANGE,)),
        ("user.x", b"v" * 65_537, (errno.E2BIG,)),
        ("nonsense", b"", (errno.EOPNOTSUPP,)),
        ("", b"", (errno.EINVAL,)),
        ("user.a\0b", b"", (errno.EINVAL,)),
    ],
)
async def test_an_impossible_extended_attribute_is_refused(
    tmp_path: Path, name: str, value: bytes, numbers: tuple[int, ...]
) -> None:
    (tmp_path / "a").touch()
    async with served(tmp_path) as at:
        with pytest.raises(OSError) as error:  # noqa: PT011
            at.at("a").setxattr(ME, name, value)
        assert error.value.errno in numbers


async def test_others_than_root_set_no_attribute_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    async with served(tmp_path) as at:
        for name in ("security.capability", "trusted.x"):
            with pytest.raises(PermissionError):
                at.at("a").setxattr(ALICE, name, b"x")
            with pytest.raises(PermissionError):
                at.at("a").removexattr(ALICE, name)


def make_all_kinds(at: Served, caller: Caller) -> list[os.stat_result]:
    at.root.create(caller, "file", os.O_RDWR, 0o644)[1].close(caller)
    at.root.mkdir(caller, "directory", 0o755)
    at.root.mknod(caller, "fifo", modes.S_IFIFO | 0o600, 0)
    at.root.mknod(caller, "node", modes.S_IFREG | 0o600, 0)
    at.root.symlink(caller, "link", "nowhere")
    names = ("file", "directory", "fifo", "node", "link")
    return [(at.folder / name).lstat() for name in names]


@needs_root
async def test_what_is_made_belongs_to_the_caller(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        for stat in make_all_kinds(at, ALICE):
            assert (stat.st_uid, stat.st_gid) == (1234, 2345)


@needs_root
async def test_a_set_gid_directory_passes_on_its_group_and_its_bit(tmp_path: Path) -> None:
    os.chown(tmp_path, 0, 777)
    os.chmod(tmp_path, 0o2777)
    async with served(tmp_path) as at:
        for stat in make_all_kinds(at, ALICE):
            assert (stat.st_uid, stat.st_gid) == (1234, 777)
        assert (tmp_path / "directory").stat().st_mode & modes.S_ISGID


@needs_root
async def test_set_uid_bits_given_at_creation_are_kept(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        for caller in (ME, ALICE):
            at.root.create(caller, "file", os.O_RDWR, 0o6755)[1].close(caller)
            at.root.mknod(caller, "node", modes.S_IFREG | 0o4711, 0)
            assert modes.S_IMODE((tmp_path / "file").stat().st_mode) == 0o6755
            assert modes.S_IMODE((tmp_path / "node").stat().st_mode) == 0o4711
            at.root.unlink(caller, "file")
            at.root.unlink(caller, "node")


@needs_root
async def test_set_uid_bits_are_cleared_when_others_than_root_write(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"text")
    async with served(tmp_path) as at:
        channel = at.at("a")
        file = await channel.open(ALICE, os.O_RDWR)

        path.chmod(0o6755)
        file.try_write(ALICE, b"x", 0)
        assert modes.S_IMODE(path.stat().st_mode) == 0o755
        path.chmod(0o6755)
        file.truncate(ALICE, 3)
        assert modes.S_IMODE(path.stat().st_mode) == 0o755
        path.chmod(0o6755)
        channel.setattr(ALICE, Changed(size=2))
        assert modes.S_IMODE(path.stat().st_mode) == 0o755
        path.chmod(0o6755)
        channel.setattr(ALICE, Changed(uid=1234, gid=2345))
        assert modes.S_IMODE(path.stat().st_mode) == 0o755
        path.chmod(0o6755)
        (await channel.open(ALICE, os.O_WRONLY | os.O_TRUNC)).close(ALICE)
        assert modes.S_IMODE(path.stat().st_mode) == 0o755
        file.close(ALICE)


@needs_root
async def test_mandatory_locking_is_no_privilege(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    async with served(tmp_path) as at:
        file = await at.at("a").open(ALICE, os.O_RDWR)
        path.chmod(0o2744)
        file.try_write(ALICE, b"x", 0)
        assert modes.S_IMODE(path.stat().st_mode) == 0o2744
        file.close(ALICE)


@needs_root
async def test_root_keeps_set_uid_bits_when_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    path.chmod(0o6755)
    async with served(tmp_path) as at:
        file = await at.at("a").open(ME, os.O_RDWR)
        file.try_write(ME, b"x", 0)
        assert modes.S_IMODE(path.stat().st_mode) == 0o6755
        file.close(ME)


@needs_root
async def test_owner_and_mode_set_together_are_both_as_asked(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    async with served(tmp_path) as at:
        at.at("a").setattr(ME, Changed(uid=1, gid=2, mode=0o4755))
        stat = (tmp_path / "a").stat()
        assert (stat.st_uid, stat.st_gid, modes.S_IMODE(stat.st_mode)) == (1, 2, 0o4755)
