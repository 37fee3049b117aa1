"""What is mounted inside the served directory is never touched."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from oanix.services.workspace import WorkspaceFs, covers
from tests.mount.mounting import Mount, end, start
from tests.service.workspaces import ME, on_host, served


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Mount]:
    """A FUSE mount inside a folder to be served, whose server does not answer."""
    (tmp_path / "in" / "below" / "mnt").mkdir(parents=True)
    (tmp_path / "in" / "below" / "mnt" / "beneath").touch()
    (tmp_path / "in" / "below" / "other").mkdir()
    (tmp_path / "host").mkdir()
    mounted = start(tmp_path / "in" / "below" / "mnt", tmp_path / "host", "nonempty")
    os.kill(mounted.process.pid, signal.SIGSTOP)
    yield mounted
    os.kill(mounted.process.pid, signal.SIGCONT)
    end(mounted)


@pytest.mark.fuse
@pytest.mark.slow
async def test_another_fuse_mount_is_an_empty_directory_that_is_not_touched(
    hanging: Mount, tmp_path: Path
) -> None:
    async with served(tmp_path / "in") as at:
        below = at.at("below")
        assert {"mnt", "other"} <= set(below.readdir(ME))
        covered, stat = below.lookup(ME, "mnt")
        assert (stat.st_nlink, covered.readdir(ME)) == (2, [])
        assert below.walk(ME, "mnt").key == covered.key
        with pytest.raises(FileNotFoundError):
            covered.walk(ME, "workspace")
        for operation, number in (
            (lambda: below.rmdir(ME, "mnt"), errno.EBUSY),
            (lambda: below.rename(ME, "mnt", below, "x"), errno.EBUSY),
            (
                lambda: below.mkdir(ME, "x", 0o700) and below.rename(ME, "x", below, "mnt"),
                errno.EBUSY,
            ),
            (lambda: below.mkdir(ME, "mnt", 0o700), errno.EEXIST),
            (lambda: covered.create(ME, "x", os.O_RDWR, 0o600), errno.EROFS),
        ):
            with pytest.raises(OSError) as error:  # noqa: PT011
                operation()
            assert error.value.errno == number


@pytest.mark.fuse
@pytest.mark.slow
async def test_a_mount_that_comes_and_goes_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(covers, "LOOK_SECONDS", 0.0)
    on_host(tmp_path, "mkdir -p in/mnt host; touch in/mnt/beneath")
    async with served(tmp_path / "in") as at:
        assert at.at("mnt").readdir(ME) == ["beneath"]
        mounted = start(tmp_path / "in" / "mnt", tmp_path / "host", "nonempty")
        try:
            known = at.at("mnt")
            assert known.readdir(ME) == []
            assert at.announced.has(at.root, "mnt")
            at.announced.changes.clear()
        finally:
            end(mounted)
        assert at.at("mnt").readdir(ME) == ["beneath"]
        assert at.announced.has(at.root, "mnt")


@pytest.mark.fuse
@pytest.mark.slow
async def test_what_lies_beneath_the_own_mount_point_is_reached_and_the_mount_is_not(
    tmp_path: Path,
) -> None:
    on_host(tmp_path, "mkdir -p in/a/mnt/d host; echo text > in/a/mnt/beneath; ln -s in alias")
    service = WorkspaceFs(tmp_path / "in")
    service.shield(str(tmp_path / "alias" / "a" / "mnt"))
    mounted = start(tmp_path / "in" / "a" / "mnt", tmp_path / "host", "nonempty")
    os.kill(mounted.process.pid, signal.SIGSTOP)
    try:
        directory = service.root.walk("a")
        beneath = directory.walk("mnt")
        assert sorted(beneath.readdir()) == ["beneath", "d"]
        assert beneath.lookup("beneath")[1].st_size == 5
        new = beneath.walk("d").mkdir("new", 0o700, ME)
        tree = service.root.volume.tree
        tree.descriptors.drop(beneath.walk("d"))
        assert new.readdir() == []
        assert "mnt" in directory.readdir()
        with pytest.raises(OSError, match="mount point") as error:
            directory.rmdir("mnt", ME)
        assert error.value.errno == errno.EBUSY
    finally:
        os.kill(mounted.process.pid, signal.SIGCONT)
        end(mounted)
        tree.close()


async def test_a_mount_point_outside_needs_no_shield(tmp_path: Path) -> None:
    on_host(tmp_path, "mkdir in out")
    async with served(tmp_path / "in") as at:
        at.service.shield(str(tmp_path / "out"))
        at.service.shield(str(tmp_path / "in"))
        at.service.shield("/")
        at.root.mkdir(ME, "out", 0o700)
        at.root.rmdir(ME, "out")


async def test_a_mount_point_that_does_not_exist_is_told_of(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        with pytest.raises(FileNotFoundError):
            at.service.shield(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("field", "path"),
    [(b"/mnt", b"/mnt"), (rb"/a\040b\011\134c", b"/a b\t\\c"), (b"/\xff", b"/\xff")],
)
def test_escaped_paths_of_the_mount_table_are_read(field: bytes, path: bytes) -> None:
    assert covers._unescaped(field) == path
