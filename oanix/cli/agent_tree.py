"""Jobs tree: the files of /jobs, in a mounted namespace or in one of this process."""

import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import trio
from attrs import frozen

from oanix import path as paths
from oanix.assembly import workspace_state
from oanix.cli.failures import Failure
from oanix.cli.live import find_mount, mount_around
from oanix.cli.source import opened
from oanix.client import CHUNK, Client
from oanix.env import Busy, Run, runs, state_folder
from oanix.errors import fault
from oanix.recipe import Mount, parse


class Tree(Protocol):
    """Where the files of jobs are. Paths are those in the namespace; errors are OSError."""

    def names(self, path: str) -> list[str]:
        """List a directory."""

    async def read(self, path: str) -> str:
        """Read a file to its end."""

    async def write(self, path: str, text: str) -> None:
        """Write a message into a file."""

    def follow(self, path: str) -> AsyncIterator[bytes]:
        """Read a file as it comes, to its end."""

    async def feed(self, path: str, descriptor: int) -> None:
        """Copy what a descriptor of this process gives into a file, to its end."""


class Here:
    """A namespace of this process."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def names(self, path: str) -> list[str]:
        return self._client.listdir(path)

    def beneath(self, path: str) -> Iterator[str]:
        """Go through what lies beneath a directory, by paths from there."""
        top = self._client.channel(path)
        todo = [("", top)]
        while todo:
            prefix, folder = todo.pop(0)
            for name in folder.readdir(self._client.caller):
                found = folder.walk(self._client.caller, name)
                yield prefix + name
                if found.is_directory:
                    todo.append((f"{prefix}{name}/", found))

    async def read(self, path: str) -> str:
        return await self._client.read_text(path)

    async def write(self, path: str, text: str) -> None:
        await self._client.write(path, text, append=True, create=False)

    async def follow(self, path: str) -> AsyncIterator[bytes]:
        async with self._client.open(path) as file:
            async for piece in file:
                yield piece

    async def feed(self, path: str, descriptor: int) -> None:
        async with self._client.open(path, os.O_WRONLY) as file:
            while data := await _read(descriptor):
                await file.write(data)


class Mounted:
    """A mounted namespace."""

    def __init__(self, mountpoint: str) -> None:
        self.mountpoint = mountpoint

    def names(self, path: str) -> list[str]:
        return os.listdir(self.mountpoint + path)

    async def read(self, path: str) -> str:
        pieces = [piece async for piece in self.follow(path)]
        return b"".join(pieces).decode("utf-8", "surrogateescape")

    async def write(self, path: str, text: str) -> None:
        def put() -> None:
            descriptor = os.open(self.mountpoint + path, os.O_WRONLY)
            try:
                os.write(descriptor, text.encode("utf-8", "surrogateescape"))
            except OSError as error:
                raise fault(error.errno or errno.EIO, self._said(path) or str(error)) from None
            finally:
                os.close(descriptor)

        await trio.to_thread.run_sync(put)

    def _said(self, path: str) -> str:
        """Give the server's sentence for what just went wrong with a path."""
        try:
            with open(f"{self.mountpoint}/dev/errstr", encoding="utf-8") as file:
                last = file.read().splitlines()[-1:]
        except OSError:
            # Not every namespace has /dev; the errno then has to say it all.
            return ""
        found = [line.partition(f"{path}: ")[2] for line in last]
        return found[0] if found else ""

    async def follow(self, path: str) -> AsyncIterator[bytes]:
        descriptor = await trio.to_thread.run_sync(os.open, self.mountpoint + path, os.O_RDONLY)
        try:
            while data := await _read(descriptor):
                yield data
        finally:
            os.close(descriptor)

    async def feed(self, path: str, descriptor: int) -> None:
        into = await trio.to_thread.run_sync(os.open, self.mountpoint + path, os.O_WRONLY)
        try:
            while data := await _read(descriptor):
                while data:
                    done = await trio.to_thread.run_sync(os.write, into, data)
                    data = data[done:]
        finally:
            os.close(into)


async def _read(descriptor: int) -> bytes:
    return await trio.to_thread.run_sync(os.read, descriptor, CHUNK, abandon_on_cancel=True)


@frozen
class Place:
    """A tree, and the folder of the host that keeps its jobs. recipe: of the namespace."""

    tree: Tree
    folder: Path
    recipe: str

    def paths_of(self, file: str) -> Iterator[str]:
        """Give the paths where the namespace may show a file of the host."""
        real = os.path.realpath(file)
        try:
            real.encode()
        except UnicodeEncodeError:
            # An order is JSON, which cannot say it.
            return
        if isinstance(self.tree, Mounted) and real.startswith(f"{self.tree.mountpoint}/"):
            yield real[len(self.tree.mountpoint) :]
        for placed in parse(self.recipe):
            line = placed.line
            if isinstance(line, Mount) and line.service == "workspace" and line.argument:
                top = os.path.realpath(line.argument)
                if real.startswith(top.rstrip("/") + "/"):
                    yield paths.join([*paths.split(line.path), *paths.split(real[len(top) :])])


@asynccontextmanager
async def place(at: str | None, directory: str | None) -> AsyncIterator[Place]:
    """Find the jobs of a mount, or of a directory: those of its server, when there is one.

    Without either, those of the mount that one is in, else of the directory. Raises Failure where
    there is none.
    """
    at = at or (mount_around(".") if directory is None else None)
    if at is not None:
        mountpoint = find_mount(at)
        yield _mounted(mountpoint, run_of(mountpoint))
        return
    top, served = _served(directory)
    if served is not None and served.mountpoint:
        yield _mounted(served.mountpoint, served)
        return
    try:
        async with opened(None, directory) as client:
            folder = Path(workspace_state(state_folder(), top)) / "jobs"
            yield Place(Here(client), folder, client.namespace.recipe())
    except Busy as error:
        raise Failure(str(error.strerror), "name its mount: --at MOUNT", os.EX_TEMPFAIL) from None


def _served(directory: str | None) -> tuple[str, Run | None]:
    top = os.path.abspath(directory or ".")
    return top, next((run for run in runs(state_folder()) if run.serves == top), None)


def run_of(mountpoint: str) -> Run | None:
    """Find what the server of a mount says of itself."""
    return next((run for run in runs(state_folder()) if run.mountpoint == mountpoint), None)


def _mounted(mountpoint: str, run: Run | None) -> Place:
    lines = [placed.line for placed in parse(run.recipe)] if run is not None else []
    mounts = [line for line in lines if isinstance(line, Mount) and line.service == "jobs"]
    if not mounts:
        raise Failure(
            f"the namespace at {mountpoint} has no jobs",
            "add `mount jobs:DIR /jobs` to its recipe, after its logs",
        )
    if mounts[0].path != "/jobs":
        raise Failure(f"the jobs of {mountpoint} are at {mounts[0].path}, not at /jobs")
    folder = Path(mounts[0].argument or "")
    return Place(Mounted(mountpoint), folder, run.recipe if run is not None else "")


def is_gone(error: OSError) -> bool:
    """Tell whether an error says that there is no such job."""
    return error.errno in (errno.ENOENT, errno.ESRCH)
