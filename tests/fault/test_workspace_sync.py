"""A disk that refuses a write-back: the error is told once for each open file, and not retried."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from oanix.caller import Caller
from oanix.namespace import Namespace
from oanix.services.workspace import WorkspaceFs
from tests.mount.mounting import Mount, end, start

ME = Caller()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Mount]:
    """A mount of ours as the host: its file `unsynced` fails the first sync of each open."""
    for name in ("mnt", "host"):
        (tmp_path / name).mkdir()
    mounted = start(tmp_path / "mnt", tmp_path / "host")
    yield mounted
    end(mounted)


@pytest.mark.fuse
@pytest.mark.slow
async def test_a_failed_sync_is_told_once_for_each_open_file_and_not_retried(disk: Mount) -> None:
    file = disk.path / "trouble" / "unsynced"
    service = WorkspaceFs(file.parent)
    namespace = Namespace()
    namespace.mount(service, "/workspace")
    async with service.running():
        channel = namespace.resolve(ME, "/workspace/unsynced")
        for syncs in (1, 3):
            opened = await channel.open(ME, os.O_RDWR)
            with pytest.raises(OSError, match="Input/output error") as refused:
                await opened.fsync(ME, False)
            assert refused.value.errno == errno.EIO
            assert file.read_text() == f"{syncs}\n"
            await opened.fsync(ME, True)
            opened.close(ME)
        assert file.read_text() == "4\n"
