"""Measure what recording a trajectory costs the calls of a guest.

    python -m benchmarks.trajectory [--rounds N]

Each call of WASI is made in a loop on a directory of the host, in this process, with and without a
recorder in turns. Figures are medians of processor time; a call in a worker costs 80 µs besides.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median

import trio

from benchmarks.agents import UNBOUND, process_in, workspace
from benchmarks.lib import guest as modules
from oanix.caller import Caller
from oanix.lib.atif import Lines
from oanix.namespace import Namespace
from oanix.scheduler.engine import Engine, Guest, Linker
from oanix.scheduler.trajectory import Recorder
from oanix.scheduler.trajectory.watching import watched
from oanix.scheduler.wasi import functions

ROUNDS = 7
CALLER = Caller(door="wasi")
ROWS = ("path_filestat_get", "fd_pread, 4 KiB", "fd_pread, 64 KiB", "path_open, fd_close",
        "path_open, no such file", "list 100 entries")  # fmt: skip


class _Nowhere:
    def append(self, data: bytes) -> None:
        """Forget it."""


def recorder() -> Recorder:
    """Make a recorder whose lines go nowhere."""
    return Recorder(
        _Nowhere(), Lines("1"), now=time.time, mask=str, wrote=lambda: None, session=str,
        dirty=lambda: None,
    )  # fmt: skip


async def measure(rounds: int, folder: Path, show: Callable[[str], None]) -> None:
    """Measure each row, and show it."""
    engine = Engine()
    module, linker = await engine.compile(modules.calls()), Linker(engine, functions())
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ROWS}

    async def entry(guest: Guest, namespace: Namespace) -> int:
        await guest.call("setup")
        for _ in range(rounds):
            for number, one in enumerate(modules.CALLS):
                for recorded in (False, True) if one.name in ROWS else ():
                    with watched(namespace, CALLER, recorder()) if recorded else nullcontext():
                        began = time.process_time()
                        await guest.call(str(number), one.times)
                        took = (time.process_time() - began) / one.times
                    found[one.name][recorded].append(took * 1e6)
        return 0

    async with workspace(folder) as namespace:
        process = process_in(namespace)
        with Guest(linker, module, process, UNBOUND) as guest:
            ended = await guest.run(partial(entry, namespace=namespace))
        process.close()
        if ended.code != 0:
            raise RuntimeError(f"the module ended otherwise: {ended}")
    show(f"{'µs of processor a call':28}{'alone':>9}{'recorded':>10}{'more':>8}")
    for name, (alone, recorded) in found.items():
        more = median(recorded) / median(alone) - 1
        show(f"{name:28}{median(alone):9.2f}{median(recorded):10.2f}{more:8.1%}")


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / modules.FILE).write_bytes(bytes(modules.BYTES))
        (folder / modules.FOLDER).mkdir()
        for number in range(modules.ENTRIES):
            (folder / modules.FOLDER / f"file{number}").touch()
        trio.run(measure, given.rounds, folder, print)


if __name__ == "__main__":
    main()
