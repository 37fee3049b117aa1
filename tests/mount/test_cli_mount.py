"""`oanix mount` and the commands for what is mounted, as a user runs them."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mounts import stale
from tests.commands import TIME_OUT_S, Oanix

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


@pytest.fixture
def oanix(tmp_path: Path) -> Oanix:
    """The command line, with a directory that has something in it and an empty mount point."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "hello.txt").write_text("hello\n")
    (tmp_path / "mnt").mkdir()
    return Oanix(tmp_path / "state", here)


@pytest.fixture
def mnt(tmp_path: Path) -> Path:
    return tmp_path / "mnt"


@pytest.fixture
def mounted(oanix: Oanix, mnt: Path) -> Iterator[Path]:
    """The default namespace of the directory, mounted by a daemon."""
    done = oanix("mount", "--daemon", mnt)
    assert done.returncode == 0, done.stderr
    yield mnt
    oanix("unmount", "--lazy", mnt)
    _ended(_pid(done.stderr))


def _pid(said: bytes) -> int:
    found = re.search(rb"process (\d+)", said)
    assert found, said
    return int(found[1])


def _ended(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], TIME_OUT_S)[0]
    os.close(descriptor)


def _foreground(oanix: Oanix, *words: str | Path) -> "subprocess.Popen[bytes]":
    process = oanix.start("mount", *words)
    assert process.stderr is not None
    assert process.stdin is not None
    process.stdin.close()
    process.stdin = None
    line = process.stderr.readline()
    assert line.startswith(b"oanix: mounted"), line + process.stderr.read()
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_mount_in_the_foreground_ends_by_a_signal(oanix: Oanix, mnt: Path, number: int) -> None:
    process = _foreground(oanix, mnt)
    assert (mnt / "workspace" / "hello.txt").read_text() == "hello\n"
    process.send_signal(number)
    out, said = process.communicate(timeout=TIME_OUT_S)
    assert (process.returncode, out) == (0, b"")
    assert said == f"oanix: unmounted {mnt}\n".encode()
    assert os.listdir(mnt) == []
    assert oanix("ps").stdout == b""


