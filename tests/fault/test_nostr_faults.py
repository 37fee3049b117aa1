"""NostrFs on a full, read-only or damaged disk, and killed: what was published is delivered."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from oanix.services.nostr.schema import DATABASE, MIGRATIONS
from oanix.store import Store
from tests.fault.test_relay_faults import fill
from tests.fault.test_store_faults import MIB, tmpfs
from tests.reach import refused
from tests.service.nostr_help import Clock, relay, until, user
from tests.service.relay_help import nothing_fails

__all__ = ["nothing_fails"]

ROOT = Path(__file__).parents[2]
NOBODY = "ws://127.0.0.1:1/"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    yield from tmpfs(tmp_path / "disk", 4 * MIB)


def waiting(folder: Path) -> list[str]:
    """List the texts that wait in an outbox which is sound."""
    with Store.open(str(folder / DATABASE), MIGRATIONS) as store:
        assert store.execute("PRAGMA integrity_check") == [("ok",)]
        rows = store.execute("SELECT json FROM outbox")
    return [json.loads(bytes(str(raw), "utf-8") if isinstance(raw, str) else raw)["content"]  # type: ignore[arg-type]
            for (raw,) in rows]  # fmt: skip


@pytest.mark.slow
async def test_a_full_disk_refuses_what_it_cannot_keep_and_loses_nothing_else(
    disk: Path, tmp_path: Path
) -> None:
    clock = Clock()
    async with relay(tmp_path / "1", clock) as one:
        port = one.port
    taken: list[str] = []
    async with user(disk / "n", clock) as it:
        await it.ctl(f"relay add ws://127.0.0.1:{port}/")
        filler = fill(disk, leave=200_000)
        with refused(errno.ENOSPC):
            for number in range(400):
                text = f"{number} {'x' * 9_000}"
                await it.write("/publish", text)
                taken.append(text)
        assert taken
        with refused(errno.ENOSPC):
            for number in range(100):
                await it.ctl(f"relay add wss://relay.example/{number}{'x' * 2_000}")
        assert f"pending {len(taken)}\n" in await it.reach.text("/status")
        filler.unlink()
        await it.write("/publish", "there is room again")
        taken.append("there is room again")
    assert sorted(waiting(disk / "n")) == sorted(taken)
    async with relay(tmp_path / "1", clock, port=port) as one, user(disk / "n", clock) as it:
        await until(lambda: it.fs.nostr.outbox.pending == 0)
        assert sorted(event.content for event in await one.events()) == sorted(taken)
    assert waiting(disk / "n") == []


@pytest.mark.slow
async def test_a_read_only_disk_is_told_and_what_can_be_read_is(disk: Path, tmp_path: Path) -> None:
    clock = Clock()
    async with relay(tmp_path / "1", clock) as one:
        async with user(disk / "n", clock) as it:
            await it.ctl(f"relay add {one.url}")
            await it.ask("/publish", "before")
        await trio.run_process(["mount", "-o", "remount,ro", str(disk)])
        async with user(disk / "n", clock) as it:
            with refused(errno.EROFS):
                await it.write("/publish", "not kept")
        assert [event.content for event in await one.events()] == ["before"]


@pytest.mark.slow
async def test_an_event_that_is_damaged_keeps_no_other_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    async with relay(tmp_path / "1", clock) as one:
        port = one.port
    async with user(tmp_path / "n", clock) as it:
        await it.ctl(f"relay add ws://127.0.0.1:{port}/")
        for text in ("one", "two", "three"):
            await it.write("/publish", text)
    with Store.open(str(tmp_path / "n" / DATABASE), MIGRATIONS) as store:
        store.execute(
            "UPDATE outbox SET json = ? WHERE CAST(json AS TEXT) LIKE '%two%'", b'{"id":"\xff'
        )
    async with relay(tmp_path / "1", clock, port=port) as one, user(tmp_path / "n", clock) as it:
        await until(lambda: one.fs.relay.core.stats()["accepted"] == 2)
        assert {event.content for event in await one.events()} == {"one", "three"}
        assert (await it.ask("/publish", "four"))[0]["ok"] is True
    said = [one for one in caplog.records if "is damaged" in one.getMessage()]
    assert [one.levelno for one in said] == [logging.WARNING]


@pytest.mark.parametrize(
    ("what", "number"),
    [("text", errno.EIO), ("zeros", errno.EIO), ("a newer one", errno.EOPNOTSUPP)],
)
async def test_what_is_no_database_is_told_to_who_uses_it(
    what: str, number: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, path = Clock(), tmp_path / "n" / DATABASE
    async with user(tmp_path / "n", clock) as it:
        await it.ctl(f"relay add {NOBODY}")
    if what == "a newer one":
        with Store.open(str(path), MIGRATIONS) as store:
            store.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(b"text" * 5_000 if what == "text" else bytes(20_000))
    before = path.read_bytes()
    async with user(tmp_path / "n", clock) as it:
        assert "publish" in it.reach.names("/")
        for asked in ("/status", "/req/kinds=1"):
            with refused(number):
                await it.reach.read(asked)
        with refused(number):
            await it.write("/publish", "lost?")
    assert path.read_bytes() == before
    assert all(one.levelno == logging.WARNING for one in caplog.records)


PUBLISHING = """
import sys, trio
from pathlib import Path
from tests.service.nostr_help import Clock, user

async def main():
    async with user(Path(sys.argv[1]), Clock()) as it, trio.open_nursery() as nursery:
        async def write(name):
            # All that three processes publish is asked for at once in the end.
            for number in range(40):
                text = f"{name} {number}"
                await it.write("/publish", text)
                print(text, flush=True)
        for name in range(4):
            nursery.start_soon(write, name)
        nursery.start_soon(trio.sleep_forever)

trio.run(main)
"""


def killed(folder: Path) -> list[str]:
    """Publish for a while, then kill whoever does; give what he was told was taken."""
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHING, folder], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(30)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read().splitlines(keepends=True)
    return [line.strip() for line in said if line.endswith("\n")]


@pytest.mark.slow
async def test_what_was_published_before_a_kill_is_delivered_after_it(tmp_path: Path) -> None:
    clock = Clock()
    async with relay(tmp_path / "1", clock) as one:
        port = one.port
    async with user(tmp_path / "n", clock) as it:
        await it.ctl(f"relay add ws://127.0.0.1:{port}/")
    said: list[str] = []
    for _ in range(3):
        said += await trio.to_thread.run_sync(killed, tmp_path / "n")
    async with relay(tmp_path / "1", clock, port=port) as one, user(tmp_path / "n", clock) as it:
        await until(lambda: it.fs.nostr.outbox.pending == 0)
        kept = [event.content for event in await one.events("limit=500")]
    assert len(said) >= 90
    assert set(said) <= set(kept)
    assert len(kept) == len(set(kept))
