"""Serve host folders for the tests of WorkspaceFs, and change them as others would."""

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from oanix.bell import Bell
from oanix.caller import Caller
from oanix.channel import Channel, OpenFile
from oanix.namespace import Namespace
from oanix.service import Change
from oanix.services.workspace import WorkspaceFs

ME = Caller()
"""The owner, as whom most tests act."""

PATIENCE_S = 20


def on_host(folder: Path, script: str) -> None:
    """Run a shell script in the folder, as another process."""
    subprocess.run(["sh", "-ec", script], cwd=folder, check=True)


def file_system(folder: Path) -> str:
    """Name the type of the file system that a folder lies in."""
    command = ["stat", "-f", "-c", "%T", folder]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode().strip()


class Announced:
    """What a service announced."""

    def __init__(self, service: WorkspaceFs) -> None:
        self.changes: list[Change] = []
        self._bell = Bell()
        service.changes.subscribe(self._hear)

    def _hear(self, change: Change) -> None:
        self.changes.append(change)
        self._bell.ring()

    def has(self, channel: Channel, name: str | None = None) -> bool:
        """Tell whether a change of the node, or of a name in it, was announced."""
        return any(c.qid == channel.node.qid and c.name == name for c in self.changes)

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for what an announcement makes true."""
        with trio.fail_after(PATIENCE_S):
            while not true():
                await self._bell.wait()


class Served:
    """A folder that is served."""

    def __init__(self, folder: Path, service: WorkspaceFs, namespace: Namespace) -> None:
        self.folder = folder
        self.service = service
        self.namespace = namespace
        self.root = namespace.resolve(ME, "/workspace")
        self.announced = Announced(service)

    def at(self, path: str) -> Channel:
        """Walk a path below the root, following nothing."""
        here = self.root
        for name in path.split("/"):
            here = here.walk(ME, name)
        return here


@asynccontextmanager
async def served(
    folder: Path,
    *,
    exclude: tuple[str, ...] = (),
    watch: bool = True,
    options: dict[str, str] | None = None,
) -> AsyncIterator[Served]:
    """Serve a folder at /workspace."""
    service = WorkspaceFs(folder, exclude=exclude, watch=watch)
    async with service.running():
        namespace = Namespace()
        namespace.mount(service, "/workspace", options=options)
        yield Served(folder, service, namespace)


def content(file: OpenFile) -> bytes:
    """Read an open file to its end, as a door that never waits."""
    answer = file.try_read(ME, 1 << 20, 0)
    assert isinstance(answer, bytes)
    return answer


def numbered(count: int) -> Iterator[str]:
    """Give names."""
    return (f"file-{number}" for number in range(count))
