"""A full disk, no descriptors, a failing fsync: writers are told, nothing accepted is lost."""

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio

from oanix.services.logs import host
from tests.service.logs_help import ANYONE, APPEND, Logs, make, running

SIZE = 1_048_576


def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("mounting a small tmpfs needs root")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "oanix-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    yield from tmpfs(tmp_path / "disk", f"size={SIZE}")


@pytest.fixture
def few_files(tmp_path: Path) -> Iterator[Path]:
    """A disk with 12 inodes."""
    yield from tmpfs(tmp_path / "disk", "size=1m,nr_inodes=12")


def fill(disk: Path, leave: int) -> Path:
    """Take all the space of the disk but so much."""
    info = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(b"x" * (info.f_bavail * info.f_frsize - leave))
    return filler


def is_full() -> "pytest.RaisesExc[OSError]":
    return pytest.raises(OSError, match=rf"\[Errno {errno.ENOSPC}\]")


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Take every descriptor that the process may have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        lowest = os.open("/dev/null", os.O_RDONLY)
        stack.callback(os.close, lowest)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 8, limit[1]))
        with pytest.raises(OSError, match=rf"\[Errno {errno.EMFILE}\]"):
            take_descriptors(stack)
        yield


def take_descriptors(stack: ExitStack) -> None:
    while True:
        stack.callback(os.close, os.open("/dev/null", os.O_RDONLY))


async def test_a_writer_is_told_that_the_disk_is_full_and_nothing_accepted_is_lost(
    disk: Path,
) -> None:
    logs = make(disk / "state")
    follow = await logs.open("follow")
    await logs.append("events.jsonl", b"first\n")
    before = await logs.read("events.jsonl")
    filler = fill(disk, leave=0)
    file = await logs.open("events.jsonl", APPEND)
    many = b"a line that is too much now\n" * 500
    with is_full():
        await file.write(ANYONE, many, 0)
    assert await logs.read("events.jsonl") == before
    assert follow.try_read(ANYONE, 9999, 0) == before
    filler.unlink()
    assert await file.write(ANYONE, many, 0) == len(many)
    file.close(ANYONE)
    assert [each["message"] for each in await logs.records()] == [
        "first", *["a line that is too much now"] * 500
    ]  # fmt: skip


async def test_half_a_line_before_a_refused_write_is_still_there_after_it(disk: Path) -> None:
    logs = make(disk / "state")
    file = await logs.open("stdout.log", APPEND)
    await file.write(ANYONE, b"begin ", 0)
    filler = fill(disk, leave=0)
    with is_full():
        await file.write(ANYONE, b"middle\n" + b"x" * 200_000 + b"\n", 0)
    filler.unlink()
    await file.write(ANYONE, b"end\n", 0)
    file.close(ANYONE)
    assert await logs.read("stdout.log") == b"begin end\n"


async def test_a_long_write_gives_how_much_was_stored(disk: Path) -> None:
    logs = make(disk / "state")
    fill(disk, leave=600_000)
    file = await logs.open("stdout.log", APPEND)
    text = (b"y" * 99 + b"\n") * 10_000
    count = await file.write(ANYONE, text, 0)
    assert 0 < count < len(text)
    with is_full():
        await file.write(ANYONE, text[count:], 0)
    file.close(ANYONE)
    # The close has ended the half line that was accepted last.
    assert await logs.read("stdout.log") == text[:count] + b"\n"


async def test_half_a_line_closed_on_a_full_disk_is_stored_by_the_next_append(disk: Path) -> None:
    async with running(disk / "state") as logs:
        filler = fill(disk, leave=0)
        await logs.append("stdout.log", b"half")
        await logs.append("events.jsonl", b"at the end")
        assert await logs.read("stdout.log") == b""
        assert "half a line waits" in logs.service.status()["warning"]
        filler.unlink()
        await logs.append("stdout.log", b"next\n")
        assert await logs.read("stdout.log") == b"half\nnext\n"
    assert [each["message"] for each in await logs.records()] == ["at the end"]
    assert "warning" not in logs.service.status()


async def test_a_disk_that_is_full_while_a_log_is_packed_loses_nothing(disk: Path) -> None:
    async with running(disk / "state", rotate_bytes=100_000) as logs:
        noise = [os.urandom(40_000).replace(b"\n", b"") + b"\n" for _ in range(4)]
        await logs.append("stdout.log", noise[0])
        await logs.append("stdout.log", noise[1])
        # Room for one more line, none for a packed copy: noise cannot be made smaller.
        filler = fill(disk, leave=60_000)
        await logs.append("stdout.log", noise[2])
        await logs.until(lambda: "cannot be packed" in logs.service.status().get("warning", ""))
        assert logs.rotated("stdout.log") == ["stdout.log.1"]
        assert await logs.read("stdout.log.1") == noise[0] + noise[1]
        assert not [name for name in os.listdir(disk / "state") if name.endswith(".tmp")]
        filler.unlink()
        await logs.append("stdout.log", noise[3])
        await logs.append("stdout.log", noise[0])
        await logs.until_packed("stdout.log")
        assert logs.rotated("stdout.log") == ["stdout.log.1.gz", "stdout.log.2.gz"]
        assert await logs.history("stdout.log") == b"".join([*noise, noise[0]])
        assert "warning" not in logs.service.status()


