"""LogsFs at the kernel's door: appends, and the refusal of anything else."""

import errno
import math
import os
import stat as modes
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from oanix.caller import Caller
from oanix.services.logs import LogsFs
from oanix.stat import Changed
from tests.scheduler.atif import valid
from tests.service.logs_help import ANYONE, APPEND, Logs, make, running


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    return make(tmp_path / "state")


def root(logs: Logs):  # type: ignore[no-untyped-def]
    return logs.client.channel("/logs")


def refused(number: int, word: str):  # type: ignore[no-untyped-def]
    return pytest.raises(OSError, match=rf"\[Errno {number}\].*{word}")


def test_the_folder_has_the_files_of_its_page(logs: Logs) -> None:
    shown = ["README", "follow", "runs", "stdout.log", "stderr.log", "events.jsonl"]
    assert logs.client.listdir("/logs") == shown
    listed = [name for name in shown if root(logs).walk(ANYONE, name).listed]
    assert listed == [name for name in shown if name != "follow"]


async def test_the_readme_is_a_snapshot_with_its_size(logs: Logs) -> None:
    text = await logs.read("README")
    assert b"append" in text
    assert logs.client.stat("/logs/README").st_size == len(text)
    assert len(text.splitlines()) < 25


async def test_appends_add_up_and_the_size_is_exact(logs: Logs) -> None:
    await logs.append("stdout.log", b"one\n")
    await logs.append("stdout.log", b"two\n\xff\0\n")
    assert await logs.read("stdout.log") == b"one\ntwo\n\xff\0\n"
    assert logs.client.stat("/logs/stdout.log").st_size == 11
    assert logs.client.channel("/logs/stdout.log").caching == 0


async def test_the_offset_of_a_write_means_nothing(logs: Logs) -> None:
    file = await logs.open("stderr.log", APPEND)
    for offset in (0, 0, 2**62):
        await file.write(ANYONE, b"x\n", offset)
    file.close(ANYONE)
    assert await logs.read("stderr.log") == b"x\nx\nx\n"


@pytest.mark.parametrize("name", ["stdout.log", "stderr.log", "events.jsonl"])
@pytest.mark.parametrize(
    "flags",
    [
        os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, APPEND | os.O_TRUNC,
        os.O_RDONLY | os.O_TRUNC,
    ],
)  # fmt: skip
async def test_an_open_that_could_change_what_is_there_is_refused(
    logs: Logs, name: str, flags: int
) -> None:
    await logs.append(name, b"line\n")
    before = await logs.read(name)
    with refused(errno.EPERM, "append-only"):
        await logs.open(name, flags)
    assert await logs.read(name) == before


async def test_truncation_is_refused_with_and_without_an_open_file(logs: Logs) -> None:
    await logs.append("stdout.log", b"line\n")
    file = await logs.open("stdout.log", APPEND)
    for size in (0, 5, 10**15):
        with refused(errno.EPERM, "append-only"):
            file.truncate(ANYONE, size)
        with refused(errno.EPERM, "append-only"):
            logs.client.channel("/logs/stdout.log").setattr(ANYONE, Changed(size=size))
    file.close(ANYONE)
    assert await logs.read("stdout.log") == b"line\n"


@pytest.mark.parametrize("name", ["stdout.log", "README", "follow", "runs"])
def test_nothing_is_removed_or_renamed(logs: Logs, name: str) -> None:
    for remove in (root(logs).unlink, root(logs).rmdir):
        with refused(errno.EPERM, "append-only"):
            remove(ANYONE, name)
    for target in ("other.log", "stderr.log", name):
        with refused(errno.EPERM, "append-only"):
            root(logs).rename(ANYONE, name, root(logs), target)
    assert name in logs.client.listdir("/logs")


def test_removing_what_is_not_there_is_enoent(logs: Logs) -> None:
    with pytest.raises(FileNotFoundError):
        root(logs).unlink(ANYONE, "none.log")
    with pytest.raises(FileNotFoundError):
        root(logs).rename(ANYONE, "none.log", root(logs), "x.log")


@pytest.mark.parametrize(
    "name",
    ["notes.txt", ".hidden.log", "stdout.log.1", "stdout.log.1.gz", "x.log.born", "log", "x"],
)
def test_other_names_cannot_be_made(logs: Logs, name: str) -> None:
    with refused(errno.EPERM, "NAME.log"):
        root(logs).create(ANYONE, name, APPEND | os.O_CREAT, 0o644)
    with refused(errno.EPERM, "NAME.log"):
        root(logs).mkdir(ANYONE, name, 0o755)
    with refused(errno.EPERM, "NAME.log"):
        root(logs).mknod(ANYONE, name, modes.S_IFREG | 0o644, 0)
    with refused(errno.EPERM, "NAME.log"):
        root(logs).symlink(ANYONE, name, "/etc/passwd")
    with pytest.raises(PermissionError):
        root(logs).link(ANYONE, logs.client.channel("/logs/stdout.log"), name)
    assert len(logs.client.listdir("/logs")) == 6


