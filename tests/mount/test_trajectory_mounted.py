"""Trajectories at a mount: read by any program while the job runs, and followed by the command."""

import json
import os
import select
from collections.abc import Iterator

import pytest

from tests.commands import TIME_OUT_S, Oanix
from tests.mount.mounting import mounted
from tests.scheduler.acting import Acts
from tests.scheduler.atif import valid

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


@pytest.fixture(scope="module")
def oanix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oanix]:
    """The command line, with the default namespace mounted."""
    base = tmp_path_factory.mktemp("trajectory")
    for name in ("here", "mnt"):
        (base / name).mkdir()
    acts = Acts().say("hello\n").open("workspace/in.txt").read().close().hear().say("bye\n")
    (base / "here" / "acts.wasm").write_bytes(acts.module())
    (base / "here" / "in.txt").write_text("some text\n")
    oanix = Oanix(base / "state", base / "here", {
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    })  # fmt: skip
    with mounted(oanix, base / "mnt"):
        yield oanix


def test_a_running_job_is_followed_and_its_document_is_whole(oanix: Oanix) -> None:
    mnt = oanix.here.parent / "mnt"
    number = oanix("agent", "run", "--detach", "--name", "reader", "acts.wasm").stdout.decode()
    number = number.strip()
    run = mnt / "logs" / "runs" / number
    follower = oanix.start("logs", "show", "-f", number)
    try:
        assert follower.stdout is not None
        seen = b""
        while b"read_file" not in seen:
            assert select.select([follower.stdout], [], [], TIME_OUT_S)[0], seen
            seen += os.read(follower.stdout.fileno(), 65_536)
        found = valid((run / "trajectory.json").read_bytes())
        assert found["extra"]["complete"] is False
        assert [step["message"] for step in found["steps"]][1:] == ["reader", "hello"]
        shown = oanix("logs", "show", number).stdout.decode()
        assert "reader  running" in shown
        (mnt / "jobs" / number / "stdin").write_text("go on\n")
        rest, _ = follower.communicate(timeout=TIME_OUT_S)
    finally:
        follower.kill()
        follower.wait()
    assert b"bye" in rest
    assert b"completed 0" in rest
    assert follower.returncode == 0
    ended = valid((run / "trajectory.json").read_bytes())
    assert ended["extra"]["complete"] is True
    sources = [(step["source"], step["message"]) for step in ended["steps"]]
    assert ("user", "go on") in sources


def test_programs_see_it_with_its_size_and_cannot_change_it(oanix: Oanix) -> None:
    mnt = oanix.here.parent / "mnt"
    done = oanix("agent", "run", "acts.wasm", stdin=b"x\n")
    assert done.returncode == 0, done.stderr
    run = max((mnt / "logs" / "runs").iterdir(), key=lambda path: int(path.name))
    for name in ("trajectory.json", "trajectory.jsonl"):
        file = run / name
        assert file.stat().st_size == len(file.read_bytes())
        for mode in ("w", "a"):
            with pytest.raises(PermissionError), open(file, mode):
                pass
        with pytest.raises(PermissionError):
            file.unlink()
    lines = (run / "trajectory.jsonl").read_bytes().splitlines()
    assert [json.loads(line).get("step_id") for line in lines] == [None, *range(1, len(lines))]
    assert json.loads(oanix("logs", "show", "--json", run.name).stdout) == valid(
        (run / "trajectory.json").read_bytes()
    )
    listed = json.loads(oanix("logs", "list", "--json", "--at", str(mnt)).stdout)
    assert listed[-1]["run"] == int(run.name)
