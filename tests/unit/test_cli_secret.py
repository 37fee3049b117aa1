"""`oanix secret`: values come from a prompt or a pipe, and no command shows one."""

import json
import os
import pty
import select
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from oanix.cli.failures import Failure
from oanix.cli.passphrase import (
    key_for_server,
    new_key,
    read_file,
    unlock,
    unlock_or_make,
)
from oanix.cli.secret import secret
from oanix.lib.vault import FILE, Passphrase, RingKey, Vault
from tests.commands import TIME_OUT_S, Oanix
from tests.reach import refused
from tests.service.vaults import CHEAP, PHRASE, RULE, VALUE, Ring, made, opened, sent

URL = "https://api.example.com/**"
BEARER = ("--header", "Authorization: Bearer {}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with the passphrase, closed to others."""
    path = tmp_path / "passphrase"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def alone(oanix: Oanix, file: Path) -> Oanix:
    """The command line where no keyring is, and a file has the passphrase."""
    oanix.environment["OANIX_PASSPHRASE_FILE"] = str(file)
    oanix.environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    return oanix


@pytest.fixture
def kept(oanix: Oanix, file: Path) -> Oanix:
    """The same, with a vault that holds one secret."""
    oanix.environment["OANIX_PASSPHRASE_FILE"] = str(file)
    oanix.state.mkdir(mode=0o700)
    made(oanix.state).set("github", VALUE, RULE)
    return oanix


def vault_of(oanix: Oanix) -> Vault:
    vault = opened(oanix.state)
    vault.unlock(PHRASE)
    return vault


@pytest.mark.slow
def test_a_secret_is_set_listed_rotated_and_removed(alone: Oanix) -> None:
    done = alone("secret", "set", "github", "--url", URL, "--method", "GET,POST", *BEARER,
                 stdin=VALUE + b"\n")  # fmt: skip
    assert done.stderr.decode().splitlines() == [
        "oanix: made a vault, which is kept by this passphrase",
        f"oanix: set github: {RULE.format()}",
    ]
    assert (done.returncode, done.stdout) == (0, b"")
    assert sent(vault_of(alone)) == f"Bearer {VALUE.decode()}"
    assert (alone.state / FILE).stat().st_mode & 0o777 == 0o600

    listed = alone("secret", "list").stdout.decode().splitlines()
    assert listed[0].split() == ["NAME", "ROTATED", "LAST", "USED", "USES", "RULE"]
    assert listed[1].startswith("github  ")
    assert listed[1].endswith(RULE.format())
    (found,) = json.loads(alone("secret", "list", "--json").stdout)
    assert (found["name"], found["uses"], found["last_used_ns"]) == ("github", 0, None)
    told = alone("secret", "info", "github")
    assert b"name github\n" in told.stdout
    assert VALUE not in told.stdout

    assert alone("secret", "rotate", "github", stdin=b"another value").returncode == 0
    assert sent(vault_of(alone)) == "Bearer another value"
    rule = ("--url", "https://api.example.com/repos", "--basic", "robot")
    assert alone("secret", "rule", "github", *rule).returncode == 0
    assert sent(vault_of(alone)).startswith("Basic ")
    assert alone("secret", "remove", "github").returncode == 0
    assert alone("secret", "list").stdout == b""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "stdin", "code", "says"),
    [
        (["set", "new"], VALUE, 2, "a new secret needs --url"),
        (["set", "new", "--url", URL, "--query", "a={}", "--basic", "u"], VALUE, 2, "one of"),
        (["set", "new", "--url", "https://*", *BEARER], VALUE, 1, "never to every one"),
        (["set", "a..b", "--url", URL, *BEARER], VALUE, 1, "no '..'"),
        (["set", "github"], b"", 1, "the value is empty"),
        (["set", "github"], b"12\n34\n", 1, "line end"),
        (["set", "github"], b"x" * 65_537, 1, "at most 65536 bytes"),
        (["set", "github"], "schlüssel".encode(), 1, "not ASCII"),
        (["rotate", "nothing"], VALUE, 1, "no secret 'nothing'"),
        (["rule", "github"], b"", 2, "--url and one of"),
        (["remove", "nothing"], b"", 1, "no secret 'nothing'"),
        (["unlock", "/"], b"", 1, "no namespace is mounted"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    kept: Oanix, words: list[str], stdin: bytes, code: int, says: str
) -> None:
    done = kept("secret", *words, stdin=stdin)
    assert done.returncode == code
    first = done.stderr.decode().splitlines()[0]
    assert first.startswith("oanix: ")
    assert says in first
    assert VALUE.decode() not in done.stderr.decode()
    assert sent(vault_of(kept)) == f"Bearer {VALUE.decode()}"


@pytest.mark.slow
def test_a_value_is_never_taken_from_the_command_line(kept: Oanix) -> None:
    done = kept("secret", "set", "github", "hunter2")
    assert done.returncode == 2
    assert sent(vault_of(kept)) == f"Bearer {VALUE.decode()}"


@pytest.mark.slow
def test_without_anybody_to_ask_the_remedy_is_a_file(oanix: Oanix) -> None:
    oanix.environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    done = oanix("secret", "set", "github", "--url", URL, *BEARER, stdin=VALUE)
    assert done.returncode == os.EX_UNAVAILABLE
    assert "nobody can be asked" in done.stderr.decode()
    assert "--passphrase-file or $OANIX_PASSPHRASE_FILE" in done.stderr.decode()
    assert opened(oanix.state).kept() is None


@pytest.mark.slow
def test_a_wrong_passphrase_changes_nothing(kept: Oanix, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("battery staple")
    wrong.chmod(0o600)
    done = kept("secret", "set", "github", "--passphrase-file", wrong, stdin=b"another value")
    assert (done.returncode, done.stderr) == (
        1,
        b"oanix: this is not the passphrase of the vault\n",
    )
    assert sent(vault_of(kept)) == f"Bearer {VALUE.decode()}"


@pytest.mark.slow
def test_the_passphrase_is_changed(kept: Oanix, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.write_text("battery staple\n")
    new.chmod(0o600)
    done = kept("secret", "passwd", "--new-passphrase-file", new)
    assert done.stderr == b"oanix: the vault is now kept by the new passphrase\n"
    vault = opened(kept.state)
    with refused(13):
        vault.unlock(PHRASE)
    vault.unlock(Passphrase("battery staple", CHEAP))
    assert sent(vault)


KEYRING = """
import json, pathlib
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

FILE = pathlib.Path(__file__).with_suffix(".json")

class Keyring(KeyringBackend):
    priority = 5

    def read(self):
        items = json.loads(FILE.read_text()) if FILE.exists() else {}
        if items is None:
            raise KeyringLocked("it is locked")
        return items

    def get_password(self, service, username):
        return self.read().get(f"{service} {username}")

    def set_password(self, service, username, password):
        FILE.write_text(json.dumps({**self.read(), f"{service} {username}": password}))

    def delete_password(self, service, username):
        items = self.read()
        del items[f"{service} {username}"]
        FILE.write_text(json.dumps(items))
"""


@pytest.mark.slow
def test_a_keyring_of_the_system_keeps_the_vault_until_another_key_does(
    oanix: Oanix, tmp_path: Path, file: Path
) -> None:
    items = tmp_path / "testring.json"
    items.with_suffix(".py").write_text(KEYRING)
    path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    oanix.environment["PYTHONPATH"] = os.pathsep.join(path)
    oanix.environment["PYTHON_KEYRING_BACKEND"] = "testring.Keyring"
    done = oanix("secret", "set", "github", "--url", URL, *BEARER, stdin=VALUE)
    assert b"made a vault, which is kept by the OS keyring" in done.stderr
    (name,) = json.loads(items.read_text())
    assert name.startswith("oanix vault ")
    held = items.read_text()
    items.write_text("null")
    refusal = oanix("secret", "rotate", "github", stdin=b"another value").stderr
    assert refusal == b"oanix: the OS keyring refused (it is locked): unlock it, and try again\n"
    items.write_text(held)
    words = ("--to", "passphrase", "--new-passphrase-file", file)
    assert oanix("secret", "passwd", *words).returncode == 0
    assert json.loads(items.read_text()) == {}
    assert sent(vault_of(oanix)) == f"Bearer {VALUE.decode()}"


@pytest.mark.slow
def test_names_are_completed(kept: Oanix) -> None:
    kept.environment.update(
        _OANIX_COMPLETE="bash_complete", COMP_WORDS="oanix secret rotate g", COMP_CWORD="3"
    )
    assert kept().stdout == b"plain,github\n"


@pytest.mark.parametrize("command", ["", *sorted(secret.commands)])
def test_help_has_examples(command: str) -> None:
    shown = CliRunner().invoke(secret, [*filter(None, [command]), "--help"]).output
    assert "Examples:\n    oanix secret" in shown


# On a terminal ------------------------------------------------------------------------------------


def converse(oanix: Oanix, words: list[str], *answers: str) -> tuple[int, str]:
    """Run a command on a terminal of its own, and answer each prompt; give what was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "oanix", *words], stdin=theirs, stdout=theirs, stderr=theirs,
        env=oanix.env, cwd=oanix.here, start_new_session=True,
    )  # fmt: skip
    shown = ""
    try:
        for answer in answers:
            shown += until_hidden_prompt(ours, theirs)
            os.write(ours, answer.encode() + b"\n")
        process.wait(TIME_OUT_S)
        while select.select([ours], [], [], 0)[0]:
            shown += os.read(ours, 4096).decode()
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)
    return process.returncode, shown


def until_hidden_prompt(ours: int, theirs: int) -> str:
    shown = ""
    while not shown.endswith(": ") or termios.tcgetattr(theirs)[3] & termios.ECHO:
        assert select.select([ours], [], [], TIME_OUT_S)[0], shown
        shown += os.read(ours, 4096).decode()
    return shown


@pytest.mark.slow
def test_a_terminal_is_asked_without_echo(oanix: Oanix) -> None:
    oanix.environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    code, shown = converse(
        oanix,
        ["secret", "set", "github", "--url", URL, *BEARER],
        VALUE.decode(), "correct horse", "correct horse",
    )  # fmt: skip
    assert code == 0, shown
    assert "value of github: " in shown
    assert "new passphrase of the vault: " in shown
    assert VALUE.decode() not in shown
    assert "correct horse" not in shown
    assert sent(vault_of(oanix)) == f"Bearer {VALUE.decode()}"


@pytest.mark.slow
def test_two_passphrases_that_differ_are_asked_for_again(oanix: Oanix) -> None:
    oanix.environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    words = ["secret", "set", "github", "--url", URL, *BEARER]
    code, shown = converse(
        oanix, words, VALUE.decode(), "correct horse", "incorrect", "correct horse", "correct horse"
    )
    assert code == 0, shown
    assert sent(vault_of(oanix))


# Keys ---------------------------------------------------------------------------------------------


def test_a_new_vault_takes_the_keyring_where_there_is_one(tmp_path: Path) -> None:
    ring = Ring()
    vault = opened(tmp_path)
    unlock_or_make(vault, None, lambda: ring)
    assert len(ring.items) == 1
    kept = vault.kept()
    assert kept is not None
    assert kept.kind == "keyring"
    other = opened(tmp_path)
    unlock_or_make(other, None, lambda: ring)
    assert other.unlocked


def test_a_named_file_means_a_passphrase(file: Path) -> None:
    assert isinstance(new_key(None, str(file), Ring), Passphrase)
    assert isinstance(new_key("keyring", str(file), Ring), RingKey)
    assert isinstance(new_key("passphrase", str(file), Ring), Passphrase)
    with pytest.raises(Failure, match="no OS keyring"):
        new_key("keyring", None, lambda: None)


def test_a_vault_of_a_keyring_that_is_not_here_says_so(tmp_path: Path) -> None:
    opened(tmp_path).protect(RingKey(Ring()))
    vault = opened(tmp_path)
    with pytest.raises(Failure, match="none can be used here"):
        unlock(vault, None, lambda: None)
    with refused(13, "has no item"):
        unlock(vault, None, Ring)


def test_a_server_unlocks_by_the_keyring_silently(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ring = Ring()
    opened(tmp_path).protect(RingKey(ring))
    vault = opened(tmp_path)
    assert isinstance(key_for_server(vault, None, lambda: ring), RingKey)
    assert vault.unlocked
    assert capsys.readouterr().err == ""


def test_a_server_unlocks_by_a_file(tmp_path: Path, file: Path) -> None:
    made(tmp_path)
    vault = opened(tmp_path)
    key_for_server(vault, str(file), lambda: None)
    assert vault.unlocked


def test_a_server_that_cannot_unlock_warns_once_and_goes_on(
    tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vault = opened(tmp_path)
    key_for_server(vault, None, lambda: None)
    assert capsys.readouterr().err == ""
    made(tmp_path)
    key_for_server(vault, None, lambda: None, mountpoint="/m")
    file.write_text("a wrong one\n")
    key_for_server(vault, str(file), lambda: None)
    key_for_server(vault, str(tmp_path / "missing"), lambda: None)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "nobody can be asked for its passphrase" in lines[0]
    assert lines[0].endswith("until: oanix secret unlock /m")
    assert "not the passphrase" in lines[1]
    assert "No such file" in lines[2]
    assert all(line.startswith("oanix: warning: the vault stays locked") for line in lines)
    assert not vault.unlocked


def test_a_command_asks_nobody_and_goes_on_with_a_locked_vault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path)
    assert key_for_server(opened(tmp_path), None, lambda: None, ask=False) is None
    assert capsys.readouterr().err == ""
    missing = str(tmp_path / "missing")
    assert key_for_server(opened(tmp_path), missing, lambda: None, ask=False) is None
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"correct horse", 0o640, "open to other users"),
        (b"correct horse", 0o604, "open to other users"),
        (b"", 0o600, "empty"),
        (b"\n", 0o600, "empty"),
        (b"a\nb\n", 0o600, "more than one line"),
        (b"\xff", 0o600, "no text"),
        (b"x" * 5000, 0o600, "more than 4096 bytes"),
    ],
)
def test_a_passphrase_file_that_cannot_be_used_is_refused(
    tmp_path: Path, content: bytes, mode: int, says: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(Failure, match=says):
        read_file(str(path))


def test_a_passphrase_file_loses_one_newline(file: Path, tmp_path: Path) -> None:
    assert read_file(str(file)) == "correct horse"
    with pytest.raises(Failure, match="cannot read"):
        read_file(str(tmp_path / "missing"))
    with pytest.raises(Failure, match="cannot read"):
        read_file(str(tmp_path))
