"""Complete: what the shell offers for an argument."""

import os

import click
from click.shell_completion import CompletionItem

from oanix.assembly import workspace_state
from oanix.env import runs, state_folder
from oanix.recipe import Mount, parse


def mountpoints(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the mount points of the servers that run."""
    return [
        CompletionItem(run.mountpoint, help=run.serves)
        for run in runs(state_folder())
        if run.mountpoint.startswith(incomplete)
    ]


def run_numbers(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the numbers of the jobs that have run, newest first, as the state folder has them."""
    logs = _logs(ctx.params.get("at"), ctx.params.get("directory") or ".")
    try:
        names = os.listdir(os.path.join(logs, "runs")) if logs else []
    except OSError:
        # Nothing ran there yet.
        return []
    found = sorted((int(name) for name in names if name.isdecimal()), reverse=True)
    return [CompletionItem(str(n)) for n in found if str(n).startswith(incomplete)]


def _logs(at: str | None, directory: str) -> str:
    if at is None:
        return os.path.join(workspace_state(state_folder(), directory), "logs")
    for run in runs(state_folder()):
        if run.mountpoint == os.path.abspath(at):
            lines = [placed.line for placed in parse(run.recipe)]
            mounts = [one for one in lines if isinstance(one, Mount) and one.service == "logs"]
            return mounts[0].argument or "" if mounts else ""
    return ""
