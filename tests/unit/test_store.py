"""The store: schema, transactions, values, and errors as errnos."""

import errno
import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oanix.store import Store, Value
from tests.reach import refused

ONE = "CREATE TABLE note (name TEXT PRIMARY KEY, body ANY) STRICT"
TWO = "ALTER TABLE note ADD COLUMN size INTEGER NOT NULL DEFAULT 0"


def names(store: Store) -> list[Value]:
    return [row[0] for row in store.execute("SELECT name FROM note ORDER BY name")]


def test_a_new_database_belongs_to_its_user_alone(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "db"), [ONE]) as store:
        store.execute("INSERT INTO note (name) VALUES (?)", "a")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"db": 0o600, "db-wal": 0o600, "db-shm": 0o600}


def test_what_was_written_is_there_after_it_was_closed(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    with Store.open(path, [ONE]) as store:
        store.execute("INSERT INTO note VALUES (?, ?)", "a", b"\0\xff")
    with Store.open(path, [ONE]) as store:
        assert store.execute("SELECT * FROM note") == [("a", b"\0\xff")]


@given(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.text(), st.binary()))
def test_every_value_comes_back_as_it_went_in(value: Value) -> None:
    with TemporaryDirectory() as folder, Store.open(f"{folder}/db", [ONE]) as store:
        store.execute("INSERT INTO note VALUES ('a', ?)", value)
        assert store.execute("SELECT body FROM note") == [(value,)]


def test_a_database_is_brought_up_to_date_with_its_content(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    with Store.open(path, [ONE]) as store:
        store.execute("INSERT INTO note VALUES ('a', 1)")
    with Store.open(path, [ONE, TWO]) as store:
        assert store.execute("SELECT * FROM note") == [("a", 1, 0)]


def test_a_database_of_a_newer_program_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    Store.open(path, [ONE, TWO]).close()
    with refused(errno.EOPNOTSUPP, r"newer program \(its schema is 2, this one knows 1\)"):
        Store.open(path, [ONE])
    Store.open(path, [ONE, TWO]).close()


def test_a_migration_that_fails_leaves_the_schema_as_it_was(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    Store.open(path, [ONE]).close()
    bad = "CREATE TABLE more (id INTEGER) STRICT; INSERT INTO note VALUES ('a', 1), ('a', 2)"
    with refused(errno.EEXIST):
        Store.open(path, [ONE, bad])
    with Store.open(path, [ONE]) as store:
        assert names(store) == []
        assert store.execute("SELECT name FROM sqlite_schema WHERE name = 'more'") == []


def test_a_table_that_is_not_strict_is_a_defect(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="STRICT"):
        Store.open(str(tmp_path / "db"), ["CREATE TABLE loose (a)"])


def test_a_transaction_is_done_whole(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    with Store.open(path, [ONE]) as store, Store.open(path, [ONE]) as other:
        with store.transaction():
            store.execute("INSERT INTO note (name) VALUES ('a')")
            assert names(other) == []
            store.execute("INSERT INTO note (name) VALUES ('b')")
        assert names(other) == ["a", "b"]


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "db"), [ONE]) as store:
        with refused(errno.EEXIST), store.transaction():
            store.execute("INSERT INTO note (name) VALUES ('a')")
            store.execute("INSERT INTO note (name) VALUES ('a')")
        assert names(store) == []
        with store.transaction():
            store.execute("INSERT INTO note (name) VALUES ('a')")
        assert names(store) == ["a"]


def test_transactions_do_not_nest(tmp_path: Path) -> None:
    with (
        Store.open(str(tmp_path / "db"), [ONE]) as store,
        pytest.raises(RuntimeError, match="within"),
        store.transaction(),
        store.transaction(),
    ):
        pass


def test_what_a_table_refuses_is_an_invalid_value(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "db"), [ONE, TWO]) as store, refused(errno.EINVAL):
        store.execute("INSERT INTO note VALUES ('a', 1, 'many')")


def test_foreign_keys_hold(tmp_path: Path) -> None:
    child = "CREATE TABLE line (note TEXT NOT NULL REFERENCES note) STRICT"
    with Store.open(str(tmp_path / "db"), [ONE, child]) as store, refused(errno.EINVAL):
        store.execute("INSERT INTO line VALUES ('missing')")


def test_closing_twice_is_allowed(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "db"), [ONE])
    store.close()
    store.close()


def test_opening_a_database_again_keeps_the_locks_of_the_first(tmp_path: Path) -> None:
    # A second descriptor on the file, when closed, would free what SQLite holds with fcntl(2).
    path = str(tmp_path / "db")
    with Store.open(path, [ONE]) as store:
        Store.open(path, [ONE]).close()
        store.execute("INSERT INTO note (name) VALUES ('a')")
        assert names(store) == ["a"]


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with refused(errno.EISDIR):
        Store.open(str(tmp_path), [ONE])


def test_a_symbolic_link_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with refused(errno.ELOOP):
        Store.open(str(tmp_path / "link"), [ONE])
    assert os.listdir(tmp_path) == ["link"]


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    with refused(errno.ENOENT):
        Store.open(str(tmp_path / "missing/db"), [ONE])


def test_a_folder_behind_a_symbolic_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    Store.open(str(tmp_path / "link/db"), [ONE]).close()
    assert (tmp_path / "real/db").is_file()


def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"a letter to somebody\n" * 100)
    with refused(errno.EIO, "it is no database"):
        Store.open(str(path), [ONE])
    assert path.read_bytes() == b"a letter to somebody\n" * 100
