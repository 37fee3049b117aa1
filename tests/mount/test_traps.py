"""The traps of FUSE and pyfuse3, each seen once and covered here."""

import concurrent.futures
import errno
import mmap
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.mount.mounting import Mount, end, holds, start, wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

KINDS = ["value", "memory", "group", "recursion", "unicode"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_that_raises_anything_costs_one_eio(shared: Mount, kind: str) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        (shared.path / "trouble" / f"open-{kind}").read_bytes()
    with pytest.raises(OSError, match="Input/output error"):
        (shared.path / "trouble" / f"read-{kind}").read_bytes()
    descriptor = os.open(shared.path / "trouble" / f"read-{kind}", os.O_WRONLY)
    with pytest.raises(OSError, match="Input/output error"):
        os.write(descriptor, b"x")
    with pytest.raises(OSError, match="Input/output error"):
        os.close(descriptor)  # flush
    assert (shared.path / "dev" / "null").read_bytes() == b""


def test_a_defect_in_a_directory_costs_eio_and_no_more(shared: Mount) -> None:
    folder = shared.path / "trouble" / "folder"
    with pytest.raises(OSError, match="Input/output error"):
        os.listdir(folder)
    with pytest.raises(OSError, match="Input/output error"):
        os.stat(folder / "x")
    with pytest.raises(OSError, match="Input/output error"):
        os.getxattr(shared.path / "trouble" / "xattr", "user.x")
    assert os.listdir(folder.parent)


def test_a_defect_is_logged_once_and_told_in_errstr(shared: Mount) -> None:
    script = f"cat {shared.path}/trouble/open-told; cat {shared.path}/dev/errstr"
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert "Address already in use" in said.stderr
    assert "open /trouble/open-told: the sentence of an error\n" in said.stdout


def test_two_hundred_blocked_readers_slow_nobody(mount: Mount) -> None:
    readers = [
        subprocess.Popen(["cat", mount.path / "trouble" / "silent"], stdout=subprocess.DEVNULL)
        for _ in range(200)
    ]
    try:
        wait_until(lambda: all(_sleeps(reader.pid) for reader in readers))
        (mount.host / "file").write_text("x")
        begun = time.monotonic()
        assert (mount.workspace / "file").read_text() == "x"
        assert time.monotonic() - begun < 1
    finally:
        for reader in readers:
            reader.terminate()
        for reader in readers:
            reader.wait(30)


def _sleeps(pid: int) -> bool:
    # Blocked in the read: asleep, and neither starting up nor ended.
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    wchan = Path(f"/proc/{pid}/wchan").read_text()
    return state in "SD" and ("fuse" in wchan or "request_wait" in wchan or wchan == "0")


READERS = {
    "cat": ["cat", "FILE"],
    "head": ["head", "-n", "1", "FILE"],
    "jq": ["jq", ".", "FILE"],
    "awk": ["awk", "{print}", "FILE"],
    "sed": ["sed", "p", "FILE"],
    "grep": ["grep", "x", "FILE"],
    "perl": ["perl", "-ne", "print", "FILE"],
    "bash": ["bash", "-c", "read -r line < FILE"],
    "dd": ["dd", "if=FILE", "bs=1k", "count=1"],
    "python": [sys.executable, "-c", "open('FILE').read()"],
    "node": ["node", "-e", "require('fs').readFileSync('FILE')"],
    "child of the opener": ["bash", "-c", "exec 3<FILE; cat <&3; true"],
    "thread": [
        sys.executable,
        "-c",
        "import threading; t = threading.Thread(target=lambda: open('FILE').read());"
        "t.start(); t.join()",
    ],
    # Not as its first process, which no signal but KILL ends.
    "pid namespace": ["unshare", "--fork", "--pid", "--mount-proc", "sh", "-c", "cat FILE; true"],
}


@pytest.mark.parametrize("signal_name", ["TERM", "KILL", "INT"])
@pytest.mark.parametrize("reader", READERS)
def test_a_signalled_reader_leaves(shared: Mount, reader: str, signal_name: str) -> None:
    file = shared.path / "trouble" / "silent"
    command = [word.replace("FILE", str(file)) for word in READERS[reader]]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    if reader == "pid namespace" and os.geteuid():
        pytest.skip("a pid namespace takes root")
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        program = "cat" if reader in ("child of the opener", "pid namespace") else ""
        wait_until(lambda: _held_in(process.pid, file, program))
        subprocess.run(["pkill", f"-{signal_name}", "-s", str(process.pid)], check=False)
        # The stated figure is 250 ms; ten times that is the limit here.
        process.wait(2.5)
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
        process.wait(10)


def _held_in(session: int, file: Path, program: str) -> bool:
    """Tell whether a process of the session, which runs the program if one is named, has it open.

    A shell that waits for its reader ends by Ctrl-C when the reader does: the reader must be there.
    """
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return any(
        holds(pid, file) and _session_of(pid) == session and program in _program_of(pid)
        for pid in pids
    )


def _program_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_a_silent_stream_times_out_in_poll_and_data_wakes_it(shared: Mount) -> None:
    stream = os.open(shared.path / "trouble" / "stream", os.O_RDONLY)
    try:
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        assert poll.poll(100) == []
        writer = threading.Timer(0.1, (shared.path / "trouble" / "say").write_bytes, [b"hello\n"])
        writer.start()
        assert poll.poll(10_000) == [(stream, select.POLLIN)]
        assert os.read(stream, 100) == b"hello\n"
        writer.join()
        assert poll.poll(0) == []
    finally:
        os.close(stream)


def test_a_stream_opened_with_nonblock_says_eagain(shared: Mount) -> None:
    stream = os.open(shared.path / "trouble" / "silent", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        os.read(stream, 10)
    os.close(stream)


def test_a_blocked_read_does_not_keep_another_file_from_being_written(shared: Mount) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        stream = os.open(shared.path / "trouble" / "stream", os.O_RDONLY)
        answer = pool.submit(os.read, stream, 100)
        (shared.path / "trouble" / "say").write_bytes(b"to you\n")
        assert answer.result(20) == b"to you\n"
        os.close(stream)


def test_a_write_that_waits_waits_briefly_then_eagain(shared: Mount) -> None:
    begun = time.monotonic()
    with pytest.raises(BlockingIOError):
        (shared.path / "trouble" / "full").write_bytes(b"x")
    assert time.monotonic() - begun < 10


def test_a_snapshot_has_its_exact_size_from_the_open_on(shared: Mount, tmp_path: Path) -> None:
    source = shared.path / "trouble" / "snapshot"
    copies = [tmp_path / "a", tmp_path / "b"]
    for copy in copies:
        shutil.copyfile(source, copy)
    assert copies[0].stat().st_size > 0
    assert copies[1].stat().st_size > copies[0].stat().st_size
    with source.open("rb") as file:
        assert os.fstat(file.fileno()).st_size == len(file.read())


def test_real_files_can_be_mapped_and_synthetic_ones_not_shared(shared: Mount) -> None:
    file = shared.workspace / "mapped"
    file.write_bytes(b"a" * 8192)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as view:
        view[:3] = b"xyz"
        view.flush()
    assert (shared.host / "mapped").read_bytes()[:4] == b"xyza"
    with (shared.path / "trouble" / "snapshot").open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        with pytest.raises(OSError, match="No such device"):
            mmap.mmap(opened.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ)


def test_the_server_never_touches_its_own_mount(tmp_path: Path) -> None:
    mountpoint = tmp_path / "project" / "sub" / "mnt"
    mountpoint.mkdir(parents=True)
    (tmp_path / "project" / "file").write_text("found")
    mounted = start(mountpoint, tmp_path / "project")
    try:
        found = subprocess.run(
            ["find", mountpoint / "workspace"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert f"{mountpoint}/workspace/sub/mnt" in found.stdout.splitlines()
        assert (mountpoint / "workspace" / "file").read_text() == "found"
        assert os.listdir(mountpoint / "workspace" / "sub" / "mnt") == []
    finally:
        end(mounted)


def test_programs_that_read_every_file_end(mount: Mount) -> None:
    (mount.host / "a").write_text("needle\n")
    shell = f"""
        cd {mount.path}
        timeout 50 grep -r needle . ; echo grep $?
        timeout 50 tar c . 2>/dev/null | wc -c >/dev/null; echo tar ${{PIPESTATUS[0]}}
        timeout 50 find . -type f -exec cat {{}} + >/dev/null 2>&1; echo find $?
    """
    said = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert "./workspace/a:needle" in said
    for line in ("grep 124", "tar 124", "find 124"):
        assert line not in said


def test_endless_files_are_listed_where_the_mount_says_so(folders: tuple[Path, Path]) -> None:
    mounted = start(*folders, "list-all")
    try:
        assert "zero" in os.listdir(mounted.path / "dev")
    finally:
        end(mounted)


def test_endless_files_open_by_name_and_are_not_listed(shared: Mount) -> None:
    assert "zero" not in os.listdir(shared.path / "dev")
    with (shared.path / "dev" / "zero").open("rb") as zero:
        assert zero.read(10) == bytes(10)


def test_a_listing_names_the_directory_and_its_parent(shared: Mount) -> None:
    said = subprocess.run(
        ["ls", "-ai", shared.path / "dev"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert (said[1], said[3]) == (".", "..")
    assert int(said[0]) == (shared.path / "dev").stat().st_ino
    assert int(said[2]) == shared.path.stat().st_ino


def test_a_listing_that_was_kept_is_dropped_when_something_changes(shared: Mount) -> None:
    folder = shared.workspace / "listed"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_text(name)

    def sizes() -> dict[str, int]:
        return {entry.name: entry.stat().st_size for entry in os.scandir(folder)}

    assert sizes() == sizes() == {"a": 1, "b": 1, "c": 1}
    (folder / "a").write_text("longer")
    (folder / "b").unlink()
    (folder / "d").write_text("")
    os.rename(folder / "c", folder / "e")
    assert sizes() == sizes() == {"a": 6, "d": 0, "e": 1}
    (shared.host / "listed" / "a").write_text("on the host")
    (shared.host / "listed" / "f").mkdir()
    wait_until(lambda: sizes().get("a") == 11 and "f" in sizes())


def test_a_refused_operation_is_not_refused_for_ever(shared: Mount) -> None:
    # ENOSYS would hold for the whole connection.
    with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
        os.setxattr(shared.path / "trouble" / "snapshot", "user.x", b"1")
    file = shared.path / "mem" / "xattr"
    file.write_text("")
    os.setxattr(file, "user.x", b"1")
    assert os.getxattr(file, "user.x") == b"1"


def test_one_process_serves_one_mount(shared: Mount, tmp_path: Path) -> None:
    program = """
import sys, trio
from mounts.fuse import serve
from oanix.namespace import Namespace

async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, Namespace(), sys.argv[1])
        try:
            await serve(Namespace(), sys.argv[2])
        except OSError as error:
            print(error.strerror)
        nursery.cancel_scope.cancel()

trio.run(main)
"""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    said = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "one", tmp_path / "two"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "one mount" in said.stdout
