"""Measure the relay: events taken, answers found, deliveries, memory; beside other relays.

    python -m benchmarks.relay                         ours, with 20,000 events
    python -m benchmarks.relay --stored 1000000        ours, with a million (made once, in minutes)
    python -m benchmarks.relay --peer local-relay      and nostr-sdk's LocalRelay, in memory
    python -m benchmarks.relay --peer nostr-relay=PATH and PyPI's nostr-relay, by its program

Each relay is a process of its own on one core, the client one on another. Events have valid
signatures; ours writes with `synchronous=FULL`. The stored events are written to each relay over
its socket, but to ours, when they are many, through its writer.
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import trio

from oanix.lib.nostr import Event, LocalSigner, Template
from oanix.lib.websocket import WebSocket

NOW = int(time.time())
AUTHORS = 200
TOPICS = 500
WORDS = 2_000
WINDOW = 256
CONNECTIONS = 4
INGESTED = 4_000
ROUNDS = 3
ASKED = 200
LISTENERS = 1_000
MANY = 20_000


def signer(number: int) -> LocalSigner:
    """Make the key of one author."""
    return LocalSigner((number + 1).to_bytes(32, "big"), now=lambda: NOW)


def made(number: int, spread: int) -> Event:
    """Make one event: a third are notes, and others refer to them."""
    chance = random.Random(number)
    kind = chance.choice((1, 1, 6, 7, 30_023, 1_111))
    tags = [("t", f"topic{int(chance.paretovariate(1)) % TOPICS}")]
    if kind != 1:
        tags.append(("e", f"{chance.randrange(AUTHORS * 20):064x}"))
        tags.append(("p", f"{chance.randrange(AUTHORS):064x}"))
    if kind == 30_023:
        tags.append(("d", str(number)))
    words = (f"word{int(chance.paretovariate(0.7)) % WORDS}" for _ in range(40))
    template = Template(kind, f"{number} {' '.join(words)}", tuple(tags), NOW - number % spread)
    return signer(chance.randrange(AUTHORS)).sign_now(template)


def _batch(span: tuple[int, int], spread: int) -> list[bytes]:
    return [made(number, spread).json() for number in range(*span)]


def events(first: int, count: int, spread: int = 1_000_000) -> Iterator[list[bytes]]:
    """Make events on every core, in lists of a thousand."""
    spans = [(at, min(at + 1_000, first + count)) for at in range(first, first + count, 1_000)]
    with multiprocessing.get_context("fork").Pool() as pool:
        yield from pool.imap(partial(_batch, spread=spread), spans)


# Relays -------------------------------------------------------------------------------------------


class Relay:
    """A relay that runs, and where."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.name = name
        self.process = process
        self.port = port

    def memory(self) -> float:
        """Give its resident memory, in MiB, with that of its children."""
        pids = [self.process.pid]
        for pid in pids:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            pids.extend(map(int, children))
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def spent(self) -> float:
        """Give the processor time that it has used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def ours(folder: str) -> Iterator[Relay]:
    """Run OANIX's."""
    command = [sys.executable, "-m", "oanix", "relay", "serve", "--listen", "0", "--json", folder]
    with _running(command, folder) as process:
        assert process.stdout
        url = json.loads(process.stdout.readline())["urls"][0]
        yield Relay("oanix", process, int(url.rstrip("/").rpartition(":")[2]))


LOCAL_RELAY = """
import asyncio, sys
from nostr_sdk import LocalRelayBuilder, RateLimit
async def main():
    limit = RateLimit(max_reqs=100_000, notes_per_minute=100_000_000)
    relay = LocalRelayBuilder().addr("127.0.0.1").rate_limit(limit).build()
    await relay.run()
    print(await relay.url(), flush=True)
    await asyncio.sleep(1e9)
asyncio.run(main())
"""


@contextmanager
def local_relay(folder: str) -> Iterator[Relay]:
    """Run nostr-sdk's."""
    with _running([sys.executable, "-c", LOCAL_RELAY], folder) as process:
        assert process.stdout
        url = process.stdout.readline().decode().strip()
        yield Relay("LocalRelay", process, int(url.rstrip("/").rpartition(":")[2]))


CONFIG = """
storage:
  sqlalchemy.url: sqlite+aiosqlite:///{folder}/nostr.sqlite3
  validators: [nostr_relay.validators.is_signed]
gunicorn: {{bind: "127.0.0.1:{port}", workers: 1, loglevel: error}}
subscription_limit: 1000
"""


