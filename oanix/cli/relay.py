"""`oanix relay`: serve a Nostr relay on a port."""

import gc
import json
import logging
import os
from typing import TextIO

import click
import trio

from oanix.assembly import Context, place
from oanix.cli.failures import Failure, sentence
from oanix.cli.output import Out, complain
from oanix.cli.running import awaiting_signal
from oanix.cli.web_port import PortPlan, port_plan, takes_tls, web_port
from oanix.env import OanixEnv, state_folder
from oanix.recipe import Mount

EPILOG = """\b
Examples:
  oanix relay serve                                   ws://127.0.0.1:7777/, kept in the state folder
  oanix relay serve --listen 0.0.0.0:443 --url wss://relay.example.com/ \\
      --tls-cert cert.pem --tls-key key.pem ~/relay
  oanix mount --web 7777 ~/mnt && cat ~/mnt/relay/stats   a relay whose files are mounted"""

SERVE_EPILOG = """\b
Examples:
  oanix relay serve
  oanix relay serve --listen 7777 --listen '[::1]:7777' ~/relay
  oanix relay serve --admin npub1… --url wss://relay.example.com/ --listen 0.0.0.0:7777
  oanix relay serve --proxy 127.0.0.1 --url wss://relay.example.com/   behind nginx or Caddy
  oanix relay serve --policy rules.txt --json | jq -r '.urls[]'

\b
Rules are lines such as these (docs/man/relay.md):
  allow write auth=npub1…
  deny write kind=4 -- use NIP-17
  rate write 10/s by=author
  pow 20 kind=1"""

LISTEN = "127.0.0.1:7777"
GARBAGE = 10_000
"""Objects that are made before it is looked for garbage."""


@click.group(short_help="Serve a Nostr relay.", epilog=EPILOG)
def relay() -> None:
    """Serve a Nostr relay: events in a database of its own, rules in a file."""


@relay.command(short_help="Serve one until Ctrl-C.", epilog=SERVE_EPILOG)
@click.option(
    "--listen", metavar="[HOST:]PORT", multiple=True, help=f"Listen there (default: {LISTEN})."
)
@takes_tls
@click.option("--name", metavar="TEXT", help="Set what the relay calls itself.")
@click.option("--admin", metavar="NPUB", multiple=True, help="Let this key manage it (NIP-86).")
@click.option(
    "--policy", metavar="FILE", type=click.File("r", encoding="utf-8"), help="Put these rules in."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object when it serves: urls.")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(file_okay=False))
def serve(
    listen: tuple[str, ...], url: str, tls_cert: str, tls_key: str, proxies: tuple[str, ...],
    name: str | None,
    admin: tuple[str, ...], policy: TextIO | None, as_json: bool, folder: str | None,
) -> None:  # fmt: skip
    """Serve the relay that is kept in DIR (default: `relay` in the state folder) until Ctrl-C."""
    plan = port_plan(listen or (LISTEN,), url, tls_cert, tls_key, proxies)
    where = os.path.abspath(folder or os.path.join(state_folder(), "relay"))
    os.makedirs(where, 0o700, exist_ok=True)
    commands = [f"name {name}"] if name is not None else []
    commands += [f"admin add {key}" for key in admin]
    logging.basicConfig(level=logging.WARNING, format="oanix: %(levelname)s: %(message)s")
    rules = policy.read() if policy is not None else None
    trio.run(_run, where, plan, commands, rules, as_json)


async def _run(
    where: str, plan: PortPlan, commands: list[str], rules: str | None, as_json: bool
) -> None:
    lines = place([Mount(f"relay:{where}", "/relay")])
    with awaiting_signal() as signal_to_end:
        async with OanixEnv.open(lines, Context(where)) as env:
            await _set(env, commands, rules)
            async with web_port(env.namespace, plan) as urls:
                # What is loaded stays, and thousands of events are under way at a time: to look
                # through all that for garbage at every 700th would cost 5 % of the processor.
                gc.freeze()
                gc.set_threshold(GARBAGE)
                _announce(plan, urls, as_json)
                await signal_to_end()
    complain("oanix: the relay has closed")


async def _set(env: OanixEnv, commands: list[str], rules: str | None) -> None:
    from oanix.caller import Caller
    from oanix.client import Client

    client = Client(env.namespace, Caller())
    try:
        for command in commands:
            await client.write("/relay/ctl", f"{command}\n".encode())
        if rules is not None:
            await client.write("/relay/policy", rules.encode())
    except OSError as error:
        raise Failure(
            f"the relay does not take this: {sentence(error)}", code=os.EX_DATAERR
        ) from error


def _announce(plan: PortPlan, urls: list[str], as_json: bool) -> None:
    if as_json:
        Out().line(json.dumps({"urls": urls}))
        return
    complain(f"oanix: a relay at {' and '.join(urls)}; Ctrl-C ends it")
    if not plan.url and not all(_own(one) for one in plan.where):
        complain(
            "oanix: clients of other machines cannot authenticate (NIP-42) until you say how "
            "they call it: --url wss://…"
        )


def _own(where: str) -> bool:
    host = where.rpartition(":")[0].strip("[]")
    return host in ("", "localhost", "::1") or host.startswith("127.")