def test_a_mount_leaves_a_signal_ignored_that_was_ignored(oanix: Oanix, mnt: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = _foreground(oanix, mnt)
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    status = Path(f"/proc/{process.pid}/status").read_text()
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    assert ignored >> (signal.SIGHUP - 1) & 1
    assert (mnt / "workspace" / "hello.txt").read_text() == "hello\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=TIME_OUT_S)
    assert process.returncode == 0


def test_a_mount_in_the_foreground_ends_by_unmount(oanix: Oanix, mnt: Path) -> None:
    process = _foreground(oanix, oanix.here, mnt)
    # Many requests at once, so that the server has many workers.
    subprocess.run(["grep", "-rc", "nothing", mnt / "workspace"], check=False, capture_output=True)
    assert oanix("unmount", mnt).returncode == 0
    _, said = process.communicate(timeout=TIME_OUT_S)
    assert process.returncode == 0
    assert said.endswith(b"unmounted " + bytes(mnt) + b"\n")


def test_a_daemon_is_usable_when_its_command_returns(oanix: Oanix, mounted: Path) -> None:
    assert sorted(os.listdir(mounted)) == [
        "agents",
        "cap",
        "dev",
        "dist",
        "jobs",
        "logs",
        "proc",
        "relay",
        "workspace",
    ]
    (mounted / "workspace" / "new").write_text("new")
    assert (oanix.here / "new").read_text() == "new"


def test_unmount_returns_when_the_server_has_ended(oanix: Oanix, mnt: Path) -> None:
    for _ in range(3):
        assert oanix("mount", "--daemon", mnt).returncode == 0
        assert oanix("unmount", mnt).returncode == 0
        assert oanix("ps").stdout == b""
    done = oanix("unmount", mnt)
    assert done.returncode == 1
    assert b"nothing of ours is mounted" in done.stderr


def test_a_link_to_a_mount_point_can_be_mounted_on_and_unmounted(oanix: Oanix, mnt: Path) -> None:
    link = mnt.with_name("link")
    link.symlink_to(mnt)
    assert oanix("mount", "--daemon", link).returncode == 0
    done = oanix("unmount", link)
    oanix("unmount", "--lazy", mnt)
    assert done.returncode == 0, done.stderr


def test_a_mount_in_use_is_unmounted_only_lazily(oanix: Oanix, mounted: Path) -> None:
    with (mounted / "workspace" / "hello.txt").open() as file:
        busy = oanix("unmount", mounted)
        assert busy.returncode == 1
        assert b"--lazy" in busy.stderr
        assert oanix("unmount", "--lazy", mounted).returncode == 0
        assert os.listdir(mounted) == []
        assert file.read() == "hello\n"


def test_ps_tells_what_is_served(oanix: Oanix, mounted: Path) -> None:
    head, line = oanix("ps").stdout.decode().splitlines()[:2]
    assert head.split() == ["PID", "SINCE", "OPERATIONS", "MOUNTPOINT", "SERVES"]
    assert line.split()[-2:] == [str(mounted), str(oanix.here)]
    (run,) = json.loads(oanix("ps", "--json").stdout)
    assert (run["mountpoint"], run["serves"]) == (str(mounted), str(oanix.here))
    assert "mount dev /dev" in run["recipe"]
    assert Path(run["log"]).is_file()
    assert {service["name"] for service in run["services"]} == {
        "workspace", "logs", "dev", "proc", "http", "ws", "secrets", "relay", "nostr", "jobs",
        "agents",
    }  # fmt: skip


def test_a_second_server_of_the_directory_is_refused(
    oanix: Oanix, mounted: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    for words in (["mount", tmp_path / "other"], ["mount", "--daemon", tmp_path / "other"], ["ls"]):
        done = oanix(*words)
        assert done.returncode == os.EX_TEMPFAIL
        assert f"at {mounted}; use {mounted}".encode() in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_ns_prints_the_live_recipe_and_compares_it(oanix: Oanix, mounted: Path) -> None:
    printed = oanix("ns", mounted).stdout
    assert printed == (mounted / "proc" / "self" / "ns").read_bytes()
    assert oanix("ns", mounted / "workspace").stdout == printed
    (oanix.here / "saved.ns").write_bytes(printed)
    assert oanix("ns", "diff", "saved.ns", mounted).returncode == 0
    assert oanix("bind", mounted, "/workspace", "/src").returncode == 0
    changed = oanix("ns", "diff", "saved.ns", mounted)
    assert changed.returncode == 1
    assert b"+bind /workspace /src" in changed.stdout
    checked = oanix("ns", "check", "saved.ns")
    assert checked.returncode == 0
    assert b"only the mounts were looked at" in checked.stderr


def test_bind_and_unbind_change_a_live_namespace(oanix: Oanix, mounted: Path) -> None:
    (oanix.here / "a b\udcff").mkdir()
    (oanix.here / "a b\udcff" / "x").touch()
    assert oanix("bind", mounted, "/workspace/a b\udcff", '/odd "name', "ro").returncode == 0
    odd = mounted / 'odd "name'
    assert os.listdir(odd) == ["x"]
    with pytest.raises(OSError, match="Read-only"):
        (odd / "y").touch()
    assert oanix("unbind", mounted, '/odd "name').returncode == 0
    assert not odd.exists()
    assert oanix("bind", "-a", "-c", mounted, "/dist", "/workspace", "exclude=*.o").returncode == 0


def test_what_cannot_be_bound_is_told_in_the_words_of_the_server(
    oanix: Oanix, mounted: Path
) -> None:
    missing = oanix("bind", mounted, "/none", "/x")
    assert missing.returncode == 1
    assert missing.stderr.splitlines() == [
        b"oanix: /none: no such file or directory", b"  the line was: bind /none /x",
    ]  # fmt: skip
    nothing = oanix("unbind", mounted, "/x")
    assert b"nothing is mounted at /x" in nothing.stderr


def test_a_recipe_is_mounted_without_proc_and_dev(oanix: Oanix, mnt: Path) -> None:
    recipe = oanix.recipe("mount workspace:. /w", "bind /w /v ro")
    process = _foreground(oanix, "-n", recipe, mnt)
    assert (mnt / "v" / "hello.txt").read_text() == "hello\n"
    assert oanix("ns", mnt).stdout.endswith(b"bind /w /v ro\n")
    refused = oanix("bind", mnt, "/w", "/x")
    assert refused.returncode == 1
    assert b"mount proc /proc" in refused.stderr
    process.terminate()
    process.communicate(timeout=TIME_OUT_S)


def test_a_read_only_mount_takes_no_write(oanix: Oanix, mnt: Path) -> None:
    process = _foreground(oanix, "--ro", mnt)
    with pytest.raises(OSError, match="Read-only"):
        (mnt / "workspace" / "x").touch()
    process.terminate()
    process.communicate(timeout=TIME_OUT_S)


def test_what_is_mounted_read_only_is_not_bound_and_says_why(oanix: Oanix, mnt: Path) -> None:
    process = _foreground(oanix, "-o", "ro", mnt)
    done = oanix("bind", mnt, "/workspace", "/w")
    process.terminate()
    process.communicate(timeout=TIME_OUT_S)
    assert done.returncode == os.EX_NOPERM
    assert b"mounted read-only" in done.stderr
    assert b"without ro" in done.stderr


def test_a_directory_can_be_served_within_itself(oanix: Oanix) -> None:
    (oanix.here / "mnt").mkdir()
    process = _foreground(oanix, ".", "mnt")
    assert os.listdir(oanix.here / "mnt" / "workspace" / "mnt") == []
    process.terminate()
    process.communicate(timeout=TIME_OUT_S)
    assert process.returncode == 0


def test_a_mount_that_would_hide_what_it_needs_is_refused(
    oanix: Oanix, mnt: Path, tmp_path: Path
) -> None:
    for words in ([oanix.here], [tmp_path], [mnt, tmp_path], [oanix.here, tmp_path / "state"]):
        done = oanix("mount", "-o", "nonempty", *words)
        assert done.returncode == os.EX_CANTCREAT, words
        assert b"would hide" in done.stderr


@pytest.mark.parametrize("daemon", [[], ["--daemon"]])
def test_a_mount_point_that_cannot_be_used_is_refused(
    oanix: Oanix, tmp_path: Path, daemon: list[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    for name, says in (("none", b"mkdir"), ("file", b"choose a dir"), ("full", b"-o nonempty")):
        done = oanix("mount", *daemon, tmp_path / name)
        assert done.returncode == os.EX_CANTCREAT
        assert says in done.stderr
        assert len(done.stderr.splitlines()) <= 2
    assert oanix("ps").stdout == b""


def test_a_mount_point_with_files_is_used_when_that_is_wanted(oanix: Oanix, mnt: Path) -> None:
    (mnt / "hidden").touch()
    process = _foreground(oanix, "-o", "nonempty", mnt)
    assert "hidden" not in os.listdir(mnt)
    process.terminate()
    process.communicate(timeout=TIME_OUT_S)
    assert os.listdir(mnt) == ["hidden"]


def test_a_mount_point_in_use_is_refused(oanix: Oanix, mounted: Path) -> None:
    done = oanix("mount", "-n", oanix.recipe("mount mem /m"), mounted)
    assert done.returncode == os.EX_CANTCREAT
    assert b"mounted here already" in done.stderr
    assert b"oanix unmount " + bytes(mounted) in done.stderr


def test_an_empty_word_is_no_directory_to_serve(oanix: Oanix, mnt: Path) -> None:
    done = oanix("mount", "--daemon", "", mnt)
    assert done.returncode == 2
    assert b"write . for this one" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may mount anywhere")
def test_a_mount_point_of_another_user_is_refused_with_a_remedy(oanix: Oanix) -> None:
    done = oanix("mount", "-o", "nonempty", "/usr")
    assert done.returncode == os.EX_NOPERM
    assert b"of your own" in done.stderr


def test_a_killed_server_leaves_nothing_that_stops_the_next(oanix: Oanix, mnt: Path) -> None:
    pid = _pid(oanix("mount", "--daemon", mnt).stderr)
    os.kill(pid, signal.SIGKILL)
    _ended(pid)
    assert oanix("ps").stdout == b""
    assert oanix("mount", "--daemon", mnt).returncode == 0
    assert os.listdir(oanix.state / "run") != []
    assert oanix("unmount", mnt).returncode == 0


def test_an_unknown_option_is_a_wrong_command_line(oanix: Oanix, mnt: Path) -> None:
    done = oanix("mount", "-o", "fast", mnt)
    assert done.returncode == 2
    assert b"'fast' is no mount option; known: ro," in done.stderr


def test_a_bad_recipe_is_told_by_the_command_that_starts_a_daemon(oanix: Oanix, mnt: Path) -> None:
    done = oanix("mount", "--daemon", "-n", oanix.recipe("mount mem /m", "unmount /x"), mnt)
    assert done.returncode == os.EX_DATAERR
    assert done.stderr.startswith(b"oanix: " + bytes(oanix.here) + b"/recipe.ns:2:9: ")
    log = next((oanix.state / "log").iterdir()).read_text()
    assert "recipe.ns:2:9" in log


def test_without_the_device_the_remedy_is_named(oanix: Oanix, mnt: Path) -> None:
    words = [str(word) for word in oanix.command("mount", mnt)]
    doctor = [str(word) for word in oanix.command("doctor", "--json")]
    script = 'mount -t tmpfs none /dev && "$@"'
    for command, code in ((words, os.EX_UNAVAILABLE), (doctor, os.EX_UNAVAILABLE)):
        done = subprocess.run(
            ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", *command],
            capture_output=True, env=oanix.env, cwd=oanix.here, check=False, timeout=TIME_OUT_S,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert b"/dev/fuse" in done.stderr + done.stdout
    (device,) = [c for c in json.loads(done.stdout) if c["name"] == "/dev/fuse"]
    assert (device["state"], device["found"]) == ("fail", "missing")
    assert "modprobe fuse" in device["remedy"]


def test_without_pyfuse3_all_but_mounting_works(oanix: Oanix, mnt: Path) -> None:
    # A package of that name that cannot be imported comes first on the path.
    broken = oanix.here.parent / "broken"
    broken.mkdir()
    (broken / "pyfuse3.py").write_text("raise ImportError('libfuse3.so.3 is missing')\n")
    path = os.pathsep.join([str(broken), os.getcwd()])
    without = Oanix(oanix.state, oanix.here, {"PYTHONPATH": path})
    done = without("mount", mnt)
    assert done.returncode == os.EX_UNAVAILABLE
    assert b"libfuse3.so.3 is missing" in done.stderr
    assert b"oanix[fuse]" in done.stderr
    assert without("ls", "/workspace").stdout == b"hello.txt\n"
    assert without("ps").returncode == 0
    assert without("unmount", mnt).returncode == 1
    doctor = without("doctor")
    assert doctor.returncode == os.EX_UNAVAILABLE
    assert re.search(rb"fail +pyfuse3", doctor.stdout)


def test_a_dead_mount_is_named_and_can_be_cleared(oanix: Oanix, mnt: Path) -> None:
    pid = _pid(oanix("mount", "--daemon", mnt).stderr)
    guards = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for process in (*map(int, guards), pid):
        os.kill(process, signal.SIGKILL)
        _ended(process)
    assert stale.is_dead(str(mnt))
    done = oanix("ns", mnt)
    assert b"is gone" in done.stderr
    assert b"oanix unmount" in done.stderr
    assert oanix("unmount", mnt).returncode == 0
    assert not stale.is_dead(str(mnt))


def test_a_shell_completes_mount_points(oanix: Oanix, mounted: Path) -> None:
    completing = Oanix(
        oanix.state, oanix.here,
        {"_OANIX_COMPLETE": "bash_complete", "COMP_WORDS": "oanix unmount ", "COMP_CWORD": "2"},
    )  # fmt: skip
    assert completing().stdout == b"plain," + bytes(mounted) + b"\n"


def test_the_command_runs_as_installed(oanix: Oanix) -> None:
    command = Path(sys.executable).with_name("oanix")
    done = subprocess.run(
        [command, "ls"], env=oanix.env, cwd=oanix.here, capture_output=True, check=True
    )
    assert b"workspace" in done.stdout
