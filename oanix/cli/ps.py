"""`oanix ps`: the servers that run."""

import time

import click

from oanix.cli.output import Out, escape, json_name
from oanix.env import Run, runs, state_folder

EPILOG = """\b
Examples:
  oanix ps
  oanix ps --json | jq -r '.[].mountpoint'"""


@click.command(short_help="List what is mounted.", epilog=EPILOG)
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON array, with recipe and services."
)
def ps(as_json: bool) -> None:
    """List the mounts that are served now, oldest first, with the warnings of their services.

    Those of one state folder ($OANIX_STATE) are seen.
    """
    out, found = Out(), runs(state_folder())
    if as_json:
        out.json([_json(run) for run in found])
        return
    if not found:
        return
    out.table(
        ["PID", "SINCE", "OPERATIONS", "MOUNTPOINT", "SERVES"],
        [
            (str(r.pid), _since(r.since), str(r.operations), r.mountpoint, r.serves)
            for r in found
        ],
    )  # fmt: skip
    for run in found:
        for warning in run.warnings:
            out.line(f"{run.pid}: warning: {escape(warning)}")


def _since(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _json(run: Run) -> dict[str, object]:
    return {
        "pid": run.pid,
        "uid": run.uid,
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.since)),
        "operations": run.operations,
        **json_name("mountpoint", run.mountpoint),
        **json_name("serves", run.serves),
        **json_name("log", run.log),
        "recipe": run.recipe.splitlines(),
        "services": [
            {"name": service.name, "paths": service.paths, "status": service.status}
            for service in run.services
        ],
        "warnings": run.warnings,
    }
