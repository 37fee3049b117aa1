"""Complete: what the shell offers for an argument."""

import click
from click.shell_completion import CompletionItem

from oanix.env import runs, state_folder


def mountpoints(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the mount points of the servers that run."""
    return [
        CompletionItem(run.mountpoint, help=run.serves)
        for run in runs(state_folder())
        if run.mountpoint.startswith(incomplete)
    ]
