"""Measure what the journal costs file operations: in the kernel, and through a FUSE mount.

    python -m benchmarks.journal [--rounds N] [--without-fuse]

Rounds without and with a journal take turns. Prints medians in microseconds an operation and their
ratio; for the kernel also the processor time of a record, its writing included. The files and the
journal lie in a temporary folder; set TMPDIR to measure another disk.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median

import trio
from attrs import frozen

from mounts.fuse import serve
from oanix.client import Client
from oanix.journal import Journal
from oanix.namespace import Namespace
from oanix.services.memfs import MemFs
from oanix.services.workspace import WorkspaceFs

ROUNDS = 15
FILES = 400
BODY = b"x" * 1_000

Step = tuple[str, Callable[[], None]]


@frozen
class Figures:
    """Medians of a step without a journal and with one, in microseconds a file."""

    name: str
    plain: float
    journal: float

    def __str__(self) -> str:
        percent = (self.journal / self.plain - 1) * 100
        return f"  {self.name:28}{self.plain:9.1f}{self.journal:9.1f}{percent:+8.1f} %"


@asynccontextmanager
async def observed(namespace: Namespace, folder: str | None) -> AsyncIterator[Journal | None]:
    """Keep a journal of a namespace in a folder, if there is one."""
    if folder is None:
        yield None
        return
    journal = Journal(f"{folder}/journal", f"{folder}/anchors/one")
    async with journal.running():
        journal.observe(namespace)
        yield journal


# Through a mount ---------------------------------------------------------------------------------


async def server(mountpoint: str, host: str, folder: str | None) -> None:
    """Serve a directory until SIGTERM."""
    namespace = Namespace()
    namespace.mount(WorkspaceFs(Path(host)), "/")
    [service] = namespace.services()
    async with observed(namespace, folder), service.running(), trio.open_nursery() as nursery:
        await nursery.start(serve, namespace, mountpoint)
        print("mounted", flush=True)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            await anext(signals)
        nursery.cancel_scope.cancel()


@contextmanager
def mounted(folder: Path, *, journal: bool) -> Iterator[Path]:
    """Run a server of its own process."""
    for name in ("mount", "host", "state"):
        (folder / name).mkdir(parents=True)
    words = ["--serve", str(folder / "mount"), str(folder / "host")]
    words += [str(folder / "state")] if journal else []
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.journal", *words], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"mounted\n":
            raise RuntimeError("the server did not mount")
        yield folder / "mount"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def steps_through(mount: Path) -> list[Step]:
    """What a round does through a mount, each with all files."""
    names = [str(mount / f"f{number}") for number in range(FILES)]
    moved = [f"{name}.moved" for name in names]

    def create() -> None:
        for name in names:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))

    def write() -> None:
        for name in names:
            file = os.open(name, os.O_WRONLY)
            os.write(file, BODY)
            os.close(file)

    def read() -> None:
        for name in names:
            file = os.open(name, os.O_RDONLY)
            os.read(file, 4096)
            os.close(file)

    def many_writes() -> None:
        file = os.open(names[0], os.O_WRONLY)
        for _ in range(FILES):
            os.pwrite(file, BODY, 0)
        os.close(file)

    def rename() -> None:
        for name, new in zip(names, moved, strict=True):
            os.rename(name, new)

    def chmod() -> None:
        for name in moved:
            os.chmod(name, 0o600)

    def unlink() -> None:
        for name in moved:
            os.unlink(name)

    return [
        ("create, close", create), ("open, write 1 kB, close", write), ("write 1 kB", many_writes),
        ("open, read, close", read), ("rename", rename), ("chmod", chmod), ("unlink", unlink),
    ]  # fmt: skip


def alternate(plain: list[Step], with_journal: list[Step], rounds: int) -> list[Figures]:
    """Run both in turns and give the medians."""
    costs: dict[str, tuple[list[float], list[float]]] = {}
    for number in range(rounds + 1):
        sides = ((0, plain), (1, with_journal))
        for side, steps in sides if number % 2 else sides[::-1]:
            for name, step in steps:
                start = time.perf_counter()
                step()
                cost = (time.perf_counter() - start) / FILES * 1e6
                if number:  # the first round warms up
                    costs.setdefault(name, ([], []))[side].append(cost)
    return [Figures(name, median(one), median(two)) for name, (one, two) in costs.items()]


def through_fuse(folder: Path, rounds: int) -> list[Figures]:
    """Compare two mounts."""
    with ExitStack() as stack:
        plain = stack.enter_context(mounted(folder / "plain", journal=False))
        journal = stack.enter_context(mounted(folder / "journal", journal=True))
        return alternate(steps_through(plain), steps_through(journal), rounds)


# In the kernel -----------------------------------------------------------------------------------


async def kernel_round(client: Client) -> tuple[float, int]:
    """Make, write, rename and remove files; give the processor time and how many operations."""
    start = time.process_time()
    for number in range(FILES):
        await client.write(f"/f{number}", BODY)
        client.rename(f"/f{number}", f"/g{number}")
        client.unlink(f"/g{number}")
    return time.process_time() - start, FILES * 4


async def kernel(folder: Path, rounds: int) -> None:
    """Compare the processor time of two namespaces over files in memory."""
    costs: tuple[list[float], list[float]] = ([], [])
    records = 1
    plain, watched = Namespace(), Namespace()
    for namespace in (plain, watched):
        namespace.mount(MemFs(), "/")
    async with observed(watched, str(folder)) as journal:
        assert journal is not None
        for _ in range(rounds):
            cost, records = await kernel_round(Client(plain))
            costs[0].append(cost)
            start = time.process_time()
            cost, records = await kernel_round(Client(watched))
            await journal.flush()
            costs[1].append(time.process_time() - start)
    one, two = median(costs[0]) / records * 1e6, median(costs[1]) / records * 1e6
    print("kernel, MemFs: processor time, µs a record (create, close, rename, unlink)")
    print(f"{Figures('without and with a journal', one, two)}")
    print(f"  a record costs {two - one:.1f} µs")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--without-fuse", action="store_true")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.serve:
        mountpoint, host, *folder = words.serve
        trio.run(server, mountpoint, host, folder[0] if folder else None)
        return
    with tempfile.TemporaryDirectory() as folder:
        trio.run(kernel, Path(folder), words.rounds)
        if not words.without_fuse:
            figures = through_fuse(Path(folder), words.rounds)
            print("through FUSE, a directory of this disk: µs a file without and with a journal")
            print("\n".join(map(str, figures)))
            # Records of one step are written during the next, so that the sum says most.
            sums = [sum(one.plain for one in figures), sum(one.journal for one in figures)]
            print(f"{Figures('all of these', *sums)}")


if __name__ == "__main__":
    main()
