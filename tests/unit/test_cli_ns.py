"""`oanix ns`: recipes on the command line, good and bad."""

import json
import os

import pytest

from tests.commands import Oanix

pytestmark = pytest.mark.slow


def test_the_default_recipe_is_printed_and_builds_the_same(oanix: Oanix) -> None:
    printed = oanix("ns").stdout
    assert printed.startswith(b"mount workspace:" + bytes(oanix.here) + b" /workspace\n")
    assert oanix("ns", "show", "-C", oanix.here).stdout == printed
    assert oanix("cat", "-n", "-", "/proc/self/ns", stdin=printed).stdout == printed
    assert oanix("ns", "check", "-", stdin=printed).stdout == b"-: good, 12 lines\n"


def test_a_recipe_is_printed_as_json(oanix: Oanix) -> None:
    recipe = oanix.recipe(
        "mount workspace:. /w ro exclude=.env", "bind -a -c /w /v", "unmount /v", "seal"
    )
    assert json.loads(oanix("ns", "--json", "-n", recipe).stdout) == [
        {
            "do": "mount", "service": "workspace", "argument": ".", "path": "/w", "access": "ro",
            "options": {"exclude": ".env"},
        },
        {
            "do": "bind", "source": "/w", "target": "/v", "union": "after", "create": True,
            "access": "rw", "options": {},
        },
        {"do": "unmount", "path": "/v"},
        {"do": "seal"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        (b"mount nonsense /x\n", "1:7", "is no service; write one of"),
        (b"mount workspace /x\n", "1:7", "workspace:DIR"),
        (b"mount mem /x\nmount mem /x\n", "2:11", "write before this line: unmount /x"),
        (b"bind /none /x\n", "1:6", "no such file"),
        (b"mount dev /d\x00\n", "1:13", "NUL"),
        (b"mount dev /d\r\n", "1:13", "carriage return"),
        (b"\xef\xbb\xbfmount dev /d\n", "1:1", "byte order mark"),
        (b'mount dev "/d\n', "1:11", "close it with"),
        (b"mount dev /d\nunmount /x\n", "2:9", "nothing is mounted"),
        (b"seal\nmount dev /d\n", "2:1", "make it the last line"),
        (b"mount dev\n", "1:10", "PATH is missing"),
        (b"frob /x\n", "1:1", "write one of: mount, bind, unmount, seal"),
    ],
)
def test_a_bad_recipe_is_refused_by_file_line_and_column(
    oanix: Oanix, text: bytes, where: str, says: str
) -> None:
    (oanix.here / "bad.ns").write_bytes(text)
    done = oanix("ns", "check", "bad.ns")
    assert done.returncode == os.EX_DATAERR
    assert done.stderr.decode().startswith(f"oanix: bad.ns:{where}: ")
    assert says in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


def test_a_check_as_json_says_where_and_what(oanix: Oanix) -> None:
    bad = oanix("ns", "check", "--json", oanix.recipe("mount dev /d", "unmount /x"))
    assert bad.returncode == os.EX_DATAERR
    said = json.loads(bad.stdout)
    assert (said["valid"], said["error"]["line"], said["error"]["column"]) == (False, 2, 9)
    good = json.loads(oanix("ns", "check", "--json", oanix.recipe("mount dev /d")).stdout)
    assert (good["valid"], good["lines"]) == (True, 1)


def test_a_recipe_without_a_newline_at_its_end_and_an_empty_one_are_good(oanix: Oanix) -> None:
    assert oanix("ns", "check", "-", stdin=b"mount dev /d").returncode == 0
    assert oanix("ns", "check", "-").returncode == 0


def test_diff_compares_what_recipes_say_not_how(oanix: Oanix) -> None:
    one, two = oanix.here / "one", oanix.here / "two"
    one.write_text("# mine\nmount dev   /d\nmount mem '/m'\n")
    two.write_text('mount dev "/d"\nmount mem /m\n')
    assert (oanix("ns", "diff", one, two).returncode, oanix("ns", "diff", one, two).stdout) == (
        0,
        b"",
    )
    two.write_text("mount dev /d\nmount proc /p\n")
    done = oanix("ns", "diff", one, two)
    assert done.returncode == 1
    assert b"\n-mount mem /m\n+mount proc /p\n" in done.stdout
    assert json.loads(oanix("ns", "diff", "--json", one, two).stdout) == {
        "removed": ["mount mem /m"], "added": ["mount proc /p"],
    }  # fmt: skip
    assert oanix("ns", "diff", one, oanix.here / "none").returncode == os.EX_NOINPUT
