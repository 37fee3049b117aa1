"""Kinds as jobs: what an order of one comes to, and what it gets."""

import errno
import json
import re
import stat as modes
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oanix.client import Client
from oanix.lib.agents import KindStore, parse_manifest
from oanix.lib.agents.source import hashes_of
from oanix.namespace import Namespace, Where
from oanix.recipe import RecipeError, parse
from oanix.scheduler.kinds import asked_world, parent_of
from oanix.scheduler.spec import parse_spec
from oanix.services.agents import AgentsFs
from oanix.services.memfs import MemFs
from oanix.services.workspace import WorkspaceFs
from tests.reach import ROOT, refused
from tests.scheduler.atif import valid
from tests.scheduler.jobs_help import Jobs, jobs, saying

MANIFEST: dict[str, Any] = {
    "name": "tool", "version": "1", "description": "A tool.", "module": "module.wasm",
    "needs": [{"path": "/workspace", "why": "its files"}],
}  # fmt: skip


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Jobs]:
    async with jobs(tmp_path) as running:
        store = KindStore(tmp_path / "agents")
        running.namespace.mount(AgentsFs(store=store), "/agents")
        yield running


def keep(folder: Path, module: bytes = b"", **changed: object) -> None:
    """Install a kind that runs a module."""
    said = json.dumps({**MANIFEST, **changed}).encode()
    files = {"module.wasm": module or saying("it ran\n")}
    manifest = parse_manifest(said, pinned=False).pinned(hashes_of(files))
    KindStore(folder / "agents").install(manifest, files, {}, replace=True)


async def test_a_kind_runs_with_what_its_manifest_asks_for(here: Jobs, tmp_path: Path) -> None:
    keep(tmp_path, limits={"cpu": "2s"}, arguments=[
        {"name": "count", "type": "integer", "description": "how many", "default": 3},
        {"name": "word", "description": "what", "positional": True},
    ])  # fmt: skip
    number = await here.start(kind="tool", args=["hello"], limits={"wall": 50})
    assert await here.wait(number) == "completed 0"
    assert await here.text(number, "stdout") == "it ran\n"
    spec = json.loads(await here.text(number, "spec"))
    assert (spec["kind"], spec["module"]) == ("tool", "/agents/tool/module.wasm")
    assert spec["input"] == {"count": 3, "word": "hello"}
    assert spec["limits"] == {"cpu": "2s", "wall": 50}
    assert await here.text(number, "ns") == (
        "bind /workspace /workspace exclude=.env*:*.pem:*.key:.git/config\nseal\n"
    )
    started = (await here.client.read_text(f"/logs/runs/{number}/events.jsonl")).splitlines()[0]
    assert json.loads(started)["kind"] == "tool"
    assert json.loads(started)["hidden"] == [".env*", "*.pem", "*.key", ".git/config"]


@pytest.mark.parametrize(
    ("spec", "number", "said"),
    [
        ({"kind": "nothing"}, errno.ENOENT, "there is no kind 'nothing' in /agents; there are:"),
        ({"kind": "fix_bug"}, errno.ENOENT, "fix_bug needs /chat (a model does the thinking)"),
        ({"kind": "tool", "args": ["--colour"]}, errno.EINVAL, "no argument '--colour'"),
        ({"kind": "tool", "input": {"count": "x"}}, errno.EINVAL, "input: count: this is a whole"),
        ({"kind": "tool", "interpreter": "quickjs"}, errno.EINVAL, "leave out the interpreter"),
        ({"kind": "tool", "module": "/workspace/hello.wasm"}, errno.EINVAL, "either"),
        ({"kind": "tool", "limits": {"wall": "1y"}}, errno.EINVAL, "limits"),
        ({"kind": "tool", "namespace": "bind /dev /dev"}, errno.ENOENT,
         "tool needs /workspace (its files), which the namespace of this order does not show"),
        ({"kind": "tool", "namespace": "bind /cap/none /x\nbind /workspace /workspace"},
         errno.ENOENT, "namespace:1:6"),
        ({"kind": "tool", "grant": ["/cap/none"]}, errno.ENOENT, "/cap/none"),
    ],
)  # fmt: skip
async def test_what_cannot_be_started_says_why(
    here: Jobs, tmp_path: Path, spec: dict[str, object], number: int, said: str
) -> None:
    keep(tmp_path, arguments=[{"name": "count", "type": "integer", "description": "how many"}])
    with refused(number, re.escape(said)):
        await here.start(**spec)


async def test_a_start_that_is_refused_leaves_the_order_as_it_was(
    here: Jobs, tmp_path: Path
) -> None:
    number = await here.new(kind="fix_bug", args=["it crashes"])
    before = await here.text(number, "spec")
    with refused(errno.ENOENT, "/chat"):
        await here.tell(number, "start")
    assert await here.text(number, "spec") == before
    await here.client.write(f"/jobs/{number}/spec", '{"kind": "tool"}\n', create=False)
    keep(tmp_path)
    await here.tell(number, "start")
    assert await here.wait(number) == "completed 0"


