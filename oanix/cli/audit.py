"""`oanix audit`: what was done through a namespace, from its journal; and whether that is sound."""

import fnmatch
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import click
from attrs import frozen
from click.shell_completion import CompletionItem

from oanix.assembly import workspace_state
from oanix.cli.complete import mountpoints
from oanix.cli.failures import Failed, Failure
from oanix.cli.live import find_mount, mounted_now
from oanix.cli.output import Out, complain, escape, escape_name
from oanix.cli.passphrase import open_vault, unlock
from oanix.env import runs, state_folder
from oanix.journal import Anchor, Authenticator, Finding, JournalPlace, Tail, Trust, verify
from oanix.journal.chain import parse
from oanix.lib.vault import FILE

EPILOG = """\b
Examples:
  oanix audit                          what was done through the namespace of this directory
  oanix audit --since 1h --denied ~/project
  oanix audit --follow --mount ~/mnt
  oanix audit --json --op unlink,rename --path '/workspace/src/*' | jq -r .path
  oanix audit verify                   see whether the record is as it was written"""

VERIFY_EPILOG = """\b
Examples:
  oanix audit verify
  oanix audit verify --strict ~/project || echo 'somebody was there'"""

DENIED = ("EACCES", "EPERM", "EROFS")
OPS = (
    *("create", "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename", "setattr"),
    *("setxattr", "removexattr", "open", "close", "namespace"),
    *("start", "stop", "lost", "recovered", "pruned", "broken"),
)
"""What `op` of a record may be (docs/man/journal.md)."""

POLL_S = 0.2

