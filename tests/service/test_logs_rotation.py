"""Rotation: nothing is lost, readers and writers go on, and the caps hold."""

import errno
import gzip
import os
from pathlib import Path

import pytest
import trio

from oanix.service import Change  # noqa: TC001
from tests.service.logs_help import ANYONE, APPEND, Logs, make, running

DAY_NS = 86_400 * 10**9


async def fill(logs: Logs, name: str, lines: range, size: int = 50) -> None:
    for number in lines:
        await logs.append(name, (b"%d " % number).ljust(size - 1, b".") + b"\n")


def numbers(text: bytes) -> list[int]:
    return [int(line.split()[0]) for line in text.splitlines()]


async def test_a_log_rotates_before_it_exceeds_its_size(tmp_path: Path) -> None:
    async with running(tmp_path, rotate_bytes=200) as logs:
        await fill(logs, "stdout.log", range(4))
        assert logs.rotated("stdout.log") == []
        await fill(logs, "stdout.log", range(4, 9))
        await logs.until_packed("stdout.log")
        assert logs.rotated("stdout.log") == ["stdout.log.1.gz", "stdout.log.2.gz"]
        newest = gzip.decompress(await logs.read("stdout.log.1.gz"))
        assert numbers(newest) == [4, 5, 6, 7]
        assert numbers(await logs.history("stdout.log")) == list(range(9))


async def test_a_log_rotates_by_age_and_the_age_outlives_a_restart(tmp_path: Path) -> None:
    now = [10**18]
    settings = {"clock": lambda: now[0], "rotate_age_s": 86_400}
    logs = make(tmp_path, **settings)
    await fill(logs, "stdout.log", range(1))
    now[0] += DAY_NS - 1
    logs = make(tmp_path, **settings)
    await fill(logs, "stdout.log", range(1, 2))
    assert logs.rotated("stdout.log") == []
    now[0] += 1
    logs = make(tmp_path, **settings)
    await fill(logs, "stdout.log", range(2, 3))
    assert logs.rotated("stdout.log") == ["stdout.log.1"]
    assert numbers(await logs.read("stdout.log")) == [2]


async def test_an_empty_log_has_no_age(tmp_path: Path) -> None:
    now = [10**18]
    logs = make(tmp_path, clock=lambda: now[0], rotate_age_s=1)
    now[0] += DAY_NS
    await fill(logs, "stdout.log", range(1))
    await fill(logs, "stdout.log", range(1, 2))
    assert logs.rotated("stdout.log") == []


async def test_a_clock_that_goes_back_rotates_nothing(tmp_path: Path) -> None:
    now = [10**18]
    logs = make(tmp_path, clock=lambda: now[0], rotate_age_s=60)
    await fill(logs, "stdout.log", range(1))
    now[0] -= DAY_NS
    await fill(logs, "stdout.log", range(1, 3))
    assert logs.rotated("stdout.log") == []


async def test_an_unpacked_log_says_so_by_its_name(tmp_path: Path) -> None:
    logs = make(tmp_path, rotate_bytes=60)
    await fill(logs, "stdout.log", range(2))
    assert logs.rotated("stdout.log") == ["stdout.log.1"]
    assert numbers(await logs.read("stdout.log.1")) == [0]
    for absent in ("stdout.log.1.gz", "stdout.log.0", "stdout.log.2", "stdout.log.01"):
        assert not logs.client.exists(f"/logs/{absent}")


