"""`oanix nostr`: keys are made, imported and never shown; what needs a mount says so."""

import json
import os
import pty
import select
import subprocess
from pathlib import Path

import pytest

from oanix.lib.nostr import LocalSigner
from oanix.lib.nostr.nip19 import encode
from tests.commands import TIME_OUT_S, Oanix
from tests.service.vaults import PHRASE, RULE, VALUE, made, opened

SECRET = bytes(range(1, 33))
NSEC = encode("nsec", SECRET.hex())
PUBKEY = LocalSigner(SECRET, now=lambda: 0).pubkey
NPUB = encode("npub", PUBKEY)


@pytest.fixture
def kept(oanix: Oanix, tmp_path: Path) -> Oanix:
    """The command line, with a vault that holds one other secret, kept by a passphrase."""
    file = tmp_path / "passphrase"
    file.write_text("correct horse\n")
    file.chmod(0o600)
    oanix.environment["OANIX_PASSPHRASE_FILE"] = str(file)
    oanix.environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    oanix.state.mkdir(mode=0o700)
    made(oanix.state).set("github", VALUE, RULE)
    return oanix


def run(oanix: Oanix, *words: str, stdin: bytes = b"", code: int = 0) -> str:
    done = oanix("nostr", *words, stdin=stdin)
    assert done.returncode == code, done.stderr
    for shown in (done.stdout, done.stderr):
        assert NSEC.encode() not in shown
        assert SECRET.hex().encode() not in shown
    return (done.stderr if code else done.stdout).decode()


@pytest.mark.slow
def test_a_key_is_made_shown_listed_and_removed(kept: Oanix) -> None:
    npub = run(kept, "key", "new").strip()
    assert npub.startswith("npub1")
    assert len(npub) == 63
    told = json.loads(run(kept, "key", "show", "--json"))
    assert (told["name"], told["npub"]) == ("nostr", npub)
    vault = opened(kept.state)
    vault.unlock(PHRASE)
    signer = vault.lend("nostr", lambda value: LocalSigner(bytes.fromhex(value.decode()), now=int))
    assert signer.pubkey == told["pubkey"]
    vault.close()

    bot = run(kept, "key", "new", "bot").strip()
    assert bot != npub
    assert run(kept, "key", "show", "bot").strip() == bot
    assert run(kept, "key", "show", "nostr.bot").strip() == bot
    listed = run(kept, "key", "list").splitlines()
    assert [line.split()[0] for line in listed] == ["NAME", "nostr", "nostr.bot"]
    found = json.loads(run(kept, "key", "list", "--json"))
    assert [one["name"] for one in found] == ["nostr", "nostr.bot"]

    run(kept, "key", "remove", "bot")
    said = run(kept, "key", "show", "bot", code=1)
    assert "there is no key nostr.bot" in said
    assert "oanix nostr key new bot" in said
    assert [one["name"] for one in json.loads(run(kept, "key", "list", "--json"))] == ["nostr"]


@pytest.mark.slow
@pytest.mark.parametrize("text", [f"{NSEC}\n", SECRET.hex(), f" {SECRET.hex().upper()} \n"])
def test_a_key_is_imported_from_a_pipe(kept: Oanix, text: str) -> None:
    assert run(kept, "key", "import", stdin=text.encode()).strip() == NPUB
    assert run(kept, "key", "show").strip() == NPUB


