"""A relay that is killed at any moment, and started again: what was OK is there, each once."""

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from subprocess import Popen

import pytest
import trio
from attrs import define, field

from oanix.lib.nostr import Event, LocalSigner, Template
from oanix.lib.websocket import Closed, WebSocket
from oanix.services.relay.relay import DATABASE
from oanix.services.relay.schema import MIGRATIONS
from oanix.store import Store
from tests.commands import TIME_OUT_S, Oanix
from tests.fault.test_store_faults import MIB, MIGRATING, SLOW, python
from tests.mount.mounting import wait_until
from tests.service.relay_help import PortLink, doors, stored
from tests.service.test_relay_core import note
from tests.service.test_relay_session import Client

CLIENTS = 4


def ids(folder: Path) -> list[str]:
    """List the ids of all that is stored, in a database that is sound."""
    return [Event.parse(raw).id for raw in stored(folder)]


# A log that is cut --------------------------------------------------------------------------------

WRITER = """
import os, sys, trio
from oanix.services.relay.core import Core
from oanix.services.relay.policy import Guest
from tests.service.test_relay_core import ANN, NOW, note

async def main():
    path = sys.argv[1]
    core = Core.create(path, now=lambda: NOW)
    async with core.running():
        for number in range(10_000):
            event = note(str(number), ANN, 1, NOW, ("t", "x"))
            assert (await core.submit(event, Guest())).ok
            print(os.stat(path + "-wal").st_size, event.id, flush=True)

trio.run(main)
"""


