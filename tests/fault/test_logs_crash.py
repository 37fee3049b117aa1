"""A killed server loses no line that it acknowledged, and the next start repairs the rest."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.logs_help import APPEND, Logs, make, running

ROTATING = ["made", "renamed", "replaced"]
PACKING = ["packed", "named", "synced", "unlinked"]

WRITER = """
import os, signal, sys
from pathlib import Path
import trio
from tests.service.logs_help import make

async def main(folder, first, step, count):
    left = [int(count)]

    def at(name):
        left[0] -= name == step
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

    logs = make(Path(folder), rotate_bytes=600, keep=10**6, step=at)
    async with logs.service.running():
        for number in range(int(first), int(first) + 100_000):
            await logs.append("stdout.log", b"%d\\n" % number)
            await logs.append("events.jsonl", b"%d\\n" % number)
            os.write(1, b"%d\\n" % number)
            await trio.lowlevel.checkpoint()

trio.run(main, *sys.argv[1:])
"""


def start(folder: Path, first: int, step: str, count: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, folder, str(first), step, str(count)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


async def stored(logs: Logs, name: str) -> list[int]:
    text = await logs.history(name)
    if name == "stdout.log":
        return [int(line) for line in text.splitlines()]
    return [int(json.loads(line)["message"]) for line in text.splitlines()]


async def check(folder: Path, acknowledged: int) -> int:
    """See that every line is there once and that the logs go on; give the next number."""
    async with running(folder, rotate_bytes=600, keep=10**6) as logs:
        assert not [name for name in os.listdir(folder) if name.endswith((".tmp", ".next"))]
        following = 0
        for name in ("stdout.log", "events.jsonl"):
            await logs.until_packed(name)
            found = await stored(logs, name)
            assert found == list(range(len(found)))
            assert len(found) > acknowledged
            following = max(following, len(found))
        for name in ("stdout.log", "events.jsonl"):
            for number in range(len(await stored(logs, name)), following):
                await logs.append(name, b"%d\n" % number)
            await logs.until_packed(name)
            assert await stored(logs, name) == list(range(following))
        kept = [name for name in os.listdir(folder) if name.endswith(tuple("0123456789"))]
        assert kept == []
    return following


@pytest.mark.slow
@pytest.mark.parametrize("step", [*ROTATING, *PACKING])
async def test_a_kill_at_each_step_of_a_rotation_loses_nothing(tmp_path: Path, step: str) -> None:
    following = 0
    for count in (1, 2, 5):
        writer = start(tmp_path, following, step, count)
        output, _ = writer.communicate(timeout=50)
        assert writer.returncode == -signal.SIGKILL
        acknowledged = [int(line) for line in output.splitlines()]
        assert acknowledged
        following = await check(tmp_path, acknowledged[-1])


@pytest.mark.slow
async def test_kills_at_any_moment_lose_nothing(tmp_path: Path) -> None:
    following = 0
    for lines in (1, 40, 333, 7, 150, 90, 500):
        writer = start(tmp_path, following, "never", 1)
        assert writer.stdout is not None
        last = following
        for _ in range(lines):
            last = int(writer.stdout.readline())
        writer.kill()
        rest = writer.communicate(timeout=50)[0].splitlines()
        following = await check(tmp_path, int(rest[-1]) if rest else last)


async def test_half_a_line_that_a_crash_left_becomes_a_line(tmp_path: Path) -> None:
    logs = make(tmp_path)
    for name in ("stdout.log", "events.jsonl"):
        await logs.append(name, b"whole\n")
    append_on_host(tmp_path / "stdout.log", b"half")
    append_on_host(tmp_path / "events.jsonl", b'{"timestamp":"2026-01-02T03:\xff\0')
    again = make(tmp_path)
    await again.append("stdout.log", b"next\n")
    await again.append("events.jsonl", b"next\n")
    assert await again.read("stdout.log") == b"whole\nhalf\nnext\n"
    whole, cut, following = await again.records()
    assert (whole["message"], following["message"]) == ("whole", "next")
    assert cut["message"] == '{"timestamp":"2026-01-02T03:\\xff\0'
    assert "cut off" in cut["error"]
    assert (cut["level"], cut["source"]) == ("warning", "logs")


async def test_half_a_line_of_a_run_is_repaired_when_the_run_is_looked_at(tmp_path: Path) -> None:
    make(tmp_path).service.open_run("7")
    append_on_host(tmp_path / "runs/7/notes.log", b"one\nhalf")
    assert await make(tmp_path).read("runs/7/notes.log") == b"one\nhalf\n"


async def test_what_a_run_printed_stays_as_it_was_byte_by_byte(tmp_path: Path) -> None:
    make(tmp_path).service.open_run("7")
    append_on_host(tmp_path / "runs/7/stdout", b"one\nhalf")
    assert await make(tmp_path).read("runs/7/stdout") == b"one\nhalf"


async def test_half_a_line_longer_than_a_buffer_is_found(tmp_path: Path) -> None:
    await make(tmp_path).append("stdout.log", b"one\n")
    append_on_host(tmp_path / "stdout.log", b"x" * 600_000)
    assert await make(tmp_path).read("stdout.log") == b"one\n" + b"x" * 600_000 + b"\n"


async def test_gaps_in_the_numbers_on_the_host_do_not_show(tmp_path: Path) -> None:
    for number in (3, 12, 1_000_000):
        packed = gzip.compress(b"%d\n" % number)
        (tmp_path / f"stdout.log.{number:06d}.gz").write_bytes(packed)
    logs = make(tmp_path, rotate_bytes=1)
    assert logs.rotated("stdout.log") == [f"stdout.log.{number}.gz" for number in (1, 2, 3)]
    await logs.append("stdout.log", b"x\n")
    await logs.append("stdout.log", b"y\n")
    assert await logs.history("stdout.log") == b"3\n12\n1000000\nx\ny\n"


async def test_a_line_is_on_the_host_when_its_write_returns(tmp_path: Path) -> None:
    logs = make(tmp_path)
    file = await logs.open("stdout.log", APPEND)
    assert file.try_write(logs.client.caller, b"one\nhalf", 0) == 8
    assert await make(tmp_path).read("stdout.log") == b"one\n"
    file.close(logs.client.caller)


def append_on_host(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
