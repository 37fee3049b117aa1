"""`oanix ns`: recipes: print, check and compare them."""

import difflib
import os

import click

from oanix.assembly import Context
from oanix.assembly import check as check_mounts
from oanix.cli.complete import mountpoints
from oanix.cli.failures import Failed, single
from oanix.cli.live import find_mount, read_recipe
from oanix.cli.output import Out, complain, escape
from oanix.cli.running import run_work
from oanix.cli.source import read, source_of, takes_source
from oanix.env import Busy, OanixEnv
from oanix.recipe import (
    Bind,
    Line,
    Mount,
    Placed,
    RecipeError,
    Unmount,
    format_recipe,
    parse,
)

EPILOG = """\b
Examples:
  oanix ns ~/mnt > team.ns         what is mounted there, as a recipe
  oanix ns                         the default recipe of this directory
  oanix ns check team.ns
  oanix ns diff team.ns ~/mnt"""


class _Default(click.Group):
    """A group whose first word may be an argument of its default command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["show"])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return "show", self.commands["show"], args


@click.group(
    short_help="Print, check and compare recipes.",
    cls=_Default,
    epilog=EPILOG,
    context_settings={"ignore_unknown_options": True},
    subcommand_metavar="[MOUNTPOINT] | COMMAND [ARGS]...",
)
def ns() -> None:
    """Print, check and compare recipes: namespaces as text.

    `oanix ns MOUNTPOINT` prints the recipe of what is mounted there now; write ./show, ./check or
    ./diff for a mount point that has such a name.
    """


@ns.command()
@takes_source
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object a line.")
@click.argument("mountpoint", required=False, shell_complete=mountpoints)
def show(recipe: str | None, directory: str | None, as_json: bool, mountpoint: str | None) -> None:
    """Print the recipe of a mounted namespace, or that which -n or -C give (this is the default).

    Directories are written as absolute paths.
    """
    if mountpoint is not None:
        if recipe is not None or directory is not None:
            raise click.UsageError("give a mount point, or -n or -C")
        text = read_recipe(find_mount(mountpoint))
    else:
        source = source_of(recipe, directory)
        text = format_recipe(placed.line for placed in source.lines)
    out = Out()
    if as_json:
        out.json([_json(placed.line) for placed in parse(text)])
    else:
        out.write(text.encode("utf-8", "surrogateescape"))


@ns.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.argument("recipe")
def check(as_json: bool, recipe: str) -> None:
    """Run the namespace of RECIPE for a moment.

    The first line that cannot be done is named by file, line and column, with what to write
    instead.
    While a server runs that holds what the recipe names, only its mounts are looked at.
    """
    out = Out()
    try:
        lines, context = read(recipe)
        run_work(_try, lines, context)
    except (RecipeError, ExceptionGroup) as failed:
        error = single(failed)
        if not as_json or not isinstance(error, RecipeError):
            raise
        wrong = {"line": error.line, "column": error.column, "sentence": error.sentence}
        out.json({"recipe": recipe, "valid": False, "error": wrong})
        raise Failed(os.EX_DATAERR) from None
    if as_json:
        out.json({"recipe": recipe, "valid": True, "lines": len(lines)})
    else:
        out.line(b"%s: good, %d lines" % (out.name(recipe), len(lines)))


@ns.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: removed and added.")
@click.argument("a")
@click.argument("b")
def diff(as_json: bool, a: str, b: str) -> None:
    """Compare two recipes, files or mount points, line by line; exits with 1 when they differ.

    Comments, blanks and ways of quoting do not count.
    """
    out = Out()
    old, new = _lines_of(a), _lines_of(b)
    marked = [line for line in difflib.ndiff(old, new) if not line.startswith("?")]
    if as_json:
        out.json({
            "removed": [line[2:] for line in marked if line.startswith("-")],
            "added": [line[2:] for line in marked if line.startswith("+")],
        })  # fmt: skip
    else:
        for line in difflib.unified_diff(old, new, a, b, lineterm=""):
            out.line(out.name(line) if line.startswith(("---", "+++")) else line)
    if old != new:
        raise Failed


async def _try(lines: list[Placed], context: Context) -> None:
    try:
        async with OanixEnv.open(lines, context):
            return
    except Busy as busy:
        check_mounts(lines, context)
        complain(f"oanix: only the mounts were looked at, as {escape(busy.strerror or '')}")


def _lines_of(place: str) -> list[str]:
    if os.path.isdir(place):
        lines = parse(read_recipe(find_mount(place)), place)
    else:
        lines, _ = read(place)
    return format_recipe(placed.line for placed in lines).splitlines()


def _json(line: Line) -> dict[str, object]:
    words = line.words()
    if isinstance(line, Mount):
        return {"do": "mount", "service": line.service, "argument": line.argument,
                "path": line.path, **_rights(line)}  # fmt: skip
    if isinstance(line, Bind):
        return {"do": "bind", "source": line.source, "target": line.target,
                "union": {"-b": "before", "-a": "after"}.get(line.where),
                "create": line.create, **_rights(line)}  # fmt: skip
    if isinstance(line, Unmount):
        return {"do": "unmount", "path": line.path}
    return {"do": words[0]}


def _rights(line: Mount | Bind) -> dict[str, object]:
    return {"access": line.access.value, "options": dict(line.options)}
