"""`oanix logs`: what jobs did, for people, as JSON and as a page."""

import json
import os
import pty
import re
import subprocess
import unicodedata
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.commands import TIME_OUT_S, Oanix
from tests.scheduler.acting import CREAT, WRITE, Acts
from tests.scheduler.atif import valid

pytestmark = pytest.mark.slow

OWN = {
    "message": "<img src=x onerror=alert(1)>", "model_name": "</li><script>",
    "reasoning_content": "\x1b[2Jhmm\u202e", "metrics": {"prompt_tokens": 1_200, "cost_usd": 0.5},
    "extra": {"seen": {"failed": {"c1": "x"}}},
}  # fmt: skip


def hostile() -> bytes:
    """Make a module whose names and outputs are not what they seem."""
    acts = Acts().say(b"hello \x1b[31mred\x1b]0;title\x07 \xe2\x80\xae<script>alert(1)</script>\n")
    acts.open("workspace/\x1b[2J\u202e<b>&\"'\n.txt", CREAT, WRITE).write("x").close()
    acts.mkdir("workspace/d").mkdir("workspace/d").open("workspace/.env")
    return acts.open("task/steps", 0, WRITE).write(json.dumps(OWN) + "\n").close().module()


@pytest.fixture
def ran(oanix: Oanix) -> Oanix:
    (oanix.here / "bad.wasm").write_bytes(hostile())
    done = oanix("agent", "run", "bad.wasm", "a b", "</pre>")
    assert done.returncode == 0, done.stderr
    return oanix


def test_a_run_is_shown_a_line_a_call_and_does_nothing_to_a_terminal(ran: Oanix) -> None:
    done = ran("logs", "show", "1")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "job-1-" in text
    assert re.search(r"5 steps, 4 calls, 2 failed, 1,200 prompt tokens, \$0\.5000", text), text
    assert "bad.wasm 'a b' '</pre>'" in text
    assert re.search(r"✗ make_directory +/workspace/d +EEXIST: File exists", text)
    assert re.search(r"✗ look_for +/workspace/\.env +ENOENT: not found", text)
    assert r"/workspace/\x1b[2J\u202e<b>&\"'\n.txt new=true  wrote 1 byte" in text.replace(
        "\"'", "\\\"'"
    )
    assert r"│ hello \x1b[31mred\x1b]0;title\x07 \u202e<script>alert(1)</script>" in text
    assert "recorded by the job" in text
    bad = [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf")]
    assert bad == []


def test_a_terminal_gets_colours_and_lines_that_fit(ran: Oanix) -> None:
    def shown(**more: str) -> str:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ran.command("logs", "show", "1"), stdout=theirs, stdin=theirs, cwd=ran.here,
            env={**ran.env, "COLUMNS": "60", **more},
        )  # fmt: skip
        os.close(theirs)
        pieces = [b"?"]
        with suppress(OSError):  # EIO, once nobody has the terminal any more
            while pieces[-1]:
                pieces.append(os.read(ours, 65_536))
        os.close(ours)
        assert process.wait(TIME_OUT_S) == 0
        return b"".join(pieces[1:]).decode()

    coloured = shown()
    assert "\x1b[1;31m    ✗ make_directory" in coloured
    assert "\x1b[2J" not in coloured
    plain = shown(NO_COLOR="1")
    assert "\x1b" not in plain
    assert max(len(line) for line in plain.splitlines() if "✗" in line) <= 60


def test_the_document_is_given_as_it_is(ran: Oanix) -> None:
    found = valid(ran("logs", "show", "--json", "1").stdout)
    assert found["extra"]["complete"] is True
    assert (
        ran("cat", "/logs/runs/1/trajectory.json").stdout
        == ran("logs", "show", "--json", "1").stdout
    )


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def test_a_page_is_whole_asks_for_nothing_and_shows_everything_as_text(ran: Oanix) -> None:
    assert ran("logs", "show", "--html", "run.html", "1").returncode == 0
    raw = (ran.here / "run.html").read_bytes()
    assert ran("logs", "show", "--html", "-", "1").stdout == raw
    page = Page(raw.decode())
    assert page.open == []
    assert {tag for tag, _ in page.tags} == {
        "html", "head", "meta", "title", "style", "body", "main", "header", "h1", "span", "p",
        "ol", "li", "div", "b", "pre", "table", "tr", "td", "br", "details", "summary", "footer",
    }  # fmt: skip
    for _, attributes in page.tags:
        assert not {"src", "href", "style"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    policy = [a["content"] for _, a in page.tags if a.get("http-equiv")]
    assert policy[0] is not None
    assert policy[0].startswith("default-src 'none'")
    assert "url(" not in raw.decode()
    assert "<script>alert(1)</script>" in page.text
    assert "<img src=x onerror=alert(1)>" in page.text
    assert r"/workspace/\x1b[2J\u202e<b>" in page.text
    assert [c for c in page.text if unicodedata.category(c) == "Cf"] == []
    assert "\x1b" not in page.text


def test_runs_are_listed_with_how_they_ended(ran: Oanix) -> None:
    [found] = json.loads(ran("logs", "list", "--json").stdout)
    assert (found["run"], found["name"], found["failed"]) == (1, "bad.wasm", 2)
    assert found["end"] == "completed 0"
    head, row = ran("logs", "list").stdout.decode().splitlines()
    assert head.split() == ["RUN", "STARTED", "TIME", "STEPS", "CALLS", "FAILED", "NAME", "END"]
    assert row.split()[0] == "1"
    assert row.endswith("bad.wasm  completed 0")


def test_steps_of_a_run_that_has_ended_are_followed_to_their_end(ran: Oanix) -> None:
    done = ran("logs", "show", "-f", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().count("system\n") == 2
    assert "completed 0" in done.stdout.decode()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show"], os.EX_NOINPUT, "no job ran here yet"),
        (["show", "9"], os.EX_NOINPUT, "no trajectory of a job 9"),
        (["show", "-f", "9"], os.EX_NOINPUT, "no trajectory of a job 9"),
        (["show", "0"], 2, "0"),
        (["show", "x"], 2, "x"),
        (["show", "--json", "-f", "1"], 2, "give one of"),
        (["show", "--html", "no/such/file", "1"], 1, "no/such/file"),
        (["list", "-C", "none"], os.EX_NOINPUT, "does not exist"),
    ],
)
def test_what_cannot_be_shown_says_why(
    oanix: Oanix, words: list[str], code: int, said: str
) -> None:
    (oanix.here / "bad.wasm").write_bytes(hostile())
    if "no/such/file" in words:
        oanix("agent", "run", "bad.wasm")
    done = oanix("logs", *words)
    assert (done.returncode, said in done.stderr.decode()) == (code, True), done.stderr
    assert b"Traceback" not in done.stderr


def test_a_shell_completes_the_numbers_of_runs(ran: Oanix, tmp_path: Path) -> None:
    def completed(words: str, here: Path) -> bytes:
        count = str(len(words.split()) - (0 if words.endswith(" ") else 1))
        variables = {"_OANIX_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
        return Oanix(ran.state, here, variables)().stdout

    for _ in range(2):
        ran("agent", "run", "bad.wasm")
    assert completed("oanix logs show ", ran.here) == b"plain,3\nplain,2\nplain,1\n"
    assert b"\njob-3-" in b"\n" + ran("logs", "show").stdout
    assert completed("oanix agent kill 2", ran.here) == b"plain,2\n"
    assert completed("oanix logs show ", tmp_path) == b"\n"
    assert completed(f"oanix logs show -C {ran.here} ", tmp_path).startswith(b"plain,3\n")