async def test_a_namespace_without_agents_has_no_kinds(tmp_path: Path) -> None:
    async with jobs(tmp_path) as here:
        with refused(errno.ENOENT, "it has no /agents"):
            await here.start(kind="scaffold", args=["api"])


async def test_a_module_that_is_not_what_was_installed_does_not_run(
    here: Jobs, tmp_path: Path
) -> None:
    keep(tmp_path)
    (tmp_path / "agents/tool/module.wasm").write_bytes(saying("evil\n"))
    number = await here.start(kind="tool")
    assert "its hash differs" in await here.wait(number)
    assert await here.text(number, "stdout") == ""


async def test_what_is_optional_and_missing_is_left_out_and_told(
    here: Jobs, tmp_path: Path
) -> None:
    keep(tmp_path, needs=[
        {"path": "/workspace", "why": "its files"},
        {"path": "/cap/http", "why": "the news", "optional": True},
    ], recipe=["bind /workspace /workspace ro", "bind /cap/http /cap/http",
               "unmount /cap/http/policy", "seal"])  # fmt: skip
    number = await here.start(kind="tool")
    assert await here.wait(number) == "completed 0"
    assert await here.text(number, "ns") == (
        "bind /workspace /workspace ro exclude=.env*:*.pem:*.key:.git/config\nseal\n"
    )
    started = (await here.client.read_text(f"/logs/runs/{number}/events.jsonl")).splitlines()[0]
    assert json.loads(started)["left_out"] == ["/cap/http (the news)"]
    found = valid(await here.client.read(f"/logs/runs/{number}/trajectory.json"))
    assert found["agent"]["name"] == "tool"
    assert "\nagent: tool\n" in found["steps"][0]["message"]
    assert "\nleft out: /cap/http (the news)\n" in found["steps"][0]["message"]
    keep(tmp_path, needs=[{"path": "/workspace", "why": "its files"}],
         recipe=["bind /workspace/src /workspace"])  # fmt: skip
    with refused(errno.ENOENT, r"tool needs /workspace/src \(its files\), which this namespace"):
        await here.start(kind="tool")


async def test_the_manifest_only_asks_and_the_order_decides(here: Jobs, tmp_path: Path) -> None:
    keep(tmp_path, limits={"wall": "1h", "memory": "1G"})
    number = await here.start(
        kind="tool", namespace="bind /workspace /workspace ro exclude=secret", limits={"wall": 50}
    )
    assert await here.wait(number) == "completed 0"
    assert await here.text(number, "ns") == "bind /workspace /workspace ro exclude=secret\n"
    assert "wall" in await here.text(number, "usage")
    assert json.loads(await here.text(number, "spec"))["limits"] == {"wall": 50, "memory": "1G"}


PLACES = ("/", "/src", "/src/deep", "/.env", "/.env.d", "/.git", "/.git/config", "/a.pem", "/link",
          "/linked", "/link/.env", "/src/link")  # fmt: skip
HERE = st.sampled_from(["/projects/one", "/projects/deep/two", "/files"])
SOURCES = st.one_of(
    st.sampled_from(["/projects", "/projects/deep"]),
    st.builds(lambda top, rest: (top + rest).rstrip("/"), HERE, st.sampled_from(PLACES)),
)
TARGETS = st.sampled_from(["/p", "/q", "/p/in", "/p/one", "/q/src"])
LINES = st.one_of(
    st.builds(
        lambda flag, source, target, rest: f"bind {flag}{source} {target}{rest}",
        st.sampled_from(["", "", "-a ", "-b -c "]),
        SOURCES,
        TARGETS,
        st.sampled_from(["", " ro", " append"]),
    ),
    st.builds("unmount {}".format, TARGETS),
)


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    top = tmp_path_factory.mktemp("projects")
    for name in ("one", "two"):
        for folder in ("src/deep", ".env.d", ".git"):
            (top / name / folder).mkdir(parents=True)
        for file in (".env", "src/.env", "src/deep/a.pem", ".env.d/x", ".git/config", "a.pem"):
            (top / name / file).write_text("hunter2")
        for file in ("plain", "src/plain", ".git/HEAD"):
            (top / name / file).write_text("plain")
        (top / name / "link").symlink_to(".env")
        (top / name / "linked").symlink_to(".env.d")
        (top / name / "src/link").symlink_to("../.git/config")
    home = Namespace()
    home.mount(MemFs(), "/projects")
    home.mount(WorkspaceFs(str(top / "one")), "/projects/one")
    home.mount(WorkspaceFs(str(top / "two")), "/projects/deep/two")
    home.bind("/projects/one", "/files", options={"exclude": "*.txt"})
    home.bind("/projects/deep", "/files", Where.AFTER)
    return home


