"""The commands that need no mount, as processes of their own."""

import base64
import json
import os
import pty
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.commands import TIME_OUT_S, Oanix

pytestmark = pytest.mark.slow


def test_ls_lists_the_default_namespace_of_the_current_directory(oanix: Oanix) -> None:
    assert oanix("ls").stdout == b"agents\ncap\ndev\ndist\njobs\nlogs\nproc\nrelay\nworkspace\n"
    assert oanix("ls", "/workspace").stdout == b"folder\nhello.txt\n"


def test_ls_of_another_directory_and_of_a_recipe(oanix: Oanix) -> None:
    assert oanix("ls", "-C", oanix.here / "folder", "/workspace").stdout == b""
    assert oanix("ls", "-n", oanix.recipe("mount workspace:. /w")).stdout == b"w\n"
    assert oanix("ls", "-n", "-", "/x", stdin=b"mount dev /x\n").stdout.startswith(b"README\n")


def test_ls_of_several_directories_heads_each(oanix: Oanix) -> None:
    done = oanix("ls", "/workspace/folder", "/workspace", "/workspace/hello.txt")
    assert (
        done.stdout
        == b"/workspace/folder:\n\n/workspace:\nfolder\nhello.txt\n/workspace/hello.txt\n"
    )


def test_ls_long_shows_modes_and_where_links_lead(oanix: Oanix) -> None:
    (oanix.here / "link").symlink_to("hello.txt")
    os.chmod(oanix.here / "hello.txt", 0o640)
    lines = oanix("ls", "-l", "/workspace").stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["drwxr-xr-x", "-rw-r-----", "lrwxrwxrwx"]
    assert lines[1].split()[4] == "6"
    assert lines[2].endswith(" link -> hello.txt")


def test_ls_names_what_is_missing_and_goes_on(oanix: Oanix) -> None:
    done = oanix("ls", "/none", "/workspace")
    assert done.returncode == 1
    assert done.stderr == b"oanix: /none: no such file or directory\n"
    assert b"hello.txt" in done.stdout


def test_names_are_raw_in_a_pipe_and_escaped_on_a_terminal(oanix: Oanix) -> None:
    (Path(os.fsdecode(bytes(oanix.here) + b"/\xff\n\x1b[2J"))).touch()
    assert b"\xff\n\x1b[2J\n" in oanix("ls", "/workspace").stdout
    ours, theirs = pty.openpty()
    subprocess.run(
        oanix.command("ls", "/workspace"), stdout=theirs, stdin=theirs, env=oanix.env,
        cwd=oanix.here, check=True, timeout=TIME_OUT_S,
    )  # fmt: skip
    os.close(theirs)
    # What was written last may come a moment later, so it is read to its end.
    shown = b""
    with suppress(OSError):  # EIO, once nobody has the terminal any more
        while piece := os.read(ours, 65_536):
            shown += piece
    os.close(ours)
    assert b"\\xff\\n\\x1b[2J" in shown
    assert b"\x1b" not in shown


def test_json_listings_are_valid_whatever_the_names_are(oanix: Oanix) -> None:
    (Path(os.fsdecode(bytes(oanix.here / "folder") + b"/\xff"))).touch()
    (found,) = json.loads(oanix("ls", "--json", "/workspace/folder").stdout)
    assert found["name"] == "\ufffd"
    assert base64.b64decode(found["name_b64"]) == b"\xff"
    assert found["type"] == "regular file"


def test_stat_shows_attributes_and_the_mount(oanix: Oanix) -> None:
    shown = dict(
        line.split(maxsplit=1)
        for line in oanix("stat", "/workspace/hello.txt").stdout.decode().splitlines()
    )
    assert shown["path"] == "/workspace/hello.txt"
    assert (shown["size"], shown["type"], shown["service"]) == ("6", "regular file", "workspace")
    (found,) = json.loads(oanix("stat", "--json", "/proc").stdout)
    assert (found["path"], found["service"], found["access"]) == ("/proc", "proc", "rw")
    assert oanix("stat", "/none").returncode == 1


def test_tree_draws_and_counts(oanix: Oanix) -> None:
    (oanix.here / "folder" / "deep").mkdir()
    (oanix.here / "folder" / "deep" / "x").touch()
    assert oanix("tree", "/workspace").stdout.decode() == (
        "/workspace\n"
        "├── folder\n"
        "│   └── deep\n"
        "│       └── x\n"
        "└── hello.txt\n"
        "\n"
        "2 directories, 2 files\n"
    )
    assert "deep" not in oanix("tree", "-L", "1", "/workspace").stdout.decode()
    assert oanix("tree", "-L", "0").returncode == 2