@pytest.mark.slow
def test_a_signer_elsewhere_is_taken_in_place_of_a_key(kept: Oanix) -> None:
    where = "relay=wss%3A%2F%2Frelay.example&relay=ws%3A%2F%2F127.0.0.1%3A7"
    url = f"bunker://{PUBKEY}?{where}&secret=hush-hush"
    shown = f"bunker {PUBKEY} wss://relay.example/ ws://127.0.0.1:7/\n"
    said = run(kept, "key", "import", stdin=f"{url}\n".encode())
    assert said == run(kept, "key", "show") == shown
    told = json.loads(run(kept, "key", "show", "--json"))
    assert told["bunker"] == PUBKEY
    assert set(told) == {"name", "bunker", "relays"}
    vault = opened(kept.state)
    try:
        vault.unlock(PHRASE)
        kept_there = json.loads(vault.lend("nostr", bytes.decode))
    finally:
        vault.close()
    assert kept_there["bunker"] == url
    assert len(bytes.fromhex(kept_there["client"])) == 32
    bad = run(kept, "key", "import", "bot", stdin=url[:50].encode(), code=os.EX_DATAERR)
    assert "this is no bunker: " in bad
    assert "hush" not in bad


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        b"", b"nsec1", NSEC[:-1].encode(), NPUB.encode(), b"0" * 64, b"f" * 64, b"\xff" * 64,
        SECRET.hex().encode()[1:], b"z" * 64, SECRET.hex().encode() + b"\n" + b"x" * 300,
    ],
)  # fmt: skip
def test_what_is_no_key_is_not_taken_and_not_shown(kept: Oanix, text: bytes) -> None:
    said = run(kept, "key", "import", stdin=text, code=os.EX_DATAERR)
    assert "key" in said
    assert json.loads(run(kept, "key", "list", "--json")) == []


@pytest.mark.slow
def test_a_key_is_not_written_over(kept: Oanix) -> None:
    run(kept, "key", "import", stdin=NSEC.encode())
    for words in (("new",), ("import",), ("new", "nostr")):
        said = run(kept, "key", *words, stdin=b"f" * 64, code=os.EX_CANTCREAT)
        assert "oanix nostr key remove nostr" in said
    assert run(kept, "key", "show").strip() == NPUB


@pytest.mark.slow
def test_a_key_that_is_typed_is_not_echoed(kept: Oanix) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        kept.command("nostr", "key", "import"), stdin=theirs, stdout=theirs, stderr=theirs,
        env=kept.env, cwd=kept.here, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while b"nsec: " not in shown:
            assert select.select([ours], [], [], TIME_OUT_S)[0]
            shown += os.read(ours, 4096)
        os.write(ours, f"{NSEC}\n".encode())
        while True:
            assert select.select([ours], [], [], TIME_OUT_S)[0]
            try:
                piece = os.read(ours, 4096)
            except OSError:  # what Linux says of a terminal that its last user has closed
                break
            shown += piece
    finally:
        assert process.wait(TIME_OUT_S) == 0, shown
        os.close(ours)
    assert NPUB.encode() in shown
    assert NSEC.encode() not in shown


@pytest.mark.slow
@pytest.mark.slow
def test_a_key_without_a_letter_in_its_name_is_not_made(kept: Oanix) -> None:
    done = kept("nostr", "key", "new", "")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"leave it out for the first key" in done.stderr
    assert kept("nostr", "key", "list").stdout == b""


def test_a_key_is_no_argument(kept: Oanix) -> None:
    said = run(kept, "key", "import", "bot", "more", code=2)
    assert "unexpected extra argument" in said
    for word in (NSEC, SECRET.hex()):
        assert "a key is no argument" in run(kept, "key", "import", word, code=2)
    assert "cannot hold NUL or '/'" in run(kept, "key", "new", "a/b", code=1)
    assert "cannot name a secret" in run(kept, "key", "new", "a b", code=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [("relays",), ("publish", "hi"), ("follow",), ("profile",), ("publish", "--raw", "{}")]
)
def test_without_a_mount_it_says_how_to_make_one(kept: Oanix, words: tuple[str, ...]) -> None:
    said = run(kept, *words, code=1)
    assert "nothing is mounted" in said
    assert "oanix mount" in said
    assert "no namespace is mounted at" in run(kept, *words, "--at", str(kept.here), code=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("follow", "--kinds", "x"), os.EX_DATAERR, "kinds is a whole number"),
        (("follow", "--authors", "npub1x"), os.EX_DATAERR, "bech32"),
        (("follow", "--tag", "t"), 2, "NAME=VALUE"),
        (("follow", "colour=red"), os.EX_DATAERR, "colour"),
        (("follow", "--count", "0"), 2, "count"),
    ],
)
def test_a_filter_is_checked_before_anything_is_asked(
    kept: Oanix, words: tuple[str, ...], code: int, said: str
) -> None:
    assert said in run(kept, *words, code=code)
