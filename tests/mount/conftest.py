"""Mounts for the tests of the FUSE door."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.mounting import Mount, end, start


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A mount point and a host folder."""
    mountpoint, host = tmp_path / "mnt", tmp_path / "host"
    mountpoint.mkdir()
    host.mkdir()
    return mountpoint, host


@pytest.fixture
def mount(folders: tuple[Path, Path]) -> Iterator[Mount]:
    """A mount of its own."""
    mounted = start(*folders)
    yield mounted
    end(mounted)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount for all the tests of a module."""
    base = tmp_path_factory.mktemp("shared")
    (base / "mnt").mkdir()
    (base / "host").mkdir()
    mounted = start(base / "mnt", base / "host")
    yield mounted
    end(mounted)