async def test_a_rotation_that_cannot_make_a_file_lets_the_log_grow(few_files: Path) -> None:
    logs = make(few_files / "state", rotate_bytes=1000)
    await logs.append("stdout.log", b"x" * 900 + b"\n")
    fillers = []
    while os.statvfs(few_files).f_favail:
        fillers.append(few_files / f"filler{len(fillers)}")
        fillers[-1].touch()
    await logs.append("stdout.log", b"y" * 900 + b"\n")
    assert logs.rotated("stdout.log") == []
    assert "cannot be rotated" in logs.service.status()["warning"]
    for filler in fillers:
        filler.unlink()
    await logs.append("stdout.log", b"z" * 900 + b"\n")
    assert logs.rotated("stdout.log") == ["stdout.log.1"]
    assert len(await logs.history("stdout.log")) == 3 * 901
    assert "warning" not in logs.service.status()


async def test_a_service_starts_on_a_full_disk_and_repairs_when_it_can(disk: Path) -> None:
    await make(disk / "state").append("stdout.log", b"x" * 4092 + b"\n")
    with (disk / "state/stdout.log").open("ab") as file:
        file.write(b"cut")
    filler = fill(disk, leave=0)
    logs = make(disk / "state")
    with is_full():
        await logs.append("stdout.log", b"next\n")
    filler.unlink()
    await logs.append("stdout.log", b"next\n")
    assert await logs.read("stdout.log") == b"x" * 4092 + b"\ncut\nnext\n"


async def test_without_descriptors_open_logs_go_on_and_rotation_waits(tmp_path: Path) -> None:
    logs = make(tmp_path, rotate_bytes=1000)
    file = await logs.open("stdout.log", APPEND)
    await file.write(ANYONE, b"x" * 900 + b"\n", 0)
    with no_descriptors():
        await file.write(ANYONE, b"y" * 900 + b"\n", 0)
        with pytest.raises(OSError, match=rf"\[Errno {errno.EMFILE}\]"):
            await logs.open("stderr.log", APPEND)
        with pytest.raises(OSError, match=rf"\[Errno {errno.EMFILE}\]"):
            await file.fsync(ANYONE, False)
    assert logs.rotated("stdout.log") == []
    await file.write(ANYONE, b"z" * 900 + b"\n", 0)
    file.close(ANYONE)
    assert logs.rotated("stdout.log") == ["stdout.log.1"]
    assert len(await logs.history("stdout.log")) == 3 * 901


async def test_a_failed_fsync_is_told_once_to_each_open_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = make(tmp_path)
    one, two = await logs.open("stdout.log", APPEND), await logs.open("stdout.log", APPEND)
    real, calls = os.fsync, iter(range(1000))

    def failing(fd: int) -> None:
        if next(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(host.os, "fsync", failing)
    await one.write(ANYONE, b"line\n", 0)
    for file in (one, two):
        with pytest.raises(OSError, match=rf"\[Errno {errno.EIO}\]"):
            await file.fsync(ANYONE, False)
        await file.fsync(ANYONE, False)
    late = await logs.open("stdout.log", APPEND)
    await late.fsync(ANYONE, False)
    for file in (one, two, late):
        file.close(ANYONE)


async def test_fsync_reaches_what_was_rotated_since_the_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = make(tmp_path, rotate_bytes=60)
    file = await logs.open("stdout.log", APPEND)
    await file.write(ANYONE, b"x" * 50 + b"\n", 0)
    await file.write(ANYONE, b"y" * 50 + b"\n", 0)
    synced: list[int] = []
    real = os.fsync

    def noting(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        real(fd)

    monkeypatch.setattr(host.os, "fsync", noting)
    await file.fsync(ANYONE, False)
    file.close(ANYONE)
    inodes = {os.stat(tmp_path / name).st_ino for name in ("stdout.log", "stdout.log.000001")}
    assert inodes | {os.stat(tmp_path).st_ino} == set(synced)


async def test_a_cancelled_service_ends_though_a_log_is_being_packed(tmp_path: Path) -> None:
    logs: Logs = make(tmp_path, rotate_bytes=30_000_000)
    await logs.append("stdout.log", (b"z" * 99 + b"\n") * 299_999)
    await logs.append("stdout.log", b"z" * 99 + b"\n" + b"z" * 99 + b"\n")
    with trio.fail_after(20), trio.CancelScope() as scope:
        async with logs.service.running():
            await trio.testing.wait_all_tasks_blocked(0.001)
            scope.cancel()
            await trio.sleep_forever()
    assert len(await make(tmp_path).history("stdout.log")) == 30_000_100
