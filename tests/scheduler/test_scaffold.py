"""scaffold: the projects that it makes, and what it leaves alone."""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from oanix.services.agents import AgentsFs
from tests.scheduler.jobs_help import Jobs, jobs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Jobs]:
    async with jobs(tmp_path) as running:
        running.namespace.mount(AgentsFs(), "/agents")
        yield running


async def ran(here: Jobs, **spec: Any) -> tuple[str, str, str, Any]:
    """Run a kind; give its exit line, what it said, and what it left."""
    number = await here.start(**spec)
    line = await here.wait(number)
    result = await here.text(number, "task/result.json")
    return (line, await here.text(number, "stdout"), await here.text(number, "stderr"),
            json.loads(result) if result else None)  # fmt: skip


async def test_scaffold_makes_projects_and_writes_over_nothing(here: Jobs, tmp_path: Path) -> None:
    top = tmp_path / "workspace"
    line, _, _, left = await ran(here, kind="scaffold", args=["--list"])
    assert line == "completed 0"
    assert {one["name"] for one in left["templates"]} == {"landing", "dashboard", "api"}
    title = 'Tea & "two" <3'
    line, _, told, left = await ran(
        here, kind="scaffold", args=["landing", "web/site", "--title", title, "--dry-run"]
    )
    assert (line, (top / "web").exists(), left["dry_run"]) == ("completed 0", False, True)
    line, _, told, left = await ran(
        here, kind="scaffold", input={"template": "landing", "name": "web/site", "title": title}
    )
    assert line == "completed 0", told
    made = {one["path"]: one["bytes"] for one in left["files"]}
    assert made == {
        str(path.relative_to(top)): path.stat().st_size for path in (top / "web/site").iterdir()
    }
    page = (top / "web/site/index.html").read_text()
    assert "<h1>Tea &#38; &#34;two&#34; &#60;3</h1>" in page
    (top / "web/site/index.html").write_text("mine")
    line, _, told, _ = await ran(here, kind="scaffold", args=["landing", "web/site"])
    assert line == "failed 1 exit"
    assert "are there already, and nothing was written: web/site/index.html" in told
    assert (top / "web/site/index.html").read_text() == "mine"
    line, _, _, _ = await ran(here, kind="scaffold", args=["landing", "web/site", "--force"])
    assert (line, "<h1>" in (top / "web/site/index.html").read_text()) == ("completed 0", True)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["landing", "../x"], "is no folder of the workspace"),
        (["landing", "/etc"], "is no folder of the workspace"),
        (["landing", "a\nb"], "no control characters"),
        (["landing", "hello.wasm"], "there is a file of this name"),
        ([], "say which template: landing, dashboard, api"),
        (["landing", "link"], "cannot be made"),
    ],
)
async def test_scaffold_stays_in_the_workspace(
    here: Jobs, tmp_path: Path, args: list[str], said: str
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "workspace/link").symlink_to("../outside")
    line, _, told, _ = await ran(here, kind="scaffold", args=args)
    assert line == "failed 1 exit"
    assert said in told
    assert os.listdir(tmp_path / "outside") == []


async def test_the_api_that_scaffold_makes_passes_its_tests_and_starts(
    here: Jobs, tmp_path: Path
) -> None:
    line, _, told, _ = await ran(
        here, kind="scaffold", args=["api", ".", "--title", 'A "quoted" \\ thing']
    )
    assert line == "completed 0", told
    top = tmp_path / "workspace"
    tests = await trio.to_thread.run_sync(_tested, top)
    assert tests.returncode == 0, tests.stderr
    assert "Ran 7 tests" in tests.stderr
    assert await trio.to_thread.run_sync(_asked, top) == ({"status": "ok"}, 0)


def _tested(top: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "unittest"], cwd=top, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def _asked(top: Path) -> tuple[object, int]:
    """Start the API, ask it how it is, and end it; give its answer and its exit code."""
    with subprocess.Popen(
        [sys.executable, "-u", "app.py", "--port", "0"], cwd=top, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout
            url = server.stdout.readline().split()[-1]
            assert url.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
                said = json.load(answer)
        finally:
            server.terminate()
        return said, server.wait(10)


async def test_titles_of_every_sort_stay_text(here: Jobs, tmp_path: Path) -> None:
    odd = "</h1><script>alert(1)</script> \" ' \\ \u202e \U0001f375 \n\t {{html:slug}} %(prog)s"
    line, _, told, _ = await ran(
        here, kind="scaffold", input={"template": "landing", "name": "ä ö", "title": odd}
    )
    assert line == "completed 0", told
    page = (tmp_path / "workspace/ä ö/index.html").read_text()
    assert "<script" not in page
    assert "{{html:slug}}" in page
    assert "\U0001f375" in page
    line, _, told, _ = await ran(
        here, kind="scaffold", input={"template": "api", "name": "b", "title": odd + '"""'}
    )
    assert line == "completed 0", told
    source = (tmp_path / "workspace/b/app.py").read_text()
    compile(source, "app.py", "exec")
