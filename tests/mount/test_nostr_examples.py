"""The examples of the pages of nostr, relay and dvm, as a reader types them into a shell."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import TIME_OUT_S, Oanix

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

MAN = Path(__file__).parents[2] / "docs" / "man"
PATIENCE_S = 120
"""The first script that runs on a machine has its interpreter compiled."""

NPUB = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"


class Shell:
    """A shell in a mount, with a relay elsewhere, and a key."""

    def __init__(self, oanix: Oanix, mountpoint: Path, url: str) -> None:
        self.oanix = oanix
        self.mountpoint = mountpoint
        self.url = url

    def examples(self, page: str, **instead: str) -> list[str]:
        """Run the examples of a page, each of which works; give the lines that they print."""
        text = (MAN / f"{page}.md").read_text().partition("## EXAMPLES")[2]
        script = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
        assert script
        for word, found in instead.items():
            assert word in script
            script = script.replace(word, found)
        home = self.oanix.here
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script], cwd=self.mountpoint,
            env={**self.oanix.env, "HOME": str(home), "LC_ALL": "C.UTF-8",
                 "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True, text=True, timeout=PATIENCE_S,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        # What a program says of a stream that it cannot go back in is no example.
        assert "seek" not in done.stderr
        return done.stdout.splitlines()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    for name in ("here", "mnt"):
        (tmp_path / name).mkdir()
    file = tmp_path / "passphrase"
    file.write_text("correct horse\n")
    file.chmod(0o600)
    oanix = Oanix(tmp_path / "state", tmp_path / "here", {
        "OANIX_PASSPHRASE_FILE": str(file),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
    })  # fmt: skip
    assert oanix("nostr", "key", "new").returncode == 0
    elsewhere = oanix.start("relay", "serve", "--listen", "0", "--json", tmp_path / "elsewhere")
    mounted = oanix.start("mount", tmp_path / "here", tmp_path / "mnt")
    try:
        assert elsewhere.stdout is not None
        [url] = json.loads(elsewhere.stdout.readline())["urls"]
        assert mounted.stderr is not None
        assert mounted.stderr.readline().startswith(b"oanix: mounted")
        (tmp_path / "mnt/cap/http/policy").write_text("allow * ws://127.0.0.1:*/**\n")
        yield Shell(oanix, tmp_path / "mnt", url)
    finally:
        oanix("unmount", "--lazy", tmp_path / "mnt")
        for process in (mounted, elsewhere):
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=TIME_OUT_S)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_the_examples_of_nostr_work(shell: Shell) -> None:
    npub = shell.oanix("nostr", "key", "show").stdout.decode().strip()
    url = shell.url
    said = shell.examples("nostr", **{"wss://relay.example.com": url, "npub1…": npub})
    result = json.loads(said[0])
    assert (result["relay"], result["ok"]) == (url, True)
    assert said[1:] == ["with a topic", "with a topic", "between us"]


def test_the_examples_of_relay_work(shell: Shell) -> None:
    said = shell.examples("relay", **{"7777": str(free_port()), "npub1…": NPUB})
    assert said == ["Our relay", "Our relay", "hello", "hello"]
    assert (shell.mountpoint / "relay/policy").read_text() == "deny write kind=4 -- use NIP-17\n"


@pytest.mark.timeout(PATIENCE_S + 30)
def test_the_examples_of_dvm_work(shell: Shell) -> None:
    assert shell.examples("dvm") == ["BE LOUD", "BE LOUDER"]
    steps = (shell.oanix.here / "jobs.log").read_text().split()
    assert steps[2] == "waiting"
