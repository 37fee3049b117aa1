"""`oanix nostr` with a mounted namespace: notes go out and come in through its files."""

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import TIME_OUT_S, Oanix
from tests.mount.mounting import mounted, wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


@pytest.fixture(scope="module")
def oanix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oanix]:
    """The command line, with a key and the default namespace mounted."""
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
    with mounted(oanix, base / "mnt"):
        yield oanix


def mnt(oanix: Oanix) -> Path:
    return oanix.here.parent / "mnt"


def run(oanix: Oanix, *words: str | Path, stdin: bytes = b"", code: int = 0) -> str:
    done = oanix("nostr", *words, stdin=stdin)
    assert done.returncode == code, done.stderr
    return (done.stderr if code else done.stdout).decode()


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_note_is_published_and_found(oanix: Oanix) -> None:
    said = run(oanix, "publish", "--tag", "t=one", "two\nlines").split()
    assert said[1:] == ["own", "ok"]
    [event] = lines(run(oanix, "follow", "--stored", "--json", "--tag", "t=one"))
    assert (event["id"], event["content"], event["kind"]) == (said[0], "two\nlines", 1)
    shown = run(oanix, "follow", "--stored", "#t=one")
    assert shown.rstrip("\n").endswith("two\\nlines")
    assert shown.count("\n") == 1


def test_what_begins_like_json_is_a_note_unless_it_is_raw(oanix: Oanix) -> None:
    [said] = json.loads(run(oanix, "publish", "--json", "-", stdin=b'{"kind":7}\n'))
    [event] = lines(run(oanix, "follow", "--stored", "--json", f"ids={said['id']}"))
    assert (event["kind"], event["content"]) == (1, '{"kind":7}')
    templates = b'{"kind":7,"content":"+"}\n\n{"kind":1,"content":"x"}\n'
    both = json.loads(run(oanix, "publish", "--json", "--raw", "-", stdin=templates))
    assert [[r["ok"] for r in one["relays"]] for one in both] == [[True], [True]]
    assert "JSON object" in run(oanix, "publish", "--raw", "x", code=os.EX_DATAERR)


def test_nothing_is_published_where_there_is_no_text(oanix: Oanix) -> None:
    for words in (["-"], ["--raw", "-"], [" "]):
        assert "nothing to publish" in run(oanix, "publish", *words, code=os.EX_DATAERR)
    said = run(oanix, "publish", "--kind", "7", "").split()
    assert said[1:] == ["own", "ok"]


def test_a_refusal_is_told_in_the_words_of_who_refuses(oanix: Oanix) -> None:
    said = run(oanix, "publish", "--kind", "22242", "x", code=os.EX_NOPERM)
    assert "log in as you" in said
    (mnt(oanix) / "relay" / "policy").write_text("deny write kind=4 -- use NIP-17\nallow write\n")
    said = run(oanix, "publish", "--kind", "4", "x", code=os.EX_NOPERM)
    assert "use NIP-17" in said
    [told] = json.loads(oanix("nostr", "publish", "--json", "--kind", "4", "x").stdout)
    assert told["relays"][0]["ok"] is False
    assert "use NIP-17" in told["error"]


def test_events_are_printed_as_they_come(oanix: Oanix) -> None:
    process = oanix.start("nostr", "follow", "--json", "--tag", "t=live", "--count", "2")
    assert process.stdout is not None
    with process:
        try:
            run(oanix, "publish", "--tag", "t=live", "one")
            assert select.select([process.stdout], [], [], TIME_OUT_S)[0]
            assert json.loads(process.stdout.readline())["content"] == "one"
            run(oanix, "publish", "--tag", "t=other", "not this")
            run(oanix, "publish", "--tag", "t=live", "two")
            out, _ = process.communicate(timeout=TIME_OUT_S)
        except BaseException:
            process.kill()
            raise
    assert [event["content"] for event in lines(out.decode())] == ["two"]
    assert process.returncode == 0


def test_what_is_stored_is_printed_though_it_is_more_than_a_subscription_keeps(
    oanix: Oanix,
) -> None:
    count, size = 100, 60_000  # together more than the 4 MiB that a subscription keeps
    template = {"kind": 1, "tags": [["t", "long"]]}
    notes = [
        json.dumps({**template, "content": f"{number} {'x' * size}"}) for number in range(count)
    ]
    for part in (notes[:10], *(notes[i : i + 15] for i in range(10, count, 15))):
        run(oanix, "publish", "--raw", "-", stdin="\n".join(part).encode())
    found = lines(run(oanix, "follow", "--stored", "--json", "--tag", "t=long"))
    assert sorted(int(str(event["content"]).split()[0]) for event in found) == list(range(count))


