"""A vault that is killed, full, cut or damaged: a secret is the old or the new one, whole."""

import errno
import os
import random
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oanix.lib.vault import FILE, Passphrase
from tests.reach import refused
from tests.service.vaults import CHEAP, PHRASE, RULE, URL, VALUE, made, opened, sent

# Does each change in a process that is killed before its n-th statement, for every n. What is found
# then is what was before, or what is after the change.
KILLED_AT_EACH_STATEMENT = """
import os, signal, sys
from pathlib import Path
from oanix.lib.vault import Passphrase, SecretRule
from tests.service.vaults import CHEAP, PHRASE, RULE, URL, VALUE, made, opened

NEXT = Passphrase("battery staple", CHEAP)
QUERY = SecretRule.parse("* https://api.example.com/** query key={}")
CHANGES = {
    "set": lambda vault: vault.set("one", b"the next value", QUERY),
    "set a new one": lambda vault: vault.set("two", b"another value", QUERY),
    "rotate": lambda vault: vault.rotate("one", b"the next value"),
    "rule": lambda vault: vault.rule("one", QUERY),
    "new": lambda vault: vault.new("two"),
    "remove": lambda vault: vault.remove("one"),
    "passwd": lambda vault: vault.protect(NEXT, PHRASE),
}

def change(folder, act, count):
    vault = opened(folder)
    vault.unlock(PHRASE)
    vault.names()
    left = [count]

    def trace(cursor, sql, bindings):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    vault._rows._make()._connection.set_exec_trace(trace)
    act(vault)
    os._exit(0)

def look(folder):
    vault = opened(folder)
    try:
        vault.unlock(PHRASE)
        phrase = "old"
    except PermissionError:
        vault.unlock(NEXT)
        phrase = "new"
    attached = vault.attach("GET", URL, ())
    states = [(info.name, info.state, info.rule) for info in vault.list()]
    found = phrase, states, attached.url.query, attached.headers
    vault.lock()
    vault._rows.close()
    return found

for name, act in CHANGES.items():
    found = []
    for count in range(1, 100):
        folder = Path(sys.argv[1]) / f"{name} {count}"
        folder.mkdir()
        vault = made(folder)
        vault.set("one", VALUE, RULE)
        vault.close()
        before = look(folder)
        pid = os.fork()
        if not pid:
            change(folder, act, count)
        ended = os.WIFEXITED(os.waitpid(pid, 0)[1])
        found.append(look(folder))
        if ended:
            break
    assert ended and found[-1] != before, name
    assert all(each in (before, found[-1]) for each in found), (name, found)
    print(name, len(found) - 1, flush=True)
"""

ROTATING = """
import signal, sys
from pathlib import Path
from tests.service.vaults import PHRASE, opened

vault = opened(Path(sys.argv[1]))
vault.unlock(PHRASE)
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    vault.rotate("one", b"value number %d" % number)
    print(number, flush=True)
signal.pause()
"""


def start(program: str, *words: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


@pytest.mark.slow
def test_a_kill_before_any_statement_leaves_the_old_secret_or_the_new_one(tmp_path: Path) -> None:
    process = start(KILLED_AT_EACH_STATEMENT, tmp_path)
    out, _ = process.communicate(timeout=50)
    assert process.returncode == 0
    counts = [int(line.split()[-1]) for line in out.splitlines()]
    assert len(counts) == 7
    assert all(counts)


@pytest.mark.slow
def test_a_kill_in_a_loop_of_rotations_loses_none_that_was_acknowledged(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("one", b"value number 0", RULE)
    vault.close()
    chance = random.Random(3)
    acknowledged = 0
    for _ in range(8):
        process = start(ROTATING, tmp_path, acknowledged + 1, 10**9)
        assert process.stdout is not None
        for _ in range(chance.randint(1, 20)):
            assert select.select([process.stdout], [], [], 20)[0]
            acknowledged = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().splitlines()
        process.stdout.close()
        process.wait()
        acknowledged = int(rest[-1]) if rest else acknowledged
        vault = opened(tmp_path)
        vault.unlock(PHRASE)
        found = int(sent(vault).split()[-1])
        assert found in (acknowledged, acknowledged + 1)
        acknowledged = found
        vault.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    if os.geteuid():
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "oanix-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> Path:
    free = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(b"x" * (free.f_bavail * free.f_frsize))
    return filler


def test_a_full_disk_leaves_the_old_value_and_fails_no_request(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vault = made(disk)
    vault.set("one", VALUE, RULE)
    filler = fill(disk)
    with refused(errno.ENOSPC, "full"):
        vault.rotate("one", b"x" * 60_000)
    with refused(errno.ENOSPC, "full"):
        vault.protect(Passphrase("battery staple", CHEAP))
        vault.rotate("one", b"x" * 60_000)
    assert sent(vault) == f"Bearer {VALUE.decode()}"
    caplog.clear()
    for _ in range(3000):
        vault.flush()
        if "could not be stored" in caplog.text:
            break
        sent(vault)
    assert "could not be stored" in caplog.text
    count = vault.info("one").uses
    filler.unlink()
    vault.flush()
    assert opened(disk).info("one").uses == count
    vault.rotate("one", b"x" * 60_000)
    vault.close()
    assert VALUE.decode() not in caplog.text


def test_a_full_disk_has_no_room_for_a_new_vault(disk: Path) -> None:
    fill(disk)
    vault = opened(disk)
    with refused(errno.ENOSPC, "full"):
        vault.protect(PHRASE)
    assert not vault.unlocked


@pytest.mark.parametrize("content", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_file_is_named_and_stays(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / FILE
    file.write_bytes(content)
    with refused(errno.EIO, "restore it from a copy"):
        opened(tmp_path)
    assert file.read_bytes() == content


def test_a_file_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault._rows._make().execute("PRAGMA user_version = 99")
    vault.close()
    with refused(errno.EOPNOTSUPP, "newer program"):
        opened(tmp_path)


@pytest.mark.slow
def test_a_cut_journal_loses_the_last_change_and_no_more(tmp_path: Path) -> None:
    vault = made(tmp_path)
    vault.set("one", VALUE, RULE)
    vault.close()
    # One change, so that the journal holds it, and not the database already.
    process = start(ROTATING, tmp_path, 1, 2)
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 20)[0]
    process.stdout.readline()
    process.kill()
    process.stdout.close()
    process.wait()
    journal = tmp_path / f"{FILE}-wal"
    os.truncate(journal, journal.stat().st_size - 100)
    vault = opened(tmp_path)
    vault.unlock(PHRASE)
    assert vault.info("one").state == "usable"
    assert vault.attach("GET", URL, ()).used == ("one",)
    vault.close()
