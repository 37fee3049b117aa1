"""Start and end servers for the tests of the FUSE door: each mount is a process of its own."""

import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define

from tests.commands import TIME_OUT_S, Oanix

SERVER = Path(__file__).parent / "server.py"
READY_S = 20


def wait_until(true: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait for a condition that no descriptor tells of."""
    pause = threading.Event()
    for _ in range(int(timeout_s / 0.01)):
        if true():
            return
        pause.wait(0.01)
    raise AssertionError(f"not within {timeout_s} s: {true}")


def holds(pid: int, path: Path) -> bool:
    """Tell whether a process has a file open."""
    try:
        links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False  # it is starting, or has ended
    return str(path) in links


@define(eq=False)
class Mount:
    """A running server: its mount point, the host folder behind /workspace, its process."""

    path: Path
    host: Path
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def workspace(self) -> Path:
        """The host folder as mounted."""
        return self.path / "workspace"

    def stop(self) -> int:
        """End the server as a user would, and give its exit code."""
        self.process.terminate()
        return self.process.wait(READY_S)


def start(path: Path, host: Path, *options: str) -> Mount:
    """Start a server and wait until it has mounted."""
    log = path.with_suffix(".log")
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, SERVER, path, host, *options],
            stdout=subprocess.PIPE,
            stderr=out,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
        )
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], READY_S)
    if not ready or process.stdout.readline() != b"mounted\n":
        process.kill()
        process.wait()
        process.stdout.close()
        raise AssertionError(f"the server did not mount:\n{log.read_text()}")
    return Mount(path, host, process, log)


def end(mount: Mount) -> None:
    """End a server that a test may have ended already."""
    if mount.process.poll() is None:
        mount.stop()
    assert mount.process.stdout is not None
    mount.process.stdout.close()


@contextmanager
def mounted(oanix: Oanix, mountpoint: Path) -> Iterator[None]:
    """Have a server of its own mount the current directory of a command line, until it is gone."""
    done = oanix("mount", "--daemon", mountpoint)
    assert done.returncode == 0, done.stderr
    found = re.search(rb"process (\d+)", done.stderr)
    assert found
    server = os.pidfd_open(int(found[1]))
    try:
        yield
        oanix("unmount", "--lazy", mountpoint)
        assert select.select([server], [], [], TIME_OUT_S)[0]
    finally:
        os.close(server)
