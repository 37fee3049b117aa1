"""WsFs through FUSE, used with the shell and with poll, against a real server."""

import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SERVER = """
import signal, sys
import trio
from mounts.fuse import serve
from mounts.options import FuseOptions
from oanix.namespace import Namespace
from tests.service.ws_help import websockets

async def main(mountpoint):
    async with websockets() as ws, trio.open_nursery() as nursery:
        namespace = Namespace()
        namespace.mount(ws.service, "/")
        await nursery.start(serve, namespace, mountpoint, FuseOptions.parse([]))
        print(ws.server.url(""), flush=True)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                nursery.cancel_scope.cancel()

trio.run(main, *sys.argv[1:])
"""


class Mounted:
    """Where it is mounted, and where the WebSocket server is."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url

    def run(self, script: str, path: str = "/echo") -> str:
        """Run a shell script in the mount, and give what it prints."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.path, env={**os.environ, "URL": self.url + path, "LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """A server of its own, for all of these tests."""
    mountpoint = tmp_path_factory.mktemp("ws") / "mnt"
    mountpoint.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, mountpoint],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as server:
        assert server.stdout is not None
        try:
            assert select.select([server.stdout], [], [], 20)[0]
            yield Mounted(mountpoint, server.stdout.readline().strip())
        finally:
            server.terminate()
            server.wait(20)


BEGIN = 'exec 3<new; read -r n <&3; echo "$URL" > $n/url\n'


def test_the_examples_of_the_page_work(mounted: Mounted) -> None:
    page = (ROOT / "docs/man/ws.md").read_text()
    (example,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert mounted.run(example) == ""


def test_a_thousand_messages_go_there_and_back(mounted: Mounted) -> None:
    script = BEGIN + (
        "exec 4<$n/out; seq 1000 > $n/in &\n"
        "for i in $(seq 1000); do read -r got <&4; [ $got = $i ]; done; wait; echo $got"
    )
    assert mounted.run(script) == "1000\n"


def test_cat_ends_when_the_peer_closes(mounted: Mounted) -> None:
    script = BEGIN + "cat $n/out; grep -E 'state|close-' $n/status"
    said = mounted.run(script, "/say/hello")
    assert said == (
        'hello\n{"base64":"aGVsbG8="}\nstate closed\nclose-code 4000\nclose-reason hello\n'
    )


def test_an_error_has_its_errno_and_its_sentence(mounted: Mounted) -> None:
    script = BEGIN + "cat $n/out || true; cat $n/error"
    said = mounted.run(script, "/404")
    assert "No such file or directory" in said
    assert said.endswith("the server answered 404 Not Found\n")


def test_bytes_and_lines_come_back_as_they_went(mounted: Mounted) -> None:
    script = BEGIN + (
        "exec 4<$n/out 5>$n/in\n"
        """printf '%s\\n' '{"text":"a\\nb"}' 'x y' '' '{"base64":"/w=="}' >&5\n"""
        'for i in 1 2 3 4; do read -r got <&4; echo "$got"; done'
    )
    assert mounted.run(script) == '{"text":"a\\nb"}\nx y\n\n{"base64":"/w=="}\n'


def test_an_open_conversation_is_private_and_its_streams_are_not_listed(mounted: Mounted) -> None:
    script = BEGIN + "ls $n | tr '\\n' ' '; stat -c %a $n $n/url | tr '\\n' ' '"
    assert mounted.run(script) == "ctl error in status url 500 600 "


def test_poll_wakes_when_a_message_has_come(mounted: Mounted) -> None:
    new = os.open(mounted.path / "new", os.O_RDONLY)
    talk = mounted.path / os.read(new, 10).decode().strip()
    (talk / "url").write_text(f"{mounted.url}/echo\n")
    out = os.open(talk / "out", os.O_RDONLY)
    to = os.open(talk / "in", os.O_WRONLY)
    waiting = select.poll()
    waiting.register(out, select.POLLIN)
    assert waiting.poll(50) == []
    os.write(to, b"hello\n")
    ((_, events),) = waiting.poll(20_000)
    assert events & select.POLLIN
    assert os.read(out, 100) == b"hello\n"
    for one in (to, out, new):
        os.close(one)


def test_a_reader_is_ended_by_a_signal(mounted: Mounted) -> None:
    # Opened first: that waits until the connection is there.
    script = BEGIN + "exec 4<$n/out; timeout -s INT 0.3 cat <&4 || echo $?; grep state $n/status"
    assert mounted.run(script) == "124\nstate open\n"


def test_a_peer_that_reads_nothing_gives_eagain_and_leaves_the_server_alive(
    mounted: Mounted,
) -> None:
    script = BEGIN + (
        "exec 5>$n/in\n"
        "head -c 30000000 /dev/zero | tr '\\0' x | fold -w 99999 | cat >&5 && exit 1\n"
        "grep state $n/status; cat README | head -n 1"
    )
    said = mounted.run(script, "/deaf")
    assert "Resource temporarily unavailable" in said
    assert said.endswith("under the policy and with the secrets of http.\n")