def test_what_may_not_be_read_is_told(oanix: Oanix) -> None:
    rules = mnt(oanix) / "relay" / "policy"
    rules.write_text("deny read kind=30078 -- members only\n")
    try:
        for words in (["--stored"], []):
            said = run(oanix, "follow", *words, "kinds=30078", code=os.EX_NOPERM)
            assert said.startswith("oanix: own: blocked: members only\n")
    finally:
        rules.write_text("\n")


def test_following_ends_by_a_signal_and_leaves_no_subscription(oanix: Oanix) -> None:
    process = oanix.start("nostr", "follow", "--json", "--tag", "t=ends")
    run(oanix, "publish", "--tag", "t=ends", "one")
    folder = mnt(oanix) / "cap/nostr/sub"
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            # Those of earlier tests end a moment after their last close.
            wait_until(lambda: len(list(folder.iterdir())) == 1)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=TIME_OUT_S)
    assert process.returncode == 130
    wait_until(lambda: list(folder.iterdir()) == [])


def test_relays_are_listed_added_and_removed(oanix: Oanix) -> None:
    assert run(oanix, "relays").splitlines()[1].split()[:2] == ["own", "rw"]
    url = "wss://127.0.0.1:1/"
    told = json.loads(run(oanix, "relays", "--json", "--add", f"{url} read"))
    assert [(one["relay"], one["use"]) for one in told if one["relay"] != "own"] == [(url, "r")]
    assert "is not among the relays" in run(oanix, "relays", "--remove", "wss://other/", code=1)
    assert "no relay" in run(oanix, "relays", "--add", "nonsense", code=os.EX_DATAERR)
    assert json.loads(run(oanix, "relays", "--json", "--remove", url))[0]["relay"] == "own"


def test_a_relay_that_may_not_or_cannot_be_reached_is_told_with_the_remedy(oanix: Oanix) -> None:
    # Ports that the system gives nobody by itself, and on which nothing listens.
    url = "ws://127.0.0.1:10011/"
    rules = mnt(oanix) / "cap/http/policy"
    run(oanix, "relays", "--add", url, "--add", "ws://127.0.0.1:10012/ read")
    try:
        said = run(oanix, "publish", "hi", code=os.EX_NOPERM)
        assert "127.0.0.1 is a loopback address" in said
        assert said.endswith(f"\n  what would allow it: allow GET {url}**\n")
        rules.write_text("allow * ws://127.0.0.1:*/**\n")
        said = run(oanix, "publish", "hi", code=os.EX_UNAVAILABLE)
        assert "Connection refused" in said
        said = run(oanix, "follow", "--stored", "kinds=1", code=os.EX_UNAVAILABLE)
        assert "no connection to 127.0.0.1:1001" in said
        [told] = [one for one in json.loads(run(oanix, "relays", "--json")) if one["relay"] == url]
        # It is tried again and again, and what went wrong stays.
        assert (told["use"], told["auth"]) == ("rw", True)
        assert told["state"] in ("waiting", "connecting")
        assert told["error"].startswith("no connection to 127.0.0.1:10011")
        assert "write its URL: wss://" in run(oanix, "relays", "--add", "x", code=os.EX_DATAERR)
    finally:
        run(oanix, "relays", "--remove", url, "--remove", "ws://127.0.0.1:10012/")
        rules.write_text("\n")


def test_a_profile_is_shown(oanix: Oanix) -> None:
    assert "no relay has a profile" in run(oanix, "profile", code=1)
    content = json.dumps({"name": "ann", "about": "two\nlines", "n": 5})
    run(oanix, "publish", "--kind", "0", content)
    assert run(oanix, "profile").splitlines() == ["name ann", "about two\\nlines", "n 5"]
    npub = run(oanix, "key", "show").strip()
    assert json.loads(run(oanix, "profile", npub, "--json"))["n"] == 5
    assert "is no npub" in run(oanix, "profile", "me", code=os.EX_DATAERR)
    assert "is no npub" in run(oanix, "profile", "../x", code=os.EX_DATAERR)


def test_the_tree_is_found_where_one_is_and_where_it_is_said(oanix: Oanix) -> None:
    inside = Oanix(oanix.state, mnt(oanix) / "workspace", oanix.environment)
    assert "own" in run(inside, "relays")
    for at in (mnt(oanix), mnt(oanix) / "dev", mnt(oanix) / "cap" / "nostr"):
        assert "own" in run(oanix, "relays", "--at", at)


