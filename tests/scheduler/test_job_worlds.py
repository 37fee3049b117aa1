"""The namespace of a job is exactly its recipe: what a guest finds by walking is what was bound.

Random recipes are given to a parent, and a model says what each has to show: the files of its
sources at its targets, with the access that the line gives or less, and nothing else. A guest walks
its world by the functions of WASI, from its root, reads every file and tries to write to it.
"""

import json
from collections.abc import Mapping
from contextlib import suppress

import pytest
import trio
from attrs import evolve, frozen
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oanix.client import Client
from oanix.namespace import Namespace
from oanix.recipe import RecipeError
from oanix.scheduler.spec import parse_spec
from oanix.scheduler.worlds import world
from oanix.services.memfs import MemFs
from oanix.table import Access
from tests.scheduler.wasi_help import BADF, PERM, ROFS, WRITE, Hands, World

DIRECTORY, APPEND = 2, 1

FILES = {
    "/a/x": b"a-x", "/a/s/x": b"a-s-x", "/a/s/k": b"key", "/b/x": b"b-x", "/b/s/x": b"b-s-x",
    "/x": b"x", "/ro/x": b"ro-x", "/ro/s/x": b"ro-s-x", "/log/l": b"l",
}  # fmt: skip
FOLDERS = ("/", "/a", "/a/s", "/b", "/b/s", "/ro", "/ro/s", "/log")
STRICT = [Access.RW, Access.APPEND, Access.RO]


@frozen
class Shown:
    """What is at a path: the content of a file, None for a directory; and what may be done."""

    content: bytes | None
    access: Access


Tree = Mapping[str, Shown]


async def parent() -> Namespace:
    namespace = Namespace()
    for path in ("/", "/ro", "/log"):
        namespace.mount(MemFs.from_argument(None), path)
    client = Client(namespace)
    for folder in FOLDERS:
        if not client.exists(folder):
            client.mkdir(folder)
    for path, content in FILES.items():
        await client.write(path, content)
    namespace.bind("/ro", "/ro", access=Access.RO)
    namespace.bind("/log", "/log", access=Access.APPEND)
    return namespace


def before() -> Tree:
    """What the parent shows."""

    def access(path: str) -> Access:
        top = path.split("/")[1]
        return {"ro": Access.RO, "log": Access.APPEND}.get(top, Access.RW)

    shown: dict[str, Shown] = {path: Shown(None, access(path)) for path in FOLDERS}
    return shown | {path: Shown(content, access(path)) for path, content in FILES.items()}


def beneath(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def expected(lines: list[tuple[str, str, str]]) -> Tree | None:
    """Say what a recipe of binds has to show; None for one that is refused."""
    source_tree, made = before(), {"/": Shown(None, Access.RO)}
    for source, target, word in lines:
        if source not in source_tree:
            return None
        given_ = {"": Access.RW, "ro": Access.RO, "append": Access.APPEND}[word]
        folders = [
            "/".join(target.split("/")[:end]) or "/" for end in range(1, target.count("/") + 1)
        ]
        for folder in folders:
            if made.get(folder, Shown(None, Access.RO)).content is not None:
                return None
            made.setdefault(folder, Shown(None, Access.RO))
        made = {path: one for path, one in made.items() if not beneath(path, target)}
        for path, one in source_tree.items():
            if beneath(path, source):
                there = (target.rstrip("/") + path[len(source.rstrip("/")) :]).rstrip("/") or "/"
                strict = max(one.access, given_, key=STRICT.index)
                made[there] = evolve(one, access=strict)
    # The root of a job is a directory.
    return made if made["/"].content is None else None


async def walked(hands: Hands, path: str = ".", at: str = "/") -> dict[str, Shown]:
    """Find everything, as a guest does."""
    answer, fd = await hands.open(path, DIRECTORY)
    assert answer == 0, (path, answer)
    names = [name for name in await hands.names(fd) if name not in (".", "..")]
    assert await hands("fd_close", fd) == 0
    found = {at: Shown(None, Access.RO)}
    for name in names:
        inner, where = f"{path}/{name}", f"{at.rstrip('/')}/{name}"
        answer, stat = await hands.stat(inner)
        assert answer == 0
        if stat[2] == 3:
            found |= await walked(hands, inner, where)
        else:
            found[where] = await looked(hands, inner)
    return found


async def looked(hands: Hands, path: str) -> Shown:
    answer, fd = await hands.open(path)
    assert answer == 0
    content = (await hands.read(fd))[1]
    assert await hands("fd_close", fd) == 0
    access = Access.RO
    for flags, meaning in ((APPEND, Access.APPEND), (0, Access.RW)):
        answer, fd = await hands.open(path, 0, WRITE, flags=flags)
        assert answer in (0, ROFS, PERM, BADF)
        if answer == 0:
            access = meaning
            await hands("fd_close", fd)
    return Shown(content, access)


PATHS = [*FOLDERS, *FILES, "/n", "/n/s", "/n/a/b", "/w", "/none/x"]
LINES = st.lists(
    st.tuples(
        st.sampled_from(PATHS), st.sampled_from(PATHS), st.sampled_from(["", "", "ro", "append"])
    ),
    max_size=5,
)


@pytest.mark.slow
@settings(deadline=None)
@given(LINES)
@example([("/", "/", "")])
@example([("/", "/", "ro"), ("/a", "/a", "")])
@example([("/ro", "/w", "")])
@example([("/log", "/w", ""), ("/a/s/k", "/w/l", "ro")])
@example([("/a", "/n", ""), ("/b", "/n", "ro")])
@example([("/x", "/n/a/b", "append"), ("/a", "/n", "")])
def test_a_job_finds_what_its_recipe_binds_and_nothing_else(
    lines: list[tuple[str, str, str]],
) -> None:
    async def main() -> None:
        above = await parent()
        text = "".join(f"bind {source} {target} {word}\n" for source, target, word in lines)
        model = expected(lines)
        if model is None:
            with pytest.raises((RecipeError, NotADirectoryError)):
                made(above, text)
            return
        space = made(above, text)
        found: dict[str, Shown] = {}

        async def body(hands: Hands) -> None:
            found.update(await walked(hands))

        await World(space).run(body)
        assert files(found) == files(model)
        assert set(found) == set(model)

    trio.run(main)


def made(above: Namespace, text: str) -> Namespace:
    return world(above, text + "seal\n", {}, lambda member: member)


def files(tree: Tree) -> Tree:
    return {path: one for path, one in tree.items() if one.content is not None}


# What a recipe of a job may not say --------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "place", "said"),
    [
        ("mount workspace:/ /x", "1:1", "use bind"),
        ("bind /a /a\n\n  mount mem /x\n", "3:3", "use bind"),
        ("bind workspace:/etc /x", "1:6", ""),
        ("bind etc/passwd /x", "1:6", ""),
        ("bind /a x", "1:9", ""),
        ("bind /a", "1:8", "TARGET is missing"),
        ("bind /a /x colour=red\nfly /x", "2:1", ""),
        ("seal now", "1:6", ""),
        ("bind '/a /x", "1:6", ""),
        ("bind /a /x rw ro", "1:15", ""),
        ("bind /a /a\n" * 1_001, "1001:1", "at most 1000 lines"),
    ],
)
def test_a_recipe_that_asks_for_more_is_refused_where_it_does(
    recipe: str, place: str, said: str
) -> None:
    with pytest.raises(OSError, match=f"namespace:{place}: .*{said}"):
        parse_spec(json.dumps({"namespace": recipe}))


