"""`oanix nostr worker`: do the jobs that others ask for on Nostr (NIP-90)."""

import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from oanix.cli.nostr_tree import Tree, takes_at
from oanix.cli.output import Out, complain
from oanix.cli.running import awaiting_signal
from oanix.env import state_folder

if TYPE_CHECKING:
    from oanix.dvm import Command, Offer, Request, Worker
    from oanix.dvm.jobs import Jobs

EPILOG = """\b
Examples:
  oanix nostr worker --kind 5050 -- ./answer.py
  oanix nostr worker --kind 5001 --kind 5050 --at-once 4 --time-limit 120 -- 'wc -w'
  oanix nostr worker --kind 5050 --price 21000 --json -- ./answer.py"""

HIDDEN = ("OANIX_PASSPHRASE_FILE",)
"""What a program that works for strangers need not know."""


@click.command(short_help="Do jobs for others (NIP-90).", epilog=EPILOG)
@takes_at
@click.option(
    "--kind", "kinds", metavar="N", multiple=True, required=True,
    type=click.IntRange(5_000, 5_999), help="Do jobs of this kind.",
)  # fmt: skip
@click.option("--price", metavar="MSAT", type=click.IntRange(1), help="Do them for this bid only.")
@click.option(
    "--at-once", metavar="N", type=click.IntRange(1, 64), default=2, help="Do so many at a time."
)
@click.option(
    "--max-age", metavar="MIN", type=click.IntRange(1, 10_080), default=10,
    help="Leave out older requests.",
)  # fmt: skip
@click.option(
    "--time-limit", metavar="S", type=click.FloatRange(0, min_open=True), default=60.0,
    help="Kill a program after this time.",
)  # fmt: skip
@click.option(
    "--output-limit", metavar="BYTES", type=click.IntRange(1, 1 << 20), default=60_000,
    help="Take no longer result.",
)  # fmt: skip
@click.option("--state", "folder", metavar="DIR", help="Keep the jobs here.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line for each step of a job.")
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True)
def worker(
    at: str | None, kinds: tuple[int, ...], price: int | None, at_once: int, max_age: int,
    time_limit: float, output_limit: int, folder: str | None, as_json: bool,
    words: tuple[str, ...],
) -> None:  # fmt: skip
    """Have COMMAND do the jobs that others ask for, until Ctrl-C.

    It gets a job's text on stdin, all of it in job.json in its directory, and its stdout is the
    result. A COMMAND of one word is a line for sh. It runs with your rights, for strangers.
    """
    from oanix.dvm import Command, Offer

    tree = Tree.find(at)
    pubkey = tree.read("pubkey").decode().strip()
    where = Path(folder or os.path.join(state_folder(), "dvm", pubkey)).absolute()
    environment = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    argv = ("sh", "-c", words[0]) if len(words) == 1 else _found(words)
    command = Command(argv, time_limit, output_limit, environment)
    offer = Offer(
        kinds=frozenset(kinds), price=price, at_once=at_once, max_age_s=max_age * 60
    )  # fmt: skip
    logging.basicConfig(level=logging.WARNING, format="oanix: %(levelname)s: %(message)s")
    _serve(tree, where, command, offer, as_json)


def _found(words: tuple[str, ...]) -> tuple[str, ...]:
    """Name a program by its whole path: it is started in another directory."""
    first = words[0]
    return (os.path.abspath(first) if "/" in first else first, *words[1:])


def _serve(tree: Tree, where: Path, command: "Command", offer: "Offer", as_json: bool) -> None:
    from oanix.dvm import Jobs, Mounted, Worker

    out = Out()

    def report(request: "Request", state: str) -> None:
        if as_json:
            said = {"id": request.id, "kind": request.event.kind, "state": state}
            out.write(json.dumps({**said, "customer": request.customer}).encode() + b"\n")
        else:
            out.write(f"{request.id} {request.event.kind} {state}\n".encode())

    jobs = Jobs.open(where)
    try:
        made = Worker(
            Mounted(tree.mountpoint), jobs, command, offer, folder=where / "work",
            now=lambda: int(time.time()), tree=tree.within, report=report,
        )  # fmt: skip
        trio.run(_run, made, jobs, offer)
    finally:
        jobs.close()


async def _run(made: "Worker", jobs: "Jobs", offer: "Offer") -> None:
    from oanix.lib.nostr.nip19 import encode

    with awaiting_signal() as signal_to_end:
        async with trio.open_nursery() as nursery:
            pubkey = await nursery.start(made.run)
            kinds = ", ".join(map(str, sorted(offer.kinds)))
            begun = sum(1 for _ in jobs.open_ones())
            more = f", {begun} of them begun before" if begun else ""
            complain(f"oanix: does jobs of kind {kinds}{more} as {encode('npub', pubkey)}")
            await signal_to_end()
            nursery.cancel_scope.cancel()
    complain("oanix: the worker has ended; what it was doing is begun again next time")