@pytest.mark.slow
def test_a_log_cut_anywhere_holds_all_that_was_acknowledged_before_the_cut(tmp_path: Path) -> None:
    source = tmp_path / DATABASE
    child = python(WRITER, source)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(60)]
    child.kill()
    lines += child.communicate()[0].splitlines()
    told = [(int(size), name.decode()) for size, name in map(bytes.split, lines)]
    log = Path(f"{source}-wal").read_bytes()
    counts = []
    for cut in (*range(0, len(log), len(log) // 37), len(log)):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        (folder / DATABASE).write_bytes(source.read_bytes())
        (folder / f"{DATABASE}-wal").write_bytes(log[:cut])
        found = ids(folder)
        assert len(found) == len(set(found))
        assert {name for size, name in told if size <= cut} <= set(found)
        counts.append(len(found))
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] >= len(told)


async def test_a_log_that_was_cut_is_gone_on_with(tmp_path: Path) -> None:
    async with doors(tmp_path) as it:
        client = await it.in_memory()
        assert (await client.put(note("one")))[2]
        log = (tmp_path / f"{DATABASE}-wal").read_bytes()
    database = (tmp_path / DATABASE).read_bytes()
    folder = tmp_path / "again"
    folder.mkdir()
    (folder / DATABASE).write_bytes(database)
    (folder / f"{DATABASE}-wal").write_bytes(log[: len(log) * 2 // 3])
    async with doors(folder) as it:
        client = await it.in_memory()
        assert (await client.put(note("one")))[2]
        assert (await client.put(note("two")))[2]
    assert sorted(ids(folder)) == sorted(event.id for event in (note("one"), note("two")))


# A server that is killed --------------------------------------------------------------------------


@define
class Server:
    """A process that serves a relay."""

    process: Popen[bytes]
    port: int
    streams: list[trio.SocketStream] = field(factory=list)

    async def client(self) -> Client:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.streams.append(stream)
        socket = await WebSocket.connect(stream, host=f"127.0.0.1:{self.port}", target="/")
        client = Client(PortLink(socket))
        assert (await client.hear())[0] == "AUTH"
        return client


@asynccontextmanager
async def server(
    folder: Path, port: int = 0, environment: dict[str, str] | None = None
) -> AsyncIterator[Server]:
    """Run `oanix relay serve`, and kill it at the end."""
    oanix = Oanix(folder / "state", folder, environment or {})
    process = oanix.start(
        "relay", "serve", "--json", "--listen", f"127.0.0.1:{port}", folder / "relay"
    )
    assert process.stdout is not None
    try:
        with trio.fail_after(TIME_OUT_S):
            line = await trio.to_thread.run_sync(process.stdout.readline)
        url = json.loads(line)["urls"][0]
        it = Server(process, int(url.strip("/").rpartition(":")[2]))
        try:
            yield it
        finally:
            for stream in it.streams:
                await trio.aclose_forcefully(stream)
    finally:
        process.kill()
        process.communicate()


async def publish(client: Client, signer: LocalSigner, name: str, told: list[str]) -> None:
    """Publish without a pause until the server is gone; told: the ids that were OK."""
    sent = 0
    for number in count():
        try:
            while sent - number < 50:
                event = signer.sign_now(Template(1, f"{name} {sent}", (("t", "x"),)))
                await client.say("EVENT", json.loads(event.json()))
                sent += 1
            answer = await client.hear()
        except Closed:
            return
        assert (answer[0], answer[2]) == ("OK", True)
        told.append(answer[1])


@pytest.mark.slow
async def test_what_was_acknowledged_on_a_port_is_there_once_after_a_kill(tmp_path: Path) -> None:
    signer = LocalSigner(bytes([7]) * 32, now=lambda: 1_700_000_000)
    told: list[str] = []
    port = 0
    for round_ in range(3):
        async with server(tmp_path, port) as it, trio.open_nursery() as nursery:
            port = it.port
            before = len(told)
            for number in range(CLIENTS):
                client = await it.client()
                nursery.start_soon(publish, client, signer, f"{round_} {number}", told)
            with trio.fail_after(TIME_OUT_S):
                while len(told) - before < 300 * (round_ + 1):  # noqa: ASYNC110
                    await trio.sleep(0.002)
            it.process.send_signal(signal.SIGKILL)
    assert len(told) == len(set(told))
    found = ids(tmp_path / "relay")
    assert len(found) == len(set(found))
    assert set(told) <= set(found)
    async with server(tmp_path, port) as it:
        client = await it.client()
        counted = await client.ask("COUNT", "c", {"kinds": [1]})
        assert counted[2] == {"count": len(found)}
        assert (await client.stored("s", {"ids": [told[0], told[-1]]}))[0] == sorted(
            (told[0], told[-1])
        )
        event = note("after it all")
        assert (await client.put(event))[2]
        again = Event.parse(stored(tmp_path / "relay")[0])
        assert (await client.put(again))[3].startswith("duplicate: ")


@pytest.mark.slow
async def test_a_relay_that_is_ended_leaves_one_file_and_tells_its_clients(tmp_path: Path) -> None:
    async with server(tmp_path) as it:
        client = await it.client()
        assert (await client.put(note("kept")))[2]
        it.process.terminate()
        with pytest.raises(Closed) as closed:
            await client.hear()
        assert closed.value.ending.code == 1001
        with trio.fail_after(TIME_OUT_S):
            assert await trio.to_thread.run_sync(it.process.wait) == 0
        left = {path.name for path in (tmp_path / "relay").iterdir() if DATABASE in path.name}
        assert left == {DATABASE}
    assert ids(tmp_path / "relay") == [note("kept").id]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--listen", "nowhere"), 2, "'nowhere' is no address"),
        (("--url", "http://relay.example"), 2, "is no relay; write wss://"),
        (("--tls-cert", "none.pem", "--tls-key", "none.pem"), os.EX_UNAVAILABLE, "none.pem: No "),
        (("--tls-cert", "text", "--tls-key", "text"), 2, "no certificate and its key in PEM\n"),
    ],
)
def test_what_a_port_cannot_be_opened_with_is_told(
    words: tuple[str, ...], code: int, says: str, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("no key\n")
    oanix = Oanix(tmp_path / "state", tmp_path)
    done = oanix("relay", "serve", "--listen", "0", *words, tmp_path / "relay")
    assert done.returncode == code, done.stderr
    assert says in done.stderr.decode()


@pytest.mark.slow
async def test_a_port_that_is_taken_is_told_and_so_is_a_relay_that_is_served(
    tmp_path: Path,
) -> None:
    async with server(tmp_path) as it:
        oanix = Oanix(tmp_path / "other", tmp_path)
        for folder, port, code, says in (
            ("elsewhere", it.port, os.EX_UNAVAILABLE, b"another program listens on"),
            ("relay", 0, os.EX_TEMPFAIL, b"is served by another process"),
        ):
            found = await trio.to_thread.run_sync(
                oanix, "relay", "serve", "--listen", f"127.0.0.1:{port}", tmp_path / folder
            )
            assert found.returncode == code
            assert found.stderr.startswith(b"oanix: ")
            assert says in found.stderr
        assert (await (await it.client()).put(note("goes on")))[2]


# A migration that is killed -----------------------------------------------------------------------


@pytest.mark.slow
async def test_a_relay_whose_migration_was_killed_has_all_it_had(tmp_path: Path) -> None:
    events = [note(str(number)) for number in range(30)]
    async with doors(tmp_path) as it:
        client = await it.in_memory()
        for event in events:
            assert (await client.put(event))[2]
    path = tmp_path / DATABASE
    log = Path(f"{path}-wal")
    child = python(MIGRATING, path, *MIGRATIONS, SLOW)
    try:
        await trio.to_thread.run_sync(
            wait_until, lambda: log.exists() and log.stat().st_size > 4 * MIB
        )
    finally:
        child.kill()
    child.communicate()
    async with doors(tmp_path) as it:
        client = await it.in_memory()
        found, _ = await client.stored("s", {})
        assert sorted(found) == sorted(event.id for event in events)
        assert (await client.put(note("one more")))[2]
    with Store.open(str(path), MIGRATIONS) as store:
        assert store.execute("SELECT name FROM sqlite_schema WHERE name = 'big'") == []


STARTING = """
import signal, sys
from oanix.services.relay.core import Core
print("ready", flush=True)
# What is open at the end would be put in order, and its files with it.
core = Core.create(sys.argv[1], now=lambda: 0)
signal.pause()
"""


@pytest.mark.slow
def test_a_relay_that_is_killed_while_it_makes_its_tables_makes_them_the_next_time(
    tmp_path: Path,
) -> None:
    for number, name in enumerate(("", "-wal", "-shm", "")):
        path = tmp_path / f"{number}.db"
        child = python(STARTING, path)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        watched = Path(f"{path}{name}")
        try:
            # Each of its files comes at another moment of the making.
            wait_until(lambda watched=watched: watched.exists())  # type: ignore[misc]
        finally:
            child.kill()
        child.communicate()
        with Store.open(str(path), MIGRATIONS) as store:
            assert store.execute("PRAGMA integrity_check") == [("ok",)]
            assert store.execute("SELECT count(*) FROM events") == [(0,)]
            assert store.execute("PRAGMA user_version") == [(len(MIGRATIONS),)]
