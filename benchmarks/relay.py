"""Measure relays: events taken, answers found, deliveries, memory; ours beside two others.

Ours writes with `synchronous=FULL` and has every rule on; nostr-sdk's LocalRelay keeps all in
memory; nostr-relay of PyPI is installed into a temporary environment. Each is a process on one
core, the clients are on the others. Every event has a valid signature. The relays take turns in
every round, and a figure is the median of its rounds. Of many events only ours is asked: the others
would have to be told each of them first.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import trio

from benchmarks.lib.nostr_events import Question, database, events, ids, late, questions
from benchmarks.lib.relay_clients import Refused, ask, deliver, publish
from benchmarks.lib.relays import CORE, RELAYS, Relay
from oanix.lib.nostr import Event

FEW = 20_000
"""Events that every relay is given."""

LISTENERS = 1_000
DELIVERED = 100
RATES = ("events/s", "deliveries/s")
"""Figures of which more is better; of all others less."""

EXAMPLES = """examples:
  python -m benchmarks.relay                        everything: some ten minutes
  python -m benchmarks.relay --quick                20,000 events, one round: about two minutes
  python -m benchmarks.relay --relays oanix         ours alone
  python -m benchmarks.relay --stored 1000000 --relays oanix --dir ~/bench
                                                    a million events, kept there for the next time
  python -m benchmarks.relay --json > figures.json

