"""Building namespaces from recipes."""

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest

from oanix.assembly import KINDS, RECIPE_MAX, Context, build, check, default_lines, load, place
from oanix.assembly import directories as directories_of
from oanix.lib.vault import Vault
from oanix.namespace import Namespace
from oanix.recipe import RecipeError, format_recipe, parse


def built(folder: Path, *lines: str) -> Namespace:
    """Build a recipe that stands in a folder."""
    return build(parse("\n".join(lines), "r"), Context(str(folder)))


def refused(folder: Path, *lines: str) -> RecipeError:
    """Give the error of a recipe."""
    with pytest.raises(RecipeError) as caught:
        built(folder, *lines)
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two directories and a file."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "file").touch()
    return tmp_path


def test_a_recipe_mounts_binds_unmounts_and_seals(folder: Path) -> None:
    namespace = built(
        folder,
        "mount workspace:one /workspace",
        "mount mem:size=1M /scratch",
        "mount mem /gone",
        "bind -a /scratch /workspace",
        "unmount /gone",
        "seal",
    )
    assert [path for path, _ in namespace.entries()] == ["/scratch", "/workspace", "/workspace"]
    assert namespace.sealed


def test_what_a_namespace_says_of_itself_builds_it_again(folder: Path) -> None:
    first = built(
        folder, "mount workspace:./one /w ro", "mount dev /dev", "bind /w /v", "unmount /dev"
    )
    again = build(parse(first.recipe()), Context("/nowhere"))
    assert again.recipe() == first.recipe()
    assert f"workspace:{folder}/one" in first.recipe()


def test_every_service_can_be_built_and_says_which_it_is(folder: Path) -> None:
    context = Context(str(folder))
    with closing(Vault.open(str(folder / "vault"))) as vault:
        for name, kind in KINDS.items():
            line = f"mount {name}:one /x" if kind.required else f"mount {name} /x"
            before = "mount http /web\nmount logs:two /log\n"
            namespace = build(parse(before + line), context, vault=vault)
            assert [path for path, _ in namespace.entries()] == ["/log", "/web", "/x"]
            assert namespace.entries()[2][1].service.name == name


def test_jobs_need_logs(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"r:1:7: .*mount logs on a line before it"):
        built(folder, "mount jobs:one /jobs", "mount logs:two /logs")


def test_there_is_one_service_of_jobs(folder: Path) -> None:
    lines = ["mount logs:two /logs", "mount jobs:one /jobs", "mount jobs:two /more"]
    with pytest.raises(RecipeError, match=r"r:3:7: .*one service of jobs; bind it"):
        built(folder, *lines)


def test_ws_needs_the_rules_of_http(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"r:1:7: .*mount http on a line before it"):
        built(folder, "mount ws /ws", "mount http /http")


def test_secrets_need_a_vault(folder: Path) -> None:
    with pytest.raises(RecipeError, match="r:1:7: there is no vault"):
        built(folder, "mount secrets /x")


@pytest.mark.parametrize(
    ("lines", "where", "says"),
    [
        (["mount nonsense /x"], (1, 7), "write one of: workspace:DIR, logs:DIR, mem"),
        (["mount workspace /x"], (1, 7), "write workspace:DIR"),
        (["mount workspace: /x"], (1, 7), "write workspace:DIR"),
        (["mount dev:1 /x"], (1, 7), "write dev"),
        (["mount workspace:none /x"], (1, 7), "there is no such directory"),
        (["mount workspace:file /x"], (1, 7), "this is no directory"),
        (["mount mem:size=huge /x"], (1, 7), "huge"),
        (["# why", "  mount mem /x  colour=red"], (2, 17), "no option 'colour'"),
        (["mount mem /x", "mount mem /x"], (2, 11), "line 1"),
        (["mount mem /x/y", "mount mem /x"], (2, 11), "line 1"),
        (["mount mem /x", "mount dev /x/../x"], (2, 11), "line 1"),
        (["mount workspace:one /x", "mount workspace:./one /y"], (2, 7), "write: bind /x /y"),
        (["mount mem /x", "bind /none /y"], (2, 6), "no such file"),
        (["mount mem /x", "bind -b -c /none /y"], (2, 12), "no such file"),
        (["mount mem /x", "bind -ac /x /y/z"], (2, 13), "no such file"),
        (["mount dev /x", "bind -a /x/null /x/zero"], (2, 17), "joins directories"),
        (["mount mem /x", "bind /x /y ro colour=red"], (2, 15), "no option 'colour'"),
        (["unmount /x"], (1, 9), "nothing is mounted at /x"),
        (["mount mem /x", "unmount /x", "unmount /x"], (3, 9), "nothing is mounted at /x"),
    ],
)
def test_a_line_that_cannot_be_done_is_named_by_line_and_column(
    folder: Path, lines: list[str], where: tuple[int, int], says: str
) -> None:
    error = refused(folder, *lines)
    assert (error.line, error.column) == where
    assert says in error.sentence
    assert str(error.strerror).startswith(f"r:{where[0]}:{where[1]}: ")


