#!/usr/bin/env python3
"""Compare file operations on a bare directory, on our mount, on bindfs and on rclone."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from lib.machine import describe
from lib.metrics import FULL, GROUPS, METRICS, QUICK, Metric, select
from lib.mounts import detach, filesystem_of, mounts_beneath
from lib.picture import NoPicture, draw
from lib.prepare import prepare_fixtures
from lib.report import PICTURE, text, write_page
from lib.results import Machine, Results
from lib.rounds import Run, can_drop_caches
from lib.targets import Places, Target, all_targets

if TYPE_CHECKING:
    from types import FrameType

DOCS = Path(__file__).resolve().parent.parent / "docs"
NEEDED_GIB = 4
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NAMES = "\n".join(
    f"  {group + ':':9}{' '.join(metric.name for metric in METRICS if metric.group == group)}"
    for group in GROUPS
)
EXAMPLES = f"""examples:
  python benchmarks/fs.py                       everything, three rounds, some minutes
  python benchmarks/fs.py --quick               smaller, one round, under a minute
  python benchmarks/fs.py --only small,tar      one group and one more measurement
  python benchmarks/fs.py --targets bare,bindfs --json > figures.json
  python benchmarks/fs.py --load figures.json   show saved figures again
  python benchmarks/fs.py --write-docs          and renew docs/performance.md and its picture
  taskset -c 0 python benchmarks/fs.py          on one core: steadier, but not how it is used

names for --only:
{NAMES}

On ext4, leave five minutes between two runs: it creates files slowly after many were removed.

exit status: 0; 1 when a step failed on bare or oanix; 2 for a wrong command line
"""
HELP_MEMORY = "measure the servers' memory (default: yes, but not with --quick)"
HELP_TARGETS = "what to compare (default: %(default)s); a peer that is not installed is left out"
HELP_DIR = "where to work (default: a temporary folder on the current directory's file system)"
HELP_TIMEOUT = "longest time for one group of steps on one target (default: %(default)s s)"
HELP_DOCS = "renew the block in docs/performance.md and draw docs/performance.png"


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("--json", action="store_true", help="print all figures as JSON instead of the table")
    add("--rounds", type=int, metavar="N", help="rounds (default 3; 1 with --quick)")
    add("--quick", action="store_true", help="less work, one round, no measurement of memory")
    add("--memory", action=argparse.BooleanOptionalAction, help=HELP_MEMORY)
    add("--only", metavar="NAME,…", default="", help="only these measurements or groups")
    add("--targets", metavar="NAME,…", default="bare,oanix,bindfs,rclone", help=HELP_TARGETS)
    add("--dir", type=Path, metavar="DIR", help=HELP_DIR)
    add("--timeout", type=float, default=300, metavar="S", help=HELP_TIMEOUT)
    add("--load", type=Path, metavar="FILE", help="do not measure, show what --json had printed")
    add("--write-docs", action="store_true", help=HELP_DOCS)
    return made


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be meant. Raises ValueError with a sentence."""
    if options.rounds is not None and options.rounds < 1:
        raise ValueError("--rounds must be 1 or more")
    if options.timeout <= 0:
        raise ValueError("--timeout must be more than 0")
    if options.write_docs and (options.quick or options.only):
        raise ValueError("--write-docs is for a full run: leave out --quick and --only")
    if options.dir is not None and not options.dir.is_dir():
        raise ValueError(f"--dir: {options.dir} is not a directory")


def choose_targets(names: str, notes: list[str]) -> list[Target]:
    """Return the installed ones among the targets that were asked for; note the others."""
    wanted = [name for name in names.split(",") if name]
    known = {target.name: target for target in all_targets()}
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ValueError(f"--targets: {', '.join(unknown) or 'none'}; there are {', '.join(known)}")
    chosen = [target for name, target in known.items() if name in wanted]
    notes += [f"{target.name} is not installed: left out." for target in chosen if target.missing]
    present = [target for target in chosen if not target.missing]
    if not present:
        raise ValueError("none of these targets is installed")
    return present


def choose_metrics(options: argparse.Namespace, notes: list[str]) -> list[Metric]:
    """Return what to measure; note what cannot be, for want of a program."""
    names = [name for name in options.only.split(",") if name]
    chosen = select(names)
    memory = options.memory if options.memory is not None else bool(names) or not options.quick
    if memory and options.memory and names:
        chosen = select([*names, "memory"])
    chosen = [metric for metric in chosen if memory or metric.group != "memory"]
    lacking = {m.program for m in chosen if m.program and shutil.which(m.program) is None}
    notes += [f"{program} is not installed: left out." for program in sorted(filter(None, lacking))]
    return [metric for metric in chosen if metric.program not in lacking]


