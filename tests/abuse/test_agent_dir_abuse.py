"""Modules that mean harm with `oanix agent run --dir`: they reach what they are given."""

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands import Oanix
from tests.scheduler.hostile import (
    BADF,
    CREAT,
    FAULT,
    INVAL,
    MFILE,
    NOTCAPABLE,
    OUT,
    WRITE,
    Guest,
    told,
)
from tests.scheduler.modules import wasm

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.slow


@pytest.fixture
def oanix(tmp_path: Path) -> Oanix:
    """The command line, with a directory and a state of its own."""
    (tmp_path / "here").mkdir()
    return Oanix(tmp_path / "state", tmp_path / "here", {})


@pytest.fixture
def given(oanix: Oanix) -> Path:
    """The directory that modules are given, with another beside it."""
    for name in ("given", "outside"):
        (oanix.here / name).mkdir()
    (oanix.here / "outside" / "secret").write_text("X")
    return oanix.here / "given"


def run(
    oanix: Oanix, module: bytes, *words: str, where: str = "given::/work"
) -> "subprocess.CompletedProcess[bytes]":
    (oanix.here / "hostile.wasm").write_bytes(module)
    return oanix("agent", "run", "--dir", where, *words, "hostile.wasm")


def test_no_path_leads_out_of_the_directory(oanix: Oanix, given: Path) -> None:
    (given / "up").symlink_to("../outside")
    (given / "out").symlink_to(oanix.here / "outside")
    (given / "passwd").symlink_to("/etc/passwd")
    (given / "inner").mkdir()
    (given / "inner" / "back").symlink_to("../file")
    (given / "file").write_text("mine")
    guest = Guest()
    paths = {
        "../outside/secret": NOTCAPABLE, "..": NOTCAPABLE, "/etc/passwd": NOTCAPABLE,
        "up/secret": NOTCAPABLE, "out/secret": NOTCAPABLE, "passwd": NOTCAPABLE,
        "inner/../../outside/secret": NOTCAPABLE, "inner/back": 0, "file": 0,
    }  # fmt: skip
    for path in paths:
        guest.tell(guest.open(path))
    made = f"(call $path_symlink {guest.text('../outside/secret')} (i32.const 3)"
    guest.tell(f"{made} {guest.text('made')})", guest.open("made"))
    link = f"(call $path_link (i32.const 3) (i32.const 0) {guest.text('made')} (i32.const 3)"
    guest.tell(f"{link} {guest.text('hard')})", guest.open("hard"))
    rename = f"(call $path_rename (i32.const 3) {guest.text('file')} (i32.const 3)"
    guest.tell(f"{rename} {guest.text('../outside/file')})")
    done = run(oanix, guest.made())
    assert done.returncode == 0, done.stderr
    answers = told(done.stdout)
    assert dict(zip(paths, answers, strict=False)) == paths
    assert answers[len(paths) :] == [0, NOTCAPABLE, 0, NOTCAPABLE, NOTCAPABLE]
    assert (oanix.here / "outside" / "secret").read_text() == "X"
    assert os.listdir(oanix.here / "outside") == ["secret"]


def test_a_directory_that_is_replaced_is_not_followed(oanix: Oanix, given: Path) -> None:
    """It removes a directory, puts a link in its place, and uses the descriptor that it had."""
    (given / "inner").mkdir()
    guest = Guest()
    guest.do(f"(drop {guest.open('inner', 2)})")
    guest.tell(guest.path("path_remove_directory", "inner"))
    made = f"(call $path_symlink {guest.text('../outside')} (i32.const 3)"
    guest.tell(f"{made} {guest.text('inner')})")
    new = (
        f"(call $path_open (i32.load (i32.const {OUT})) (i32.const 1) {guest.text('new')}"
        f" (i32.const {CREAT}) (i64.const {WRITE}) (i64.const -1) (i32.const 0) (i32.const 32))"
    )
    guest.do(f"(drop {new})")
    guest.tell(guest.open("inner/new", CREAT, WRITE))
    done = run(oanix, guest.made())
    assert done.returncode == 0, done.stderr
    assert told(done.stdout) == [0, 0, NOTCAPABLE]
    assert os.listdir(oanix.here / "outside") == ["secret"]


@pytest.mark.parametrize(
    ("body", "limit", "said"),
    [
        ("(loop $l (br $l))", "cpu=0.2", "it ended: cpu"),
        ("(loop $l (drop (call $sched_yield)) (br $l))", "wall=300ms", "it ended: wall"),
        ("(loop $l (drop (call $random_get (i32.const 64) (i32.const 900000))) (br $l))",
         "wall=300ms", "it ended: wall"),
        ("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
         "memory=16M", "it ended: trap unreachable"),
        ("(call $main) (call $main)", "wall=25", "it ended: stack"),
    ],
    ids=["spin", "yield", "random", "memory", "stack"],
)  # fmt: skip
def test_a_limit_ends_it(oanix: Oanix, given: Path, body: str, limit: str, said: str) -> None:
    done = run(oanix, Guest().do(body).made(), "--limit", limit)
    assert done.returncode in (124, 134)
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_floods_end_at_their_limits(oanix: Oanix, given: Path) -> None:
    guest = Guest()
    guest.do(f"(drop {guest.open('big', CREAT, WRITE)})")
    guest.do(
        f"(loop $l (br_if $l (i32.eqz {guest.write(f'(i32.load (i32.const {OUT}))', 9_000)})))"
    )
    guest.loop(f"(drop {guest.write('(i32.const 1)', 100_000)})")
    done = run(oanix, guest.made(), "--limit", "written=100K", "--limit", "output=1M")
    assert b"it ended: output" in done.stderr
    assert 0 < (given / "big").stat().st_size <= 100 << 10
    assert len(done.stdout) <= 1 << 20


def test_descriptors_and_forged_numbers(oanix: Oanix, given: Path) -> None:
    (given / "file").write_text("x")
    guest = Guest()
    guest.do(f"(loop $l (br_if $l (i32.eqz (local.tee $n {guest.open('file')}))))")
    guest.tell("(local.get $n)", "(call $fd_close (i32.const -1))")
    guest.tell(
        "(call $fd_read (i32.const 4) (i32.const -8) (i32.const 1) (i32.const 8))",
        "(call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8))",
    )
    done = run(oanix, guest.made())
    assert struct.unpack("<4I", done.stdout) == (MFILE, BADF, FAULT, INVAL)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (b"", "empty"), (b"\0asm\x0d\0\x01\0x", "component"), (b"\0asm\1\0\0\0\1\xff", "not valid"),
        (wasm('(import "env" "magic" (func)) (func (export "_start"))'), "env.magic"),
    ],
    ids=["empty", "component", "malformed", "imports"],
)  # fmt: skip
def test_what_is_no_good_module_says_why(
    oanix: Oanix, given: Path, module: bytes, said: str
) -> None:
    done = run(oanix, module)
    assert done.returncode == os.EX_DATAERR
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr
