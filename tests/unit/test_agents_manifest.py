"""Manifests of kinds: what they may say, and what their arguments are."""

import errno
import json
import shlex
from typing import Any

import pytest

from oanix.lib.agents import MANIFEST_MAX, KindStore, Manifest, parse_manifest, read_input, usage

DIGEST = "0" * 64
GOOD: dict[str, Any] = {
    "name": "count", "version": "1.2", "description": "Counts words.", "module": "module.wasm",
    "sha256": {"module.wasm": DIGEST},
    "needs": [{"path": "/workspace", "why": "what it counts"},
              {"path": "/cap/http", "why": "word lists", "optional": True}],
    "recipe": ["bind /workspace/docs /workspace ro", "bind /cap/http /cap/http", "seal"],
    "limits": {"wall": "10s", "memory": "64M"},
    "arguments": [
        {"name": "what", "description": "what is counted", "positional": True, "required": True,
         "choices": ["words", "lines"]},
        {"name": "file", "type": "list", "description": "files", "positional": True},
        {"name": "at-most", "type": "integer", "description": "a bound", "default": 10, "least": 1,
         "most": 99},
        {"name": "quiet", "type": "boolean", "description": "no output"},
        {"name": "title", "description": "a title"},
    ],
}  # fmt: skip


def manifest(**changed: object) -> Manifest:
    said = {key: value for key, value in {**GOOD, **changed}.items() if value is not None}
    return parse_manifest(json.dumps(said).encode())


def test_a_manifest_is_read_and_written_as_it_was() -> None:
    made = manifest()
    assert made.runs == "module.wasm"
    assert [need.path for need in made.needs if need.optional] == ["/cap/http"]
    assert parse_manifest(made.show().encode()) == made


def test_without_a_recipe_it_asks_for_what_it_needs() -> None:
    assert manifest(recipe=None).world == "bind /workspace /workspace\nbind /cap/http /cap/http\n"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"modul": "x"}, "no 'modul'; did you mean 'module'?"),
        ({"name": "Count"}, "cannot name a kind"),
        ({"name": "../count"}, "cannot name a kind"),
        ({"name": "a/b"}, "cannot name a kind"),
        ({"name": "x" * 65}, "cannot name a kind"),
        ({"name": 1}, "name: this is a text"),
        ({"version": "\x1b[2J"}, "version: this has at most"),
        ({"description": ""}, "description: this is a text"),
        ({"module": "../module.wasm"}, "cannot name a file"),
        ({"module": "/etc/passwd"}, "cannot name a file"),
        ({"module": ".git"}, "cannot name a file"),
        ({"module": "manifest.json"}, "every kind has"),
        ({"module": None}, "has a module, or"),
        ({"unavailable": "soon"}, "has a module, or"),
        ({"interpreter": "quickjs"}, "an interpreter has a program"),
        ({"sha256": {}}, "the hash of 'module.wasm' is missing"),
        ({"sha256": {"module.wasm": "F" * 64}}, "64 digits of lower-case hex"),
        ({"sha256": {"a/../../b": DIGEST, "module.wasm": DIGEST}}, "cannot name a file"),
        ({"sha256": {"a": DIGEST, "a/b": DIGEST, "module.wasm": DIGEST}}, "a file and a directory"),
        ({"needs": [{"path": "/workspace"}]}, "why"),
        ({"needs": [{"path": "/a/../b", "why": "x"}]}, "absolute path with no"),
        ({"needs": [{"path": "/w", "why": "x"}, {"path": "/w", "why": "y"}]}, "each path is there"),
        ({"recipe": ["mount workspace:/ /x"]}, "a kind mounts nothing"),
        ({"recipe": ["bind /workspace/../etc /x"]}, "no `.` or `..`"),
        ({"recipe": ["bind /cap/secrets /x"]}, "stands in no need"),
        ({"recipe": ["bind /"]}, "recipe:1:"),
        ({"recipe": ["seal\nmount workspace:/ /x"]}, "one line of a recipe"),
        ({"recipe": "seal"}, "this is a list"),
        ({"limits": {"wall": [1]}}, "limits: wall"),
        ({"arguments": [{"name": "help", "description": "x"}]}, "`help` is taken"),
        ({"arguments": [{"name": "a b", "description": "x"}]}, "cannot name an argument"),
        ({"arguments": [{"name": "a", "type": "file", "description": "x"}]}, "one of: text"),
        ({"arguments": [{"name": "a", "description": "x", "default": 1}]}, "default: this is"),
        ({"arguments": [{"name": "a", "description": "x"}] * 2}, "each name is there once"),
        ({"arguments": [{"name": "a", "description": "x", "positional": True},
                        {"name": "b", "description": "x", "positional": True, "required": True}]},
         "what is required comes before"),
    ],
)  # fmt: skip
def test_what_is_no_manifest_says_why(changed: dict[str, object], said: str) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        manifest(**changed)
    assert caught.value.errno == errno.EINVAL
    assert said in str(caught.value.strerror)


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"", errno.EINVAL), (b"{", errno.EINVAL), (b"[]", errno.EINVAL), (b"\xff", errno.EINVAL),
        (b'{"name": "a", "name": "b"}', errno.EINVAL), (b'{"limits": NaN}', errno.EINVAL),
        (b"[" * 60_000, errno.EINVAL), (b" " * (MANIFEST_MAX + 1), errno.EFBIG),
        (json.dumps({**GOOD, "description": "x" * (1 << 20)}).encode(), errno.EFBIG),
    ],
    ids=["empty", "half", "list", "bytes", "twice", "nan", "deep", "long", "mega"],
)  # fmt: skip
def test_what_is_no_json_is_refused(data: bytes, number: int) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        parse_manifest(data)
    assert caught.value.errno == number


# Arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "said", "input"),
    [
        (["words"], None, {"what": "words", "at-most": 10, "quiet": False}),
        (["lines", "a", "b", "--at-most", "5", "--quiet"], None,
         {"what": "lines", "file": ["a", "b"], "at-most": 5, "quiet": True}),
        (["--title=a=b", "--", "words", "--quiet"], None,
         {"what": "words", "file": ["--quiet"], "at-most": 10, "quiet": False, "title": "a=b"}),
        ([], {"what": "words", "quiet": True}, {"what": "words", "at-most": 10, "quiet": True}),
        (["--no-quiet"], {"what": "words", "quiet": True},
         {"what": "words", "at-most": 10, "quiet": False}),
        (["lines"], {"what": "words"}, {"what": "lines", "at-most": 10, "quiet": False}),
    ],
)  # fmt: skip
def test_words_and_input_say_the_same(
    args: list[str], said: object, input: dict[str, object]
) -> None:
    assert read_input(manifest(), args, said) == input


@pytest.mark.parametrize(
    ("args", "said", "sentence"),
    [
        ([], None, "count needs WHAT: what is counted (one of: words, lines)"),
        (["pages"], None, "WHAT: this is one of: words, lines"),
        (["words", "--titel", "x"], None, "no argument '--titel'; did you mean 'title'?"),
        (["words", "-q"], None, "no argument '-q'"),
        (["words", "--at-most", "0"], None, "from 1 to 99"),
        (["words", "--at-most", "ten"], None, "'ten' is no whole number"),
        (["words", "--at-most"], None, "is followed by a whole number"),
        (["words", "--quiet=yes"], None, "stands alone"),
        (["words"], {"colour": 1}, "no argument 'colour'"),
        (["words"], {"at-most": "5"}, "input: at-most: this is a whole number"),
        (["words"], {"at-most": True}, "input: at-most: this is a whole number"),
        (["words"], {"title": "a\0b"}, "no NUL"),
        (["words"], {"file": "a"}, "a list of texts"),
        (["words"], ["words"], "is a JSON object"),
    ],
)
def test_what_was_not_asked_says_so(args: list[str], said: object, sentence: str) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        read_input(manifest(), args, said)
    assert caught.value.errno == errno.EINVAL
    assert sentence in str(caught.value.strerror)


def test_the_help_comes_from_the_manifest() -> None:
    text = usage(manifest(), "oanix agent run count")
    assert text.startswith("Usage: oanix agent run count [OPTIONS] WHAT [FILE...]\n")
    assert "  --at-most INTEGER\n      a bound (1 to 99; default: 10)\n" in text
    assert "  /cap/http (if there): word lists\n" in text


# Those that ship ---------------------------------------------------------------------------------

SHIPPED = KindStore()


@pytest.mark.parametrize("name", SHIPPED.names())
def test_what_ships_is_what_its_manifest_says(name: str) -> None:
    """After a change of a file: `oanix agent pin oanix/agents/NAME`."""
    from oanix.scheduler.limits import Limits
    from oanix.scheduler.worlds import HIDDEN

    kind = SHIPPED.get(name)
    manifest = kind.ready()
    on_disk = {
        str(path.relative_to(kind.folder)) for path in kind.folder.rglob("*") if path.is_file()
    }
    assert on_disk == {*kind.files()}
    for file in kind.files():
        kind.read(file)
    Limits.parse(manifest.limits)
    assert "README" in manifest.sha256
    assert f"exclude={':'.join(HIDDEN)}" in manifest.world
    assert manifest.world.endswith("seal\n")
    if manifest.unavailable:
        assert "/chat" in [need.path for need in manifest.needs if not need.optional]


@pytest.mark.parametrize("name", SHIPPED.names())
def test_the_examples_of_a_readme_are_what_the_manifest_takes(name: str) -> None:
    kind = SHIPPED.get(name)
    lines = kind.read("README").decode().splitlines()
    assert lines[0].startswith(f"{name}: ")
    assert max(map(len, lines)) <= 100
    examples = [line.split(">")[0] for line in lines if line.startswith("  oanix agent run ")]
    assert examples
    for example in examples:
        words = shlex.split(example)
        assert words[:4] == ["oanix", "agent", "run", name]
        read_input(kind.ready(), words[4:], None)


def test_the_kinds_of_the_project_ship() -> None:
    wanted = {"scaffold", "refactor", "add_endpoint", "generate_tests", "fix_bug", "explain_code"}
    assert set(SHIPPED.names()) >= wanted
