"""WorkspaceFs does to the host what it is asked to, and shows what the host has."""

import errno
import os
import stat as modes
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oanix.caller import Caller
from oanix.node import WOULD_BLOCK
from oanix.services.workspace import WorkspaceFs
from oanix.stat import Changed
from tests.service.workspaces import ME, content, file_system, on_host, served

if TYPE_CHECKING:
    from oanix.service import Service

RDWR = os.O_RDWR


async def test_a_file_made_here_is_on_the_host_with_its_mode_and_content(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        _, file, stat = at.root.create(ME, "a", RDWR, 0o640)
        assert file.try_write(ME, b"hello", 0) == 5
        file.close(ME)
        assert modes.S_IMODE(stat.st_mode) == 0o640
        assert (tmp_path / "a").read_bytes() == b"hello"


async def test_a_file_of_the_host_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    async with served(tmp_path) as at:
        file = await at.at("a").open(ME, os.O_RDONLY)
        assert content(file) == b"text"
        assert file.try_read(ME, 10, 4) == b""
        assert file.try_read(ME, 0, 0) == b""
        assert not file.direct
        file.close(ME)


async def test_a_read_in_a_thread_gives_what_a_read_at_once_gives(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 64)
    async with served(tmp_path) as at:
        file = await at.at("a").open(ME, os.O_RDONLY)
        at_once = file.try_read(ME, 100, 5000)
        assert at_once is WOULD_BLOCK or at_once == await file.read(ME, 100, 5000)
        assert await file.read(ME, 100, 5000) == (bytes(range(256)) * 64)[5000:5100]
        file.close(ME)


async def test_data_that_is_not_in_memory_is_not_waited_for(tmp_path: Path) -> None:
    if file_system(tmp_path) not in ("ext2/ext3", "xfs", "btrfs"):
        pytest.skip("this needs a file system with a disk")
    path = tmp_path / "a"
    path.write_bytes(os.urandom(1 << 20))
    on_host(tmp_path, "sync a")
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    async with served(tmp_path) as at:
        file = await at.at("a").open(ME, os.O_RDONLY)
        assert file.try_read(ME, 4096, 1 << 19) is WOULD_BLOCK
        assert await file.read(ME, 4096, 1 << 19) == path.read_bytes()[1 << 19 :][:4096]
        file.close(ME)


async def test_names_that_are_no_text_survive_unharmed(tmp_path: Path) -> None:
    raw = b"\xff\xfe \xe9\n"
    (tmp_path / os.fsdecode(raw)).write_bytes(b"x")
    async with served(tmp_path) as at:
        assert at.root.readdir(ME) == ["\udcff\udcfe \udce9\n"]
        assert at.at("\udcff\udcfe \udce9\n").stat(ME).st_size == 1
        at.root.mkdir(ME, "\udc80", 0o755)
        assert b"\x80" in os.listdir(os.fsencode(tmp_path))


async def test_directories_are_made_listed_and_removed(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        channel, stat = at.root.mkdir(ME, "d", 0o750)
        assert modes.S_ISDIR(stat.st_mode)
        channel.create(ME, "f", RDWR, 0o600)[1].close(ME)
        assert channel.readdir(ME) == ["f"]
        with pytest.raises(OSError, match="not empty") as error:
            at.root.rmdir(ME, "d")
        assert error.value.errno == errno.ENOTEMPTY
        channel.unlink(ME, "f")
        at.root.rmdir(ME, "d")
        assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("operation", "number"),
    [
        (lambda root: root.create(ME, "file", RDWR, 0o600), errno.EEXIST),
        (lambda root: root.mkdir(ME, "file", 0o700), errno.EEXIST),
        (lambda root: root.symlink(ME, "file", "x"), errno.EEXIST),
        (lambda root: root.walk(ME, "none"), errno.ENOENT),
        (lambda root: root.walk(ME, "file").walk(ME, "x"), errno.ENOTDIR),
        (lambda root: root.unlink(ME, "none"), errno.ENOENT),
        (lambda root: root.unlink(ME, "folder"), errno.EISDIR),
        (lambda root: root.rmdir(ME, "file"), errno.ENOTDIR),
        (lambda root: root.rmdir(ME, "none"), errno.ENOENT),
        (lambda root: root.rename(ME, "none", root, "x"), errno.ENOENT),
        (lambda root: root.rename(ME, "folder", root.walk(ME, "folder"), "x"), errno.EINVAL),
        (lambda root: root.rename(ME, "file", root, "folder"), errno.EISDIR),
        (lambda root: root.rename(ME, "folder", root, "file"), errno.ENOTDIR),
        (lambda root: root.rename(ME, "file", root, "link", 1), errno.EEXIST),
        (lambda root: root.link(ME, root.walk(ME, "file"), "link"), errno.EEXIST),
        (lambda root: root.link(ME, root.walk(ME, "folder"), "x"), errno.EPERM),
        (lambda root: root.walk(ME, "file").readlink(ME), errno.EINVAL),
        (lambda root: root.symlink(ME, "x", ""), errno.ENOENT),
        (lambda root: root.walk(ME, "file").getxattr(ME, "user.none"), errno.ENODATA),
        (lambda root: root.walk(ME, "file").getxattr(ME, "a\0b"), errno.EINVAL),
    ],
)
async def test_what_linux_refuses_is_refused_with_the_same_errno(
    tmp_path: Path, operation, number: int
) -> None:
    on_host(tmp_path, "touch file; mkdir folder; ln -s file link")
    async with served(tmp_path) as at:
        with pytest.raises(OSError) as error:  # noqa: PT011
            operation(at.root)
        assert error.value.errno == number


async def test_a_rename_moves_the_node_with_what_is_beneath_it(tmp_path: Path) -> None:
    on_host(tmp_path, "mkdir a b; echo text > a/f")
    async with served(tmp_path) as at:
        directory, file = at.at("a"), at.at("a/f")
        at.root.rename(ME, "a", at.at("b"), "c")
        assert file.stat(ME).st_size == 5
        assert directory.readdir(ME) == ["f"]
        assert at.at("b/c").key == directory.key
        assert at.at("b/c/f").key == file.key


async def test_a_rename_over_a_file_leaves_the_open_one_usable(tmp_path: Path) -> None:
    on_host(tmp_path, "echo old > a; echo new > b")
    async with served(tmp_path) as at:
        old = at.at("a")
        file = await old.open(ME, RDWR)
        at.root.rename(ME, "b", at.root, "a")
        assert content(file) == b"old\n"
        assert old.stat(ME).st_nlink == 0
        assert at.at("a").key != old.key
        file.close(ME)
        with pytest.raises(OSError, match="look it up again") as error:
            old.stat(ME)
        assert error.value.errno == errno.ESTALE


async def test_an_exchange_swaps_two_nodes(tmp_path: Path) -> None:
    on_host(tmp_path, "echo a > a; mkdir b; echo f > b/f")
    async with served(tmp_path) as at:
        file, directory = at.at("a"), at.at("b")
        at.root.rename(ME, "a", at.root, "b", 2)
        assert at.at("b").key == file.key
        assert at.at("a").key == directory.key
        assert file.stat(ME).st_size == 2
        assert directory.readdir(ME) == ["f"]


async def test_an_unlinked_file_that_is_open_can_be_written_and_read(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        channel, file, _ = at.root.create(ME, "a", RDWR, 0o600)
        at.root.unlink(ME, "a")
        file.try_write(ME, b"still", 0)
        channel.setattr(ME, Changed(mode=0o644))
        assert content(file) == b"still"
        assert file.stat().st_nlink == 0
        assert modes.S_IMODE(channel.stat(ME).st_mode) == 0o644
        again = await channel.open(ME, os.O_RDONLY)
        assert content(again) == b"still"
        again.close(ME)
        file.close(ME)


async def test_two_appending_handles_never_overwrite_each_other(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        channel, one, _ = at.root.create(ME, "log", os.O_WRONLY | os.O_APPEND, 0o600)
        two = await channel.open(ME, os.O_WRONLY | os.O_APPEND)
        for number in range(1000):
            one.try_write(ME, b"one %d\n" % number, 0)
            two.try_write(ME, b"two %d\n" % number, 0)
        one.close(ME)
        two.close(ME)
        assert len((tmp_path / "log").read_bytes().splitlines()) == 2000


async def test_opening_with_truncation_empties_the_file_even_for_reading(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        for flags in (os.O_WRONLY | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC):
            (tmp_path / "a").write_bytes(b"text")
            (await at.at("a").open(ME, flags)).close(ME)
            assert (tmp_path / "a").read_bytes() == b""


async def test_a_handle_does_only_what_it_was_opened_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    async with served(tmp_path) as at:
        reader, writer = [await at.at("a").open(ME, flags) for flags in (os.O_RDONLY, os.O_WRONLY)]
        with pytest.raises(OSError, match="writing") as error:
            reader.try_write(ME, b"x", 0)
        assert error.value.errno == errno.EBADF
        with pytest.raises(OSError, match="reading") as error:
            writer.try_read(ME, 1, 0)
        assert error.value.errno == errno.EBADF
        with pytest.raises(OSError, match="writing") as error:
            reader.truncate(ME, 0)
        assert error.value.errno == errno.EINVAL
        reader.close(ME)
        writer.close(ME)


async def test_symbolic_links_are_shown_and_never_followed(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        for target in ("/etc", "../..", "\udcff"):
            channel, stat = at.root.symlink(ME, "l", target)
            assert modes.S_ISLNK(stat.st_mode)
            assert channel.readlink(ME) == target
            with pytest.raises(OSError, match="no directory") as error:
                channel.walk(ME, "passwd")
            assert error.value.errno == errno.ENOTDIR
            with pytest.raises(OSError, match="symbolic link") as error:
                await channel.open(ME, os.O_RDONLY)
            assert error.value.errno == errno.ELOOP
            at.root.unlink(ME, "l")


@pytest.mark.parametrize("kind", [modes.S_IFIFO, modes.S_IFSOCK])
async def test_special_files_are_made_and_shown_but_not_opened(tmp_path: Path, kind: int) -> None:
    async with served(tmp_path) as at:
        channel, stat = at.root.mknod(ME, "s", kind | 0o600, 0)
        assert modes.S_IFMT(stat.st_mode) == kind
        assert at.at("s").key == channel.key
        with pytest.raises(OSError, match="not opened") as error:
            await channel.open(ME, os.O_RDONLY)
        assert error.value.errno == errno.ENXIO


async def test_only_root_makes_devices(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        with pytest.raises(PermissionError):
            at.root.mknod(Caller(uid=1000, gid=1000), "d", modes.S_IFCHR | 0o600, os.makedev(1, 3))


async def test_fsync_and_flush_succeed_on_what_was_written(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        _, file, _ = at.root.create(ME, "a", RDWR, 0o600)
        file.flush()
        file.try_write(ME, b"x", 0)
        file.flush()
        await file.fsync(ME, datasync=True)
        await file.fsync(ME, datasync=False)
        file.close(ME)
        assert (tmp_path / "a").read_bytes() == b"x"


async def test_statfs_is_that_of_the_host(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        found, host = at.root.statfs(ME), os.statvfs(tmp_path)
        assert (found.bsize, found.frsize, found.blocks) == (
            host.f_bsize, host.f_frsize, host.f_blocks,
        )  # fmt: skip


async def test_a_file_of_another_service_cannot_be_linked_or_moved_here(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "f").touch()
    async with served(tmp_path / "one") as one, served(tmp_path / "two") as two:
        with pytest.raises(OSError, match="within one") as error:
            two.root.link(ME, one.at("f"), "f")
        assert error.value.errno == errno.EXDEV
        with pytest.raises(OSError, match="within one") as error:
            one.root.rename(ME, "f", two.root, "f")
        assert error.value.errno == errno.EXDEV


@pytest.mark.parametrize("name", ["none", "file", "file/x"])
def test_what_is_no_directory_cannot_be_served(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot serve a directory") as error:
        WorkspaceFs(tmp_path / name)
    assert error.value.errno in (errno.ENOENT, errno.ENOTDIR)


async def test_a_served_directory_that_is_renamed_away_goes_on(tmp_path: Path) -> None:
    (tmp_path / "old" / "d").mkdir(parents=True)
    async with served(tmp_path / "old") as at:
        on_host(tmp_path, "mv old new")
        at.at("d").create(ME, "f", RDWR, 0o600)[1].close(ME)
        assert (tmp_path / "new" / "d" / "f").exists()
        assert at.service.status()["root"] == str(tmp_path / "new")


def test_it_is_a_service_called_workspace(tmp_path: Path) -> None:
    service: Service = WorkspaceFs(os.fsencode(tmp_path).decode())
    assert service.name == "workspace"
    with pytest.raises(OSError, match="has no option"):
        service.narrow(service.root, {"colour": "red"})