@pytest.mark.parametrize(
    ("recipe", "place"),
    [
        ("bind /etc/passwd /x", "1:6"),
        ("bind /../../etc /x", "1:6"),
        ("bind /proc/self/root /x", "1:6"),
        ("bind /a /a\nunmount /none", "2:9"),
        ("bind /a /a\nseal\nbind /b /b", "3:1"),
        ("bind /a/s/k /k\nbind /b /k/inner", "2:9"),
        ("bind /a /a\nbind /b /a speed=1", "2:"),
        ("bind /a /a\nunmount /", "2:9"),
    ],
)
async def test_a_recipe_that_names_what_is_not_there_is_refused_where_it_does(
    recipe: str, place: str
) -> None:
    above = await parent()
    with pytest.raises(RecipeError, match=f"namespace:{place}"):
        world(above, recipe, {}, lambda member: member)


async def test_nothing_that_was_covered_is_uncovered() -> None:
    above = (await parent()).fork()
    above.bind("/x", "/a/s/k")
    above.unmount("/b/s")
    space = world(above, "bind /a /a\nbind /b /b\nunmount /a/s/k\n", {}, lambda member: member)
    inside = Client(space)
    assert not inside.exists("/a/s/k")
    assert not inside.exists("/b/s")
    for path in ("/a/s/k", "/b/s", "/a"):
        with suppress(OSError):
            space.unmount(path)
        assert not inside.exists("/a/s/k") or await inside.read("/a/s/k") == b"x"
        assert not inside.exists("/b/s")


@pytest.mark.parametrize(
    ("recipe", "shown"),
    [
        ("bind /a /a", ["a"]),
        ("# nothing\n\n   \n", []),
        ("bind /a /b\nbind /b /a\n", ["a", "b"]),
        ("bind /a /a\nbind /a /a\n", ["a"]),
        ("bind /a /../../x\n", ["x"]),
        ("bind /a '/with space'\n", ["with space"]),
    ],
)
async def test_a_recipe_may_be_written_so(recipe: str, shown: list[str]) -> None:
    assert parse_spec(json.dumps({"namespace": recipe})).namespace == recipe
    space = world(await parent(), recipe, {}, lambda member: member)
    assert sorted(Client(space).listdir("/")) == shown


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("bind /a /\0x\n", "NUL"),
        ("bind /a '/x\n", "namespace:1:"),
        ("bind /a /a\r\n", "namespace:1:11: "),
        ("\ufeffbind /a /a\n", "namespace:1:1: "),
    ],
)
async def test_a_recipe_may_not_be_written_so(recipe: str, said: str) -> None:
    with pytest.raises(OSError, match=said):
        parse_spec(json.dumps({"namespace": recipe}))
