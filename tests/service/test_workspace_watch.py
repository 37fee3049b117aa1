"""What others change on the host is told of, and what we change ourselves is not."""

import itertools
import math
import os
import sys
from pathlib import Path

import pytest
import trio

from oanix.services.workspace import WorkspaceFs, marks
from tests.service.workspaces import ME, Served, on_host, served

_numbers = itertools.count()


@pytest.fixture(autouse=True, scope="module")
def needs_fanotify(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where the host lets nobody watch; there the second of doors is all there is."""
    group = marks.Marks()
    try:
        group.open()
    except OSError as error:
        pytest.skip(f"no fanotify here: {error}")
    group.close()


async def settled(at: Served) -> None:
    """Wait until everything that has happened so far was told of."""
    name = f"settled-{next(_numbers)}"
    on_host(at.folder, f"touch {name}")
    await at.announced.until(lambda: at.announced.has(at.root, name))
    at.announced.changes.clear()


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("touch new", "new"),
        ("mkdir new", "new"),
        ("ln -s x new", "new"),
        ("ln file new", "new"),
        ("mkfifo new", "new"),
        ("rm file", "file"),
        ("rmdir folder", "folder"),
        ("mv file other", "file"),
        ("mv file other", "other"),
        ("mv ../outside .", "outside"),
    ],
)
async def test_a_name_that_comes_or_goes_is_told_of(tmp_path: Path, script: str, name: str) -> None:
    on_host(tmp_path, "mkdir -p in/folder; touch in/file outside")
    async with served(tmp_path / "in") as at:
        at.root.readdir(ME)
        on_host(tmp_path / "in", script)
        await at.announced.until(lambda: at.announced.has(at.root, name))
        assert at.announced.has(at.root)


@pytest.mark.parametrize(
    "script",
    [
        "echo more >> file",
        "echo other > file",
        "truncate -s 0 file",
        "chmod 600 file",
        "touch -d 2001-01-01 file",
        "ln file link",
        "mv file renamed",
    ],
)
async def test_a_file_that_changes_is_told_of(tmp_path: Path, script: str) -> None:
    on_host(tmp_path, "echo text > file")
    async with served(tmp_path) as at:
        channel = at.at("file")
        assert channel.caching == math.inf
        on_host(tmp_path, script)
        await at.announced.until(lambda: at.announced.has(channel))


MAPPING = """
import mmap
with open("file", "r+") as file, mmap.mmap(file.fileno(), 0) as mapped:
    mapped[0] = 65
"""


async def test_a_change_through_a_shared_mapping_is_told_of_at_its_close(tmp_path: Path) -> None:
    on_host(tmp_path, "echo text > file")
    async with served(tmp_path) as at:
        channel = at.at("file")
        on_host(tmp_path, f"{sys.executable} -c '{MAPPING}'")
        await at.announced.until(lambda: at.announced.has(channel))


async def test_a_change_deep_in_the_tree_is_told_of(tmp_path: Path) -> None:
    on_host(tmp_path, "mkdir -p a/b/c; touch a/b/c/f")
    async with served(tmp_path) as at:
        channel = at.at("a/b/c/f")
        on_host(tmp_path, "echo x > a/b/c/f; touch a/b/c/g")
        await at.announced.until(lambda: at.announced.has(channel))
        await at.announced.until(lambda: at.announced.has(at.at("a/b/c"), "g"))


async def test_a_directory_that_was_moved_is_still_watched(tmp_path: Path) -> None:
    on_host(tmp_path, "mkdir -p a/d b")
    async with served(tmp_path) as at:
        directory = at.at("a/d")
        directory.readdir(ME)
        on_host(tmp_path, "mv a/d b/e; touch b/e/new")
        await at.announced.until(lambda: at.announced.has(directory, "new"))


async def test_the_version_goes_up_with_a_change_by_others(tmp_path: Path) -> None:
    on_host(tmp_path, "echo text > file")
    async with served(tmp_path) as at:
        channel = at.at("file")
        first = await channel.open(ME, os.O_RDWR)
        on_host(tmp_path, "echo other > file")
        await at.announced.until(lambda: at.announced.has(channel))
        second = await channel.open(ME, os.O_RDONLY)
        assert second.version > first.version
        first.close(ME)
        second.close(ME)


async def test_an_open_file_that_loses_its_name_to_others_is_told_of(tmp_path: Path) -> None:
    on_host(tmp_path, "touch file other")
    async with served(tmp_path) as at:
        channel = at.at("file")
        file = await channel.open(ME, os.O_RDONLY)
        on_host(tmp_path, "mv other file")
        await at.announced.until(lambda: at.announced.has(channel))
        assert channel.stat(ME).st_nlink == 0
        file.close(ME)


async def test_our_own_changes_are_not_told_of_again(tmp_path: Path) -> None:
    async with served(tmp_path) as at:
        channel, file, _ = at.root.create(ME, "file", os.O_RDWR, 0o600)
        await settled(at)
        service = at.service
        told = []
        service.changes.subscribe(told.append)
        for number in range(100):
            file.try_write(ME, b"x" * number, 0)
            at.root.mkdir(ME, f"d{number}", 0o700)
            at.root.rename(ME, f"d{number}", at.root, f"e{number}")
        own = len(told)
        on_host(tmp_path, "touch last")
        await at.announced.until(lambda: at.announced.has(at.root, "last"))
        assert {change.name for change in told[own:]} == {"last", None}
        assert not any(change.qid == channel.node.qid for change in told[own:])
        file.close(ME)


async def test_only_what_is_watched_is_remembered_until_told_otherwise(tmp_path: Path) -> None:
    on_host(tmp_path, "mkdir d; touch f d/f one; ln one two")
    async with served(tmp_path) as at:
        directory = at.at("d")
        assert directory.caching == 1.0, "nobody has looked into it: it is not marked"
        file = directory.walk(ME, "f")
        assert (directory.caching, file.caching) == (math.inf, math.inf)
        assert at.at("f").caching == math.inf
        assert at.at("one").caching == 1.0, "its other name may lie where nobody watches"
    async with served(tmp_path, watch=False) as at:
        assert {at.at(name).caching for name in ("f", "d", "d/f")} == {1.0}


async def test_marks_go_with_the_nodes_that_nobody_holds(tmp_path: Path) -> None:
    on_host(tmp_path, "mkdir d; touch d/f")
    async with served(tmp_path) as at:
        file = at.at("d/f")
        assert at.service.status()["watch"] == "fanotify, 2 directories"
        del file
        assert at.service.status()["watch"] == "fanotify, 1 directories"
        await settled(at)
        on_host(tmp_path, "touch d/g")
        await settled(at)
        assert at.service.status()["watch"] == "fanotify, 1 directories"


QUEUE = int(Path("/proc/sys/fs/fanotify/max_queued_events").read_text())


@pytest.mark.slow
async def test_lost_events_make_everything_known_look_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # The queue of a user who is not root is short; wait for it to run over before reading it.
    monkeypatch.setattr(marks, "_UNLIMITED", 0)
    on_host(tmp_path, "mkdir d; echo text > d/f; touch d/g")
    async with served(tmp_path) as at:
        file, other = at.at("d/f"), at.at("d/g")
        assert at.at("d").caching == math.inf
        opened = await file.open(ME, os.O_RDONLY)
        version = opened.version
        opened.close(ME)
        on_host(tmp_path, f"cd d; seq -f n%g {QUEUE // 2 + 100} | xargs touch; rm n*")
        await at.announced.until(lambda: at.announced.has(other))
        assert at.announced.has(file)
        assert at.announced.has(at.root, "d")
        again = await file.open(ME, os.O_RDONLY)
        assert again.version > version
        again.close(ME)
        assert "lost" in at.service.status()["warning"]
        assert "lost events" in caplog.text


async def test_a_host_that_cannot_be_watched_is_looked_at_each_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A flag that no kernel knows: the refusal is a real one.
    monkeypatch.setattr(marks, "_REPORT_DFID_NAME", 1 << 30)
    on_host(tmp_path, "touch f")
    async with served(tmp_path) as at:
        assert at.at("f").caching == 1.0
        status = at.service.status()
        assert status["watch"].startswith("none")
        # fanotify_init(2) refuses others than root before it looks at what the flag is.
        refusal = "not permitted" if os.geteuid() else "Invalid argument"
        assert refusal in status["warning"]


async def test_a_file_system_that_others_change_unseen_is_looked_at_each_second() -> None:
    async with served(Path("/proc/self/net")) as at:
        assert at.at("dev").caching == 1.0
        assert "others may change" in at.service.status()["warning"]


async def test_a_change_is_told_of_within_fifty_milliseconds(tmp_path: Path) -> None:
    took = []
    async with served(tmp_path) as at:
        at.root.readdir(ME)
        for number in range(5):
            on_host(tmp_path, f"touch n{number}")
            changed = trio.current_time()
            await at.announced.until(lambda n=number: at.announced.has(at.root, f"n{n}"))
            took.append(trio.current_time() - changed)
    assert min(took) < 0.05


def test_nothing_runs_before_it_is_told_to(tmp_path: Path) -> None:
    service = WorkspaceFs(tmp_path)
    assert service.status()["watch"].startswith("none")
    assert service.root.caching == 1.0