def test_making_a_name_that_is_there_is_eexist(logs: Logs) -> None:
    for name in ("stdout.log", "runs", "README"):
        with pytest.raises(FileExistsError):
            root(logs).mkdir(ANYONE, name, 0o755)
        with pytest.raises(FileExistsError):
            root(logs).create(ANYONE, name, APPEND | os.O_CREAT | os.O_EXCL, 0o644)


async def test_an_append_makes_a_log_and_nothing_else_does(logs: Logs) -> None:
    with refused(errno.EPERM, "O_APPEND"):
        root(logs).create(ANYONE, "build.log", os.O_WRONLY | os.O_CREAT, 0o644)
    await logs.append("build.log", b"done\n", create=True)
    await logs.append("metrics.jsonl", b'{"n": 1}\n', create=True)
    assert await logs.read("build.log") == b"done\n"
    assert (await logs.records("metrics.jsonl"))[0]["n"] == 1
    again = make(logs.service.folder)
    assert again.client.listdir("/logs")[-2:] == ["build.log", "metrics.jsonl"]


async def test_names_of_any_bytes_survive_a_restart(logs: Logs) -> None:
    names = ["\udcff\udcfe.log", "new\nline.log", "\u202e.log", "-rf.log", "ctl .jsonl", "~.log"]
    for name in names:
        await logs.append(name, b"x\n", create=True)
    assert set(make(logs.service.folder).client.listdir("/logs")) >= set(names)


def test_a_long_name_and_too_many_names_are_refused(logs: Logs) -> None:
    with refused(errno.ENAMETOOLONG, "200"):
        root(logs).create(ANYONE, "x" * 197 + ".log", APPEND | os.O_CREAT, 0o644)
    for number in range(997):
        root(logs).create(ANYONE, f"{number}.log", APPEND, 0o644)[1].close(ANYONE)
    with refused(errno.EDQUOT, "1000"):
        root(logs).create(ANYONE, "more.log", APPEND, 0o644)


async def test_times_can_be_set_to_now_and_to_nothing_else(tmp_path: Path) -> None:
    now = 1_700_000_000_000_000_000
    logs = make(tmp_path, clock=lambda: now)
    channel = logs.client.channel("/logs/stdout.log")
    channel.setattr(ANYONE, Changed(mtime_ns=now + 1000))
    assert channel.stat(ANYONE).st_mtime_ns == now + 1000
    for changed in (Changed(mtime_ns=0), Changed(mode=0o777), Changed(uid=0), Changed(gid=5)):
        with refused(errno.EPERM, "append-only"):
            channel.setattr(ANYONE, changed)


async def test_directions_of_an_open_file_are_kept(logs: Logs) -> None:
    reader, writer = await logs.open("stdout.log"), await logs.open("stdout.log", APPEND)
    with refused(errno.EBADF, "writing"):
        reader.try_write(ANYONE, b"x\n", 0)
    with refused(errno.EBADF, "writing"):
        await reader.write(ANYONE, b"x\n", 0)
    with refused(errno.EBADF, "reading"):
        writer.try_read(ANYONE, 1, 0)
    both = await logs.open("stdout.log", os.O_RDWR | os.O_APPEND)
    await both.write(ANYONE, b"abc\n", 0)
    assert await both.read(ANYONE, 2, 1) == b"bc"
    assert await both.read(ANYONE, 10, 4) == b""
    assert await both.read(ANYONE, 0, 0) == b""
    for size, offset in ((-1, 0), (1, -1), (1, 2**63)):
        with refused(errno.EINVAL, "2"):
            await both.read(ANYONE, size, offset)
    for file in (reader, writer, both):
        file.close(ANYONE)


async def test_half_a_line_is_held_until_its_newline_and_never_mixes(logs: Logs) -> None:
    one, two = await logs.open("stdout.log", APPEND), await logs.open("stdout.log", APPEND)
    await one.write(ANYONE, b"first ", 0)
    await two.write(ANYONE, b"other\nhal", 0)
    await one.write(ANYONE, b"line\n", 0)
    assert await logs.read("stdout.log") == b"other\nfirst line\n"
    two.close(ANYONE)
    one.close(ANYONE)
    assert await logs.read("stdout.log") == b"other\nfirst line\nhal\n"


async def test_a_flush_before_the_close_does_not_cut_a_line(logs: Logs) -> None:
    file = await logs.open("events.jsonl", APPEND)
    await file.write(ANYONE, b'{"message":', 0)
    file.flush()
    await file.write(ANYONE, b'"one"}\n', 0)
    file.flush()
    file.close(ANYONE)
    assert [each["message"] for each in await logs.records()] == ["one"]


