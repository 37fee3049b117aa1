"""How a mount begins and ends, also when its server is killed."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from mounts import stale
from tests.mount.mounting import READY_S, Mount, end, holds, start, wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_server_and_undoes_the_mount(mount: Mount, number: int) -> None:
    mount.process.send_signal(number)
    assert mount.process.wait(READY_S) == 0
    assert stale.find(str(mount.path)) is None
    assert os.listdir(mount.path) == []


def test_the_server_ends_when_it_is_unmounted_from_outside(mount: Mount) -> None:
    subprocess.run(["fusermount3", "-u", mount.path], check=True)
    assert mount.process.wait(READY_S) == 0


def test_the_mount_ends_with_readers_and_writers_at_work(mount: Mount) -> None:
    silent = mount.path / "trouble" / "silent"
    reader = subprocess.Popen(["cat", silent], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: holds(reader.pid, silent))
    writer = os.open(mount.workspace / "open", os.O_WRONLY | os.O_CREAT)
    assert os.write(writer, b"x") == 1
    assert mount.stop() == 0
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.write(writer, b"y")
    # close reports the failed flush, and closes all the same (close(2)).
    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.close(writer)
    said = reader.communicate(timeout=READY_S)[1]
    assert "Interrupted" in said or "not connected" in said or "abort" in said
    assert (mount.host / "open").read_bytes() == b"x"
    assert stale.find(str(mount.path)) is None


def test_a_killed_server_leaves_no_mount(mount: Mount) -> None:
    mount.process.kill()
    mount.process.wait()
    wait_until(lambda: stale.find(str(mount.path)) is None)


def test_a_stale_mount_is_cleared_at_the_next_start(folders: tuple[Path, Path]) -> None:
    mounted = start(*folders)
    os.stat(mounted.path)  # so that the kernel remembers it
    # The guard dies first, as when a whole control group is killed.
    for child in Path(f"/proc/{mounted.process.pid}/task").iterdir():
        for guard in (child / "children").read_text().split():
            os.kill(int(guard), signal.SIGKILL)
    mounted.process.kill()
    end(mounted)
    mounted.process.wait()
    assert stale.is_dead(str(mounted.path))
    again = start(*folders)
    try:
        assert os.listdir(again.path)
    finally:
        end(again)


def test_what_was_synced_before_a_kill_is_whole(folders: tuple[Path, Path]) -> None:
    mounted = start(*folders)
    done: list[int] = []
    stop = threading.Event()

    def write() -> None:
        for number in range(100_000):
            if stop.is_set():
                return
            try:
                with (mounted.workspace / f"{number}").open("wb") as file:
                    file.write(b"%d\n" % number * 1000)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                return
            done.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: len(done) > 50)
    mounted.process.kill()
    mounted.process.wait()
    writer.join(READY_S)
    stop.set()
    assert not writer.is_alive()
    wait_until(lambda: stale.find(str(mounted.path)) is None)
    end(mounted)
    again = start(*folders)
    try:
        for number in done:
            assert (again.workspace / f"{number}").read_bytes() == b"%d\n" % number * 1000
    finally:
        end(again)


def test_a_stopped_server_goes_on(mount: Mount) -> None:
    mount.process.send_signal(signal.SIGSTOP)
    reader = subprocess.Popen(["ls", mount.path], stdout=subprocess.DEVNULL)
    with pytest.raises(subprocess.TimeoutExpired):
        reader.wait(1)
    assert not stale.is_dead(str(mount.path))
    mount.process.send_signal(signal.SIGCONT)
    assert reader.wait(READY_S) == 0


def _refusal(mountpoint: Path, host: Path) -> str:
    with pytest.raises(AssertionError) as refused:
        start(mountpoint, host)
    return str(refused.value)


def test_a_mount_point_that_cannot_be_used_is_refused_with_a_remedy(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    mountpoint, host = folders
    assert "mkdir" in _refusal(tmp_path / "missing", host)
    (tmp_path / "plain").write_text("")
    assert "no directory" in _refusal(tmp_path / "plain", host)
    (mountpoint / "file").write_text("")
    assert "nonempty" in _refusal(mountpoint, host)


def test_a_mount_point_in_use_is_refused(mount: Mount) -> None:
    assert "mounted here already" in _refusal(mount.path, mount.host)
