"""Root: the command `oanix` itself, what its commands share, and what happens to their errors."""

import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from oanix.cli.failures import BROKEN_PIPE, INTERRUPTED, Failed, single, tell
from oanix.cli.output import complain, complete_standard_files, silence

COMMANDS: Mapping[str, str] = {
    "mount": "oanix.cli.mount",
    "unmount": "oanix.cli.unmount",
    "ps": "oanix.cli.ps",
    "ns": "oanix.cli.ns",
    "bind": "oanix.cli.bind",
    "unbind": "oanix.cli.bind",
    "ls": "oanix.cli.listing",
    "stat": "oanix.cli.listing",
    "tree": "oanix.cli.listing",
    "cat": "oanix.cli.content",
    "write": "oanix.cli.content",
    "url": "oanix.cli.url",
    "secret": "oanix.cli.secret",
    "audit": "oanix.cli.audit",
    "relay": "oanix.cli.relay",
    "nostr": "oanix.cli.nostr",
    "agent": "oanix.cli.agent",
    "logs": "oanix.cli.logs",
    "doctor": "oanix.cli.doctor",
    "completion": "oanix.cli.completion",
}
"""The module of each command, in the order of `--help`."""

EPILOG = """\b
Examples:
  oanix mount . ~/mnt              serve this directory at ~/mnt until Ctrl-C
  oanix mount --daemon -n team.ns ~/mnt
  oanix ls /workspace              look without mounting
  oanix doctor                     see what this machine can do

`oanix COMMAND --help` has examples of each command."""


class Oanix(click.Group):
    """Loads a command's module when it is used, and ends with the exit code that its error has."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(module), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C or a reader of its output that went away ends it quietly."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            # As itself, click would print an empty line.
            raise Failed(INTERRUPTED) from error
        except (BrokenPipeError, BaseExceptionGroup) as error:
            if not isinstance(single(error), BrokenPipeError):
                raise
            silence(sys.stdout)
            # As itself, click would end it with 1.
            raise Failed(BROKEN_PIPE) from error

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run a command and exit."""
        complete_standard_files()
        words = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(
                words, prog_name or "oanix", complete_var, standalone_mode=False, **extra
            )
            code = code if isinstance(code, int) else 0
        except NoArgsIsHelpError as error:
            complain(error.format_message())
            code = error.exit_code
        except (Exception, KeyboardInterrupt, BaseExceptionGroup) as error:
            code = _complain(error, debug="--debug" in words[:1])
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            silence(sys.stdout)
            code = BROKEN_PIPE
        sys.exit(code)


def _complain(error: BaseException, *, debug: bool) -> int:
    if debug:
        complain("".join(traceback.format_exception(error)).rstrip())
    lines, code = tell(error)
    for line in lines:
        complain(line)
    return code


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        # It takes longer to load than most commands run.
        from oanix.assembly import version

        click.echo(f"oanix {version()}")
        ctx.exit()


@click.command(cls=Oanix, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of what goes wrong.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main(debug: bool) -> None:
    """Serve directories, logs and more as one tree of files: a namespace.

    A namespace is described by a recipe, one operation a line; without one, a directory gets
    /workspace, /dist, /logs, /cap, /dev and /proc.
    """