async def test_fsync_ends_half_a_line_so_that_it_is_durable(logs: Logs) -> None:
    file = await logs.open("stdout.log", APPEND)
    await file.write(ANYONE, b"half", 0)
    await file.fsync(ANYONE, False)
    assert await logs.read("stdout.log") == b"half\n"
    await file.fsync(ANYONE, True)
    file.close(ANYONE)
    assert await logs.read("stdout.log") == b"half\n"


async def test_a_record_names_who_opened_the_file(logs: Logs) -> None:
    await logs.append("events.jsonl", b"one\n")
    job = Caller(principal="ann", job="17")
    file = await logs.client.channel("/logs/events.jsonl").open(job, APPEND)
    await file.write(job, b"two\n", 0)
    file.close(job)
    sources = [each["source"] for each in await logs.records()]
    assert sources == ["ann pid=42 uid=1000", "job:17"]


async def test_the_order_of_lines_is_the_order_of_appends_when_the_clock_goes_back(
    tmp_path: Path,
) -> None:
    times = [10**18, 10**18 - 86_400 * 10**9, 3 * 10**18, 10**18]
    now = [10**18]
    logs = make(tmp_path, clock=lambda: now[0], rotate_age_s=math.inf)
    for number, moment in enumerate(times):
        now[0] = moment
        await logs.append("events.jsonl", b"%d\n" % number)
    found = await logs.records()
    assert [each["message"] for each in found] == ["0", "1", "2", "3"]
    assert found[1]["timestamp"] < found[0]["timestamp"] < found[2]["timestamp"]


async def test_a_write_longer_than_a_chunk_is_stored_whole(logs: Logs) -> None:
    text = b"".join(b"%d\n" % number for number in range(100_000))
    await logs.append("stdout.log", text)
    assert await logs.read("stdout.log") == text


async def test_a_run_folder_takes_the_output_of_a_job(logs: Logs) -> None:
    changes: list[Any] = []
    logs.service.changes.subscribe(changes.append)
    logs.service.open_run("17")
    logs.service.open_run("17")
    assert [change.name for change in changes] == ["17"]
    assert logs.client.listdir("/logs/runs") == ["17"]
    assert logs.client.listdir("/logs/runs/17") == ["stdout", "stderr", "events.jsonl"]
    await logs.append("runs/17/stdout", b"out\nhalf")
    await logs.append("runs/17/events.jsonl", b"begun\n")
    await logs.append("runs/17/notes.json", b"{}", create=True)
    assert await logs.read("runs/17/stdout") == b"out\nhalf"
    assert (await logs.records("runs/17/events.jsonl"))[0]["message"] == "begun"
    again = make(logs.service.folder)
    assert await again.read("runs/17/notes.json") == b"{}\n"
    assert await again.read("events.jsonl") == b""


async def test_the_record_of_a_run_is_the_runtimes_alone_and_a_document_at_any_moment(
    logs: Logs,
) -> None:
    run = logs.service.open_run("17")
    folder = logs.client.channel("/logs/runs/17")
    for name in ("trajectory.json", "trajectory.jsonl"):
        with refused(errno.EPERM, "append"):
            folder.create(ANYONE, name, os.O_WRONLY | os.O_APPEND, 0o644)
    changes: list[Any] = []
    logs.service.changes.subscribe(changes.append)
    run.record.append(b'{"step_id":1,"source":"user","message":"one"}\n')
    assert len({change.qid for change in changes}) == 2
    file = Path(logs.service.folder) / "runs" / "17" / "trajectory.jsonl"
    file.write_bytes(file.read_bytes() + b'{"step_id":2,"sou')
    assert valid(await logs.read("runs/17/trajectory.json"))["steps"][-1]["message"] == "one"
    again = make(logs.service.folder)
    # What a kill has left of a line goes with the next one.
    record = again.service.open_run("17").record
    assert len(record.read().steps) == 1
    record.append(b'{"step_id":2,"source":"user","message":"two"}\n')
    found = valid(await again.read("runs/17/trajectory.json"))
    assert [step["message"] for step in found["steps"]] == ["one", "two"]
    assert "notes" not in found
    size = again.client.stat("/logs/runs/17/trajectory.json").st_size
    assert size == len(await again.read("runs/17/trajectory.json"))
    for name in ("trajectory.json", "trajectory.jsonl"):
        for flags in (os.O_WRONLY | os.O_APPEND, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
            with refused(errno.EPERM, "/task/steps"):
                await again.client.channel(f"/logs/runs/17/{name}").open(ANYONE, flags)


async def test_a_run_folder_is_append_only_and_only_the_service_makes_it(logs: Logs) -> None:
    logs.service.open_run("17")
    runs, run = logs.client.channel("/logs/runs"), logs.client.channel("/logs/runs/17")
    with refused(errno.EPERM, "jobs"):
        runs.mkdir(ANYONE, "18", 0o755)
    with refused(errno.EPERM, "jobs"):
        runs.create(ANYONE, "x.log", APPEND, 0o644)
    with refused(errno.EPERM, "append-only"):
        runs.rmdir(ANYONE, "17")
    with refused(errno.EPERM, "append-only"):
        run.unlink(ANYONE, "stdout")
    with refused(errno.EPERM, "append-only"):
        run.rename(ANYONE, "stdout", run, "out")
    with refused(errno.EPERM, "NAME.json"):
        run.create(ANYONE, "core", APPEND, 0o644)


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "a/b", "a\0b", "x" * 256])
def test_the_id_of_a_run_is_a_name(logs: Logs, name: str) -> None:
    with pytest.raises(OSError, match=r"name|dot"):
        logs.service.open_run(name)
    assert logs.client.listdir("/logs/runs") == []