@contextmanager
def nostr_relay(program: str, folder: str) -> Iterator[Relay]:
    """Run PyPI's nostr-relay."""
    port = 7_391
    config = Path(folder) / "config.yaml"
    config.write_text(CONFIG.format(folder=folder, port=port))
    with _running([program, "-c", str(config), "serve"], folder) as process:
        trio.run(_answering, port)
        yield Relay("nostr-relay", process, port)


async def _answering(port: int) -> None:
    with trio.fail_after(30):
        while True:
            try:
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                return
            except OSError:
                await trio.sleep(0.1)


@contextmanager
def _running(command: list[str], folder: str) -> Iterator["subprocess.Popen[bytes]"]:
    with open(os.path.join(folder, "log"), "wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, cwd=folder,
                                   env={**os.environ, "PYTHONPATH": os.getcwd()})  # fmt: skip
    os.sched_setaffinity(process.pid, {0})
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout:
            process.stdout.close()


# Clients ------------------------------------------------------------------------------------------


async def connect(relay: Relay) -> WebSocket:
    """Connect to a relay."""
    stream = await trio.open_tcp_stream("127.0.0.1", relay.port)
    return await WebSocket.connect(stream, host=f"127.0.0.1:{relay.port}")


async def publish(relay: Relay, given: Sequence[bytes]) -> float:
    """Publish events over several connections; gives the seconds until the last is answered."""
    shares = [given[n::CONNECTIONS] for n in range(CONNECTIONS)]
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for share in shares:
            nursery.start_soon(_publish, relay, share)
    return time.perf_counter() - began


async def _publish(relay: Relay, given: Sequence[bytes]) -> None:
    async with await connect(relay) as socket:
        waiting = iter(given)
        texts = ['["EVENT",' + raw.decode() + "]" for raw in islice(waiting, WINDOW)]
        for text in texts:
            await socket.send(text)
        left = len(given)
        while left:
            answer = str(await socket.receive())
            if not answer.startswith('["OK"'):
                continue
            if ",true," not in answer:
                raise SystemExit(f"{relay.name}: {answer}")
            left -= 1
            raw = next(waiting, None)
            if raw is not None:
                await socket.send('["EVENT",' + raw.decode() + "]")


async def ask(
    relay: Relay, filters: Callable[[random.Random], dict[str, Any]]
) -> tuple[float, int]:
    """Give the median time of an answer in ms, and the median of its events."""
    chance = random.Random(7)
    times, counts = [], []
    async with await connect(relay) as socket:
        for number in range(ASKED):
            name = f"q{number}"
            text = json.dumps(["REQ", name, filters(chance)])
            began = time.perf_counter()
            await socket.send(text)
            count = 0
            while True:
                answer = str(await socket.receive())
                if answer.startswith('["EVENT"'):
                    count += 1
                elif answer.startswith('["EOSE"'):
                    break
                elif answer.startswith('["CLOSED"'):
                    return float("nan"), 0
            times.append(time.perf_counter() - began)
            counts.append(count)
            await socket.send(json.dumps(["CLOSE", name]))
    return statistics.median(times) * 1e3, int(statistics.median(counts))


