"""A store on a full, read-only or failing disk, killed at any moment, and with others at it."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from oanix.store import Store
from tests.mount.mounting import wait_until
from tests.reach import refused

ONE = "CREATE TABLE note (number INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT"
TWO = "CREATE TABLE size (number INTEGER PRIMARY KEY, bytes INTEGER NOT NULL) STRICT"
BODY = b"x" * 3_000
MIB = 1_048_576


def tmpfs(folder: Path, size: int) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("mounting a small tmpfs needs root")
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    yield from tmpfs(tmp_path / "disk", MIB)


def python(code: str, *arguments: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


def sound(store: Store) -> bool:
    return store.execute("PRAGMA integrity_check") == [("ok",)]


def change(store: Store) -> None:
    """One transaction that keeps two tables in step, by every kind of statement."""
    with store.transaction():
        store.execute("INSERT INTO note VALUES (1, ?)", BODY)
        store.execute("INSERT INTO size VALUES (1, ?)", len(BODY))
        store.execute("UPDATE note SET body = ? WHERE number = 0", BODY * 2)
        store.execute("UPDATE size SET bytes = ? WHERE number = 0", len(BODY) * 2)
        store.execute("INSERT OR REPLACE INTO note VALUES (0, ?)", BODY * 3)
        store.execute("UPDATE size SET bytes = ? WHERE number = 0", len(BODY) * 3)


def in_step(store: Store) -> bool:
    stored = store.execute("SELECT number, length(body) FROM note ORDER BY number")
    return stored == store.execute("SELECT number, bytes FROM size ORDER BY number")


@pytest.mark.slow
def test_a_disk_full_at_any_page_leaves_all_of_a_transaction_or_nothing(tmp_path: Path) -> None:
    full = 0
    for spare in count():
        path = str(tmp_path / f"db{spare}")
        with Store.open(path, [ONE, TWO]) as store:
            store.execute("INSERT INTO note VALUES (0, ?)", BODY)
            store.execute("INSERT INTO size VALUES (0, ?)", len(BODY))
            pages = store.execute("PRAGMA page_count")[0][0]
            assert isinstance(pages, int)
            store.execute(f"PRAGMA max_page_count = {pages + spare}")
            if not is_full(partial(change, store)):
                break
            full += 1
            assert in_step(store)
            assert store.execute("SELECT count(*) FROM note") == [(1,)]
            store.execute("PRAGMA max_page_count = 1000000")
            change(store)
            assert in_step(store)
            assert sound(store)
    assert full >= 3


@pytest.mark.slow
def test_a_disk_full_at_any_byte_is_told_and_what_was_committed_stays(disk: Path) -> None:
    told = 0
    for leave in range(0, 160_000, 4_096):
        for file in disk.iterdir():
            file.unlink()
        with Store.open(str(disk / "db"), [ONE, TWO]) as store:
            store.execute("INSERT INTO note VALUES (0, ?)", BODY)
            store.execute("INSERT INTO size VALUES (0, ?)", len(BODY))
            info = os.statvfs(disk)
            (disk / "filler").write_bytes(b"x" * (info.f_bavail * info.f_frsize - leave))
            for _ in range(5):
                told += is_full(partial(change, store), but=errno.EEXIST)
                assert in_step(store)
            (disk / "filler").unlink()
            store.execute("UPDATE size SET bytes = 1")
        with Store.open(str(disk / "db"), [ONE, TWO]) as store:
            assert sound(store)
            assert store.execute("SELECT DISTINCT bytes FROM size") == [(1,)]
    assert told


def is_full(act: Callable[[], None], *, but: int = 0) -> bool:
    """Do it, and tell whether the disk was full; another error than `but` is none it may give."""
    number = 0
    try:
        act()
    except OSError as error:
        number = error.errno or -1
    assert number in (0, errno.ENOSPC, but)
    return number == errno.ENOSPC


@pytest.mark.slow
def test_a_disk_full_while_the_schema_is_made_leaves_what_the_next_start_goes_on_with(
    disk: Path,
) -> None:
    schema = [ONE, f"{TWO}; INSERT INTO note VALUES (1, zeroblob(60000))"]
    told = 0
    for leave in range(0, 300_000, 8_192):
        for file in disk.iterdir():
            file.unlink()
        info = os.statvfs(disk)
        (disk / "filler").write_bytes(b"x" * (info.f_bavail * info.f_frsize - leave))
        told += is_full(lambda: Store.open(str(disk / "db"), schema).close())
        (disk / "filler").unlink()
        with Store.open(str(disk / "db"), schema) as store:
            assert sound(store)
            assert store.execute("SELECT length(body) FROM note") == [(60_000,)]
    assert told


def test_a_read_only_disk_is_refused_with_a_sentence(disk: Path) -> None:
    Store.open(str(disk / "db"), [ONE]).close()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with refused(errno.EROFS, "disk of this database is read-only"):
        Store.open(str(disk / "db"), [ONE])


READER = """
import os, sys
from oanix.store import Store
if not os.geteuid():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    Store.open(sys.argv[1], ["CREATE TABLE note (a) STRICT"])
except OSError as error:
    print(error.errno, error.strerror)
