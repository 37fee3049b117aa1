"""What the kernel says about mounts and their servers, without touching a mount that may hang."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from mounts.stale import Mounted, mounts

from .process import CommandFailed, run


def is_mounted(path: Path) -> bool:
    """Say whether something is mounted exactly there."""
    return any(point.path == str(path) for point in mounts())


def filesystem_of(path: Path) -> str:
    """Return the type of the file system that holds a path."""
    device = os.stat(path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    # The last mount of a device is not always the right one, but its type is the same.
    kinds = [point.kind for point in mounts() if point.device == name]
    return kinds[-1] if kinds else "an unknown file system"


def wait_until_mounted(path: Path, timeout: float) -> None:
    """Wait until the mount shows up; raise CommandFailed when it does not."""
    end = time.monotonic() + timeout
    while not is_mounted(path):
        if time.monotonic() > end:
            raise CommandFailed(f"no mount appeared within {timeout:.0f} s")
        time.sleep(0.02)


def mounts_beneath(folder: Path) -> list[Mounted]:
    """Return the mounts on or below a path."""
    wanted = str(folder)
    return [p for p in mounts() if p.path == wanted or p.path.startswith(f"{wanted}/")]


def abort(folder: Path) -> None:
    """Cut the FUSE connections on or below a path: what waits for a dead server can end then.

    `umount -l` alone hides the mount and leaves those that wait in it waiting.
    """
    for point in mounts_beneath(folder):
        if point.kind.startswith("fuse"):
            minor = point.device.partition(":")[2]
            with contextlib.suppress(OSError):
                Path(f"/sys/fs/fuse/connections/{minor}/abort").write_text("1")


def detach(path: Path, command: list[str] | None = None) -> None:
    """Unmount: first as its own server wants it, then with fusermount, then by force."""
    fusermount = shutil.which("fusermount3") or shutil.which("fusermount") or "fusermount3"
    ways = [[fusermount, "-u", str(path)]] * 3 + [[fusermount, "-uz", str(path)]]
    for way in ([command] if command else []) + ways:
        if not is_mounted(path):
            return
        if "-uz" in way:
            abort(path)
        try:
            run(way, timeout=20, on_stuck=lambda: abort(path))
        except CommandFailed:
            time.sleep(0.3)


def server_processes(mount_point: Path) -> list[int]:
    """Return the processes that were started with this mount point as an argument."""
    wanted = os.fsencode(mount_point)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def end_servers(mount_point: Path) -> None:
    """Wait for a server's exit, so that its last work is not counted against the next one.

    The mount point's name was made up by us and used once, so who names it was started by us: a
    server that stays although its mount is gone is killed.
    """
    end = time.monotonic() + 10
    while (servers := server_processes(mount_point)) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in servers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def memory_of(pids: list[int]) -> tuple[float, float]:
    """Return the resident memory of these processes and its peak, in MiB."""
    totals = {b"VmRSS:": 0, b"VmHWM:": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_bytes().splitlines():
            name, _, rest = line.partition(b"\t")
            if name in totals:
                totals[name] += int(rest.split()[0])
    return totals[b"VmRSS:"] / 1024, totals[b"VmHWM:"] / 1024
