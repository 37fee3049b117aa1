"""Make what the steps work on, always in the source directory and before a mount is made."""

from __future__ import annotations

import io
import os
import random
import shutil
import sysconfig
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from .host import spread, touch_memory
from .micro import BLOCK, KIB
from .process import plain_environment, run
from .workloads import NEEDLE

if TYPE_CHECKING:
    from .metrics import Sizes
    from .targets import Places

WORDS = ("file", "mount", "server", "kernel", "inode", "page", "cache", "rename", "directory")
PACKAGES = ("asyncio", "concurrent", "email", "html", "http", "importlib", "json", "logging")


def prepare_fixtures(places: Places, sizes: Sizes, groups: set[str]) -> None:
    """Make what all rounds share: an archive, a repository, a large file, a large tree."""
    spread(places.base)
    places.fixtures.mkdir()
    places.source.mkdir()
    spread(places.source)
    if "stream" in groups:
        _write_stream(places.fixtures / "stream", sizes.stream_mib)
        _write_stream(places.fixtures / "pages", sizes.random_mib)
    if groups & {"tree", "removal"}:
        _write_archive(places.fixtures / "tree.tar", sizes.tree_files)
    if "tools" in groups and shutil.which("git"):
        _write_repository(places.fixtures / "repository", sizes)
    if "memory" in groups:
        _write_tree(places.source / "memory", sizes.memory_files)


def prepare_round(places: Places, group: str, folder: Path, sizes: Sizes) -> None:
    """Fill the directory in which one target does one group of steps."""
    if group == "small":
        for name in ("cold", "files", "renamed"):
            _write_files(folder / name, sizes.files)
        _write_files(folder / "listing", sizes.listing)
    elif group == "stream":
        os.link(places.fixtures / "stream", folder / "stream")
        shutil.copyfile(places.fixtures / "pages", folder / "pages")
        for name in ("stream", "pages"):
            _read_and_sync(folder / name)
        # The file, its copy in the mount's cache, and the same for the one that is written.
        touch_memory(4 * sizes.stream_mib)
    elif group == "removal":
        _write_files(folder / "removed", sizes.files)
        (folder / "tree").mkdir()
        with tarfile.open(places.fixtures / "tree.tar") as archive:
            # Python before 3.11.4 has no filters; the archive is our own.
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            archive.extractall(folder / "tree")
    elif group == "tools":
        library = Path(sysconfig.get_path("stdlib"))
        for package in PACKAGES:
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(library / package, folder / "python" / package, ignore=skip)


def _write_files(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"file-{number:05}").write_bytes(KIB)


def _write_stream(path: Path, mebibytes: int) -> None:
    dice = random.Random(4)
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(dice.randbytes(BLOCK))


def _read_and_sync(path: Path) -> None:
    """Bring a file into the host's cache, and leave none of it to be written back later."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        while file.read(BLOCK):
            pass


def _write_archive(path: Path, count: int) -> None:
    dice = random.Random(5)
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            text = _text(dice, 200 + dice.randrange(3800))
            if number % 100 == 0:
                text += f"{NEEDLE}\n"
            entry = tarfile.TarInfo(f"part-{number // 100:04}/file-{number:06}.txt")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


def _write_repository(path: Path, sizes: Sizes) -> None:
    """Make a repository with `git fast-import`: all files at once, then a commit for changes."""
    dice = random.Random(6)
    script = path.with_suffix(".import")
    with script.open("w") as stream:
        for commit in range(sizes.git_commits):
            first = commit == 0
            count = sizes.git_files if first else 5
            stream.write("commit refs/heads/main\ncommitter A B <a@b.example> ")
            stream.write(f"{1_700_000_000 + commit} +0000\ndata 7\nchange\n\n")
            for number in range(count):
                chosen = number if first else dice.randrange(sizes.git_files)
                text = _text(dice, 500 + dice.randrange(8000))
                stream.write(f"M 644 inline src/part{chosen % 30}/file{chosen}.txt\n")
                stream.write(f"data {len(text)}\n{text}\n")
    environment = plain_environment(path.parent)
    run(["git", "init", "-q", "--bare", "-b", "main", path], timeout=60, env=environment)
    command: list[str | Path] = ["git", "-C", path, "fast-import", "--quiet"]
    run(command, timeout=60, env=environment, feed=script)


def _write_tree(folder: Path, count: int) -> None:
    for number in range(count):
        if number % 500 == 0:
            part = folder / f"part-{number // 500:04}"
            part.mkdir(parents=True)
        os.close(os.open(part / f"file-{number:06}", os.O_WRONLY | os.O_CREAT, 0o644))


def _text(dice: random.Random, size: int) -> str:
    lines = []
    while size > 0:
        line = " ".join(dice.choices(WORDS, k=9)) + "\n"
        lines.append(line)
        size -= len(line)
    return "".join(lines)
