"""`oanix doctor`: what this machine can do, and how it could do more."""

import os

import click
from attrs import asdict

from oanix.cli.failures import Failed
from oanix.cli.machine import checks
from oanix.cli.output import Out, escape

EPILOG = """\b
Examples:
  oanix doctor
  oanix doctor --json | jq -r '.[] | select(.state != "ok") | .remedy'"""


@click.command(short_help="See what this machine can do.", epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def doctor(as_json: bool) -> None:
    """Look at what this machine offers: FUSE, namespaces, watching files, limits,
    what runs scripts.

    Each is ok, warn (something works less well) or fail (nothing can be mounted), with what follows
    and what to do. Exits with 69 when something fails.
    """
    out, found = Out(), checks()
    if as_json:
        out.json([asdict(check) for check in found])
    else:
        width = max(len(check.name) for check in found)
        for check in found:
            out.line(f"{check.state:4}  {check.name:{width}}  {escape(check.found)}")
            if check.state != "ok":
                for word, said in (("so", check.follows), ("do", check.remedy)):
                    if said:
                        out.line(f"{'':{width + 6}}  {word}: {escape(said)}")
    if any(check.state == "fail" for check in found):
        raise Failed(os.EX_UNAVAILABLE)
