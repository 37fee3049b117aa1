"""The agents in examples/agents do what their pages say, with real servers on loopback."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.commands import TIME_OUT_S, Oanix

# Each runs the command line many times.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

AGENTS = Path(__file__).parents[1] / "examples" / "agents"


@pytest.fixture
def oanix(tmp_path: Path) -> Oanix:
    (tmp_path / "project").mkdir()
    file = tmp_path / "passphrase"
    file.write_text("correct horse\n")
    file.chmod(0o600)
    return Oanix(tmp_path / "state", tmp_path / "project", {
        "OANIX_PASSPHRASE_FILE": str(file),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    })  # fmt: skip


def copied(oanix: Oanix, name: str) -> Path:
    """Put an agent into the project, as a user has it."""
    for file in (AGENTS / name).iterdir():
        shutil.copy(file, oanix.here)
    return oanix.here


def page(oanix: Oanix, name: str, **instead: str) -> str:
    """Run what the page of an agent shows; give what it prints."""
    text = (AGENTS / name / "README.md").read_text()
    script = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    assert script
    for word, found in instead.items():
        assert word in script
        script = script.replace(word, found)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=oanix.here, text=True,
        env={**oanix.env, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True, timeout=4 * TIME_OUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def result(oanix: Oanix, number: int) -> dict[str, object]:
    """Read what a job has left."""
    found = oanix("cat", f"/jobs/{number}/task/result.json")
    assert found.returncode == 0, found.stderr
    told: dict[str, object] = json.loads(found.stdout)
    return told


def test_each_agent_has_a_page_and_is_on_the_list() -> None:
    listed = re.findall(r"\]\(([a-z-]+)/README\.md\)", (AGENTS / "README.md").read_text())
    assert sorted(listed) == sorted(one.name for one in AGENTS.iterdir() if one.is_dir())


# The link checker ---------------------------------------------------------------------------------


class Site(BaseHTTPRequestHandler):
    """A small site: HEAD is refused on `/odd`, `/moved` leads to `/fine`."""

    pages: ClassVar = {
        "/": '<a href="/fine">f</a> <a href="sub">s</a> <img src="/gone.png"> <a href="#x">x</a>',
        "/fine": "fine", "/odd": "odd", "/sub": '<a href="deep">d</a> <a href="mailto:a@b">m</a>',
        "/deep": '<a href="/lost">l</a>',
    }  # fmt: skip
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/fine")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        refused = self.command == "HEAD" and self.path == "/odd"
        text = self.pages.get(self.path, "no such page").encode()
        self.send_response(501 if refused else 200 if self.path in self.pages else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(text)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        Site.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_the_link_checker_finds_what_leads_nowhere(oanix: Oanix) -> None:
    here = copied(oanix, "link-checker")
    (here / "docs").mkdir()
    (here / "docs" / "other page.md").write_text("# Other\n[up](../docs/index.md)\n")
    with site() as url:
        (here / "docs" / "index.md").write_text(
            f"[fine]({url}/fine#there), [odd]({url}/odd) and\n[moved]({url}/moved).\n\n"
            f"```\n[code]({url}/code)\n```\n<{url}/gone> `[too](none.md)`\n\n"
            '[other](other%20page.md "title") [missing](missing.md) [self](#self)\n'
        )
        shown = page(oanix, "link-checker", **{"https://example.com": url})
    assert shown.splitlines() == [
        f"/workspace/docs/index.md:7: {url}/gone: 404",
        "/workspace/docs/index.md:9: missing.md: no such file",
        "7 links, 2 broken",
        "some are broken",
        f"{url}/:1: /gone.png: 404",
        f"{url}/deep:1: /lost: 404",
        "5 links, 2 broken",
        "some are broken",
    ]
    assert "GET /odd" in Site.asked
    assert "GET /fine" not in Site.asked[: Site.asked.index("GET /")]
    assert len([one for one in Site.asked if one.endswith("/gone.png")]) == 2
    assert result(oanix, 2)["broken"] == [
        {"where": f"{url}/:1", "link": "/gone.png", "problem": "404"},
        {"where": f"{url}/deep:1", "link": "/lost", "problem": "404"},
    ]


def test_the_link_checker_says_what_it_may_not_ask(oanix: Oanix) -> None:
    here = copied(oanix, "link-checker")
    with site() as url:
        (here / "a.md").write_text(f"[one]({url}/fine)\n")
        done = oanix("agent", "run", "--grant", "/cap/http", "check_links.py", "/workspace/a.md")
        assert done.returncode == 1
        assert b"a.md:1: " in done.stdout
        assert b"is a loopback address, and no rule names it" in done.stdout, done.stdout
        done = oanix("agent", "run", "check_links.py", "/workspace/a.md")
        assert (done.returncode, b"--grant /cap/http" in done.stderr) == (1, True), done.stderr
        assert Site.asked == []


# The announcer ------------------------------------------------------------------------------------

CHANGES = """# Changelog

