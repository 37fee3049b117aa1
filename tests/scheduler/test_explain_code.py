"""explain_code: what it says of a small project in several languages, of which all is known."""

import ast
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grimp
import pytest

from oanix.services.agents import AgentsFs
from oanix.services.workspace import WorkspaceFs
from tests.scheduler.jobs_help import Jobs, jobs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
LONG = "".join(f"    total += {number}  # TODO: say why\n" for number in range(30))
FILES = {
    "README.md": "# Tea\n\n[![build](x.svg)](y)\n\nMakes *tea* for [two](z) people, again."
                 "\n\nMore.\n",
    "LICENSE": "MIT License\n\nPermission is hereby granted, free of charge, to any person\n",
    "pyproject.toml": '[project]\nname = "tea"\nversion = "1.2"\ndependencies = [\n'
                      '  "trio>=0.30", # x'
                      '\n  "attrs",\n]\n[project.scripts]\ntea = "tea.cli:main"\n',
    "src/tea/__init__.py": "",
    "src/tea/cli.py": 'import os, json\nfrom .pot import brew\nfrom tea import leaf\nimport trio\n'
                      'if __name__ == "__main__":\n    brew()\n',
    "src/tea/pot.py": f'"""Imports nothing:\nimport nothing\n"""\ndef brew(\n    total=0,\n'
                      f"):\n{LONG}"
                      "    return total\n\n\nx = 1\n",
    "src/tea/leaf.py": "# import pot\ndef pick():\n    from tea import pot\n    return pot\n",
    "tests/test_pot.py": "from tea.pot import brew\ndef test_it():\n    pass\n"
                         "async def test_more():\n    pass\n",
    "web/package.json": '{"name": "web", "main": "app.js", "dependencies": {"ws": "^8"}, '
                        '"scripts": {"build": "tsc"}}',
    "web/app.js": "import { a } from './lib/a';\nconst b = require('./lib/b.js'); "
                  "// require('./c')\nimport fs from 'node:fs'; import ws from 'ws';\n"
                  "import('@scope/pkg/deep');\n",
    "web/lib/a.ts": "export * from './b.js';\nimport type { X } from '../types';\n",
    "web/lib/b.js": "/* import './a' */ const s = \"import './a'\";\nmodule.exports = {};\n",
    "web/types.d.ts": "export type X = number;\n",
    "web/index.html": "<script src=\"app.js\"></script><script src=\"https://x.y/z.js\"></script>",
    "go/go.mod": "module example.com/tea\n\ngo 1.22\n\nrequire github.com/pkg/errors v0.9.1\n",
    "go/main.go": 'package main\nimport (\n\t"fmt"\n\t"example.com/tea/pot"\n'
                  '\t"github.com/pkg/errors"\n)\nfunc main() {\n\tfmt.Println(pot.New)\n}\n',
    "go/pot/pot.go": "package pot\n\nfunc New() int { return 1 }\n",
    "rust/Cargo.toml": '[package]\nname = "tea-rs"\nversion = "0.1.0"\n[dependencies]\nserde = '
                       '{ version = "1", features = ["derive"] }\n',
    "rust/src/main.rs": "mod pot;\nuse crate::{pot::{self, brew}};\nuse serde::Serialize;\n"
                        "use std::io;\nfn main() { let _ = r\"{\"; brew() }\n",
    "rust/src/pot.rs": "pub fn brew<'a>() {}\n#[cfg(test)]\nmod t { #[test]\nfn it() {} }\n",
    "c/main.c": '#include <stdio.h>\n#include "pot.h"\n/* #include "none.h" */\nint main(void) {\n'
                '  return 0;\n}\n',
    "c/include/pot.h": "int brew(void);\n",
    "node_modules/x/index.js": "module.exports = 1;\n",
    ".gitignore": "*.log\n/out/\n!keep.log\n",
    "noise.log": "x\n", "keep.log": "x\n", "out/made.py": "import sys\n", "web/out/kept.py": "\n",
    "package-lock.json": "{\n}\n" * 500,
    ".env": "SECRET=hunter2\n", "certs/a.pem": "hunter2\n",
}  # fmt: skip


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Jobs]:
    top = tmp_path / "workspace"
    for name, text in FILES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    (top / "picture.png").write_bytes(b"\x89PNG\0\0")
    (top / "loop").symlink_to(".")
    (top / "again.py").symlink_to("src/tea/leaf.py")
    async with jobs(tmp_path) as running:
        for module in top.glob("*.wasm"):
            module.unlink()
        running.namespace.mount(AgentsFs(), "/agents")
        yield running


