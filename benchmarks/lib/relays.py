"""Relays that are measured, each a process of its own on one core."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

WINDOW = 256
"""Events that one connection leaves unanswered."""

READY_S = 60.0

CORE = min(os.sched_getaffinity(0))
"""Where the relays run; the clients run elsewhere, if there is an elsewhere."""


class Relay:
    """A relay that runs, and how hard it is worked."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int) -> None:
        self.name = name
        self.port = port
        self.window = WINDOW
        self.notes: list[str] = []
        self._process = process

    def spent(self) -> float:
        """Give the processor time that it has used, in seconds, with its children."""
        ticks = 0
        for pid in self._pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Give its resident memory, in MiB, with that of its children."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids())
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def _pids(self) -> list[int]:
        pids = [self._process.pid]
        for pid in pids:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pids.extend(map(int, children))
        return pids


@contextmanager
def ours(folder: Path) -> Iterator[Relay]:
    """Run OANIX's, with what is in its folder already."""
    command = [sys.executable, "-m", "oanix", "relay", "serve", "--listen", "0", "--json"]
    with _running([*command, str(folder)], folder) as process:
        yield Relay("oanix", process, _port(json.loads(_line(process))["urls"][0]))


LOCAL_RELAY = """
import asyncio
from nostr_sdk import LocalRelayBuilder, RateLimit
async def main():
    limit = RateLimit(max_reqs=100_000, notes_per_minute=100_000_000)
    relay = LocalRelayBuilder().addr("127.0.0.1").rate_limit(limit).build()
    await relay.run()
    print(await relay.url(), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@contextmanager
def local_relay(folder: Path) -> Iterator[Relay]:
    """Run nostr-sdk's, which keeps everything in memory."""
    with _running([sys.executable, "-c", LOCAL_RELAY], folder) as process:
        yield Relay("LocalRelay", process, _port(_line(process).strip()))


CONFIG = """
storage:
  sqlalchemy.url: sqlite+aiosqlite:///{folder}/nostr.sqlite3
  validators: [nostr_relay.validators.is_signed]
gunicorn: {{bind: "127.0.0.1:{port}", workers: 1, loglevel: error}}
subscription_limit: 1000
"""


@contextmanager
def nostr_relay(folder: Path) -> Iterator[Relay]:
    """Run PyPI's nostr-relay, which is installed for that, in an environment of its own."""
    place = folder / "venv"
    print("nostr-relay is being installed", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    pip = [place / "bin" / "pip", "install", "--quiet", "--quiet", "nostr-relay"]
    subprocess.run(pip, check=True, stdout=sys.stderr)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "config.yaml"
    config.write_text(CONFIG.format(folder=folder, port=port))
    command = [str(place / "bin" / "nostr-relay"), "-c", str(config), "serve"]
    # It logs what it does to where its output goes, and stops when nobody reads that.
    with _running(command, folder, quiet=True) as one:
        _wait_for(port, one)
        yield Relay("nostr-relay", one, port)


RELAYS: dict[str, Callable[[Path], AbstractContextManager[Relay]]] = {
    "oanix": ours, "local-relay": local_relay, "nostr-relay": nostr_relay,
}  # fmt: skip


def _line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout
    line = process.stdout.readline().decode()
    if not line:
        raise RuntimeError(f"{process.args!r} ended before it served")
    return line


def _port(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > end or process.poll() is not None:
                raise
            time.sleep(0.1)


@contextmanager
def _running(
    command: list[str], folder: Path, *, quiet: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log if quiet else subprocess.PIPE, stderr=log,
                                   cwd=folder, env=environment)  # fmt: skip
    os.sched_setaffinity(process.pid, {CORE})
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout:
            process.stdout.close()
