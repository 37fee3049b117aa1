"""Events to measure relays with: made on every core, and a database that holds many of them."""

import hashlib
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from oanix.lib.nostr import Event, LocalSigner, Template
from oanix.services.relay.schema import MIGRATIONS
from oanix.services.relay.writing import Writer
from oanix.store import Store

NOW = int(time.time())
AUTHORS = 200
TOPICS = 500
WORDS = 2_000
BATCH = 1_000
KNOWN = 1_000
"""Ids of stored events that questions are about, at least."""

Question = Callable[[random.Random], dict[str, Any]]


@lru_cache(maxsize=AUTHORS)
def signer(number: int) -> LocalSigner:
    """Make the key of one author."""
    return LocalSigner((number + 1).to_bytes(32, "big"), now=lambda: NOW)


def made(number: int) -> bytes:
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
    content = f"{number} {' '.join(words)}"
    template = Template(kind, content, tuple(tags), NOW - number % 1_000_000)
    return signer(chance.randrange(AUTHORS)).sign_now(template).json()


def late(number: int) -> bytes:
    """Make a note that comes after the `since` of whoever listens."""
    content = f"late {number} {'word ' * 60}"
    return signer(0).sign_now(Template(1, content, (), NOW + 5)).json()


def _batch(span: tuple[int, int], make: Callable[[int], bytes]) -> list[bytes]:
    return [make(number) for number in range(*span)]


def _anywhere(cores: set[int]) -> None:
    os.sched_setaffinity(0, cores)


def events(
    first: int, count: int, cores: set[int], make: Callable[[int], bytes] = made
) -> Iterator[list[bytes]]:
    """Make events on several cores, in lists of a thousand."""
    last = first + count
    spans = [(at, min(at + BATCH, last)) for at in range(first, last, BATCH)]
    with multiprocessing.get_context("fork").Pool(len(cores), _anywhere, (cores,)) as pool:
        yield from pool.imap(partial(_batch, make=make), spans)


def database(folder: Path, count: int, cores: set[int]) -> Path:
    """Give a database of ours that holds so many events; it is made where there is none."""
    scheme = hashlib.sha256("".join(MIGRATIONS).encode()).hexdigest()[:8]
    path = folder / f"relay-{count}-{scheme}.db"
    if path.exists():
        return path
    began = time.perf_counter()
    fresh = folder / f"{path.name}.new"
    fresh.unlink(missing_ok=True)
    with Store.open(str(fresh), MIGRATIONS, durable=False, cache_bytes=256 << 20) as store:
        writer = Writer(store)
        for number, batch in enumerate(events(0, count, cores)):
            writer.commit([Event.parse(raw) for raw in batch])
            if not number % 50:
                print(f"\r{number * BATCH:9,} events written", end="", file=sys.stderr)
        while writer.index(5_000):
            pass
    fresh.rename(path)
    print(f"\r{count:9,} events written in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return path


def ids(path: Path, count: int) -> list[str]:
    """Give ids of some events of a database."""
    with Store.open(str(path), MIGRATIONS, durable=False) as store:
        rows = store.execute("SELECT id FROM events WHERE seq % ? = 0", max(1, count // KNOWN))
    return [name.hex() for (name,) in rows if isinstance(name, bytes)]


def questions(known: Sequence[str]) -> dict[str, Question]:
    """Name the classes of filters."""

    def author(chance: random.Random) -> str:
        return signer(chance.randrange(AUTHORS)).pubkey

    def ten(chance: random.Random) -> list[str]:
        return [author(chance) for _ in range(10)]

    return {
        "id": lambda c: {"ids": [c.choice(known)]},
        "author, limit 20": lambda c: {"authors": [author(c)], "limit": 20},
        "ten authors, kind 1, limit 20": lambda c: {"authors": ten(c), "kinds": [1], "limit": 20},
        "ten authors, limit 100": lambda c: {"authors": ten(c), "limit": 100},
        "kind 1, limit 100": lambda c: {"kinds": [1], "limit": 100},
        "#e": lambda c: {"#e": [f"{c.randrange(AUTHORS * 20):064x}"]},
        "#p, kind 7, limit 50": lambda c: {
            "#p": [f"{c.randrange(AUTHORS):064x}"], "kinds": [7], "limit": 50,
        },
        "#t, limit 100": lambda c: {"#t": [f"topic{c.randrange(TOPICS)}"], "limit": 100},
        "search, limit 20": lambda c: {"search": f"word{c.randrange(WORDS)}", "limit": 20},
    }  # fmt: skip
