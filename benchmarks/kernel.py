"""Measure the kernel alone: fork, lookup, resolve, stat and try_read, with few mounts and many.

    python -m benchmarks.kernel [ROUNDS]

Prints medians in microseconds. No door and no disk takes part: the files are MemFs's.
"""

import os
import sys
import time
from collections.abc import Callable
from statistics import median

import trio
from attrs import frozen

from oanix.caller import Caller
from oanix.client import Client
from oanix.namespace import Namespace
from oanix.operation import Operation
from oanix.services.memfs import MemFs

ROUNDS = 25
CALLS = 400
ME = Caller()


@frozen
class Figure:
    """The median cost of one call, and of the fastest round."""

    name: str
    median_us: float
    best_us: float


class Idle:
    """An observer that does nothing."""

    kinds = None

    def before(self, operation: Operation) -> None:
        pass

    def after(self, operation: Operation) -> None:
        pass


def measure(name: str, call: Callable[[], object], rounds: int) -> Figure:
    """Time rounds of many calls each."""
    costs = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        costs.append((time.perf_counter() - start) / CALLS * 1e6)
    return Figure(name, median(costs), min(costs))


async def namespace_with(mounts: int) -> Namespace:
    """Make a namespace with so many mounts, and a file four names deep."""
    namespace = Namespace()
    service = MemFs()
    namespace.mount(service, "/")
    client = Client(namespace)
    client.makedirs("/a/b/c")
    await client.write("/a/b/c/file", bytes(65_536))
    for number in range(mounts - 1):
        namespace.bind("/a/b", f"/mounts/m{number}")
    return namespace


async def figures(mounts: int, rounds: int) -> list[Figure]:
    """Measure a namespace with so many mounts."""
    namespace = await namespace_with(mounts)
    c = namespace.resolve(ME, "/a/b/c")
    file = c.walk(ME, "file")
    opened = await file.open(ME, os.O_RDONLY)
    calls: list[tuple[str, Callable[[], object]]] = [
        ("fork", namespace.fork),
        ("lookup", lambda: c.lookup(ME, "file")),
        ("stat", lambda: file.stat(ME)),
        ("try_read 1 KiB", lambda: opened.try_read(ME, 1024, 0)),
        ("resolve 1 name", lambda: namespace.resolve(ME, "/a")),
        ("resolve 4 names", lambda: namespace.resolve(ME, "/a/b/c/file")),
    ]
    if mounts > 1:
        calls.append(("resolve below a mount", lambda: namespace.resolve(ME, "/mounts/m0/c/file")))
    found = [measure(name, call, rounds) for name, call in calls]
    namespace.observers = (Idle(),)
    found.append(measure("stat, one observer", lambda: file.stat(ME), rounds))
    opened.close(ME)
    return found


async def main(rounds: int) -> None:
    """Measure and print."""
    for mounts in (1, 100, 1000):
        print(f"{mounts} mounts: median µs, best µs")
        for figure in await figures(mounts, rounds):
            print(f"  {figure.name:24}{figure.median_us:8.2f}{figure.best_us:8.2f}")


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
