"""`oanix agent list|info|install|remove|pin`: the kinds of agents that are installed."""

import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from oanix.assembly import kinds_folder
from oanix.cli.failures import Failure, sentence
from oanix.cli.output import Out, escape
from oanix.env import state_folder
from oanix.env.state import make_state
from oanix.lib.agents import Installed, KindStore, Manifest, read_input, usage
from oanix.lib.agents.source import hashes_of, read_kind
from oanix.lib.agents.store import MANIFEST

WRONG_USAGE: Final = 2
"""As click ends a command whose words it cannot take."""


def kind_store() -> KindStore:
    """Give the kinds of this user."""
    return KindStore(Path(kinds_folder(state_folder())))


def complete_kind(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Offer the kinds that are installed."""
    store = kind_store()
    found = [store.find(name) for name in store.names() if name.startswith(incomplete)]
    return [
        CompletionItem(kind.name, help=kind.manifest.description if kind.manifest else "broken")
        for kind in found
        if kind is not None
    ]


class Runnable(click.ParamType[Any]):
    """A file, or else the name of a kind that is installed."""

    name = "module or kind"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> "Installed | str":
        """Find it."""
        if isinstance(value, Installed) or os.path.isfile(value):
            found: Installed | str = value
            return found
        kind = kind_store().find(value)
        if kind is None:
            what = "is a directory" if os.path.isdir(value) else "does not exist"
            self.fail(f"{value!r} {what}, and no kind is called so (oanix agent list)", param, ctx)
        return kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer kinds and files."""
        return [*complete_kind(ctx, param, incomplete), CompletionItem(incomplete, type="file")]


def asks_for_help(kind: Installed, args: Sequence[str]) -> bool:
    """Show how a kind is used when that is asked for."""
    words = list(args)[: args.index("--") if "--" in args else None]
    if "--help" not in words and "-h" not in words:
        return False
    with _told():
        show_help(kind)
    return True


def order_of(kind: Installed, args: Sequence[str], given: Mapping[str, Any]) -> dict[str, object]:
    """Give the specification of a job of a kind. Raises Failure for what it does not take."""
    wrong = [name for name in ("bare", "folders", "interpreter") if given[name]]
    if wrong:
        option = {"folders": "dir"}.get(wrong[0], wrong[0])
        raise click.UsageError(f"a kind says itself what it needs; leave out --{option}")
    with _told():
        manifest = kind.ready()
    try:
        if not manifest.takes_any and manifest.runs:
            read_input(manifest, args, None)
    except OSError as error:
        remedy = f"oanix agent run {kind.name} --help shows what it takes"
        raise Failure(sentence(error), remedy, WRONG_USAGE) from None
    return {"kind": kind.name, "args": list(args), "name": given["name"] or kind.name}


takes_kind = click.argument("kind", shell_complete=complete_kind)


@contextmanager
def _told() -> Iterator[None]:
    """Say what is wrong with a kind or its source, with the exit code for that."""
    try:
        yield
    except OSError as error:
        code = {
            errno.ENOENT: os.EX_NOINPUT, errno.EINVAL: os.EX_DATAERR, errno.EFBIG: os.EX_DATAERR,
        }.get(error.errno or 0)  # fmt: skip
        if code is None:
            raise
        raise Failure(sentence(error), "see docs/man/agents.md", code) from None


# Looking -----------------------------------------------------------------------------------------


@click.command("list", short_help="List the kinds of agents.", epilog="""\b
Examples:
  oanix agent list
  oanix agent list --json | jq -r '.[] | select(.state == "ready").name'""")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print an array of objects.")
def list_kinds(as_json: bool) -> None:
    """List the kinds that ship with OANIX and those that you have installed."""
    store = kind_store()
    kinds = [kind for kind in map(store.find, store.names()) if kind is not None]
    out = Out()
    if as_json:
        out.json([_facts(kind) for kind in kinds])
        return
    out.write(f"{'KIND':20} {'VERSION':10} {'STATE':12} DESCRIPTION\n".encode())
    room = max(shutil.get_terminal_size().columns - 46, 40)
    for kind in kinds:
        manifest = kind.manifest
        said = manifest.description if manifest else kind.broken
        version = manifest.version if manifest else "-"
        short = said if len(said) <= room else f"{said[: room - 1]}…"
        out.line(escape(f"{kind.name:20} {version:10} {_state(kind):12} {short}"))


def _state(kind: Installed) -> str:
    if kind.manifest is None:
        return "broken"
    return "ready" if kind.manifest.runs else "not yet"


def _facts(kind: Installed) -> dict[str, object]:
    manifest = kind.manifest
    return {
        "name": kind.name, "state": _state(kind), "ships": kind.shipped,
        "version": manifest.version if manifest else None,
        "description": manifest.description if manifest else None,
        **({"broken": kind.broken} if kind.broken else {}),
        **({"unavailable": manifest.unavailable} if manifest and manifest.unavailable else {}),
        **({"installed": dict(kind.record)} if kind.record else {}),
    }  # fmt: skip


@click.command(short_help="Show what a kind is, needs and gets.", epilog="""\b
Examples:
  oanix agent info scaffold
  oanix agent info --json explain_code | jq .needs""")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print its manifest, as JSON.")
@takes_kind
def info(kind: str, as_json: bool) -> None:
    """Show what KIND does, what it is asked, what it needs and why, and its default world."""
    with _told():
        found = kind_store().get(kind)
        manifest = found.ready()
    out = Out()
    if as_json:
        out.write(manifest.show().encode())
        return
    runs = f"{manifest.program} in {manifest.interpreter}" if manifest.program else manifest.module
    lines = [usage(manifest, f"oanix agent run {kind}"), "Its default world:\n"]
    lines += [f"  {line}\n" for line in manifest.world.splitlines()]
    lines += ["Its limits:\n"] if manifest.limits else []
    lines += [f"  {name} {value}\n" for name, value in manifest.limits.items()]
    lines.append(f"Version {manifest.version}{manifest.license and f', {manifest.license}'}")
    lines.append(f", runs {runs}\n" if runs else "\n")
    if found.record:
        when, origin = found.record.get("at"), found.record.get("from")
        lines.append(f"Installed {when} from {origin}\n")
    for piece in lines:
        out.write("".join(map(_shown, piece.splitlines(keepends=True))).encode())


def _shown(line: str) -> str:
    return escape(line.removesuffix("\n")) + "\n" * line.endswith("\n")


def show_help(kind: Installed) -> None:
    """Print how a kind is used."""
    text = usage(kind.ready(), f"oanix agent run {kind.name}")
    Out().write("".join(map(_shown, text.splitlines(keepends=True))).encode())


# Changing ----------------------------------------------------------------------------------------


@click.command(short_help="Install a kind of agent.", epilog="""\b
Examples:
  oanix agent install ./my-kind            a folder with a manifest.json
  oanix agent install my-kind.tar.gz
  oanix agent install --replace tool.wasm  a module alone""")  # fmt: skip
@click.option("--replace", is_flag=True, help="Put it in place of one that is installed.")
@click.argument("source", metavar="FILE|DIR", type=click.Path(exists=True, path_type=Path))
def install(source: Path, replace: bool) -> None:
    """Install a kind from a folder, an archive of one, or a module. It says what it asks for."""
    with _told():
        manifest, files = read_kind(source)
        _check_order(manifest)
        record = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "from": os.path.abspath(source),
        }
        make_state(state_folder())
        try:
            kind = kind_store().install(manifest, files, record, replace=replace)
        except FileExistsError as error:
            remedy = "" if replace else "to put this one in its place, add --replace"
            raise Failure(sentence(error), remedy, os.EX_CANTCREAT) from None
    out = Out()
    gets = "it gets, when it is run:" if manifest.needs else "it needs nothing"
    out.line(escape(f"installed {kind.name} {manifest.version}; {gets}"))
    for need in manifest.needs:
        out.line(escape(f"  {need.path}{' (if there)' * need.optional}: {need.why}"))
    if manifest.limits:
        limits = ", ".join(f"{name} {value}" for name, value in manifest.limits.items())
        out.line(escape(f"  at most: {limits}"))


