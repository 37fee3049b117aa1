"""The journal on a full disk, killed at any moment, and after a torn write."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oanix.journal import Limits
from tests.unit.journals import Kept

MIB = 1_048_576


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    if os.geteuid():
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MIB}", "test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path, leave: int) -> Path:
    info = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(b"x" * (info.f_bavail * info.f_frsize - leave))
    return filler


@pytest.mark.parametrize("leave", [0, 4_096, 20_480])
async def test_a_full_disk_stops_nothing_and_what_waits_is_written_later(
    disk: Path, leave: int, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(disk)
    async with kept.recording(queue_max=500) as (client, journal):
        await journal.flush()
        filler = fill(disk, leave)
        for number in range(600):
            client.mkdir(f"/{number}")
        await journal.flush()
        assert "No space left" in journal.status()["warning"]
        assert journal.status()["lost"] == "100"
        filler.unlink()
        await journal.flush()
        assert "warning" not in journal.status()
    assert [record["path"] for record in kept.operations()] == [f"/{n}" for n in range(500)]
    [lost] = [record for record in kept.records() if record["op"] == "lost"]
    assert str(lost["detail"]).startswith("100 records could not be kept")
    assert kept.verify().sound
    assert [line.levelname for line in caplog.records] == ["WARNING"]
    caplog.clear()


async def test_a_disk_that_stays_full_is_told_at_the_end(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept(disk)
    async with kept.recording() as (client, journal):
        await journal.flush()
        filler = fill(disk, 0)
        for number in range(100):
            client.mkdir(f"/{number}")
    assert "the journal ends without 101 records" in caplog.messages[-1]
    caplog.clear()
    filler.unlink()
    await kept.write(["later"])
    assert [record["path"] for record in kept.operations()] == ["/made-later"]
    assert kept.verify().sound


RECORDER = """
import sys
from pathlib import Path
import trio
from oanix.journal import Limits
from tests.unit.journals import Kept

async def main(folder, first):
    kept = Kept(Path(folder))
    async with kept.recording(Limits(segment_bytes=40_000)) as (client, journal):
        for number in range(int(first), 10**9):
            client.mkdir(f"/{number}")
            if not number % 50:
                await trio.sleep(0)
            if not number % 500:
                await journal.flush()
                sys.stdout.write(f"{number}\\n")
                sys.stdout.flush()

trio.run(main, *sys.argv[1:])
"""


def killed(folder: Path, first: int, lines: int) -> int:
    """Record in a process that is killed, and give the last that it said was written."""
    child = subprocess.Popen(
        [sys.executable, "-c", RECORDER, folder, str(first)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert child.stdout is not None
    said = [child.stdout.readline() for _ in range(lines)]
    child.send_signal(signal.SIGKILL)
    said += child.communicate()[0].splitlines(keepends=True)
    return int([line for line in said if line.endswith(b"\n")][-1])


@pytest.mark.slow
async def test_a_journal_that_is_killed_under_load_goes_on_and_is_sound(tmp_path: Path) -> None:
    kept, first = Kept(tmp_path), 1
    for lines in (1, 3, 8):
        written = killed(tmp_path, first, lines)
        assert kept.verify().sound
        await kept.write(["between"], Limits(segment_bytes=40_000))
        assert kept.verify().sound
        assert kept.verify().uncovered == 0
        numbers = [
            int(str(record["path"])[1:])
            for record in kept.operations()
            if record["path"] != "/made-between"
        ]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= written
        first = len(numbers) + 1


@pytest.mark.parametrize("rest", [b"{", b'{"seq":5,"time":"2027', b"\0" * 4_096])
async def test_a_torn_line_is_cut_off_and_that_is_recorded(tmp_path: Path, rest: bytes) -> None:
    kept = Kept(tmp_path)
    await kept.write(["a"])
    with kept.segments[0].open("ab") as file:
        file.write(rest)
    assert kept.verify().notes[0].startswith(f"an unfinished line of {len(rest)} bytes")
    await kept.write(["b"])
    finding = kept.verify()
    assert finding.sound
    assert finding.notes[0].startswith(f"recovered: a torn end of {len(rest)} bytes was cut off")


async def test_lines_after_the_anchor_that_do_not_follow_are_cut_off(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    await kept.write(["a"])
    with kept.segments[0].open("ab") as file:
        file.write(kept.segments[0].read_bytes().splitlines(keepends=True)[0] + b"no record\n")
    await kept.write(["b"])
    assert kept.verify().sound
    assert [record["seq"] for record in kept.records()] == list(range(1, 10))


@pytest.mark.parametrize("left", [b"", b'{"seq":'])
async def test_a_segment_with_nothing_but_a_torn_line_is_gone_on_with(
    tmp_path: Path, left: bytes
) -> None:
    kept = Kept(tmp_path)
    await kept.write(["a"])
    kept.segments[0].with_name("00000002.jsonl").write_bytes(left)
    await kept.write(["b"])
    finding = kept.verify()
    assert finding.sound
    assert len(kept.segments) == 2
    assert len(finding.notes) == bool(left)


async def test_a_kill_between_the_anchor_and_the_removal_of_old_segments_costs_nothing(
    tmp_path: Path,
) -> None:
    kept = Kept(tmp_path)
    limits = Limits(segment_bytes=600, kept_bytes=2_000)
    await kept.write("abcdefgh", limits)
    oldest = kept.segments[0]
    content = oldest.read_bytes()
    await kept.write("ijklmnop", limits)
    oldest.write_bytes(content)
    assert kept.verify().sound
    await kept.write(["later"], limits)
    assert kept.verify().sound
    assert not oldest.exists()
