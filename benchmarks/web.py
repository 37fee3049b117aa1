#!/usr/bin/env python3
"""Compare HttpFs on a FUSE mount with curl: many small requests, and a large one.

A web server on loopback answers both. Measured in turns, in one run:
  small  starting `cat /cap/http/get/…` for each request, and starting `curl` for each
  call   the same requests through one open `call`
  large  one body by `cat`, and by `curl -o /dev/null`
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
READY_S = 30
SMALL_BYTES = 200
GOALS = {"call": 1.0, "large": 0.5}
"""What a ratio to curl should be at least."""


@define
class Figures:
    """Operations or MiB a second, of each round, by measurement and program."""

    count: int
    mebibytes: int
    values: dict[str, dict[str, list[float]]] = field(factory=dict)

    def add(self, what: str, program: str, value: float) -> None:
        """Keep one figure."""
        self.values.setdefault(what, {}).setdefault(program, []).append(value)

    def median(self, what: str, program: str) -> float | None:
        """Give the median of the rounds."""
        found = self.values.get(what, {}).get(program)
        return median(found) if found else None

    def ratios(self) -> dict[str, float]:
        """Tell how many times as much we do as curl."""
        curl = {"small": "small", "call": "small", "large": "large"}
        found = {}
        for what, other in curl.items():
            ours, theirs = self.median(what, "oanix"), self.median(other, "curl")
            if ours and theirs:
                found[what] = ours / theirs
        return found

    def shown(self) -> dict[str, Any]:
        """Give everything as JSON has it."""
        medians = {
            what: {program: self.median(what, program) for program in programs}
            for what, programs in self.values.items()
        }
        return {
            "requests": self.count, "mebibytes": self.mebibytes, "median": medians,
            "ratio_to_curl": self.ratios(), "rounds": self.values,
        }  # fmt: skip

    def text(self) -> str:
        """Give a table."""
        lines = [f"{'':22}{'oanix':>12}{'curl':>12}{'ratio':>9}{'goal':>7}"]
        names = {
            "small": f"{self.count} by cat, /s", "call": f"{self.count} by call, /s",
            "large": f"{self.mebibytes} MiB, MiB/s",
        }  # fmt: skip
        for what, name in names.items():
            ours = self.median(what, "oanix")
            theirs = self.median("small" if what == "call" else what, "curl")
            ratio = self.ratios().get(what)
            cells = [f"{v:,.0f}" if v else "-" for v in (ours, theirs)]
            cells.append("-" if ratio is None else f"{ratio:.2f}")
            goal = f"{GOALS[what]:.1f}" if what in GOALS else ""
            lines.append(f"{name:22}{cells[0]:>12}{cells[1]:>12}{cells[2]:>9}{goal:>7}")
        return "\n".join(lines)


@contextmanager
def process(command: list[str]) -> Iterator[str]:
    """Run a server while the block runs; gives the first line that it prints."""
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as running:
        assert running.stdout is not None
        try:
            ready, _, _ = select.select([running.stdout], [], [], READY_S)
            line = running.stdout.readline().strip() if ready else ""
            if not line:
                raise RuntimeError(f"{' '.join(command[-2:])} did not start")
            yield line
        finally:
            running.terminate()
            running.wait(READY_S)


def spawn(*command: str) -> None:
    """Run a command to its end. Raises RuntimeError when it fails."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    number = os.posix_spawn(command[0], command, os.environ, file_actions=quiet)
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    if code:
        raise RuntimeError(f"{' '.join(command)}: exit status {code}")


def timed(*commands: tuple[str, ...]) -> float:
    """Run commands one after the other; gives the seconds that it took."""
    began = time.perf_counter()
    for command in commands:
        spawn(*command)
    return time.perf_counter() - began


def asked(call: Path, url: str, count: int) -> float:
    """Ask through one open `call`; gives the seconds that it took."""
    line = json.dumps({"url": url}).encode() + b"\n"
    descriptor = os.open(call, os.O_RDWR)
    began = time.perf_counter()
    for _ in range(count):
        os.write(descriptor, line)
        answer = json.loads(os.read(descriptor, 1 << 16))
        if answer["status"] != 200 or len(answer["body"]) != SMALL_BYTES:
            raise RuntimeError(f"call answered {answer['status']}")
    seconds = time.perf_counter() - began
    os.close(descriptor)
    return seconds


def measure(figures: Figures, rounds: int, mountpoint: Path, port: int, curl: str | None) -> None:
    """Measure everything, in turns."""
    cat = shutil.which("cat") or "/bin/cat"
    http, origin = mountpoint / "cap/http", f"http://127.0.0.1:{port}"
    small, large = f"/bytes/{SMALL_BYTES}", f"/bytes/{figures.mebibytes << 20}"
    count = figures.count

    def get(path: str) -> str:
        return str(http / f"get/http/127.0.0.1:{port}" / path[1:].replace("/", "%2F"))

    for number in range(rounds + 1):
        # The first round warms up and does not count.
        times = 1 if not number else count
        kept = figures if number else Figures(0, 0)
        kept.add("small", "oanix", times / timed(*[(cat, get(small))] * times))
        if curl:
            asks = (curl, "-sS", "-o", os.devnull, origin + small)
            kept.add("small", "curl", times / timed(*[asks] * times))
        kept.add("call", "oanix", times / asked(http / "call", origin + small, times))
        if number:
            kept.add("large", "oanix", figures.mebibytes / timed((cat, get(large))))
        if curl and number:
            asks = (curl, "-sS", "-o", os.devnull, origin + large)
            kept.add("large", "curl", figures.mebibytes / timed(asks))


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round of 100 and of 128 MiB")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    options = parser.parse_args()
    curl = shutil.which("curl")
    if curl is None:
        print("curl is not installed: its figures are left out", file=sys.stderr)
    figures = Figures(100, 128) if options.quick else Figures(1000, 1024)
    rounds = 1 if options.quick else max(options.rounds, 1)
    with (
        tempfile.TemporaryDirectory() as mountpoint,
        process([sys.executable, "-m", "tests.web.server", "--port", "0"]) as port,
        process([sys.executable, "-m", "lib.web_mount", mountpoint]),
    ):
        measure(figures, rounds, Path(mountpoint), int(port), curl)
    print(json.dumps(figures.shown(), indent=2) if options.json else figures.text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
