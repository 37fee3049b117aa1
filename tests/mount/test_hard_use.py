"""Hard use of a mount: many names, many writers, deep trees, write-back, and a short soak."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.mount.mounting import Mount, end, start, wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


def test_a_directory_is_listed_while_its_names_are_removed(mount: Mount) -> None:
    folder = mount.host / "many"
    folder.mkdir()
    for number in range(3_000):
        (folder / f"{number}").touch()
    remover = subprocess.Popen(["rm", "-r", mount.workspace / "many"])
    try:
        while remover.poll() is None:
            try:
                names = os.listdir(mount.workspace / "many")
            except FileNotFoundError:
                break
            assert len(names) == len(set(names))
    finally:
        assert remover.wait(60) == 0
    wait_until(lambda: not folder.exists())


def test_two_appending_writers_lose_no_line(shared: Mount) -> None:
    file = shared.workspace / "appended"
    program = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
for number in range(10_000):
    os.write(file, f"{sys.argv[2]} {number}\\n".encode())
"""
    writers = [subprocess.Popen([sys.executable, "-c", program, file, name]) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    lines = (shared.host / "appended").read_text().splitlines()
    assert len(lines) == 20_000
    for name in "ab":
        own = [line for line in lines if line.startswith(name)]
        assert own == [f"{name} {number}" for number in range(10_000)]


def test_a_deep_tree_is_made_walked_and_removed(shared: Mount) -> None:
    script = """
cd "$1"
for i in $(seq 300); do mkdir d && cd -P d 2>/dev/null || exit 1; done
touch leaf && ls leaf
cd "$1" && find . -name leaf | wc -c
rm -rf d && ls
"""
    top = shared.workspace / "deep"
    top.mkdir()
    said = subprocess.run(
        ["bash", "-c", script, "bash", top], capture_output=True, text=True, timeout=50, check=True
    )
    assert said.stdout.split() == ["leaf", str(1 + 300 * 2 + len("/leaf\n"))]
    assert said.stderr == ""


def test_names_that_no_text_has_survive(shared: Mount) -> None:
    folder = os.fsencode(shared.workspace / "names")
    os.mkdir(folder)
    names = [b"\xff\xfe", b"a\nb", b"\xe2\x80\xae.txt", b"-rf", b"~", b"*", b"ctl ", b"n" * 255]
    names += ["\u00e9".encode(), "e\u0301".encode(), b"\x1b[31m"]
    for name in names:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(name)
    assert sorted(os.listdir(folder)) == sorted(names)
    for name in names:
        with open(os.path.join(os.fsencode(shared.host / "names"), name), "rb") as file:
            assert file.read() == name


def test_write_back_keeps_what_was_written(folders: tuple[Path, Path]) -> None:
    mounted = start(*folders, "exclusive")
    try:
        file = mounted.workspace / "file"
        file.write_bytes(b"0123456789" * 1000)
        with file.open("ab") as opened:
            opened.write(b"more")
        with file.open("r+b") as opened:
            opened.seek(5)
            opened.write(b"xyz")
            opened.flush()
            os.fsync(opened.fileno())
        expected = b"01234xyz89" + b"0123456789" * 999 + b"more"
        assert file.read_bytes() == expected
        assert (mounted.host / "file").read_bytes() == expected
        os.truncate(file, 10)
        assert (mounted.host / "file").stat().st_size == 10
    finally:
        end(mounted)
    assert (mounted.host / "file").read_bytes() == b"01234xyz89"


def test_unmounting_under_load_leaves_no_process_behind(mount: Mount) -> None:
    stop = threading.Event()
    failed: list[OSError] = []

    def write(number: int) -> None:
        while not stop.is_set():
            try:
                (mount.workspace / f"{number}").write_bytes(b"x" * 10_000)
            except OSError as error:
                failed.append(error)
                return

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    wait_until(lambda: (mount.host / "3").exists())
    assert mount.stop() == 0
    stop.set()
    for writer in writers:
        writer.join(20)
        assert not writer.is_alive()


def test_many_operations_at_once_leave_memory_flat() -> None:
    done = subprocess.run(
        [sys.executable, SOAK, "--operations", "12000", "--json"],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["operations"], report["failures"]) == (12_000, 0)
