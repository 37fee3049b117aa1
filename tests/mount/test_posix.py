"""What a mount cannot do: each line of docs/posix.md has its test here."""

import ctypes
import errno
import fcntl
import os
import select
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mount.mounting import Mount, wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

libc = ctypes.CDLL(None, use_errno=True)
FS_IOC_GETFLAGS = 0x80086601
IN_MODIFY = 2


def test_holes_are_not_told_apart_from_data(shared: Mount) -> None:
    file = shared.workspace / "sparse"
    with file.open("wb") as opened:
        opened.truncate(1 << 20)
    assert (shared.host / "sparse").stat().st_blocks == 0
    with file.open("rb") as opened:
        assert os.lseek(opened.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(opened.fileno(), 0, os.SEEK_HOLE) == 1 << 20


def test_fallocate_is_not_supported_and_posix_fallocate_is_emulated(shared: Mount) -> None:
    with (shared.workspace / "allocated").open("wb") as opened:
        assert libc.fallocate(opened.fileno(), 0, ctypes.c_long(0), ctypes.c_long(8192)) == -1
        assert ctypes.get_errno() == errno.EOPNOTSUPP
        os.posix_fallocate(opened.fileno(), 0, 8192)
    assert (shared.host / "allocated").stat().st_size == 8192


def test_copy_file_range_copies_through_the_kernel_cache(shared: Mount) -> None:
    (shared.workspace / "from").write_bytes(b"abc" * 1000)
    source, target = shared.workspace / "from", shared.workspace / "to"
    with source.open("rb") as one, target.open("wb") as other:
        assert os.copy_file_range(one.fileno(), other.fileno(), 3000) == 3000
    assert (shared.host / "to").read_bytes() == b"abc" * 1000


def test_ioctl_is_not_carried(shared: Mount) -> None:
    (shared.workspace / "ioctl").write_text("")
    refusal = pytest.raises(OSError, match=os.strerror(errno.ENOTTY))
    with (shared.workspace / "ioctl").open() as opened, refusal:
        fcntl.ioctl(opened, FS_IOC_GETFLAGS, b"\0" * 8)


def test_locks_hold_within_the_mount_and_not_on_the_host(shared: Mount) -> None:
    (shared.workspace / "locked").write_text("")
    with (
        (shared.workspace / "locked").open() as one,
        (shared.workspace / "locked").open() as two,
        (shared.host / "locked").open() as outside,
    ):
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(outside, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_inotify_inside_the_mount_reports_its_own_changes_only(shared: Mount) -> None:
    ours, theirs = shared.workspace / "watched", shared.host / "watched"
    ours.write_text("x")
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        assert libc.inotify_add_watch(watch, os.fsencode(ours), IN_MODIFY) > 0
        theirs.write_text("from the host")
        wait_until(lambda: ours.read_text() == "from the host")
        assert select.select([watch], [], [], 0.2)[0] == []
        with ours.open("a") as opened:
            opened.write("through the mount")
        assert select.select([watch], [], [], 10)[0] == [watch]
    finally:
        os.close(watch)


def test_nonblock_counts_when_it_is_given_at_open(shared: Mount) -> None:
    # Set later, it never reaches the server: the read waits, until the signal of the time-out.
    program = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.fcntl(file, fcntl.F_SETFL, os.O_NONBLOCK)
try:
    os.read(file, 1)
except BlockingIOError:
    print("EAGAIN")
"""
    command = [sys.executable, "-c", program, shared.path / "trouble" / "silent"]
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(command, timeout=1.5, capture_output=True, check=False)


def test_there_are_no_files_without_a_name(shared: Mount) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
        os.open(shared.workspace, os.O_TMPFILE | os.O_RDWR)


def test_a_read_leaves_the_access_time_alone(shared: Mount) -> None:
    file = shared.workspace / "read"
    file.write_text("x" * 100)
    os.utime(file, ns=(1, 1))
    file.read_text()
    first = file.stat().st_atime_ns
    file.read_text()
    assert file.stat().st_atime_ns == first


def test_special_files_are_made_as_the_caller_may_and_opened_by_the_kernel(shared: Mount) -> None:
    fifo = shared.workspace / "fifo"
    os.mkfifo(fifo, 0o644)
    assert stat.S_ISFIFO((shared.host / "fifo").stat().st_mode)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE) as reader:
        fifo.write_text("through\n")
        assert reader.communicate(timeout=20)[0] == b"through\n"


def test_statfs_gives_one_answer_for_the_whole_mount(shared: Mount) -> None:
    inside, root = os.statvfs(shared.path / "dev"), os.statvfs(shared.path)
    assert (inside.f_blocks, inside.f_namemax) == (root.f_blocks, 255)
    assert root.f_blocks == os.statvfs(shared.host).f_blocks


def test_sqlite_works_on_one_side(shared: Mount) -> None:
    program = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as base:
    base.execute("pragma journal_mode=delete")
    base.execute("create table t (n)")
    base.executemany("insert into t values (?)", [(n,) for n in range(1000)])
    print(base.execute("select sum(n) from t").fetchone()[0])
"""
    path = shared.workspace / "base.sqlite"
    said = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    assert said.stdout == "499500\n"


def test_a_name_over_255_bytes_is_refused_by_us(shared: Mount) -> None:
    (shared.workspace / ("n" * 255)).write_text("")
    with pytest.raises(OSError, match=os.strerror(errno.ENAMETOOLONG)):
        (shared.workspace / ("n" * 256)).write_text("")
    with pytest.raises(OSError, match=os.strerror(errno.ENAMETOOLONG)):
        Path(shared.workspace / ("n" * 256)).stat()


def test_a_huge_file_is_refused_and_allocates_nothing(shared: Mount) -> None:
    file = shared.workspace / "huge"
    file.write_text("")
    with file.open("r+b") as opened:
        with pytest.raises(OSError, match=r"File too large|No space|Invalid"):
            os.truncate(opened.fileno(), 2**63 - 1)
        try:
            os.truncate(opened.fileno(), 10**15)
        except OSError as error:
            assert os.strerror(error.errno) in ("File too large", "No space left on device")  # noqa: PT017
        assert file.stat().st_blocks == 0
        with pytest.raises(OSError, match=r"File too large|Invalid"):
            os.pwrite(opened.fileno(), b"xx", 2**63 - 1)


def test_extended_attributes_are_packed_as_linux_does(shared: Mount) -> None:
    file = shared.workspace / "attributed"
    file.write_text("")
    os.setxattr(file, "user.a", b"1")
    os.setxattr(file, "user.b", struct.pack("q", 5))
    assert sorted(os.listxattr(file)) == ["user.a", "user.b"]
    with pytest.raises(FileExistsError):
        os.setxattr(file, "user.a", b"2", os.XATTR_CREATE)
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        os.setxattr(file, "user.c", b"2", os.XATTR_REPLACE)
    with pytest.raises(OSError, match=r"Numerical result|too long|Argument"):
        os.setxattr(file, "user." + "n" * 251, b"")
    with pytest.raises(OSError, match=r"too long|Numerical"):
        os.setxattr(file, "user.big", b"x" * 65_537)
    assert os.getxattr(shared.host / "attributed", "user.a") == b"1"
