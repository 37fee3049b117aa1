"""Run a mount for a long time: mixed operations from several processes, and the server's memory.

    .venv/bin/python benchmarks/soak.py --operations 1000000

Mounts a temporary folder, lets clients create, write, read, rename, list and remove files at once,
and prints the server's memory as it goes. Exit code 1 when an operation failed or memory grew: the
median of the last tenth is compared with that of the second tenth, when caches are full.
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
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

CLIENTS = 4
NAMES = 300
GROWTH_MIB = 16.0
"""Growth above this is a leak: a million operations that lose 20 bytes each lose as much."""


def main() -> int:
    arguments = _arguments()
    oanix = Path(sys.executable).with_name("oanix")
    with tempfile.TemporaryDirectory(prefix="oanix-soak-") as base:
        host, mountpoint = Path(base, "host"), Path(base, "mnt")
        host.mkdir()
        mountpoint.mkdir()
        server = subprocess.Popen(
            [oanix, "mount", host, mountpoint],
            env={**os.environ, "OANIX_STATE": os.path.join(base, "state")},
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait(lambda: os.path.ismount(mountpoint), server)
            report = _run(arguments, server.pid, mountpoint)
        finally:
            server.terminate()
            server.wait(30)
    print(json.dumps(report) if arguments.json else _table(report))
    return 1 if report["failures"] or report["grown_mib"] > GROWTH_MIB else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _wait(true: Callable[[], bool], server: "subprocess.Popen[bytes]") -> None:
    for _ in range(1000):
        if true():
            return
        if server.poll() is not None:
            break
        time.sleep(0.02)
    raise SystemExit("the mount did not come up")


def _run(arguments: argparse.Namespace, pid: int, mountpoint: Path) -> dict[str, float]:
    done: Synchronized[int] = multiprocessing.Value("q", 0)
    failures: Synchronized[int] = multiprocessing.Value("q", 0)
    clients = [
        multiprocessing.Process(
            target=_client,
            args=(mountpoint, arguments.operations // CLIENTS, arguments.seed + n, done, failures),
        )
        for n in range(CLIENTS)
    ]
    begun = time.monotonic()
    for client in clients:
        client.start()
    memory: list[float] = []
    while any(client.is_alive() for client in clients):
        clients[0].join(1.0)
        memory.append(_rss_mib(pid))
        if not arguments.json:
            print(f"\r{done.value:>10} operations, {memory[-1]:.1f} MiB", end="", file=sys.stderr)
    seconds = time.monotonic() - begun
    tenth = max(1, len(memory) // 10)
    early = statistics.median(memory[tenth : 2 * tenth] or memory)
    late = statistics.median(memory[-tenth:])
    return {
        "operations": done.value,
        "failures": failures.value,
        "seconds": round(seconds, 1),
        "early_mib": round(early, 1),
        "late_mib": round(late, 1),
        "grown_mib": round(late - early, 1),
    }


def _client(
    mountpoint: Path,
    operations: int,
    seed: int,
    done: "Synchronized[int]",
    failures: "Synchronized[int]",
) -> None:
    chance = random.Random(seed)
    folder = mountpoint / "workspace" / f"client{seed}"
    folder.mkdir()
    for number in range(operations):
        try:
            _step(folder, chance)
        except FileNotFoundError:
            pass  # the name was removed or moved by an earlier step
        except OSError as error:
            failures.value += 1
            print(f"\n{error}", file=sys.stderr)
        if number % 100 == 99:
            with done.get_lock():
                done.value += 100


def _step(folder: Path, chance: random.Random) -> None:
    path = folder / f"f{chance.randrange(NAMES)}"
    kind = chance.random()
    if kind < 0.25:
        path.write_bytes(b"x" * chance.randrange(20_000))
    elif kind < 0.5:
        path.read_bytes()
    elif kind < 0.7:
        path.stat()
    elif kind < 0.8:
        path.rename(folder / f"f{chance.randrange(NAMES)}")
    elif kind < 0.9:
        path.unlink()
    elif kind < 0.95:
        with path.open("ab") as file:
            file.write(b"more")
            file.flush()
            os.fsync(file.fileno()) if chance.random() < 0.02 else None
    elif kind < 0.98:
        os.listdir(folder)
    else:
        (folder.parent.parent / "logs" / "events.jsonl").open("ab").write(b"an event\n")


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("the server is gone")


def _table(report: dict[str, float]) -> str:
    return "\n" + "\n".join(f"{name:12} {value}" for name, value in report.items())


if __name__ == "__main__":
    sys.exit(main())