def test_the_errno_of_a_refusal_is_that_of_its_cause(folder: Path) -> None:
    assert refused(folder, "mount workspace:none /x").errno == errno.ENOENT
    assert refused(folder, "mount workspace:file /x").errno == errno.ENOTDIR
    assert refused(folder, "mount mem /x", "mount mem /x").errno == errno.EBUSY


def test_a_path_can_be_mounted_again_after_it_was_unmounted(folder: Path) -> None:
    namespace = built(folder, "mount workspace:one /x", "unmount /x", "mount workspace:one /x")
    assert len(namespace.entries()) == 1


def test_a_bind_of_a_path_over_itself_narrows_it(folder: Path) -> None:
    (entry,) = [e for _, e in built(folder, "mount mem /x", "bind /x /x ro").entries()]
    assert entry.access.value == "ro"


def test_binds_in_a_circle_end(folder: Path) -> None:
    namespace = built(
        folder, "mount mem /a", "bind /a /b", "bind -a /b /a", "bind -b /a /b", "bind / /a/all"
    )
    assert namespace.recipe().count("\n") == 5


@pytest.mark.slow
def test_ten_thousand_lines_are_built(folder: Path) -> None:
    lines = ["mount mem /m", *(f"bind /m /b{number}" for number in range(9_999))]
    assert len(built(folder, *lines).entries()) == 10_000


def test_a_directory_is_relative_to_the_recipe_that_names_it(folder: Path) -> None:
    recipe = folder / "team.ns"
    recipe.write_text("mount workspace:one /x\nmount workspace:./two/../two /y\n")
    lines, context = load(str(recipe))
    assert directories_of(lines, context) == [f"{folder}/one", f"{folder}/two"]


def test_two_dots_after_a_symbolic_link_lead_where_the_host_leads(folder: Path) -> None:
    (folder / "two" / "deep").mkdir()
    (folder / "link").symlink_to("two/deep")
    lines = parse("mount workspace:link/.. /x")
    assert directories_of(lines, Context(str(folder))) == [f"{folder}/two"]


def test_a_recipe_that_is_too_long_is_not_read_to_its_end() -> None:
    with pytest.raises(OSError, match=str(RECIPE_MAX)) as caught:
        load("/dev/zero")
    assert caught.value.errno == errno.EFBIG


def test_names_that_are_no_utf8_survive_in_a_recipe(folder: Path) -> None:
    odd = os.fsencode(folder) + b"/\xff odd"
    os.mkdir(odd)
    recipe = folder / "r"
    recipe.write_bytes(b'mount "workspace:\\xff odd" /x\n')
    lines, context = load(str(recipe))
    namespace = build(lines, context)
    assert '\\xff odd" /x' in namespace.recipe()
    assert build(parse(namespace.recipe()), Context("/")).recipe() == namespace.recipe()


def test_the_default_namespace_is_a_recipe(folder: Path) -> None:
    lines = default_lines(str(folder / "one"), str(folder / "state"))
    assert [line.path for line in lines] == [
        "/workspace", "/dist", "/logs", "/dev", "/proc", "/cap/http", "/cap/ws", "/cap/secrets",
        "/relay", "/cap/nostr", "/agents", "/jobs",
    ]  # fmt: skip
    assert [placed.line for placed in place(lines)] == lines
    assert parse(format_recipe(lines))[0].line == lines[0]


def test_two_paths_of_one_directory_share_its_state(folder: Path) -> None:
    (folder / "link").symlink_to("one")
    state = str(folder / "state")
    one, link = (default_lines(str(folder / name), state) for name in ("one", "link"))
    two = default_lines(str(folder / "two"), state)
    assert one[1:] == link[1:]
    assert one[1] != two[1]


def test_a_check_looks_at_the_mounts_and_builds_nothing(folder: Path) -> None:
    context = Context(str(folder))
    check(parse("mount logs:one /logs\nbind /none /x\n"), context)
    assert list((folder / "one").iterdir()) == []
    with pytest.raises(RecipeError, match=r"recipe:1:7: .*no such directory"):
        check(parse("mount logs:none /logs\n"), context)
