"""What is excluded does not exist, and cannot be made to."""

import errno
import os
from pathlib import Path

import pytest

from oanix.services.workspace import WorkspaceFs
from tests.service.workspaces import ME, Served, on_host, served

PATTERNS = (".env*", "*.pem", ".git/config", "node_modules/", "/top/secret")

TREE = """
mkdir -p .git sub/.git sub/node_modules node_modules top sub/top plain
touch .env .env.local key.pem a .git/config .git/HEAD sub/.git/config sub/.env top/secret
touch sub/top/secret plain/node_modules node_modules/x
"""


def walk_all(at: Served) -> set[str]:
    found: set[str] = set()
    todo = [("", at.root)]
    while todo:
        path, channel = todo.pop()
        for name in channel.readdir(ME):
            below = channel.walk(ME, name)
            found.add(path + name)
            if below.is_directory:
                todo.append((f"{path}{name}/", below))
    return found


VISIBLE = {
    ".git", ".git/HEAD", "a", "plain", "plain/node_modules", "sub", "sub/.git", "sub/top",
    "sub/top/secret", "top",
}  # fmt: skip


async def test_what_is_excluded_is_neither_listed_nor_found(tmp_path: Path) -> None:
    on_host(tmp_path, TREE)
    async with served(tmp_path, exclude=PATTERNS) as at:
        assert walk_all(at) == VISIBLE
        for path in (".env", ".env.local", "key.pem", ".git/config", "node_modules", "top/secret"):
            with pytest.raises(FileNotFoundError):
                at.at(path)


async def test_a_mount_excludes_with_an_option(tmp_path: Path) -> None:
    on_host(tmp_path, TREE)
    async with served(tmp_path, options={"exclude": ":".join(PATTERNS)}) as at:
        assert walk_all(at) == VISIBLE


async def test_a_bind_excludes_more_and_never_less(tmp_path: Path) -> None:
    on_host(tmp_path, TREE)
    async with served(tmp_path, exclude=PATTERNS) as at:
        at.namespace.bind("/workspace", "/narrow", options={"exclude": "a:plain"})
        narrow = at.namespace.resolve(ME, "/narrow")
        assert set(narrow.readdir(ME)) == {".git", "sub", "top"}
        with pytest.raises(FileNotFoundError):
            narrow.walk(ME, ".env")


async def test_an_excluded_name_cannot_be_made_or_removed(tmp_path: Path) -> None:
    on_host(tmp_path, TREE)
    async with served(tmp_path, exclude=PATTERNS) as at:
        root, git = at.root, at.at(".git")
        for make in (
            lambda: root.create(ME, ".envrc", os.O_RDWR, 0o600),
            lambda: root.mkdir(ME, "x.pem", 0o700),
            lambda: root.mkdir(ME, "node_modules", 0o700),
            lambda: root.symlink(ME, ".env2", "a"),
            lambda: root.link(ME, at.at("a"), "b.pem"),
            lambda: root.rename(ME, "a", root, ".env3"),
            lambda: root.rename(ME, "sub", root, "node_modules"),
            lambda: git.create(ME, "config", os.O_RDWR, 0o600),
        ):
            with pytest.raises(PermissionError) as error:
                make()
            assert error.value.errno == errno.EPERM
        for remove in (
            lambda: root.unlink(ME, ".env"),
            lambda: root.rmdir(ME, "node_modules"),
            lambda: root.rename(ME, ".env", root, "b"),
            lambda: root.rename(ME, "a", git, "config", 2),
        ):
            with pytest.raises(OSError) as refused:  # noqa: PT011
                remove()
            assert refused.value.errno in (errno.ENOENT, errno.EPERM)
    assert (tmp_path / ".env").exists()


async def test_a_directory_that_hides_something_cannot_be_moved_out_of_the_way(
    tmp_path: Path,
) -> None:
    on_host(tmp_path, TREE)
    async with served(tmp_path, exclude=PATTERNS) as at:
        for move in (
            lambda: at.root.rename(ME, ".git", at.root, "git"),
            lambda: at.root.rename(ME, "top", at.root, "bottom"),
            lambda: at.root.rename(ME, "plain", at.root, ".git", 2),
            lambda: (
                at.root.symlink(ME, "top2", "top") and at.root.rename(ME, "top2", at.root, "top")
            ),
            lambda: at.at("plain").symlink(ME, ".git", "../sub"),
        ):
            with pytest.raises(PermissionError):
                move()
        at.root.rename(ME, "plain", at.root, "fancy")
        assert "fancy" in at.root.readdir(ME)


async def test_everything_else_works_as_without(tmp_path: Path) -> None:
    async with served(tmp_path, exclude=("*.pem",)) as at:
        directory, _ = at.root.mkdir(ME, "d", 0o700)
        file, handle, _ = directory.create(ME, "f", os.O_RDWR, 0o600)
        handle.close(ME)
        directory.link(ME, file, "g")
        directory.rename(ME, "g", at.root, "h")
        assert at.at("h").key == file.key
        assert at.at("d").key == directory.key
        directory.setxattr(ME, "user.x", b"1")
        assert (directory.listxattr(ME), directory.getxattr(ME, "user.x")) == (["user.x"], b"1")
        directory.removexattr(ME, "user.x")
        directory.unlink(ME, "f")
        at.root.rmdir(ME, "d")
        assert os.listdir(tmp_path) == ["h"]


@pytest.mark.parametrize("pattern", ["..", "a/../b", "/", "./x", "a//b"])
def test_a_pattern_that_can_match_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(OSError, match="cannot match") as error:
        WorkspaceFs(tmp_path, exclude=[pattern])
    assert error.value.errno == errno.EINVAL