## [Unreleased]

- Not yet.

## [1.2.0] - 2026-03-01

### Added

- The `twice` function, which
  doubles.
- A second thing.

## [1.1.0]

- Old.
"""


@contextmanager
def relay(oanix: Oanix, folder: Path) -> Iterator[str]:
    """A relay on loopback."""
    process = oanix.start("relay", "serve", "--listen", "0", "--json", folder)
    try:
        assert process.stdout is not None
        [url] = json.loads(process.stdout.readline())["urls"]
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIME_OUT_S)


def test_the_announcer_publishes_a_version_once(oanix: Oanix, tmp_path: Path) -> None:
    here = copied(oanix, "announcer")
    (here / "CHANGELOG.md").write_text(CHANGES)
    (here / "README.md").write_text("# Doubler\n")
    with relay(oanix, tmp_path / "relay") as url:
        rule = b"allow * ws://127.0.0.1:*/**\n"
        assert oanix("write", "--append", "/cap/http/policy", stdin=rule).returncode == 0
        shown = page(oanix, "announcer", **{"wss://relay.example.com": url}).splitlines()
        note = "\n".join(shown[shown.index("Doubler 1.2.0 is out.") : -2])
        assert "• The twice function, which doubles.\n• A second thing." in note
        assert re.fullmatch(rf"{url}/?: taken", shown[-2]), shown
        assert re.fullmatch("announced 1.2.0: [0-9a-f]{64}", shown[-1]), shown
        number = shown[-1].split()[-1]
        event = json.loads(oanix("cat", f"/cap/nostr/event/{number}").stdout)
        assert event["content"].endswith("\n\nhttps://example.com/releases")
        assert ["t", "release-1.2.0"] in event["tags"]
        assert result(oanix, 2)["id"] == number

        shown_world = (AGENTS / "announcer/README.md").read_text()
        [world] = re.findall(r"```\n(bind .*?)```", shown_world, re.DOTALL)
        (here / "announcer.ns").write_text(world)
        again = oanix("agent", "run", "--world", "announcer.ns", "announce.js")
        assert again.stdout.decode() == f"1.2.0 was announced before: {number}\n", again.stderr
        (here / "CHANGELOG.md").write_text(CHANGES.replace("[1.2.0]", "[1.3.0]"))
        third = oanix("agent", "run", "--world", "announcer.ns", "announce.js")
        assert b"announced 1.3.0" in third.stdout, third.stderr


def test_the_announcer_says_what_it_lacks(oanix: Oanix) -> None:
    here = copied(oanix, "announcer")
    for words, said in [
        ((), "/workspace/CHANGELOG.md cannot be read"),
        (("--loud",), "there is no option --loud"),
        (("/workspace/announce.js",), "names no version"),
    ]:
        done = oanix("agent", "run", "announce.js", *words)
        assert (done.returncode, said in done.stderr.decode()) == (1, True), done.stderr
    (here / "CHANGELOG.md").write_text(CHANGES)
    done = oanix("agent", "run", "--grant", "/cap/nostr", "announce.js")
    assert (done.returncode, b"oanix nostr key new" in done.stderr) == (1, True), done.stderr


# The log summary ----------------------------------------------------------------------------------


def test_the_log_summary_says_what_happened(oanix: Oanix) -> None:
    here = copied(oanix, "log-summary")
    (here / "app.log").write_text(
        "2026-01-02T03:04:05Z ERROR worker 12: connection to 10.0.0.5:80 failed after 30 s\n"
        "2026-01-02 03:05:05 ERROR worker 7: connection to 10.0.0.9:80 failed after 31 s\n"
        '{"time": "2026-01-02T05:00:00Z", "level": "warn", "msg": "disk \\"sda\\" is full"}\n'
        "started\n\n"
    )
    for line in (b'{"level":"error","message":"lost 1a2b3c4d5e6f"}\n', b"a plain note\n"):
        assert oanix("write", "--append", "/logs/events.jsonl", stdin=line * 3).returncode == 0
    shown = page(oanix, "log-summary").splitlines()
    assert shown[0].startswith("6 lines in ")
    assert "levels: error 3, info 3" in shown
    assert "      3  lost 1a2b3c4d5e6f" in shown
    plain = shown[shown.index("4 lines in 1 files, 2026-01-02T03:04:05 to 2026-01-02T05:00:00") :]
    assert plain[1:3] == [
        "levels: error 2, warning 1, info 1", "busiest hour: 2026-01-02T03 with 2 lines"
    ]  # fmt: skip
    assert plain.count("      2  ERROR worker 12: connection to 10.0.0.5:80 failed after 30 s") == 2
    told = result(oanix, 2)
    assert (told["lines"], told["levels"]) == (4, {"error": 2, "warning": 1, "info": 1})


# The test runner ----------------------------------------------------------------------------------

TESTS = """import tempfile, unittest
from sums import twice

