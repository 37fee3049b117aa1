"""A node stands for one file, whatever its names are and whoever changes them."""

import errno
import gc
import os
from pathlib import Path

import pytest

from oanix.stat import Changed
from tests.service.workspaces import ME, content, on_host, served


async def test_a_file_with_several_names_is_one_node(tmp_path: Path) -> None:
    on_host(tmp_path, "echo text > a; ln a b; mkdir d; ln a d/c")
    async with served(tmp_path) as at:
        channels = [at.at(name) for name in ("a", "b", "d/c")]
        assert len({channel.key for channel in channels}) == 1
        assert {channel.stat(ME).st_nlink for channel in channels} == {3}


async def test_a_node_lives_on_under_its_other_name_when_one_is_removed(tmp_path: Path) -> None:
    on_host(tmp_path, "echo text > a; ln a b; ln a c")
    async with served(tmp_path) as at:
        first, *_ = [at.at(name) for name in ("a", "b", "c")]
        at.root.unlink(ME, "c")
        assert first.stat(ME).st_nlink == 2
        on_host(tmp_path, "rm b")
        assert first.stat(ME).st_nlink == 1
        file = await first.open(ME, os.O_RDONLY)
        assert content(file) == b"text\n"
        file.close(ME)


async def test_a_node_whose_name_was_given_to_another_file_is_stale(tmp_path: Path) -> None:
    on_host(tmp_path, "echo one > a; echo two > b")
    async with served(tmp_path) as at:
        old = at.at("a")
        on_host(tmp_path, "mv b a")
        for operation in (
            lambda: old.stat(ME),
            lambda: old.setattr(ME, Changed(mode=0)),
            lambda: old.getxattr(ME, "user.x"),
        ):
            with pytest.raises(OSError, match="look it up") as error:
                operation()
            assert error.value.errno == errno.ESTALE
        with pytest.raises(OSError, match="look it up"):
            await old.open(ME, os.O_WRONLY | os.O_TRUNC)
        assert (tmp_path / "a").read_bytes() == b"two\n"
        assert at.at("a").key != old.key


@pytest.mark.parametrize("instead", ["mkfifo a", "ln -s /etc/passwd a", "mkdir a"])
async def test_what_took_a_files_name_is_not_opened_in_its_place(
    tmp_path: Path, instead: str
) -> None:
    on_host(tmp_path, "echo text > a; ln a keep")
    async with served(tmp_path) as at:
        old = at.at("a")
        on_host(tmp_path, f"rm a; {instead}")
        with pytest.raises(OSError, match="look it up") as error:
            await old.open(ME, os.O_RDONLY)
        assert error.value.errno == errno.ESTALE


@pytest.mark.slow
async def test_a_reused_inode_number_is_another_file(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        seen: dict[int, int] = {}
        reused = 0
        for number in range(50):
            on_host(tmp_path, f"echo {number} > a")
            channel = at.at("a")
            inode = (tmp_path / "a").stat().st_ino
            assert channel.node.qid not in seen.values()
            reused += inode in seen
            seen[inode] = channel.node.qid
            on_host(tmp_path, "rm a")
            keep = channel  # as a door does that was not told yet
        assert keep.name == "a"
        if not reused:
            pytest.skip("this file system does not reuse inode numbers soon")


async def test_an_inode_number_reused_by_our_own_doing_is_another_file(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        kept = []
        for _ in range(50):
            channel, file, _ = at.root.create(ME, "a", os.O_RDWR, 0o600)
            file.close(ME)
            at.root.unlink(ME, "a")
            kept.append(channel)
        assert len({channel.key for channel in kept}) == 50
        at.root.create(ME, "a", os.O_RDWR, 0o600)[1].close(ME)
        for channel in kept:
            with pytest.raises(OSError, match="look it up"):
                channel.stat(ME)


async def test_a_file_stays_itself_when_it_is_changed(tmp_path: Path) -> None:
    on_host(tmp_path, "echo text > a")
    async with served(tmp_path) as at:
        held = at.at("a")
        for change in ("echo more >> a", "chmod 600 a", "touch a", "mv a b; mv b a", "ln a b"):
            on_host(tmp_path, change)
            assert at.at("a").key == held.key


async def test_a_directory_moved_on_the_host_keeps_working(tmp_path: Path) -> None:
    on_host(tmp_path, "mkdir -p a/b c; echo text > a/b/f")
    async with served(tmp_path) as at:
        directory, file = at.at("a/b"), at.at("a/b/f")
        assert directory.readdir(ME) == ["f"]
        on_host(tmp_path, "mv a/b c/d")
        assert directory.readdir(ME) == ["f"]
        assert file.stat(ME).st_size == 5
        assert at.at("c/d").key == directory.key
        assert at.at("c/d/f").key == file.key


async def test_directories_that_change_places_on_the_host_form_no_ring(tmp_path: Path) -> None:
    on_host(tmp_path, "mkdir -p a/b")
    async with served(tmp_path, watch=False) as at:
        outer, inner = at.at("a"), at.at("a/b")
        assert (outer.readdir(ME), inner.readdir(ME)) == (["b"], [])
        on_host(tmp_path, "mv a/b b; mv a b/a")
        # By the old way: the node of `b` still says that it lies in `a`.
        with pytest.raises(OSError, match="look it up"):
            inner.walk(ME, "a")
        assert at.at("b/a").key == outer.key
        assert at.at("b").key == inner.key


async def test_nodes_that_nobody_holds_are_forgotten(tmp_path: Path) -> None:
    on_host(tmp_path, "mkdir d; touch d/f")
    async with served(tmp_path) as at:
        first = at.at("d/f").node.qid
        gc.collect()
        assert at.at("d/f").node.qid > first
        tree = at.service.root.volume.tree
        gc.collect()
        assert [node.name for node in tree.nodes()] == [""]
        assert len(tree.marks) == 1


async def test_the_version_stays_while_only_we_write(tmp_path: Path) -> None:
    for watch in (True, False):
        async with served(tmp_path, watch=watch) as at:
            channel, file, _ = at.root.create(ME, f"a{watch}", os.O_RDWR, 0o600)
            version = file.version
            file.try_write(ME, b"text", 0)
            file.truncate(ME, 2)
            file.close(ME)
            channel.setattr(ME, Changed(size=1, mtime_ns=5))
            at.root.rename(ME, f"a{watch}", at.root, "b")
            again = await channel.open(ME, os.O_RDONLY)
            assert again.version == version
            again.close(ME)


async def test_the_version_goes_up_when_others_have_written(tmp_path: Path) -> None:
    on_host(tmp_path, "echo text > a")
    async with served(tmp_path, watch=False) as at:
        channel = at.at("a")
        seen = []
        for change in ("true", "echo more >> a", "echo Text > a", "touch -d 2002-01-01 a"):
            on_host(tmp_path, change)
            file = await channel.open(ME, os.O_RDONLY)
            seen.append(file.version)
            file.close(ME)
        assert seen == sorted(set(seen))


async def test_a_write_of_others_between_our_own_is_noticed_without_a_watch(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, watch=False) as at:
        channel, file, _ = at.root.create(ME, "a", os.O_RDWR, 0o600)
        file.try_write(ME, b"ours", 0)
        on_host(tmp_path, "echo theirs >> a")
        file.try_write(ME, b"ours", 0)
        file.close(ME)
        again = await channel.open(ME, os.O_RDONLY)
        assert again.version > file.version
        again.close(ME)
