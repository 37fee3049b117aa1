"""The `coder` command. This release has no web API, and the command says so."""

import sys
from os import EX_UNAVAILABLE

import click


@click.command(context_settings={"ignore_unknown_options": True})
@click.version_option(package_name="oanix", prog_name="coder", message="%(prog)s %(version)s")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, expose_value=False)
def main() -> None:
    """Serve the Coder web API, which is not part of this release.

    Whatever the ARGUMENTS, the exit code is 69 (EX_UNAVAILABLE).
    """
    click.echo(
        "coder: the Coder web API is not part of this release; `oanix --help` has the tools",
        err=True,
    )
    sys.exit(EX_UNAVAILABLE)