_DURATION = re.compile(r"([0-9]+)(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class _Audit(click.Group):
    """Takes what names no command of its own as the arguments of `show`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing and not args:
            return super().parse_args(ctx, args)
        if not args or args[0] not in (*self.commands, "-h", "--help"):
            args = ["show", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the commands, and what `show` takes."""
        found = super().shell_complete(ctx, incomplete)
        with click.Context(show, parent=ctx) as showing:
            for item in show.shell_complete(showing, incomplete):
                if item.value not in [other.value for other in found]:
                    found.append(item)
        return found if incomplete.startswith("-") else [*found, CompletionItem(incomplete, "dir")]


@click.group(cls=_Audit, short_help="Show what was done, and verify that record.", epilog=EPILOG)
def audit() -> None:
    """Show what a namespace did at its capabilities, and what was changed through it.

    The journal is read from the state folder; no server needs to run. `show` may be left out; its
    options: `oanix audit show --help`.
    """


def _takes_journal(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("-n", "recipe", metavar="RECIPE", help="The journal of a recipe's file."),
        click.option(
            "--mount", "mountpoint", metavar="M", shell_complete=mountpoints,
            help="The journal of what is mounted at M.",
        ),
        click.argument(
            "directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False)
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def _place(directory: str | None, mountpoint: str | None, recipe: str | None) -> JournalPlace:
    state = state_folder()
    if sum(word is not None for word in (directory, mountpoint, recipe)) > 1:
        raise click.UsageError("give a directory, a mount point or a recipe")
    if mountpoint is not None:
        place = _mounted(state, find_mount(mountpoint))
        served = mountpoint
    elif recipe is not None:
        served = os.path.abspath(recipe)
        place = JournalPlace.of_recipe(state, served)
    else:
        served = directory if directory is not None else "."
        if not os.path.isdir(served):
            raise Failure(
                f"{served} is no directory", "name a directory that was served", os.EX_NOINPUT
            )
        place = JournalPlace.of_workspace(state, workspace_state(state, served))
    if not place.exists:
        raise Failure(
            f"{served} has no journal",
            "it begins when it is mounted or written to; each $OANIX_STATE has journals of its own",
            os.EX_NOINPUT,
        )
    return place


def _mounted(state: str, at: str) -> JournalPlace:
    found = [run.journal for run in runs(state) if run.mountpoint == at and run.journal]
    if not found:
        raise Failure(f"no server of this state folder is mounted at {at}", mounted_now())
    return JournalPlace.of_folder(state, found[0])


# Showing -----------------------------------------------------------------------------------------


@audit.command(short_help="Show the records.", epilog=EPILOG)
@_takes_journal
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as they are, JSON lines.")
@click.option(
    "--since", metavar="T", help="From a time (2026-01-31T08:00) or for 90s, 10m, 2h, 3d."
)
@click.option("--op", "ops", metavar="OP,...", help="Only these operations, as unlink,rename.")
@click.option("--path", "glob", metavar="GLOB", help="Only these paths, and what is beneath them.")
@click.option("--denied", is_flag=True, help="Only what was refused: EACCES, EPERM, EROFS.")
def show(
    directory: str | None,
    mountpoint: str | None,
    recipe: str | None,
    *,
    follow: bool,
    as_json: bool,
    since: str | None,
    ops: str | None,
    glob: str | None,
    denied: bool,
) -> None:
    """Show the records of a journal, oldest first, with the times of this place.

    The changes of every mount are recorded, and at capabilities each open and close too, with the
    bytes that went through.
    """
    place = _place(directory, mountpoint, recipe)
    wanted = Wanted(_since(since) if since else "", _ops(ops or ""), glob or "", denied)
    out, tail = Out(), Tail(place.folder)
    if not as_json:
        out.line(
            f"{'TIME':19}  {'WHO':20}  {'OP':9}  {'RESULT':12}  {'READ':>9}  {'WRITTEN':>9}  PATH"
        )
    for line in _following(tail) if follow else (line for _, line in tail):
        record = parse(line)
        if wanted.takes(record):
            shown = line + b"\n" if as_json else f"{_row(record)}\n".encode(errors="replace")
            if follow:
                out.write(shown)
            else:
                sys.stdout.buffer.write(shown)


def _ops(text: str) -> tuple[str, ...]:
    """Read the operations that are wanted. Raises UsageError for one that no record has."""
    found = tuple(text.split(",")) if text else ()
    for op in found:
        if op not in OPS:
            raise click.UsageError(f"{op!r} is no operation; write {', '.join(OPS)}")
    return found


def _following(tail: Tail) -> Iterator[bytes]:
    while True:
        for _, line in tail:
            yield line
        time.sleep(POLL_S)


@frozen
class Wanted:
    """Which records are shown."""

    since: str = ""
    ops: tuple[str, ...] = ()
    glob: str = ""
    denied: bool = False

    def takes(self, record: dict[str, object]) -> bool:
        """Tell whether a record is one of them."""
        return (
            (not self.since or str(record.get("time", "")) >= self.since)
            and (not self.ops or record.get("op") in self.ops)
            and (not self.denied or record.get("result") in DENIED)
            and (not self.glob or any(map(self._matches, _paths(record))))
        )

    def _matches(self, path: str) -> bool:
        beneath = self.glob.rstrip("/") + "/*"
        return fnmatch.fnmatchcase(path, self.glob) or fnmatch.fnmatchcase(path, beneath)


def _paths(record: dict[str, object]) -> Sequence[str]:
    return [str(record[field]) for field in ("path", "target") if field in record]


def _since(text: str) -> str:
    now = datetime.now(UTC)
    short = _DURATION.fullmatch(text)
    try:
        if short:
            when = now - timedelta(**{_UNITS[short[2]]: int(short[1])})
        else:
            when = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise click.UsageError(
            f"{text!r} is no time; write 2026-01-31, 2026-01-31T08:00, 90s, 10m, 2h, 3d or 1w"
        ) from None
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _row(record: dict[str, object]) -> str:
    path = escape_name(str(record.get("path", "")))
    if "target" in record:
        path += f" -> {escape_name(str(record['target']))}"
    told = [
        str(record[field]).replace("\n", "; ") for field in ("detail", "rule") if record.get(field)
    ]
    if told:
        path += f"  ({escape(', '.join(told).rstrip('; '))})"
    return (
        f"{_local(str(record.get('time', ''))):19}  {_who(record.get('who')):20}  "
        f"{record.get('op', ''):9}  {record.get('result', ''):12}  "
        f"{record.get('read', ''):>9}  {record.get('written', ''):>9}  {path.lstrip()}"
    )


def _local(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return escape(text)


def _who(said: object) -> str:
    if not isinstance(said, dict):
        return "-"
    name = f"job:{said['job']}" if said.get("job") else str(said.get("principal", ""))
    return escape(f"{name}/{said['pid']}" if said.get("pid") else name)


# Verifying ---------------------------------------------------------------------------------------


@audit.command("verify", short_help="See whether it is as it was written.", epilog=VERIFY_EPILOG)
@_takes_journal
@click.option("--strict", is_flag=True, help="Fail also without a key, or with an uncovered end.")
@click.option(
    "--passphrase-file", "file", metavar="FILE", help="Read the passphrase of the vault from FILE."
)
def check(
    directory: str | None,
    mountpoint: str | None,
    recipe: str | None,
    *,
    strict: bool,
    file: str | None,
) -> None:
    """Check each record, that none is missing, and that the end is the one that was anchored.

    Names the first record that was changed, and exits with 1.
    """
    place = _place(directory, mountpoint, recipe)
    with ExitStack() as stack:
        anchor = Anchor(place.anchor, _authenticator(stack, file))
        finding = verify(place.folder, anchor, _progress if sys.stderr.isatty() else None)
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    _report(finding)
    if not finding.sound or (strict and not _certain(finding)):
        raise Failed()


def _certain(finding: Finding) -> bool:
    return finding.trust is Trust.GENUINE and not finding.uncovered


def _report(finding: Finding) -> None:
    out = Out()
    for note in finding.notes:
        out.line(f"note: {escape(note)}")
    if finding.problem:
        complain(f"oanix: {escape(str(finding.problem))}")
        return
    out.line(f"records {finding.first} to {finding.last} are as they were written")
    out.line(finding.trust.value)
    if finding.uncovered:
        out.line(f"{finding.uncovered} records after the last anchor are not covered")


def _progress(count: int) -> None:
    click.echo(f"\r{count} records", err=True, nl=False)


def _authenticator(stack: ExitStack, file: str | None) -> Authenticator | None:
    # Without the key the chain is checked all the same; the report says what that is worth.
    if not os.path.exists(os.path.join(state_folder(), FILE)):
        return None
    vault = open_vault()
    stack.callback(vault.close)
    if vault.kept() is None:
        return None
    try:
        unlock(vault, file)
    except Failure as failure:
        complain(f"oanix: {escape(failure.sentence)}")
        return None
    return vault.authenticator("journal")
