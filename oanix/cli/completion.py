"""`oanix completion`: the script that makes a shell complete the command line."""

import click
from click.shell_completion import get_completion_class

from oanix.cli.failures import Failure

EPILOG = """\b
Examples:
  eval "$(oanix completion bash)"                              in ~/.bashrc
  eval "$(oanix completion zsh)"                               in ~/.zshrc
  oanix completion fish > ~/.config/fish/completions/oanix.fish"""

SHELLS = ["bash", "zsh", "fish"]
VARIABLE = "_OANIX_COMPLETE"


@click.command(short_help="Print a shell's completion script.", epilog=EPILOG)
@click.argument("shell", type=click.Choice(SHELLS), default="bash")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for a shell (default: bash)."""
    found = get_completion_class(shell)
    if found is None:
        raise Failure(f"there is no completion for {shell}")
    click.echo(found(ctx.find_root().command, {}, "oanix", VARIABLE).source())
