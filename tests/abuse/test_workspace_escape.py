"""Nothing leads out of the served directory."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.services.workspace import host
from tests.service.workspaces import ME, content, on_host, served

if TYPE_CHECKING:
    from oanix.services.workspace.descriptors import Descriptors

SECRET = b"outside"

SWAP = """
import ctypes, os, sys
os.chdir(sys.argv[1])
os.symlink(sys.argv[2], "link")
rename, here, exchange = ctypes.CDLL(None).renameat2, -100, 2
print("ready", flush=True)
while rename(here, b"d", here, b"link", exchange) == 0:
    pass
"""


@pytest.fixture
def swapping(tmp_path: Path) -> Iterator[Path]:
    """A folder in which `d` is in turn a directory and a symbolic link to one outside."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "d" / "below").mkdir(parents=True)
    (outside / "below").mkdir(parents=True)
    for folder, text in ((inside, b"inside"), (outside, SECRET)):
        (folder / "d" if folder is inside else folder).joinpath("f").write_bytes(text)
        below = folder / "d" / "below" if folder is inside else folder / "below"
        below.joinpath("g").write_bytes(text)
    process = subprocess.Popen(
        [sys.executable, "-c", SWAP, inside, outside], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield inside
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1024, 8])
async def test_a_directory_swapped_with_a_link_never_leads_outside(
    swapping: Path, limit: int
) -> None:
    reached = 0
    async with served(swapping) as at:
        at.service.root.volume.tree.descriptors._limit = limit
        held = None
        for number in range(100_000):
            try:
                held = at.root.walk(ME, "d") if number % 3 else held or at.root.walk(ME, "d")
                if held.is_symlink:
                    held = None
                    continue
                found, stat = (held if number % 2 else held.walk(ME, "below")).lookup(
                    ME, "f" if number % 2 else "g"
                )
                assert stat.st_size == len(b"inside")
                reached += 1
                if number % 10 < 2:
                    file = await found.open(ME, os.O_RDONLY)
                    assert content(file) == b"inside"
                    file.close(ME)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE, errno.ENOTDIR):
                    raise
                held = None
    assert reached > 1000


@pytest.mark.parametrize(
    "target", ["/etc", "../../../../../../etc", "/proc/self/root/etc", "/proc/self/fd/3", "."]
)
async def test_a_link_to_a_directory_is_no_directory(tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(target)
    async with served(tmp_path) as at:
        for operation in (
            lambda link: link.walk(ME, "passwd"),
            lambda link: link.readdir(ME),
            lambda link: link.mkdir(ME, "x", 0o700),
            lambda link: link.create(ME, "x", os.O_RDWR, 0o600),
            lambda link: at.root.rename(ME, "link", link, "x"),
        ):
            with pytest.raises(NotADirectoryError):
                operation(at.at("link"))


async def test_a_dangling_link_is_not_created_through(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path / "outside")
    async with served(inside) as at:
        with pytest.raises(FileExistsError):
            at.root.create(ME, "link", os.O_RDWR, 0o600)
        assert not (tmp_path / "outside").exists()


async def test_a_directory_replaced_by_a_link_after_its_lookup_is_not_followed(
    tmp_path: Path,
) -> None:
    on_host(tmp_path, "mkdir -p in/a/b out/b; echo inside > in/a/b/f; echo outside > out/b/f")
    async with served(tmp_path / "in") as at:
        directory, file = at.at("a/b"), at.at("a/b/f")
        descriptors: Descriptors = at.service.root.volume.tree.descriptors
        on_host(tmp_path, "mv in/a in/gone; ln -s ../out in/a")
        for node in (directory.node, directory.parent.node):
            descriptors.drop(node)
        with pytest.raises(OSError, match="look it up") as error:
            file.stat(ME)
        assert error.value.errno == errno.ESTALE
        with pytest.raises(OSError, match="look it up"):
            directory.readdir(ME)
        with pytest.raises(OSError, match="look it up"):
            directory.create(ME, "new", os.O_RDWR, 0o600)
        assert os.listdir(tmp_path / "out" / "b") == ["f"]


@pytest.mark.parametrize("openat2", [True, False])
async def test_a_directory_replaced_by_another_after_its_lookup_is_noticed(
    tmp_path: Path, openat2: bool
) -> None:
    on_host(tmp_path, "mkdir -p a/b/c; touch a/b/c/f")
    async with served(tmp_path) as at:
        directory = at.at("a/b/c")
        descriptors: Descriptors = at.service.root.volume.tree.descriptors
        descriptors._has_openat2 = openat2
        held = [directory.node, directory.parent.node, directory.parent.parent.node]
        for node in held:
            descriptors.drop(node)
        assert directory.readdir(ME) == ["f"]
        for node in held:
            descriptors.drop(node)
        on_host(tmp_path, "mv a old; mkdir -p a/b/c; touch a/b/c/other")
        with pytest.raises(OSError, match="look it up"):
            directory.readdir(ME)


BAD_NAMES = ["", ".", "..", "a/b", "/", "/etc/passwd", "../x", "a\0b", "n" * 256, "é" * 128]


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_what_is_no_name_never_reaches_the_host(tmp_path: Path, name: str) -> None:
    (tmp_path / "f").touch()
    async with served(tmp_path) as at:
        node = at.root.node
        for operation in (
            lambda: node.lookup(name),
            lambda: node.create(name, os.O_RDWR, 0o600, ME),
            lambda: node.mkdir(name, 0o700, ME),
            lambda: node.mknod(name, 0o100600, 0, ME),
            lambda: node.symlink(name, "x", ME),
            lambda: node.link(at.at("f").node, name, ME),
            lambda: node.unlink(name, ME),
            lambda: node.rmdir(name, ME),
            lambda: node.rename(name, node, "x", flags=0, caller=ME),
            lambda: node.rename("f", node, name, flags=0, caller=ME),
        ):
            with pytest.raises(OSError) as error:  # noqa: PT011
                operation()
            assert error.value.errno in (errno.EINVAL, errno.ENOENT, errno.ENAMETOOLONG)
        assert os.listdir(tmp_path) == ["f"]


@given(st.text(st.characters() | st.sampled_from("./\0\udcff"), max_size=300))
def test_a_name_is_refused_or_taken_byte_by_byte(name: str) -> None:
    try:
        raw = host.host_name(name)
    except OSError:
        raw = name.encode("utf-8", "surrogatepass")
        refused = name in ("", ".", "..") or "/" in name or "\0" in name or len(raw) > 255
        assert refused or any("\ud800" <= letter <= "\udfff" for letter in name)
        return
    assert raw.decode("utf-8", "surrogateescape") == name
    assert raw not in (b"", b".", b"..")
    assert not set(raw) & {0, ord("/")}
    assert len(raw) <= 255