def working_directory(asked: Path | None) -> Path:
    """Make a folder of our own on the file system that is to be measured."""
    if asked is None:
        asked = Path(tempfile.gettempdir())
        if asked.stat().st_dev != Path.cwd().stat().st_dev:
            asked = Path.cwd()
    if shutil.disk_usage(asked).free < NEEDED_GIB << 30:
        raise ValueError(f"less than {NEEDED_GIB} GiB free; name another place with --dir")
    return Path(tempfile.mkdtemp(prefix="fs-benchmark-", dir=asked)).resolve()


def remarks(machine: Machine, targets: list[Target]) -> list[str]:
    """Return what a reader must know to judge the figures."""
    cold = "on a fresh mount, with names and inodes dropped (drop_caches 2)"
    if not can_drop_caches():
        cold = "on a fresh mount that has not seen these names (no right to drop caches)"
    found = [f"Cold: {cold}; the host's page cache stays warm for every column."]
    if any(target.name == "rclone" for target in targets):
        found.append(
            "rclone runs with `--vfs-cache-mode writes`: it answers a write from its own cache and "
            "copies the file to the directory some seconds later, outside these figures."
        )
    if machine.filesystem == "tmpfs":
        found.append("The files are on tmpfs: the bare column is that of memory, not of a disk.")
    if machine.load > 0.5 * machine.cores:
        found.append(f"Other work was running (load {machine.load:.1f}): noisy figures.")
    return found


def measure(options: argparse.Namespace) -> Results:
    """Do the whole benchmark, and leave nothing mounted and nothing on the disk."""
    notes: list[str] = []
    targets = choose_targets(options.targets, notes)
    metrics = choose_metrics(options, notes)
    sizes = QUICK if options.quick else FULL
    places = Places(working_directory(options.dir))
    try:
        filesystem = filesystem_of(places.base)
        machine = describe(filesystem, targets)
        notes = remarks(machine, targets) + notes
        results = Results(
            machine=machine,
            date=time.strftime("%Y-%m-%d"),
            rounds=options.rounds or (1 if options.quick else 3),
            sizes=sizes,
            targets=[target.name for target in targets],
            metrics=[metric.name for metric in metrics],
            complete=not options.quick and not options.only,
            notes=notes,
        )
        print(f"files on {filesystem}; {', '.join(results.targets)}", file=sys.stderr)
        prepare_fixtures(places, sizes, {metric.group for metric in metrics})
        Run(places, targets, metrics, results, options.timeout).everything()
        return results
    finally:
        clean(places)


def clean(places: Places) -> None:
    """Remove the working folder, but never reach through a mount that would not go away."""
    for point in mounts_beneath(places.base):
        detach(Path(point.path))
    if mounts_beneath(places.base):
        print(f"still mounted, not removed: {places.base}", file=sys.stderr)
        return
    shutil.rmtree(places.base, ignore_errors=True)


def load(path: Path) -> Results:
    """Read saved figures. Raises ValueError when it is something else."""
    try:
        return Results.from_json(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not hold what --json prints") from error


def show(results: Results, options: argparse.Namespace) -> None:
    """Print the report, and write it into the documentation when that was asked for."""
    if options.json:
        print(json.dumps(results.to_json(), indent=1, ensure_ascii=False))
    else:
        print(text(results), end="")
    if not options.write_docs:
        return
    if not results.complete:
        raise ValueError("--write-docs needs the figures of a full run")
    DOCS.mkdir(exist_ok=True)
    try:
        draw(results, DOCS / PICTURE)
        drawn = True
    except NoPicture as reason:
        print(reason, file=sys.stderr)
        drawn = False
    write_page(DOCS / "performance.md", results, picture=drawn)


def stop(number: int, _: FrameType | None) -> None:
    """End in order, by an exception that unmounts on its way; a second signal changes nothing."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> int:
    """Run the command line; return the exit status."""
    made = parser()
    options = made.parse_args()
    for each in SIGNALS:
        signal.signal(each, stop)
    try:
        check(options)
        results = load(options.load) if options.load else measure(options)
        show(results, options)
    except (ValueError, OSError) as error:
        made.error(str(error))
    return int(results.failed("bare") or results.failed("oanix"))


if __name__ == "__main__":
    sys.exit(main())
