"""A relay on a full, read-only or damaged disk, killed at any moment, and started again.

What was answered with OK true is there, once; what cannot be done is told in a sentence.
"""

import errno
import logging
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from oanix.cli.failures import single
from oanix.lib.nostr import Event
from oanix.services.relay import RelayFs
from oanix.services.relay.policy import Guest
from oanix.services.relay.relay import DATABASE
from oanix.services.relay.schema import MIGRATIONS
from oanix.store import Store
from tests.commands import Oanix
from tests.fault.test_relay_crash import server
from tests.fault.test_store_faults import MIB, tmpfs
from tests.reach import refused
from tests.service.relay_help import doors, stored
from tests.service.test_relay_core import ANN, BOB, NOW, note
from tests.service.test_relay_session import PATIENCE_S

OLD = note("old")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    yield from tmpfs(tmp_path / "disk", 4 * MIB)


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Fill a disk but for so many bytes; gives what to remove."""
    info = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(b"x" * (info.f_bavail * info.f_frsize - leave))
    return filler


def serve(state: Path, folder: Path, *, port: int = 0) -> "subprocess.CompletedProcess[bytes]":
    """Try to serve a relay, which fails."""
    oanix = Oanix(state / "state", state)
    return oanix("relay", "serve", "--listen", f"127.0.0.1:{port}", folder)


def ids(folder: Path) -> list[str]:
    """List the ids of all that is stored, in a database that is sound."""
    return [Event.parse(raw).id for raw in stored(folder)]


# Full and read-only -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("leave", [0, 4_096, 65_536, 300_000])
async def test_a_full_disk_is_told_and_everything_else_goes_on(leave: int, disk: Path) -> None:
    folder = disk / "relay"
    events = [note(f"{number}".ljust(9_000)) for number in range(60)]
    async with doors(folder) as it:
        client, listener = await it.on_port(), await it.in_memory()
        assert (await client.put(OLD))[2]
        filler = fill(disk, leave=leave)
        taken = [OLD.id]
        told = ""
        for event in events:
            _, name, ok, told = await client.put(event)
            assert name == event.id
            if not ok:
                break
            taken.append(name)
        assert told == "error: the disk of this relay is full"
        assert sorted((await listener.stored("s", {"kinds": [1]}))[0]) == sorted(taken)
        with refused(errno.EIO, "error: the disk of this relay is full"):
            await it.publish(events[-1].json() + b"\n")
        with refused(errno.ENOSPC):
            it.fs.relay.set("name", "x" * 4_000)
            it.fs.relay.book.replace("deny write kind=4\n" * 9_000)
        assert it.fs.relay.book.text == ""
        filler.unlink()
        assert (await client.put(events[-1]))[2]
        assert (await listener.hear())[2]["id"] == events[-1].id
        taken.append(events[-1].id)
    assert sorted(ids(folder)) == sorted(taken)


@pytest.mark.slow
async def test_a_relay_on_a_full_disk_does_not_start_and_starts_when_there_is_room(
    disk: Path,
) -> None:
    for leave in range(0, 200_000, 24_576):
        folder = disk / f"relay{leave}"
        filler = fill(disk, leave=leave)
        fs = RelayFs(folder, clock=lambda: NOW)
        async with fs.running():
            number, said = 0, ""
            try:
                said = (await fs.relay.core.submit(OLD, Guest())).message
            except OSError as error:
                number = error.errno or -1
            assert number in (0, errno.ENOSPC)
            assert said.partition(": ")[0] in ("", "error")
        filler.unlink()
        async with doors(folder) as it:
            assert (await (await it.in_memory()).put(OLD))[2]
        assert ids(folder) == [OLD.id]
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_read_only_disk_is_refused_in_a_sentence(disk: Path, tmp_path: Path) -> None:
    keep(disk / "relay", OLD)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    found = serve(tmp_path, disk / "relay")
    assert found.returncode != 0
    assert b"ead-only" in found.stderr
    assert found.stderr.startswith(b"oanix: ")
    assert b"internal error" not in found.stderr
    assert [path.name for path in (disk / "relay").iterdir()] == [DATABASE]


# Damage -------------------------------------------------------------------------------------------

EVENTS = [
    note(f"number {number} {'x' * 300}", (ANN, BOB)[number % 2], kind, NOW - number, ("t", "x"))
    for number, kind in enumerate([1, 0, 3, 30_023, 7] * 30)
]
NEWER = [note("newer", ANN, kind, NOW + 1, ("t", "x")) for kind in (0, 1, 3, 30_023)]


def keep(folder: Path, *events: Event) -> Path:
    """Make a database with events in it; gives its path."""

    async def main() -> None:
        fs = RelayFs(folder, clock=lambda: NOW)
        async with fs.running():
            async with trio.open_nursery() as nursery:
                for event in events:
                    nursery.start_soon(fs.relay.core.submit, event, Guest())
            await fs.relay.core.indexed()

    trio.run(main)
    path = folder / DATABASE
    assert not path.with_name(f"{DATABASE}-wal").exists()
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("a text", "it is no database"),
        ("zeros", "it is no database"),
        ("a damaged head", "it is no database"),
        ("half of it", "it is damaged"),
        ("a newer one", "written by a newer program"),
        ("one of before the first release", "move it away, and a new one is made"),
        ("another program's", "holds the tables of another program"),
    ],
)
def test_a_file_that_is_no_database_of_a_relay_is_refused_and_not_touched(
    what: str, says: str, tmp_path: Path
) -> None:
    path = keep(tmp_path / "relay", *EVENTS[:40])
    good = path.read_bytes()
    if what == "another program's":
        path.unlink()
        with Store.open(str(path), ["CREATE TABLE events (a ANY) STRICT"]) as store:
            store.execute("PRAGMA user_version = 0")
    elif what == "one of before the first release":
        path.unlink()
        with Store.open(str(path), ["CREATE TABLE events (seq INTEGER PRIMARY KEY) STRICT"]):
            pass
    elif what == "a newer one":
        with Store.open(str(path), MIGRATIONS) as store:
            store.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(
            {
                "a text": b"this is a text\n" * 1_000,
                "zeros": bytes(len(good)),
                "a damaged head": b"SQLite Format 3\0" + good[16:],
                "half of it": good[: len(good) // 2],
            }[what]
        )
    before = path.read_bytes()
    found = serve(tmp_path, tmp_path / "relay")
    lines = found.stderr.decode().splitlines()
    assert found.returncode not in (0, os.EX_SOFTWARE), lines
    assert lines[0].startswith("oanix: ")
    assert says in lines[0]
    assert path.read_bytes() == before


@pytest.mark.slow
async def test_a_page_that_is_damaged_is_told_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = await trio.to_thread.run_sync(keep, tmp_path / "source", *EVENTS)
    good = source.read_bytes()
    randomly = random.Random(1)
    told = set()
    for page in range(len(good) // 4096):
        folder = tmp_path / f"page{page}"
        folder.mkdir()
        at = page * 4096 + (100 if page == 0 else 0)
        size = 4096 if page else 3_996
        bad = good[:at] + randomly.randbytes(size) + good[at + size :]
        (folder / DATABASE).write_bytes(bad)
        told.add(await spoken(folder))
        shutil.rmtree(folder)
    assert told >= {"refused", "served"}
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == []


async def spoken(folder: Path) -> str:
    """Use a relay whose database is damaged: it answers everything, or does not start."""
    try:
        async with doors(folder) as it:
            client = await it.on_port()
            for event in NEWER:
                _, name, ok, message = await client.put(event)
                assert name == event.id
                assert ok or message.startswith(("error: ", "blocked: "))
            for asked in ({}, {"kinds": [1]}, {"#t": ["x"]}, {"search": "number"}):
                await client.say("REQ", "s", asked)
                while (heard := await client.hear())[0] == "EVENT":
                    pass
                assert heard[0] == "EOSE" or heard[2].startswith("error: ")
                await client.say("CLOSE", "s")
    except (OSError, ExceptionGroup) as error:
        found = single(error)
        if isinstance(found, OSError) and found.errno == errno.EIO:
            return "refused"
        raise
    return "served"


async def test_an_event_that_is_damaged_is_replaced_and_hides_no_other(tmp_path: Path) -> None:
    path = await trio.to_thread.run_sync(keep, tmp_path / "relay", *EVENTS[:5])
    with Store.open(str(path), MIGRATIONS) as store:
        store.execute("UPDATE events SET json = ? WHERE kind IN (0, 1)", b'{"id":"\xff')
        store.execute("UPDATE indexed SET seq = 0")
        store.execute("DELETE FROM search")
    async with doors(tmp_path / "relay") as it:
        client = await it.in_memory()
        await client.link.send('["REQ","s",{"kinds":[0]}]')
        with trio.fail_after(PATIENCE_S):
            assert "EVENT" in str(await client.link.receive())
        assert (await client.hear())[0] == "EOSE"
        await client.say("CLOSE", "s")
        newer = note("newer", BOB, 0, NOW + 1)
        assert (await client.put(newer))[2]
        assert (await client.stored("s", {"kinds": [0]}))[0] == [newer.id]
        await it.fs.relay.core.indexed()
        found = (await client.stored("t", {"search": "number"}))[0]
        assert found == [event.id for event in EVENTS[:5] if event.kind == 30_023]


# The clock, and descriptors -----------------------------------------------------------------------


@pytest.mark.slow
async def test_a_clock_that_is_set_a_day_back_or_forth_locks_nobody_out(tmp_path: Path) -> None:
    clock = [NOW]
    async with doors(tmp_path, clock=lambda: clock[0]) as it:
        it.fs.relay.book.replace("rate write 5/s by=address\n")
        client = await it.on_port()
        kept = refused = 0
        for hours, least in ((0, 6), (-24, 1), (24, 1), (0, 1)):
            clock[0] = NOW + hours * 3_600
            wanted = kept + least
            with trio.fail_after(PATIENCE_S):
                # On a busy machine six may take so long that none of them is too many.
                while kept < wanted or not refused:
                    event = note(f"{kept}", ANN, 1, clock[0])
                    while not (told := await client.put(event))[2]:
                        assert told[3].startswith("rate-limited: ")
                        refused += 1
                    kept += 1
            assert (await client.login(ANN))[2] is (hours == 0)
            assert len((await client.stored("s", {"kinds": [1]}))[0]) == kept
            await client.say("CLOSE", "s")


@pytest.mark.slow
async def test_a_server_without_descriptors_serves_whom_it_has_and_recovers(tmp_path: Path) -> None:
    async with server(tmp_path) as it:
        client = await it.client()
        used = len(os.listdir(f"/proc/{it.process.pid}/fd"))
        resource.prlimit(it.process.pid, resource.RLIMIT_NOFILE, (used + 10, used + 10))
        streams = [await trio.open_tcp_stream("127.0.0.1", it.port) for _ in range(40)]
        for number in range(20):
            assert (await client.put(note(str(number))))[2]
        for stream in streams:
            await stream.aclose()
        with trio.fail_after(PATIENCE_S):
            assert (await (await it.client()).put(note("goes on")))[2]
        assert it.process.poll() is None
