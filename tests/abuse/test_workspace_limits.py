"""Large trees, few descriptors, impossible sizes, and servers that are not root."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from oanix.stat import Changed
from tests.service.workspaces import ME, numbered, on_host, served

PAST_ANY_FILE = [(1 << 63) - 1, 1 << 63, 1 << 64]


@pytest.mark.parametrize("offset", PAST_ANY_FILE)
async def test_a_write_where_no_file_can_be_is_too_big(tmp_path: Path, offset: int) -> None:
    async with served(tmp_path) as at:
        _, file, _ = at.root.create(ME, "a", os.O_RDWR, 0o600)
        with pytest.raises(OSError) as error:  # noqa: PT011
            file.try_write(ME, b"xy", offset)
        assert error.value.errno == errno.EFBIG
        assert file.try_read(ME, 10, offset) == b""
        assert await file.read(ME, 10, offset) == b""
        file.close(ME)


@pytest.mark.parametrize("size", [10**15, 1 << 62, 1 << 63, 1 << 64])
async def test_a_huge_truncation_takes_no_memory(tmp_path: Path, size: int) -> None:
    async with served(tmp_path) as at:
        channel, file, _ = at.root.create(ME, "a", os.O_RDWR, 0o600)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for truncate in (
            lambda: file.truncate(ME, size),
            lambda: channel.setattr(ME, Changed(size=size)),
        ):
            try:
                truncate()
            except OSError as error:
                if error.errno not in (errno.EFBIG, errno.ENOSPC):
                    raise
            else:
                assert channel.stat(ME).st_size == size
                assert file.try_read(ME, 10, size - 10) == b"\0" * 10
                assert channel.stat(ME).st_blocks * 512 < 1 << 20
                file.truncate(ME, 0)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024
        file.close(ME)


@pytest.mark.slow
async def test_a_directory_with_a_hundred_thousand_files_is_listed_and_looked_up(
    tmp_path: Path,
) -> None:
    for name in numbered(100_000):
        os.close(os.open(tmp_path / name, os.O_CREAT | os.O_WRONLY))
    async with served(tmp_path) as at:
        names = at.root.readdir(ME)
        assert len(names) == len(set(names)) == 100_000
        kept = [at.root.lookup(ME, name)[0] for name in names]
        assert len({channel.key for channel in kept}) == 100_000


@pytest.mark.slow
async def test_a_tree_of_four_thousand_levels_is_walked_and_left(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        tree = at.service.root.volume.tree
        tree.descriptors._limit = 16
        here = at.root
        for _ in range(4000):
            here, _ = here.mkdir(ME, "a-directory", 0o700)
        here.create(ME, "f", os.O_RDWR, 0o600)[1].close(ME)
        # Opened again from the nearest open ancestor, which is the root.
        for node in list(tree.nodes()):
            if node.parent is not None and hasattr(node, "mark"):
                tree.descriptors.drop(node)
        assert here.readdir(ME) == ["f"]
        for node in list(tree.nodes()):
            if node.parent is not None and hasattr(node, "mark"):
                tree.descriptors.drop(node)
        tree.descriptors._has_openat2 = False
        assert here.walk(ME, "f").stat(ME).st_size == 0
        del node, here
        assert sum(1 for _ in tree.nodes()) == 1
    on_host(tmp_path, "rm -rf a-directory")


async def test_a_thousand_hard_links_are_one_file(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        channel, file, _ = at.root.create(ME, "f", os.O_RDWR, 0o600)
        file.close(ME)
        for name in numbered(1000):
            at.root.link(ME, channel, name)
        assert channel.stat(ME).st_nlink == 1001
        at.root.unlink(ME, "f")
        on_host(tmp_path, "rm file-[0-8]*")
        assert channel.stat(ME).st_nlink == 111


@pytest.mark.slow
async def test_names_that_vanish_while_they_are_listed_are_missing(tmp_path: Path) -> None:
    for name in numbered(1000):
        (tmp_path / name).touch()
    async with served(tmp_path) as at:
        names = at.root.readdir(ME)
        on_host(tmp_path, "rm file-*0")
        found = 0
        for name in names:
            try:
                at.root.lookup(ME, name)
            except FileNotFoundError:
                continue
            found += 1
        assert found == 900


def run_apart(script: str, folder: Path, *, uid: int = 0, files: int = 0) -> None:
    """Run a script with WorkspaceFs in a process of its own, with fewer rights."""
    ran = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, folder, str(uid), str(files)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert ran.returncode == 0, ran.stdout.decode()


PRELUDE = """
import errno, os, resource, sys, trio
from pathlib import Path
from oanix.caller import Caller
from tests.service.workspaces import ME, content, on_host, served
folder, uid, files = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
# Once all is imported: who drops to another user may not be able to read the checkout.
if files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
if uid:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
"""

FEW_FILES = """
async def main():
    async with served(folder) as at:
        kept = []
        for number in range(300):
            directory, _ = at.root.mkdir(ME, f"d{number}", 0o700)
            below, _ = directory.mkdir(ME, "e", 0o700)
            below.create(ME, "f", os.O_RDWR, 0o600)[1].close(ME)
            kept.append(below)
        for below in kept * 2:
            assert below.readdir(ME) == ["f"]
            file = await below.walk(ME, "f").open(ME, os.O_RDONLY)
            file.close(ME)
        files = []
        try:
            for below in kept:
                files.append(await below.walk(ME, "f").open(ME, os.O_RDONLY))
        except OSError as error:
            assert error.errno == errno.EMFILE, error
        assert len(files) > 32, len(files)
        for file in files:
            file.close(ME)
        assert kept[7].readdir(ME) == ["f"]
        del kept, below, directory, files, file
        assert at.service.status()["watch"] == "fanotify, 1 directories", at.service.status()