def test_an_append_of_each_run_shares_no_node_with_another(logs: Logs) -> None:
    logs.service.open_run("1")
    logs.service.open_run("2")
    channels = [logs.client.channel(f"/logs/runs/{run}/stdout") for run in "121"]
    assert channels[0].key == channels[2].key != channels[1].key


def test_bad_bounds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="positive"):
        LogsFs(tmp_path, rotate_bytes=0)


async def test_a_file_that_someone_put_into_the_state_folder_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "evil.log").symlink_to("/etc/passwd")
    (tmp_path / "folder.log").mkdir()
    os.mkfifo(tmp_path / "pipe.log")
    logs = make(tmp_path)
    assert len(logs.client.listdir("/logs")) == 6
    assert "evil.log" in logs.service.status()["warning"]
    (tmp_path / "stdout.log").unlink()
    (tmp_path / "stdout.log").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        make(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


async def test_reading_and_status_tell_of_the_disk(tmp_path: Path) -> None:
    async with running(tmp_path) as logs:
        await logs.append("stdout.log", b"line\n")
        assert logs.service.status() == {"bytes": "5"}
        assert root(logs).statfs(ANYONE).blocks > 0


writes = st.lists(
    st.tuples(st.integers(0, 2), st.text('a{"\\\n \u2028é\0', max_size=10).map(str.encode)),
    max_size=30,
)


@pytest.mark.slow
@given(writes)
async def test_lines_of_several_writers_are_whole_and_in_order_of_each(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[int, bytes]]
) -> None:
    logs = make(tmp_path_factory.mktemp("state"))
    for name in ("stdout.log", "events.jsonl"):
        files = [await logs.open(name, APPEND) for _ in range(3)]
        said = [b"", b"", b""]
        for number, data in written:
            # Each line begins with its writer, so that the file tells who said what.
            marked = b"\n".join(
                (b"%d" % number if index or said[number][-1:] in (b"", b"\n") else b"") + part
                for index, part in enumerate(data.split(b"\n"))
            )
            said[number] += marked
            assert files[number].try_write(ANYONE, marked, 0) == len(marked)
        for file in files:
            file.close(ANYONE)
        if name == "stdout.log":
            found = (await logs.read(name)).split(b"\n")[:-1]
        else:
            found = [each["message"].encode() for each in await logs.records()]
        for number in range(3):
            own = [line for line in found if line.startswith(b"%d" % number)]
            assert own == said[number].removesuffix(b"\n").split(b"\n") * bool(said[number])
        assert len(found) == sum(text.removesuffix(b"\n").count(b"\n") + 1 for text in said if text)


async def test_a_run_that_is_dropped_is_gone_at_once_and_readers_keep_what_they_have(
    tmp_path: Path,
) -> None:
    logs = make(tmp_path)
    for run in ("7", "8"):
        logs.service.open_run(run)
        await logs.append(f"runs/{run}/stdout", b"kept\n")
    async with logs.client.open("/logs/runs/7/stdout") as file:
        await logs.service.drop_runs(["7", "none"])
        assert logs.client.listdir("/logs/runs") == ["8"]
        assert await file.read(100) == b"kept\n"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["8"]


async def test_what_a_crash_left_of_a_dropped_run_is_removed(tmp_path: Path) -> None:
    logs = make(tmp_path)
    logs.service.open_run("7")
    (tmp_path / "runs/7").rename(tmp_path / "runs/.gone-7")
    logs = make(tmp_path)
    assert logs.client.listdir("/logs/runs") == []
    async with logs.service.running():
        with trio.fail_after(20):
            while (tmp_path / "runs/.gone-7").exists():
                await trio.testing.wait_all_tasks_blocked(0.01)
