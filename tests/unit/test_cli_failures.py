"""What the command line says when it fails, and its exit codes."""

import errno
import os
from pathlib import Path

import click
import pytest

from oanix.cli.failures import Failed, Failure, tell
from oanix.env import Busy
from oanix.env.state import Holder
from oanix.errors import Denied
from oanix.recipe import RecipeError
from tests.commands import Oanix


@pytest.mark.parametrize(
    ("error", "lines", "code"),
    [
        (Failure("no", "yes", 69), ["oanix: no", "  yes"], 69),
        (Failed(), [], 1),
        (FileNotFoundError(errno.ENOENT, "gone", "/x"), ["oanix: /x: gone"], 1),
        (FileNotFoundError(errno.ENOENT, "/x is gone", "/x"), ["oanix: /x is gone"], 1),
        (RecipeError("bad", source="r", line=2, column=3), ["oanix: r:2:3: bad"], os.EX_DATAERR),
        (BrokenPipeError(errno.EPIPE, "x"), [], 141),
        (KeyboardInterrupt(), [], 130),
        (click.Abort(), [], 130),
        (ExceptionGroup("", [ExceptionGroup("", [Failure("no")])]), ["oanix: no"], 1),
        (BaseExceptionGroup("", [KeyboardInterrupt(), Failure("no")]), [], 130),
        (ExceptionGroup("", [Failure("a", code=3), Failure("b")]), ["oanix: a", "oanix: b"], 3),
    ],
)
def test_each_error_has_its_lines_and_its_code(
    error: BaseException, lines: list[str], code: int
) -> None:
    assert tell(error) == (lines, code)


def test_who_holds_a_state_is_named_with_a_remedy() -> None:
    lines, code = tell(Busy("this", Holder(7, "/mnt")))
    assert code == os.EX_TEMPFAIL
    assert lines == [
        "oanix: this is served by process 7 at /mnt; use /mnt, or end it with: oanix unmount /mnt"
    ]


def test_a_defect_of_ours_is_told_in_two_lines() -> None:
    lines, code = tell(ValueError("bad\x1b[2J"))
    assert code == os.EX_SOFTWARE
    assert lines[0] == "oanix: internal error: ValueError: bad\\x1b[2J"
    assert "--debug" in lines[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, b"Usage: oanix"),
        (["nothing"], 2, b"No such command 'nothing'"),
        (["ls", "--nothing"], 2, b"oanix ls --help"),
        (["ls", "-C", "/none"], os.EX_NOINPUT, b"/none does not exist"),
        (["ls", "-C", "/dev/null"], os.EX_NOINPUT, b"/dev/null is no directory"),
        (["ls", "-n", "/none"], os.EX_NOINPUT, b"/none: No such file"),
        (["ls", "-n", "x", "-C", "y"], 2, b"a recipe names its own directories"),
        (["ls", "-n", "/"], os.EX_NOINPUT, b"recipe /: Is a directory"),
        (["ns", "check", "/"], os.EX_NOINPUT, b"recipe /: Is a directory"),
        (["ls", "-n", ""], 2, b"the recipe is empty"),
        (["ls", "-C", ""], 2, b"write . for this one"),
        (["ns", ""], 2, b"the mount point is empty"),
        (["unmount", ""], 2, b"the mount point is empty"),
        (["unmount", "/none"], 1, b"mounted now: none"),
        (["write", "/logs/events.jsonl"], 1, b"oanix write --append /logs/events.jsonl"),
        (["write", "/none"], 1, b"/none: "),
        (["mount"], 2, b"Missing argument"),
        (["mount", "a", "b", "c"], 2, b"MOUNTPOINT alone"),
        (["bind", "-a", "-b", "/", "/", "/"], 2, b"exclude each other"),
        (["bind", "/", "/a", "/b", "loud"], 2, b"'loud' is no option"),
        (["bind", "/", "a", "/b"], os.EX_DATAERR, b"write '/a'"),
        (["bind", "/", "/a", "/b", "x=1", "x=2"], 2, b"given twice"),
    ],
)
def test_wrong_command_lines_are_refused(
    oanix: Oanix, words: list[str], code: int, says: bytes
) -> None:
    done = oanix(*words)
    assert done.returncode == code
    assert says in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
def test_debug_shows_the_traceback(oanix: Oanix) -> None:
    assert b"Traceback" in oanix("--debug", "cat", "-n", "/none", "/x").stderr


@pytest.mark.slow
def test_a_state_folder_that_cannot_be_used_is_named(oanix: Oanix, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for state, says in (("file", b"no directory"), ("file/x", b"cannot make"), ("open", b"chmod")):
        done = Oanix(tmp_path / state, oanix.here)("ls")
        assert done.returncode == 1
        assert says in done.stderr
        assert b"OANIX_STATE" in done.stderr


def test_a_refusal_by_a_rule_names_it_and_what_would_allow_it() -> None:
    error = Denied("GET x is refused: no", what="GET x", rule="policy line 2: deny *",
                   remedy="allow GET x")  # fmt: skip
    error.filename = "/cap/http/get/x"
    assert tell(ExceptionGroup("one", [error])) == (
        [
            "oanix: /cap/http/get/x: GET x is refused: no",
            "  refused by policy line 2: deny *",
            "  what would allow it: allow GET x",
        ],
        1,
    )


@pytest.mark.slow
def test_a_state_folder_that_is_read_only_is_told_with_the_remedy(
    oanix: Oanix, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir(0o555)
    if os.access(tmp_path / "state", os.W_OK):
        pytest.skip("no mode stops root")
    done = Oanix(tmp_path / "state", oanix.here)("ls")
    assert done.returncode == 1
    assert b"cannot write to the state folder (Permission denied); set OANIX_STATE" in done.stderr
