"""What examples/ and docs/writing-a-service.md say works, and both say the same."""

import errno
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mount.mounting import end, start, wait_until
from tests.reach import ALICE, BOB, ROOT, Reach, refused

if TYPE_CHECKING:
    from oanix.kit import TableService

ROOT_FOLDER = Path(__file__).parents[1]
EXAMPLE = ROOT_FOLDER / "examples/counter_service.py"
PAGE = (ROOT_FOLDER / "docs/writing-a-service.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def run(session: str, folder: Path) -> tuple[int, str]:
    """Run a session in a shell that stops at the first failure; give its code and complaints."""
    done = subprocess.run(
        ["bash", "-euc", session], cwd=folder, capture_output=True, text=True, timeout=30
    )
    return done.returncode, done.stderr


def load() -> "TableService":
    pytest.importorskip("pyfuse3")
    spec = spec_from_file_location("counter_service", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CounterFs()  # type: ignore[no-any-return]


@pytest.fixture
def reach() -> Reach:
    return Reach.of(load(), ALICE)


def test_the_page_shows_the_example_as_it_is() -> None:
    shown = [line for block in blocks("python") for line in block.splitlines() if line]
    there = [line for line in EXAMPLE.read_text().splitlines() if line]

    assert shown == there


def test_the_service_has_about_fifty_lines() -> None:
    source = EXAMPLE.read_text()
    body = source[source.index("    def __init__") : source.index("async def main")]

    assert len([line for line in body.splitlines() if line.strip()]) <= 50


async def test_counters_count_for_their_maker_and_in_all(reach: Reach) -> None:
    new = await reach.open("/new")
    other = await reach.by(BOB).open("/new")
    assert new.try_read(ALICE, 10, 0) == b"1\n"
    assert other.try_read(BOB, 10, 0) == b"2\n"

    await reach.write("/1/ctl", "add 5\nadd\n")
    await reach.by(BOB).write("/2/ctl", "add -2\n")

    assert await reach.text("/1/count") == "6\n"
    assert await reach.text("/status") == "counters 2\ntotal 4\n"
    with refused(errno.EACCES):
        await reach.by(BOB).write("/1/ctl", "add 1\n")


async def test_what_happens_is_read_from_the_stream(reach: Reach) -> None:
    new = await reach.open("/new")
    new.try_read(ALICE, 10, 0)
    await reach.write("/1/ctl", "add 5\n")
    await reach.write("/note", "half past")

    assert await reach.text("/events") == "counter 1 is at 5\nhalf past\n"


async def test_bad_commands_are_told_what_to_write(reach: Reach) -> None:
    new = await reach.open("/new")
    new.try_read(ALICE, 10, 0)

    with refused(errno.EINVAL, "write one of: add, close"):
        await reach.write("/1/ctl", "subtract\n")
    with refused(errno.EINVAL, "'many' is no number from -1000 to 1000"):
        await reach.write("/1/ctl", "add many\n")
    with refused(errno.EINVAL, "from 1 to 1000"):
        await reach.write("/step", "0\n")
    assert (await reach.text("/README")).startswith("Counts, for whoever asks.\n")
    assert reach.at("/").stat(ROOT).st_nlink == 3


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    mountpoint = tmp_path / "counters"
    mountpoint.mkdir()
    server = subprocess.Popen(
        [sys.executable, EXAMPLE, mountpoint],
        env={**os.environ, "PYTHONPATH": str(ROOT_FOLDER)},
    )
    try:
        wait_until(lambda: os.path.ismount(mountpoint) or server.poll() is not None)
        assert server.poll() is None
        yield mountpoint
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0


@pytest.mark.fuse
@pytest.mark.slow
def test_the_session_of_the_page_works_when_it_is_mounted(mounted: Path) -> None:
    sessions = blocks("sh")
    assert sessions

    for session in sessions:
        assert run(session, mounted) == (0, "")


@pytest.mark.fuse
@pytest.mark.slow
def test_a_reader_of_the_mounted_stream_gets_lines_as_they_come(mounted: Path) -> None:
    reader = subprocess.Popen(["cat", mounted / "events"], stdout=subprocess.PIPE)
    assert reader.stdout is not None
    try:
        for line in (b"one\n", b"two\n"):
            (mounted / "note").write_bytes(line)
            assert select.select([reader.stdout], [], [], 20)[0]
            assert os.read(reader.stdout.fileno(), 100) == line
    finally:
        reader.terminate()
        reader.wait(20)
        reader.stdout.close()


@pytest.mark.fuse
@pytest.mark.slow
@pytest.mark.parametrize("page", ["memfs", "devfs", "procfs"])
def test_the_examples_of_a_page_work_when_it_is_mounted(tmp_path: Path, page: str) -> None:
    text = (ROOT_FOLDER / f"docs/man/{page}.md").read_text()
    sessions = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert sessions
    mountpoint, host = tmp_path / "mountpoint", tmp_path / "host"
    mountpoint.mkdir()
    host.mkdir()
    mount = start(mountpoint, host)
    try:
        for session in sessions:
            assert run(session, mountpoint) == (0, "")
    finally:
        end(mount)