exit status: 0; 1 when ours gave up; 2 for a wrong command line
"""

Figures = dict[str, Any]

FAILURES = (OSError, Refused, trio.TooSlowError)
"""How a relay fails that does not bear what it is given."""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.relay", description=__doc__, epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = made.add_argument
    add("--relays", metavar="NAME,…", default=",".join(RELAYS), help="default: %(default)s")
    add("--stored", metavar="N,…", default=f"{FEW},1000000",
        help="how many events are stored before (default: %(default)s)")  # fmt: skip
    add("--rounds", type=int, metavar="N", default=5, help="rounds (default: %(default)s)")
    add("--events", type=int, metavar="N", default=4_000,
        help="events that are published in a round (default: %(default)s)")  # fmt: skip
    add("--asked", type=int, metavar="N", default=100,
        help="questions of each class in a round (default: %(default)s)")  # fmt: skip
    add("--quick", action="store_true", help=f"one round, {FEW:,} events stored")
    add("--dir", type=Path, metavar="DIR", help="where many stored events are kept for next time")
    add("--json", action="store_true", help="print all figures as JSON instead of the table")
    return made


class Measuring:
    """One measurement of several relays that hold the same events."""

    def __init__(self, relays: Sequence[Relay], given: argparse.Namespace, cores: set[int]) -> None:
        self._all = tuple(relays)
        self._relays = list(relays)
        """Those that have not failed."""
        self._given = given
        self._cores = cores
        self._found: dict[str, dict[str, list[float]]] = {one.name: {} for one in relays}
        self._next = 10_000_000

    def run(self, known: Sequence[str]) -> list[Figures]:
        """Measure everything; gives the medians of each relay."""
        for turn in range(self._given.rounds):
            said(f"round {turn + 1} of {self._given.rounds}: events, questions, deliveries")
            for relay in list(self._relays):
                self._try(relay, self._publish, "events")
            for name, filters in questions(known).items():
                for relay in list(self._relays):
                    self._try(relay, partial(self._ask, name, filters, turn), name)
            for relay in list(self._relays):
                self._try(relay, self._deliver, "deliveries")
        return [self._medians(relay) for relay in self._all]

    def feed(self, relay: Relay, batches: Sequence[Sequence[bytes]]) -> None:
        """Give a relay what it is to have stored, a thousand at a time."""
        for number, batch in enumerate(batches):
            self._try(relay, partial(self._take, batch), "events")
            if not number % 5:
                said(f"{relay.name} has {number * len(batch):,} events")

    def _try(self, relay: Relay, measure: Callable[[Relay], None], what: str) -> None:
        # A relay that cannot bear the load is given less of it, or no more, and that is told.
        while relay in self._relays:
            try:
                measure(relay)
                return
            except (*FAILURES, ExceptionGroup) as error:
                cause = _cause(error)
                if not isinstance(cause, FAILURES):
                    raise
            sentence = f"{what}: {cause or type(cause).__name__}"
            gentler = relay.window // 4 if what == "events" else 0
            if gentler:
                relay.window = gentler
                sentence += f"; {gentler} at a time from then on"
            if sentence not in relay.notes:
                relay.notes.append(sentence)
                said(f"{relay.name}: {sentence}")
            if not gentler and not isinstance(cause, Refused):
                self._relays.remove(relay)
            if not gentler:
                return

    def _take(self, batch: Sequence[bytes], relay: Relay) -> None:
        publish(relay, batch)

    def _publish(self, relay: Relay) -> None:
        count = self._given.events
        given = [raw for batch in events(self._next, count, self._cores) for raw in batch]
        self._next += count
        spent = relay.spent()
        took = publish(relay, given)
        self._note(relay, "events/s", count / took)
        self._note(relay, "µs of processor an event", (relay.spent() - spent) / count * 1e6)

    def _ask(self, name: str, filters: Question, seed: int, relay: Relay) -> None:
        took, count = ask(relay, filters, self._given.asked, seed)
        self._note(relay, f"{name}, ms", took)
        self._note(relay, f"{name}, events", count)

    def _deliver(self, relay: Relay) -> None:
        [given] = events(self._next, DELIVERED, self._cores, late)
        self._next += DELIVERED
        rate = trio.run(deliver, relay, given, LISTENERS)
        self._note(relay, "deliveries/s", rate)
        self._note(relay, "MiB", relay.memory())

    def _note(self, relay: Relay, name: str, value: float) -> None:
        self._found[relay.name].setdefault(name, []).append(value)

    def _medians(self, relay: Relay) -> Figures:
        medians = {
            name: statistics.median(values) for name, values in self._found[relay.name].items()
        }
        return {"relay": relay.name, "figures": medians, "notes": relay.notes,
                "rounds": self._found[relay.name]}  # fmt: skip


def _cause(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def said(sentence: str) -> None:
    """Tell how far it is."""
    print(f"· {sentence}", file=sys.stderr, flush=True)


def measure(stored: int, names: Sequence[str], given: argparse.Namespace, cores: set[int],
            folder: Path) -> list[Figures]:  # fmt: skip
    """Measure these relays, which hold so many events."""
    with ExitStack() as opened:
        relays = []
        known: list[str] = []
        for name in names:
            place = folder / f"{name}-{stored}"
            place.mkdir()
            if name == "oanix" and stored > FEW:
                kept = database(given.dir or folder, stored, cores)
                known = ids(kept, stored)
                shutil.copyfile(kept, place / "events.db")
            relays.append(opened.enter_context(RELAYS[name](place)))
        measuring = Measuring(relays, given, cores)
        if not known:
            said(f"{stored:,} events are made")
            batches = list(events(0, stored, cores))
            known = [Event.parse(raw).id for batch in batches for raw in batch[::20]]
            for relay in relays:
                measuring.feed(relay, batches)
        return measuring.run(known)


def table(stored: int, results: Sequence[Figures]) -> str:
    """Write the medians, and how many times as good ours is."""
    ours = next((one["figures"] for one in results if one["relay"] == "oanix"), None)
    peers = [one for one in results if one["relay"] != "oanix" and ours]
    names = list(dict.fromkeys(name for one in results for name in one["figures"]))
    head = [f"{stored:,} stored", *(one["relay"] for one in results)]
    head += [f"ours : {one['relay']}" for one in peers]
    rows = [head]
    for name in names:
        values = [one["figures"].get(name) for one in results]
        row = [name, *map(number, values)]
        for peer in peers:
            theirs, own = peer["figures"].get(name), (ours or {}).get(name)
            if name.endswith("events") or not theirs or not own:
                row.append("")
            else:
                row.append(f"{own / theirs if name in RATES else theirs / own:.2f}")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    notes = [f"{one['relay']}: {note}" for one in results for note in one["notes"]]
    return "\n".join([*lines, *notes])


def number(value: float | None) -> str:
    """Write a figure with the digits that mean something."""
    if value is None or value != value:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> int:
    """Measure what is asked for, and print it."""
    made = parser()
    given = made.parse_args()
    names = [name for name in given.relays.split(",") if name]
    if given.quick:
        given.stored, given.rounds = str(FEW), 1
    if not names or set(names) - set(RELAYS):
        made.error(f"--relays: there are {', '.join(RELAYS)}")
    if not all(size.isdecimal() and int(size) for size in given.stored.split(",")):
        made.error("--stored: numbers of events, as in 20000,1000000")
    if min(given.rounds, given.events, given.asked) < 1:
        made.error("--rounds, --events and --asked are 1 or more")
    sizes = list(map(int, given.stored.split(",")))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores - {CORE} or cores)
    found = {}
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        for size in sizes:
            asked = names if size <= FEW else [name for name in names if name == "oanix"]
            if asked:
                found[size] = measure(size, asked, given, cores, Path(folder))
                if not given.json:
                    print(table(size, found[size]), flush=True)
    if given.json:
        print(json.dumps(found, indent=1))
    ended = [one for results in found.values() for one in results if one["relay"] == "oanix"]
    return int(any(one["notes"] for one in ended))


if __name__ == "__main__":
    sys.exit(main())