async def explained(here: Jobs, *args: str, **more: Any) -> tuple[str, Any]:
    number = await here.start(kind="explain_code", args=list(args), **more)
    assert await here.wait(number) == "completed 0", await here.text(number, "stderr")
    return await here.text(number, "stdout"), json.loads(
        await here.text(number, "task/result.json")
    )


async def test_what_it_says_of_a_project_is_so(here: Jobs) -> None:
    said, left = await explained(here)
    assert said.startswith("# Tea\n\nMakes *tea* for two people, again.\n")
    assert "hunter2" not in said + json.dumps(left)
    assert left["licences"] == [{"path": "LICENSE", "licence": "MIT"}]
    languages = {one["name"]: (one["files"], one["lines"]) for one in left["languages"]}
    assert languages["Python"] == (6, 56)
    assert languages["JavaScript"] == (2, 6)
    assert languages["TypeScript"] == (2, 3)
    assert (languages["Go"], languages["Rust"], languages["C"]) == ((2, 12), (2, 9), (2, 7))
    files = left["files"]
    assert (files["binary"], files["generated"], files["unread"]) == (1, 1, 0)
    assert left["left_out"] == {
        "ignored": 2, "links": 2, "unreadable": 0, "deep": 0, "others": {"node_modules": 1}
    }  # fmt: skip


async def test_imports_are_followed_in_each_language(here: Jobs) -> None:
    _, left = await explained(here)
    edges = {tuple(edge) for edge in left["dependencies"]["files"]}
    assert edges == {
        ("src/tea/cli.py", "src/tea/pot.py"), ("src/tea/cli.py", "src/tea/leaf.py"),
        ("src/tea/leaf.py", "src/tea/pot.py"), ("tests/test_pot.py", "src/tea/pot.py"),
        ("web/app.js", "web/lib/a.ts"), ("web/app.js", "web/lib/b.js"),
        ("web/lib/a.ts", "web/lib/b.js"), ("web/lib/a.ts", "web/types.d.ts"),
        ("web/index.html", "web/app.js"), ("go/", "go/pot/"),
        ("rust/src/main.rs", "rust/src/pot.rs"), ("c/main.c", "c/include/pot.h"),
    }  # fmt: skip
    outside = {(one["name"], one["standard"]) for one in left["dependencies"]["outside"]}
    assert outside == {
        ("os", True), ("json", True), ("trio", False), ("fs", True), ("ws", False),
        ("@scope/pkg", False), ("fmt", True), ("github.com/pkg/errors", False), ("serde", False),
        ("std", True), ("stdio.h", True),
    }  # fmt: skip
    assert left["dependencies"]["circles"] == []


