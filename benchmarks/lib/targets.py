"""What is compared: the bare directory, our mount of it, and two well-known mounts of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from .host import fresh
from .mounts import abort, detach, end_servers, is_mounted, wait_until_mounted
from .process import CommandFailed, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOUNT_TIMEOUT = 30


class MountFailed(CommandFailed):
    """A target cannot be used at all."""


@frozen
class Places:
    """Where a run keeps its files: one folder with the shared source beside the mounts."""

    base: Path

    @property
    def source(self) -> Path:
        """The directory that all targets show."""
        return self.base / "source"

    @property
    def fixtures(self) -> Path:
        """What is made once and read by every round."""
        return self.base / "fixtures"


@frozen
class Mount:
    """A target that is ready: where the files of the source are, and the point of its mount."""

    root: Path
    point: Path | None


@frozen
class Target:
    """One way to reach the source directory.

    `mount` makes a command line of program, source, mount point and a directory for the server's
    own files, `unmount` of program and mount point; `inside` is where the files are in the mount.
    """

    name: str
    executable: str | None
    version: str
    mount: Callable[[str, Path, Path, Path], list[str]] | None = None
    unmount: Callable[[str, Path], list[str]] | None = None
    inside: str = "."

    @property
    def missing(self) -> bool:
        """Whether its program is not installed."""
        return self.mount is not None and self.executable is None

    @contextlib.contextmanager
    def mounted(self, places: Places) -> Iterator[Mount]:
        """Mount the source under a name never used before; unmount whatever happens.

        Raises MountFailed when the mount cannot be made or does not go away.
        """
        if self.mount is None or self.executable is None:
            yield Mount(places.source, None)
            return
        point, state = fresh(places.base, "mount"), fresh(places.base, "state")
        environment = {**os.environ, "OANIX_STATE": str(state), "RCLONE_CONFIG": ""}
        command = self.mount(self.executable, places.source, point, state)
        try:
            try:
                run(command, timeout=MOUNT_TIMEOUT, env=environment, on_stuck=lambda: abort(point))
                wait_until_mounted(point, MOUNT_TIMEOUT)
            except CommandFailed as failure:
                raise MountFailed(f"no mount: {failure}") from failure
            yield Mount(point / self.inside, point)
        finally:
            detach(point, self.unmount and self.unmount(self.executable, point))
            end_servers(point)
            if is_mounted(point):
                raise MountFailed(f"could not be unmounted from {point}")


def all_targets() -> list[Target]:
    """Return every target, installed or not, in the order of a round."""
    bindfs, rclone = shutil.which("bindfs"), shutil.which("rclone")
    return [
        Target("bare", None, ""),
        Target(
            "oanix", _own_program(), _package_version("oanix"),
            mount=lambda exe, source, point, _: [exe, "mount", "--daemon", str(source), str(point)],
            unmount=lambda exe, point: [exe, "unmount", str(point)],
            inside="workspace",
        ),
        Target(
            "bindfs", bindfs, _program_version(bindfs, "--version"),
            mount=lambda exe, source, point, _: [exe, str(source), str(point)],
        ),
        Target(
            "rclone", rclone, _program_version(rclone, "version"),
            mount=lambda exe, source, point, state: [
                exe, "mount", "--vfs-cache-mode", "writes", "--daemon",
                "--cache-dir", str(state), str(source), str(point),
            ],
        ),
    ]  # fmt: skip


def _own_program() -> str | None:
    """Find our command beside the Python that runs this: the checkout's own, not another's."""
    beside = Path(sys.executable).parent / "oanix"
    return str(beside) if beside.exists() else shutil.which("oanix")


def _package_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _program_version(executable: str | None, argument: str) -> str:
    if executable is None:
        return ""
    try:
        found = re.search(r"\d+(\.\d+)+", run([executable, argument], timeout=20))
    except CommandFailed:
        return ""
    return found.group() if found else ""