def test_a_namespace_without_nostr_says_what_to_add(oanix: Oanix, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "here").mkdir()
    bare = Oanix(tmp_path / "state", tmp_path / "here")
    recipe = bare.recipe("mount dev /dev")
    process = bare.start("mount", "-n", recipe, tmp_path / "bare")
    assert process.stderr is not None
    assert process.stderr.readline().startswith(b"oanix: mounted")
    try:
        said = run(bare, "publish", "hi", code=1)
        assert "mount nostr /cap/nostr" in said
        said = run(bare, "publish", "hi", "--at", mnt(oanix))
        assert "own ok" in said
    finally:
        process.terminate()
        process.communicate(timeout=TIME_OUT_S)


def test_the_shell_is_offered_the_mount_and_the_keys(oanix: Oanix) -> None:
    environment = {**oanix.env, "_OANIX_COMPLETE": "bash_complete"}
    for words, offered in (
        ("oanix nostr relays --at ", str(mnt(oanix))), ("oanix nostr key show ", "nostr"),
    ):  # fmt: skip
        done = subprocess.run(
            oanix.command(), capture_output=True, cwd=oanix.here, timeout=TIME_OUT_S,
            env={**environment, "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()))},
            check=False,
        )  # fmt: skip
        assert f"plain,{offered}" in done.stdout.decode().splitlines()


# The worker --------------------------------------------------------------------------------------


@contextmanager
def worker(oanix: Oanix, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a worker; what it says first is that it listens."""
    process = oanix.start("nostr", "worker", "--json", "--kind", "5050", *words)
    with process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert said.startswith(b"oanix: does jobs of kind 5050"), said + process.stderr.read()
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=TIME_OUT_S)


def until_said(process: "subprocess.Popen[bytes]", state: str) -> str:
    """Wait until a job becomes this; give its id."""
    assert process.stdout is not None
    while True:
        said = json.loads(process.stdout.readline())
        if said["state"] == state:
            return str(said["id"])


def job(oanix: Oanix, text: str) -> str:
    template = json.dumps({"kind": 5050, "tags": [["i", text, "text"]]})
    [told] = json.loads(run(oanix, "publish", "--json", "--raw", template))
    return str(told["id"])


def result(oanix: Oanix, asked: str) -> str:
    query = f"kinds=6050&#e={asked}"
    [event] = lines(run(oanix, "follow", "--json", "--count", "1", query))
    return str(event["content"])


def test_a_worker_does_jobs_and_ends_by_a_signal(oanix: Oanix) -> None:
    with worker(oanix, "--", "tr a-z A-Z") as process:
        asked = job(oanix, "loud")
        assert result(oanix, asked) == "LOUD"
        assert until_said(process, "done") == asked
        process.terminate()
        _, said = process.communicate(timeout=TIME_OUT_S)
        assert process.returncode == 0
        assert b"the worker has ended" in said
    wait_until(lambda: list((mnt(oanix) / "cap/nostr/sub").iterdir()) == [])


def test_a_worker_that_was_killed_does_the_job_the_next_time(oanix: Oanix) -> None:
    with worker(oanix, "--", "exec sleep 1000") as process:
        asked = job(oanix, "again")
        assert until_said(process, "running") == asked
        process.kill()
        process.wait(TIME_OUT_S)
    with worker(oanix, "--", "tr a-z A-Z") as process:
        assert until_said(process, "done") == asked
        assert result(oanix, asked) == "AGAIN"
    query = f"kinds=6050&#e={asked}"
    assert len(lines(run(oanix, "follow", "--stored", "--json", query))) == 1


def test_a_second_worker_of_one_key_is_told_and_ends(oanix: Oanix) -> None:
    with worker(oanix, "--", "cat"):
        said = run(oanix, "worker", "--kind", "5050", "--", "cat", code=1)
        assert "another worker uses this folder" in said
    assert "5000<=x<=5999" in run(oanix, "worker", "--kind", "6050", "--", "cat", code=2)


def test_a_worker_ends_when_its_mount_does(oanix: Oanix, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "here").mkdir()
    other = Oanix(oanix.state, tmp_path / "here", oanix.environment)
    mounted = other.start("mount", tmp_path / "mnt")
    assert mounted.stderr is not None
    assert mounted.stderr.readline().startswith(b"oanix: mounted")
    try:
        with worker(other, "--at", str(tmp_path / "mnt"), "--", "cat") as process:
            mounted.kill()
            mounted.communicate(timeout=TIME_OUT_S)
            _, said = process.communicate(timeout=TIME_OUT_S)
            assert process.returncode == 1
            assert said.startswith(b"oanix: ")
            assert b"internal error" not in said
    finally:
        mounted.kill()
        mounted.communicate(timeout=TIME_OUT_S)
        other("unmount", tmp_path / "mnt")