"""


@pytest.mark.slow
def test_a_database_that_its_user_may_not_write_is_refused() -> None:
    with TemporaryDirectory() as folder:
        Store.open(f"{folder}/db", [ONE]).close()
        Path(f"{folder}/db").chmod(0o444)
        Path(folder).chmod(0o755)
        output, _ = python(READER, f"{folder}/db").communicate()
    assert output.decode().startswith(f"{errno.EACCES} this user may not read and write")


WRITER = """
import os, signal, sys
from oanix.store import Store
store = Store.open(sys.argv[1], [sys.argv[2]])
body = b"y" * 5000
for number in range(int(sys.argv[3]), int(sys.argv[4])):
    store.execute("INSERT INTO note VALUES (?, ?)", number, body)
    os.write(1, b"%d\\n" % number)
signal.pause()
"""


@pytest.mark.slow
def test_what_a_killed_writer_was_told_is_written_is_there(tmp_path: Path) -> None:
    path, first = tmp_path / "db", 0
    for lines in (1, 40, 300):
        child = python(WRITER, path, ONE, first, 1_000_000)
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        told += [int(line) for line in child.communicate()[0].split()]
        with Store.open(str(path), [ONE]) as store:
            assert sound(store)
            stored = [row[0] for row in store.execute("SELECT number FROM note ORDER BY number")]
        assert stored[: told[-1] + 1] == list(range(told[-1] + 1))
        assert len(stored) <= told[-1] + 2
        first = len(stored)


@pytest.mark.slow
def test_a_write_ahead_log_cut_anywhere_loses_only_its_last_transactions(tmp_path: Path) -> None:
    source = tmp_path / "source"
    # So few that the log is never taken into the database, and so can be cut.
    child = python(WRITER, source, ONE, 0, 30)
    assert child.stdout is not None
    for _ in range(30):
        child.stdout.readline()
    child.kill()
    child.communicate()
    log = Path(f"{source}-wal").read_bytes()
    kept = []
    for length in range(0, len(log), max(1, len(log) // 23)):
        path = tmp_path / f"cut{length}"
        path.write_bytes(source.read_bytes())
        Path(f"{path}-wal").write_bytes(log[:length])
        with Store.open(str(path), [ONE]) as store:
            assert sound(store)
            kept.append([row[0] for row in store.execute("SELECT number FROM note ORDER BY 1")])
    assert all(numbers == list(range(len(numbers))) for numbers in kept)
    assert kept == sorted(kept, key=len)
    assert len(kept[-1]) > len(kept[1])


SLOW = """
CREATE TABLE big (number INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000000)
INSERT INTO big SELECT i, zeroblob(500) FROM n;
"""

MIGRATING = """
import sys
from oanix.store import Store
Store.open(sys.argv[1], sys.argv[2:])
"""


@pytest.mark.slow
def test_a_migration_that_is_killed_was_not_done_and_the_next_start_does_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "db"
    with Store.open(str(path), [ONE]) as store:
        store.execute("INSERT INTO note VALUES (1, ?)", BODY)
    log = Path(f"{path}-wal")
    child = python(MIGRATING, path, ONE, SLOW)
    try:
        wait_until(lambda: log.exists() and log.stat().st_size > 4 * MIB)
    finally:
        child.kill()
    child.communicate()
    with Store.open(str(path), [ONE]) as store:
        assert sound(store)
        assert store.execute("SELECT name FROM sqlite_schema WHERE name = 'big'") == []
    with Store.open(str(path), [ONE, TWO]) as store:
        assert store.execute("SELECT number FROM note") == [(1,)]
        assert store.execute("SELECT * FROM size") == []


ADDING = """
import sys
from oanix.store import Store
store = Store.open(sys.argv[1], sys.argv[2:])
for _ in range(100):
    with store.transaction():
        (bytes,), = store.execute("SELECT bytes FROM size WHERE number = 1")
        store.execute("UPDATE size SET bytes = ? WHERE number = 1", bytes + 1)
"""


@pytest.mark.slow
def test_two_processes_make_and_change_one_database(tmp_path: Path) -> None:
    schema = [ONE, f"{TWO}; INSERT INTO size VALUES (1, 0)"]
    children = [python(ADDING, tmp_path / "db", *schema) for _ in range(4)]
    assert [child.wait() for child in children] == [0, 0, 0, 0]
    for child in children:
        assert child.stdout is not None
        child.stdout.close()
    with Store.open(str(tmp_path / "db"), schema) as store:
        assert store.execute("SELECT bytes FROM size") == [(400,)]
