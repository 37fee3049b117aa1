"""What the pages of the command line say is so."""

import re
import subprocess
from pathlib import Path

import click
import pytest
from _pytest.mark import ParameterSet

from oanix.assembly import KINDS, Context, build
from oanix.cli.root import COMMANDS, main
from oanix.recipe import parse
from tests.commands import TIME_OUT_S, Oanix

DOCS = Path(__file__).parents[2] / "docs"
CLI = (DOCS / "cli.md").read_text()
RECIPE = (DOCS / "man" / "recipe.md").read_text()
OANIX = (DOCS / "man" / "oanix.md").read_text()


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def _commands() -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {sub}", c) for sub, c in command.commands.items() if sub != "show"]
    return found


@pytest.mark.parametrize(("name", "command"), _commands(), ids=lambda value: str(value))
def test_every_command_and_option_is_in_the_page_and_has_examples(
    name: str, command: click.Command
) -> None:
    row = next(line for line in CLI.splitlines() if line.startswith(f"| `oanix {name}"))
    shared = {"-n", "-C", "--help"}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not shared & set(parameter.opts):
            assert any(option in row for option in parameter.opts), parameter.opts
    assert name.startswith("ns ") or "Examples:" in (command.epilog or "")


def test_every_service_is_in_the_page_of_recipes_with_its_argument_and_options() -> None:
    for name, kind in KINDS.items():
        argument = kind.argument and (
            f"`{kind.argument}`" if "[" in kind.argument else kind.argument
        )
        assert f"| `{name}` | {argument or '—'} | {kind.shows} |" in RECIPE


@pytest.mark.parametrize("recipe", _blocks(RECIPE, "recipe"))
def test_every_recipe_in_the_page_can_be_built(recipe: str, tmp_path: Path) -> None:
    (tmp_path / "project" / "src").mkdir(parents=True)
    (tmp_path / "overlay").mkdir()
    namespace = build(parse(recipe), Context(str(tmp_path)))
    assert len(parse(namespace.recipe())) == len(parse(recipe))


def _marked(block: str) -> ParameterSet:
    marks = [pytest.mark.slow]
    return pytest.param(
        block, marks=[*marks, pytest.mark.fuse] if "oanix mount" in block else marks
    )


@pytest.mark.parametrize(
    "block", [_marked(block) for page in (CLI, OANIX) for block in _blocks(page, "sh")]
)
def test_every_example_in_the_pages_runs(block: str, tmp_path: Path) -> None:
    oanix = Oanix(tmp_path / "state", tmp_path / "here")
    (oanix.here / "project").mkdir(parents=True)
    (oanix.here / "project" / "hello.txt").write_text("hello\n")
    python, *words = map(str, oanix.command())
    shell = f'oanix() {{ "{python}" {" ".join(words)} "$@"; }}\n{block}'
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", shell], capture_output=True, env=oanix.env,
        cwd=oanix.here, check=False, timeout=TIME_OUT_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
