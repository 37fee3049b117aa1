"""`oanix audit`: what it shows of a journal, and what its verification says and exits with."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from oanix.assembly import workspace_state
from oanix.cli.audit import Wanted, audit
from oanix.cli.failures import Failed, Failure
from oanix.journal import Journal, JournalPlace
from oanix.lib.vault import FILE, Passphrase, Vault
from tests.commands import Oanix
from tests.mount.mounting import wait_until
from tests.reach import refused
from tests.unit.journals import Kept, key

Run = Callable[..., Result]


@pytest.fixture
def place(oanix: Oanix) -> JournalPlace:
    state = str(oanix.state)
    return JournalPlace.of_workspace(state, workspace_state(state, str(oanix.here)))


@pytest.fixture
async def kept(oanix: Oanix, place: JournalPlace) -> Kept:
    """A journal of the directory, with some records."""

    class Placed(Kept):
        @property
        def journal(self) -> str:
            return place.folder

        def make(self, *words: object, **named: object) -> Journal:
            return Journal(place.folder, place.anchor, key=lambda: key, now=self.clock)

    placed = Placed(oanix.state)
    async with placed.recording() as (client, _):
        client.mkdir("/made")
        client.rename("/made", "/d/moved")
        await client.read("/cap/call")
        with refused(2):
            client.unlink("/a\x1b[2J")
    return placed


@pytest.fixture
def run(oanix: Oanix) -> Run:
    def invoke(*words: str) -> Result:
        return CliRunner(env={"OANIX_STATE": str(oanix.state)}).invoke(audit, list(words))

    return invoke


async def test_the_records_are_shown_a_line_each(kept: Kept, run: Run, oanix: Oanix) -> None:
    lines = run(str(oanix.here)).output.splitlines()
    assert lines[0].split() == ["TIME", "WHO", "OP", "RESULT", "READ", "WRITTEN", "PATH"]
    assert [line.split()[3] for line in lines[3:-1]] == [
        "mkdir", "rename", "open", "close", "unlink",
    ]  # fmt: skip
    assert lines[4].endswith("/made -> /d/moved")
    assert lines[6].split()[2:6] == ["owner/7", "close", "ok", "6"]
    assert lines[7].split()[2:] == ["owner/7", "unlink", "ENOENT", "/a\\x1b[2J"]


async def test_json_shows_the_records_as_they_are(kept: Kept, run: Run, oanix: Oanix) -> None:
    shown = run("--json", str(oanix.here)).output
    assert shown == "".join(file.read_text() for file in kept.segments)


@pytest.mark.parametrize(
    ("words", "ops"),
    [
        (["--op", "mkdir,unlink"], ["mkdir", "unlink"]),
        (["--path", "/d"], ["rename"]),
        (["--path", "/cap/c*"], ["open", "close"]),
        (["--path", "/mad"], []),
        (["--denied"], []),
        (["--since", "2027-01-15T08:00:00.0045Z", "--op", "mkdir,rename"], ["rename"]),
        (["--since", "1h", "--op", "mkdir,rename"], ["mkdir", "rename"]),
        (["--since", "2099-01-01"], []),
    ],
)
async def test_options_choose_the_records(
    kept: Kept, run: Run, oanix: Oanix, words: list[str], ops: list[str]
) -> None:
    shown = run("--json", *words, str(oanix.here)).output.splitlines()
    assert [json.loads(line)["op"] for line in shown] == ops


def test_denied_takes_what_a_rule_a_mode_or_a_mount_refused() -> None:
    takes = Wanted(denied=True).takes
    assert takes({"result": "EACCES"})
    assert takes({"result": "EROFS"})
    assert not takes({"result": "ENOENT"})


@pytest.mark.parametrize("ops", ["read", "mkdir,", "MKDIR"])
async def test_what_is_no_operation_is_told(kept: Kept, run: Run, oanix: Oanix, ops: str) -> None:
    done = run("--op", ops, str(oanix.here))
    assert (done.exit_code, "is no operation; write create" in done.output) == (2, True)


@pytest.mark.parametrize("text", ["yesterday", "", "10y", "99999999999w", "2026-13-01"])
async def test_what_is_no_time_is_told(kept: Kept, run: Run, oanix: Oanix, text: str) -> None:
    done = run("--since", text, str(oanix.here))
    assert (done.exit_code, "is no time" in done.output) == ((2, True) if text else (0, False))


def test_a_directory_without_a_journal_is_told(run: Run, oanix: Oanix) -> None:
    error = run(str(oanix.here)).exception
    assert isinstance(error, Failure)
    assert error.sentence == f"{oanix.here} has no journal"
    assert error.code == os.EX_NOINPUT


async def test_a_sound_journal_is_said_to_be_sound(kept: Kept, run: Run, oanix: Oanix) -> None:
    done = run("verify", str(oanix.here))
    assert done.exit_code == 0
    assert done.output.startswith("records 1 to 8 are as they were written\nnot authenticated:")
    assert isinstance(run("verify", "--strict", str(oanix.here)).exception, Failed)


async def test_an_edited_record_is_named_and_the_exit_code_is_one(
    kept: Kept, oanix: Oanix, run: Run
) -> None:
    [segment] = kept.segments
    segment.write_bytes(segment.read_bytes().replace(b"/d/moved", b"/d/other"))
    done = run("verify", str(oanix.here))
    assert isinstance(done.exception, Failed)
    assert done.exception.code == 1
    assert f"oanix: record 4 ({segment}, line 4): edited: " in done.output


@pytest.mark.slow
async def test_with_the_key_of_the_vault_the_anchor_is_authenticated(
    oanix: Oanix, place: JournalPlace, run: Run, tmp_path: Path
) -> None:
    phrase = tmp_path / "phrase"
    phrase.write_text("a phrase that is long enough\n")
    phrase.chmod(0o600)
    oanix.state.mkdir(mode=0o700, exist_ok=True)
    vault = Vault.open(str(oanix.state / FILE))
    vault.protect(Passphrase("a phrase that is long enough"))
    journal = Journal(place.folder, place.anchor, key=lambda: vault.authenticator("journal"))
    async with journal.running():
        pass
    vault.close()
    done = run("verify", "--strict", "--passphrase-file", str(phrase), str(oanix.here))
    assert done.exit_code == 0
    assert "authenticated with the vault's key" in done.output


FOLLOW = "import sys; from oanix.cli.audit import audit; audit(sys.argv[1:])"


def following(oanix: Oanix, out: Path) -> "subprocess.Popen[bytes]":
    with out.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-c", FOLLOW, "--follow", "--json", "--op", "mkdir", oanix.here],
            stdout=file,
            env=oanix.env,
        )


@pytest.mark.slow
async def test_follow_goes_on_with_what_comes(kept: Kept, oanix: Oanix, tmp_path: Path) -> None:
    out = tmp_path / "out"
    child = following(oanix, out)
    try:
        wait_until(lambda: out.read_bytes().count(b"\n") == 1)
        await kept.write(["later"])
        wait_until(lambda: out.read_bytes().count(b"\n") == 2)
    finally:
        child.kill()
        child.wait()
    assert json.loads(out.read_bytes().splitlines()[1])["path"] == "/made-later"
