"""LogsFs through FUSE, used with the programs that people use: the shell, tail, tee, gzip."""

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.mounting import wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SERVER = """
import signal, sys
from pathlib import Path
import trio
from mounts.fuse import serve
from mounts.options import FuseOptions
from oanix.namespace import Namespace
from oanix.services.logs import LogsFs

async def main(mountpoint, folder):
    service = LogsFs(Path(folder), rotate_bytes=20_000)
    namespace = Namespace()
    namespace.mount(service, "/")
    async with service.running(), trio.open_nursery() as nursery:
        await nursery.start(serve, namespace, mountpoint, FuseOptions.parse([]))
        print("mounted", flush=True)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                nursery.cancel_scope.cancel()

trio.run(main, *sys.argv[1:])
"""


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Path]:
    """The mount point of a server of its own."""
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, mountpoint, tmp_path / "state"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as server:
        assert server.stdout is not None
        try:
            assert select.select([server.stdout], [], [], 20)[0]
            assert server.stdout.readline() == b"mounted\n"
            yield mountpoint
        finally:
            server.terminate()
            server.wait(20)


def shell(logs: Path, command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", command], cwd=logs, capture_output=True, text=True, timeout=30
    )


def test_the_examples_of_the_page_and_of_the_readme_work(logs: Path) -> None:
    page = (ROOT / "docs/man/logs.md").read_text()
    examples = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert examples
    for example in examples:
        done = shell(logs, "set -e\n" + example)
        assert (done.returncode, done.stderr) == (0, "")
    assert (logs / "build.log").read_text() == "one more log\n"
    readme = (logs / "README").read_text()
    commands = [line for line in readme.splitlines() if line.startswith("    echo")]
    assert len(commands) == 3
    done = shell(logs, "set -e\n" + "\n".join(commands) + "\ntail -n 3 events.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["level"] for each in found[-2:]] == ["warning", "info"]
    assert f"pid={os.getpid()}" not in found[-1]["source"]
    assert f"uid={os.getuid()}" in found[-1]["source"]


@pytest.mark.parametrize(
    "command",
    [
        "echo x > stdout.log", "rm stdout.log", "mv stdout.log x.log", "truncate -s 0 stdout.log",
        "chmod 600 stdout.log", "mkdir x", "echo x > new.log", "echo x >> notes.txt",
        "ln stdout.log x.log", "ln -s stdout.log x.log", "sed -i s/a/b/ stdout.log", "rmdir runs",
        "dd if=/dev/zero of=stdout.log conv=notrunc", "tee stdout.log < README",
        "touch -d 1970-01-02 stdout.log",
    ],
)  # fmt: skip
def test_what_is_no_append_is_not_permitted(logs: Path, command: str) -> None:
    shell(logs, "echo first >> stdout.log")
    done = shell(logs, command)
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr
    assert (logs / "stdout.log").read_text() == "first\n"


def test_common_programs_append_and_touch(logs: Path) -> None:
    done = shell(logs, "seq 3 | tee -a stdout.log; touch stdout.log; seq 4 5 >> stdout.log")
    assert (done.returncode, done.stderr) == (0, "")
    done = shell(
        logs, "wc -c < stdout.log; cat stdout.log; stat -c %s stdout.log; cp stdout.log /dev/stdout"
    )
    lines = "1\n2\n3\n4\n5\n"
    assert done.stdout == f"10\n{lines}10\n{lines}"
    done = shell(logs, "set -eo pipefail; mkdir -p runs; grep -rl 3 .; tar cf - . | tar tf -")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("./stdout.log\n") == 2
    assert "follow" not in done.stdout


def test_tail_follows_a_log_over_rotations(logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        tail = subprocess.Popen(
            ["tail", "-n", "+1", "-s", "0.05", "-F", logs / "stdout.log"],
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    try:
        for number in range(40):
            with (logs / "stdout.log").open("a") as log:
                log.write(f"{number} ".ljust(1999, ".") + "\n")
            wanted = f"{number} ".encode()
            wait_until(lambda wanted=wanted: b"\n" + wanted in b"\n" + out.read_bytes())
    finally:
        tail.terminate()
        tail.wait(10)
    seen = [int(line.split()[0]) for line in out.read_text().splitlines()]
    assert seen == list(range(40))
    wait_until(lambda: len([each for each in os.listdir(logs) if each.endswith(".gz")]) == 3)
    old = shell(logs, "zcat stdout.log.3.gz stdout.log.2.gz stdout.log.1.gz; cat stdout.log")
    assert [int(line.split()[0]) for line in old.stdout.splitlines()] == list(range(40))


def test_follow_gives_events_as_they_come_and_a_reader_can_be_ended(logs: Path) -> None:
    readers = [subprocess.Popen(["cat", logs / "follow"], stdout=subprocess.PIPE) for _ in range(3)]
    try:
        # An event that comes before a reader's open is not for it: say it until all have begun.
        said = 0
        begun: set[int] = set()
        while len(begun) < 3:
            shell(logs, f"echo {said} >> events.jsonl")
            said += 1
            outputs = [reader.stdout for reader in readers if reader.pid not in begun]
            for reader in readers:
                if reader.stdout in select.select(outputs, [], [], 0.1)[0]:
                    begun.add(reader.pid)
        shell(logs, "echo last >> events.jsonl")
        for reader in readers:
            assert reader.stdout is not None
            found = []
            while "last" not in found:
                found.append(json.loads(reader.stdout.readline())["message"])
            first = int(found[0])
            assert found[:-1] == [str(number) for number in range(first, said)]
    finally:
        for reader in readers:
            reader.terminate()
            assert reader.wait(10)
            assert reader.stdout is not None
            reader.stdout.close()


def test_poll_wakes_when_an_event_comes(logs: Path) -> None:
    fd = os.open(logs / "follow", os.O_RDONLY)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(0) == []
        shell(logs, "echo here >> events.jsonl")
        assert poll.poll(10_000) == [(fd, select.POLLIN)]
        assert json.loads(os.read(fd, 4096))["message"] == "here"
    finally:
        os.close(fd)


def test_two_shells_append_20000_whole_lines(logs: Path) -> None:
    loop = "for i in $(seq 10000); do echo $0$i; done >> stderr.log"
    writers = [subprocess.Popen(["bash", "-c", loop, name], cwd=logs) for name in "ab"]
    assert [writer.wait(50) for writer in writers] == [0, 0]
    wait_until(lambda: not any(re.fullmatch(r"stderr.log.\d+", each) for each in os.listdir(logs)))
    rotated = sorted(
        (each for each in os.listdir(logs) if re.fullmatch(r"stderr.log.\d+.gz", each)),
        key=lambda each: -int(each.split(".")[2]),
    )
    lines = shell(logs, f"zcat {' '.join(rotated)}; cat stderr.log").stdout.splitlines()
    for name in "ab":
        own = [line for line in lines if line.startswith(name)]
        assert own == [f"{name}{number}" for number in range(1, 10_001)]
    assert len(lines) == 20_000
