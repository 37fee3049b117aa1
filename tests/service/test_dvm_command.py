"""A program that does a job: what it is given, what it may say, and that nothing of it stays."""

import json
import os
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from oanix.dvm import Command, Failed, Request
from oanix.lib.nostr import LocalSigner, Template
from tests.service.nostr_help import until

ANN = LocalSigner(bytes([1]) * 32, now=lambda: 1_700_000_000)
TAGS = (
    ("i", "how many words", "text"), ("i", "https://x.example/", "url", "wss://r", "m"), ("i",),
    ("param", "model", "small"), ("output", "text/plain"), ("bid", "1000"), ("t", "x"),
)  # fmt: skip
REQUEST = Request.of(ANN.sign_now(Template(5050, "said", TAGS)))
ENVIRONMENT = {"PATH": os.environ["PATH"]}


def sh(script: str, **more: object) -> Command:
    return Command(("sh", "-c", script), environment=ENVIRONMENT, **more)  # type: ignore[arg-type]


async def fails(command: Command, folder: Path, text: str = "") -> str:
    with pytest.raises(Failed) as caught, trio.fail_after(20):
        await command.run(REQUEST, text, folder)
    return caught.value.sentence


async def test_it_has_its_input_on_stdin_and_its_result_is_stdout(tmp_path: Path) -> None:
    assert await sh("tr a-z A-Z").run(REQUEST, "shout ä", tmp_path) == "SHOUT ä"
    assert await sh("pwd; echo $OANIX_JOB; echo ${HOME:-none}").run(REQUEST, "", tmp_path) == (
        f"{tmp_path}\n{REQUEST.id}\nnone\n"
    )


async def test_the_whole_request_is_in_a_file(tmp_path: Path) -> None:
    said = json.loads(await sh("cat job.json").run(REQUEST, "", tmp_path))
    assert said["id"] == REQUEST.id
    assert (said["kind"], said["customer"], said["content"]) == (5050, ANN.pubkey, "said")
    assert said["inputs"] == [
        {"data": "how many words", "type": "text", "relay": "", "marker": ""},
        {"data": "https://x.example/", "type": "url", "relay": "wss://r", "marker": "m"},
    ]
    assert (said["params"], said["output"], said["bid"]) == (
        [["model", "small"]],
        "text/plain",
        1000,
    )
    assert said["tags"][-1] == ["t", "x"]


async def test_a_program_need_not_read_its_input(tmp_path: Path) -> None:
    assert await sh("exec <&-; echo done").run(REQUEST, "x" * 1_000_000, tmp_path) == "done\n"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "the program ended with 3"),
        ("kill -9 $$", "the program was ended by signal 9"),
        ("printf '\\377'", "the result is no UTF-8"),
        ("echo secret >&2; exit 1", "the program ended with 1"),
    ],
)
async def test_a_program_that_fails_is_told_and_no_more_than_that(
    script: str, said: str, tmp_path: Path
) -> None:
    assert await fails(sh(script), tmp_path) == said


async def test_a_program_that_is_not_there_is_told_without_its_name(tmp_path: Path) -> None:
    assert await fails(Command(("/no/such/thing",)), tmp_path) == "the program cannot be started"


async def test_a_result_that_is_too_long_ends_the_program(tmp_path: Path) -> None:
    said = await fails(sh("exec yes", output_max=1_000), tmp_path)
    assert said == "the result has more than 1000 bytes"


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def _pids(path: Path, count: int) -> list[int]:
    await until(lambda: path.exists() and path.read_text().count("\n") >= count)
    return [int(line) for line in path.read_text().split()]  # noqa: ASYNC240


FAMILY = "sleep 1000 & echo $! >> {0}; echo $$ >> {0}; "


async def test_a_program_that_takes_too_long_is_killed_with_all_it_started(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    pids = tmp_path / "pids"

    async def time_passes() -> None:
        while not (pids.exists() and pids.read_text().count("\n") == 2):
            await trio.lowlevel.checkpoint()
        mock_clock.jump(0.2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(time_passes)
        # It is told its input only once its time counts.
        script = "cat >/dev/null; " + FAMILY.format(pids) + "wait"
        said = await fails(sh(script, time_s=0.2), tmp_path)
    assert said == "the job took longer than 0.2 s"
    mock_clock.rate = 1
    found = await _pids(pids, 2)
    await until(lambda: not any(map(_alive, found)))


async def test_what_a_program_leaves_behind_is_killed_and_does_not_hold_up_the_result(
    tmp_path: Path,
) -> None:
    pids = tmp_path / "pids"
    with trio.fail_after(20):
        said = await sh(FAMILY.format(pids) + "echo done").run(REQUEST, "", tmp_path)
    assert said == "done\n"
    found = await _pids(pids, 2)
    await until(lambda: not any(map(_alive, found)))


async def test_a_cancelled_job_leaves_nothing_running(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sh(FAMILY.format(pids) + "wait").run, REQUEST, "", tmp_path)
        found = await _pids(pids, 2)
        assert all(map(_alive, found))
        nursery.cancel_scope.cancel()
    await until(lambda: not any(map(_alive, found)))


async def test_a_program_whose_worker_was_killed_is_ended_by_the_next(tmp_path: Path) -> None:
    command, pids = sh("exec sleep 1000"), tmp_path / "pid"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ended_by_signal, command, tmp_path)
        [pid, began] = await _pids(pids, 1)
        pids.write_text(f"{pid} {began + 1}\n")
        command.end_leftover(tmp_path)
        assert _alive(pid)
        pids.write_text(f"{pid} {began}\n")
        command.end_leftover(tmp_path)
    assert not _alive(pid)
    for text in ("", "x y", "1", "999999999 5"):
        pids.write_text(text)
        command.end_leftover(tmp_path)
    command.end_leftover(tmp_path / "none")


async def test_a_program_whose_worker_was_killed_before_it_noted_it_is_ended_too(
    tmp_path: Path,
) -> None:
    command, pids = sh("exec sleep 1000"), tmp_path / "pid"
    visitor = await trio.lowlevel.open_process(
        ["sleep", "1000"], cwd=tmp_path, start_new_session=True
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ended_by_signal, command, tmp_path)
        [pid, _] = await _pids(pids, 1)
        pids.unlink()
        command.end_leftover(tmp_path)
    assert not _alive(pid)
    assert visitor.poll() is None
    visitor.kill()
    await visitor.wait()


async def _ended_by_signal(command: Command, folder: Path) -> None:
    assert await fails(command, folder) == "the program was ended by signal 9"


async def test_many_run_at_once(tmp_path: Path) -> None:
    said: list[str] = []

    async def run(number: int) -> None:
        folder = tmp_path / str(number)
        await trio.Path(folder).mkdir()
        command = Command((sys.executable, "-c", "print(open(0).read())"), environment=ENVIRONMENT)
        said.append((await command.run(REQUEST, str(number), folder)).strip())

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(run, number)
    assert sorted(said) == ["0", "1", "2", "3"]