async def test_entries_manifests_tests_and_sizes_are_found(here: Jobs) -> None:
    said, left = await explained(here)
    entries = {(one["path"], one["what"]) for one in left["entries"]}
    assert entries >= {
        ("src/tea/cli.py", "the command tea"), ("src/tea/cli.py", "runs as a script"),
        ("go/main.go", "a program (package main)"), ("rust/src/main.rs", "a program (Rust)"),
        ("c/main.c", "a program (main)"), ("web/app.js", "main of package.json"),
        ("web/index.html", "a page"), ("", "npm run build"),
    }  # fmt: skip
    needs = {
        one["path"]: [(d["name"], d["wanted"]) for d in one["dependencies"]]
        for one in left["manifests"]
    }
    assert needs["pyproject.toml"] == [("trio", ">=0.30"), ("attrs", "")]
    assert needs["go/go.mod"] == [("github.com/pkg/errors", "v0.9.1")]
    assert needs["rust/Cargo.toml"] == [("serde", "1")]
    assert needs["web/package.json"] == [("ws", "^8")]
    assert (left["tests"]["files"], left["tests"]["tests"]) == (1, 3)
    [longest] = left["largest_functions"]
    assert longest == {"path": "src/tea/pot.py", "name": "brew", "line": 4, "lines": 34}
    assert left["todos"]["TODO"] == 30
    assert "```mermaid\nflowchart LR\n" in said
    assert "src/tea/cli.py -> src/tea/leaf.py, src/tea/pot.py" in said


async def test_a_ruby_program_requires_what_lies_beside_it(here: Jobs, tmp_path: Path) -> None:
    ruby = tmp_path / "workspace/ruby"
    for name, text in {
        "bin/brew": "#!/usr/bin/env ruby\nrequire_relative '../lib/pot'\nrequire './bin/cup'\n",
        "bin/cup.rb": "require_relative './spoon'\n", "bin/spoon.rb": "require 'leaf'\n",
        "lib/pot.rb": "require \"#{here}/none\"\n",
    }.items():  # fmt: skip
        (ruby / name).parent.mkdir(parents=True, exist_ok=True)
        (ruby / name).write_text(text)
    _, left = await explained(here, "--path", "ruby")
    assert {tuple(edge) for edge in left["dependencies"]["files"]} == {
        ("ruby/bin/brew", "ruby/lib/pot.rb"), ("ruby/bin/cup.rb", "ruby/bin/spoon.rb"),
    }  # fmt: skip
    assert [one["name"] for one in left["dependencies"]["outside"]] == ["leaf"]


async def test_a_part_of_the_workspace_is_explained_alone(here: Jobs, tmp_path: Path) -> None:
    _, left = await explained(here, "--path", "web", "--depth", "1")
    assert left["path"] == "web"
    assert {one["path"] for one in left["manifests"]} == {"web/package.json"}
    (tmp_path / "workspace/web/keep.log").write_text("x\n")
    (tmp_path / "workspace/web/noise.log").write_text("x\n")
    _, again = await explained(here, "--path", "/workspace/web")
    assert again["left_out"]["ignored"] == left["left_out"]["ignored"] + 1


@pytest.mark.parametrize(
    ("path", "said"),
    [("none", '"none" is not there'), ("../x", "is not in the workspace"),
     ("README.md", "is no folder"), ("/etc", "is not in the workspace"),
     ("certs", "there are no files in certs")],
)  # fmt: skip
async def test_what_cannot_be_looked_at_says_why(here: Jobs, path: str, said: str) -> None:
    number = await here.start(kind="explain_code", args=["--path", path])
    assert await here.wait(number) == "failed 1 exit"
    assert said in await here.text(number, "stderr")


async def test_a_huge_tree_ends_and_says_so(here: Jobs, tmp_path: Path) -> None:
    top = tmp_path / "workspace/huge"
    top.mkdir()
    for folder in range(21):
        (top / str(folder)).mkdir()
        for number in range(1_000):
            (top / f"{folder}/{number}.txt").touch()
    (top / "0" / "/".join("d" * 80)).mkdir(parents=True)
    # In the server, as the thousands of questions of a worker take long on a busy machine.
    said, left = await explained(here, "--path", "huge", worker=False)
    assert left["files"]["all"] == 20_000
    assert (left["stopped"], left["left_out"]["deep"]) == ("at 20000 files", 1)
    assert "the look ended at 20000 files" in said