async def deliver(relay: Relay, given: Sequence[bytes]) -> float:
    """Give deliveries a second, with so many subscriptions that want every event."""
    per = 50
    ready = trio.CapacityLimiter(1)
    done = trio.Event()
    left = LISTENERS // per

    async def listen() -> None:
        nonlocal left
        async with await connect(relay) as socket:
            for number in range(per):
                await socket.send(json.dumps(["REQ", f"s{number}", {"since": NOW + 1, "limit": 1}]))
            ended = heard = 0
            wanted = per * len(given)
            while ended < per:
                ended += str(await socket.receive()).startswith('["EOSE"')
            async with ready:
                left -= 1
                if not left:
                    done.set()
            while heard < wanted:
                for message in await socket.receive_all():
                    heard += str(message).startswith('["EVENT"')

    began = 0.0
    async with trio.open_nursery() as nursery:
        for _ in range(LISTENERS // per):
            nursery.start_soon(listen)
        await done.wait()
        began = time.perf_counter()
        nursery.start_soon(_publish, relay, given)
    return LISTENERS * len(given) / (time.perf_counter() - began)


def _author(chance: random.Random) -> str:
    return signer(chance.randrange(AUTHORS)).pubkey


def questions(known: Sequence[str]) -> dict[str, Callable[[random.Random], dict[str, Any]]]:
    """Name the classes of filters."""
    return {
        "id": lambda c: {"ids": [c.choice(known)]},
        "author, limit 20": lambda c: {"authors": [_author(c)], "limit": 20},
        "ten authors, kind 1, limit 20": lambda c: {
            "authors": [_author(c) for _ in range(10)], "kinds": [1], "limit": 20,
        },
        "ten authors, limit 100": lambda c: {
            "authors": [_author(c) for _ in range(10)], "limit": 100,
        },
        "kind 1, limit 100": lambda c: {"kinds": [1], "limit": 100},
        "#e": lambda c: {"#e": [f"{c.randrange(AUTHORS * 20):064x}"]},
        "#p, kind 7, limit 50": lambda c: {
            "#p": [f"{c.randrange(AUTHORS):064x}"], "kinds": [7], "limit": 50,
        },
        "#t, limit 100": lambda c: {"#t": [f"topic{c.randrange(TOPICS)}"], "limit": 100},
        "search, limit 20": lambda c: {"search": f"word{c.randrange(WORDS)}", "limit": 20},
    }  # fmt: skip


def store(folder: str, count: int) -> list[str]:
    """Write many events straight into our database; gives some of their ids."""
    from oanix.services.relay.schema import MIGRATIONS
    from oanix.services.relay.writing import Writer
    from oanix.store import Store

    known: list[str] = []
    began = time.perf_counter()
    with Store.open(os.path.join(folder, "events.db"), MIGRATIONS, durable=False) as kept:
        writer = Writer(kept)
        for number, batch in enumerate(events(0, count)):
            parsed = [Event.parse(raw) for raw in batch]
            writer.commit(parsed)
            known.append(parsed[0].id)
            if not number % 50:
                print(f"\r{number * 1000:9,} events written", end="", file=sys.stderr)
        while writer.index(5_000):
            pass
    print(f"\r{count:9,} events written in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return known


def measure(relay: Relay, known: list[str], stored: int) -> dict[str, Any]:
    """Measure one relay."""
    found: dict[str, Any] = {"relay": relay.name, "stored": stored}
    if not known:
        for batch in events(0, stored):
            trio.run(publish, relay, batch)
            known.append(Event.parse(batch[0]).id)
    rates, cores = [], []
    for turn in range(ROUNDS):
        given = [raw for batch in events(10_000_000 + turn * INGESTED, INGESTED) for raw in batch]
        spent = relay.spent()
        took = trio.run(publish, relay, given)
        rates.append(INGESTED / took)
        cores.append((relay.spent() - spent) / INGESTED * 1e6)
    found["events/s"] = round(statistics.median(rates))
    found["µs of processor an event"] = round(statistics.median(cores))
    for name, filters in questions(known).items():
        took, count = trio.run(ask, relay, filters)
        found[f"{name} ({count})"] = round(took, 3)
    given = [raw for batch in events(20_000_000, 100, spread=1) for raw in batch]
    late = [_late(Event.parse(raw)) for raw in given]
    found["deliveries/s"] = round(trio.run(deliver, relay, late))
    found["MiB"] = round(relay.memory())
    return found


def _late(event: Event) -> bytes:
    # After `since` of the listeners.
    template = Template(1, event.content, (), NOW + 5)
    return signer(0).sign_now(template).json()


def main() -> None:
    """Measure ours, and each peer that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--stored", type=int, default=20_000)
    parser.add_argument("--peer", action="append", default=[])
    given = parser.parse_args()
    os.sched_setaffinity(0, set(os.sched_getaffinity(0)) - {0} or {0})
    results = []
    with ExitStack() as folders:
        folder = folders.enter_context(tempfile.TemporaryDirectory())
        known = store(folder, given.stored) if given.stored > MANY else []
        with ours(folder) as relay:
            results.append(measure(relay, known, given.stored))
        for peer in given.peer:
            name, _, program = peer.partition("=")
            folder = folders.enter_context(tempfile.TemporaryDirectory())
            other = local_relay(folder) if name == "local-relay" else nostr_relay(program, folder)
            with other as relay:
                try:
                    results.append(measure(relay, [], min(given.stored, MANY)))
                except* (OSError, SystemExit) as group:
                    print(f"{relay.name} gave up: {group.exceptions[0]}", file=sys.stderr)
    for name in dict.fromkeys(name for result in results for name in result):
        print(f"{name:40}", *(f"{result.get(name, ''):>14}" for result in results))


if __name__ == "__main__":
    main()