async def test_a_rotated_file_is_only_read(tmp_path: Path) -> None:
    async with running(tmp_path, rotate_bytes=60) as logs:
        await fill(logs, "stdout.log", range(2))
        await logs.until_packed("stdout.log")
        name = logs.rotated("stdout.log")[0]
        for flags in (APPEND, os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
            with pytest.raises(PermissionError):
                await logs.open(name, flags)
        with pytest.raises(PermissionError):
            logs.client.unlink(f"/logs/{name}")
        file = await logs.open(name)
        assert file.size == logs.client.stat(f"/logs/{name}").st_size == len(await logs.read(name))
        assert file.stat().st_mode & 0o777 == 0o444
        file.close(ANYONE)


async def test_a_reader_stays_with_its_file_and_a_writer_with_the_name(tmp_path: Path) -> None:
    async with running(tmp_path, rotate_bytes=200, keep=1) as logs:
        reader = await logs.open("stdout.log")
        writer = await logs.open("stdout.log", os.O_RDWR | os.O_APPEND)
        for number in range(40):
            await writer.write(ANYONE, b"%d".ljust(50, b".") % number + b"\n", 0)
        await logs.until_packed("stdout.log")
        assert await reader.read(ANYONE, 9999, 0) == await writer.read(ANYONE, 9999, 0)
        assert (await reader.read(ANYONE, 9999, 0)).startswith(b"0.")
        assert reader.stat().st_nlink == 0
        assert reader.channel.stat(ANYONE).st_size == reader.stat().st_size > 100
        assert b"39" in await logs.read("stdout.log")
        reader.close(ANYONE)
        writer.close(ANYONE)
        with pytest.raises(OSError, match=rf"\[Errno {errno.ESTALE}\]"):
            reader.channel.stat(ANYONE)


async def test_a_half_line_over_a_rotation_stays_whole(tmp_path: Path) -> None:
    logs = make(tmp_path, rotate_bytes=60)
    file = await logs.open("stdout.log", APPEND)
    await file.write(ANYONE, b"begin ", 0)
    await fill(logs, "stdout.log", range(3))
    await file.write(ANYONE, b"end\n", 0)
    file.close(ANYONE)
    assert (await logs.history("stdout.log")).endswith(b"begin end\n")


async def test_a_rotation_gives_the_name_a_new_file_and_announces_it(tmp_path: Path) -> None:
    async with running(tmp_path, rotate_bytes=60) as logs:
        changes: list[Change] = []
        logs.service.changes.subscribe(changes.append)
        before = logs.client.channel("/logs/stdout.log").key
        writer = await logs.open("stdout.log", APPEND)
        await writer.write(ANYONE, b"x" * 50 + b"\n", 0)
        await writer.write(ANYONE, b"y" * 50 + b"\n", 0)
        after = logs.client.channel("/logs/stdout.log").key
        assert after != before
        root = logs.service.root.qid
        named = {change.name for change in changes if change.qid == root}
        assert named >= {"stdout.log", "stdout.log.1", "stdout.log.1.gz"}
        assert after[1] in [change.qid for change in changes if change.name is None]
        plain = logs.client.channel("/logs/stdout.log.1").key
        await logs.until_packed("stdout.log")
        assert logs.client.channel("/logs/stdout.log.1.gz").key not in (plain, before, after)
        writer.close(ANYONE)


async def test_only_so_many_rotated_files_are_kept(tmp_path: Path) -> None:
    async with running(tmp_path, rotate_bytes=60, keep=3) as logs:
        await fill(logs, "stdout.log", range(20))
        await logs.until_packed("stdout.log")
        assert len(logs.rotated("stdout.log")) == 3
        assert numbers(await logs.history("stdout.log")) == [16, 17, 18, 19]


async def test_the_oldest_rotated_file_of_all_goes_when_all_are_too_much(tmp_path: Path) -> None:
    logs = make(tmp_path, rotate_bytes=60, total_bytes=300)
    await fill(logs, "stderr.log", range(3))
    await fill(logs, "stdout.log", range(3))
    await fill(logs, "stderr.log", range(3, 5))
    assert numbers(await logs.history("stderr.log")) == [2, 3, 4]
    assert numbers(await logs.history("stdout.log")) == [0, 1, 2]
    assert int(logs.service.status()["bytes"]) <= 300


async def test_caps_that_were_lowered_hold_from_the_start(tmp_path: Path) -> None:
    await fill(make(tmp_path, rotate_bytes=60), "stdout.log", range(9))
    assert len(make(tmp_path, keep=2).rotated("stdout.log")) == 2
    assert make(tmp_path, total_bytes=0).rotated("stdout.log") == []


async def test_a_rotated_file_that_someone_removed_by_hand_harms_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, rotate_bytes=60, keep=2) as logs:
        await fill(logs, "stdout.log", range(3))
        await logs.until_packed("stdout.log")
        for name in os.listdir(tmp_path):
            if name.endswith(".gz"):
                os.unlink(tmp_path / name)
        await fill(logs, "stdout.log", range(3, 9))
        await logs.until_packed("stdout.log")
        assert numbers(await logs.history("stdout.log")) == [6, 7, 8]


@pytest.mark.slow
async def test_rotation_under_load_loses_no_line_of_any_writer(tmp_path: Path) -> None:
    async with running(tmp_path, rotate_bytes=20_000, keep=1000, rotate_age_s=1e9) as logs:

        async def write(writer: int) -> None:
            file = await logs.open("events.jsonl", APPEND)
            for number in range(500):
                text = b"%d %d" % (writer, number) + b"." * (number % 90) + b"\n"
                cut = number % len(text)
                await file.write(ANYONE, text[:cut], 0)
                await trio.lowlevel.checkpoint()
                await file.write(ANYONE, text[cut:], 0)
            file.close(ANYONE)

        async with trio.open_nursery() as nursery:
            for writer in range(8):
                nursery.start_soon(write, writer)
        await logs.until_packed("events.jsonl")
        assert len(logs.rotated("events.jsonl")) > 10
        history = await logs.history("events.jsonl")
        found = [line.split(b'"message":"')[1].split(b'"')[0] for line in history.splitlines()]
        for writer in range(8):
            own = [line.split()[1] for line in found if line.startswith(b"%d " % writer)]
            assert [int(each.rstrip(b".")) for each in own] == list(range(500))
        assert len(found) == 4000


async def test_the_service_can_run_again_and_packs_what_was_left(tmp_path: Path) -> None:
    logs = make(tmp_path, rotate_bytes=60)
    await fill(logs, "stdout.log", range(3))
    async with logs.service.running():
        await logs.until_packed("stdout.log")
    await fill(logs, "stdout.log", range(3, 5))
    again = make(tmp_path, rotate_bytes=60)
    async with again.service.running():
        await again.until_packed("stdout.log")
        assert numbers(await again.history("stdout.log")) == list(range(5))