@given(st.lists(LINES, min_size=1, max_size=5))
@example(["bind /projects/one/.env /p"])
@example(["bind /projects/one/link /p", "bind /projects/one/.env.d /q"])
@example(["bind /projects /p", "bind -a /projects/one /p"])
def test_no_manifest_uncovers_what_is_hidden_by_default(
    projects: Namespace, lines: list[str]
) -> None:
    needs = [{"path": path, "why": "x"} for path in ("/projects", "/files")]
    said = {**MANIFEST, "sha256": {"module.wasm": "0" * 64}, "recipe": lines, "needs": needs}
    try:
        text = asked_world(parse_manifest(json.dumps(said).encode()), projects, ROOT)
        spec = parse_spec(json.dumps({"kind": "tool", "namespace": text}))
        world = parent_of(spec, projects).derive(parse(text))
    except (FileNotFoundError, NotADirectoryError, RecipeError):
        return
    client = Client(world, ROOT)
    seen = [entry for top in client.listdir("/") for entry in client.tree(f"/{top}")]
    for entry in seen:
        name = entry.path.rsplit("/", 1)[1]
        assert not name.startswith(".env"), (text, entry.path)
        assert not name.endswith(".pem"), (text, entry.path)
        if entry.stat is not None and modes.S_ISREG(entry.stat.st_mode):
            assert entry.stat.st_size == len("plain"), (text, entry.path)


async def test_what_is_hidden_is_no_source_of_a_bind(here: Jobs, tmp_path: Path) -> None:
    (tmp_path / "workspace/.env").write_text("hunter2")
    (tmp_path / "workspace/link").symlink_to(".env")
    for source in (".env", "link"):
        keep(tmp_path, recipe=[f"bind /workspace/{source} /x"])
        with refused(errno.ENOENT, f"tool needs /workspace/{source}"):
            await here.start(kind="tool")
    # Also one that comes to be hidden after the start.
    keep(tmp_path, recipe=["bind /workspace/later /x"])
    (tmp_path / "workspace/later").write_text("plain")
    number = await here.new(kind="tool", after=[await here.start("spin")])
    await here.tell(number, "start")
    (tmp_path / "workspace/later").unlink()
    (tmp_path / "workspace/later").symlink_to(".env")
    spec = json.loads(await here.text(number, "spec"))
    with refused(errno.ENOENT):
        parent_of(parse_spec(json.dumps(spec)), here.namespace).resolve(ROOT, "/workspace/later")
    # The later one first: it ends by itself once the earlier one has.
    for one in reversed(await _running(here)):
        await here.tell(one, "kill")


async def _running(here: Jobs) -> list[int]:
    return [n for n in sorted(map(int, filter(str.isdigit, here.client.listdir("/jobs"))))
            if await here.fact(n, "state") in ("pending", "running")]  # fmt: skip


CHILD = """
import * as std from "qjs:std"; import * as os from "qjs:os";
const read = (path) => std.loadFile(path);
function put(path, text) {
  const file = os.open(path, os.O_WRONLY);
  if (file < 0) throw new Error(`${path}: ${std.strerror(-file)}`);
  const bytes = Uint8Array.from([...text].map((one) => one.charCodeAt(0)));
  const done = os.write(file, bytes.buffer, 0, bytes.length);
  os.close(file);
  if (done < 0) throw new Error(`${path}: ${std.strerror(-done)}`);
}
const file = os.open("/jobs/new", os.O_RDONLY);
const bytes = new Uint8Array(20);
const count = os.read(file, bytes.buffer, 0, 20);
const number = String.fromCharCode(...bytes.subarray(0, count)).trim();
put(`/jobs/${number}/spec`, JSON.stringify(JSON.parse(scriptArgs[1])) + "\\n");
put(`/jobs/${number}/ctl`, "start\\n");
print(read(`/jobs/${number}/wait`).trim(), read(`/jobs/${number}/ns`));
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_job_orders_kinds_in_its_own_world_and_no_other(here: Jobs, tmp_path: Path) -> None:
    (tmp_path / "workspace/sub").mkdir()
    world = "bind /workspace/sub /workspace\nbind /jobs /jobs\nbind /agents /agents\nseal\n"
    (tmp_path / "workspace/order.js").write_text(CHILD)

    async def order(recipe: str, **spec: Any) -> str:
        number = await here.start("", module="/workspace/order.js", namespace=recipe,
                                  args=[json.dumps(spec)])  # fmt: skip
        await here.wait(number)
        return await here.text(number, "stdout") + await here.text(number, "stderr")

    said = await order(world, kind="scaffold", args=["landing", "site"])
    assert said.startswith("completed 0 bind /workspace /workspace exclude="), said
    assert (tmp_path / "workspace/sub/site/index.html").exists()
    assert not (tmp_path / "workspace/site").exists()
    readonly = world.replace("sub /workspace", "sub /workspace ro")
    said = await order(readonly, kind="scaffold", args=["landing", "other"])
    assert said.startswith("failed 1 exit"), said
    assert not (tmp_path / "workspace/sub/other").exists()
    without = world.replace("bind /agents /agents\n", "")
    assert "No such file" in await order(without, kind="scaffold", args=["landing", "third"])
    wide = await order(world, kind="scaffold", args=["api"], namespace="bind /cap /cap")
    assert "No such file" in wide