async def test_the_imports_and_functions_of_this_project_are_those_that_others_find(
    here: Jobs, tmp_path: Path
) -> None:
    here.namespace.mount(WorkspaceFs(str(ROOT)), "/project")
    number = await here.start(
        kind="explain_code", namespace="bind /project /workspace ro", worker=False
    )
    assert await here.wait(number) == "completed 0"
    left = json.loads(await here.text(number, "task/result.json"))
    packages = ("oanix", "mounts", "coder_api")
    found = {
        (one, other) for one, other in left["dependencies"]["files"]
        if one.endswith(".py") and one.split("/")[0] in packages
    }  # fmt: skip
    graph = grimp.build_graph(*packages, cache_dir=None)
    wanted = {
        (_path(module), _path(imported)) for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }  # fmt: skip
    assert len(wanted) > 1_000
    # A new way to write an import may be one that it does not know.
    assert len(found ^ wanted) <= len(wanted) // 500, found ^ wanted
    shown = left["largest_functions"]
    python = {(one["path"], one["name"], one["line"], one["lines"]) for one in shown
              if one["path"].endswith(".py")}  # fmt: skip
    least = min(one["lines"] for one in shown)
    assert python == {one for one in _functions() if one[3] > least} | (
        python & {one for one in _functions() if one[3] == least}
    )


def _functions() -> Iterator[tuple[str, str, int, int]]:
    """Give the path, name, line and length of the functions of this project, as Python has them."""
    for top in ("oanix", "mounts", "coder_api", "tests", "benchmarks", "examples"):
        for path in (ROOT / top).rglob("*.py"):
            if "node_modules" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    end = node.end_lineno or node.lineno
                    yield (str(path.relative_to(ROOT)), node.name, node.lineno,
                           end - node.lineno + 1)  # fmt: skip


def _path(module: str) -> str:
    path = module.replace(".", "/")
    return f"{path}.py" if (ROOT / f"{path}.py").exists() else f"{path}/__init__.py"


SLOW = {
    "a.c": "a (", "b.c": "int f(\n", "c.c": "/*", "d.c": "TODO ", "e.c": "int a(b) {\n",
    "a.js": "import {\n", "b.js": "x => {\n", "c.js": '"\\\n', "d.js": " / / \n", "e.js": "{",
    "a.py": "from x import (\n", "b.py": '"""\n', "a.rs": "use {{{{\n", "b.rs": 'r#"',
    "a.cpp": "a::a() : x(y), ", "a.go": "func (a", "a.html": "<script ", "b.html": "<!--",
    "README.md": "[![(<", "Cargo.toml": "a = [\n", "pom.xml": "<dependency>",
    "pyproject.toml": "[", "go.mod": "require a.b v1 ", "CMakeLists.txt": "set(",
}  # fmt: skip
"""What makes a careless pattern go back and forth."""


async def test_what_was_made_to_be_slow_is_not(here: Jobs, tmp_path: Path) -> None:
    top = tmp_path / "workspace/slow"
    top.mkdir()
    for name, piece in SLOW.items():
        (top / name).write_text(piece * (300_000 // len(piece)))
    (top / ".gitignore").write_text("*a*b*c*d*e*f*g*h*i*j\n" + "**/" * 500 + "*" * 300 + "x\n")
    _, left = await explained(here, "--path", "slow", worker=False)
    assert left["files"]["all"] == len(SLOW) + 1
    assert left["files"]["unread"] == 0


async def test_names_do_nothing_to_a_terminal_or_to_the_page(here: Jobs, tmp_path: Path) -> None:
    top = tmp_path / "workspace/odd"
    top.mkdir()
    names = [b"a\nb.py", b"\x1b[2J.py", b"``` |x|.py", b"\xff\xfe.py", b"\xe2\x80\xaegnp.py",
             b"<b>.py", b"-rf", b"ctl ", b"a\"]\n  n0 --> n1.py"]  # fmt: skip
    for name in names:
        (top / os.fsdecode(name)).write_text("import hello\n" * 12)
    (top / "hello.py").write_text("\n")
    said, left = await explained(here, "--path", "odd")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", said)
    assert "n0 --> n1.py" not in {line.strip() for line in said.splitlines()}
    assert left["files"]["all"] >= len(names) - 1
    assert said.count("```") % 2 == 0
