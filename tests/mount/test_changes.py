"""What changes elsewhere is seen through the mount."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.mount.mounting import Mount, wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

SEEN_S = 1.0 * 10
"""Seen within a second, always; a test takes ten times that as its limit."""


def test_a_change_on_the_host_is_seen(shared: Mount) -> None:
    ours, theirs = shared.workspace / "file", shared.host / "file"
    theirs.write_text("one")
    assert ours.read_text() == "one"
    theirs.write_text("another")
    wait_until(lambda: ours.read_text() == "another", SEEN_S)
    with theirs.open("a") as file:
        file.write(" more")
    wait_until(lambda: ours.read_text() == "another more", SEEN_S)
    theirs.unlink()
    wait_until(lambda: not ours.exists(), SEEN_S)
    theirs.mkdir()
    wait_until(ours.is_dir, SEEN_S)


def test_a_name_that_was_missing_appears(shared: Mount) -> None:
    assert not (shared.workspace / "later").exists()
    (shared.host / "later").write_text("x")
    wait_until((shared.workspace / "later").exists, SEEN_S)


def test_a_change_of_the_same_size_is_seen_by_one_who_has_the_file_open(shared: Mount) -> None:
    theirs = shared.host / "open"
    theirs.write_text("aaaa")
    with (shared.workspace / "open").open("rb") as file:
        assert os.pread(file.fileno(), 4, 0) == b"aaaa"
        theirs.write_text("bbbb")
        wait_until(lambda: os.pread(file.fileno(), 4, 0) == b"bbbb", SEEN_S)


def test_a_write_through_one_view_is_seen_through_the_other_at_once(shared: Mount) -> None:
    one, other = shared.workspace / "views", shared.path / "again" / "views"
    one.write_text("first")
    assert other.read_text() == "first"
    one.write_text("second version")
    wait_until(lambda: other.read_text() == "second version", SEEN_S)
    other.unlink()
    wait_until(lambda: not one.exists(), SEEN_S)


def test_a_bind_on_a_live_mount_is_seen_by_those_already_inside(mount: Mount) -> None:
    (mount.host / "a" / "b").mkdir(parents=True)
    (mount.host / "a" / "b" / "secret").write_text("s")
    inside = os.open(mount.workspace / "a" / "b", os.O_RDONLY | os.O_DIRECTORY)
    os.stat("secret", dir_fd=inside)
    control = mount.path / "proc" / "self" / "ctl"
    control.write_text("bind /dev/null /workspace/a/b/secret\n")
    wait_until(lambda: os.stat("secret", dir_fd=inside).st_size == 0, SEEN_S)
    control.write_text("bind /mem /workspace/a/new\n")
    wait_until((mount.workspace / "a" / "new").is_dir, SEEN_S)
    assert "new" in os.listdir(mount.workspace / "a")
    with pytest.raises(OSError, match="busy"):
        os.rename(mount.workspace / "a", mount.workspace / "c")
    control.write_text("unmount /workspace/a/new\n")
    wait_until(lambda: not (mount.workspace / "a" / "new").exists(), SEEN_S)
    os.close(inside)


def test_binds_while_requests_are_under_way_do_not_block(mount: Mount) -> None:
    for number in range(200):
        (mount.host / f"{number}").write_text("x")
    loop = subprocess.Popen(
        ["bash", "-c", f"while :; do ls -l {mount.workspace} >/dev/null; done"],
        stderr=subprocess.DEVNULL,
    )
    try:
        control = mount.path / "proc" / "self" / "ctl"
        begun = time.monotonic()
        for _ in range(50):
            control.write_text("bind /mem /workspace/bound\n")
            control.write_text("unmount /workspace/bound\n")
        assert time.monotonic() - begun < 30
    finally:
        loop.kill()
        loop.wait()


def test_tail_follows_a_file_that_grows_on_the_host(shared: Mount, tmp_path: Path) -> None:
    theirs = shared.host / "growing"
    theirs.write_text("first\n")
    seen = tmp_path / "seen"
    with seen.open("wb") as out:
        tail = subprocess.Popen(["tail", "-f", shared.workspace / "growing"], stdout=out)
        try:
            wait_until(lambda: seen.read_text() == "first\n")
            with theirs.open("a") as file:
                file.write("second\n")
            wait_until(lambda: seen.read_text() == "first\nsecond\n")
        finally:
            tail.kill()
            tail.wait()