def test_tree_goes_as_deep_as_a_path_can_be(oanix: Oanix) -> None:
    here = os.open(oanix.here, os.O_DIRECTORY)
    for _ in range(1_500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    done = oanix("tree", "/workspace")
    # pytest itself cannot: it removes directories recursively.
    subprocess.run(["rm", "-r", oanix.here / "d"], check=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b"1501 directories, 1 file\n")


def test_cat_prints_files_in_order_and_names_what_is_missing(oanix: Oanix) -> None:
    done = oanix("cat", "/workspace/hello.txt", "/none", "/workspace/hello.txt", "/workspace")
    assert done.stdout == b"hello\nhello\n"
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == b"oanix: /none: no such file or directory"
    assert b"is a directory" in done.stderr.splitlines()[1]


def test_what_is_written_can_be_read(oanix: Oanix) -> None:
    data = bytes(range(256)) * 2048
    assert oanix("write", "/workspace/new", stdin=data).returncode == 0
    assert oanix("write", "--append", "/workspace/new", stdin=b"end").returncode == 0
    assert (oanix.here / "new").read_bytes() == data + b"end"
    assert oanix("cat", "/workspace/new").stdout == data + b"end"
    assert oanix("write", "/workspace/new").returncode == 0
    assert (oanix.here / "new").read_bytes() == b""


def test_a_log_is_appended_to_and_stays(oanix: Oanix) -> None:
    refused = oanix("write", "/logs/a.log", stdin=b"x\n")
    assert refused.returncode == 1
    assert b"append" in refused.stderr
    for line in (b"one\n", b"two\n"):
        assert oanix("write", "--append", "/logs/a.log", stdin=line).returncode == 0
    assert oanix("cat", "/logs/a.log").stdout == b"one\ntwo\n"


def test_what_is_logged_is_signed_with_the_user_and_the_process(oanix: Oanix) -> None:
    process = oanix.start("write", "--append", "/logs/events.jsonl")
    process.communicate(b"{}\n", timeout=TIME_OUT_S)
    (event,) = oanix("cat", "/logs/events.jsonl").stdout.splitlines()
    assert json.loads(event)["source"] == f"owner pid={process.pid} uid={os.geteuid()}"


def test_commands_at_the_same_time_wait_for_each_other(oanix: Oanix) -> None:
    started = [oanix.start("write", "--append", "/logs/a.log") for _ in range(4)]
    for number, process in enumerate(started):
        assert process.stdin is not None
        process.stdin.write(b"%d\n" % number)
        process.stdin.close()
        process.stdin = None
    said = [process.communicate(timeout=TIME_OUT_S) for process in started]
    assert [process.returncode for process in started] == [0] * 4, said
    assert sorted(oanix("cat", "/logs/a.log").stdout.split()) == [b"0", b"1", b"2", b"3"]


def test_a_reader_that_goes_away_ends_a_command_quietly(oanix: Oanix) -> None:
    for words in (["cat", "/dev/zero"], ["tree", "/"], ["ns"], ["ls", "--json", "-n", "-", "/m"]):
        process = oanix.start(*words)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"mount dev /m\n") if "-n" in words else None
        process.stdin.close()
        assert process.wait(TIME_OUT_S) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""
        process.stderr.close()


@pytest.mark.parametrize("_again", range(8))
def test_ctrl_c_ends_a_reader_of_an_endless_file_quietly(oanix: Oanix, _again: int) -> None:
    process = oanix.start("cat", "/logs/README", "/logs/follow")
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=TIME_OUT_S)
    assert process.returncode == 128 + signal.SIGINT
    assert said == b""


def test_completion_prints_a_script_for_each_shell(oanix: Oanix) -> None:
    for shell in ("bash", "zsh", "fish"):
        done = oanix("completion", shell)
        assert done.returncode == 0, done.stderr
        assert b"_OANIX_COMPLETE=" in done.stdout
    assert oanix("completion", "csh").returncode == 2


def test_a_shell_completes_commands(oanix: Oanix) -> None:
    completing = Oanix(
        oanix.state, oanix.here,
        {"_OANIX_COMPLETE": "bash_complete", "COMP_WORDS": "oanix un", "COMP_CWORD": "1"},
    )  # fmt: skip
    assert completing().stdout == b"plain,unmount\nplain,unbind\n"


def test_a_shell_completes_audit_with_its_commands_directories_and_options(oanix: Oanix) -> None:
    def completed(words: str) -> bytes:
        variables = {"_OANIX_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": "2"}
        return Oanix(oanix.state, oanix.here, variables)().stdout

    assert completed("oanix audit ") == b"plain,show\nplain,verify\ndir,\n"
    assert completed("oanix audit --den") == b"plain,--denied\n"


def test_ps_of_nothing_is_empty(oanix: Oanix) -> None:
    assert oanix("ps").stdout == b""
    assert json.loads(oanix("ps", "--json").stdout) == []


def test_version_and_help_are_told(oanix: Oanix) -> None:
    assert oanix("--version").stdout.startswith(b"oanix ")
    assert b"Examples:" in oanix("--help").stdout
    assert oanix("-h").stdout == oanix("--help").stdout
    # Rules are shown as they are written, a line each.
    assert b"\n    pow 20 kind=1\n" in oanix("relay", "serve", "--help").stdout


@pytest.mark.parametrize("command", ["unmount", "bind", "unbind", "ns"])
def test_what_needs_a_mount_says_that_there_is_none(oanix: Oanix, command: str) -> None:
    words = {"bind": ["/a", "/b"], "unbind": ["/a"]}.get(command, [])
    done = oanix(command, oanix.here, *words)
    assert done.returncode == 1
    assert b"mounted" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