class Sums(unittest.TestCase):
    def test_good(self): self.assertEqual(twice(2), 4)
    def test_bad(self): self.assertEqual(twice(2), 5)
    def test_parsing(self):
        for text in ("1", "2", "x"):
            with self.subTest(text=text): self.assertTrue(text.isdigit())
    @unittest.skip("later")
    def test_later(self): pass
    def test_files(self):
        with tempfile.TemporaryFile("w+") as file:
            file.write("kept"); file.seek(0); self.assertEqual(file.read(), "kept")
"""


def test_the_test_runner_runs_tests_and_reports(oanix: Oanix) -> None:
    here = copied(oanix, "test-runner")
    for name in ("src", "tests"):
        (here / name).mkdir()
    (here / "src" / "sums.py").write_text("def twice(n): return 2 * n\n")
    (here / "tests" / "test_sums.py").write_text(TESTS)
    before = sorted(here.rglob("*"))
    done = oanix("agent", "run", "run_tests.py")
    assert done.returncode == 1, done.stderr
    assert b"test_bad (test_sums.Sums.test_bad) ... FAIL" in done.stdout
    told = result(oanix, 1)
    assert (told["tests"], told["failures"], told["errors"], told["skipped"]) == (5, 2, 0, 1)
    assert told["passed"] is False
    problems = told["problems"]
    assert isinstance(problems, list)
    assert [one["test"] for one in problems] == [
        "test_sums.Sums.test_bad", "test_sums.Sums.test_parsing (text='x')"
    ]  # fmt: skip
    assert "AssertionError: 4 != 5" in problems[0]["traceback"]
    # Nothing was written into the project.
    assert sorted(here.rglob("*")) == before

    mended = TESTS.replace(", 5)", ", 4)").replace('"x"', '"3"')
    (here / "tests" / "test_sums.py").write_text(mended)
    assert "OK" in page(oanix, "test-runner")
    assert result(oanix, 3)["tests"] == 1
    assert result(oanix, 2)["passed"] is True
    assert oanix("agent", "run", "run_tests.py", "--only", "none such").returncode == 5
    (here / "tests" / "test_more.py").write_text("import threading\nraise RuntimeError('broken')\n")
    done = oanix("agent", "run", "run_tests.py", "--only", "good")
    assert done.returncode == 1
    assert b"RuntimeError: broken" in done.stdout


@pytest.mark.fuse
def test_agents_run_in_the_workers_of_a_mount(oanix: Oanix, tmp_path: Path) -> None:
    here = copied(oanix, "test-runner")
    copied(oanix, "log-summary")
    (here / "tests").mkdir()
    (here / "tests" / "test_own.py").write_text(
        "import unittest\nclass Own(unittest.TestCase):\n"
        "    def test_good(self): pass\n    def test_bad(self): self.fail('no')\n"
    )
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    server = oanix.start("mount", here, mountpoint)
    try:
        assert server.stderr is not None
        assert server.stderr.readline().startswith(b"oanix: mounted")
        done = oanix("agent", "run", "--json", "run_tests.py")
        assert done.returncode == 1, done.stderr
        number = json.loads(done.stdout.splitlines()[-1])["id"]
        job = mountpoint / "jobs" / number
        told = json.loads((job / "task" / "result.json").read_text())
        assert (told["tests"], told["failures"]) == (2, 1)
        facts = dict(line.split(" ", 1) for line in (job / "status").read_text().splitlines())
        assert facts["interpreter"] == "cpython"
        with (mountpoint / "logs" / "events.jsonl").open("a") as events:
            events.write('{"level": "error", "message": "lost 12"}\n' * 3)
        (here / "summary.ns").write_text("bind /logs /input ro\nseal\n")
        done = oanix("agent", "run", "--world", "summary.ns", "summarise.py")
        assert b"levels: error 3" in done.stdout, done.stderr
    finally:
        oanix("unmount", "--lazy", mountpoint)
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=TIME_OUT_S)


# Line count ---------------------------------------------------------------------------------------


def can_compile() -> bool:
    """Tell whether there is a C compiler with WASI's library."""
    probe = ["clang", "--target=wasm32-wasi", "-x", "c", "-o", "/dev/null", "-"]
    try:
        source = b'#include <stdio.h>\nint main(void) { return puts("") < 0; }'
        return subprocess.run(probe, input=source, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not can_compile(), reason="there is no clang for WASI (clang lld wasi-libc)")
def test_line_count_is_built_and_counts(oanix: Oanix) -> None:
    here = copied(oanix, "line-count")
    (here / "words.txt").write_text("to be or not\nto be\n\nthat is\nto be or not\n")
    shown = page(oanix, "line-count").splitlines()
    assert shown == [
        "5 lines 12 words 41 bytes  /workspace/words.txt", "3 distinct lines, 1 come again",
        "      2  to be or not", "3 lines 3 words 12 bytes  -", "2 distinct lines, 1 come again",
    ]  # fmt: skip
    lines = "".join(f"line {number % 5_000} of some length\n" for number in range(200_000))
    (here / "large.txt").write_text(lines)
    done = oanix("agent", "run", "--dir", ".::/here", "count.wasm", "-d", "1", "/here/large.txt")
    assert done.stdout.decode().splitlines() == [
        f"200000 lines 1000000 words {len(lines)} bytes  /here/large.txt",
        "5000 distinct lines, 195000 come again", "     40  line 0 of some length",
    ]  # fmt: skip
    missing = oanix("agent", "run", "count.wasm", "/workspace/none")
    assert (missing.returncode, b"No such file" in missing.stderr) == (1, True)
    assert oanix("agent", "run", "count.wasm", "-d", "x").returncode == 2