def _check_order(manifest: Manifest) -> None:
    """Refuse what no job could be ordered with. Raises OSError EINVAL."""
    from oanix.scheduler.interpreters import interpreter
    from oanix.scheduler.limits import Limits

    Limits.parse(manifest.limits)
    if manifest.interpreter:
        interpreter(manifest.interpreter)


@click.command(short_help="Remove an installed kind.", epilog="""\b
Examples:
  oanix agent remove my-kind""")  # fmt: skip
@click.argument("kinds", metavar="KIND...", nargs=-1, required=True, shell_complete=complete_kind)
def remove(kinds: tuple[str, ...]) -> None:
    """Remove kinds that you have installed. Jobs of theirs that run go on."""
    store = kind_store()
    for kind in kinds:
        with _told():
            store.remove(kind)


@click.command(short_help="Write the hashes of a kind's files into its manifest.", epilog="""\b
Examples:
  oanix agent pin ./my-kind""")  # fmt: skip
@click.argument("folder", metavar="DIR",
                type=click.Path(exists=True, file_okay=False, path_type=Path))  # fmt: skip
def pin(folder: Path) -> None:
    """Write the hashes of the files in DIR into its manifest.json, for who hands a kind on."""
    from oanix.lib.agents.manifest import parse_manifest
    from oanix.lib.agents.source import folder_files

    with _told():
        files = folder_files(folder)
        said = files.pop(MANIFEST, None)
        if said is None:
            raise Failure(f"there is no {MANIFEST} in {folder}", code=os.EX_NOINPUT)
        manifest = parse_manifest(said, pinned=False)
        (folder / MANIFEST).write_text(manifest.pinned(hashes_of(files)).show(), encoding="utf-8")
        read_kind(folder, pinned=True)
