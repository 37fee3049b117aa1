"""What holds for every test: nothing stays mounted, nothing stays running, runs repeat."""

import ctypes
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, settings

# An example's time says more about the machine's load than about the code under test.
_untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", _untimed, derandomize=True)
settings.register_profile("explore", _untimed, max_examples=2000, print_blob=True)
settings.load_profile("ci")

_without_fuse = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without-fuse", action="store_true", help='leave out the tests marked "fuse"'
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs FUSE. An option, as a second `-m` would silently replace the user's."""
    if not config.getoption("--without-fuse"):
        return
    needs_fuse = [item for item in items if item.get_closest_marker("fuse")]
    config.stash[_without_fuse] = len(needs_fuse)
    config.hook.pytest_deselected(items=needs_fuse)
    items[:] = [item for item in items if not item.get_closest_marker("fuse")]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if _without_fuse in config.stash:
        count = config.stash[_without_fuse]
        terminalreporter.write_line(
            f'not run, as --without-fuse was given: tests marked "fuse": {count}'
        )


def pytest_sessionstart() -> None:
    """Become the parent of orphans, so that a daemon that a test leaves behind is seen too."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def pytest_configure() -> None:
    """Have commands heed signals also where the tests run in the background or under nohup(1)."""

    def nothing(number: int, frame: FrameType | None) -> None:
        """Take the place of being ignored, which processes inherit as that, but this as heeded."""

    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, nothing)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile each interpreter once in a run, and leave the user's cache alone."""
    os.environ["OANIX_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def leaves_nothing_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail a test that leaves a FUSE mount under the tests' folder, or a child process.

    Fixtures of a wider scope are made before this one, so what they hold is not counted. What is
    found is taken away, as it would be held against the next test or keep the run from ending.
    What was told to end, or was killed, has a while for it.
    """
    base = tmp_path_factory.getbasetemp().resolve()
    mounts_before, children_before = _fuse_mounts(base), _children()
    yield
    mounts = _fuse_mounts(base) - mounts_before
    for path in mounts:
        subprocess.run(["fusermount3", "-u", "-z", path], check=True)
    running = {
        pid: _command(pid) for pid in _children() - children_before if not _ends(pid, seconds=10)
    }
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        _ends(pid, seconds=2)
    left = [f"the mount {path}" for path in sorted(mounts)]
    left += [f"the process {pid} ({command})" for pid, command in running.items()]
    if left:
        pytest.fail("the test left behind " + ", ".join(left), pytrace=False)


def _fuse_mounts(base: Path) -> set[str]:
    found = set()
    for line in Path("/proc/self/mounts").read_bytes().splitlines():
        _, target, kind, *_ = line.split(b" ")
        # The kernel writes blanks and backslashes as three octal digits.
        path = os.fsdecode(target.decode("unicode_escape").encode("latin-1"))
        if kind.startswith(b"fuse") and Path(path).is_relative_to(base):
            found.add(path)
    return found


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found.update(map(int, (task / "children").read_text().split()))
    return found


def _ends(pid: int, *, seconds: float) -> bool:
    """Wait until a child has ended, and reap it; say whether it has."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ended = bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)
    if ended:
        with suppress(ChildProcessError):  # reaped by the module that started it
            os.waitpid(pid, os.WNOHANG)
    return ended


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except FileNotFoundError:
        return "ended"
    return b" ".join(words).decode(errors="replace").strip()
