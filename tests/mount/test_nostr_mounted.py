"""`/cap/nostr` and `/relay` of a mounted namespace, used with the shell, with poll and by kill."""

import json
import os
import re
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.commands import TIME_OUT_S, Oanix

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


class Mounted:
    """Where the default namespace is mounted, with a key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, script: str, code: int = 0) -> str:
        """Run a shell script in the mount, and give what it prints."""
        done = subprocess.run(
            ["bash", "-uo", "pipefail", "-c", script], cwd=self.path, timeout=TIME_OUT_S,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == code, done.stdout
        return done.stdout

    def subscribed(self, query: str) -> Path:
        """Begin a subscription, and give its folder."""
        script = f"exec 3<cap/nostr/sub/new; read -r n <&3; echo '{query}' >cap/nostr/sub/$n/filter"
        number = self.run(f"{script}; cat cap/nostr/sub/$n/eose >&2; echo $n").split()[-1]
        return self.path / "cap/nostr/sub" / number


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """A server of its own, for all of these tests."""
    base = tmp_path_factory.mktemp("nostr")
    for name in ("here", "mnt"):
        (base / name).mkdir()
    file = base / "passphrase"
    file.write_text("correct horse\n")
    file.chmod(0o600)
    oanix = Oanix(base / "state", base / "here", {
        "OANIX_PASSPHRASE_FILE": str(file),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    })  # fmt: skip
    assert oanix("nostr", "key", "new").returncode == 0
    done = oanix("mount", "--daemon", base / "mnt")
    assert done.returncode == 0, done.stderr
    found = re.search(rb"process (\d+)", done.stderr)
    assert found
    server = os.pidfd_open(int(found[1]))
    yield Mounted(base / "mnt")
    oanix("unmount", "--lazy", base / "mnt")
    assert select.select([server], [], [], TIME_OUT_S)[0]
    os.close(server)


def test_echo_publishes_and_cat_finds(mounted: Mounted) -> None:
    mounted.run("echo 'a note of the shell' >cap/nostr/publish")
    [event] = mounted.run("cat 'cap/nostr/req/search=note&limit=1'").splitlines()
    found = json.loads(event)
    assert found["content"] == "a note of the shell"
    for where in ("relay/events", "cap/nostr/event"):
        assert json.loads(mounted.run(f"cat {where}/{found['id']}")) == found
    assert found["pubkey"] == mounted.run("cat cap/nostr/pubkey").strip()


def test_the_same_open_file_says_what_each_relay_said(mounted: Mounted) -> None:
    said = mounted.run("exec 3<>cap/nostr/publish; echo hello >&3; timeout 10 cat <&3")
    [answer] = map(json.loads, said.splitlines())
    assert (answer["ok"], answer["relay"]) == (True, "own")


def test_live_events_come_to_a_reader_that_waits(mounted: Mounted) -> None:
    script = (
        "exec 4<relay/live; echo 'as it happens' >cap/nostr/publish; "
        'read -r -t 10 line <&4; echo "$line"'
    )
    assert json.loads(mounted.run(script))["content"] == "as it happens"


def test_poll_tells_when_an_event_has_come(mounted: Mounted) -> None:
    folder = mounted.subscribed("kinds=1&#t=poll&limit=0")
    events = os.open(folder / "events", os.O_RDONLY | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(events, select.POLLIN)
        assert poll.poll(0) == []
        with pytest.raises(BlockingIOError):
            os.read(events, 100)
        with open(mounted.path / "cap/nostr/publish", "w") as publish:
            publish.write('{"kind":1,"content":"now","tags":[["t","poll"]]}\n')
        assert poll.poll(TIME_OUT_S * 1000)
        assert json.loads(os.read(events, 65_536))["content"] == "now"
        with pytest.raises(BlockingIOError):
            os.read(events, 100)
    finally:
        os.close(events)


def test_each_reader_of_a_subscription_sees_every_event(mounted: Mounted) -> None:
    folder = mounted.subscribed("kinds=1&#t=each")
    with ExitStack() as files:
        readers = [files.enter_context(open(folder / "events")) for _ in range(3)]
        for number in range(5):
            line = json.dumps({"kind": 1, "content": str(number), "tags": [["t", "each"]]})
            (mounted.path / "cap/nostr/publish").write_text(line + "\n")
        for reader in readers:
            assert [json.loads(reader.readline())["content"] for _ in range(5)] == list("01234")


def test_a_reader_that_waits_for_events_is_killed_at_once(mounted: Mounted) -> None:
    folder = mounted.subscribed("kinds=1&#t=never")
    with subprocess.Popen(["cat", folder / "events"], stdout=subprocess.PIPE) as reader:
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(0.2)
        reader.send_signal(signal.SIGTERM)
        assert reader.wait(TIME_OUT_S) == -signal.SIGTERM


def test_what_the_relay_refuses_is_told_in_its_words(mounted: Mounted) -> None:
    said = mounted.run(
        "echo 'deny write kind=9 -- no chat here' >>relay/policy; "
        'exec 3<>cap/nostr/publish; echo \'{"kind":9,"content":"x"}\' >&3; '
        "cat <&3; cat dev/errstr"
    )
    assert "Permission denied" in said
    assert "no chat here" in said


def test_grep_does_not_wait_for_ever(mounted: Mounted) -> None:
    # 2: what can only be written is an error to grep; 124 would be the time that is up.
    mounted.run("timeout 20 grep -rIs nothing-has-this relay cap/nostr", code=2)