trio.run(main)
"""


@pytest.mark.slow
def test_sixty_four_descriptors_are_enough(tmp_path: Path) -> None:
    run_apart(FEW_FILES, tmp_path, files=64)


NOT_ROOT = """
async def main():
    async with served(folder) as at:
        file, handle, stat = at.root.create(Caller(uid=5, gid=5), "mine", os.O_RDWR, 0o600)
        assert stat.st_uid == os.getuid()
        handle.try_write(ME, b"x", 0)
        handle.close(ME)
        for denied in (
            lambda: at.at("locked").readdir(ME),
            lambda: at.at("locked").walk(ME, "f"),
            lambda: at.at("theirs").create(ME, "x", os.O_RDWR, 0o600),
            lambda: at.root.unlink(ME, "none"),
        ):
            try:
                denied()
            except OSError as error:
                assert error.errno in (errno.EACCES, errno.ENOENT), error
            else:
                raise AssertionError(denied)
        try:
            await at.at("secret").open(ME, os.O_RDONLY)
        except PermissionError:
            pass
        else:
            raise AssertionError("opened what only root may")
        assert at.at("theirs").walk(ME, "f").stat(ME).st_size == 0
        assert at.at("mine").caching == float("inf")
        assert at.root.caching == 1.0, "a queue with an end may lose what is not there"
        on_host(folder, "echo more >> mine")
        await at.announced.until(lambda: at.announced.has(file))
        on_host(folder, "touch soon")
        await at.announced.until(lambda: at.announced.has(at.root, "soon"))
        changes = len(at.announced.changes)
        again = await file.open(ME, os.O_RDWR)
        again.try_write(ME, b"ours", 0)
        again.close(ME)
        on_host(folder, "touch later")
        await at.announced.until(lambda: at.announced.has(at.root, "later"))
        new = at.announced.changes[changes:]
        own = [c for c in new if c.qid == file.node.qid]
        assert len(own) == 1, "a write of ours is announced once, by the channel"
trio.run(main)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_server_that_is_not_root_acts_with_its_own_rights(tmp_path: Path) -> None:
    folder = tmp_path / "served"
    on_host(
        tmp_path,
        "mkdir -p served/locked served/theirs; touch served/locked/f served/theirs/f served/secret;"
        "chmod 700 served/locked; chmod 600 served/secret; chown 65534:65534 served",
    )
    for parent in (tmp_path, *tmp_path.parents):
        if not parent.stat().st_mode & 1:
            parent.chmod(0o711)
    run_apart(NOT_ROOT, folder, uid=65534)
